//! What is done to whom, and when: drawn from the seed before the storm begins.
//!
//! Invariant: what is stopped, filled or down comes back before the storm ends.

use std::time::Duration;

use crate::{dice::Dice, history::Sink};

/// A deed. Lots say which of several it befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    KillDaemon,
    KillKeeper { lot: u64 },
    StopDaemon,
    ContinueDaemon,
    StopKeeper { lot: u64 },
    ContinueKeepers,
    FillDisk,
    FreeDisk,
    SinkDown(Sink),
    SinkUp(Sink),
    Reload,
    SpoilHooks,
    MendHooks,
    RestartDaemon,
    SetClock { lot: u64 },
    CopyDatabase,
    PutBack,
}

/// What kind of storm it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing that was acknowledged may be missing at its end.
    Usual,
    /// An older database is put back now and then, with which all is forgotten that came after it.
    OldDatabase,
}

/// A deed and its time since the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub at: Duration,
    pub deed: Deed,
}

/// The plan of a storm, in the order of time.
pub fn plan(kind: Kind, seed: u64, seconds: u64) -> Vec<Act> {
    let mut dice = Dice::of(seed, "nemesis");
    let end = Duration::from_secs(seconds);
    // The first push needs a daemon, and what is disturbed last has time to come back.
    let (mut at, last) = (Duration::from_millis(600), end.saturating_sub(Duration::from_secs(1)));
    let mut acts = Vec::new();
    while at < last {
        let lot = dice.draw();
        let (weight, deed, undone_by) = *dice.weighted(&deeds(kind, lot), |it| it.0);
        debug_assert!(weight > 0);
        acts.push(Act { at, deed });
        if let Some((undo, longest)) = undone_by {
            acts.push(Act { at: (at + dice.millis(longest / 4, longest)).min(last), deed: undo });
        }
        at += dice.millis(150, 650);
    }
    acts.sort_by_key(|it| it.at);
    acts
}

/// A deed with its weight, what undoes it, and after how many milliseconds at most.
type Choice = (u64, Deed, Option<(Deed, u64)>);

fn deeds(kind: Kind, lot: u64) -> Vec<Choice> {
    let old_database = vec![
        (20, Deed::KillKeeper { lot }, None),
        (20, Deed::KillDaemon, None),
        (10, Deed::CopyDatabase, None),
        (10, Deed::PutBack, None),
        (2, Deed::RestartDaemon, None),
    ];
    if kind == Kind::OldDatabase {
        return old_database;
    }
    vec![
        (34, Deed::KillKeeper { lot }, None),
        (26, Deed::KillDaemon, None),
        (6, Deed::StopKeeper { lot }, Some((Deed::ContinueKeepers, 1500))),
        (5, Deed::StopDaemon, Some((Deed::ContinueDaemon, 2500))),
        (4, Deed::FillDisk, Some((Deed::FreeDisk, 1500))),
        (4, Deed::SinkDown(Sink::Slack), Some((Deed::SinkUp(Sink::Slack), 2000))),
        (4, Deed::SinkDown(Sink::Mail), Some((Deed::SinkUp(Sink::Mail), 2000))),
        (5, Deed::Reload, None),
        (4, Deed::SpoilHooks, Some((Deed::MendHooks, 700))),
        (2, Deed::RestartDaemon, None),
        (3, Deed::SetClock { lot }, None),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Deed, Kind, plan};

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_is_another() {
        assert_eq!(plan(Kind::Usual, 7, 60), plan(Kind::Usual, 7, 60));
        assert_ne!(plan(Kind::Usual, 7, 60), plan(Kind::Usual, 8, 60));
    }

    #[test]
    fn half_a_minute_holds_more_kills_than_a_storm_needs() {
        for seed in 0..50 {
            let is_kill = |deed| matches!(deed, Deed::KillDaemon | Deed::KillKeeper { .. });
            let kills = plan(Kind::Usual, seed, 35).into_iter().filter(|it| is_kill(it.deed)).count();
            assert!(kills >= 28, "seed {seed}: {kills}");
        }
    }
}
