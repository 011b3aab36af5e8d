//! Promises that no link and no mount leads the work on releases out of their folder.
//!
//! Invariant: each test is one promise; those that need root say so by name.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use fail::FailScenario;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Yard, release};
use crate::{
    journal::site::Site,
    keeper::release::{Answer, Errand, ErrandFailure, Order, run},
    model::{
        deploy::SharedPath,
        name::HookName,
        push::CommitId,
        release::Verdict,
        run::{FailureClass, RunId},
    },
    process::beneath::Folder,
};

const NOBODY: Option<u32> = Some(65534);

/// A folder outside, in which nothing may change.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("r7")).expect("made");
        fs::write(folder.path().join("r7/file"), "sings").expect("written");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn sings(&self) -> bool {
        let names: Vec<_> = fs::read_dir(self.path()).expect("there").flatten().map(|it| it.file_name()).collect();
        names == ["r7"] && fs::read_to_string(self.path().join("r7/file")).is_ok_and(|it| it == "sings")
    }
}

impl Yard {
    fn tries(&self, order: Order) -> Result<Answer, ErrandFailure> {
        run(&Errand { root: self.root(), umask: 0o022, order })
    }

    fn looks(&self, shared: &[SharedPath]) -> Result<Answer, ErrandFailure> {
        let hook = HookName::parse("site").expect("a name");
        self.tries(Order::Look { hook, shared: shared.to_vec(), wanted: None })
    }

    fn furnishes(&self, number: i64, shared: &[SharedPath]) -> Result<Answer, ErrandFailure> {
        self.stage(number);
        let commit = CommitId::parse(&"a".repeat(40)).expect("an id");
        self.tries(Order::Furnish { run: RunId(number), commit, shared: shared.to_vec() })
    }

    /// Puts a link to the canary in the place of what is there.
    fn leads_astray(&self, path: &Path, canary: &Canary) {
        if path.exists() {
            fs::rename(path, self.root().join("moved")).expect("moved");
        }
        symlink(canary.path(), path).expect("a link");
    }
}

fn is_root(name: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("SKIPPED, needs root: {name}");
    }
    is_root
}

fn seeded(path: &str) -> SharedPath {
    SharedPath { path: path.into(), required: false, seed: Some("index.html".into()), mode: Some(0o666) }
}

/// The refusal is for good, and says so much.
fn refused(answer: Result<Answer, ErrandFailure>, part: &str) {
    let failure = answer.expect_err(part);
    assert!(failure.class == FailureClass::Permanent && failure.reason.contains(part), "{failure:?}");
}

#[test]
fn a_link_in_the_place_of_landfalls_own_folders_empties_and_fills_nothing_elsewhere() {
    let scenario = FailScenario::setup();
    let places: [fn(&Site) -> PathBuf; 3] = [|it| it.own().join("trash"), Site::failed, Site::own];
    for place in places {
        let (yard, canary) = (Yard::new(), Canary::new());
        yard.deploy(2);
        yard.deploy(3);
        yard.stage(9);
        yard.leads_astray(&place(&yard.site()), &canary);
        let Answer::Tidied(troubles) = yard.tidy() else { panic!("it tidies") };
        assert!(canary.sings() && troubles.iter().any(|it| it.contains("is a link")), "{troubles:?}");
    }
    scenario.teardown();
}

#[test]
fn as_root_a_link_in_the_place_of_what_root_works_in_is_refused() {
    if !is_root("as_root_a_link_in_the_place_of_what_root_works_in_is_refused") {
        return;
    }
    let scenario = FailScenario::setup();
    let places: [fn(&Site) -> PathBuf; 3] = [Site::releases, Site::shared, Site::own];
    for place in places {
        let (yard, canary) = (Yard::new(), Canary::new());
        yard.leads_astray(&place(&yard.site()), &canary);
        refused(yard.looks(&[]), "is a link, which could lead anywhere");
        refused(yard.tries(Order::Prepare { run: RunId(2) }), "is a link, which could lead anywhere");
        assert!(canary.sings());
    }
    scenario.teardown();
}

#[test]
fn as_root_folders_that_others_may_change_are_refused_with_the_command_that_mends_it() {
    if !is_root("as_root_folders_that_others_may_change_are_refused_with_the_command_that_mends_it") {
        return;
    }
    let scenario = FailScenario::setup();
    let places: [fn(&Site) -> PathBuf; 4] = [|it| it.root().to_owned(), Site::releases, Site::shared, Site::own];
    for place in places {
        let yard = Yard::new();
        let place = place(&yard.site());
        let mode = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(0o775);
        yard.looks(&[]).expect("root's own group is root");
        chown(&place, None, NOBODY).expect("another group");
        refused(yard.looks(&[]), "may be changed by group `");
        mode(0o1777);
        refused(yard.looks(&[]), &format!("`chmod go-w {}`", place.display()));
        refused(yard.tries(Order::Prepare { run: RunId(2) }), "may be changed by everybody");
        mode(0o755);
        chown(&place, NOBODY, None).expect("given");
        refused(yard.looks(&[]), "belongs to `nobody`");
    }
    scenario.teardown();
}

#[test]
fn as_root_nothing_is_shared_below_what_others_may_change_whether_or_not_it_is_there() {
    if !is_root("as_root_nothing_is_shared_below_what_others_may_change_whether_or_not_it_is_there") {
        return;
    }
    let scenario = FailScenario::setup();
    let yard = Yard::new();
    let (storage, conf) = (yard.site().shared().join("storage"), yard.site().shared().join("storage/x/conf"));
    let items = [seeded("storage/x/conf")];
    fs::create_dir_all(&conf).expect("made");
    chown(&conf, NOBODY, None).expect("given");
    yard.looks(&items).expect("what is shared itself may be anybody's");
    chown(&storage, NOBODY, None).expect("given");
    for number in [2, 3] {
        refused(yard.looks(&items), "storage` belongs to `nobody`, and root writes nothing");
        refused(yard.furnishes(number, &items), "name who works with `user: nobody`, or `chown root ");
        // And now it is not there.
        let _ = fs::remove_dir(&conf);
    }
    assert!(!conf.exists());
    chown(&storage, Some(0), None).expect("taken back");
    fs::set_permissions(&storage, fs::Permissions::from_mode(0o777)).expect("a mode");
    refused(yard.furnishes(4, &items), "storage` may be changed by everybody");
    fs::set_permissions(&storage, fs::Permissions::from_mode(0o755)).expect("a mode");
    yard.furnishes(5, &items).expect("it is root's alone");
    let metadata = conf.metadata().expect("it is there");
    assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o666);
    scenario.teardown();
}

#[test]
fn a_folder_of_what_is_shared_that_is_swapped_for_a_link_leads_nothing_elsewhere() {
    let scenario = FailScenario::setup();
    let (yard, canary) = (Yard::new(), Canary::new());
    let at = |name: &str| yard.site().shared().join(name);
    fs::create_dir_all(at("storage/x")).expect("made");
    symlink(canary.path(), at("storage/other")).expect("a link");
    let (is_over, swaps, began) = (AtomicBool::new(false), AtomicUsize::new(0), Instant::now());
    let (held, mut made) = (Folder::open(&yard.site().shared()).expect("opened"), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, at("storage/x"), CWD, at("storage/other"), RenameFlags::EXCHANGE);
                swaps.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        for number in 2.. {
            made += usize::from(yard.furnishes(number, &[seeded("storage/x/conf")]).is_ok());
            fs::remove_dir_all(yard.site().staging(RunId(number))).expect("removed");
            for name in ["storage/x/conf", "storage/other/conf"] {
                let _ = held.remove_file(Path::new(name));
            }
            let is_enough = made > 0 && swaps.load(Ordering::Relaxed) > 1_000 && began.elapsed().as_millis() > 700;
            if is_enough || !canary.sings() || began.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(canary.sings() && made > 0, "{made} of them came to be between swaps");
    scenario.teardown();
}

#[test]
fn as_root_what_is_mounted_in_an_old_release_is_not_removed_with_it() {
    if !is_root("as_root_what_is_mounted_in_an_old_release_is_not_removed_with_it") {
        return;
    }
    let scenario = FailScenario::setup();
    let (yard, canary) = (Yard::new(), Canary::new());
    let release = |number| yard.site().release(&release(number).name);
    fs::create_dir(release(1).join("mnt")).expect("made");
    yard.deploy(2);
    yard.deploy(3);
    // What is renamed with the tree stays mounted.
    let mounted = Command::new("mount").arg("--bind").arg(canary.path()).arg(release(1).join("mnt")).status();
    if !mounted.is_ok_and(|it| it.success()) {
        println!(
            "SKIPPED, nothing can be mounted here: as_root_what_is_mounted_in_an_old_release_is_not_removed_with_it"
        );
        return;
    }
    let troubles = yard.tidy();
    let trash = yard.site().own().join("trash").join(release(1).file_name().expect("a name"));
    for place in [release(1), trash] {
        let _ = Command::new("umount").arg(place.join("mnt")).status();
    }
    assert!(canary.sings() && troubles != Answer::Tidied(Vec::new()), "{troubles:?}");
    scenario.teardown();
}

#[test]
fn an_adoption_reads_no_revision_through_a_link() {
    let scenario = FailScenario::setup();
    let yard = Yard { folder: tempfile::tempdir().expect("a folder") };
    let hidden = yard.root().join("hidden");
    fs::write(&hidden, "a".repeat(40)).expect("written");
    fs::create_dir(yard.site().current()).expect("made");
    symlink(hidden, yard.site().current().join("REVISION")).expect("a link");
    let order = Order::Adopt { release: crate::journal::releases::Release { verdict: Verdict::Good, ..release(1) } };
    let Answer::Adopted(adopted) = yard.order(order) else { panic!("it adopts") };
    assert_eq!(adopted.commit, None);
    scenario.teardown();
}
