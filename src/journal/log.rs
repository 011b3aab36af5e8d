//! The log of a run: one line for each line of output, with its time, and Landfall's own remarks between them.
//!
//! On disk a line is `2026-11-24T08:15:30.123Z | text`: 24 characters of time, a blank, a mark, a blank, then the
//! bytes as they came (whatever their encoding; [`Line::text`] replaces what is not UTF-8) without the line end. The
//! marks: `|` output, `\` output that goes on in the next line because it was too long for one, `#` a remark.
//!
//! A log that outgrows its cap loses its middle: the first half of the cap stays in `log`, the newest lines are kept
//! in a ring of segments, `log.<position>`. A position counts the bytes ever written, so it means the same whatever
//! has been cut, also in the journal.
//!
//! Invariant: every file holds whole lines only, but for the last, whose end may be under way.

mod reader;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::Timestamp;

pub use self::{
    reader::{Lines, Page, Reader},
    writer::Writer,
};

/// Length of what stands before the text: time, blank, mark, blank.
const PREFIX_LEN: usize = TIME_LEN + 3;
const TIME_LEN: usize = 24;

/// The longest text of one line; longer ones are split.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was printed.
    pub at: Timestamp,
    /// What it is.
    pub kind: Kind,
    /// Its bytes, without the line end.
    pub bytes: Vec<u8>,
    /// Where it begins.
    pub position: u64,
}

impl Line {
    /// Its text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// What a line of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line of output, or the last piece of a long one.
    Output,
    /// A piece of a long line of output, which goes on in the next line.
    Piece,
    /// A remark of Landfall's own.
    Remark,
    /// Not on disk: the reader says here how much of the middle is gone.
    Cut,
}
