//! What people read while git works: short lines on standard error.
//!
//! Invariant: a line holds no control character and has a bounded length, whatever a server sent.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use git2::Progress;

use crate::model::{size::Size, text};

/// Longest line, in characters.
const LINE_LENGTH_MAX: usize = 300;

/// Lines of one fetch that a server may speak to people.
const SERVER_LINES_MAX: usize = 100;

/// Time between two lines about a transfer under way, so that a slow one does not look dead.
pub(super) const BEAT: Duration = Duration::from_secs(10);

/// Writes one line for people. That nobody reads it is no reason to fail.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(line.as_bytes()));
}

/// Text of others as one harmless line.
pub(super) fn plain(text: &[u8]) -> String {
    let whole = String::from_utf8_lossy(text);
    let harmless: String = whole.chars().map(|it| if text::acts(it) { ' ' } else { it }).collect();
    let mut line = harmless.trim().to_owned();
    if let Some((end, _)) = line.char_indices().nth(LINE_LENGTH_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The server's own words, which arrive in pieces. A line that ends in a carriage return is overwritten by the next.
#[derive(Default)]
pub(super) struct ServerWords {
    line: Vec<u8>,
    lines: usize,
}

impl ServerWords {
    /// Takes a piece, and says what it completes.
    pub(super) fn take(&mut self, piece: &[u8]) {
        for &byte in piece {
            match byte {
                b'\n' => {
                    self.say();
                    self.line.clear();
                }
                b'\r' => self.line.clear(),
                _ if self.line.len() < 4 * LINE_LENGTH_MAX => self.line.push(byte),
                _ => (),
            }
        }
    }

    fn say(&mut self) {
        let line = plain(&self.line);
        if !line.is_empty() && self.lines < SERVER_LINES_MAX {
            self.lines += 1;
            say(&format!("remote: {line}"));
        }
    }
}

/// Counts what comes in, and says so now and then. Copies of it count together.
#[derive(Clone)]
pub(super) struct Meter(Arc<Mutex<Count>>);

struct Count {
    told: Instant,
    objects: usize,
    /// What an indexer of its own is taking in.
    expected: usize,
    bytes: usize,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Count { told: Instant::now(), objects: 0, expected: 0, bytes: 0 })))
    }

    // Two threads may count, and neither waits while it does.
    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how far libgit2 is.
    pub(super) fn note(&self, progress: &Progress<'_>) {
        let mut count = self.count();
        if progress.total_objects() == 0 {
            return;
        }
        (count.objects, count.bytes) = (progress.received_objects(), progress.received_bytes());
        if count.told.elapsed() < BEAT {
            return;
        }
        count.told = Instant::now();
        let (received, total) = (progress.received_objects(), progress.total_objects());
        match received < total {
            true => say(&format!("receiving {received} of {total} objects, {}", Size(count.bytes as u64))),
            false => say(&format!("resolving {} of {} deltas", progress.indexed_deltas(), progress.total_deltas())),
        }
    }

    /// Notes that so many objects are on their way to an indexer of its own.
    pub(super) fn expect(&self, objects: usize) {
        self.count().expected = objects;
    }

    /// Notes what went to it.
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.count().bytes += bytes;
    }

    /// Notes that it has all of them.
    pub(super) fn complete(&self) {
        let mut count = self.count();
        count.objects += std::mem::take(&mut count.expected);
    }

    /// Says what came in altogether, and begins anew.
    pub(super) fn end(&self) {
        let mut count = self.count();
        match std::mem::take(&mut count.objects) {
            0 => say("nothing new"),
            objects => say(&format!("received {objects} objects, {}", Size(count.bytes as u64))),
        }
        count.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_a_server_says_cannot_steer_a_terminal_or_fill_a_log() {
        assert_eq!(plain(b"\x1b[2Jhello\tworld\n"), "[2Jhello world");
        assert_eq!(plain(&[b'a'; 10_000]).chars().count(), 301);
        assert_eq!(plain(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
