//! Turns what a run prints into lines of its log: masked, cut into lines, each with its time.
//!
//! A line that carriage returns overwrite, as progress bars do, is stored in its last state, and about once a second
//! in the state it has then.
//!
//! Invariant: nothing reaches the log unmasked, neither output nor a remark of ours.

use std::io;

use jiff::{SignedDuration, Timestamp};

use crate::{
    journal::log::Writer,
    keeper::mask::{Mask, MaskedStream},
    model::text,
};

/// How often a line that is overwritten again and again is stored.
const STATE_EVERY: SignedDuration = SignedDuration::from_secs(1);

/// The log of a run, as the keeper writes it.
#[derive(Debug)]
pub struct RunLog {
    mask: Mask,
    stream: MaskedStream,
    lines: Lines,
    /// The first trouble with the disk. After it nothing is written any more.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Lines {
    writer: Writer,
    /// The line that has not ended.
    pending: Vec<u8>,
    /// Whether the last byte was a carriage return: the next one says what it meant.
    is_returned: bool,
    stored_at: Timestamp,
}

impl RunLog {
    /// A log that goes through this mask to this writer.
    pub fn new(mask: Mask, writer: Writer) -> Self {
        let lines = Lines { writer, pending: Vec::new(), is_returned: false, stored_at: Timestamp::UNIX_EPOCH };
        Self { mask, stream: MaskedStream::default(), lines, trouble: None }
    }

    /// The position after the last line.
    pub fn position(&self) -> u64 {
        self.lines.writer.position()
    }

    /// A text for people, masked.
    pub fn masked(&self, text: &str) -> String {
        self.mask.text(text)
    }

    /// Why the log cannot be written any more, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Adds output, however it was cut into reads.
    pub fn output(&mut self, at: Timestamp, chunk: &[u8]) {
        if self.trouble.is_some() {
            return;
        }
        let Self { mask, stream, lines, .. } = self;
        let mut result = Ok(());
        stream.push(mask, chunk, |bytes| {
            if result.is_ok() {
                result = lines.feed(at, bytes);
            }
        });
        self.note_trouble(result);
    }

    /// Ends the line that has not ended: whoever could have gone on with it is gone.
    pub fn end_output(&mut self, at: Timestamp) {
        if self.trouble.is_some() {
            return;
        }
        let Self { mask, stream, lines, .. } = self;
        let mut result = Ok(());
        stream.finish(mask, |bytes| {
            if result.is_ok() {
                result = lines.feed(at, bytes);
            }
        });
        let result = result.and_then(|()| lines.end(at)).and_then(|()| lines.writer.flush());
        self.note_trouble(result);
    }

    /// Adds a remark of our own, and shows it. It is one line, and nothing that it quotes of others, as the name of a
    /// process, makes it anything else.
    pub fn remark(&mut self, at: Timestamp, remark: &str) {
        if self.trouble.is_some() {
            return;
        }
        let line = text::one_line(&self.mask.text(remark));
        let result = self.lines.writer.remark(at, &line).and_then(|()| self.lines.writer.flush());
        self.note_trouble(result);
    }

    /// Shows readers what has come so far.
    pub fn flush(&mut self) {
        if self.trouble.is_none() {
            let result = self.lines.writer.flush();
            self.note_trouble(result);
        }
    }

    fn note_trouble(&mut self, result: io::Result<()>) {
        if let Err(err) = result {
            self.trouble = Some(format!("cannot write the log: {err}"));
        }
    }
}

impl Lines {
    fn feed(&mut self, at: Timestamp, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.is_returned {
                bytes = self.after_return(at, bytes)?;
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else { break };
            if bytes[end] == b'\r' {
                self.pending.extend_from_slice(&bytes[..end]);
                self.is_returned = true;
            } else if self.pending.is_empty() {
                self.stored_at = at;
                self.writer.output(at, &bytes[..end])?;
            } else {
                self.pending.extend_from_slice(&bytes[..end]);
                self.end_line(at)?;
            }
            bytes = &bytes[end + 1..];
        }
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        while self.pending.len() - done > self.writer.text_bytes_max() {
            done += self.writer.piece(at, &self.pending[done..])?;
        }
        self.pending.drain(..done);
        Ok(())
    }

    /// What follows a carriage return: the rest of a line end, another one, or a new state of the line.
    fn after_return<'a>(&mut self, at: Timestamp, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        match bytes[0] {
            b'\r' => return Ok(&bytes[1..]),
            b'\n' => {
                self.end_line(at)?;
                return Ok(&bytes[1..]);
            }
            _ => (),
        }
        self.is_returned = false;
        if !self.pending.is_empty() {
            if at.duration_since(self.stored_at) >= STATE_EVERY {
                self.end_line(at)?;
            }
            self.pending.clear();
        }
        Ok(bytes)
    }

    fn end_line(&mut self, at: Timestamp) -> io::Result<()> {
        self.is_returned = false;
        self.stored_at = at;
        self.writer.output(at, &self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn end(&mut self, at: Timestamp) -> io::Result<()> {
        if self.pending.is_empty() {
            self.is_returned = false;
            return Ok(());
        }
        self.end_line(at)
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::RunLog;
    use crate::{
        journal::{
            folder::RunDir,
            log::{Reader, TEXT_BYTES_MAX, Writer},
        },
        keeper::mask::Mask,
    };

    /// What is stored of these reads, a second and a half between one and the next where `slow`.
    fn stored(secrets: &[&str], reads: &[&[u8]], slow: bool) -> Vec<String> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let dir = RunDir::at(folder.path());
        let mask = Mask::new(secrets.iter().copied()).expect("mask");
        let mut log = RunLog::new(mask, Writer::open(&dir, 1 << 20).expect("writer"));
        let mut at = Timestamp::from_second(1_800_000_000).expect("in range");
        for read in reads {
            log.output(at, read);
            at += SignedDuration::from_millis(if slow { 1500 } else { 1 });
        }
        log.end_output(at);
        let lines = Reader::new(&dir).lines(0).map(|it| it.expect("line").text().into_owned());
        lines.collect()
    }

    #[test]
    fn lines_are_the_same_however_they_were_read() {
        let expected = ["a", "", "b", "c"];
        assert_eq!(stored(&[], &[b"a\n\nb\r\nc"], false), expected);
        assert_eq!(stored(&[], &[b"a", b"\n", b"\nb\r", b"\n", b"c\n"], false), expected);
    }

    #[test]
    fn a_progress_bar_is_stored_in_its_last_state_and_now_and_then_on_the_way() {
        let reads: [&[u8]; 4] = [b"0%\n 1%\r", b" 2%\r", b" 3%\r", b"100%\ndone\n"];
        assert_eq!(stored(&[], &reads, false), ["0%", "100%", "done"]);
        assert_eq!(stored(&[], &reads, true), ["0%", " 1%", " 2%", " 3%", "100%", "done"]);
        assert_eq!(stored(&[], &[b"5%\r6%\r"], false).last().map(String::as_str), Some("6%"));
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let read = vec![b'x'; TEXT_BYTES_MAX];
        let reads: Vec<&[u8]> = vec![&read; 10];
        let lines = stored(&[], &reads, false);
        assert_eq!(lines.concat().len(), 10 * TEXT_BYTES_MAX);
        assert!(lines.iter().all(|it| it.len() <= TEXT_BYTES_MAX));
        let folder = tempfile::tempdir().expect("temporary folder");
        let writer = Writer::open(&RunDir::at(folder.path()), 1 << 20).expect("writer");
        let mut log = RunLog::new(Mask::new(std::iter::empty()).expect("mask"), writer);
        for read in reads {
            log.output(Timestamp::UNIX_EPOCH, read);
            let waiting = log.lines.pending.len();
            assert!(waiting <= TEXT_BYTES_MAX, "{waiting} bytes wait for the end of a line");
        }
    }

    #[test]
    fn a_remark_is_one_line_whatever_it_quotes_and_nothing_in_it_acts() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let dir = RunDir::at(folder.path());
        let mut log =
            RunLog::new(Mask::new(std::iter::empty()).expect("mask"), Writer::open(&dir, 1 << 20).expect("writer"));
        log.remark(
            Timestamp::UNIX_EPOCH,
            "ended `x\nrun 7 succeeded\u{1b}]52;c;aGk=\u{7}\u{1b}[2J\u{85}\u{202e}y` (42)",
        );
        let lines: Vec<_> = Reader::new(&dir).lines(0).map(|it| it.expect("line").text().into_owned()).collect();
        assert_eq!(lines, ["ended `x run 7 succeeded \u{fffd}y` (42)"]);
    }

    #[test]
    fn a_secret_is_masked_though_a_read_and_a_line_end_cut_it() {
        assert_eq!(stored(&["abc\nsecond"], &[b"x ab", b"c\nse", b"cond y\n"], false), ["x *** y"]);
    }
}
