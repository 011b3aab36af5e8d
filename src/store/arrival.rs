//! A delivery on its way into the store, and the receipt for it.
//!
//! Invariant: a receipt exists only for what is on disk.

use std::fmt;

use bytes::Bytes;

use crate::{
    forge::DedupeKey,
    model::{
        name::HookName,
        push::{CommitId, RepoName},
        run::RunId,
        source::{Forge, SourcePath},
    },
    route::Ticket,
};

/// The number of a delivery. Numbers rise in the order of acceptance and are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryNo(pub i64);

impl fmt::Display for DeliveryNo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A delivery whose sender has proven itself, and what was made of it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Where it was posted to.
    pub path: SourcePath,
    /// The kind of its sender.
    pub forge: Forge,
    /// The event it named.
    pub event: Option<String>,
    /// The sender's own id for it.
    pub delivery_id: Option<String>,
    /// What makes another request the same delivery.
    pub dedupe: Vec<DedupeKey>,
    /// Its body, as it came.
    pub body: Bytes,
    /// The commit that was pushed, if one was.
    pub commit: Option<CommitId>,
    /// The repository that was pushed to, if the forge gave its number.
    pub repository: Option<Repository>,
    /// What was made of it.
    pub verdict: Verdict,
}

/// A repository as a forge tells of it.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The forge's own number of it, which it keeps when it is renamed or transferred.
    pub number: u64,
    /// What it is called now.
    pub name: RepoName,
    /// Whether a hook of the address names it so.
    pub is_named: bool,
}

/// What was made of a delivery.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It starts jobs.
    Queue {
        /// One for each hook that wants it.
        tickets: Vec<Ticket>,
        /// The hooks that do not want it, each with the rule that says so.
        refused: Vec<(HookName, String)>,
    },
    /// It starts none.
    Aside {
        /// The word of the answer (`ignored`, `pong`, `bad_json` ...).
        result: &'static str,
        /// One sentence that names the rule.
        message: String,
    },
}

/// What became of a delivery. It is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub delivery: DeliveryNo,
    /// Whether it made runs.
    pub accepted: Accepted,
    /// The runs it made; those that were there already, if it is a duplicate.
    pub runs: Vec<(RunId, HookName)>,
    /// One sentence for the sender, as stored.
    pub message: String,
    /// Hooks whose repository turned out to have a new name, which was not known before.
    pub renamed: Vec<(HookName, RepoName)>,
}

/// Whether a delivery made runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It did.
    Queued,
    /// The same delivery had done so before.
    Duplicate,
    /// It was not to start any.
    Aside(&'static str),
}

impl Accepted {
    /// The word of the answer.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Duplicate => "duplicate",
            Self::Aside(word) => word,
        }
    }
}
