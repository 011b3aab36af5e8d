//! The checker: reads a history and what the store tells, and names every law that was broken.
//!
//! Invariant: it is pure, and judges by the order of the history's lines and by what scripts, senders and sinks wrote
//! themselves. What the program says of itself is a claim to be compared, never a proof.

mod deliveries;

mod lanes;

mod runs;

mod letters;

mod offers;

mod house;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::{
    history::{Event, Line},
    record::{Record, Run},
    rules::Rule,
};

/// What is judged.
pub struct Case<'a> {
    pub rules: &'a [Rule],
    pub lines: &'a [Line],
    pub record: &'a Record,
    /// Of each repository of a hook with a tree the commit that its remote offers at the end.
    pub offers: &'a BTreeMap<&'static str, String>,
}

/// A law that was broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub law: &'static str,
    pub what: String,
    /// Indices of the lines that show it.
    pub lines: Vec<usize>,
}

pub const STORED: &str = "what was acknowledged is stored";
pub const TAKEN: &str = "a genuine delivery is taken, or put off with 503";
pub const ONE_RUN: &str = "a delivery makes one run of a hook, unless that one ended badly";
pub const SAME_ANSWER: &str = "a duplicate is answered with the run that stands for it";
pub const INVENTED: &str = "no run without a push";
pub const OVERLAP: &str = "in a lane, nothing of one run is alive once the next has begun";
pub const ORDER: &str = "in a lane, runs start in the order of acceptance, and retries keep their place";
pub const FENCE: &str = "in a lane, every start has a higher fence than the one before";
pub const ENDED: &str = "every run comes to an end";
pub const STARTED_ONCE: &str = "a run is carried out once at most";
pub const ONE_OUTCOME: &str = "a run has one outcome, and keeps it";
pub const SUCCESSOR: &str = "a superseded run has a later one in its stead";
pub const LAST_PUSH: &str = "the last push of a line is not superseded";
pub const NEWEST: &str = "the newest accepted push of a line reaches the server or has an end of its own";
pub const CAUGHT_UP: &str = "what a remote offers has a run in the end, whatever was forgotten";
pub const TRUE_OUTCOME: &str = "an outcome is what the script did";
pub const RIGHT_TREE: &str = "a script sees the tree of the commit that was pushed";
pub const OWED: &str = "of every start and every end people are told, once each";
pub const ARRIVED: &str = "a letter that is owed arrives";
pub const NO_FOREIGN_LETTER: &str = "no letter arrives that is not owed";
pub const COPY: &str = "a second copy of a letter comes only after a kill of the daemon";
pub const UP: &str = "a daemon does not end by itself, but for a full disk or a bad hooks.yaml";
pub const NOTHING_LEFT: &str = "of a run that has ended no process is left";
pub const CALM: &str = "once nothing disturbs it, everything comes to an end in time";

/// Where an older database was put back, what came after it is forgotten. Names every law of those that hold all the same.
pub fn judge_what_remains(case: &Case) -> Vec<Violation> {
    let laws = [lanes::one_at_a_time, runs::begun_once, offers::judge, house::judge];
    laws.into_iter().flat_map(|it| it(case)).collect()
}

/// Names every law that was broken.
pub fn judge(case: &Case) -> Vec<Violation> {
    let laws = [deliveries::judge, lanes::judge, runs::judge, letters::judge, offers::judge, house::judge];
    laws.into_iter().flat_map(|it| it(case)).collect()
}

impl Case<'_> {
    /// The rule of a hook.
    fn rule(&self, hook: &str) -> Option<&Rule> {
        self.rules.iter().find(|it| it.name == hook)
    }

    /// The events, numbered.
    fn events(&self) -> impl Iterator<Item = (usize, &Event)> {
        self.lines.iter().enumerate().map(|(at, line)| (at, &line.event))
    }

    /// The lines in which a script of this run began.
    fn begins(&self, run: i64) -> Vec<usize> {
        self.events()
            .filter(|(_, it)| matches!(it, Event::Begin { run: it, .. } if *it == run))
            .map(|it| it.0)
            .collect()
    }
}

fn broken(law: &'static str, what: String, lines: &[usize]) -> Violation {
    Violation { law, what, lines: lines.to_vec() }
}

/// A run, for a sentence.
fn named(run: &Run) -> String {
    format!("run {} of {} ({})", run.id, run.hook, run.outcome.as_deref().unwrap_or(&run.state))
}
