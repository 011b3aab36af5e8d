//! Rights: to carry out a run, to send a letter. Using one up moves it.
//!
//! Invariant: only the store makes a claim, and of one run or letter only the newest is honoured.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    journal::spec::RunToken,
    model::{
        job::Job,
        letter::Letter,
        name::{HookName, LaneName},
        run::{Outcome, RunId},
    },
    store::{StoreError, arrival::DeliveryNo},
};

/// The right to carry out one run. [`crate::store::Store::finish`] takes it, so a run is not finished twice.
#[derive(Debug)]
#[must_use = "a dropped claim leaves its run, and its lane, to the next start of the daemon"]
pub struct Claim {
    pub(super) run: RunId,
    pub(super) lane: LaneName,
    pub(super) fence: i64,
    pub(super) delivery: Option<DeliveryNo>,
    pub(super) token: Option<RunToken>,
    pub(super) hold: Option<String>,
    pub(super) job: Arc<Job>,
}

impl Claim {
    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// What is to be done.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// The hook it is done for.
    pub fn hook(&self) -> &HookName {
        &self.job.hook.name
    }

    /// The line it waited in, which is blocked until the claim is used up.
    pub fn lane(&self) -> &LaneName {
        &self.lane
    }

    /// The lane's fence: every later claim of the lane has a higher one.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// The delivery behind it, if a push was.
    pub fn delivery(&self) -> Option<DeliveryNo> {
        self.delivery
    }

    /// The word by which the run is told from every other, also from one of the same number in a database that was put
    /// back. `None`: it was started by a Landfall that knew no such words.
    pub fn token(&self) -> Option<&RunToken> {
        self.token.as_ref()
    }

    /// Why a run that has not begun is not to begin, if that is so: its commit went live in another run since it was
    /// accepted, and did not come up. What a person asks for is not held.
    pub fn hold(&self) -> Option<&str> {
        self.hold.as_deref()
    }

    pub(super) fn right(&self) -> Right {
        Right { run: self.run, fence: self.fence }
    }
}

/// What of a claim goes to the writer: enough to be refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right {
    pub(super) run: RunId,
    pub(super) fence: i64,
}

/// What a look at the queue gave.
#[derive(Debug)]
pub enum Claimed {
    /// A run to carry out.
    Run(Claim),
    /// Nothing now; `Some`: the first that waits for its time may be claimed then.
    NothingUntil(Option<Timestamp>),
}

/// A run that was in somebody's hands when the daemon ended.
#[derive(Debug)]
pub struct Adopted {
    /// The right to it; the earlier one is void.
    pub claim: Claim,
    /// Whether the store knows that it began. If not, only the run's journal can tell.
    pub started: bool,
}

/// What finishing a run led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The run that tries it again, and will tell people.
    pub retry: Option<RunId>,
}

/// What became of a run that was given back without having begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// It waits in its place again.
    Waits {
        /// Not before; `None`: it may be claimed at once.
        not_before: Option<Timestamp>,
    },
    /// It has ended instead: a person or a newer run wanted it to, or it could not be started too often.
    Ended(Outcome),
}

/// What became of a wish to stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not begun, and has ended.
    Ended,
    /// It is in somebody's hands, who is asked to stop it.
    Asked,
    /// It had ended before.
    AlreadyFinished,
    /// There is no such run.
    Unknown,
}

/// Why a run under way is to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A person wants it; the sentence says who, and why if they said.
    Cancel(String),
    /// A newer run is to have its place, unless it is going live already.
    Yield {
        /// The newer run.
        to: RunId,
    },
}

/// A verb that takes a claim failed, and gives it back.
#[derive(Debug)]
#[must_use = "the claim in it is still to be used up, unless it is fenced"]
pub struct Kept<C> {
    /// The claim, for another try.
    pub claim: C,
    /// Why.
    pub error: StoreError,
}

/// What a look at the outbox gave.
#[derive(Debug)]
pub enum LetterTurn {
    /// A letter to send.
    Letter(LetterClaim),
    /// Nothing now; `Some`: the first that waits for its time is due then.
    NothingUntil(Option<Timestamp>),
}

/// The right to send one letter. Dropped, it comes back by itself after a while.
#[derive(Debug)]
#[must_use = "a dropped letter is sent late"]
pub struct LetterClaim {
    pub(super) letter: Letter,
}

impl LetterClaim {
    /// The letter.
    pub fn letter(&self) -> &Letter {
        &self.letter
    }
}
