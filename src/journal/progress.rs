//! How far a run has come, read off its journal.
//!
//! Invariant: a run with a `begin` has started, one with an `end` is over; nothing else means either. A line that cannot
//! be read takes nothing from an `end`.

use crate::{
    journal::{
        Unreadable,
        entries::{self, Begin, Entry, LiveLink},
        folder::RunDir,
    },
    model::run::{Outcome, RunFacts, RunStep},
};

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Who carries it out, once it has started.
    pub begin: Option<Begin>,
    /// The step that began last.
    pub step: Option<RunStep>,
    /// Where it has let `current` point, or was about to, in order.
    pub switches: Vec<LiveLink>,
    /// How it ended, once it is over.
    pub end: Option<(Outcome, RunFacts)>,
    /// The first line that cannot be read, as a sentence.
    pub damage: Option<String>,
}

impl Progress {
    fn advance(&mut self, entry: Entry) {
        match entry {
            Entry::Begin(begin) => self.begin = Some(begin),
            Entry::StepBegin { step, .. } => self.step = Some(step),
            Entry::Switching { to, .. } => self.switches.push(to),
            Entry::Switched { .. } | Entry::StepEnd { .. } | Entry::Note { .. } => (),
            Entry::Ended { outcome, facts, .. } => self.end = Some((outcome, facts)),
        }
    }
}

/// Reads how far the run of this folder has come.
pub fn read(folder: &RunDir) -> Result<Progress, Unreadable> {
    let mut follower = Follower::of(folder.clone());
    follower.look()?;
    Ok(follower.so_far)
}

/// Looks at one journal again and again, and reads each entry once.
#[derive(Debug)]
pub struct Follower {
    folder: RunDir,
    read_to: u64,
    lines: u64,
    so_far: Progress,
}

impl Follower {
    /// Follows the run of this folder from its beginning.
    pub fn of(folder: RunDir) -> Self {
        Self { folder, read_to: 0, lines: 0, so_far: Progress::default() }
    }

    /// How far the run has come by now. Where a line cannot be read, only an end says so: without one, the line may have
    /// been anything.
    pub fn look(&mut self) -> Result<&Progress, Unreadable> {
        let (entries, next) = entries::read_from(&self.folder, self.read_to)?;
        self.read_to = next;
        for entry in entries {
            self.lines += 1;
            match entry {
                Ok(entry) => self.so_far.advance(entry),
                Err(why) => {
                    let (line, place) = (self.lines, self.folder.journal());
                    self.so_far.damage.get_or_insert_with(|| format!("line {line} of `{}`: {why}", place.display()));
                }
            }
        }
        match &self.so_far {
            Progress { end: None, damage: Some(why), .. } => Err(Unreadable::new("journal", why)),
            so_far => Ok(so_far),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &RunDir {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::read;
    use crate::journal::folder::RunDir;

    const BEGIN: &str = r#"{"entry":"begin","format":1,"at":"2026-11-29T09:00:00Z","pid":7,"process_start":9,"boot_id":"b","version":"0.1.0","cgroup":null}"#;

    const ENDED: &str =
        r#"{"entry":"ended","at":"2026-11-29T09:00:01Z","outcome":"succeeded","commit":null,"fields":[],"live":null}"#;

    #[test]
    fn a_line_that_cannot_be_read_takes_nothing_from_an_end_and_is_named_where_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = RunDir::at(folder.path());
        fs::write(dir.journal(), format!("{BEGIN}\n\u{1}garbage\n{ENDED}\n")).expect("written");
        let progress = read(&dir).expect("it says how it ended");
        assert!(progress.begin.is_some() && progress.end.is_some());
        assert!(progress.damage.expect("told").starts_with(&format!("line 2 of `{}`", dir.journal().display())));

        fs::write(dir.journal(), format!("{BEGIN}\ngarbage\n")).expect("written");
        let why = read(&dir).expect_err("it may have said anything").to_string();
        assert!(why.contains(&format!("line 2 of `{}`", dir.journal().display())), "{why}");
    }
}
