//! What is done to whom, and when: drawn from the seed before the storm begins.
//!
//! The wall clock is left alone. Landfall reads it in one way, which a test cannot shift for one process without
//! shifting the machine's: `unshare --time` moves CLOCK_MONOTONIC and CLOCK_BOOTTIME only, and a library that is
//! loaded before libc's would test that library. Times that follow the wall clock are tested in the store, which takes
//! `now` as an argument.
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
}

/// A deed and its time since the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub at: Duration,
    pub deed: Deed,
}

/// The plan of a storm, in the order of time.
pub fn plan(seed: u64, seconds: u64) -> Vec<Act> {
    let mut dice = Dice::of(seed, "nemesis");
    let end = Duration::from_secs(seconds);
    // The first push needs a daemon, and what is disturbed last has time to come back.
    let (mut at, last) = (Duration::from_millis(600), end.saturating_sub(Duration::from_secs(1)));
    let mut acts = Vec::new();
    while at < last {
        let lot = dice.draw();
        let (weight, deed, undone_by) = *dice.weighted(&deeds(lot), |it| it.0);
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

fn deeds(lot: u64) -> Vec<Choice> {
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
    ]
}

#[cfg(test)]
mod tests {
    use super::{Deed, plan};

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_is_another() {
        assert_eq!(plan(7, 60), plan(7, 60));
        assert_ne!(plan(7, 60), plan(8, 60));
    }

    #[test]
    fn half_a_minute_holds_more_kills_than_a_storm_needs() {
        for seed in 0..50 {
            let is_kill = |deed| matches!(deed, Deed::KillDaemon | Deed::KillKeeper { .. });
            let kills = plan(seed, 35).into_iter().filter(|it| is_kill(it.deed)).count();
            assert!(kills >= 28, "seed {seed}: {kills}");
        }
    }
}
