//! What the store shows of itself: plain facts, paged by key.
//!
//! Invariant: a view is one consistent look, and no page costs more because history is long.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::{
    model::{
        job::Job,
        letter::{Address, LetterId, Occasion},
        name::{HookName, LaneName},
        push::{CommitId, RepoName},
        run::{Outcome, RunId, RunStep},
        source::{Forge, SourcePath},
    },
    store::{arrival::DeliveryNo, claims::Stop},
};

/// What a database did not know any more when it was opened: it was put back, lost or emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When that was noticed.
    pub at: Timestamp,
    /// The last run that it knew; number 0: none.
    pub known: RunId,
    /// The last run of which there was a folder.
    pub found: RunId,
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { known, found, .. } = self;
        match known.0 {
            0 => write!(out, "the store was empty, and there were folders of runs up to {found}"),
            _ => write!(out, "the store knew runs up to {known}, and there were folders of runs up to {found}"),
        }?;
        out.write_str(": it was put back, lost or emptied, and pushes that came in between are not in it")
    }
}

/// A run as it stands.
#[derive(Clone, Debug)]
pub struct RunView {
    /// Its number.
    pub id: RunId,
    /// Its hook.
    pub hook: HookName,
    /// Its lane.
    pub lane: LaneName,
    /// How far it is.
    pub state: RunState,
    /// What is, or was, to be done.
    pub job: Job,
    /// The commit, once known.
    pub commit: Option<CommitId>,
    /// The delivery behind it.
    pub delivery: Option<DeliveryNo>,
    /// The run that repeats it.
    pub repeated_by: Option<RunId>,
    /// The fence of its last claim; `None`: it never was claimed, or waits again.
    pub fence: Option<i64>,
    /// The waiting runs whose place it took; what they were to deploy comes with it.
    pub supersedes: Vec<RunId>,
    /// What its scripts told about it.
    pub fields: Vec<(String, String)>,
    /// Whether its folder, with log and journal, may still be there.
    pub has_folder: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
}

/// A run of which something stored cannot be read, since the database was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRun {
    /// Its number.
    pub id: RunId,
    /// Its hook, as far as that can be read.
    pub hook: String,
    /// Its lane, as far as that can be read.
    pub lane: String,
    /// How far it is.
    pub stage: RunStage,
    /// When it was accepted, if that can be read.
    pub created_at: Option<Timestamp>,
    /// What cannot be read, and why.
    pub why: String,
}

/// A run in a list: one that cannot be read keeps nobody from seeing the others.
#[derive(Clone, Debug)]
pub enum ListedRun {
    /// As it stands.
    Whole(Box<RunView>),
    /// What is left of it.
    Unreadable(UnreadableRun),
}

impl ListedRun {
    /// Its number.
    pub fn id(&self) -> RunId {
        match self {
            Self::Whole(view) => view.id,
            Self::Unreadable(run) => run.id,
        }
    }

    /// The run, if it can be read.
    pub fn whole(self) -> Option<RunView> {
        match self {
            Self::Whole(view) => Some(*view),
            Self::Unreadable(_) => None,
        }
    }

    /// How far it is.
    pub fn stage(&self) -> RunStage {
        match self {
            Self::Whole(view) => view.state.stage(),
            Self::Unreadable(run) => run.stage,
        }
    }
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It waits.
    Queued {
        /// Not before; `None`: as soon as its lane and a worker are free.
        not_before: Option<Timestamp>,
        /// Why it is on hold, if it is.
        hold: Option<String>,
        /// Why it could not be started when that was tried last, if that went wrong.
        trouble: Option<String>,
    },
    /// It has begun.
    Running {
        /// When.
        since: Timestamp,
        /// The step it is at.
        step: RunStep,
        /// Why it is to stop, if it is.
        stop: Option<Stop>,
    },
    /// It has ended.
    Finished {
        /// When it began, if it did.
        started_at: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
}

impl RunState {
    /// The state without its facts.
    pub fn stage(&self) -> RunStage {
        match self {
            Self::Queued { .. } => RunStage::Queued,
            Self::Running { .. } => RunStage::Running,
            Self::Finished { .. } => RunStage::Finished,
        }
    }
}

/// The three states of a run, as people name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStage {
    /// It waits.
    Queued,
    /// It has begun.
    Running,
    /// It has ended.
    Finished,
}

impl RunStage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Queued, Self::Running, Self::Finished];

    /// The word of JSON and the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
        }
    }

    /// The stage of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// Which runs to show, newest first.
#[derive(Clone, Debug)]
pub struct RunFilter {
    /// Of this hook only.
    pub hook: Option<HookName>,
    /// In this state only.
    pub stage: Option<RunStage>,
    /// Older than this one: the last of the page before.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: u32,
}

/// A delivery as it was judged.
#[derive(Clone, Debug)]
pub struct DeliveryView {
    /// Its number.
    pub id: DeliveryNo,
    /// Where it was posted to.
    pub path: SourcePath,
    /// The kind of its sender.
    pub forge: Forge,
    /// The event it named.
    pub event: Option<String>,
    /// The sender's own id for it.
    pub delivery_id: Option<String>,
    /// When it came.
    pub received_at: Timestamp,
    /// The word of the answer.
    pub result: String,
    /// The sentence of the answer.
    pub message: String,
    /// The runs it made, or, if it is a duplicate, the ones that were there already.
    pub runs: Vec<(RunId, HookName)>,
}

/// Which deliveries to show, newest first.
#[derive(Clone, Debug)]
pub struct DeliveryFilter {
    /// Posted here only.
    pub path: Option<SourcePath>,
    /// Older than this one: the last of the page before.
    pub before: Option<DeliveryNo>,
    /// At most so many.
    pub limit: u32,
}

/// A letter as it stands.
#[derive(Clone, Debug)]
pub struct LetterView {
    /// Its number.
    pub id: LetterId,
    /// What it tells of.
    pub occasion: Occasion,
    /// To whom.
    pub address: Address,
    /// How often it was tried.
    pub attempts: u32,
    /// How far it is.
    pub state: LetterState,
}

/// How far a letter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// It waits, or is being sent.
    Owed {
        /// Not before; `None`: at once.
        due: Option<Timestamp>,
        /// What went wrong last.
        why: Option<String>,
    },
    /// The far side has it.
    Sent {
        /// Since when.
        at: Timestamp,
    },
    /// It will not be sent.
    GivenUp {
        /// Since when.
        at: Timestamp,
        /// Why.
        why: String,
    },
}

/// A hook at a glance.
#[derive(Clone, Debug)]
pub struct HookSummary {
    /// Its last succeeded commit.
    pub live: Option<CommitId>,
    /// The newest run since then that may have changed what stands there, and did not succeed.
    pub disturbed: Option<Disturbed>,
    /// Its newest run that has ended.
    pub last: Option<ListedRun>,
    /// Its run that is in somebody's hands.
    pub active: Option<ListedRun>,
    /// How many of its runs wait.
    pub waiting: u64,
    /// Its commits that did not come up and are not queued again, newest first.
    pub bad_commits: Vec<BadCommit>,
    /// What the forge calls its repository by now, if a push told of a new name since the last one that was queued.
    pub renamed_to: Option<RepoName>,
}

/// A run that may have changed what was live, and did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbed {
    /// Which.
    pub run: RunId,
    /// Its commit, as far as that is known.
    pub commit: Option<CommitId>,
}

/// What a person has put on hold: its jobs wait, and newer ones take their places as ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which hook; `None`: all of them.
    pub hook: Option<HookName>,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; `None`: when a person ends it.
    pub until: Option<Timestamp>,
}

/// A commit that went live and did not come up: pushes of it are not queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCommit {
    /// Which.
    pub commit: CommitId,
    /// The run that found out.
    pub run: RunId,
    /// Since when.
    pub since: Timestamp,
}

/// A lane from which nothing is claimed until a person opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedLane {
    /// Which.
    pub lane: LaneName,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// How much there is to do. What is done is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Runs that wait.
    pub queued: u64,
    /// Runs in somebody's hands.
    pub running: u64,
    /// Letters that are owed.
    pub letters: u64,
}

/// From before when what is kept is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// Folders of runs that ended before this.
    pub logs_before: Timestamp,
    /// Bodies of deliveries that came before this.
    pub bodies_before: Timestamp,
}

/// Whether the clock of the machine is believed about what is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It is.
    Believed,
    /// It is far from where it was last.
    NotYet {
        /// Where that was.
        last: Timestamp,
        /// How long the daemon has to run until it is believed all the same.
        left: Duration,
    },
}

/// What retention did in one small step.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Runs whose folders are to be removed from disk now; [`crate::store::Store::folders_removed`] confirms it.
    pub folders: Vec<RunId>,
    /// Whether another step would find more to do.
    pub more: bool,
}
