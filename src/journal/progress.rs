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

/// Reads how far the run of this folder has come.
pub fn read(folder: &RunDir) -> Result<Progress, Unreadable> {
    let mut progress = Progress::default();
    for entry in entries::read(folder)? {
        match entry {
            Entry::Begin(begin) => progress.begin = Some(begin),
            Entry::StepBegin { step, .. } => progress.step = Some(step),
            Entry::Switching { to, .. } => progress.switches.push(to),
            Entry::Switched { .. } | Entry::StepEnd { .. } | Entry::Note { .. } => (),
            Entry::Ended { outcome, facts, .. } => progress.end = Some((outcome, facts)),
        }
    }
    Ok(progress)
}
