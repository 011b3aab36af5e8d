//! Deploys held against git itself: histories that nobody chose, by every way, into every kind of place.
//!
//! A *world* is one seed: a history of 40 to 120 commits (edits, contents that come back, moves, files that become folders
//! and links, merges of all shapes, odd names, attributes, tags, branches, in a third of all worlds submodules), a bare
//! remote to which it is pushed in ranges of 1, 3, 10, 30 or all commits, and five places, which the real daemon deploys to
//! after each push: in place (empty, a clone, a shallow one, one whose remote is `upstream`), as releases and as checkouts,
//! over HTTP, ssh and from a folder, each time or only now and then. After each deploy the tree, the index, the refs and
//! the objects are held against what git makes of that commit, and every mirror is checked.
//!
//! * `cargo test --test world` has a short form of all three kinds.
//! * `scripts/world --seconds 600 --seed 7` goes from seed to seed for so long. A complaint names its seed; that world is
//!   met again with `scripts/world --seconds 1 --steps STEPS --seed SEED`, as it says (STEPS is how many pushes there
//!   are at most; another number is another world).
//! * `scripts/world --kills 200 --seed 7` kills git children and keepers in the middle of their work.
//! * `scripts/world --repository PATH [--every 30] [--ranges 100]` deploys ranges of a real bare repository.
//!
//! `--keep` leaves the folders of all worlds for a look. A complaint is told once for each place.
//!
//! What git itself leaves open is no complaint: a file whose attributes changed and whose content did not may be as a fresh
//! checkout has it, or as it was; the folder of a submodule that is no more may stay.

#[allow(dead_code, reason = "a storm draws more than a world")]
#[path = "../chaos/dice.rs"]
mod dice;
mod front;
mod git;
mod growth;
mod history;
mod house;
mod judge;
mod kills;
mod place;
mod real;
mod report;
mod serve;
mod snapshot;
mod walk;

use std::{
    env, fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use report::Report;
use serve::Servers;
use walk::Ground;

/// One at a time: each has as many processes as the machine can bear.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Everything that is waited for comes within this time, on any machine, or the test fails.
const DEADLINE: Duration = Duration::from_secs(300);

/// Waits until `look` finds something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A number that `scripts/world` hands over.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{it}`")))
}

/// Lets something happen on a ground of its own, and fails if there are complaints.
fn on_ground(steps_max: usize, again: impl Fn(u64) -> String, happens: impl FnOnce(&Ground<'_>)) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let below = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("a folder");
        path
    };
    let (served, own, worlds) = (below("served"), below("servers"), below("worlds"));
    let (servers, report) = (Servers::start(&served, &own), Report::begin());
    let keeps = env::var_os("WORLD_KEEP").is_some();
    happens(&Ground { served: &served, folder: &worlds, servers: &servers, report: &report, keeps, steps_max });
    if keeps {
        println!("kept in {}", folder.keep().display());
    }
    report.conclude(again);
}

#[test]
fn what_is_deployed_is_what_git_makes_of_the_commit_whatever_came_before() {
    let (seconds, seed) = (number("WORLD_SECONDS"), number("WORLD_SEED").unwrap_or(1));
    let steps_max = number("WORLD_STEPS").unwrap_or(if seconds.is_some() { 12 } else { 4 });
    let again = |seed| format!("scripts/world --seconds 1 --steps {steps_max} --seed {seed}");
    on_ground(steps_max as usize, again, |ground| {
        let is_enough = |worlds: u64| match seconds {
            Some(seconds) => ground.report.seconds() >= seconds,
            None => worlds >= 3,
        };
        let mut worlds = 0;
        while worlds == 0 || !is_enough(worlds) {
            walk::walk(seed + worlds, ground);
            worlds += 1;
        }
    });
}

#[test]
fn whoever_is_killed_in_the_middle_of_git_work_the_next_deploy_is_whole() {
    let (kills, seed) = (number("WORLD_KILLS").unwrap_or(3), number("WORLD_SEED").unwrap_or(1));
    on_ground(
        1,
        |seed| format!("scripts/world --kills 20 --seed {seed}"),
        |ground| {
            let mut worlds = 0;
            while ground.report.kills() < kills {
                kills::storm(seed + worlds, ground, kills);
                worlds += 1;
                assert!(worlds < 10 + 2 * kills, "{} of {kills} kills met somebody", ground.report.kills());
            }
        },
    );
}

#[test]
fn ranges_of_a_repository_arrive_as_git_has_them() {
    let (every, ranges) = (number("WORLD_EVERY"), number("WORLD_RANGES"));
    let repository = env::var_os("WORLD_REPOSITORY").map(PathBuf::from);
    let usual = if repository.is_some() { (30, 100) } else { (10, 2) };
    let sizes = (every.unwrap_or(usual.0) as usize, ranges.unwrap_or(usual.1) as usize);
    on_ground(1, |_| "the same command".to_owned(), |ground| real::deploy_ranges(repository.as_deref(), sizes, ground));
}
