//! Ranges of a real repository: what people have made of their history, where a seed would not have thought of it.
//!
//! Invariant: the repository itself is only read.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    git::{self, Reach, git},
    house::House,
    judge::Case,
    place::{Order, Place, Start, Strategy},
    serve::Way,
    snapshot::{Expected, Reference},
    walk::{Ground, World},
};

/// Deploys every so many commits of the first-parent history, at most so many ranges; without a repository a made-up one.
pub fn deploy_ranges(repository: Option<&Path>, (every, ranges): (usize, usize), ground: &Ground<'_>) {
    let began = Instant::now();
    let made_up = repository.is_none().then(|| World::make(3, "real", ground).reference.source);
    if let Some(source) = &made_up {
        let all = git(source, &["for-each-ref", "--format=%(refname)", "refs/world"]);
        let newest = all.lines().max_by_key(|it| it.rsplit('/').next().and_then(|it| it.parse::<u64>().ok()));
        git(source, &["update-ref", "refs/heads/main", newest.expect("a commit")]);
        git(source, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    }
    let given = repository.map(|it| fs::canonicalize(it).expect("a repository"));
    let source = given.or(made_up).expect("one of both");
    let (served, folder) = (ground.served.join("real"), ground.folder.join("real"));
    for folder in [&served, &folder] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let remote = served.join("site.git");
    git(&served, &["clone", "--quiet", "--bare", source.to_str().expect("a plain name"), "site.git"]);
    let commits = git(&remote, &["rev-list", "--first-parent", "--reverse", "HEAD"]);
    let mut stops: Vec<&str> = commits.lines().rev().step_by(every).take(ranges + 1).collect();
    stops.reverse();
    // Only main is there, and only as far as it has been pushed.
    git(&remote, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    git(&remote, &["update-ref", "refs/heads/main", stops[0]]);
    let others = git(&remote, &["for-each-ref", "--format=delete %(refname)"]);
    let others: String =
        others.lines().filter(|it| *it != "delete refs/heads/main").map(|it| format!("{it}\n")).collect();
    git::feed(&remote, &["update-ref", "--stdin"], others.as_bytes());

    let mut places = Vec::new();
    for (strategy, start) in [(Strategy::InPlace, Start::Clone), (Strategy::Releases, Start::Fresh)] {
        for way in [Way::Http, Way::File] {
            places.push(Place::new(places.len(), strategy, way, start, &folder));
        }
    }
    let reference =
        Reference { source: remote.clone(), served: served.clone(), parts: Vec::new(), folder: folder.clone() };
    let mut timed: Vec<Timed> = places.iter().map(|it| Timed::new(it, &folder, ground)).collect();
    let expected = reference.expect(stops[0], false);
    for place in &mut places {
        place.prepare(&ground.servers.url(place.way, "real/site.git"), &ground.servers.reach(), &expected);
    }
    let hooks: String = places.iter().map(|it| it.hook(ground.servers, "real/site.git")).collect();
    let house = House::open(&folder, &hooks);
    let mut damaged = BTreeSet::new();
    for (step, commit) in stops.iter().enumerate().skip(1) {
        git(&remote, &["update-ref", "refs/heads/main", commit]);
        let expected = reference.expect(commit, false);
        for (place, timed) in places.iter_mut().zip(&mut timed) {
            timed.deploy(place, (step, commit), &expected, (&house, &remote, ground), &mut damaged);
        }
    }
    for (place, timed) in places.iter().zip(&timed) {
        println!("{}", timed.line(place));
    }
    ground.report.count_world(0, began);
}

/// What one place has needed, and git beside it.
struct Timed {
    twin: std::path::PathBuf,
    own: Vec<Duration>,
    of_git: Vec<Duration>,
    failures: usize,
}

impl Timed {
    fn new(place: &Place, folder: &Path, ground: &Ground<'_>) -> Self {
        let twin = folder.join(format!("twin-{}", place.name));
        let url = ground.servers.url(place.way, "real/site.git");
        git::ask(&ground.servers.reach(), folder, &["clone", "--quiet", &url, twin.to_str().expect("a plain name")])
            .expect("git clones");
        Self { twin, own: Vec::new(), of_git: Vec::new(), failures: 0 }
    }

    fn deploy(
        &mut self,
        place: &mut Place,
        (step, commit): (usize, &str),
        expected: &Expected,
        (house, remote, ground): (&House, &Path, &Ground<'_>),
        damaged: &mut BTreeSet<String>,
    ) {
        let reach: Reach = ground.servers.reach();
        let began = Instant::now();
        git::ask(&reach, &self.twin, &["fetch", "--quiet"]).expect("git fetches");
        if place.strategy == Strategy::InPlace {
            git(&self.twin, &["reset", "--quiet", "--hard", commit]);
        } else {
            let fresh = self.twin.with_extension("fresh");
            let _ = fs::remove_dir_all(&fresh);
            git(&self.twin, &["worktree", "prune"]);
            git(&self.twin, &["worktree", "add", "--quiet", "--detach", fresh.to_str().expect("plain"), commit]);
        }
        self.of_git.push(began.elapsed());
        let case = Case {
            seed: 0,
            step,
            commit,
            order: Order::Ref,
            expected,
            remote,
            reach: &reach,
            report: ground.report,
            is_thorough: false,
        };
        ground.report.count_deploy();
        // Each range is judged for itself.
        place.told.clear();
        let began = Instant::now();
        let deployed = house.deploy(&place.name, None);
        self.own.push(began.elapsed());
        match deployed {
            Ok(()) => case.judge(place),
            Err(why) => {
                place.expect(expected, false);
                case.complain(place, "deploy: fails", &why);
            }
        }
        // A mirror is of all places that reach the remote in the same way, and stays damaged.
        for why in case.judge_mirrors(&house.state()).into_iter().filter(|it| damaged.insert(it.clone())) {
            case.complain(place, "git fsck: of a mirror", &why);
        }
        self.failures += usize::from(!place.told.is_empty());
        if !place.told.is_empty() {
            println!(
                "{place}, range {step} to {commit}: {}",
                place.told.iter().cloned().collect::<Vec<_>>().join(", ")
            );
        }
    }

    fn line(&self, place: &Place) -> String {
        let median = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let (own, of_git) = (median(&self.own), median(&self.of_git));
        let (ranges, failures) = (self.own.len(), self.failures);
        format!("{place}: {ranges} ranges, {failures} failed, median {own:.0?} against {of_git:.0?} of git")
    }
}
