//! A world: one history, pushed in ranges to one remote, and deployed into several places after each push.
//!
//! Invariant: everything in it follows from its seed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use crate::{
    dice::Dice,
    git::{self, git},
    growth,
    history::{self, History},
    house::House,
    judge::Case,
    place::{Order, Place, Start, Strategy},
    report::Report,
    serve::Servers,
    snapshot::Reference,
};

/// What all worlds of a test share.
pub struct Ground<'a> {
    /// What is below it is served.
    pub served: &'a Path,
    /// For everything else.
    pub folder: &'a Path,
    pub servers: &'a Servers,
    pub report: &'a Report,
    /// Worlds stay for a look.
    pub keeps: bool,
    /// How many pushes a world has at most.
    pub steps_max: usize,
}

/// A history with its remote.
pub struct World {
    pub dice: Dice,
    pub history: History,
    /// The ids of the history's commits.
    pub ids: Vec<String>,
    pub folder: PathBuf,
    /// The remote's name below what is served.
    pub repository: String,
    pub remote: PathBuf,
    pub reference: Reference,
}

impl World {
    /// Makes the history of a seed.
    pub fn make(seed: u64, name: &str, ground: &Ground<'_>) -> Self {
        let mut dice = Dice::of(seed, name);
        let name = format!("{name}-{seed}");
        let (folder, served) = (ground.folder.join(&name), ground.served.join(&name));
        for folder in [&folder, &served] {
            fs::create_dir_all(folder).expect("a folder");
        }
        git(&folder, &["init", "--quiet", "--bare", "source.git"]);
        git(&served, &["init", "--quiet", "--bare", "site.git"]);
        let parts = if dice.chance(35) { history::parts(&served, &mut dice) } else { Vec::new() };
        let history = growth::grow(&mut dice, &parts);
        let source = folder.join("source.git");
        let ids = history.write(&source);
        let reference = Reference { source, served: served.clone(), parts, folder: folder.clone() };
        let (repository, remote) = (format!("{name}/site.git"), served.join("site.git"));
        Self { dice, history, ids, folder, repository, remote, reference }
    }

    /// Whether there are submodules in it.
    pub fn has_parts(&self) -> bool {
        !self.reference.parts.is_empty()
    }

    /// The commit that main is at after so many of its moves.
    pub fn main(&self, at: usize) -> &str {
        &self.ids[self.history.mains[at]]
    }

    /// Moves main, and all other branches and tags to where they are at that time, as pushes would.
    pub fn push(&self, at: usize) {
        let now = self.history.mains[at];
        let alive = self.history.refs.iter().filter(|it| it.born <= now && it.dies.is_none_or(|dies| now < dies));
        let mut wanted = vec![("refs/heads/main".to_owned(), self.main(at).to_owned())];
        wanted.extend(alive.map(|it| {
            let target = if it.is_annotated { it.name.clone() } else { self.ids[it.target].clone() };
            (it.name.clone(), target)
        }));
        let there = git(&self.remote, &["for-each-ref", "--format=%(refname)"]);
        let gone = there.lines().filter(|it| !wanted.iter().any(|(name, _)| name == it));
        let gone: Vec<String> = gone.map(|it| format!(":{it}")).collect();
        let wanted = wanted.into_iter().map(|(name, target)| format!("{target}:{name}")).collect();
        // Deletions go first: one branch may be in the way of another.
        for specs in [gone, wanted] {
            let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
            if !specs.is_empty() {
                let remote = self.remote.to_str().expect("a plain name");
                git(&self.reference.source, &[&["push", "--quiet", "--force", remote], &specs[..]].concat());
            }
        }
    }

    /// The moves of main after which there is a push: after 1, 3, 10, 30 or all commits.
    fn stops(&mut self, steps_max: usize) -> Vec<usize> {
        let last = self.history.mains.len() - 1;
        let range = *self.dice.weighted(&[1, 3, 10, 30, 1000], |_| 1);
        let longest = range * steps_max;
        let first = if last > longest { self.dice.below((last - longest) as u64) as usize } else { 0 };
        let mut stops: Vec<usize> = (first..=last).step_by(range).take(steps_max).collect();
        if stops.len() < 3 && stops.last() != Some(&last) {
            stops.push(last);
        }
        stops
    }

    /// What a hosting service does to a repository from time to time.
    fn keep_house(&mut self) {
        match self.dice.below(8) {
            0 => drop(git(&self.remote, &["gc", "--quiet"])),
            1 => drop(git(&self.remote, &["pack-refs", "--all"])),
            2 => drop(git(&self.remote, &["repack", "-q", "-d"])),
            _ => (),
        }
    }
}

/// Walks through the world of a seed.
pub fn walk(seed: u64, ground: &Ground<'_>) {
    let began = Instant::now();
    let mut world = World::make(seed, "world", ground);
    let has_parts = world.has_parts();
    let folder = world.folder.join("house");
    fs::create_dir(&folder).expect("a folder");
    let mut places = Place::draw(&mut world.dice, has_parts, &folder);
    let stops = world.stops(ground.steps_max);
    let reach = ground.servers.reach();
    world.push(stops[0]);
    for place in &mut places {
        let expected = world.reference.expect(world.main(stops[0]), place.with_submodules);
        place.prepare(&ground.servers.url(place.way, &world.repository), &reach, &expected);
    }
    let hooks: String = places.iter().map(|it| it.hook(ground.servers, &world.repository)).collect();
    let house = House::open(&folder, &hooks);
    let mut damaged = BTreeSet::new();
    for (step, at) in stops.iter().enumerate() {
        world.push(*at);
        world.keep_house();
        let is_last = step + 1 == stops.len();
        let expected = world.reference.expect(world.main(*at), has_parts);
        let case = Case {
            seed,
            step,
            commit: world.main(*at),
            order: Order::Ref,
            expected: &expected,
            remote: &world.remote,
            reach: &reach,
            report: ground.report,
            is_thorough: step % 4 == 3 || is_last,
        };
        let mut dice = Dice::of(seed, &format!("step {step}"));
        let due =
            places.iter_mut().filter(|it| is_last || (step % it.stride == 0 && (step > 0 || it.start == Start::Fresh)));
        let due: Vec<(&mut Place, Case<'_>, bool, bool)> = due
            .map(|place| {
                let order = *dice.weighted(&[Order::Ref, Order::Commit, Order::Push], |_| 1);
                let order = if step == 0 || is_last { Order::Ref } else { order };
                let (pulls, is_visited) = (dice.chance(10) && !has_parts && step > 0, dice.chance(25) || is_last);
                (place, Case { order, ..case }, pulls, is_visited)
            })
            .collect();
        let house = &house;
        thread::scope(|scope| {
            for (place, case, pulls, is_visited) in due {
                scope.spawn(move || turn(place, &case, house, pulls, is_visited));
            }
        });
        for why in case.judge_mirrors(&house.state()) {
            if damaged.insert(why.clone()) {
                let place = format!("the mirrors of {} places at step {step}", places.len());
                ground.report.complain("git fsck: of a mirror", seed, &place, &why);
            }
        }
    }
    drop(house);
    forget(&world, ground);
    ground.report.count_world(seed, began);
}

/// One deploy into one place, and all that is looked at afterwards.
fn turn(place: &mut Place, case: &Case<'_>, house: &House, pulls: bool, is_visited: bool) {
    if place.failures >= 3 {
        return;
    }
    let is_in_place = place.strategy == Strategy::InPlace;
    // A person was faster, where that is possible at all.
    let is_clean = place.is_whole() && place.told.is_empty() && !place.usable.keys().any(|it| place.is_ambiguous(it));
    if pulls
        && is_in_place
        && is_clean
        && place.folder.join(".git").exists()
        && let Err(why) = git::ask(case.reach, &place.folder, &["pull", "--quiet", "--prune"])
    {
        case.complain(place, "git pull: of the next commit fails", &why);
    }
    case.report.count_deploy();
    let deployed = match case.order {
        Order::Ref => house.deploy(&place.name, None),
        Order::Commit => house.deploy(&place.name, Some(case.commit)),
        Order::Push => house.push(&place.name, case.commit),
    };
    if let Err(why) = deployed {
        place.failures += 1;
        place.expect(case.expected, false);
        return case.complain(place, "deploy: fails", &why);
    }
    place.failures = 0;
    case.judge(place);
    if is_in_place && is_visited {
        case.visit(place);
    }
}

/// Takes a world away, to have room for the next one; it can be made again from its seed.
pub fn forget(world: &World, ground: &Ground<'_>) {
    if ground.keeps {
        return;
    }
    for folder in [&world.folder, &world.reference.served] {
        let _ = fs::remove_dir_all(folder);
    }
}
