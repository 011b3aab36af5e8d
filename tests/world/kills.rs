//! Kills: at a moment that nobody chose somebody dies in the middle of git work, and the next deploy has to be whole.
//!
//! Invariant: a kill is counted only if it met somebody who was at work.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    dice::Dice,
    house::{House, judged},
    judge::Case,
    place::{Order, Place, Start, Strategy},
    serve::Way,
    walk::{Ground, World, forget},
};

/// Kills in the world of a seed, until there were enough or its history has ended.
pub fn storm(seed: u64, ground: &Ground<'_>, kills: u64) {
    let began = Instant::now();
    let mut world = World::make(seed, "kills", ground);
    let folder = world.folder.join("house");
    fs::create_dir(&folder).expect("a folder");
    let way = *world.dice.weighted(&[Way::Http, Way::File, Way::Ssh], |_| 1);
    let start = *world.dice.weighted(&[Start::Fresh, Start::Clone], |_| 1);
    let mut place = Place::new(0, Strategy::InPlace, way, start, &folder);
    place.with_submodules = world.has_parts();
    let reach = ground.servers.reach();
    world.push(0);
    let expected = world.reference.expect(world.main(0), place.with_submodules);
    place.prepare(&ground.servers.url(way, &world.repository), &reach, &expected);
    let house = House::open(&folder, &place.hook(ground.servers, &world.repository));
    let (mut at, mut step, mut failures) = (0, 0, 0);
    let last = world.history.mains.len() - 1;
    while at < last && ground.report.kills() < kills && failures < 3 {
        step += 1;
        let range = if world.dice.chance(20) { 30 } else { 1 + world.dice.below(6) as usize };
        at = (at + range).min(last);
        world.push(at);
        let said = disturb(&mut world.dice, &house, &place.name, ground);
        let broken = world.reference.expect(world.main(at), place.with_submodules);
        place.expect(&broken, false);
        // What the killed run may have brought is to be gone where the next commit does not have it.
        at = (at + 1).min(last);
        world.push(at);
        let expected = world.reference.expect(world.main(at), place.with_submodules);
        let commit = world.main(at);
        let case = Case {
            seed,
            step,
            commit,
            order: Order::Ref,
            expected: &expected,
            remote: &world.remote,
            reach: &reach,
            report: ground.report,
            is_thorough: step % 4 == 0,
        };
        ground.report.count_deploy();
        if let Err(why) = house.deploy(&place.name, None) {
            failures += 1;
            place.expect(&expected, false);
            case.complain(&mut place, "deploy: fails after a kill", &format!("{why}; before: {said}"));
            continue;
        }
        let told = place.told.len();
        case.judge(&mut place);
        for why in case.judge_mirrors(&house.state()) {
            case.complain(&mut place, "git fsck: of a mirror", &why);
        }
        if place.told.len() > told && said.contains("was killed in") {
            case.complain(&mut place, "after a kill: something is not as it should be", &said);
        }
    }
    drop(house);
    forget(&world, ground);
    ground.report.count_world(seed, began);
}

/// Begins a deploy and kills the git child or its keeper after a while; says what happened.
fn disturb(dice: &mut Dice, house: &House, hook: &str, ground: &Ground<'_>) -> String {
    let mut command = house.begin_deploy(hook, None);
    let (delay, hits_keeper, hits_second) = (dice.millis(0, 180), dice.chance(30), dice.chance(60));
    // Fetch and stage are two children; either may be met.
    let first = next_git_work(house, &mut command, None);
    let found = match first {
        Some((git, _)) if hits_second => next_git_work(house, &mut command, Some(git)),
        found => found,
    };
    let begun = Instant::now();
    let mut said = "nobody was met".to_owned();
    if let Some((git, keeper)) = found {
        let victim = if hits_keeper { keeper } else { git };
        while begun.elapsed() < delay && is_alive(git) {
            thread::park_timeout(Duration::from_millis(1));
        }
        let who = if hits_keeper { "the keeper" } else { "the git child" };
        let turn = if hits_second { "second" } else { "first" };
        if is_alive(git) && kill(victim, Signal::SIGKILL).is_ok() {
            ground.report.count_kill();
            said = format!("{who} was killed in its {turn} piece of git work after {} ms", begun.elapsed().as_millis());
        }
    }
    let ended = judged(&command.wait_with_output().expect("it ends"));
    format!("{said}, and the run said {ended:?}")
}

/// The git child that comes after `before`, unless the run ends first.
fn next_git_work(house: &House, command: &mut std::process::Child, before: Option<Pid>) -> Option<(Pid, Pid)> {
    loop {
        if let Some(found) = house.git_work().filter(|(git, _)| Some(*git) != before) {
            return Some(found);
        }
        if command.try_wait().expect("a child").is_some() {
            return None;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

fn is_alive(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|it| !it.trim_start().starts_with('Z') && !it.is_empty())
}
