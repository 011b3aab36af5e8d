//! Jobs: what is to be done, frozen when the push was accepted.
//!
//! Invariant: a job holds the hook as it was when the push arrived, so a reload never changes a waiting run.

use std::{fmt, sync::Arc};

use crate::model::{
    hook::Hook,
    push::{CommitId, Push, RefName},
    release::ReleaseName,
    run::RunId,
    word::words,
};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Job {
    /// The hook as it was when the push arrived, or as of what else is said here.
    pub hook: Arc<Hook>,
    /// As of when.
    pub hook_as_of: AsOf,
    /// Why there is a job at all.
    pub trigger: Trigger,
    /// How much of it a person asked for; a retry of its own accord asks no more than what it repeats.
    pub asked: Asked,
    /// Who is behind it: the pusher, or the person at the command line.
    pub actor: String,
    /// Which commit.
    pub target: Target,
    /// The push behind it; also kept when the job is a retry of one that a push made.
    pub push: Option<Push>,
    /// Which execution of it this is; 1 is the first.
    pub attempt: u32,
    /// The run this one repeats.
    pub retry_of: Option<RunId>,
}

words! {
    /// How much of a job a person asked for, and so how far its commit is held against what is live.
    Asked {
        /// Nothing: it came with a push. What would change nothing is skipped, and what is older than what is live is
        /// left out unless the remote has it now.
        Push = "push",
        /// That a push is deployed once more. Nothing is skipped; the order of commits is kept all the same.
        Again = "again",
        /// Just this commit or ref. Nothing that is live speaks against it.
        ByHand = "by_hand",
        /// Nothing: an event that is no push brought it. What changed is outside of the repository, so nothing is
        /// skipped and no commit is too old.
        Event = "event",
    }
}

words! {
    /// As of when a job holds its hook.
    AsOf {
        /// When the push arrived, or a person first asked for it.
        Acceptance = "acceptance",
        /// When a person asked for the run once more.
        Retry = "retry",
    }
}

impl Asked {
    /// Whether a person asked for just this to be deployed.
    pub fn is_by_a_person(self) -> bool {
        match self {
            Self::Again | Self::ByHand => true,
            Self::Push | Self::Event => false,
        }
    }
}

impl Job {
    /// Whether it came with a tag that was not there before. One that was moved had a commit before.
    pub fn brings_new_tag(&self) -> bool {
        let is_tag = matches!(self.target.ref_name(), Some(RefName::Tag(_)));
        is_tag && self.push.as_ref().is_some_and(|it| it.before.is_none())
    }
}

/// Which commit a job is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Exactly this one.
    Commit {
        /// Its id.
        commit: CommitId,
        /// The ref it was pushed to, if one is known.
        ref_name: Option<RefName>,
    },
    /// Where this ref points when the run begins; only people ask for that.
    Ref(RefName),
    /// Where the remote's default branch points when the run begins; only people ask for that.
    DefaultBranch,
    /// A release that stands already and was good; only people ask for that.
    Release {
        /// Which.
        name: ReleaseName,
        /// Its commit, if that is known.
        commit: Option<CommitId>,
        /// Why it is gone back to, if they say.
        reason: Option<String>,
    },
    /// The folder that stands where the link to the live release belongs; only people ask for that.
    Standing,
}

impl Target {
    /// The commit, if it is known before the run.
    pub fn commit(&self) -> Option<&CommitId> {
        match self {
            Self::Commit { commit, .. } => Some(commit),
            Self::Release { commit, .. } => commit.as_ref(),
            Self::Ref(_) | Self::DefaultBranch | Self::Standing => None,
        }
    }

    /// Whether its code is still to be brought here.
    pub fn is_fetched(&self) -> bool {
        match self {
            Self::Commit { .. } | Self::Ref(_) | Self::DefaultBranch => true,
            Self::Release { .. } | Self::Standing => false,
        }
    }

    /// The ref, if it is known before the run.
    pub fn ref_name(&self) -> Option<&RefName> {
        match self {
            Self::Commit { ref_name, .. } => ref_name.as_ref(),
            Self::Ref(ref_name) => Some(ref_name),
            Self::DefaultBranch | Self::Release { .. } | Self::Standing => None,
        }
    }
}

/// Why there is a job at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A branch was pushed.
    Push,
    /// A tag was pushed.
    Tag,
    /// A person asked for it.
    Manual,
    /// An earlier run ended badly, or a person asked for it again.
    Retry,
    /// A person asked for what was live before.
    Rollback,
    /// The remote has what no delivery brought.
    CatchUp,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Push, Self::Tag, Self::Manual, Self::Retry, Self::Rollback, Self::CatchUp];

    /// The word of JSON, SQL and `DEPLOY_TRIGGER`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Tag => "tag",
            Self::Manual => "manual",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
            Self::CatchUp => "catch_up",
        }
    }

    /// The trigger of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}
