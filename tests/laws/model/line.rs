//! How the line goes on: who may be claimed, by whom, and what holders may do.

use jiff::Timestamp;
use landfall::model::{letter::Occasion, run::RunStep};

use super::{Hand, Lane, Model, NotBefore, Place, Stage, displaced::is_past_staging, later};
use crate::acts::{Answer, Right};

/// Why lanes are stopped.
pub const STOP_REASON: &str = "something of a run goes on";

/// The first of a line.
struct Head {
    run: i64,
    lane: String,
    rank: i64,
    /// `None`: now.
    at: Option<Timestamp>,
}

impl Model {
    pub(super) fn claim(&mut self, now: Timestamp) -> Answer {
        self.holds.retain(|_, hold| hold.until.is_none_or(|it| it > now));
        let holds_end = self.holds.values().filter_map(|it| it.until).min();
        if self.holds.contains_key(&None) {
            return Answer::Idle(holds_end);
        }
        let (due, waiting): (Vec<Head>, Vec<Head>) =
            self.heads().into_iter().partition(|head| head.at.is_none_or(|it| it <= now));
        match due.into_iter().min_by_key(|head| (head.rank, head.run)) {
            Some(head) => self.take(&head),
            None => Answer::Idle(waiting.iter().filter_map(|it| it.at).chain(holds_end).min()),
        }
    }

    /// Of each lane that is free: its first job that is not on hold, ranked by its most urgent one.
    fn heads(&self) -> Vec<Head> {
        let is_free = |name: &str, lane: &Lane| {
            let mut of_lane = self.runs.values().filter(|it| it.lane == name);
            lane.stopped.is_none() && !of_lane.any(|it| matches!(it.stage, Stage::InHand { .. }))
        };
        let free = self.lanes.iter().filter(|(name, lane)| is_free(name, lane));
        free.filter_map(|(name, _)| self.head_of(name)).collect()
    }

    fn head_of(&self, lane: &str) -> Option<Head> {
        let of_lane = self.runs.iter().filter(|(_, it)| it.lane == lane);
        let waiting: Vec<(i64, Place, NotBefore)> = of_lane
            .filter(|(_, it)| !self.holds.contains_key(&Some(it.hook().to_owned())))
            .filter_map(|(run, it)| it.place().map(|(place, not_before)| (*run, place, not_before)))
            .collect();
        let (run, _, not_before) = waiting.iter().min_by_key(|(_, place, _)| place.number)?;
        let rank = waiting.iter().map(|(_, place, _)| place.rank).min()?;
        Some(Head { run: *run, lane: lane.to_owned(), rank, at: self.due(*run, *not_before) })
    }

    /// Whether a run is the first of a line that is free.
    pub(super) fn is_head(&self, run: i64, lane: &str) -> bool {
        self.heads().iter().any(|head| head.run == run && head.lane == lane)
    }

    /// When a head may go: when its own wait is over, and its hook's interval.
    pub(super) fn due(&self, run: i64, not_before: NotBefore) -> Option<Timestamp> {
        let job = &self.runs[&run].job;
        let interval = job.hook.min_interval;
        let began_at = self.hooks[job.hook.name.as_str()].began_at.filter(|_| !interval.is_zero());
        let own = match not_before {
            NotBefore::Now => None,
            NotBefore::At(at) | NotBefore::Within(at, _) => Some(at),
        };
        own.max(began_at.map(|it| later(it, interval)))
    }

    fn take(&mut self, head: &Head) -> Answer {
        let lane = self.lane(&head.lane);
        lane.fence += 1;
        let fence = lane.fence;
        let run = self.run(head.run);
        if let Stage::Waits { place, .. } = run.stage {
            let hand =
                Hand { fence, started_at: None, step: None, has_staged: false, cancel_asked: None, yields_to: None };
            run.stage = Stage::InHand { place, hand };
        }
        Answer::Claimed(Right { run: head.run, lane: head.lane.clone(), fence })
    }

    pub(super) fn adopt(&mut self) -> Answer {
        let mut adopted = Vec::new();
        for (number, run) in &mut self.runs {
            if let Stage::InHand { hand, .. } = &mut run.stage {
                let lane = self.lanes.entry(run.lane.clone()).or_default();
                lane.fence += 1;
                hand.fence = lane.fence;
                let right = Right { run: *number, lane: run.lane.clone(), fence: lane.fence };
                adopted.push((right, hand.started_at.is_some()));
            }
        }
        Answer::Adopted(adopted)
    }

    pub(super) fn start(&mut self, right: &Right, now: Timestamp) -> Answer {
        let Some((place, mut hand)) = self.run(right.run).held_by(right) else { return Answer::Fenced };
        if hand.started_at.is_some() {
            return Answer::Done;
        }
        hand.started_at = Some(now);
        hand.step = hand.step.or(Some(RunStep::Lock));
        let run = self.run(right.run);
        run.stage = Stage::InHand { place, hand };
        let (hook, is_first) = (run.hook().to_owned(), run.job.attempt == 1);
        self.book(&hook).began_at = Some(now);
        if is_first {
            self.owe(right.run, Occasion::Start);
        }
        Answer::Done
    }

    pub(super) fn note_step(&mut self, right: &Right, step: RunStep) -> Answer {
        let run = self.run(right.run);
        let Some((place, hand)) = run.held_by(right) else { return Answer::Fenced };
        let has_staged = hand.has_staged || is_past_staging(step);
        run.stage = Stage::InHand { place, hand: Hand { step: Some(step), has_staged, ..hand } };
        Answer::Done
    }

    pub(super) fn stop_lane(&mut self, right: &Right, now: Timestamp) -> Answer {
        if self.run(right.run).held_by(right).is_none() {
            return Answer::Fenced;
        }
        let lane = self.lane(&right.lane);
        let since = lane.stopped.as_ref().map_or(now, |(_, since)| *since);
        lane.stopped = Some((STOP_REASON.to_owned(), since));
        Answer::Done
    }
}
