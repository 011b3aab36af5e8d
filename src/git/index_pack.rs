//! Git's own `index-pack`, which takes in a pack while it arrives.
//!
//! Invariant: a pack is in the repository whole, with all that its thin deltas need, or not at all.

use std::{
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Stdio},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    GitFailure, git_program,
    journey::Journey,
    progress::{BEAT, Meter, plain, say},
};

/// A file of more than this passes through without being in memory whole.
const BIG_FILE: &str = "core.bigFileThreshold=16m";

/// What is kept of a line of its standard error.
const LINE_BYTES_MAX: usize = 4 << 10;

/// A running `git index-pack`.
pub(super) struct IndexPack {
    child: Child,
    place: PathBuf,
    meter: Meter,
    /// Its last words, once it has ended.
    words: Option<JoinHandle<String>>,
    is_finished: bool,
}

impl IndexPack {
    /// Starts one for a pack of so many objects.
    pub(super) fn start(git_dir: &Path, journey: &Journey, count: usize) -> Result<Self, GitFailure> {
        let mut command = git_program::command_in(git_dir)?;
        // Packs of two files are what libgit2 makes, too, and can be made one by either.
        command.args(["-c", "pack.writeReverseIndex=false", "-c", BIG_FILE]);
        command.args(["index-pack", "--stdin", "--fix-thin", "-v"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.map_err(|err| GitFailure::other(format!("cannot start git index-pack: {err}")))?;
        let words = listen(child.stderr.take().expect("standard error is piped"));
        journey.meter.expect(count);
        let place = git_dir.to_owned();
        Ok(Self { child, place, meter: journey.meter.clone(), words: Some(words), is_finished: false })
    }

    /// Hands on a piece of the pack.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), GitFailure> {
        self.meter.add_bytes(piece.len());
        let written = self.child.stdin.as_mut().expect("it is open until the end").write_all(piece);
        // It ended, and says why.
        written.map_err(|_| self.end().err().unwrap_or_else(|| GitFailure::other("git index-pack ended too early")))
    }

    /// Waits until all of it is in place.
    pub(super) fn finish(mut self) -> Result<(), GitFailure> {
        self.end()?;
        self.meter.complete();
        Ok(())
    }

    fn end(&mut self) -> Result<(), GitFailure> {
        drop(self.child.stdin.take());
        let status = self.child.wait();
        self.is_finished = true;
        let words = self.words.take().and_then(|it| it.join().ok()).unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let why = if words.is_empty() { format!("it ended with {status}") } else { words };
                // What the line broke off, or the far side spoilt, another try may mend.
                let is_ours = ["unable to write", "No space left", "cannot store", "unable to create"];
                let place = self.place.display();
                let reason = format!("git index-pack cannot take in what was received, into `{place}`: {why}");
                match is_ours.iter().any(|it| why.contains(it)) {
                    true => Err(GitFailure::other(reason)),
                    false => Err(GitFailure::fetch(reason)),
                }
            }
            Err(err) => Err(GitFailure::other(format!("cannot wait for git index-pack: {err}"))),
        }
    }
}

impl Drop for IndexPack {
    fn drop(&mut self) {
        if !self.is_finished {
            // Both fail only if it has ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Tells people now and then how far it is, and answers its last line that is no progress.
fn listen(stderr: ChildStderr) -> JoinHandle<String> {
    thread::spawn(move || {
        let (mut last, mut line, mut told) = (String::new(), Vec::new(), Instant::now());
        for byte in BufReader::new(stderr).bytes().map_while(Result::ok) {
            if !matches!(byte, b'\r' | b'\n') {
                if line.len() < LINE_BYTES_MAX {
                    line.push(byte);
                }
                continue;
            }
            let text = plain(&line);
            line.clear();
            let is_progress = text.starts_with("Receiving objects") || text.starts_with("Resolving deltas");
            if !is_progress && !text.is_empty() {
                last = text;
            } else if is_progress && told.elapsed() >= BEAT {
                told = Instant::now();
                say(&lower_first(&text));
            }
        }
        last
    })
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |it| it.to_lowercase().chain(characters).collect())
}
