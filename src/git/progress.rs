//! What people read while git works: short lines on standard error.
//!
//! Invariant: a line holds no control character and has a bounded length, whatever a server sent.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use crate::model::size::Size;

/// Longest line, in characters.
const LINE_LENGTH_MAX: usize = 300;

/// Lines of one fetch that a server may speak to people.
const SERVER_LINES_MAX: usize = 100;

/// Time between two lines about a transfer under way, so that a slow one does not look dead.
const BEAT: Duration = Duration::from_secs(10);

/// Writes one line for people. That nobody reads it is no reason to fail.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(line.as_bytes()));
}

/// Text of others as one harmless line.
pub(super) fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let harmless: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
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

/// Counts what comes in, and says so now and then.
pub(super) struct Meter {
    last: Instant,
    objects: usize,
    bytes: usize,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), objects: 0, bytes: 0 }
    }

    /// Notes how far a transfer is.
    pub(super) fn note(&mut self, objects: usize, objects_total: usize, bytes: usize) {
        (self.objects, self.bytes) = (objects, bytes);
        if self.last.elapsed() >= BEAT {
            self.last = Instant::now();
            say(&format!("receiving {objects} of {objects_total} objects, {}", Size(bytes as u64)));
        }
    }

    /// Says what came in altogether.
    pub(super) fn end(&self) {
        match self.objects {
            0 => say("nothing new"),
            objects => say(&format!("received {objects} objects, {}", Size(self.bytes as u64))),
        }
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
