//! How runs leave a hand or the line: with an outcome, or back to their place.

use std::time::Duration;

use jiff::Timestamp;
use landfall::{
    model::{
        letter::Occasion,
        run::{Failure, FailureClass, Mood, Outcome, RunId, RunStep},
    },
    route,
    store::{Cancelled, GivenBack},
};

use super::{End, Hand, Model, NotBefore, Place, Stage, commit, displaced::has_staged, later};
use crate::{
    acts::{Answer, Right},
    cast::commit_id,
};

/// Why people cancel.
pub const CANCEL_REASON: &str = "cancelled by ana";

/// What keeps runs from being started.
pub const TROUBLE: &str = "there is no room for its folder";

/// So many starts in vain are enough.
const VAIN_STARTS_MAX: u32 = 8;

/// What scripts tell of their runs.
pub fn fields() -> Vec<(String, String)> {
    vec![("url".into(), "https://example.org".into())]
}

impl End {
    pub(super) fn unclaimed(outcome: Outcome, at: Timestamp) -> Self {
        Self { outcome, at, fence: None, started_at: None, commit: None, fields: Vec::new() }
    }
}

impl Model {
    pub(super) fn finish(&mut self, right: &Right, told: &Outcome, now: Timestamp) -> Answer {
        let Some((place, hand)) = self.run(right.run).held_by(right) else {
            return self.finished_already(right, told);
        };
        let outcome = match (told, hand.yields_to) {
            (Outcome::Cancelled { .. }, Some(by)) if hand.cancel_asked.is_none() => {
                Outcome::Superseded { by: RunId(by) }
            }
            (told, _) => told.clone(),
        };
        let (job, lane) = (self.run(right.run).job.clone(), right.lane.clone());
        let commit = commit(&job.target).unwrap_or_else(|| commit_id(2).to_string());
        let end = End {
            outcome: outcome.clone(),
            at: now,
            fence: Some(right.fence),
            started_at: hand.started_at,
            commit: Some(commit.clone()),
            fields: fields(),
        };
        let run = self.run(right.run);
        run.stage = Stage::Ended { end };
        run.has_staged = has_staged(told, hand.has_staged);
        let book = self.book(job.hook.name.as_str());
        let yields = matches!(outcome, Outcome::Superseded { .. });
        book.yields_in_a_row = if yields { book.yields_in_a_row + 1 } else { 0 };
        match outcome {
            Outcome::RolledBack(_) | Outcome::RollbackFailed { .. } => {
                book.bad_commits.insert(commit, right.run);
            }
            Outcome::Succeeded => {
                book.bad_commits.remove(&commit);
                book.live = Some(commit);
            }
            Outcome::Failed(_)
            | Outcome::TimedOut(_)
            | Outcome::Cancelled { .. }
            | Outcome::Superseded { .. }
            | Outcome::Stale { .. }
            | Outcome::Skipped { .. }
            | Outcome::Interrupted { .. } => (),
        }
        let may_retry = hand.cancel_asked.is_none()
            && job.attempt <= job.hook.retry.max
            && outcome.wants_retry(&job.hook.retry.on)
            && self.lane(&lane).stopped.is_none();
        if may_retry && self.replaced_by(right.run).is_none() {
            return Answer::Finished(Some(self.retry(right.run, place, now)));
        }
        self.tell(right.run, &outcome);
        match &outcome {
            Outcome::Superseded { by } => self.give_way(right.run, by.0, place, now),
            _ => self.give_places_back(right.run, place, now),
        }
        Answer::Finished(None)
    }

    /// The same right, asking for the same end again, hears the same.
    fn finished_already(&mut self, right: &Right, told: &Outcome) -> Answer {
        let run = self.run(right.run);
        let Stage::Ended { end } = &run.stage else { return Answer::Fenced };
        let made_room = matches!(told, Outcome::Cancelled { .. }) && matches!(end.outcome, Outcome::Superseded { .. });
        if end.fence == Some(right.fence) && (end.outcome == *told || made_room) {
            Answer::Finished(run.next)
        } else {
            Answer::Fenced
        }
    }

    /// The next attempt, in the place of the one that just ended. Its wait doubles, and up to a tenth is added.
    fn retry(&mut self, run: i64, place: Place, now: Timestamp) -> i64 {
        let (old, retry) = (self.run(run).clone(), self.next_run());
        let job = route::again(&old.job, RunId(run), old.job.attempt + 1, None).into_job();
        let wait = old.job.hook.retry.backoff * 2_u32.pow(old.job.attempt - 1);
        let not_before = NotBefore::Within(later(now, wait), later(now, wait + wait / 10 + Duration::from_millis(1)));
        self.insert(&job, &old.lane, old.delivery, now, Stage::Waits { place, not_before });
        self.run(retry).first = old.first;
        retry
    }

    pub(super) fn give_back(&mut self, right: &Right, in_vain: bool, now: Timestamp) -> Answer {
        let Some((place, hand)) = self.run(right.run).held_by(right) else {
            return self.given_back_already(right);
        };
        if hand.started_at.is_some() {
            return Answer::Started;
        }
        let run = self.run(right.run);
        if in_vain {
            run.vain_starts += 1;
            run.trouble = Some(TROUBLE.to_owned());
        }
        let vain_starts = run.vain_starts;
        let newer = self.replaced_by(right.run);
        let outcome = match (&hand, newer) {
            (Hand { cancel_asked: Some(reason), .. }, _) => Outcome::Cancelled { step: None, reason: reason.clone() },
            (_, Some(by)) => Outcome::Superseded { by: RunId(by) },
            _ if in_vain && vain_starts >= VAIN_STARTS_MAX => given_up(),
            _ => {
                let wait = in_vain.then(|| Duration::from_secs(2_u64.pow(vain_starts)));
                let until = wait.map(|wait| later(now, wait));
                let not_before = until.map_or(NotBefore::Now, NotBefore::At);
                self.run(right.run).stage = Stage::Waits { place, not_before };
                return Answer::GivenBack(GivenBack::Waits { not_before: until });
            }
        };
        let end = End { fence: Some(right.fence), ..End::unclaimed(outcome.clone(), now) };
        self.run(right.run).stage = Stage::Ended { end };
        match newer {
            Some(by) if hand.cancel_asked.is_none() => self.run(right.run).taken_by = Some(by),
            _ => {
                self.tell(right.run, &outcome);
                self.give_places_back(right.run, place, now);
            }
        }
        Answer::GivenBack(GivenBack::Ended(outcome))
    }

    /// The same right, giving the same run back again, hears where it waits.
    fn given_back_already(&mut self, right: &Right) -> Answer {
        let is_last = self.lane(&right.lane).fence == right.fence;
        match &self.run(right.run).stage {
            Stage::Waits { not_before, .. } if is_last => {
                let not_before = match not_before {
                    NotBefore::Now => None,
                    NotBefore::At(at) | NotBefore::Within(at, _) => Some(*at),
                };
                Answer::GivenBack(GivenBack::Waits { not_before })
            }
            Stage::Waits { .. } | Stage::InHand { .. } | Stage::Ended { .. } => Answer::Fenced,
        }
    }

    pub(super) fn cancel(&mut self, run: i64, now: Timestamp) -> Cancelled {
        let Some(found) = self.runs.get_mut(&run) else { return Cancelled::Unknown };
        match &mut found.stage {
            Stage::Ended { .. } => Cancelled::AlreadyFinished,
            Stage::InHand { hand, .. } => {
                hand.cancel_asked.get_or_insert_with(|| CANCEL_REASON.to_owned());
                Cancelled::Asked
            }
            Stage::Waits { place, .. } => {
                let place = *place;
                let outcome = Outcome::Cancelled { step: None, reason: CANCEL_REASON.into() };
                found.stage = Stage::Ended { end: End::unclaimed(outcome.clone(), now) };
                self.tell(run, &outcome);
                self.give_places_back(run, place, now);
                Cancelled::Ended
            }
        }
    }

    fn tell(&mut self, run: i64, outcome: &Outcome) {
        let hook = self.run(run).hook().to_owned();
        let before = match self.book(&hook).works {
            Some(true) => Mood::Good,
            Some(false) => Mood::Bad,
            None => Mood::Neither,
        };
        self.owe(run, Occasion::of(outcome, before));
        match outcome.mood() {
            Mood::Good => self.book(&hook).works = Some(true),
            Mood::Bad => self.book(&hook).works = Some(false),
            Mood::Neither => (),
        }
    }
}

fn given_up() -> Outcome {
    let reason = format!("it could not be started {VAIN_STARTS_MAX} times, the last time because: {TROUBLE}");
    Outcome::Failed(Failure { step: RunStep::Lock, exit_code: None, class: FailureClass::Other, reason })
}
