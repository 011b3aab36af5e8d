//! How an outcome is written down: in a run's journal and in the store.
//!
//! Invariant: what `encode` wrote, `decode` reads back unchanged.

use serde::{Deserialize, Serialize};

use crate::{
    journal::Unreadable,
    model::run::{Failure, FailureClass, Outcome, RunId, RunStep},
};

/// An outcome as JSON.
pub fn encode(outcome: &Outcome) -> String {
    serde_json::to_string(&StoredOutcome::from(outcome)).expect("an outcome is strings and numbers")
}

/// The outcome that [`encode`] wrote.
pub fn decode(text: &str) -> Result<Outcome, Unreadable> {
    let stored: StoredOutcome = serde_json::from_str(text).map_err(|err| Unreadable::new("outcome", err))?;
    Outcome::try_from(stored).map_err(|err| Unreadable::new("outcome", err))
}

/// An [`Outcome`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredOutcome {
    Succeeded,
    Failed(StoredFailure),
    TimedOut(StoredFailure),
    RolledBack(StoredFailure),
    RollbackFailed { failure: StoredFailure, why: String },
    Cancelled { step: Option<String>, reason: String },
    Superseded { by: i64 },
    Stale { reason: String },
    Skipped { step: String, reason: String },
    Interrupted { step: Option<String>, reason: String },
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredFailure {
    step: String,
    exit_code: Option<i32>,
    class: StoredClass,
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredClass {
    Tempfail,
    Fetch,
    Other,
    Permanent,
}

impl From<&Outcome> for StoredOutcome {
    fn from(outcome: &Outcome) -> Self {
        let word = |step: &RunStep| step.word().to_owned();
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed(failure) => Self::Failed(failure.into()),
            Outcome::TimedOut(failure) => Self::TimedOut(failure.into()),
            Outcome::RolledBack(failure) => Self::RolledBack(failure.into()),
            Outcome::RollbackFailed { failure, why } => {
                Self::RollbackFailed { failure: failure.into(), why: why.clone() }
            }
            Outcome::Cancelled { step, reason } => {
                Self::Cancelled { step: step.as_ref().map(word), reason: reason.clone() }
            }
            Outcome::Superseded { by } => Self::Superseded { by: by.0 },
            Outcome::Stale { reason } => Self::Stale { reason: reason.clone() },
            Outcome::Skipped { step, reason } => Self::Skipped { step: word(step), reason: reason.clone() },
            Outcome::Interrupted { step, reason } => {
                Self::Interrupted { step: step.as_ref().map(word), reason: reason.clone() }
            }
        }
    }
}

impl TryFrom<StoredOutcome> for Outcome {
    type Error = String;

    fn try_from(stored: StoredOutcome) -> Result<Self, String> {
        Ok(match stored {
            StoredOutcome::Succeeded => Self::Succeeded,
            StoredOutcome::Failed(failure) => Self::Failed(failure.try_into()?),
            StoredOutcome::TimedOut(failure) => Self::TimedOut(failure.try_into()?),
            StoredOutcome::RolledBack(failure) => Self::RolledBack(failure.try_into()?),
            StoredOutcome::RollbackFailed { failure, why } => {
                Self::RollbackFailed { failure: failure.try_into()?, why }
            }
            StoredOutcome::Cancelled { step, reason } => {
                Self::Cancelled { step: step.as_deref().map(run_step).transpose()?, reason }
            }
            StoredOutcome::Superseded { by } => Self::Superseded { by: RunId(by) },
            StoredOutcome::Stale { reason } => Self::Stale { reason },
            StoredOutcome::Skipped { step, reason } => Self::Skipped { step: run_step(&step)?, reason },
            StoredOutcome::Interrupted { step, reason } => {
                Self::Interrupted { step: step.as_deref().map(run_step).transpose()?, reason }
            }
        })
    }
}

impl From<&Failure> for StoredFailure {
    fn from(failure: &Failure) -> Self {
        Self {
            step: failure.step.word().into(),
            exit_code: failure.exit_code,
            class: match failure.class {
                FailureClass::Tempfail => StoredClass::Tempfail,
                FailureClass::Fetch => StoredClass::Fetch,
                FailureClass::Other => StoredClass::Other,
                FailureClass::Permanent => StoredClass::Permanent,
            },
            reason: failure.reason.clone(),
        }
    }
}

impl TryFrom<StoredFailure> for Failure {
    type Error = String;

    fn try_from(stored: StoredFailure) -> Result<Self, String> {
        Ok(Self {
            step: run_step(&stored.step)?,
            exit_code: stored.exit_code,
            class: match stored.class {
                StoredClass::Tempfail => FailureClass::Tempfail,
                StoredClass::Fetch => FailureClass::Fetch,
                StoredClass::Other => FailureClass::Other,
                StoredClass::Permanent => FailureClass::Permanent,
            },
            reason: stored.reason,
        })
    }
}

/// The step of a stored word.
pub(super) fn run_step(word: &str) -> Result<RunStep, String> {
    RunStep::parse(word).ok_or_else(|| format!("`{word}` is not a step"))
}
