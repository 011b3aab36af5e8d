//! git's protocol with a program that we start: ssh, or git's own `upload-pack`.
//!
//! Invariant: the program ends with the stream, and what it said is known when it failed.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
};

use git2::{
    Error,
    transport::{Service, SmartSubtransport, SmartSubtransportStream},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    journey::{Advertised, Journey},
    pack_stream::PackStream,
    ref_stream::RefStream,
};
use crate::git::{
    GitFailure,
    progress::{plain, say},
};

/// Lines of standard error that a failure may quote.
const QUOTED_LINES_MAX: usize = 20;

/// Lines of it that people read.
const SAID_LINES_MAX: usize = 100;

/// What is read of such a line.
const LINE_BYTES_MAX: u64 = 4 << 10;

/// What a program's last lines mean for people, and whether another try may help.
pub(in crate::git) type Meaning = fn(&VecDeque<String>, &Journey) -> GitFailure;

/// How a program is started that speaks for a remote.
pub(in crate::git) type Connect = fn(&Journey) -> Result<ChildStream, GitFailure>;

/// The connection to one remote, by a program.
pub(in crate::git) struct ByChild {
    journey: Journey,
    connect: Connect,
}

impl ByChild {
    pub(in crate::git) fn new(journey: Journey, connect: Connect) -> Self {
        Self { journey, connect }
    }
}

impl SmartSubtransport for ByChild {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            // The second request goes through the stream of the first.
            Service::UploadPackLs | Service::UploadPack => {
                let stream = (self.connect)(&self.journey).inspect_err(|failure| self.journey.trouble.note(failure));
                let stream = stream.map_err(|failure| Error::from_str(&failure.reason))?;
                Ok(Box::new(PackStream::new(RefStream::new(stream), &self.journey)))
            }
            Service::ReceivePackLs | Service::ReceivePack => Err(Error::from_str("nothing is ever pushed")),
        }
    }

    fn close(&self) -> Result<(), Error> {
        // The stream ends its program when libgit2 drops it.
        Ok(())
    }
}

/// A running program.
pub(in crate::git) struct ChildStream {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// `None` once we have said what we want.
    refs: Option<Advertised>,
    /// `None` once its words have been judged.
    words: Option<JoinHandle<VecDeque<String>>>,
    meaning: Meaning,
    journey: Journey,
}

impl ChildStream {
    /// Starts a program. What it says is repeated to people as `name: ...`.
    pub(in crate::git) fn start(
        mut command: Command,
        name: &'static str,
        journey: &Journey,
        meaning: Meaning,
    ) -> io::Result<Self> {
        // What it says is read for its meaning.
        command.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.expect("standard output is piped");
        let words = Some(listen(name, child.stderr.take().expect("standard error is piped")));
        let refs = Some(Advertised::new());
        Ok(Self { child, input, output, refs, words, meaning, journey: journey.clone() })
    }

    /// Says that nothing more is asked.
    pub(in crate::git) fn close_input(&mut self) {
        self.input = None;
    }

    /// Notes why it ended, if it was not well.
    fn judge_end(&mut self) {
        self.input = None;
        let Some(words) = self.words.take() else { return };
        let status = self.child.wait();
        let words = words.join().unwrap_or_default();
        if !status.is_ok_and(|it| it.success()) {
            self.journey.trouble.note(&(self.meaning)(&words, &self.journey));
        }
    }
}

/// Hands on what a program says, and keeps its last lines.
fn listen(name: &'static str, stderr: ChildStderr) -> JoinHandle<VecDeque<String>> {
    thread::spawn(move || {
        let (mut last, mut said) = (VecDeque::new(), 0);
        let mut stderr = BufReader::new(stderr);
        while let Some(line) = next_line(&mut stderr) {
            let line = plain(&line);
            if line.is_empty() {
                continue;
            }
            if said < SAID_LINES_MAX {
                said += 1;
                say(&format!("{name}: {line}"));
            }
            if last.len() == QUOTED_LINES_MAX {
                last.pop_front();
            }
            last.push_back(line);
        }
        last
    })
}

/// The beginning of the next line: the far side may print one without an end.
fn next_line(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok().filter(|it| *it > 0)?;
    if !line.ends_with(b"\n") {
        from.skip_until(b'\n').ok()?;
    }
    Some(line)
}

impl Read for ChildStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The first byte included.
        let silence = self.journey.silence;
        let limit = Timespec { tv_sec: silence.as_secs().cast_signed(), tv_nsec: silence.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&limit))?;
        if ready == 0 {
            let failure = GitFailure::fetch(format!(
                "`{}` fell silent for {} seconds",
                self.journey.remote.shown(),
                silence.as_secs_f32()
            ));
            self.journey.trouble.note(&failure);
            return Err(io::Error::other(failure.reason));
        }
        let length = self.output.read(buffer)?;
        if length == 0 {
            self.judge_end();
        }
        if let Some(refs) = &mut self.refs {
            refs.add(length, &self.journey)?;
        }
        Ok(length)
    }
}

impl Write for ChildStream {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.refs = None;
        match &mut self.input {
            Some(input) => input.write(piece),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for ChildStream {
    fn drop(&mut self) {
        // Everything that was wanted has been read. Both fail only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
