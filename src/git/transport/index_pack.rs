//! Git's own `index-pack`, which takes in a pack while it arrives.
//!
//! It writes into a folder of its own, as git does with what is pushed to it: what a failure or a kill leaves is in there,
//! and the next fetch removes it.
//!
//! Invariant: a pack is in the repository whole, with all that its thin deltas need, or not at all.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufReader, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Stdio},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::git::transport::journey::Journey;
use crate::git::{
    GitFailure, cannot, git_program,
    progress::{BEAT, Meter, plain, say},
};

/// A file of more than this passes through without being in memory whole.
const BIG_FILE: &str = "core.bigFileThreshold=16m";

/// What is kept of a line of its standard error.
const LINE_BYTES_MAX: usize = 4 << 10;

/// A running `git index-pack`.
pub(in crate::git) struct IndexPack {
    child: Child,
    incoming: Incoming,
    meter: Meter,
    /// Its last words, once it has ended.
    words: Option<JoinHandle<String>>,
    is_finished: bool,
}

impl IndexPack {
    /// Starts one for a pack of so many objects.
    pub(in crate::git) fn start(git_dir: &Path, journey: &Journey, count: usize) -> Result<Self, GitFailure> {
        let incoming = Incoming::make(git_dir)?;
        let mut command = git_program::command_in(git_dir)?;
        command.env("GIT_OBJECT_DIRECTORY", &incoming.folder);
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &incoming.objects);
        // Packs of two files are what libgit2 makes, too, and can be made one by either.
        command.args(["-c", "pack.writeReverseIndex=false", "-c", BIG_FILE]);
        command.args(["index-pack", "--stdin", "--fix-thin", "-v"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.map_err(|err| GitFailure::other(format!("cannot start git index-pack: {err}")))?;
        let words = listen(child.stderr.take().expect("standard error is piped"));
        journey.meter.expect(count);
        Ok(Self { child, incoming, meter: journey.meter.clone(), words: Some(words), is_finished: false })
    }

    /// Hands on a piece of the pack.
    pub(in crate::git) fn write(&mut self, piece: &[u8]) -> Result<(), GitFailure> {
        self.meter.add_bytes(piece.len());
        let written = self.child.stdin.as_mut().expect("it is open until the end").write_all(piece);
        // It ended, and says why.
        written.map_err(|_| self.end().err().unwrap_or_else(|| GitFailure::other("git index-pack ended too early")))
    }

    /// Waits until all of it is in place.
    pub(in crate::git) fn finish(mut self) -> Result<(), GitFailure> {
        self.end()?;
        self.incoming.settle()?;
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
                let is_ours =
                    ["unable to write", "No space left", "cannot store", "unable to create", "not a git repository"];
                let place = self.incoming.objects.display();
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

/// The folder that a pack comes into.
struct Incoming {
    folder: PathBuf,
    /// Where the repository's own objects are.
    objects: PathBuf,
}

impl Incoming {
    fn make(git_dir: &Path) -> Result<Self, GitFailure> {
        let (folder, objects) = (git_dir.join("landfall-incoming"), git_dir.join("objects"));
        let what = || format!("make `{}`", folder.display());
        remove(&folder).map_err(cannot(what()))?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join("pack")).map_err(cannot(what()))?;
        Ok(Self { folder, objects })
    }

    /// Moves the pack to where it belongs: its index last, as that is what makes it one.
    fn settle(&self) -> Result<(), GitFailure> {
        let to = self.objects.join("pack");
        let settle = || -> io::Result<()> {
            let mut files: Vec<PathBuf> = Vec::new();
            for entry in fs::read_dir(self.folder.join("pack"))? {
                files.push(entry?.path());
            }
            files.sort_by_key(|it| it.extension().is_some_and(|it| it == "idx"));
            for file in files {
                fs::rename(&file, to.join(file.file_name().unwrap_or_default()))?;
            }
            File::open(&to)?.sync_all()
        };
        settle().map_err(cannot(format!("take a pack into `{}`", to.display())))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = remove(&self.folder);
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
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
