//! The queue in a storm: real daemons, keepers and scripts are killed, stopped and starved of disk while pushes come
//! in, and a checker reads off what everybody wrote down that nothing was lost, doubled or swapped.
//!
//! `./scripts/chaos --seconds 120 --seed 7` is the long way to run it.

mod dice;

mod rules;

mod history;

mod record;

mod check;

mod plan;

mod clock;

mod pause;

mod warden;

mod scene;

mod http;

mod daemon;

mod sinks;

mod senders;

mod people;

mod nemesis;

mod storm;

mod report;

use std::{collections::BTreeSet, env, sync::Mutex, time::Duration};

use plan::Kind;
use storm::{Aftermath, CALM_MAX, Order, rage};

/// A storm wants the machine for itself: its figures are part of the promise.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A storm that is shorter proves too little to be counted.
const COUNTED_SECONDS: u64 = 30;

const KILLS_MIN: usize = 20;

const ACCEPTED_MIN: usize = 200;

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |it| it.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{it}`")))
}

/// A storm of this kind, of `CHAOS_SECONDS` or of so many, in which no law is broken.
fn holds(kind: Kind, usual_seconds: u64) -> (Aftermath, report::Figures) {
    let _turn = ONE_AT_A_TIME.lock();
    let seconds = number("CHAOS_SECONDS", usual_seconds);
    let order = Order {
        kind,
        seconds,
        seed: number("CHAOS_SEED", 1),
        // A lane where every push counts is behind by as much as the storm was faster than its scripts.
        calm_max: CALM_MAX + Duration::from_secs(seconds),
        keep: env::var_os("CHAOS_KEEP").is_some(),
        failpoints: None,
    };
    let aftermath = rage(order);
    let figures = report::figures(&aftermath);
    println!("{}", report::table(&aftermath, &figures));
    assert!(aftermath.violations.is_empty(), "{}", report::violations(&aftermath));
    (aftermath, figures)
}

#[test]
fn a_storm_of_kills_loses_nothing_doubles_nothing_and_swaps_nothing() {
    let (aftermath, figures) = holds(Kind::Usual, 35);
    if aftermath.order.seconds >= COUNTED_SECONDS {
        let (kills, accepted) = (figures.kills_of_daemon + figures.kills_of_keepers, figures.accepted);
        assert!(kills >= KILLS_MIN, "{kills} kills prove nothing: at least {KILLS_MIN}");
        assert!(accepted >= ACCEPTED_MIN, "{accepted} accepted pushes prove nothing: at least {ACCEPTED_MIN}");
    }
}

#[test]
fn a_storm_in_which_an_older_database_is_put_back_takes_no_run_for_another_and_misses_no_push_for_good() {
    let (_, figures) = holds(Kind::OldDatabase, 15);
    assert!(figures.put_back > 0, "no database was put back");
}

/// A program that does this wrong is complained of by this law.
fn is_seen(failpoints: &'static str, law: &str) {
    let _turn = ONE_AT_A_TIME.lock();
    // Letters are not waited for: what is wrong shows before.
    let calm_max = Duration::from_secs(2);
    let aftermath =
        rage(Order { kind: Kind::Usual, seconds: 6, seed: 3, calm_max, keep: false, failpoints: Some(failpoints) });
    let complaints: BTreeSet<&str> = aftermath.violations.iter().map(|it| it.law).collect();
    println!("{failpoints}: {complaints:#?}");
    assert!(complaints.contains(law), "not seen: {law}");
}

#[test]
fn a_fence_that_does_not_rise_is_seen() {
    is_seen("lane-fence-stays=return", check::FENCE);
}

#[test]
fn a_lane_without_its_lock_is_seen() {
    is_seen("lane-unlocked=return", check::OVERLAP);
}

#[test]
fn a_lane_that_is_served_from_its_end_is_seen() {
    is_seen("lane-from-its-end=return", check::ORDER);
}
