//! The list of refs that a remote begins with, without those whose names are no text.
//!
//! To git the name of a ref is any bytes; git2 takes one that is not UTF-8 for a fault of the program, and ends it. No hook
//! can name such a ref, so nothing is missed.
//!
//! Invariant: every ref whose name is UTF-8 passes, and so do the capabilities, which stand in the line of the first ref
//! (<https://git-scm.com/docs/pack-protocol>, "Reference Discovery").

use std::io::{self, Read, Write};

use super::packets::{self, Packet, Ready};
use crate::git::progress::say;

/// What stands for the refs where there are none, so that the capabilities have a line.
const NO_REFS: &[u8] = b"0000000000000000000000000000000000000000 capabilities^{}";

/// The first line over HTTP, which a flush follows.
const SERVICE: &[u8] = b"# service=";

/// The stream. What comes after the refs passes through as it is.
pub(in crate::git) struct RefStream<S> {
    inner: S,
    ready: Ready,
    is_over: bool,
    is_service: bool,
    /// Those of a line that was left out.
    capabilities: Option<Vec<u8>>,
    left_out: u64,
    /// Hears what people should know.
    tell: fn(&str),
}

impl<S: Read> RefStream<S> {
    /// Wraps a stream that begins with the refs.
    pub(in crate::git) fn new(inner: S) -> Self {
        Self::telling(inner, say)
    }

    /// The same, and people hear of what is left out like this.
    pub(in crate::git) fn telling(inner: S, tell: fn(&str)) -> Self {
        let (is_over, is_service, capabilities) = (false, false, None);
        Self { inner, ready: Ready::default(), is_over, is_service, capabilities, left_out: 0, tell }
    }

    /// Takes in the next packet line; answers whether there was one.
    fn take_line(&mut self) -> io::Result<bool> {
        match packets::next(&mut self.inner)? {
            Packet::Line(line) => {
                self.is_service = line.starts_with(SERVICE);
                self.take_ref(&line);
            }
            Packet::Flush => self.take_flush(),
            // What is no list of refs, or the end: libgit2 says what is wrong with it.
            Packet::Bare(bytes) | Packet::Cut(bytes) => {
                self.is_over = true;
                self.ready.add(&bytes);
                return Ok(!bytes.is_empty());
            }
        }
        Ok(true)
    }

    fn take_flush(&mut self) {
        self.is_over = !std::mem::take(&mut self.is_service);
        if let Some(capabilities) = self.capabilities.take().filter(|_| self.is_over) {
            self.ready.add_line(&[NO_REFS, b"\0", &capabilities]);
        }
        self.ready.add_flush();
        if self.is_over && self.left_out > 0 {
            let (count, verb) = (self.left_out, if self.left_out == 1 { "ref is" } else { "refs are" });
            (self.tell)(&format!("warning: {count} {verb} left out, as a name that is not UTF-8 cannot be deployed"));
        }
    }

    fn take_ref(&mut self, line: &[u8]) {
        let (name, capabilities) = match line.iter().position(|it| *it == 0) {
            Some(end) => (&line[..end], Some(text_alone(&line[end + 1..]))),
            None => (line, None),
        };
        let left = self.capabilities.take();
        let capabilities = capabilities.or(left);
        if std::str::from_utf8(name).is_err() {
            self.left_out += 1;
            self.capabilities = capabilities;
            return;
        }
        match capabilities {
            Some(capabilities) => self.ready.add_line(&[name.trim_ascii_end(), b"\0", &capabilities]),
            None => self.ready.add_line(&[name]),
        }
    }
}

/// Capabilities without those that are no text: one names the branch that HEAD stands for.
fn text_alone(capabilities: &[u8]) -> Vec<u8> {
    let words = capabilities.split(|it| *it == b' ').filter(|it| std::str::from_utf8(it).is_ok());
    words.collect::<Vec<_>>().join(&b' ')
}

impl<S: Read> Read for RefStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if self.is_over {
                return self.inner.read(buffer);
            }
            if !self.take_line()? {
                return Ok(0);
            }
        }
        Ok(self.ready.take(buffer))
    }
}

impl<S: Write> Write for RefStream<S> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.inner.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::RefStream;

    const ID: &str = "1111111111111111111111111111111111111111";

    fn lines(lines: &[&[u8]]) -> Vec<u8> {
        let line = |it: &&[u8]| match it.is_empty() {
            true => b"0000".to_vec(),
            false => [format!("{:04x}", it.len() + 4).as_bytes(), it].concat(),
        };
        lines.iter().flat_map(line).collect()
    }

    fn passed(given: &[u8]) -> Vec<u8> {
        let mut passed = Vec::new();
        RefStream::new(given).read_to_end(&mut passed).expect("read");
        passed
    }

    fn of(name: &[u8]) -> Vec<u8> {
        [ID.as_bytes(), b" ", name].concat()
    }

    #[test]
    fn refs_that_are_no_text_are_left_out_and_their_capabilities_are_not() {
        let good = of(b"refs/heads/main\n");
        let bad = of(b"refs/heads/caf\xe9\n");
        let first_is_bad = of(b"refs/heads/caf\xe9\0 ofs-delta symref=HEAD:refs/heads/caf\xe9 agent=git/2\n");
        let with = of(b"refs/heads/main\0 ofs-delta agent=git/2\n");
        let rest: &[u8] = b"and a pack \xff";
        assert_eq!(
            passed(&[lines(&[&with, &bad, &good, b""]), rest.to_vec()].concat()),
            [lines(&[&with, &good, b""]), rest.to_vec()].concat()
        );
        assert_eq!(passed(&lines(&[&first_is_bad, &good, b""])), lines(&[&with, b""]));
        let none = [super::NO_REFS, b"\0 ofs-delta agent=git/2\n"].concat();
        // Where the next one has its own, those of a line that was left out are of no use any more.
        assert_eq!(passed(&lines(&[&first_is_bad, &with, b""])), lines(&[&with, b""]));
        assert_eq!(
            passed(&lines(&[b"# service=git-upload-pack\n", b"", &first_is_bad, b""])),
            lines(&[b"# service=git-upload-pack\n", b"", &none, b""])
        );
    }

    #[test]
    fn what_is_no_list_of_refs_passes_as_it_is() {
        for given in [&b""[..], b"00", b"<html>", b"0020short", b"0009ERR x0000\xff\xfe", b"0000"] {
            assert_eq!(passed(given), given);
        }
    }
}
