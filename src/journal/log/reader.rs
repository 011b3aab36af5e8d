//! Reads the log of a run, whether it is being written, is finished, or was torn by a kill.
//!
//! Invariant: a line is given whole or not at all, and what was cut is said in its place.

use std::{collections::VecDeque, fs::File, io, os::unix::fs::FileExt};

use jiff::Timestamp;

use super::{
    Kind, Line, PREFIX_LEN, TEXT_BYTES_MAX, TIME_LEN,
    segment::{self, Segment},
};
use crate::journal::folder::RunDir;

/// What is read at once; always more than a line.
const BLOCK_BYTES: u64 = 4 * TEXT_BYTES_MAX as u64;

/// How often the ring may move on under a reader before that is an error.
const TRIES_MAX: usize = 16;

/// Reads the log of a run.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: RunDir,
}

/// Some lines of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The lines.
    pub lines: Vec<Line>,
    /// Where the next page begins. To follow a log, read from here again after a while.
    pub next: u64,
}

impl Reader {
    /// A reader of this run's log.
    pub fn new(dir: &RunDir) -> Self {
        Self { dir: dir.clone() }
    }

    /// The position after the last whole line.
    pub fn end(&self) -> io::Result<u64> {
        self.with_segments(|segments| {
            let Some(last) = segments.last() else { return Ok(0) };
            let file = File::open(&last.path)?;
            let mut block_end = last.len;
            while block_end > 0 {
                let block = read_block(&file, block_end.saturating_sub(BLOCK_BYTES)..block_end)?;
                let block_start = block_end - block.len() as u64;
                if let Some(end) = memchr::memrchr(b'\n', &block) {
                    return Ok(last.start + block_start + end as u64 + 1);
                }
                block_end = block_start;
            }
            Ok(last.start)
        })
    }

    /// Some lines from this position on: about 64 KiB of them, none where the log ends (for now).
    /// The position must be the start of a line, as in [`Page::next`], [`Line::position`] and the journal.
    pub fn read(&self, from: u64) -> io::Result<Page> {
        self.with_segments(|segments| {
            let Some(segment) = segments.iter().find(|it| from < it.end()) else {
                return Ok(Page { lines: Vec::new(), next: from });
            };
            if from < segment.start {
                let line = cut(from, segment.start - from);
                return Ok(Page { lines: vec![line], next: segment.start });
            }
            let file = File::open(&segment.path)?;
            let offset = from - segment.start;
            let block = read_block(&file, offset..segment.len.min(offset + BLOCK_BYTES))?;
            let whole = memchr::memrchr(b'\n', &block).map_or(0, |end| end + 1);
            let mut lines = Vec::new();
            let mut position = from;
            for line in block[..whole].split_inclusive(|it| *it == b'\n') {
                lines.push(parse(line, position));
                position += line.len() as u64;
            }
            Ok(Page { lines, next: position })
        })
    }

    /// All lines from this position on, to where the log ends by then.
    pub fn lines(&self, from: u64) -> Lines {
        Lines { reader: self.clone(), next: from, ready: VecDeque::new() }
    }

    /// The last lines, at most this many; what was cut right before them counts as one.
    pub fn tail(&self, count: usize) -> io::Result<Vec<Line>> {
        let from = self.with_segments(|segments| start_of_last(segments, count))?;
        let mut lines = self.lines(from).collect::<Result<VecDeque<_>, _>>()?;
        while lines.len() > count {
            lines.pop_front();
        }
        Ok(lines.into())
    }

    /// Does something with the files as they are now, again if the ring moves on meanwhile.
    fn with_segments<T>(&self, look: impl Fn(&[Segment]) -> io::Result<T>) -> io::Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            match segment::list(&self.dir).and_then(|segments| look(&segments)) {
                Err(err) if err.kind() == io::ErrorKind::NotFound && tries < TRIES_MAX => (),
                result => return result,
            }
        }
    }
}

/// The lines of a log, one after the other.
#[derive(Debug)]
pub struct Lines {
    reader: Reader,
    next: u64,
    ready: VecDeque<Line>,
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            match self.reader.read(self.next) {
                Ok(page) => {
                    self.next = page.next;
                    self.ready = page.lines.into();
                }
                Err(err) => return Some(Err(err)),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// The position of the line from which on `count` lines are left.
fn start_of_last(segments: &[Segment], count: usize) -> io::Result<u64> {
    let mut missing = count;
    let mut position = segments.last().map_or(0, Segment::end);
    for (index, segment) in segments.iter().enumerate().rev() {
        let is_cut_after = segments.get(index + 1).is_some_and(|next| next.start > segment.end());
        if is_cut_after && missing > 0 {
            (missing, position) = (missing - 1, segment.end());
        }
        if missing == 0 {
            break;
        }
        let file = File::open(&segment.path)?;
        let mut has_lines = false;
        let mut block_end = segment.len;
        while block_end > 0 && missing > 0 {
            let block_start = block_end.saturating_sub(BLOCK_BYTES);
            let block = read_block(&file, block_start..block_end)?;
            // A line begins after each line end but the last one, and at the start of the segment.
            for end in memchr::memrchr_iter(b'\n', &block).skip(usize::from(!has_lines)) {
                (missing, position) = (missing - 1, segment.start + block_start + end as u64 + 1);
                if missing == 0 {
                    return Ok(position);
                }
            }
            has_lines |= block.contains(&b'\n');
            block_end = block_start;
        }
        if has_lines {
            (missing, position) = (missing - 1, segment.start);
        }
    }
    Ok(position)
}

fn read_block(file: &File, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
    let mut block = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)];
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], range.start + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    block.truncate(filled);
    Ok(block)
}

fn parse(line: &[u8], position: u64) -> Line {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let foreign = || Line { at: Timestamp::UNIX_EPOCH, kind: Kind::Output, bytes: line.to_vec(), position };
    let Some((prefix, text)) = line.split_at_checked(PREFIX_LEN) else { return foreign() };
    let kind = match prefix[TIME_LEN + 1] {
        b'|' => Kind::Output,
        b'\\' => Kind::Piece,
        b'#' => Kind::Remark,
        _ => return foreign(),
    };
    let time = std::str::from_utf8(&prefix[..TIME_LEN]).ok().and_then(|it| it.parse().ok());
    time.map_or_else(foreign, |at| Line { at, kind, bytes: text.to_vec(), position })
}

fn cut(position: u64, bytes: u64) -> Line {
    let text = format!("[the log outgrew its limit: {bytes} bytes of its middle are not kept]");
    Line { at: Timestamp::UNIX_EPOCH, kind: Kind::Cut, bytes: text.into_bytes(), position }
}
