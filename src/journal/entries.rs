//! The journal of a run: what the keeper did, one JSON entry a line, in the order of doing.
//!
//! Invariant: the first entry is `begin`, and it is on the disk before the run changes anything; `ended` is on the
//! disk before the keeper exits. A torn last line is no entry.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use jiff::Timestamp;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    journal::{
        Unreadable,
        folder::RunDir,
        outcome::{StoredOutcome, run_step},
        spec::RunToken,
    },
    model::{
        push::CommitId,
        run::{Outcome, RunFacts, RunStep},
    },
};

/// Raised when a reader of the old form would misunderstand the new one.
const FORMAT: u32 = 1;

/// Room taken at the start, so that a disk which fills up later still takes the outcome.
const RESERVED_BYTES: u64 = 64 * 1024;

/// Ends a line that was written in part. Nothing whole ends so: JSON has no control characters.
const TORN: &[u8] = b"\x18\n";

/// One thing the keeper did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The run has started. This entry alone means so.
    Begin(Begin),
    /// A step has begun.
    StepBegin {
        /// When.
        at: Timestamp,
        /// Which step.
        step: RunStep,
        /// Which script of it, if it is one of scripts.
        script: Option<String>,
        /// Where its log begins.
        log_from: u64,
    },
    /// A step has ended, and so has every process of it.
    StepEnd {
        /// When.
        at: Timestamp,
        /// Which step.
        step: RunStep,
        /// Which script of it, if it is one of scripts.
        script: Option<String>,
        /// Where its log is.
        log: Range<u64>,
        /// How.
        exit: StepExit,
    },
    /// `current` is about to point elsewhere. On the disk before it does.
    Switching {
        /// When.
        at: Timestamp,
        /// Where to.
        to: LiveLink,
    },
    /// `current` points there.
    Switched {
        /// When.
        at: Timestamp,
        /// Where to.
        to: LiveLink,
    },
    /// Something people should know of, in one sentence.
    Note {
        /// When.
        at: Timestamp,
        /// The sentence.
        text: String,
    },
    /// The run has ended; nothing comes after it.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
        /// What became known on the way.
        facts: RunFacts,
    },
}

/// The keeper that started a run: enough to recognise it, whatever became of its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// When.
    pub at: Timestamp,
    /// The word of the run; `None`: the journal is of a Landfall that did not write it down.
    pub token: Option<RunToken>,
    /// Its process.
    pub pid: i32,
    /// When that process was started, in clock ticks since boot.
    pub process_start: u64,
    /// Which boot of the machine it was.
    pub boot_id: String,
    /// The version of Landfall.
    pub version: String,
    /// The folder of the control group that holds everything it starts; `None`: there is none.
    pub cgroup: Option<PathBuf>,
}

/// What `current` points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLink {
    /// The text of the link.
    pub link: String,
    /// The commit that is behind it, if that is known.
    pub commit: Option<CommitId>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepExit {
    /// As it should.
    Good,
    /// A script ended with this code.
    Code(i32),
    /// A signal of this number ended a script.
    Signal(i32),
    /// Landfall ended it, or could not do it; the sentence says why.
    Stopped(String),
}

/// The journal of a run, open for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
    dir: RunDir,
    /// Whether the last line may have been written in part.
    is_torn: bool,
}

impl Journal {
    /// Opens a new journal. There is one already: the run has started before, and must not start again.
    pub fn create(dir: &RunDir) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(dir.journal())?;
        // A file system that cannot reserve room still keeps journals; one that has none does not.
        let reserved = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED_BYTES);
        if let Err(err @ (Errno::NOSPC | Errno::DQUOT)) = reserved {
            let _ = fs::remove_file(dir.journal());
            return Err(err.into());
        }
        Ok(Self { file, dir: dir.clone(), is_torn: false })
    }

    /// Writes a line; a disk that is full may take a part of it.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        fail::fail_point!("keeper-journal-write", |code| {
            self.file.write_all(&line[..line.len() / 2])?;
            Err(crate::journal::faulty_disk(code))
        });
        self.file.write_all(line)
    }

    /// Adds an entry. `begin`, `ended` and what is said of a switch are on the disk when this returns; the others
    /// survive a kill.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = if self.is_torn { TORN.to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, &Stored::from(entry)).expect("an entry is strings and numbers");
        line.push(b'\n');
        self.is_torn = true;
        self.write(&line)?;
        self.is_torn = false;
        fail::fail_point!("keeper-journal-sync", |code| Err(crate::journal::faulty_disk(code)));
        match entry {
            Entry::Begin(_) => {
                self.file.sync_all()?;
                self.dir.sync()
            }
            Entry::Switching { .. } | Entry::Switched { .. } | Entry::Ended { .. } => self.file.sync_all(),
            Entry::StepBegin { .. } | Entry::StepEnd { .. } | Entry::Note { .. } => Ok(()),
        }
    }
}

/// Gives the room back that was reserved for the journal of a run whose keeper is gone. A file system that cannot free
/// it keeps it, which harms nobody.
pub fn give_room_back(dir: &RunDir) {
    let Ok(journal) = OpenOptions::new().write(true).open(dir.journal()) else { return };
    let Ok(used) = journal.metadata().map(|it| it.len()) else { return };
    // ext4 frees what lies beyond the end of a file that is cut to the length it has; others have to be told.
    let _ = journal.set_len(used);
    if let Some(left @ 1..) = RESERVED_BYTES.checked_sub(used) {
        let _ = fallocate(&journal, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, used, left);
    }
}

/// All entries of a run. No journal, or one without a whole line, means the run has not started.
pub fn read(dir: &RunDir) -> Result<Vec<Entry>, Unreadable> {
    read_from(dir, 0)?.0.into_iter().collect::<Result<_, _>>().map_err(|why| Unreadable::new("journal", why))
}

/// What each whole line holds from this byte on, where one begins, or why it cannot be read; and the byte where the next
/// will begin.
pub fn read_from(dir: &RunDir, from: u64) -> Result<(Vec<Result<Entry, String>>, u64), Unreadable> {
    let mut bytes = Vec::new();
    let read = File::open(dir.journal()).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), from)),
        result => result.map_err(|err| Unreadable::new("journal", err))?,
    };
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    let lines = bytes[..whole].split_inclusive(|it| *it == b'\n');
    // What was written of a line in part, before the disk took the next one, is no entry.
    let entries = lines.filter(|it| !it.ends_with(TORN)).map(|line| match entry_of_line(line) {
        Ok(entry) => Ok(Ok(entry)),
        Err(Unreadable::Damaged { why, .. }) => Ok(Err(why)),
        Err(newer @ Unreadable::Newer { .. }) => Err(newer),
    });
    Ok((entries.collect::<Result<_, _>>()?, from + whole as u64))
}

/// Removes a journal in which no run has begun, so that one can begin there. One that cannot be read is left.
pub fn discard_unbegun(dir: &RunDir) -> io::Result<()> {
    if !read(dir).is_ok_and(|it| it.is_empty()) {
        return Ok(());
    }
    match fs::remove_file(dir.journal()) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn entry_of_line(line: &[u8]) -> Result<Entry, Unreadable> {
    // Looked at alone, because a newer form may not fit ours.
    if let Ok(Format { format: Some(version) }) = serde_json::from_slice(line)
        && version > FORMAT
    {
        return Err(Unreadable::Newer { what: "journal", version, known: FORMAT });
    }
    let stored: Stored = serde_json::from_slice(line).map_err(|err| Unreadable::new("journal", err))?;
    Entry::try_from(stored).map_err(|why| Unreadable::new("journal", why))
}

#[derive(Deserialize)]
struct Format {
    format: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Stored {
    Begin {
        format: u32,
        at: String,
        token: Option<String>,
        pid: i32,
        process_start: u64,
        boot_id: String,
        version: String,
        cgroup: Option<PathBuf>,
    },
    StepBegin {
        at: String,
        step: String,
        script: Option<String>,
        log_from: u64,
    },
    StepEnd {
        at: String,
        step: String,
        script: Option<String>,
        log_from: u64,
        log_to: u64,
        exit: StoredExit,
    },
    Switching {
        at: String,
        link: String,
        commit: Option<String>,
    },
    Switched {
        at: String,
        link: String,
        commit: Option<String>,
    },
    Note {
        at: String,
        text: String,
    },
    Ended {
        at: String,
        outcome: StoredOutcome,
        commit: Option<String>,
        fields: Vec<(String, String)>,
        live: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredExit {
    Good,
    Code(i32),
    Signal(i32),
    Stopped(String),
}

impl From<&Entry> for Stored {
    fn from(entry: &Entry) -> Self {
        match entry.clone() {
            Entry::Begin(Begin { at, token, pid, process_start, boot_id, version, cgroup }) => {
                let (at, token) = (at.to_string(), token.map(|it| it.as_str().to_owned()));
                Self::Begin { format: FORMAT, at, token, pid, process_start, boot_id, version, cgroup }
            }
            Entry::StepBegin { at, step, script, log_from } => {
                Self::StepBegin { at: at.to_string(), step: step.word().into(), script, log_from }
            }
            Entry::StepEnd { at, step, script, log, exit } => Self::StepEnd {
                at: at.to_string(),
                step: step.word().into(),
                script,
                log_from: log.start,
                log_to: log.end,
                exit: match exit {
                    StepExit::Good => StoredExit::Good,
                    StepExit::Code(code) => StoredExit::Code(code),
                    StepExit::Signal(number) => StoredExit::Signal(number),
                    StepExit::Stopped(why) => StoredExit::Stopped(why),
                },
            },
            Entry::Switching { at, to: LiveLink { link, commit } } => {
                Self::Switching { at: at.to_string(), link, commit: commit.map(|it| it.to_string()) }
            }
            Entry::Switched { at, to: LiveLink { link, commit } } => {
                Self::Switched { at: at.to_string(), link, commit: commit.map(|it| it.to_string()) }
            }
            Entry::Note { at, text } => Self::Note { at: at.to_string(), text },
            Entry::Ended { at, outcome, facts } => Self::Ended {
                at: at.to_string(),
                outcome: (&outcome).into(),
                commit: facts.commit.map(|it| it.to_string()),
                fields: facts.fields,
                live: facts.live.map(|it| it.to_string()),
            },
        }
    }
}

impl TryFrom<Stored> for Entry {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let time = |text: String| text.parse::<Timestamp>().map_err(|err| err.to_string());
        let commit_id = |text: Option<String>| {
            text.map(|it| CommitId::parse(&it).ok_or_else(|| format!("`{it}` is not a commit"))).transpose()
        };
        Ok(match stored {
            Stored::Begin { format: _, at, token, pid, process_start, boot_id, version, cgroup } => {
                let token = token.map(|it| RunToken::parse(&it).ok_or("its token is not 32 hex digits")).transpose()?;
                Self::Begin(Begin { at: time(at)?, token, pid, process_start, boot_id, version, cgroup })
            }
            Stored::StepBegin { at, step, script, log_from } => {
                Self::StepBegin { at: time(at)?, step: run_step(&step)?, script, log_from }
            }
            Stored::StepEnd { at, step, script, log_from, log_to, exit } => Self::StepEnd {
                at: time(at)?,
                step: run_step(&step)?,
                script,
                log: log_from..log_to,
                exit: match exit {
                    StoredExit::Good => StepExit::Good,
                    StoredExit::Code(code) => StepExit::Code(code),
                    StoredExit::Signal(number) => StepExit::Signal(number),
                    StoredExit::Stopped(why) => StepExit::Stopped(why),
                },
            },
            Stored::Note { at, text } => Self::Note { at: time(at)?, text },
            Stored::Switching { at, link, commit } => {
                Self::Switching { at: time(at)?, to: LiveLink { link, commit: commit_id(commit)? } }
            }
            Stored::Switched { at, link, commit } => {
                Self::Switched { at: time(at)?, to: LiveLink { link, commit: commit_id(commit)? } }
            }
            Stored::Ended { at, outcome, commit, fields, live } => Self::Ended {
                at: time(at)?,
                outcome: outcome.try_into()?,
                facts: RunFacts { commit: commit_id(commit)?, fields, live: commit_id(live)? },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use jiff::Timestamp;

    use super::{Begin, Entry, Journal, LiveLink, StepExit, read};
    use crate::{
        journal::{Unreadable, folder::RunDir, spec::RunToken},
        model::{
            push::CommitId,
            run::{Outcome, RunFacts, RunStep},
        },
    };

    fn entries() -> Vec<Entry> {
        let at = Timestamp::from_second(1_800_000_000).expect("in range");
        let (boot_id, version, cgroup) = ("b".into(), "0.1.0".into(), Some("/sys/fs/cgroup/x".into()));
        let token = RunToken::parse(&"0f".repeat(16));
        let begin = Begin { at, token, pid: 7, process_start: 99, boot_id, version, cgroup };
        let commit = CommitId::parse(&"a1".repeat(20));
        let fields = vec![("k".into(), "v=\n".into())];
        let facts = RunFacts { commit: commit.clone(), fields, live: commit.clone() };
        let to = LiveLink { link: "releases/x".into(), commit };
        let script = Some("build".to_owned());
        vec![
            Entry::Begin(begin),
            Entry::StepBegin { at, step: RunStep::Run, script: script.clone(), log_from: 5 },
            Entry::StepEnd { at, step: RunStep::Run, script, log: 5..77, exit: StepExit::Signal(9) },
            Entry::Switching { at, to: to.clone() },
            Entry::Switched { at, to: LiveLink { commit: None, ..to } },
            Entry::Note { at, text: "two\nlines".into() },
            Entry::Ended { at, outcome: Outcome::Succeeded, facts },
        ]
    }

    fn written() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let dir = RunDir::at(folder.path());
        let mut journal = Journal::create(&dir).expect("journal");
        entries().iter().for_each(|it| journal.append(it).expect("appended"));
        (folder, dir)
    }

    #[test]
    fn a_journal_reads_back_as_it_was_written() {
        let (_folder, dir) = written();
        assert_eq!(read(&dir).expect("readable"), entries());
    }

    #[test]
    fn a_torn_last_line_is_no_entry() {
        let (_folder, dir) = written();
        let whole = std::fs::read(dir.journal()).expect("journal");
        for length in 0..whole.len() {
            std::fs::write(dir.journal(), &whole[..length]).expect("torn");
            let lines = whole[..length].iter().filter(|it| **it == b'\n').count();
            assert_eq!(read(&dir).expect("readable"), entries()[..lines], "{length} bytes");
        }
    }

    #[test]
    fn a_run_that_has_begun_cannot_begin_again() {
        let (_folder, dir) = written();
        assert_eq!(Journal::create(&dir).expect_err("refused").kind(), std::io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_journal_of_a_newer_version_is_refused_as_such() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let dir = RunDir::at(folder.path());
        assert_eq!(read(&dir).expect("not started"), []);
        let mut file = OpenOptions::new().create(true).append(true).open(dir.journal()).expect("file");
        file.write_all(b"{\"entry\":\"begin\",\"format\":9}\n").expect("written");
        assert!(matches!(read(&dir), Err(Unreadable::Newer { version: 9, .. })));
    }
}
