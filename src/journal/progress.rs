//! How far a run has come, read off its journal.
//!
//! Invariant: a run with a `begin` has started, one with an `end` is over; nothing else means either.

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
    so_far: Progress,
}

impl Follower {
    /// Follows the run of this folder from its beginning.
    pub fn of(folder: RunDir) -> Self {
        Self { folder, read_to: 0, so_far: Progress::default() }
    }

    /// How far the run has come by now.
    pub fn look(&mut self) -> Result<&Progress, Unreadable> {
        let (entries, next) = entries::read_from(&self.folder, self.read_to)?;
        self.read_to = next;
        entries.into_iter().for_each(|it| self.so_far.advance(it));
        Ok(&self.so_far)
    }

    /// The folder.
    pub fn folder(&self) -> &RunDir {
        &self.folder
    }
}
