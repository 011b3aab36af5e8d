//! Promises of the work on releases itself, at the edges that no journal entry marks.
//!
//! Invariant: each test is one promise.
#![cfg(feature = "failpoints")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
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
        run(&Errand { root: self.root(), order }).expect("it is done")
    }

    /// From a staged tree to a good release.
    fn deploy(&self, number: i64) {
        let staging = self.site().staging(RunId(number));
        fs::create_dir(&staging).expect("made");
        fs::write(staging.join("index.html"), number.to_string()).expect("a file");
        self.order(Order::Seal { release: release(number) });
        self.order(Order::Switch { run: RunId(number), link: Site::link_to(&release(number).name) });
        self.order(Order::Judge { name: release(number).name, verdict: Verdict::Good, note: None });
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
        assert_eq!(names, 1, "{point}: nothing of the dead run is left");
    }
    scenario.teardown();
}

#[test]
fn tidying_that_dies_never_leaves_half_a_release() {
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    yard.deploy(2);
    yard.dies_at("tidy-renamed", |yard| drop(yard.tidy()));
    yard.is_sane("tidy-renamed");
    assert_eq!(yard.tidy(), Answer::Tidied(Vec::new()));
    assert_eq!(fs::read_dir(yard.root().join(".landfall/trash")).expect("readable").count(), 0);
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
