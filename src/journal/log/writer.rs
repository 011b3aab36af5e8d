//! Writes the log of a run, within its cap.
//!
//! Invariant: the files together never hold more than the cap, and never more than one line is written in part.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
};

use jiff::Timestamp;

use super::{
    PREFIX_LEN, TEXT_BYTES_MAX, TIME_LEN,
    segment::{self, Segment},
};
use crate::journal::folder::RunDir;

/// The smallest cap; a smaller one is raised to it.
const CAP_BYTES_MIN: u64 = 64 * 1024;

/// How many segments the newer half of a capped log is kept in.
const RING_SEGMENTS: u64 = 8;

/// What is gathered before it goes to the file.
const BATCH_BYTES: usize = 256 * 1024;

/// Writes the log of a run. Lines are seen by readers after [`Writer::flush`], or when enough have gathered.
#[derive(Debug)]
pub struct Writer {
    dir: RunDir,
    file: File,
    batch: Vec<u8>,
    /// Where `file` begins, and the bytes it may hold.
    file_start: u64,
    file_room: u64,
    /// The position after the last line, gathered ones included.
    position: u64,
    /// Starts of the segments after the head, oldest first.
    ring: VecDeque<u64>,
    segment_room: u64,
    stamp: Stamp,
}

impl Writer {
    /// Opens the log of a run to add lines to it. A line torn by a kill is closed first.
    pub fn open(dir: &RunDir, bytes_max: u64) -> io::Result<Self> {
        let cap = bytes_max.max(CAP_BYTES_MIN);
        let head_room = cap / 2;
        let segment_room = head_room / RING_SEGMENTS;
        let segments = segment::list(dir)?;
        let newest = segments.last().cloned().unwrap_or_else(|| Segment { path: dir.log(), start: 0, len: 0 });
        let is_torn = !ends_whole(&newest)?;
        let mut writer = Self {
            dir: dir.clone(),
            file: OpenOptions::new().append(true).create(true).mode(0o600).open(&newest.path)?,
            batch: Vec::with_capacity(BATCH_BYTES + TEXT_BYTES_MAX + PREFIX_LEN + 1),
            file_start: newest.start,
            file_room: if newest.start == 0 { head_room } else { segment_room },
            position: newest.end(),
            ring: segments.iter().map(|it| it.start).filter(|it| *it > 0).collect(),
            segment_room,
            stamp: Stamp::default(),
        };
        if is_torn {
            writer.batch.push(b'\n');
            writer.position += 1;
        }
        Ok(writer)
    }

    /// The position after the last line.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The longest text that one line of this log takes.
    pub fn text_bytes_max(&self) -> usize {
        let room = usize::try_from(self.segment_room).unwrap_or(usize::MAX);
        TEXT_BYTES_MAX.min(room - PREFIX_LEN - 1)
    }

    /// Adds a line of output, split if it is too long for one.
    pub fn output(&mut self, at: Timestamp, mut text: &[u8]) -> io::Result<()> {
        while text.len() > self.text_bytes_max() {
            let rest = self.piece(at, text)?;
            text = &text[rest..];
        }
        self.add(at, b'|', text)
    }

    /// Adds as much of a text as one line takes, as a piece that goes on; returns how much that was.
    pub fn piece(&mut self, at: Timestamp, text: &[u8]) -> io::Result<usize> {
        let length = whole_characters(text, self.text_bytes_max());
        self.add(at, b'\\', &text[..length])?;
        Ok(length)
    }

    /// Adds a remark of Landfall's own, a line for each of its lines.
    pub fn remark(&mut self, at: Timestamp, text: &str) -> io::Result<()> {
        for line in text.lines() {
            let length = whole_characters(line.as_bytes(), self.text_bytes_max());
            self.add(at, b'#', &line.as_bytes()[..length])?;
        }
        Ok(())
    }

    /// Shows readers what has gathered.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.write();
        self.batch.clear();
        result
    }

    fn write(&mut self) -> io::Result<()> {
        fail::fail_point!("keeper-log-write", |code| Err(crate::journal::faulty_disk(code)));
        self.file.write_all(&self.batch)
    }

    fn add(&mut self, at: Timestamp, mark: u8, text: &[u8]) -> io::Result<()> {
        let line_len = (PREFIX_LEN + text.len() + 1) as u64;
        if self.position - self.file_start + line_len > self.file_room {
            self.flush()?;
            self.turn()?;
        }
        let prefix = self.stamp.prefix(at, mark);
        self.batch.extend_from_slice(prefix);
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
        self.position += line_len;
        if self.batch.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Begins the next segment; the oldest one makes room for it.
    fn turn(&mut self) -> io::Result<()> {
        if self.ring.len() as u64 >= RING_SEGMENTS
            && let Some(oldest) = self.ring.pop_front()
        {
            fs::remove_file(segment::path(&self.dir, oldest))?;
        }
        let path = segment::path(&self.dir, self.position);
        self.file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        self.file_start = self.position;
        self.file_room = self.segment_room;
        self.ring.push_back(self.position);
        Ok(())
    }
}

/// Whether the file ends with a line end, or is empty.
fn ends_whole(segment: &Segment) -> io::Result<bool> {
    let Some(last) = segment.len.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    File::open(&segment.path)?.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// How much of a text to take, at most `max` bytes, without breaking a character of UTF-8.
fn whole_characters(text: &[u8], max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    let is_begin = |it: &u8| *it & 0b1100_0000 != 0b1000_0000;
    (max.saturating_sub(3)..=max).rev().find(|it| is_begin(&text[*it])).unwrap_or(max).max(1)
}

/// The prefix of a line, written out once for all lines of a millisecond.
#[derive(Debug)]
struct Stamp {
    at_ms: i64,
    prefix: [u8; PREFIX_LEN],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { at_ms: i64::MIN, prefix: [b' '; PREFIX_LEN] }
    }
}

impl Stamp {
    fn prefix(&mut self, at: Timestamp, mark: u8) -> &[u8; PREFIX_LEN] {
        let at_ms = at.as_millisecond();
        if at_ms != self.at_ms {
            let text = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            if text.len() == TIME_LEN {
                self.prefix[..TIME_LEN].copy_from_slice(text.as_bytes());
            }
            self.at_ms = at_ms;
        }
        self.prefix[TIME_LEN + 1] = mark;
        &self.prefix
    }
}
