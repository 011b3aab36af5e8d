//! The packet lines that git's protocol is made of (<https://git-scm.com/docs/protocol-common>), and what is ready of them.
//!
//! Invariant: nothing of a stream is lost: what is no packet line is handed back as it came.

use std::io::{self, Read};

/// How many hex digits say how long a line is, themselves included.
const LENGTH_BYTES: usize = 4;

/// What comes next in a stream.
pub(super) enum Packet {
    /// A line.
    Line(Vec<u8>),
    /// The end of a list of lines.
    Flush,
    /// The beginning of something else.
    Bare(Vec<u8>),
    /// What there is of a line that broke off; empty: nothing came any more.
    Cut(Vec<u8>),
}

/// Reads what comes next.
pub(super) fn next(from: &mut impl Read) -> io::Result<Packet> {
    let mut whole = vec![0; LENGTH_BYTES];
    let count = read_up_to(from, &mut whole)?;
    if count < LENGTH_BYTES {
        whole.truncate(count);
        return Ok(Packet::Cut(whole));
    }
    // Digits alone: the standard library would take a sign as well.
    let digits = std::str::from_utf8(&whole).ok().filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
    match digits.and_then(|it| usize::from_str_radix(it, 16).ok()) {
        Some(0) => Ok(Packet::Flush),
        // In this version of the protocol no line is so short.
        None | Some(1..LENGTH_BYTES) => Ok(Packet::Bare(whole)),
        Some(size) => {
            whole.resize(size, 0);
            let count = LENGTH_BYTES + read_up_to(from, &mut whole[LENGTH_BYTES..])?;
            if count < size {
                whole.truncate(count);
                return Ok(Packet::Cut(whole));
            }
            whole.drain(..LENGTH_BYTES);
            Ok(Packet::Line(whole))
        }
    }
}

/// Fills a buffer, or as much of it as comes before the end.
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
            Err(err) => return Err(err),
        }
    }
    Ok(filled)
}

/// What libgit2 reads next.
#[derive(Default)]
pub(super) struct Ready {
    bytes: Vec<u8>,
    position: usize,
}

impl Ready {
    /// Whether all of it has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.position == self.bytes.len()
    }

    /// Adds bytes as they are.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.bytes.clear();
            self.position = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a line that consists of these pieces.
    pub(super) fn add_line(&mut self, pieces: &[&[u8]]) {
        let size = LENGTH_BYTES + pieces.iter().map(|it| it.len()).sum::<usize>();
        self.add(format!("{size:04x}").as_bytes());
        pieces.iter().for_each(|it| self.add(it));
    }

    /// Adds the end of a list of lines.
    pub(super) fn add_flush(&mut self) {
        self.add(b"0000");
    }

    /// Hands out as much as fits.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.bytes.len() - self.position);
        buffer[..length].copy_from_slice(&self.bytes[self.position..self.position + length]);
        self.position += length;
        length
    }
}

#[cfg(test)]
mod tests {
    use super::{Packet, next};

    #[test]
    fn a_length_is_four_hex_digits_and_nothing_else() {
        for (given, expected) in [("0005x", "x"), ("000Ax23456", "x23456"), ("000ax23456", "x23456")] {
            assert!(
                matches!(next(&mut given.as_bytes()), Ok(Packet::Line(it)) if it == expected.as_bytes()),
                "{given}"
            );
        }
        for given in ["+005xxxxx", "-001", " 005x", "0x05", "000gx", "PACK"] {
            assert!(
                matches!(next(&mut given.as_bytes()), Ok(Packet::Bare(it)) if it == given.as_bytes()[..4]),
                "{given}"
            );
        }
    }
}
