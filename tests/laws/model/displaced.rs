//! Whose place was taken waits again, if the run that took it ends without having staged anything.

use jiff::Timestamp;
use landfall::{
    model::run::{Outcome, RunId, RunStep},
    route,
};

use super::{Model, NotBefore, Place, Stage};

impl Model {
    /// A run has ended. If it, and what it repeated, staged nothing, those whose places they had taken wait again.
    pub(super) fn give_places_back(&mut self, run: i64, place: Place, now: Timestamp) {
        let (mut takers, mut earlier) = (Vec::new(), Some(run));
        while let Some(taker) = earlier.filter(|it| !self.runs[it].has_staged) {
            takers.push(taker);
            earlier = self.runs[&taker].job.retry_of.map(|it| it.0);
        }
        let is_lost = |it: &super::Run| it.next.is_none() && it.taken_by.is_some_and(|by| takers.contains(&by));
        let lost: Vec<i64> = self.runs.iter().rev().filter(|(_, it)| is_lost(it)).map(|(run, _)| *run).collect();
        let lane = self.runs[&run].lane.clone();
        self.wait_again(&lost, (&lane, place), now);
    }

    /// A run has made room for a newer one. If nobody is left who stands in its place, it waits again.
    pub(super) fn give_way(&mut self, run: i64, to: i64, place: Place, now: Timestamp) {
        let standing = self.standing(to);
        self.run(run).taken_by = Some(standing.unwrap_or(to));
        if standing.is_none() {
            let lane = self.runs[&run].lane.clone();
            self.wait_again(&[run], (&lane, place), now);
        }
    }

    /// The run that stands for this one by now: it has not ended, or had begun to change something.
    fn standing(&self, run: i64) -> Option<i64> {
        let found = &self.runs[&run];
        match (&found.stage, found.next.or(found.taken_by)) {
            (Stage::Waits { .. } | Stage::InHand { .. }, _) => Some(run),
            (Stage::Ended { .. }, Some(other)) => self.standing(other),
            (Stage::Ended { .. }, None) => found.has_staged.then_some(run),
        }
    }

    /// The newest come first. Those that a newer one makes needless stay out, and that one stands in their place.
    fn wait_again(&mut self, lost: &[i64], (lane, place): (&str, Place), now: Timestamp) {
        let (mut back, mut needless) = (Vec::new(), Vec::new());
        for run in lost {
            let has_not_ended = |it: &super::Run| !matches!(it.stage, Stage::Ended { .. });
            let (first, job) = (self.runs[run].first, self.runs[run].job.clone());
            if let Some(newer) = self.newest_taker((first, &job), has_not_ended) {
                self.run(*run).taken_by = Some(newer);
            } else if let Some(newer) = back.iter().find(|it| self.takes_place(**it, *run)) {
                needless.push((*run, *newer));
            } else {
                back.push(*run);
            }
        }
        let mut free = Some(place);
        for run in back.iter().rev() {
            let old = self.runs[run].clone();
            let job = route::again(&old.job, RunId(*run), old.job.attempt, None).into_job();
            let place = match free.take_if(|_| old.lane == lane) {
                Some(place) => place,
                None => {
                    self.lane(&old.lane).places += 1;
                    Place { number: self.lane(&old.lane).places, ..place }
                }
            };
            let stage = Stage::Waits { place, not_before: NotBefore::Now };
            let new = self.next_run();
            self.insert(&job, &old.lane, old.delivery, now, stage);
            self.run(new).first = old.first;
        }
        for (run, newer) in needless {
            self.run(run).taken_by = self.runs[&newer].next;
        }
    }
}

/// Whether a run that ended so had begun to change what it deploys to. Where the end does not say at which step it
/// came, what was noted before counts.
pub(super) fn has_staged(told: &Outcome, is_noted: bool) -> bool {
    match told {
        Outcome::Succeeded | Outcome::RolledBack(_) | Outcome::RollbackFailed { .. } => true,
        Outcome::Stale { .. } => false,
        Outcome::Failed(failure) | Outcome::TimedOut(failure) => is_past_staging(failure.step),
        Outcome::Skipped { step, .. } => is_past_staging(*step),
        Outcome::Cancelled { step, .. } | Outcome::Interrupted { step, .. } => {
            is_noted || step.is_some_and(is_past_staging)
        }
        Outcome::Superseded { .. } => is_noted,
    }
}

/// The steps after these come after any end, and so say nothing.
pub(super) fn is_past_staging(step: RunStep) -> bool {
    (RunStep::Stage..=RunStep::Rollback).contains(&step)
}
