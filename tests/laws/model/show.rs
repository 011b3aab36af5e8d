//! The model as a store would show it.

use std::collections::{BTreeMap, BTreeSet};

use landfall::{
    model::run::RunId,
    store::{LetterState, RunState, Stop},
};

use super::{Model, NotBefore, Post, Run, Stage, commit};
use crate::view::{Facts, Glance, Letter, Received, Run as Shown};

impl Model {
    /// Learns what is the store's to decide: how long exactly a retry waits, within its bounds.
    pub fn learn(&mut self, shown: &Facts) {
        for (number, run) in &mut self.runs {
            let Some(RunState::Queued { not_before: Some(at), .. }) = shown.runs.get(number).map(|it| &it.state) else {
                continue;
            };
            if let Stage::Waits { not_before, .. } = &mut run.stage
                && let NotBefore::Within(from, to) = *not_before
                && (from..=to).contains(at)
            {
                *not_before = NotBefore::At(*at);
            }
        }
    }

    /// What a store has to show.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts {
            holds: self.holds.clone(),
            runs: self.runs.iter().map(|(number, run)| (*number, self.shown(*number, run))).collect(),
            ..Facts::default()
        };
        for (number, letter) in &self.letters {
            let why = letter.why.clone();
            let state = match letter.state {
                Post::Due(due) => LetterState::Owed { due, why },
                Post::Sent(at) => LetterState::Sent { at },
                Post::GivenUp(at) => LetterState::GivenUp { at, why: why.unwrap_or_default() },
            };
            let (run, occasion, address) = (letter.run, letter.occasion, letter.address.clone());
            facts.letters.insert(*number, Letter { run, occasion, address, attempts: letter.attempts, state });
        }
        for (number, it) in &self.deliveries {
            let received = Received {
                event: it.event.clone(),
                received_at: it.received_at,
                word: it.word.clone(),
                message: String::new(),
                body: it.body.clone(),
                runs: it.runs.clone(),
            };
            facts.deliveries.insert(*number, received);
        }
        for (name, lane) in &self.lanes {
            facts.stopped.extend(lane.stopped.iter().map(|it| (name.clone(), it.clone())));
        }
        for (number, run) in &self.runs {
            facts.stops.extend(stop(run).map(|it| (*number, it)));
            match run.stage {
                Stage::Waits { .. } => facts.counts.queued += 1,
                Stage::InHand { .. } => facts.counts.running += 1,
                Stage::Ended { .. } => (),
            }
        }
        let owed = self.letters.values().filter(|it| matches!(it.state, Post::Due(_))).count();
        facts.counts.letters = u64::try_from(owed).expect("few");
        facts.hooks = self.hooks.keys().map(|name| (name.clone(), self.glance(name))).collect();
        facts
    }

    fn glance(&self, name: &str) -> Glance {
        let of_hook: BTreeMap<_, _> = self.runs.iter().filter(|(_, it)| it.hook() == name).collect();
        let newest = |fits: fn(&Stage) -> bool| of_hook.iter().rev().find(|(_, it)| fits(&it.stage)).map(|it| **it.0);
        let book = &self.hooks[name];
        Glance {
            live: book.live.clone(),
            last: newest(|it| matches!(it, Stage::Ended { .. })),
            active: newest(|it| matches!(it, Stage::InHand { .. })),
            waiting: u64::try_from(of_hook.values().filter(|it| it.place().is_some()).count()).expect("few"),
            bad_commits: book.bad_commits.clone(),
        }
    }

    fn shown(&self, number: i64, run: &Run) -> Shown {
        // Those whose place it took, and whose places they had taken: an earlier run is always taken by a later one.
        let mut takers = BTreeSet::from([number]);
        for (earlier, run) in self.runs.range(..number).rev() {
            if run.taken_by.is_some_and(|by| takers.contains(&by)) {
                takers.insert(*earlier);
            }
        }
        takers.remove(&number);
        let end = match &run.stage {
            Stage::Ended { end } => Some(end),
            Stage::Waits { .. } | Stage::InHand { .. } => None,
        };
        Shown {
            hook: run.hook().to_owned(),
            lane: run.lane.clone(),
            state: self.state(number, run),
            commit: end.and_then(|it| it.commit.clone()).or_else(|| commit(&run.job.target)),
            delivery: run.delivery,
            attempt: run.job.attempt,
            retry_of: run.job.retry_of.map(|it| it.0),
            repeated_by: run.next,
            fence: match &run.stage {
                Stage::Waits { .. } => None,
                Stage::InHand { hand, .. } => Some(hand.fence),
                Stage::Ended { end } => end.fence,
            },
            supersedes: takers.into_iter().collect(),
            fields: end.map(|it| it.fields.clone()).unwrap_or_default(),
            has_folder: end.is_some_and(|it| it.fence.is_some()),
            created_at: run.created_at,
        }
    }

    fn state(&self, number: i64, run: &Run) -> RunState {
        let trouble = run.trouble.clone();
        match &run.stage {
            Stage::Waits { not_before, .. } => {
                let reason = |key: Option<String>| self.holds.get(&key).map(|it| it.reason.clone());
                let hold = reason(Some(run.hook().to_owned())).or_else(|| reason(None));
                RunState::Queued { not_before: self.shown_due(number, run, *not_before), hold, trouble }
            }
            Stage::InHand { hand, .. } => match hand.started_at {
                None => RunState::Queued { not_before: None, hold: None, trouble },
                Some(since) => {
                    RunState::Running { since, step: hand.step.expect("the step of a run that began"), stop: stop(run) }
                }
            },
            Stage::Ended { end } => {
                RunState::Finished { started_at: end.started_at, at: end.at, outcome: end.outcome.clone() }
            }
        }
    }

    /// A head shows when it may go; others show their own wait.
    fn shown_due(&self, number: i64, run: &Run, not_before: NotBefore) -> Option<jiff::Timestamp> {
        if self.is_head(number, &run.lane) {
            return self.due(number, not_before);
        }
        match not_before {
            NotBefore::Now => None,
            NotBefore::At(at) | NotBefore::Within(at, _) => Some(at),
        }
    }
}

fn stop(run: &Run) -> Option<Stop> {
    match &run.stage {
        Stage::InHand { hand, .. } => match (&hand.cancel_asked, hand.yields_to) {
            (Some(reason), _) => Some(Stop::Cancel(reason.clone())),
            (None, Some(to)) => Some(Stop::Yield { to: RunId(to) }),
            (None, None) => None,
        },
        Stage::Waits { .. } | Stage::Ended { .. } => None,
    }
}
