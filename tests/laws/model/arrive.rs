//! How deliveries are taken in: known again or not, and what they push aside.

use std::time::Duration;

use jiff::Timestamp;
use landfall::{
    forge::DedupeKey,
    model::{
        deploy::Strategy,
        hook::QueuePolicy,
        job::Job,
        run::{Mood, Outcome, RunId},
    },
};

use super::{Book, Delivery, End, Model, NotBefore, Place, Run, Seen, Stage, commit, later, ref_name};
use crate::acts::{Answer, Delivery as Parcel, Receipt};

/// What a point of priority is worth.
const POINT: Duration = Duration::from_secs(60);

/// So many times its `debounce` is the longest wait for quiet.
const DEBOUNCES_MAX: u32 = 10;

/// So many runs in a row make room for a newer push.
const YIELDS_MAX: u32 = 2;

/// So many runs come of one delivery.
const RUNS_MAX: u32 = 4;

/// What came of a delivery in vain.
#[derive(Default)]
struct InVain {
    /// The last runs.
    runs: Vec<i64>,
    /// The run by which it was accepted first.
    first: Option<i64>,
    /// How often it was queued.
    times: u32,
}

/// Which waiting jobs a job pushes aside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaces {
    Nothing,
    SameRef,
    /// What comes from any branch of the hook, or from no ref that is known.
    AnyBranch,
}

impl Replaces {
    /// Only what a delivery brought takes places.
    pub(super) fn of(job: &Job, delivery: Option<i64>) -> Self {
        if delivery.is_none() {
            return Self::Nothing;
        }
        let has_one_path = match job.hook.deploy.strategy {
            Strategy::InPlace { .. } | Strategy::Releases { .. } => true,
            Strategy::Checkout { .. } | Strategy::None { .. } => false,
        };
        match job.hook.queue {
            QueuePolicy::All => Self::Nothing,
            QueuePolicy::Latest | QueuePolicy::Cancel if has_one_path && !is_tag(ref_name(job).as_ref()) => {
                Self::AnyBranch
            }
            QueuePolicy::Latest | QueuePolicy::Cancel => Self::SameRef,
        }
    }

    /// Whether a job that replaces so takes the place of that run, which is of the same hook.
    fn takes(self, own: Option<&String>, older: &Job) -> bool {
        match self {
            Self::Nothing => false,
            Self::SameRef => own == ref_name(older).as_ref(),
            Self::AnyBranch => !is_tag(ref_name(older).as_ref()),
        }
    }
}

impl Run {
    /// Whether it takes the place of an older one with this job.
    fn takes_place_of(&self, older: &Job) -> bool {
        let own = ref_name(&self.job);
        self.job.hook.name == older.hook.name && Replaces::of(&self.job, self.delivery).takes(own.as_ref(), older)
    }
}

fn is_tag(ref_name: Option<&String>) -> bool {
    ref_name.is_some_and(|it| it.starts_with("refs/tags/"))
}

impl Model {
    pub(super) fn receive(&mut self, parcel: &Parcel, now: Timestamp) -> Answer {
        let delivery = i64::try_from(self.deliveries.len()).expect("few") + 1;
        let (mut queued, mut repeated) = (Vec::new(), Vec::new());
        for job in parcel.jobs() {
            match self.stands(job, &parcel.keys, now) {
                Ok(run) => repeated.push(run),
                Err(in_vain) => {
                    let bad = &self.book(job.hook.name.as_str()).bad_commits;
                    if commit(&job.target).is_some_and(|it| bad.contains_key(&it)) {
                        continue;
                    }
                    if let Some(run) = self.instead_of(&in_vain, job) {
                        repeated.push(run);
                        continue;
                    }
                    let run = self.append(job, (Some(delivery), in_vain.first), now);
                    in_vain.runs.iter().for_each(|earlier| self.run(*earlier).next = Some(run));
                    queued.push(run);
                    let book = self.book(job.hook.name.as_str());
                    let seen = Seen { run, delivery, at: now, times: in_vain.times + 1 };
                    book.seen.extend(parcel.keys.iter().map(|key| (name(key), seen)));
                    if parcel.keys.iter().any(|it| matches!(it, DedupeKey::BodyWithin(..))) {
                        book.newest.insert(ref_name(job), delivery);
                    }
                }
            }
        }
        let (word, runs) = match (parcel.tickets.is_empty(), queued.is_empty(), repeated.is_empty()) {
            (true, ..) => ("ignored", queued),
            (false, false, _) => ("queued", queued),
            (false, true, false) => ("duplicate", repeated),
            (false, true, true) => ("held", queued),
        };
        let mut sorted = runs.clone();
        sorted.sort_unstable();
        let (word, body) = (word.to_owned(), String::from_utf8_lossy(&parcel.body).into_owned());
        let (event, received_at) = (parcel.event.clone(), now);
        let stored = Delivery { event, received_at, word: word.clone(), body, runs: sorted };
        self.deliveries.insert(delivery, stored);
        Answer::Receipt(Receipt { delivery, word, runs, message: String::new() })
    }

    /// The run that stands for a delivery; else what came of it in vain.
    fn stands(&mut self, job: &Job, keys: &[DedupeKey], now: Timestamp) -> Result<i64, InVain> {
        let Book { seen, newest, .. } = self.book(job.hook.name.as_str());
        let newest = newest.get(&ref_name(job)).copied();
        let known = keys.iter().filter_map(|key| seen.get(&name(key)).map(|it| (key, *it)));
        let same = known.filter(|(key, it)| match key {
            DedupeKey::Id(_) | DedupeKey::Body(_) => true,
            DedupeKey::Named(_) => false,
            DedupeKey::BodyWithin(_, window) => {
                now <= later(it.at, *window)
                    && it.at <= later(now, *window)
                    && newest.is_none_or(|newest| newest <= it.delivery)
            }
        });
        let mut in_vain = InVain::default();
        for seen in same.map(|(_, it)| it).collect::<Vec<_>>() {
            let (mut run, mut first) = (seen.run, self.runs[&seen.run].first);
            while let Some(next) = self.runs[&run].next {
                run = next;
                first = first.min(self.runs[&run].first);
            }
            match &self.runs[&run].stage {
                Stage::Ended { end } if is_in_vain(&end.outcome) => {
                    in_vain.runs.push(run);
                    in_vain.first = Some(in_vain.first.map_or(first, |it| it.min(first)));
                    in_vain.times = in_vain.times.max(seen.times);
                }
                Stage::Ended { .. } | Stage::Waits { .. } | Stage::InHand { .. } => return Ok(run),
            }
        }
        Err(in_vain)
    }

    /// The run that makes it needless to queue once more what was in vain: the last of as many as there may be, or one
    /// of a newer push.
    fn instead_of(&self, in_vain: &InVain, job: &Job) -> Option<i64> {
        let first = in_vain.first?;
        match in_vain.times {
            RUNS_MAX.. => in_vain.runs.iter().max().copied(),
            _ => self.newest_taker((first, job), |it| !matches!(it.stage, Stage::Ended { .. })),
        }
    }

    /// A new run at the end of its lane.
    pub(super) fn append(&mut self, job: &Job, (delivery, first): (Option<i64>, Option<i64>), now: Timestamp) -> i64 {
        let (hook, lane) = (job.hook.name.as_str(), job.hook.lane.as_str());
        let run = self.next_run();
        self.lane(lane).places += 1;
        let own_rank = self.latest.as_millisecond() - i64::from(job.hook.priority) * millis(POINT);
        let mut place = Place { number: self.lane(lane).places, since: now, rank: own_rank };
        let first = first.unwrap_or(run);
        for (since, rank) in self.supersede((job, delivery), (run, first), now) {
            place.since = place.since.min(since);
            place.rank = place.rank.min(rank);
        }
        let mut not_before = NotBefore::Now;
        if delivery.is_some() {
            if !job.hook.debounce.is_zero() {
                self.wait_longer(hook, job.hook.debounce, now);
                not_before = NotBefore::At(quiet(job.hook.debounce, place.since, now));
            }
            if job.hook.queue == QueuePolicy::Cancel && self.book(hook).yields_in_a_row < YIELDS_MAX {
                self.make_room((job, delivery), (run, first));
            }
        }
        self.insert(job, lane, delivery, now, Stage::Waits { place, not_before });
        self.run(run).first = first;
        run
    }

    pub(super) fn next_run(&self) -> i64 {
        i64::try_from(self.runs.len()).expect("few") + 1
    }

    pub(super) fn insert(&mut self, job: &Job, lane: &str, delivery: Option<i64>, now: Timestamp, stage: Stage) {
        let run = self.next_run();
        if let Some(RunId(repeated)) = job.retry_of {
            self.run(repeated).next = Some(run);
        }
        let lane = lane.to_owned();
        let new = Run {
            job: job.clone(),
            lane,
            delivery,
            created_at: now,
            next: None,
            first: run,
            taken_by: None,
            has_staged: false,
            vain_starts: 0,
            trouble: None,
            stage,
        };
        self.runs.insert(run, new);
    }

    /// Ends those whose place a new run takes. Gives since when they had waited, and how they ranked.
    fn supersede(
        &mut self,
        (job, delivery): (&Job, Option<i64>),
        (by, first): (i64, i64),
        now: Timestamp,
    ) -> Vec<(Timestamp, i64)> {
        let (replaces, own) = (Replaces::of(job, delivery), ref_name(job));
        let of_hook = self.runs.values_mut().filter(|it| it.job.hook.name == job.hook.name);
        let mut taken = Vec::new();
        for run in of_hook.filter(|it| it.first < first && replaces.takes(own.as_ref(), &it.job)) {
            if let Some((place, _)) = run.place() {
                taken.push((place.since, place.rank));
                run.stage = Stage::Ended { end: End::unclaimed(Outcome::Superseded { by: RunId(by) }, now) };
                run.taken_by = Some(by);
            }
        }
        taken
    }

    /// The newest waiting run of a newer push that takes the place of this one.
    pub(super) fn replaced_by(&self, run: i64) -> Option<i64> {
        let run = &self.runs[&run];
        self.newest_taker((run.first, &run.job), |it| it.place().is_some())
    }

    /// The newest of such runs that takes the place of a job of a push that was accepted first as that run.
    pub(super) fn newest_taker(&self, (first, job): (i64, &Job), is_one: impl Fn(&Run) -> bool) -> Option<i64> {
        let newer = self.runs.iter().rev().filter(|(_, it)| it.first > first && is_one(it));
        newer.map(|(number, _)| *number).find(|it| self.runs[it].takes_place_of(job))
    }

    /// Whether a run is one that takes the place of that older one.
    pub(super) fn takes_place(&self, newer: i64, older: i64) -> bool {
        self.runs[&newer].takes_place_of(&self.runs[&older].job)
    }

    fn wait_longer(&mut self, hook: &str, debounce: Duration, now: Timestamp) {
        for run in self.runs.values_mut().filter(|it| it.job.hook.name.as_str() == hook) {
            if let Stage::Waits { place, not_before: not_before @ NotBefore::At(_) } = &mut run.stage
                && let NotBefore::At(at) = *not_before
            {
                *not_before = NotBefore::At(at.max(quiet(debounce, place.since, now)));
            }
        }
    }

    fn make_room(&mut self, (job, delivery): (&Job, Option<i64>), (to, first): (i64, i64)) {
        let (replaces, own) = (Replaces::of(job, delivery), ref_name(job));
        let of_hook = self.runs.values_mut().filter(|it| it.job.hook.name == job.hook.name);
        for run in of_hook.filter(|it| it.first < first && replaces.takes(own.as_ref(), &it.job)) {
            if let Stage::InHand { hand, .. } = &mut run.stage {
                hand.yields_to = Some(to);
            }
        }
    }
}

/// Until when a push waits for quiet.
fn quiet(debounce: Duration, since: Timestamp, now: Timestamp) -> Timestamp {
    later(now, debounce).min(later(since, debounce * DEBOUNCES_MAX))
}

/// Whether what came of a delivery allows another try.
fn is_in_vain(outcome: &Outcome) -> bool {
    outcome.mood() == Mood::Bad || matches!(outcome, Outcome::Cancelled { .. })
}

fn name(key: &DedupeKey) -> String {
    match key {
        DedupeKey::Id(id) => format!("id {id}"),
        DedupeKey::Named(id) => format!("unsigned id {id}"),
        DedupeKey::Body(hash) => format!("body {hash:?}"),
        DedupeKey::BodyWithin(hash, _) => format!("body for a while {hash:?}"),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).expect("a short time")
}
