//! Promises of a fresh tree.

use std::{fs, path::PathBuf};

use super::{Room, contents, git, git_with_input, id, make_executable};
use crate::{
    git::entries::changes_up_to,
    model::{push::CommitId, run::FailureClass},
};

/// What git itself writes for that commit.
pub(super) fn checked_out(room: &Room, commit: &CommitId) -> std::path::PathBuf {
    let folder = room.path("reference");
    let _ = fs::remove_dir_all(&folder);
    git(&room.folder.path().join("."), &["clone", "-q", "--no-checkout", "source", "reference"]);
    git(&folder, &["checkout", "-q", commit.as_str()]);
    folder
}

#[test]
fn line_ends_and_ids_are_written_as_the_trees_own_attributes_say() {
    let room = Room::new();
    let attributes = "*.txt text eol=crlf\n*.c ident\n";
    let files = [(".gitattributes", attributes), ("sub/a.txt", "1\n2\n"), ("b.c", "// $Id$\n"), ("c", "1\n")];
    let commit = room.commit(&files);
    let staged = room.stage_fresh(&commit, "tree").expect("staged");
    assert_eq!(fs::read(staged.join("sub/a.txt")).expect("file"), b"1\r\n2\r\n");
    assert_eq!(contents(&staged), contents(&checked_out(&room, &commit)));
}

#[test]
fn a_submodule_becomes_an_empty_folder() {
    let room = Room::new();
    let entry = format!("160000 commit {}\tdeep/sub\n", "12".repeat(20));
    room.commit(&[("a", "1")]);
    room.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},deep/sub", "12".repeat(20))]);
    room.git(&["commit", "-q", "-m", "sub"]);
    assert!(room.git(&["ls-tree", "-r", "HEAD"]).contains(entry.trim_end()));
    let staged = room.stage_fresh(&room.head(), "tree").expect("staged");
    assert_eq!(fs::read_dir(staged.join("deep/sub")).expect("a folder").count(), 0);
}

#[test]
fn files_that_differ_from_what_was_live_are_listed_and_commits_counted() {
    let room = Room::new();
    let before = room.commit(&[("keep", "1"), ("edit", "1"), ("dir/remove", "1")]);
    room.write(&[("dir/remove", None), ("dir/new\nline", Some(b"x"))]);
    room.commit(&[("edit", "2")]);
    let after = room.commit(&[]);
    room.fetch_commit(&after).expect("fetched");
    let staged = room.stage(&after, room.fresh(&room.path("tree")), Some(&before)).expect("staged");
    assert_eq!((staged.changed, staged.commit_count), (3, Some(2)));
    assert_eq!(staged.previous.as_ref(), Some(&before));
    assert_eq!(fs::read(room.path("changed-files")).expect("list"), b"dir/new\nline\0dir/remove\0edit\0");

    let unknown = id(&"12".repeat(20));
    let staged = room.stage(&after, room.fresh(&room.path("tree2")), Some(&unknown)).expect("staged");
    assert_eq!((staged.changed, staged.commit_count), (0, None));
    assert_eq!(fs::read(room.path("changed-files")).expect("list"), b"");
}

/// Commits a tree whose raw entries are these, which git itself would refuse to make.
fn hostile(room: &Room, entries: &[(&str, &[u8])]) -> CommitId {
    room.commit(&[("x", "pwned")]);
    let ids = [("blob", room.git(&["rev-parse", "HEAD:x"])), ("tree", room.git(&["rev-parse", "HEAD:"]))];
    let mut raw = Vec::new();
    for (mode, name) in entries {
        let kind = if *mode == "40000" { "tree" } else { "blob" };
        let id = &ids.iter().find(|it| it.0 == kind).expect("either").1;
        raw.extend_from_slice(mode.as_bytes());
        raw.push(b' ');
        raw.extend_from_slice(name);
        raw.push(0);
        raw.extend(hex::decode(id).expect("hex"));
    }
    let arguments = ["hash-object", "-t", "tree", "--literally", "-w", "--stdin"];
    let tree = git_with_input(&room.source(), &arguments, &raw);
    let commit = room.git(&["commit-tree", "-m", "hostile", &tree]);
    room.git(&["update-ref", "refs/heads/main", &commit]);
    id(&commit)
}

#[test]
fn a_hostile_tree_is_refused_and_writes_nothing() {
    let cases: [&[(&str, &[u8])]; 8] = [
        &[("40000", b".git")],
        &[("40000", b".GiT")],
        &[("40000", b"git~1")],
        &[("40000", ".g\u{200c}it".as_bytes())],
        &[("40000", b"..")],
        &[("100644", b"a/../../evil")],
        &[("120000", b"a"), ("40000", b"a")],
        &[("140000", b"a")],
    ];
    for entries in cases {
        let room = Room::new();
        let commit = hostile(&room, entries);
        let failure = room.stage_fresh(&commit, "tree").expect_err("hostile");
        assert_eq!(failure.class, FailureClass::Permanent, "{entries:?}: {}", failure.reason);
        assert!(!room.path("tree").exists() && !room.path("evil").exists(), "{entries:?}");
    }
}

#[test]
fn a_tree_of_billions_of_folders_ends_at_the_limit() {
    let room = Room::new();
    let mut tree = git_with_input(&room.source(), &["mktree"], b"");
    for _ in 0..9 {
        let entries: String = (0..10).map(|name| format!("040000 tree {tree}\t{name}\n")).collect();
        tree = git_with_input(&room.source(), &["mktree"], entries.as_bytes());
    }
    let repo = git2::Repository::open(room.source()).expect("a repository");
    let tree = git2::Oid::from_str(&tree).expect("an id");
    let failure = changes_up_to(1000, &repo, None, Some(tree)).expect_err("a bomb");
    assert_eq!(failure.class, FailureClass::Permanent);
}

#[test]
fn a_tree_of_paths_that_are_all_long_ends_at_the_limit() {
    let room = Room::new();
    let entries: String = (0..60).map(|it| format!("040000 tree {{}}\t{it}\n")).collect();
    let mut tree = git_with_input(&room.source(), &["mktree"], b"");
    tree = git_with_input(&room.source(), &["mktree"], entries.replace("{}", &tree).as_bytes());
    for _ in 0..10 {
        let entry = format!("040000 tree {tree}\t{}\n", "x".repeat(250));
        tree = git_with_input(&room.source(), &["mktree"], entry.as_bytes());
    }
    let repo = git2::Repository::open(room.source()).expect("a repository");
    let tree = git2::Oid::from_str(&tree).expect("an id");
    let failure = changes_up_to(1000, &repo, None, Some(tree)).expect_err("a bomb");
    assert!(failure.reason.contains("97.6 KiB together"), "{}", failure.reason);
}

#[test]
fn a_folder_alone_is_deployed_and_one_that_is_not_there_is_an_error_that_names_it() {
    let mut room = Room::new();
    room.write(&[("sub/run", Some(b"#!/bin/sh\n"))]);
    make_executable(&room.source().join("sub/run"));
    let commit = room.commit(&[("a", "1"), ("sub/deep/b", "2"), (".gitattributes", "/sub/deep/b eol=crlf\n")]);
    room.commit(&[("sub/deep/b", "2\n")]);
    for (subdir, expected) in [("sub", vec!["deep", "deep/b", "run"]), ("sub/deep", vec!["b"])] {
        room.scope.subdir = Some(subdir.into());
        let staged = room.stage_fresh(&room.head(), &subdir.replace('/', "-")).expect("staged");
        let reference = checked_out(&room, &room.head()).join(subdir);
        assert_eq!(contents(&staged), contents(&reference));
        assert_eq!(
            contents(&staged).into_keys().collect::<Vec<_>>(),
            expected.iter().map(PathBuf::from).collect::<Vec<_>>()
        );
    }
    for subdir in ["gone", "a", "sub/run", "sub/deep/b/c"] {
        room.scope.subdir = Some(subdir.into());
        let failure = room.stage_fresh(&commit, "none").expect_err(subdir);
        assert_eq!(failure.class, FailureClass::Permanent);
        assert!(failure.reason.contains(&format!("no folder `{subdir}`")), "{}", failure.reason);
        assert!(!room.path("none").exists());
    }
}
