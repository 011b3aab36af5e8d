//! Promises about folders of others: root writes only where root alone can.
//!
//! Invariant: each test is one promise; those that need root say so by name.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use landfall::model::{
    deploy::{Git, Keeping, SharedPath, Strategy},
    job::{Job, Target},
    push::{CommitId, RefName},
    run::{Outcome, RunStep},
};
use rustix::{
    fs::{CWD, Gid, RenameFlags, Uid, renameat_with},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

use super::{
    bench::{Bench, Ended},
    code::{deploying, git, in_place},
    root::is_root,
};

const NOBODY: u32 = 65534;

/// A run into a clone that belongs to this user, with all that is in it.
fn into_clone_of(owner: u32, text: &str) -> Bench {
    let (bench, _) = deploying(text, in_place);
    git(bench.state.path(), &["clone", "-q", bench.path("remote").to_str().expect("text"), "site"]);
    give(&bench.path("site"), owner);
    bench
}

fn give(path: &Path, owner: u32) {
    let given = Command::new("chown").args(["-hR", &format!("{owner}:{owner}")]).arg(path).status();
    assert!(given.expect("chown").success());
}

/// Commits these files, and lets the run deploy the commit.
fn commit(bench: &mut Bench, files: &[(&str, &str)]) {
    let remote = bench.path("remote");
    for (name, text) in files {
        let path = remote.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("written");
    }
    git(&remote, &["add", "-A"]);
    git(&remote, &["-c", "user.name=Ann", "-c", "user.email=ann@x.org", "commit", "-q", "-m", "more words"]);
    let commit = CommitId::parse(&git(&remote, &["rev-parse", "HEAD"])).expect("a commit");
    bench.job = Box::new(move |job: &mut Job| {
        job.target = Target::Commit { commit: commit.clone(), ref_name: RefName::parse("refs/heads/main") };
    });
}

/// A folder of root's outside of what is deployed, and all that can be seen of it.
struct Canary(PathBuf);

impl Canary {
    fn sings_in(bench: &Bench) -> Self {
        let folder = bench.path("canary");
        fs::create_dir_all(folder.join("deep")).expect("folders");
        fs::write(folder.join("deep/file"), "sings\n").expect("written");
        fs::write(folder.join("a"), "sings\n").expect("written");
        Self(folder)
    }

    fn song(&self) -> Vec<(PathBuf, u32, u32, i64, Vec<u8>)> {
        let mut song = Vec::new();
        for path in ["", "deep", "deep/file", "a"].map(|it| self.0.join(it)) {
            let metadata = path.symlink_metadata().expect("it is there");
            let content = match metadata.is_dir() {
                true => fs::read_dir(&path)
                    .expect("there")
                    .flatten()
                    .flat_map(|it| it.file_name().into_encoded_bytes())
                    .collect(),
                false => fs::read(&path).expect("there"),
            };
            song.push((path, metadata.mode(), metadata.uid(), metadata.mtime_nsec(), content));
        }
        song
    }
}

fn failed_at(ended: &Ended, step: RunStep) -> String {
    let Outcome::Failed(failure) = ended.outcome() else { panic!("{:?}: {:?}", ended.outcome(), ended.whole_log()) };
    assert_eq!(failure.step, step, "{}", failure.reason);
    failure.reason
}

#[test]
fn as_root_git_work_and_steps_of_a_folder_in_place_are_its_owners() {
    if !is_root("as_root_git_work_and_steps_of_a_folder_in_place_are_its_owners") {
        return;
    }
    let text = "id -un; echo $HOME; stat -c %U . new .git/index | uniq";
    let mut bench = into_clone_of(NOBODY, text);
    commit(&mut bench, &[("new", "1\n")]);
    let ended = bench.hook(|it| it.run[0].shell = vec!["/bin/sh".into()]).finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
    let home = nix::unistd::User::from_name("nobody").expect("user database").expect("nobody").dir;
    assert_eq!(ended.printed(), ["nobody", &home.display().to_string(), "nobody"]);
    assert!(ended.has_remark("belongs to `nobody`: git work and steps run as that user"));
}

#[test]
fn as_root_a_missing_folder_is_made_by_the_owner_of_the_one_above() {
    if !is_root("as_root_a_missing_folder_is_made_by_the_owner_of_the_one_above") {
        return;
    }
    let (bench, _) = deploying("id -un; stat -c %U . .git", |git, bench| match in_place(git, bench) {
        Strategy::InPlace { git, path, dirty, clean } => {
            Strategy::InPlace { git, path: path.join("a/b"), dirty, clean }
        }
        other => other,
    });
    fs::create_dir(bench.path("site")).expect("a folder");
    give(&bench.path("site"), NOBODY);
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
    assert_eq!(ended.printed(), ["nobody", "nobody", "nobody"]);
}

#[test]
fn as_root_user_root_keeps_the_steps_and_leaves_git_work_to_the_owner() {
    if !is_root("as_root_user_root_keeps_the_steps_and_leaves_git_work_to_the_owner") {
        return;
    }
    let mut bench = into_clone_of(NOBODY, "id -un; stat -c %U new");
    commit(&mut bench, &[("new", "1\n")]);
    let ended = bench.hook(|it| it.user = Some("root".into())).finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
    assert_eq!(ended.printed(), ["root", "nobody"]);
}

#[test]
fn as_root_a_repository_that_is_not_its_trees_owners_is_refused_with_the_command_that_mends_it() {
    if !is_root("as_root_a_repository_that_is_not_its_trees_owners_is_refused_with_the_command_that_mends_it") {
        return;
    }
    let foreign = |owner: u32, part: &str, other: u32| {
        let bench = into_clone_of(owner, "echo never");
        give(&bench.path("site").join(part), other);
        let ended = bench.finish();
        let reason = failed_at(&ended, RunStep::Preflight);
        assert!(reason.contains(&format!("{part}` belongs to `")) && reason.contains("chown -RP "), "{reason}");
    };
    foreign(0, ".git", NOBODY);
    foreign(0, ".git/refs/heads", NOBODY);
    foreign(NOBODY, ".git", 0);
    let bench = into_clone_of(0, "echo never");
    fs::set_permissions(bench.path("site/.git/logs"), fs::Permissions::from_mode(0o777)).expect("a mode");
    assert!(failed_at(&bench.finish(), RunStep::Preflight).contains("logs` may be changed by everybody"));
}

#[test]
fn as_root_a_commit_that_changes_what_is_anothers_fails_before_any_change_and_names_it() {
    if !is_root("as_root_a_commit_that_changes_what_is_anothers_fails_before_any_change_and_names_it") {
        return;
    }
    for (owner, other) in [(0, NOBODY), (NOBODY, 0)] {
        for foreign in ["uploads", "uploads/keep"] {
            let (mut bench, _) = deploying("true", in_place);
            commit(&mut bench, &[("uploads/keep", "1\n"), ("page", "1\n")]);
            git(bench.state.path(), &["clone", "-q", bench.path("remote").to_str().expect("text"), "site"]);
            give(&bench.path("site"), owner);
            give(&bench.path("site").join(foreign), other);
            commit(&mut bench, &[("page", "2\n")]);
            let ended = bench.finish();
            assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
            let mut bench = ended.bench.again(8);
            commit(&mut bench, &[("uploads/keep", "2\n"), ("page", "3\n"), ("new", "1\n")]);
            let ended = bench.finish();
            let reason = failed_at(&ended, RunStep::Stage);
            assert!(reason.contains(&format!("site/{foreign}`, which belongs to `")), "{reason}");
            let read = |name: &str| fs::read_to_string(ended.bench.path("site").join(name)).unwrap_or_default();
            assert_eq!([read("page"), read("uploads/keep"), read("new")], ["2\n", "1\n", ""]);
            assert_eq!(ended.bench.path("site").join(foreign).metadata().expect("there").uid(), other);
        }
    }
}

#[test]
fn as_root_links_on_the_way_are_followed_if_they_are_roots_or_the_owners() {
    if !is_root("as_root_links_on_the_way_are_followed_if_they_are_roots_or_the_owners") {
        return;
    }
    for (of_link, is_followed) in [(0, true), (NOBODY, true), (1, false)] {
        let mut bench = into_clone_of(NOBODY, "id -un");
        commit(&mut bench, &[("new", "1\n")]);
        fs::rename(bench.path("site"), bench.path("real")).expect("moved");
        symlink("real", bench.path("site")).expect("a link");
        lchown(bench.path("site"), Some(of_link), None).expect("given");
        let ended = bench.finish();
        if is_followed {
            assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
            assert_eq!(ended.printed(), ["nobody"]);
        } else {
            let reason = failed_at(&ended, RunStep::Preflight);
            assert!(reason.contains("is a link of `daemon`, who can lead it elsewhere"), "{reason}");
        }
    }
}

#[test]
fn as_root_a_link_in_a_repository_of_anothers_appends_to_nothing_of_roots() {
    if !is_root("as_root_a_link_in_a_repository_of_anothers_appends_to_nothing_of_roots") {
        return;
    }
    let mut bench = into_clone_of(NOBODY, "true");
    let canary = Canary::sings_in(&bench);
    let song = canary.song();
    let log = bench.path("site/.git/logs/HEAD");
    fs::remove_file(&log).expect("removed");
    symlink(bench.path("canary/a"), &log).expect("a link");
    commit(&mut bench, &[("new", "1\n")]);
    let ended = bench.finish();
    assert_eq!(canary.song(), song, "{:?}", ended.whole_log());
}

#[test]
fn as_root_releases_are_made_by_the_owner_of_their_folder_and_never_among_folders_of_another() {
    if !is_root("as_root_releases_are_made_by_the_owner_of_their_folder_and_never_among_folders_of_another") {
        return;
    }
    let releasing = |owner: u32, shared: u32| {
        let (bench, _) = deploying("id -un; stat -c %U .", releases);
        fs::create_dir_all(bench.path("site/shared")).expect("folders");
        give(&bench.path("site"), owner);
        chown(bench.path("site/shared"), Some(shared), None).expect("given");
        bench.finish()
    };
    let ended = releasing(NOBODY, NOBODY);
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
    assert_eq!(ended.printed(), ["nobody", "nobody"]);
    let ended = releasing(0, NOBODY);
    let reason = ended.outcome().reason().unwrap_or_default();
    assert!(reason.contains("shared` belongs to `nobody`, and root writes nothing"), "{reason}");
}

#[test]
fn as_root_what_is_shared_below_a_folder_of_another_is_refused_whether_or_not_it_is_there() {
    if !is_root("as_root_what_is_shared_below_a_folder_of_another_is_refused_whether_or_not_it_is_there") {
        return;
    }
    for is_there in [false, true] {
        let sharing = |git: Git, bench: &Bench| {
            let item = SharedPath { path: "storage/x/conf".into(), required: false, seed: None, mode: Some(0o777) };
            let keeping = Keeping { shared: vec![item], ..Keeping::default() };
            Strategy::Releases { git, path: bench.path("site"), keeping }
        };
        let (bench, _) = deploying("true", sharing);
        let folder = bench.path("site/shared/storage/x");
        fs::create_dir_all(if is_there { folder.join("conf") } else { folder }).expect("folders");
        chown(bench.path("site/shared/storage"), Some(NOBODY), None).expect("given");
        let ended = bench.hook(|it| it.user = Some("root".into())).finish();
        let reason = failed_at(&ended, RunStep::Preflight);
        assert!(reason.contains("shared/storage` belongs to `nobody`, and root writes nothing"), "{reason}");
        assert!(reason.contains("`user: nobody`, or `chown root "), "{reason}");
    }
}

fn releases(git: Git, bench: &Bench) -> Strategy {
    Strategy::Releases { git, path: bench.path("site"), keeping: Keeping::default() }
}

/// How long folders and links change places; the suite makes do with a few deploys.
fn race_time() -> Duration {
    let seconds = env::var("LANDFALL_RACE_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Deploys into a folder of this user while `nobody` swaps this folder of it for a link to the canary, as fast as can be.
fn race(owner: u32, swapped: &str, prepare: impl Fn(&Path)) {
    let (mut bench, _) = deploying("true", in_place);
    commit(&mut bench, &[("sub/a", "0\n"), ("sub/deep/file", "0\n")]);
    let site = bench.path("site");
    git(bench.state.path(), &["clone", "-q", bench.path("remote").to_str().expect("text"), "site"]);
    give(&site, owner);
    fs::set_permissions(bench.state.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
    let canary = Canary::sings_in(&bench);
    let (song, is_over, swaps) = (canary.song(), AtomicBool::new(false), AtomicUsize::new(0));
    let (swapped, other) = (site.join(swapped), site.join(swapped).with_file_name("other"));
    symlink(bench.path("canary"), &other).expect("a link");
    lchown(&other, Some(NOBODY), Some(NOBODY)).expect("given");
    prepare(&site);
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            set_thread_groups(&[]).expect("no groups");
            set_thread_gid(Gid::from_raw(NOBODY)).expect("a group");
            set_thread_uid(Uid::from_raw(NOBODY)).expect("a user");
            while !is_over.load(Ordering::Relaxed) {
                let exchanged = renameat_with(CWD, &swapped, CWD, &other, RenameFlags::EXCHANGE);
                swaps.fetch_add(usize::from(exchanged.is_ok()), Ordering::Relaxed);
            }
        });
        // Also where something is wrong: the swaps would go on for ever.
        let _over = Over(&is_over);
        for number in 1.. {
            let text = format!("{number}\n");
            let new = format!("sub/new-{number}");
            commit(&mut bench, &[("sub/a", &text), ("sub/deep/file", &text), (&new, &text)]);
            let ended = bench.finish();
            assert_eq!(canary.song(), song, "run {number}: {:?}", ended.whole_log());
            bench = ended.bench.again(7 + number);
            if number >= 4 && swaps.load(Ordering::Relaxed) > 1_000 && began.elapsed() >= race_time() {
                break;
            }
        }
    });
}

/// Ends a race when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn as_root_whoever_swaps_folders_for_links_in_their_own_tree_changes_nothing_outside() {
    if !is_root("as_root_whoever_swaps_folders_for_links_in_their_own_tree_changes_nothing_outside") {
        return;
    }
    race(NOBODY, "sub", |_| ());
}

#[test]
fn as_root_whoever_may_change_a_folder_in_a_tree_of_roots_changes_nothing_outside() {
    if !is_root("as_root_whoever_may_change_a_folder_in_a_tree_of_roots_changes_nothing_outside") {
        return;
    }
    race(0, "sub/deep", |site| {
        chown(site.join("sub"), None, Some(NOBODY)).expect("another group");
        fs::set_permissions(site.join("sub"), fs::Permissions::from_mode(0o2777)).expect("a mode");
    });
}

#[test]
fn as_root_a_tree_of_roots_that_others_may_change_is_refused_with_the_command_that_mends_it() {
    if !is_root("as_root_a_tree_of_roots_that_others_may_change_is_refused_with_the_command_that_mends_it") {
        return;
    }
    for (strategy, name) in [(in_place as fn(Git, &Bench) -> Strategy, "in place"), (releases, "releases")] {
        for (mode, list) in [(0o2775, false), (0o757, false), (0o755, true)] {
            let (bench, _) = deploying("true", strategy);
            let site = bench.path("site");
            fs::create_dir(&site).expect("a folder");
            chown(&site, None, (mode == 0o2775).then_some(NOBODY)).expect("another group");
            fs::set_permissions(&site, fs::Permissions::from_mode(mode)).expect("a mode");
            if list {
                let set = Command::new("setfacl").args(["-m", "u:nobody:rwX"]).arg(&site).status();
                assert!(set.expect("setfacl is installed by scripts/test").success());
            }
            let ended = bench.finish();
            let reason = ended.outcome().reason().unwrap_or_default().to_owned();
            assert!(reason.contains("or name the user of this hook with `user:`"), "{name} {mode:o}: {reason}");
            assert!(reason.contains(if list { "setfacl -b" } else { "chmod go-w" }), "{name} {mode:o}: {reason}");
            assert_eq!(fs::read_dir(&site).expect("there").count(), 0, "{name} {mode:o}");
        }
    }
}

#[test]
fn as_root_whoever_may_have_made_the_folder_first_gets_neither_steps_nor_secrets() {
    if !is_root("as_root_whoever_may_have_made_the_folder_first_gets_neither_steps_nor_secrets") {
        return;
    }
    let (bench, _) = deploying("id -un", in_place);
    fs::set_permissions(bench.state.path(), fs::Permissions::from_mode(0o1777)).expect("a mode");
    fs::create_dir(bench.path("site")).expect("a folder");
    give(&bench.path("site"), NOBODY);
    let ended = bench.finish();
    let reason = ended.outcome().reason().unwrap_or_default().to_owned();
    assert!(reason.contains("others could have made it"), "{reason}");
    assert_eq!(ended.printed().len(), 0);
}
