//! Runs: one execution of a job each, from waiting to an outcome.
//!
//! Invariant: an outcome carries exactly the facts that are true of it, and never changes.

use std::fmt;

use crate::model::push::CommitId;

/// The number of a run. Numbers rise in the order of acceptance and are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A step of every run, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunStep {
    /// The lane is ours.
    Lock,
    /// What must be there before anything changes.
    Preflight,
    /// The commit comes into the mirror.
    Fetch,
    /// The tree is written.
    Stage,
    /// What all releases share is linked into the tree.
    Shared,
    /// Scripts before going live.
    Run,
    /// The tree gets its final name.
    Seal,
    /// The tree goes live.
    Switch,
    /// Scripts after going live.
    Activate,
    /// What must answer well is asked.
    Health,
    /// What was live before goes live again.
    Rollback,
    /// Scripts after a failure.
    OnFailure,
    /// Scripts after any end.
    Finally,
    /// What the run leaves behind is put away.
    Cleanup,
}

impl RunStep {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Lock,
        Self::Preflight,
        Self::Fetch,
        Self::Stage,
        Self::Shared,
        Self::Run,
        Self::Seal,
        Self::Switch,
        Self::Activate,
        Self::Health,
        Self::Rollback,
        Self::OnFailure,
        Self::Finally,
        Self::Cleanup,
    ];

    /// Whether a run in this step has begun to change what it deploys to. `on_failure`, `finally` and `cleanup` come
    /// after every end, so they say nothing about that.
    pub fn changes_target(self) -> bool {
        (Self::Stage..=Self::Rollback).contains(&self)
    }

    /// The word of logs, JSON and `DEPLOY_STEP`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Preflight => "preflight",
            Self::Fetch => "fetch",
            Self::Stage => "stage",
            Self::Shared => "shared",
            Self::Run => "run",
            Self::Seal => "seal",
            Self::Switch => "switch",
            Self::Activate => "activate",
            Self::Health => "health",
            Self::Rollback => "rollback",
            Self::OnFailure => "on_failure",
            Self::Finally => "finally",
            Self::Cleanup => "cleanup",
        }
    }

    /// The step of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

impl fmt::Display for RunStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// What went wrong, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In which step.
    pub step: RunStep,
    /// The script's exit code, if one ended by itself.
    pub exit_code: Option<i32>,
    /// Whether trying again may help.
    pub class: FailureClass,
    /// One sentence for people, without a full stop.
    pub reason: String,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// A script said "try again later" (exit code 75).
    Tempfail,
    /// The remote could not be reached, or broke off.
    Fetch,
    /// Anything else that another try might mend.
    Other,
    /// Another try cannot end differently: the commit is gone, the folder is not ours.
    Permanent,
}

/// The kinds of end after which a hook may want another try (`retry.on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// A script said "try again later".
    Tempfail,
    /// The fetch failed for a reason that may pass.
    Fetch,
    /// Any failure or time-out that another try might mend.
    Failure,
    /// The keeper died.
    Interrupted,
}

impl RetryClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tempfail, Self::Fetch, Self::Failure, Self::Interrupted];

    /// The word of hooks.yaml.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tempfail => "tempfail",
            Self::Fetch => "fetch",
            Self::Failure => "failure",
            Self::Interrupted => "interrupted",
        }
    }

    /// The class of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step went well.
    Succeeded,
    /// A step went wrong.
    Failed(Failure),
    /// A limit of time ran out; everything the run had started was ended.
    TimedOut(Failure),
    /// It had gone live, something went wrong then, and what was live before is live again.
    RolledBack(Failure),
    /// It had gone live, something went wrong then, and going back went wrong too.
    RollbackFailed {
        /// What went wrong first.
        failure: Failure,
        /// Why what was live before is not live again; a sentence without a full stop.
        why: String,
    },
    /// A person stopped it.
    Cancelled {
        /// In which step, if it had begun.
        step: Option<RunStep>,
        /// Who, and why if they said.
        reason: String,
    },
    /// A newer job took its place before it began.
    Superseded {
        /// The run of that job.
        by: RunId,
    },
    /// Something newer is live, and the remote no longer points at this commit.
    Stale {
        /// What is live, and how the two commits stand to one another.
        reason: String,
    },
    /// There was nothing to do.
    Skipped {
        /// In which step that turned out.
        step: RunStep,
        /// Why.
        reason: String,
    },
    /// Its keeper died; what the run had done by then is not known.
    Interrupted {
        /// The last step that had begun.
        step: Option<RunStep>,
        /// What is known of it.
        reason: String,
    },
}

impl Outcome {
    /// The word of JSON, SQL and messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::TimedOut(_) => "timed_out",
            Self::RolledBack(_) => "rolled_back",
            Self::RollbackFailed { .. } => "rollback_failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Superseded { .. } => "superseded",
            Self::Stale { .. } => "stale",
            Self::Skipped { .. } => "skipped",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// The run that took its place.
    pub fn superseded_by(&self) -> Option<RunId> {
        match self {
            Self::Superseded { by } => Some(*by),
            Self::Succeeded
            | Self::Failed(_)
            | Self::TimedOut(_)
            | Self::RolledBack(_)
            | Self::RollbackFailed { .. }
            | Self::Cancelled { .. }
            | Self::Stale { .. }
            | Self::Skipped { .. }
            | Self::Interrupted { .. } => None,
        }
    }

    /// The step that decided it.
    pub fn step(&self) -> Option<RunStep> {
        match self {
            Self::Succeeded | Self::Superseded { .. } => None,
            Self::Failed(failure) | Self::TimedOut(failure) => Some(failure.step),
            Self::RolledBack(failure) | Self::RollbackFailed { failure, .. } => Some(failure.step),
            Self::Stale { .. } => Some(RunStep::Fetch),
            Self::Skipped { step, .. } => Some(*step),
            Self::Cancelled { step, .. } | Self::Interrupted { step, .. } => *step,
        }
    }

    /// The exit code that decided it.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Succeeded => Some(0),
            Self::Failed(failure) | Self::TimedOut(failure) => failure.exit_code,
            Self::RolledBack(failure) | Self::RollbackFailed { failure, .. } => failure.exit_code,
            Self::Cancelled { .. }
            | Self::Superseded { .. }
            | Self::Stale { .. }
            | Self::Skipped { .. }
            | Self::Interrupted { .. } => None,
        }
    }

    /// One sentence that says why, without a full stop.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Succeeded => None,
            Self::Failed(failure) | Self::TimedOut(failure) | Self::RolledBack(failure) => Some(failure.reason.clone()),
            Self::RollbackFailed { failure, why } => Some(format!("{}; rolling back failed: {why}", failure.reason)),
            Self::Superseded { by } => Some(format!("superseded by run {by}")),
            Self::Cancelled { reason, .. }
            | Self::Stale { reason }
            | Self::Skipped { reason, .. }
            | Self::Interrupted { reason, .. } => Some(reason.clone()),
        }
    }

    /// Whether a run that ended so may have changed what it deploys to: a working tree, or whatever scripts can reach.
    pub fn may_have_changed(&self) -> bool {
        match self {
            // Of a run that died not even the last step is known for sure.
            Self::Succeeded | Self::RollbackFailed { .. } | Self::Interrupted { .. } => true,
            // What was live before is live again.
            Self::RolledBack(_) | Self::Superseded { .. } | Self::Stale { .. } => false,
            Self::Failed(Failure { step, .. }) | Self::TimedOut(Failure { step, .. }) | Self::Skipped { step, .. } => {
                *step >= RunStep::Stage
            }
            Self::Cancelled { step, .. } => step.is_some_and(|it| it >= RunStep::Stage),
        }
    }

    /// Whether a run that ended so had begun to change what it deploys to. Where the end does not say at which step it
    /// came, `is_noted` decides: whether such a step was noted while the run was under way.
    pub fn has_staged(&self, is_noted: bool) -> bool {
        match self {
            Self::Succeeded | Self::RolledBack(_) | Self::RollbackFailed { .. } => true,
            Self::Stale { .. } => false,
            Self::Failed(Failure { step, .. }) | Self::TimedOut(Failure { step, .. }) | Self::Skipped { step, .. } => {
                step.changes_target()
            }
            Self::Cancelled { step, .. } | Self::Interrupted { step, .. } => {
                is_noted || step.is_some_and(RunStep::changes_target)
            }
            Self::Superseded { .. } => is_noted,
        }
    }

    /// What it means for people who watch the hook.
    pub fn mood(&self) -> Mood {
        match self {
            Self::Succeeded => Mood::Good,
            Self::Failed(_)
            | Self::TimedOut(_)
            | Self::RolledBack(_)
            | Self::RollbackFailed { .. }
            | Self::Interrupted { .. } => Mood::Bad,
            Self::Cancelled { .. } | Self::Superseded { .. } | Self::Stale { .. } | Self::Skipped { .. } => {
                Mood::Neither
            }
        }
    }

    /// Whether a hook that retries after these classes wants another try.
    pub fn wants_retry(&self, on: &[RetryClass]) -> bool {
        let class = match self {
            Self::Failed(failure) | Self::TimedOut(failure) => match failure.class {
                FailureClass::Permanent => return false,
                FailureClass::Tempfail => RetryClass::Tempfail,
                FailureClass::Fetch => RetryClass::Fetch,
                FailureClass::Other => RetryClass::Failure,
            },
            Self::Interrupted { .. } => RetryClass::Interrupted,
            Self::RolledBack(failure) if failure.class == FailureClass::Tempfail => RetryClass::Tempfail,
            // A release that did not come up would not come up the next time either, unless it says so itself.
            Self::RolledBack(_) | Self::RollbackFailed { .. } => return false,
            Self::Succeeded
            | Self::Cancelled { .. }
            | Self::Superseded { .. }
            | Self::Stale { .. }
            | Self::Skipped { .. } => return false,
        };
        let is_failure = class != RetryClass::Interrupted;
        on.contains(&class) || (is_failure && on.contains(&RetryClass::Failure))
    }
}

/// What an outcome means for people who watch a hook. Only `Good` and `Bad` change what they believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It works.
    Good,
    /// It ended badly.
    Bad,
    /// It says nothing about whether the hook works.
    Neither,
}

/// What a script told about its run through `DEPLOY_OUTPUT`, and which commit the run turned out to be about.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RunFacts {
    /// The commit that was deployed, once known: a job may name only a ref.
    pub commit: Option<CommitId>,
    /// `key=value` lines, in the order of writing.
    pub fields: Vec<(String, String)>,
    /// The commit that the run left live, where a link says so. It matters of a run that did not succeed.
    pub live: Option<CommitId>,
}

#[cfg(test)]
mod tests {
    use super::{Failure, FailureClass, Outcome, RetryClass, RunStep};

    fn failed(class: FailureClass) -> Outcome {
        Outcome::Failed(Failure { step: RunStep::Run, exit_code: Some(1), class, reason: "x".into() })
    }

    #[test]
    fn a_run_that_ended_before_it_wrote_anything_has_changed_nothing_and_one_that_died_may_have() {
        let skipped = |step| Outcome::Skipped { step, reason: "x".into() };
        assert!(!skipped(RunStep::Fetch).may_have_changed());
        assert!(skipped(RunStep::Run).may_have_changed());
        assert!(failed(FailureClass::Other).may_have_changed());
        assert!(Outcome::Interrupted { step: None, reason: "x".into() }.may_have_changed());
        assert!(!Outcome::Cancelled { step: None, reason: "x".into() }.may_have_changed());
    }

    #[test]
    fn a_run_has_staged_something_only_if_its_end_or_a_step_noted_before_says_so() {
        let cancelled = |step| Outcome::Cancelled { step, reason: "x".into() };
        assert!(failed(FailureClass::Other).has_staged(false));
        assert!(!Outcome::Skipped { step: RunStep::Fetch, reason: "x".into() }.has_staged(false));
        assert!(!cancelled(None).has_staged(false) && cancelled(None).has_staged(true));
        assert!(cancelled(Some(RunStep::Stage)).has_staged(false));
        for after_every_end in [RunStep::OnFailure, RunStep::Finally, RunStep::Cleanup] {
            assert!(!cancelled(Some(after_every_end)).has_staged(false));
            assert!(cancelled(Some(after_every_end)).has_staged(true));
        }
    }

    #[test]
    fn a_failure_is_tried_again_only_where_the_hook_says_so_and_it_can_help() {
        assert!(failed(FailureClass::Tempfail).wants_retry(&[RetryClass::Tempfail]));
        assert!(!failed(FailureClass::Other).wants_retry(&[RetryClass::Tempfail, RetryClass::Fetch]));
        assert!(failed(FailureClass::Fetch).wants_retry(&[RetryClass::Failure]));
        assert!(!failed(FailureClass::Permanent).wants_retry(&RetryClass::ALL));
        assert!(!Outcome::Succeeded.wants_retry(&RetryClass::ALL));
        let interrupted = Outcome::Interrupted { step: None, reason: "x".into() };
        assert!(!interrupted.wants_retry(&[RetryClass::Failure]));
        assert!(interrupted.wants_retry(&[RetryClass::Interrupted]));
    }
}
