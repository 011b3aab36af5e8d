//! The store as it is meant: the same verbs over plain maps, in one thread, without a disk.
//!
//! It is written from what the verbs promise, not from how an engine does it, and it never fails. Whoever crashes just
//! does not ask it. Numbers rise by one, as those of SQLite do.

mod arrive;
mod clock;
mod displaced;
mod ends;
mod letters;
mod line;
mod show;

pub use self::{
    ends::{CANCEL_REASON, TROUBLE, fields},
    letters::POST_TROUBLE,
    line::STOP_REASON,
};

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use landfall::{
    model::{
        job::{Job, Target},
        run::{Outcome, RunStep},
    },
    store::Hold,
};

use crate::{
    acts::{Act, Answer, Right},
    cast::HOOKS,
    verbs::Deed,
};

/// The store as it is meant.
#[derive(Clone, Debug)]
pub struct Model {
    hooks: BTreeMap<String, Book>,
    lanes: BTreeMap<String, Lane>,
    /// By number, from 1.
    runs: BTreeMap<i64, Run>,
    deliveries: BTreeMap<i64, Delivery>,
    letters: BTreeMap<i64, Letter>,
    holds: BTreeMap<Option<String>, Hold>,
    /// The latest time that it was told, by which jobs are ranked.
    latest: Timestamp,
}

/// What is remembered of a hook.
#[derive(Clone, Debug, Default)]
struct Book {
    /// What people last heard of it: that it works, or that it does not.
    works: Option<bool>,
    live: Option<String>,
    began_at: Option<Timestamp>,
    yields_in_a_row: u32,
    /// By the name of a key.
    seen: BTreeMap<String, Seen>,
    /// By ref: the newest delivery that was queued of those that are known by their bodies alone.
    newest: BTreeMap<Option<String>, i64>,
    /// The run that found out, by commit.
    bad_commits: BTreeMap<String, i64>,
}

/// What was made of the newest delivery with a key.
#[derive(Clone, Copy, Debug)]
struct Seen {
    run: i64,
    delivery: i64,
    at: Timestamp,
    /// How often deliveries with it were queued.
    times: u32,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    places: u64,
    fence: i64,
    stopped: Option<(String, Timestamp)>,
}

#[derive(Clone, Debug)]
struct Run {
    job: Job,
    lane: String,
    delivery: Option<i64>,
    created_at: Timestamp,
    /// The run that repeats it.
    next: Option<i64>,
    /// The run by which its push was accepted first.
    first: i64,
    /// The run that stands in its place, if one took it.
    taken_by: Option<i64>,
    /// Of a run that has ended: whether it had begun to change what it deploys to.
    has_staged: bool,
    vain_starts: u32,
    trouble: Option<String>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Waits { place: Place, not_before: NotBefore },
    InHand { place: Place, hand: Hand },
    Ended { end: End },
}

/// Its place in the line, which it has as long as it has not ended.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// In the lane: the lowest comes first.
    number: u64,
    /// Since when its turn, or that of those whose place it took, has been waited for.
    since: Timestamp,
    /// Among lanes: the lowest comes first.
    rank: i64,
}

/// Until when it waits.
#[derive(Clone, Copy, Debug)]
enum NotBefore {
    Now,
    At(Timestamp),
    /// Between these; which it is, the store decides.
    Within(Timestamp, Timestamp),
}

#[derive(Clone, Debug)]
struct Hand {
    fence: i64,
    started_at: Option<Timestamp>,
    step: Option<RunStep>,
    /// Whether a step was noted that comes after staging.
    has_staged: bool,
    cancel_asked: Option<String>,
    yields_to: Option<i64>,
}

#[derive(Clone, Debug)]
struct End {
    outcome: Outcome,
    at: Timestamp,
    /// Of the claim it ended in.
    fence: Option<i64>,
    started_at: Option<Timestamp>,
    commit: Option<String>,
    fields: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Delivery {
    event: String,
    received_at: Timestamp,
    word: String,
    body: String,
    runs: Vec<i64>,
}

#[derive(Clone, Debug)]
struct Letter {
    run: i64,
    occasion: &'static str,
    address: String,
    attempts: u32,
    is_in_hand: bool,
    why: Option<String>,
    state: Post,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Post {
    Due(Option<Timestamp>),
    Sent(Timestamp),
    GivenUp(Timestamp),
}

impl Model {
    /// A new one.
    pub fn new() -> Self {
        Self {
            hooks: HOOKS.into_iter().map(|it| (it.to_owned(), Book::default())).collect(),
            lanes: BTreeMap::new(),
            runs: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            letters: BTreeMap::new(),
            holds: BTreeMap::new(),
            latest: Timestamp::UNIX_EPOCH,
        }
    }

    /// Does what is asked, and says what a store has to answer.
    pub fn carry_out(&mut self, act: &Act, now: Timestamp) -> Answer {
        self.hear_the_time(now);
        match act {
            Act::Receive(deliveries) => Answer::Received(deliveries.iter().map(|it| self.receive(it, now)).collect()),
            Act::Ask(ticket) => Answer::Queued(self.append(ticket.job(), (None, None), now)),
            Act::Claim => self.claim(now),
            Act::Adopt => self.adopt(),
            Act::TellTime => Answer::Done,
            Act::Open => {
                self.take_letters_back();
                Answer::Done
            }
            Act::Deed { right, deed, .. } => self.deed(right, *deed, now),
            Act::Cancel(run) => Answer::Cancelled(self.cancel(*run, now)),
            Act::OpenLane(lane) => Answer::Was(self.lane(lane).stopped.take().is_some()),
            Act::Hold(hold) => {
                let key = hold.hook.as_ref().map(ToString::to_string);
                let since = self.holds.get(&key).map_or(hold.since, |it| it.since);
                self.holds.insert(key, Hold { since, ..hold.clone() });
                Answer::Done
            }
            Act::Resume(hook) => Answer::Was(self.holds.remove(&hook.as_ref().map(ToString::to_string)).is_some()),
            Act::Forgive(hook, commit) => {
                Answer::Was(self.book(hook.as_str()).bad_commits.remove(commit.as_str()).is_some())
            }
            Act::NextLetter => self.next_letter(now),
            Act::Post { letter, attempts, posting } => self.post(*letter, *attempts, *posting, now),
        }
    }

    fn deed(&mut self, right: &Right, deed: Deed, now: Timestamp) -> Answer {
        match deed {
            Deed::Start => self.start(right, now),
            Deed::NoteStep(step) => self.note_step(right, step),
            Deed::Finish(end) => self.finish(right, &end.outcome(), now),
            Deed::GiveBack(in_vain) => self.give_back(right, in_vain, now),
            Deed::StopLane => self.stop_lane(right, now),
        }
    }

    fn book(&mut self, hook: &str) -> &mut Book {
        self.hooks.entry(hook.to_owned()).or_default()
    }

    fn lane(&mut self, lane: &str) -> &mut Lane {
        self.lanes.entry(lane.to_owned()).or_default()
    }

    fn run(&mut self, run: i64) -> &mut Run {
        self.runs.get_mut(&run).expect("a run of the model")
    }
}

impl Run {
    fn hook(&self) -> &str {
        self.job.hook.name.as_str()
    }

    fn place(&self) -> Option<(Place, NotBefore)> {
        match &self.stage {
            Stage::Waits { place, not_before } => Some((*place, *not_before)),
            Stage::InHand { .. } | Stage::Ended { .. } => None,
        }
    }

    /// Its place and its holder's, if that is who has this right.
    fn held_by(&self, right: &Right) -> Option<(Place, Hand)> {
        match &self.stage {
            Stage::InHand { place, hand } if hand.fence == right.fence => Some((*place, hand.clone())),
            Stage::InHand { .. } | Stage::Waits { .. } | Stage::Ended { .. } => None,
        }
    }
}

fn ref_name(job: &Job) -> Option<String> {
    job.target.ref_name().map(landfall::model::push::RefName::full)
}

fn commit(target: &Target) -> Option<String> {
    target.commit().map(ToString::to_string)
}

fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.saturating_add(wait).expect("a time")
}
