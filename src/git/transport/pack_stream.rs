//! A stream of git's protocol whose pack goes to git's own `index-pack`, which resolves deltas on all processors.
//!
//! libgit2 indexes on one, and takes twice as long. It is told that the pack was an empty one; when it has read that,
//! the objects are there already.
//!
//! Invariant: the end of the pack is passed on only once all of its objects are in the repository. Where the remote says
//! why it gives up, its words are the failure: libgit2 would replace them by its own.

use std::io::{self, Read, Write};

use super::{
    index_pack::IndexPack,
    journey::Journey,
    packets::{self, Packet, Ready},
};
use crate::git::{GitFailure, git_program, progress::plain};

/// A pack without objects: its signature, version 2, a count of none, and their SHA-1
/// (<https://git-scm.com/docs/pack-format>).
const EMPTY_PACK: [u8; 32] = [
    b'P', b'A', b'C', b'K', 0, 0, 0, 2, 0, 0, 0, 0, 0x02, 0x9d, 0x08, 0x82, 0x3b, 0xd8, 0xa8, 0xea, 0xb5, 0x10, 0xad,
    0x6a, 0xc7, 0x5c, 0x82, 0x3c, 0xfd, 0x3e, 0xd3, 0x1e,
];

/// The name that libgit2 gives to it.
pub(in crate::git) const EMPTY_PACK_STEM: &str = "pack-029d08823bd8a8eab510ad6ac75c823cfd3ed31e";

/// Signature, version and count.
const PACK_HEADER_BYTES: usize = 12;

/// The side band of the pack (<https://git-scm.com/docs/protocol-capabilities>, `side-band-64k`).
const PACK_BAND: u8 = 1;

/// The side band of a remote that gives up.
const FATAL_BAND: u8 = 3;

/// What a line begins with that says why the remote gives up (<https://git-scm.com/docs/gitprotocol-pack>).
const REFUSAL: &[u8] = b"ERR ";

/// The stream. Lines that are not the pack pass through as they are.
pub(in crate::git) struct PackStream<S> {
    inner: S,
    journey: Journey,
    ready: Ready,
    pack: Pack,
    /// Whether a pack has begun and has not ended.
    is_within_pack: bool,
    /// Whether anything has come at all.
    has_begun: bool,
}

/// Where the pack of this stream goes.
enum Pack {
    /// None of it has come yet, or not enough to know.
    Awaited(Vec<u8>),
    /// To git.
    Indexed(Box<IndexPack>),
    /// To libgit2: there is no git, or nothing in the pack.
    Passed,
    /// To libgit2 as it comes, which is not in lines: the server knows no side bands.
    Bare,
}

impl<S: Read + Write> PackStream<S> {
    /// Wraps a stream that begins with a packet line.
    pub(in crate::git) fn new(inner: S, journey: &Journey) -> Self {
        let pack = match journey.indexed_into.is_some() && git_program::is_installed() {
            true => Pack::Awaited(Vec::new()),
            false => Pack::Passed,
        };
        let (ready, journey) = (Ready::default(), journey.clone());
        Self { inner, journey, ready, pack, is_within_pack: false, has_begun: false }
    }

    /// Takes in the next packet line; answers whether there was one.
    fn take_line(&mut self) -> io::Result<bool> {
        let line = match packets::next(&mut self.inner)? {
            Packet::Line(line) => line,
            Packet::Cut(piece) if piece.is_empty() && self.has_begun && !self.is_within_pack => return Ok(false),
            Packet::Cut(_) => return Err(self.broke_off()),
            Packet::Bare(begin) => {
                // A server that knows no side bands: what comes now is the bare pack.
                self.ready.add(&begin);
                self.pack = Pack::Bare;
                return Ok(true);
            }
            Packet::Flush => {
                self.has_begun = true;
                self.end_pack()?;
                self.ready.add_flush();
                return Ok(true);
            }
        };
        self.has_begun = true;
        match line.split_first() {
            Some((&PACK_BAND, piece)) => {
                self.is_within_pack = true;
                self.take_pack(piece)?;
            }
            Some((&FATAL_BAND, words)) => return Err(noted(&self.journey, gave_up(&self.journey, words))),
            Some(_) | None => {
                if let Some(words) = line.strip_prefix(REFUSAL) {
                    return Err(noted(&self.journey, gave_up(&self.journey, words)));
                }
                self.ready.add_line(&[&line]);
            }
        }
        Ok(true)
    }

    /// The failure of an answer that ends before it is whole.
    fn broke_off(&self) -> io::Error {
        let shown = self.journey.remote.shown();
        let place = match (self.is_within_pack, self.has_begun) {
            (true, _) => "in the middle of the pack",
            (false, true) => "in the middle of its answer",
            (false, false) => "before it answered",
        };
        noted(&self.journey, GitFailure::fetch(format!("`{shown}` broke off {place}")))
    }

    fn take_pack(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.pack {
            Pack::Indexed(index) => index.write(piece).map_err(|failure| noted(&self.journey, failure)),
            Pack::Passed | Pack::Bare => {
                self.pass(piece);
                Ok(())
            }
            Pack::Awaited(begin) => {
                begin.extend_from_slice(piece);
                let Some(header) = begin.get(..PACK_HEADER_BYTES) else { return Ok(()) };
                let count = header[8..].iter().fold(0, |count: usize, it| count << 8 | usize::from(*it));
                let begin = std::mem::take(begin);
                match self.journey.indexed_into.clone().filter(|_| count > 0) {
                    None => {
                        self.pack = Pack::Passed;
                        self.pass(&begin);
                    }
                    Some(git_dir) => {
                        let index = IndexPack::start(&git_dir, &self.journey, count);
                        let mut index = index.map_err(|failure| noted(&self.journey, failure))?;
                        index.write(&begin).map_err(|failure| noted(&self.journey, failure))?;
                        self.pack = Pack::Indexed(Box::new(index));
                    }
                }
                Ok(())
            }
        }
    }

    /// Hands a piece of the pack to libgit2.
    fn pass(&mut self, piece: &[u8]) {
        self.ready.add_line(&[&[PACK_BAND], piece]);
    }

    /// A flush: of the pack, where one was under way, else of the lines before it.
    fn end_pack(&mut self) -> io::Result<()> {
        self.is_within_pack = false;
        if !matches!(self.pack, Pack::Indexed(_)) {
            return Ok(());
        }
        if let Pack::Indexed(index) = std::mem::replace(&mut self.pack, Pack::Passed) {
            index.finish().map_err(|failure| noted(&self.journey, failure))?;
        }
        self.pass(&EMPTY_PACK);
        Ok(())
    }
}

/// What the remote's last words mean. They are a stranger's, so they are only quoted.
fn gave_up(journey: &Journey, words: &[u8]) -> GitFailure {
    let reason = format!("`{}` gave up: {}", journey.remote.shown(), plain(words));
    // This is how JGit says that it does not serve a commit by its id, which no other try changes.
    match reason.contains("not valid") {
        true => GitFailure::permanent(reason),
        false => GitFailure::fetch(reason),
    }
}

fn noted(journey: &Journey, failure: GitFailure) -> io::Error {
    journey.trouble.note(&failure);
    io::Error::other(failure.reason)
}

impl<S: Read + Write> Read for PackStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if matches!(self.pack, Pack::Bare) {
                return self.inner.read(buffer);
            }
            if !self.take_line()? {
                return Ok(0);
            }
        }
        Ok(self.ready.take(buffer))
    }
}

impl<S: Read + Write> Write for PackStream<S> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.inner.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{EMPTY_PACK, EMPTY_PACK_STEM};

    #[test]
    fn the_empty_pack_is_gits_own() {
        // `git pack-objects --stdout </dev/null | xxd -p`
        assert_eq!(hex::encode(EMPTY_PACK), "5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e");
        assert_eq!(format!("pack-{}", hex::encode(&EMPTY_PACK[12..])), EMPTY_PACK_STEM);
    }
}
