//! Faults that real repositories and real clones showed, each as the promise that was broken.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Room, git, git_with_input, id,
    in_place::{FAIL, SAVE},
    main_branch,
    server::{GitServer, Sshd, everyone},
    ssh_login,
};
use crate::{
    git::{Fetch, Fetched, GitFailure, Into, Login},
    model::{
        deploy::Depth,
        job::Target,
        push::{CommitId, RefName},
        run::FailureClass,
    },
};

fn fsck(folder: &Path) {
    git(folder, &["fsck", "--connectivity-only"]);
}

fn by_branch(commit: &CommitId) -> Target {
    Target::Commit { commit: commit.clone(), ref_name: Some(main_branch()) }
}

/// A history whose last commit undoes the one before it: the folder `d` is what it was.
fn undone(room: &Room) -> Vec<CommitId> {
    let a = room.commit(&[("README", "a\n")]);
    let b = room.commit(&[("d/f", "f\n"), ("d/g", "g1\n")]);
    let c = room.commit(&[("d/g", "g2\n")]);
    vec![a, b, c, room.commit(&[("d/g", "g1\n")])]
}

#[test]
fn no_object_is_lost_where_a_commit_undoes_another() {
    let mut room = Room::new();
    let all = undone(&room);
    let server = GitServer::plain(room.folder.path(), everyone());
    let source = room.source().display().to_string();
    for remote in [format!("file://{source}"), format!("http://{}/source/.git", server.address)] {
        for first in 0..3 {
            room.remote.clone_from(&remote);
            for folder in ["home", "mirror.git"] {
                let _ = fs::remove_dir_all(room.path(folder));
            }
            git(&room.source(), &["update-ref", "refs/heads/main", all[first].as_str()]);
            room.bring(&all[first], FAIL).expect("first");
            room.fetch_commit(&all[first]).expect("first");
            git(&room.source(), &["update-ref", "refs/heads/main", all[3].as_str()]);
            room.bring(&all[3], FAIL).expect("all of the rest");
            room.assert_is_at(&all[3]);
            fsck(&room.home());
            room.stage_fresh(&all[3], &format!("tree-{first}-{}", remote.len())).expect("a fresh tree");
            fsck(&room.path("mirror.git"));
        }
    }
}

/// What a target stands for in the table below.
fn targets(tip: &CommitId, old: &CommitId) -> Vec<(&'static str, Target, CommitId)> {
    let tag = RefName::Tag("v1".into());
    let by_id = |commit: &CommitId| Target::Commit { commit: commit.clone(), ref_name: None };
    let tagged = Target::Commit { commit: old.clone(), ref_name: Some(tag.clone()) };
    vec![
        ("the tip by its id", by_id(tip), tip.clone()),
        ("an older commit by its id", by_id(old), old.clone()),
        ("a branch", Target::Ref(main_branch()), tip.clone()),
        ("a tag", Target::Ref(tag), old.clone()),
        ("the default branch", Target::DefaultBranch, tip.clone()),
        ("a push of a branch", by_branch(tip), tip.clone()),
        ("a push of a branch that has moved on", by_branch(old), old.clone()),
        ("a push of a tag", tagged, old.clone()),
    ]
}

/// Fetches every target at every depth into a mirror in each of these states.
fn try_all(room: &mut Room, commits: &[CommitId], remote: &str, logins: &[Login], states: &[&str]) {
    for depth in [Depth::Auto, Depth::All, Depth::Commits(std::num::NonZeroU32::MIN)] {
        for state in states {
            for (what, target, expected) in targets(&commits[7], &commits[4]) {
                let case = format!("{what}, {depth:?}, {state}, {remote}");
                let _ = fs::remove_dir_all(room.path("mirror.git"));
                let before = match *state {
                    "fresh" => None,
                    "shallow" => Some((Depth::Commits(std::num::NonZeroU32::MIN), main_branch())),
                    "full" => Some((Depth::All, main_branch())),
                    _ => Some((Depth::Auto, RefName::Tag("v1".into()))),
                };
                if let Some((depth, ref_name)) = before {
                    room.scope.depth = depth;
                    room.fetch_from(remote, logins.to_vec(), Target::Ref(ref_name)).expect(&case);
                }
                room.scope.depth = depth;
                let fetched = room.fetch_from(remote, logins.to_vec(), target);
                assert_eq!(fetched.unwrap_or_else(|failure| panic!("{case}: {failure}")).commit, expected, "{case}");
                fsck(&room.path("mirror.git"));
            }
        }
    }
}

fn room_with_a_tag() -> (Room, Vec<CommitId>) {
    let room = Room::new();
    let commits: Vec<CommitId> = (0..8).map(|it| room.commit(&[("a", &it.to_string())])).collect();
    room.git(&["tag", "-a", "-m", "one", "v1", commits[4].as_str()]);
    (room, commits)
}

#[test]
fn every_target_is_fetched_at_every_depth_into_every_state_of_a_mirror() {
    let (mut room, commits) = room_with_a_tag();
    let remote = format!("file://{}", room.source().display());
    try_all(&mut room, &commits, &remote, &[], &["fresh", "shallow", "full", "of another hook"]);
}

#[test]
fn every_target_is_fetched_at_every_depth_over_http() {
    let (mut room, commits) = room_with_a_tag();
    let server = GitServer::plain(room.folder.path(), everyone());
    let remote = format!("http://{}/source/.git", server.address);
    try_all(&mut room, &commits, &remote, &[], &["fresh", "shallow"]);
}

#[test]
fn every_target_is_fetched_at_every_depth_over_ssh() {
    let (mut room, commits) = room_with_a_tag();
    let sshd = Sshd::start(room.folder.path());
    fs::write(room.path("known_hosts"), &sshd.known_hosts_line).expect("written");
    let logins = ssh_login(sshd.key.clone(), room.path("known_hosts"));
    let remote = format!("ssh://127.0.0.1:{}{}", sshd.port, room.source().display());
    try_all(&mut room, &commits, &remote, &logins, &["fresh"]);
}

#[test]
fn an_ordinary_push_needs_one_request_and_brings_all_that_came_since_the_last() {
    let mut room = Room::new();
    (0..20).for_each(|it| drop(room.commit(&[("a", &it.to_string())])));
    let first = room.head();
    let server = GitServer::plain(room.folder.path(), everyone());
    room.remote = format!("http://{}/source/.git", server.address);
    room.scope.depth = Depth::Auto;
    room.fetch_commit(&first).expect("first");
    let count = || git(&room.path("mirror.git"), &["rev-list", "--count", "--all"]);
    assert_eq!(count(), "1", "one commit is enough for a fresh tree");
    (0..3).for_each(|it| drop(room.commit(&[("b", &it.to_string())])));
    let last = room.head();
    let asked = server.seen().len();
    room.fetch_commit(&last).expect("second");
    assert_eq!(count(), "4", "all that came since");
    let requests: Vec<_> = server.seen().split_off(asked).into_iter().map(|it| it.method).collect();
    assert_eq!(requests.iter().filter(|it| *it == "GET").count(), 1, "{requests:?}");
    fsck(&room.path("mirror.git"));
}

#[test]
fn files_in_place_get_the_access_lists_and_the_group_that_their_folder_gives() {
    let room = Room::new();
    let first = room.commit(&[("public/old", "1"), ("other", "1")]);
    room.bring(&first, FAIL).expect("first");
    let public = room.home().join("public");
    let setfacl = Command::new("setfacl").args(["-d", "-m", "u:nobody:rwX"]).arg(&public).status();
    assert!(setfacl.is_ok_and(|it| it.success()), "setfacl is missing: apt install acl");
    std::os::unix::fs::chown(&public, None, Some(65534)).expect("another group");
    fs::set_permissions(&public, fs::Permissions::from_mode(0o2775)).expect("setgid");
    let second = room.commit(&[("public/old", "2"), ("public/new", "1"), ("public/deep/new", "1")]);
    room.bring(&second, FAIL).expect("second");
    let facts = || -> Vec<_> {
        let names = ["old", "new", "deep", "deep/new"].map(|it| public.join(it));
        let fact = |path: &PathBuf| {
            let output = Command::new("getfacl").args(["-c", "-p", "-n"]).arg(path).output().expect("getfacl");
            let metadata = path.metadata().expect("it is there");
            (metadata.mode(), metadata.gid(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        names.iter().map(fact).collect()
    };
    let ours = facts();
    for name in ["old", "new", "deep/new"] {
        fs::remove_file(public.join(name)).expect("removed");
    }
    fs::remove_dir(public.join("deep")).expect("removed");
    git(&room.home(), &["checkout", "-q", "--", "public"]);
    assert_eq!(ours, facts(), "as git itself makes them");
    assert!(ours.iter().all(|(_, group, list)| *group == 65534 && list.contains("user:65534:")), "{ours:?}");
}

#[test]
fn modes_mean_nothing_where_git_was_told_so() {
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1")]);
    room.bring(&first, FAIL).expect("first");
    git(&room.home(), &["config", "core.fileMode", "false"]);
    for name in ["a", "b"] {
        fs::set_permissions(room.home().join(name), fs::Permissions::from_mode(0o777)).expect("a mode");
    }
    let before = room.home().join("b").metadata().expect("a file").ino();
    let second = room.commit(&[("a", "2")]);
    assert!(!room.bring(&second, FAIL).expect("no edit").patch_saved);
    room.assert_is_at(&second);
    assert_eq!(room.home().join("b").metadata().expect("a file").ino(), before, "it was left alone");
}

#[test]
fn a_branch_that_became_a_folder_of_branches_is_deployed() {
    for is_packed in [false, true] {
        let room = Room::new();
        room.git(&["checkout", "-q", "-b", "a"]);
        let first = room.commit(&[("x", "1")]);
        let branch = |name: &str| Some(RefName::Branch(name.into()));
        room.stage(&first, room.place(branch("a"), FAIL), None).expect("first");
        if is_packed {
            git(&room.home(), &["pack-refs", "--all"]);
        }
        room.git(&["checkout", "-q", "--detach"]);
        room.git(&["branch", "-D", "-q", "a"]);
        room.git(&["checkout", "-q", "-b", "a/b"]);
        let second = room.commit(&[("x", "2")]);
        room.stage(&second, room.place(branch("a/b"), FAIL), None).expect("second");
        room.assert_is_at(&second);
        assert_eq!(git(&room.home(), &["symbolic-ref", "HEAD"]), "refs/heads/a/b");
        let refs = git(&room.home(), &["for-each-ref", "--format=%(refname)", "refs/remotes", "refs/heads"]);
        assert_eq!(refs, "refs/heads/a/b\nrefs/remotes/origin/a/b");
        fsck(&room.home());
    }
}

#[test]
fn a_local_branch_in_the_way_of_the_remotes_is_named_before_anything_changes() {
    let room = Room::new();
    let first = room.commit(&[("x", "1")]);
    room.bring(&first, FAIL).expect("first");
    git(&room.home(), &["branch", "a"]);
    room.git(&["checkout", "-q", "-b", "a/b"]);
    let second = room.commit(&[("x", "2")]);
    let place = || room.place(Some(RefName::Branch("a/b".into())), FAIL);
    let failure = room.stage(&second, place(), None).expect_err("in the way");
    assert_eq!((room.text("x"), failure.class), ("1".into(), FailureClass::Permanent));
    let command = failure.reason.split('`').find(|it| it.starts_with("cd ")).expect("a command");
    assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
    room.stage(&second, place(), None).expect("mended");
    room.assert_is_at(&second);
}

#[test]
fn tags_reach_the_working_tree_that_describes_itself() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.git(&["tag", "-a", "-m", "one", "v1"]);
    room.bring(&first, FAIL).expect("first");
    let describe = || git(&room.home(), &["describe", "--tags"]);
    assert_eq!(describe(), "v1");
    room.git(&["tag", "v1.1"]);
    let tag = RefName::Tag("v1.1".into());
    room.stage(&first, room.place(Some(tag), FAIL), None).expect("the same commit, by its new tag");
    assert_eq!(git(&room.home(), &["tag", "--list"]), "v1\nv1.1");
    let second = room.commit(&[("a", "2")]);
    room.git(&["tag", "-f", "v1.1"]);
    room.bring(&second, FAIL).expect("second");
    assert_eq!(describe(), "v1.1", "a tag that was moved is moved here, too");
    git(&room.home(), &["pull", "-q", "--ff-only"]);
}

#[test]
fn a_shallow_clone_stays_shallow_and_gets_the_tags_that_lead_into_it() {
    let mut room = Room::new();
    room.scope.depth = Depth::Auto;
    (0..6).for_each(|it| drop(room.commit(&[("a", &it.to_string())])));
    let url = format!("file://{}", room.source().display());
    git(room.folder.path(), &["clone", "-q", "--depth=2", &url, "home"]);
    room.remote = url;
    room.git(&["tag", "old", "HEAD~4"]);
    let next = room.commit(&[("a", "next")]);
    room.git(&["tag", "-a", "-m", "new", "v2"]);
    room.bring(&next, FAIL).expect("brought");
    room.assert_is_at(&next);
    assert_eq!(git(&room.home(), &["rev-parse", "--is-shallow-repository"]), "true");
    assert_eq!(git(&room.home(), &["rev-list", "--count", "HEAD"]), "3");
    assert_eq!(git(&room.home(), &["tag", "--list"]), "v2");
    fsck(&room.home());
}

/// Puts a commit on `branch` whose tree has an entry without a name.
fn break_branch(room: &Room, branch: &str) {
    let blob = git_with_input(&room.source(), &["hash-object", "-w", "--stdin"], b"x");
    let raw: Vec<u8> = (0..20).map(|it| u8::from_str_radix(&blob[it * 2..it * 2 + 2], 16).expect("hex")).collect();
    let tree = [b"100644 \0", &raw[..]].concat();
    let tree = git_with_input(&room.source(), &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &tree);
    let commit = format!("tree {tree}\nauthor A <a@example.org> 1 +0000\ncommitter A <a@example.org> 1 +0000\n\nx\n");
    let commit = git_with_input(&room.source(), &["hash-object", "-w", "-t", "commit", "--stdin"], commit.as_bytes());
    room.git(&["update-ref", &format!("refs/heads/{branch}"), &commit]);
}

#[test]
fn one_broken_branch_is_nobody_elses_trouble() {
    let mut room = Room::new();
    room.commit(&[("a", "1")]);
    break_branch(&room, "broken");
    let good = room.commit(&[("a", "2")]);
    let server = GitServer::plain(room.folder.path(), everyone());
    let source = room.source().display().to_string();
    for remote in [format!("file://{source}"), format!("http://{}/source/.git", server.address)] {
        room.remote = remote;
        for depth in [Depth::All, Depth::Auto] {
            room.scope.depth = depth;
            for folder in ["home", "mirror.git", "tree"] {
                let _ = fs::remove_dir_all(room.path(folder));
            }
            room.stage_fresh(&good, "tree").expect("a fresh tree");
            room.bring(&good, SAVE).expect("in place");
            room.assert_is_at(&good);
        }
    }
}

#[test]
fn a_repository_of_an_unusual_kind_is_refused_with_the_command_that_mends_it() {
    let split: [&[&str]; 1] = [&["update-index", "--split-index"]];
    let sparse: [&[&str]; 2] =
        [&["sparse-checkout", "set", "--cone", "--sparse-index", "x"], &["status", "--porcelain"]];
    for (commands, word) in [(&split[..], "split index"), (&sparse[..], "sparse index")] {
        let room = Room::new();
        let first = room.commit(&[("a", "1"), ("x/b", "1"), ("y/c", "1"), ("y/d", "1")]);
        room.bring(&first, FAIL).expect("first");
        commands.iter().for_each(|it| drop(git(&room.home(), it)));
        let second = room.commit(&[("a", "2")]);
        let failure = room.bring(&second, FAIL).expect_err(word);
        assert!(failure.reason.contains(word), "{}", failure.reason);
        assert_eq!(room.text("a"), "1", "{word}: nothing was changed");
        let command = failure.reason.split('`').find(|it| it.starts_with("cd ")).expect("a command");
        assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
        room.bring(&second, FAIL).unwrap_or_else(|failure| panic!("{word}, mended: {failure}"));
        assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
    }
}

#[test]
fn grafts_replacements_and_partial_clones_are_refused_before_anything_changes() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, FAIL).expect("first");
    let second = room.commit(&[("a", "2")]);
    let refused = |word: &str| {
        let failure = room.bring(&second, FAIL).expect_err(word);
        assert!(failure.reason.contains(word), "{}", failure.reason);
        assert_eq!(room.text("a"), "1");
    };
    fs::write(room.home().join(".git/info/grafts"), format!("{first}\n")).expect("written");
    refused("grafts");
    fs::remove_file(room.home().join(".git/info/grafts")).expect("removed");
    git(&room.home(), &["config", "remote.origin.promisor", "true"]);
    refused("partial clone");
    git(&room.home(), &["config", "--unset", "remote.origin.promisor"]);
    git(&room.home(), &["update-ref", &format!("refs/replace/{second}"), first.as_str()]);
    refused("refs/replace/");
    git(&room.home(), &["replace", "-d", second.as_str()]);
    room.bring(&second, FAIL).expect("as usual");
    room.assert_is_at(&second);
}

/// Fetches what a fetch into a clone of something else must not fetch.
fn fetch_into(room: &Room, folder: &Path, commit: &CommitId) -> Result<Fetched, GitFailure> {
    let order = room.order(&room.remote, Vec::new(), by_branch(commit));
    crate::git::bring::fetch(&Fetch { into: Into::WorkTree(folder.to_owned()), ..order })
}

#[test]
fn nothing_is_fetched_into_a_clone_of_something_else() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let other = Room::new();
    other.commit(&[("b", "1")]);
    git(other.folder.path(), &["clone", "-q", "source", "home"]);
    let failure = fetch_into(&room, &other.home(), &commit).expect_err("another repository");
    assert!(failure.reason.contains("a clone of something else"), "{}", failure.reason);
    let known = Command::new("git").args(["cat-file", "-e", commit.as_str()]).current_dir(other.home()).output();
    assert!(!known.expect("git").status.success(), "not an object of it is there");
    assert_eq!(id(&git(&other.home(), &["rev-parse", "HEAD"])), other.head());
}

#[test]
fn unknown_filters_are_refused_in_place_before_anything_changes() {
    let mut room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, FAIL).expect("first");
    let second = room.commit(&[(".gitattributes", "secret filter=git-crypt\n"), ("secret", "\0GITCRYPT"), ("a", "2")]);
    let failure = room.bring(&second, FAIL).expect_err("a filter");
    assert!(failure.reason.contains("`secret`") && failure.reason.contains("git-crypt"), "{}", failure.reason);
    assert_eq!(room.text("a"), "1", "nothing was changed");
    room.scope.filters = crate::model::deploy::UnknownFilters::Ignore;
    room.bring(&second, FAIL).expect("as it is stored");
    room.assert_is_at(&second);
}

#[test]
fn files_get_the_modes_that_the_umask_of_the_hook_leaves() {
    let mut room = Room::new();
    room.write(&[("bin/run", Some(b"#!/bin/sh\n"))]);
    super::make_executable(&room.source().join("bin/run"));
    let commit = room.commit(&[("a", "1")]);
    room.scope.umask = 0o027;
    let order = |order| {
        let child = room.start_child(&order, &[]);
        let output = child.wait_with_output().expect("the child ends");
        crate::process::errand::decode::<crate::git::Answer>(super::answer(&output)).expect("done");
    };
    let fetch = room.order(&room.remote, Vec::new(), by_branch(&commit));
    order(crate::git::Order::Fetch(Fetch { into: Into::WorkTree(room.home()), ..fetch }));
    order(crate::git::Order::Stage(crate::git::Stage {
        remote: room.remote.clone(),
        commit: commit.clone(),
        place: room.place(Some(main_branch()), FAIL),
        scope: room.scope.clone(),
        previous: None,
        changed_files: room.path("changed-files"),
    }));
    let mode = |path: &str| room.home().join(path).metadata().expect(path).mode() & 0o777;
    assert_eq!((mode("a"), mode("bin"), mode("bin/run")), (0o640, 0o750, 0o750));
    room.assert_is_at(&commit);
}

#[test]
fn locks_of_a_killed_run_are_removed_and_those_of_a_person_are_not() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, FAIL).expect("first");
    let git_dir = room.home().join(".git");
    let second = room.commit(&[("a", "2")]);
    fs::write(git_dir.join("landfall/updating"), "").expect("the mark of a run that was killed");
    let names = ["refs/heads/main.lock", "refs/remotes/origin/main.lock", "HEAD.lock", "packed-refs.lock"];
    names.iter().for_each(|it| fs::write(git_dir.join(it), "").expect("its lock"));
    room.bring(&second, FAIL).expect("second");
    room.assert_is_at(&second);
    assert!(names.iter().all(|it| !git_dir.join(it).exists()) && !git_dir.join("landfall/updating").exists());
}
