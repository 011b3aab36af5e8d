//! Promises of the work on releases itself, at the edges that no journal entry marks.
//!
//! Invariant: each test is one promise.
#![cfg(feature = "failpoints")]

mod astray;

use std::{
    fs,
    os::unix::fs::symlink,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use fail::FailScenario;
use jiff::Timestamp;

use super::{Answer, Errand, Order, run};
use crate::{
    journal::{
        releases::{History, Release},
        site::Site,
    },
    model::{
        push::CommitId,
        release::{ReleaseName, Verdict},
        run::RunId,
    },
};

/// A folder of releases whose first is live and good.
struct Yard {
    folder: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let yard = Self { folder: tempfile::tempdir().expect("a folder") };
        yard.order(Order::Prepare { run: RunId(1) });
        yard.deploy(1);
        yard
    }

    fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn site(&self) -> Site {
        Site::at(self.root())
    }

    fn order(&self, order: Order) -> Answer {
        run(&Errand { root: self.root(), umask: 0o022, order }).expect("it is done")
    }

    /// A staged tree.
    fn stage(&self, number: i64) {
        let staging = self.site().staging(RunId(number));
        fs::create_dir(&staging).expect("made");
        fs::write(staging.join("index.html"), number.to_string()).expect("a file");
    }

    /// From a staged tree to a good release.
    fn deploy(&self, number: i64) {
        self.deploy_as(release(number));
    }

    fn deploy_as(&self, release: Release) {
        self.stage(release.run.0);
        self.order(Order::Seal { release: release.clone() });
        self.order(Order::Switch { run: release.run, link: Site::link_to(&release.name) });
        self.order(Order::Judge { name: release.name, verdict: Verdict::Good, note: None });
    }

    fn tidy(&self) -> Answer {
        self.order(Order::Tidy { run: RunId(99), good: 1, failed: 0, spared: Vec::new() })
    }

    /// Does something that dies at this point.
    fn dies_at(&self, point: &str, work: impl FnOnce(&Self)) {
        fail::cfg(point, "panic").expect("a known action");
        assert!(catch_unwind(AssertUnwindSafe(|| work(self))).is_err(), "it does not come by {point}");
        fail::remove(point);
    }

    /// What is live is whole, and so is everything under a final name, which is on record.
    fn is_sane(&self, point: &str) {
        let history = History::read(&self.site()).expect("readable");
        let served = fs::read_to_string(self.site().current().join("index.html")).expect("something is served");
        let live = history.live.clone().expect("something is live");
        assert_eq!(live, release(served.parse().expect("a number")).name, "{point}");
        assert_ne!(history.find(&live).expect("on record").verdict, Verdict::Ready, "{point}");
        for entry in fs::read_dir(self.site().releases()).expect("readable").flatten() {
            let name = entry.file_name().to_str().expect("plain").to_owned();
            if let Some(name) = ReleaseName::parse(&name) {
                assert!(entry.path().join("index.html").exists() && history.find(&name).is_some(), "{point}: {name}");
            }
        }
    }
}

fn release(number: i64) -> Release {
    Release {
        name: ReleaseName::parse(&format!("20260101T000000Z-r{number}-abcdef0")).expect("a name"),
        commit: None,
        run: RunId(number),
        at: Timestamp::UNIX_EPOCH,
        after: None,
        verdict: Verdict::Ready,
        subject: String::new(),
        author: String::new(),
        size_bytes: 0,
        note: None,
    }
}

#[test]
fn work_that_dies_anywhere_leaves_the_old_or_the_new_live_and_the_next_run_finds_its_way() {
    let scenario = FailScenario::setup();
    let points = ["seal-synced", "seal-recorded", "seal-renamed", "switch-linked", "switch-renamed", "switch-recorded"];
    for point in points {
        let yard = Yard::new();
        yard.dies_at(point, |yard| yard.deploy(2));
        yard.is_sane(point);
        yard.deploy(3);
        yard.is_sane(point);
        assert_eq!(yard.tidy(), Answer::Tidied(Vec::new()), "{point}");
        let names = fs::read_dir(yard.site().releases()).expect("readable").count();
        assert_eq!(names, 2, "{point}: what is live, the way back, and nothing of the dead run");
    }
    scenario.teardown();
}

#[test]
fn tidying_that_dies_never_leaves_half_a_release() {
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    yard.deploy(2);
    yard.deploy(3);
    yard.dies_at("tidy-renamed", |yard| drop(yard.tidy()));
    yard.is_sane("tidy-renamed");
    assert_eq!(yard.tidy(), Answer::Tidied(Vec::new()));
    assert_eq!(fs::read_dir(yard.root().join(".landfall/trash")).expect("readable").count(), 0);
    scenario.teardown();
}

#[test]
fn a_folder_of_the_commit_in_the_place_of_revision_is_left_alone() {
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    let revision = |number| yard.site().staging(RunId(number)).join("REVISION");
    for number in [2, 3] {
        yard.stage(number);
    }
    fs::create_dir(revision(2)).expect("made");
    let commit = CommitId::parse(&"a".repeat(40)).expect("an id");
    for number in [2, 3] {
        yard.order(Order::Furnish { run: RunId(number), commit: commit.clone(), shared: Vec::new() });
    }
    assert!(revision(2).is_dir());
    assert_eq!(fs::read_to_string(revision(3)).expect("a file"), format!("{commit}\n"));
    scenario.teardown();
}

#[test]
fn a_switch_that_reads_otherwise_is_not_taken_for_done() {
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    let current = yard.site().current();
    fail::cfg_callback("switch-renamed", move || {
        fs::remove_file(&current).expect("somebody removes it");
        symlink("releases/elsewhere", &current).expect("and has other ideas");
    })
    .expect("a known point");
    yard.order(Order::Prepare { run: RunId(2) });
    yard.stage(2);
    yard.order(Order::Seal { release: release(2) });
    let link = Site::link_to(&release(2).name);
    let result = run(&Errand { root: yard.root(), umask: 0o022, order: Order::Switch { run: RunId(2), link } });
    assert!(result.expect_err("refused").reason.ends_with("it was done, and reads otherwise"));
    scenario.teardown();
}

#[test]
fn a_clock_that_was_set_back_changes_nothing_about_what_comes_after_what() {
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    let name = |hour: i64| ReleaseName::parse(&format!("20260101T{hour:02}0000Z-r{}", 20 - hour)).expect("a name");
    for number in 2..=4 {
        yard.deploy_as(Release { name: name(20 - number), ..release(number) });
    }
    let history = History::read(&yard.site()).expect("readable");
    let way: Vec<_> = history.way_back().map(|it| it.run.0).collect();
    assert_eq!((history.live.clone(), way), (Some(name(16)), vec![3, 2, 1]));
    yard.order(Order::Tidy { run: RunId(4), good: 2, failed: 0, spared: Vec::new() });
    assert!(history.is_there(&name(16)) && history.is_there(&name(17)) && !history.is_there(&name(18)));
    scenario.teardown();
}

#[test]
fn the_way_back_is_there_whatever_is_put_away() {
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    yard.deploy_as(Release { after: Some(release(1).name), ..release(2) });
    // As after a run that switched nothing: it knows of no other than what is live.
    yard.order(Order::Tidy { run: RunId(3), good: 1, failed: 0, spared: vec![release(2).name] });
    yard.order(Order::Switch { run: RunId(4), link: Site::link_to(&release(1).name) });
    yard.deploy_as(Release { after: Some(release(1).name), ..release(5) });
    yard.order(Order::Tidy { run: RunId(6), good: 2, failed: 0, spared: vec![release(5).name] });
    let history = History::read(&yard.site()).expect("readable");
    assert_eq!(history.way_back().map(|it| it.run.0).collect::<Vec<_>>(), [1]);
    scenario.teardown();
}

#[test]
fn what_is_served_is_served_at_every_instant_of_an_adoption() {
    let scenario = FailScenario::setup();
    let yards: Vec<Yard> = (0..300).map(|_| Yard { folder: tempfile::tempdir().expect("a folder") }).collect();
    for yard in &yards {
        fs::create_dir(yard.site().current()).expect("made");
        fs::write(yard.site().current().join("index.html"), "1").expect("a file");
    }
    let pages: Vec<PathBuf> = yards.iter().map(|it| it.site().current().join("index.html")).collect();
    let at = Arc::new(AtomicUsize::new(0));
    let reader = {
        let at = Arc::clone(&at);
        thread::spawn(move || {
            let looks = (0..).map_while(|_| pages.get(at.load(Ordering::SeqCst)));
            looks.map(|it| fs::metadata(it).map(drop)).collect::<Result<Vec<_>, _>>()
        })
    };
    for yard in &yards {
        yard.order(Order::Adopt { release: Release { verdict: Verdict::Good, ..release(1) } });
        assert_eq!(fs::read_link(yard.site().current()).expect("a link"), Site::link_to(&release(1).name));
        at.fetch_add(1, Ordering::SeqCst);
    }
    let looks = reader.join().expect("a reader").expect("it is there whenever somebody looks").len();
    assert!(looks > yards.len(), "{looks}");
    scenario.teardown();
}

#[test]
fn an_adoption_that_dies_serves_what_was_served_and_may_be_asked_for_again() {
    let scenario = FailScenario::setup();
    for (point, is_adopted) in [("adopt-linked", false), ("adopt-exchanged", true)] {
        let yard = Yard { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(yard.site().current()).expect("made");
        fs::write(yard.site().current().join("index.html"), "1").expect("a file");
        let adopted = |number| Order::Adopt { release: Release { verdict: Verdict::Good, ..release(number) } };
        yard.dies_at(point, |yard| drop(yard.order(adopted(1))));
        assert_eq!(fs::read_to_string(yard.site().current().join("index.html")).expect("served"), "1");
        if !is_adopted {
            yard.order(adopted(2));
        }
        let history = History::read(&yard.site()).expect("readable");
        let live = history.live.clone().expect("live");
        assert_eq!(history.find(&live).expect("on record").verdict, Verdict::Good);
        yard.deploy(3);
        yard.tidy();
        yard.is_sane(point);
    }
    scenario.teardown();
}
