//! Promises about submodules in folders of others: root writes only where root alone can.
//!
//! Invariant: each test is one promise; all of them need root, and say so by name.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
};

use landfall::model::{
    deploy::{Git, Strategy, Submodules},
    job::{Job, Target},
    push::{CommitId, RefName},
    run::Outcome,
};

use super::{
    bench::{Bench, Ended},
    code::{deploying, git, in_place},
    root::is_root,
};

const NOBODY: u32 = 65534;

/// A run into a clone of root's, deployed once, whose commit has a submodule `vendor/x`.
fn with_submodule() -> Bench {
    let (mut bench, _) = deploying("true", with_submodules);
    fs::create_dir(bench.path("lib")).expect("a folder");
    git(&bench.path("lib"), &["init", "-q", "-b", "main"]);
    let lib = commit(&bench.path("lib"), &[("file", "1\n")]);
    embed(&bench, &lib);
    deploy_head(&mut bench);
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.whole_log());
    assert_eq!(fs::read_to_string(ended.bench.path("site/vendor/x/file")).expect("there"), "1\n");
    ended.bench.again(8)
}

fn with_submodules(git: Git, bench: &Bench) -> Strategy {
    in_place(Git { submodules: Submodules::On, ..git }, bench)
}

/// Lets the remote have this commit of the library as its submodule.
fn embed(bench: &Bench, lib: &str) {
    let remote = bench.path("remote");
    fs::write(remote.join(".gitmodules"), "[submodule \"x\"]\n\tpath = vendor/x\n\turl = ../lib\n").expect("written");
    git(&remote, &["add", ".gitmodules"]);
    git(&remote, &["update-index", "--add", "--cacheinfo", &format!("160000,{lib},vendor/x")]);
    record(&remote);
}

fn commit(folder: &Path, files: &[(&str, &str)]) -> String {
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("written");
        git(folder, &["add", name]);
    }
    record(folder)
}

fn record(folder: &Path) -> String {
    git(folder, &["-c", "user.name=Ann", "-c", "user.email=ann@x.org", "commit", "-q", "-m", "more words"]);
    git(folder, &["rev-parse", "HEAD"])
}

/// Lets the run deploy what the remote has.
fn deploy_head(bench: &mut Bench) {
    let commit = CommitId::parse(&git(&bench.path("remote"), &["rev-parse", "HEAD"])).expect("a commit");
    bench.job = Box::new(move |job: &mut Job| {
        job.target = Target::Commit { commit: commit.clone(), ref_name: RefName::parse("refs/heads/main") };
    });
}

/// What is below a folder: path, mode, time and content of each.
fn below(folder: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("there"));
            if metadata.is_dir() {
                open.push(path.clone());
            }
            let content = if metadata.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
            found.push((path, metadata.mode(), metadata.mtime_nsec(), content));
        }
    }
    found.sort();
    found
}

/// A clone of the library that is root's, outside of what is deployed.
fn canary(bench: &Bench) -> PathBuf {
    git(bench.state.path(), &["clone", "-q", bench.path("lib").to_str().expect("text"), "canary"]);
    bench.path("canary")
}

fn refusal(ended: &Ended) -> String {
    let Outcome::Failed(failure) = ended.outcome() else { panic!("{:?}: {:?}", ended.outcome(), ended.whole_log()) };
    failure.reason
}

/// Deploys a commit that changes a page alone, or the submodule, too, once `spoil` has been at the tree.
fn refused(changes_submodule: bool, spoil: impl FnOnce(&Bench)) -> String {
    let mut bench = with_submodule();
    let outside = canary(&bench);
    spoil(&bench);
    if changes_submodule {
        let lib = commit(&bench.path("lib"), &[("file", "2\n"), ("new", "2\n")]);
        embed(&bench, &lib);
    }
    commit(&bench.path("remote"), &[("page", "2\n")]);
    deploy_head(&mut bench);
    let song = below(&outside);
    let ended = bench.finish();
    let reason = refusal(&ended);
    assert!(below(&outside) == song, "what is outside has changed: {reason}");
    assert!(!ended.bench.path("site/page").exists(), "{reason}");
    reason
}

/// Puts a link of nobody's to the canary in the place of the submodule.
fn swap(bench: &Bench) {
    let place = bench.path("site/vendor/x");
    fs::rename(&place, bench.path("site/vendor/away")).expect("moved");
    symlink(bench.path("canary"), &place).expect("a link");
    lchown(&place, Some(NOBODY), Some(NOBODY)).expect("given");
}

#[test]
fn as_root_a_submodule_in_a_folder_of_anothers_fails_before_any_change_and_the_folder_is_named() {
    if !is_root("as_root_a_submodule_in_a_folder_of_anothers_fails_before_any_change_and_the_folder_is_named") {
        return;
    }
    for changes_submodule in [false, true] {
        for swaps in [false, true] {
            let reason = refused(changes_submodule, |bench| {
                chown(bench.path("site/vendor"), Some(NOBODY), Some(NOBODY)).expect("given");
                if swaps {
                    swap(bench);
                }
            });
            assert!(reason.starts_with("submodule `vendor/x`: "), "{reason}");
            assert!(reason.contains("site/vendor` belongs to `nobody`"), "{reason}");
            assert!(reason.contains("chown -hR root ") && reason.contains("`user:`"), "{reason}");
        }
    }
}

#[test]
fn as_root_a_folder_above_a_submodule_that_others_may_write_to_is_refused_and_its_repository_is_too() {
    if !is_root("as_root_a_folder_above_a_submodule_that_others_may_write_to_is_refused_and_its_repository_is_too") {
        return;
    }
    for part in ["site/vendor", "site"] {
        let reason = refused(false, |bench| {
            fs::set_permissions(bench.path(part), fs::Permissions::from_mode(0o777)).expect("a mode");
        });
        assert!(reason.contains(&format!("{part}` may be changed by everybody")), "{reason}");
        assert!(reason.contains("chmod go-w "), "{reason}");
    }
    let reason = refused(true, |bench| {
        let submodule = bench.path("site/vendor/x");
        chown(&submodule, Some(NOBODY), Some(NOBODY)).expect("given");
        fs::remove_file(submodule.join(".git")).expect("removed");
        symlink(bench.path("canary/file"), submodule.join(".git")).expect("a link");
    });
    assert!(reason.contains("site/vendor/x` belongs to `nobody`"), "{reason}");
    let reason = refused(true, |bench| {
        let submodule = bench.path("site/vendor/x");
        fs::remove_file(submodule.join(".git")).expect("removed");
        git(bench.state.path(), &["clone", "-q", bench.path("lib").to_str().expect("text"), "other"]);
        fs::rename(bench.path("other/.git"), submodule.join(".git")).expect("moved");
        fs::remove_dir_all(bench.path("site/.git/modules/x")).expect("removed");
        chown(submodule.join(".git/refs"), Some(NOBODY), None).expect("given");
    });
    assert!(reason.contains("vendor/x/.git/refs` belongs to `nobody`"), "{reason}");
}

#[test]
fn as_root_a_submodule_that_leaves_a_folder_of_anothers_opens_no_repository_that_a_link_leads_to() {
    if !is_root("as_root_a_submodule_that_leaves_a_folder_of_anothers_opens_no_repository_that_a_link_leads_to") {
        return;
    }
    let reason = refused(false, |bench| {
        chown(bench.path("site/vendor"), Some(NOBODY), Some(NOBODY)).expect("given");
        swap(bench);
        git(&bench.path("remote"), &["update-index", "--force-remove", "vendor/x"]);
        git(&bench.path("remote"), &["rm", "-q", "--cached", ".gitmodules"]);
    });
    assert!(reason.contains("site/vendor` belongs to `nobody`"), "{reason}");
}
