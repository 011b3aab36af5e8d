//! Promises of files that their attributes mark: not to be exported, or to be changed by a filter.

use std::fs;

use super::{Place, Room, answer, contents, fresh::checked_out};
use crate::{
    git::{Answer, Order, Stage},
    model::{
        deploy::{Submodules, UnknownFilters},
        push::CommitId,
        run::FailureClass,
    },
    process::errand,
};

/// Stages by a child, and answers what it said to people.
fn said_of(room: &Room, commit: &CommitId) -> String {
    let stage = Stage {
        remote: room.remote.clone(),
        commit: commit.clone(),
        place: room.fresh(&room.path("said")),
        scope: room.scope.clone(),
        previous: None,
        changed_files: room.path("changed-files"),
    };
    room.fetch_commit(commit).expect("fetched");
    let output = room.start_child(&Order::Stage(stage), &[]).wait_with_output().expect("the child ends");
    errand::decode(answer(&output)).and_then(Answer::staged).expect("staged");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_marked_export_ignore_is_deployed_unless_the_hook_says_otherwise() {
    let mut room = Room::new();
    let attributes = "test export-ignore\n*.md export-ignore\n";
    let names = ["test/a", "test/b", "test/deep/c", "1.md", "2.md", "3.md", "src/x", "src/4.md"];
    let files: Vec<_> = names.iter().map(|it| (*it, "")).chain([(".gitattributes", attributes)]).collect();
    let commit = room.commit(&files);
    let staged = room.stage_fresh(&commit, "tree").expect("staged");
    assert_eq!(contents(&staged), contents(&checked_out(&room, &commit)));
    room.scope.export_ignore = true;
    let said = said_of(&room, &commit);
    assert!(said.contains("left out 7 files marked export-ignore: 1.md, 2.md, 3.md and 2 more\n"), "{said}");
    assert!(room.path("said/src/x").exists() && !room.path("said/test").exists());
}

#[test]
fn a_hook_hears_of_what_is_left_out_only_if_something_is() {
    let mut room = Room::new();
    room.scope.export_ignore = true;
    let said = said_of(&room, &room.commit(&[(".gitattributes", "none export-ignore\n"), ("a", "1")]));
    assert!(!said.contains("left out") && !said.contains("warning"), "{said}");
    let attributes = "one export-ignore\na export-subst\n";
    room.commit(&[(".gitattributes", attributes), ("one/x", "1"), ("a", "$Format:%(trailers)%ah$")]);
    fs::remove_dir_all(room.path("said")).expect("removed");
    let said = said_of(&room, &room.head());
    assert!(said.contains("left out 1 file marked export-ignore: one/\n"), "{said}");
    assert!(said.contains("warning: these stay as they are in `$Format$`: %(trailers) %ah\n"), "{said}");
}

const SECRET: [(&str, &str); 3] = [
    (".gitattributes", "*.env filter=git-crypt diff=git-crypt\n.gitattributes !filter\n"),
    ("a", "1"),
    ("sub/x.env", "\0GITCRYPT\0"),
];

#[test]
fn a_file_that_a_filter_would_change_is_refused_before_anything_is_written() {
    let room = Room::new();
    let commit = room.commit(&SECRET);
    let failure = room.stage_fresh(&commit, "tree").expect_err("refused");
    assert_eq!(failure.class, FailureClass::Permanent);
    let expected = "`sub/x.env` is to be changed by the filter `git-crypt` when it is checked out, and no filter of a \
                    repository is run: set `deploy.filters` to `ignore` to deploy such files as they are stored, or \
                    decrypt in a step of `run`";
    assert_eq!(failure.reason, expected);
    assert!(!room.path("tree").exists());
}

#[test]
fn a_file_that_a_filter_would_change_is_deployed_as_it_is_stored_where_the_hook_says_so() {
    let mut room = Room::new();
    room.scope.filters = UnknownFilters::Ignore;
    let staged = room.stage_fresh(&room.commit(&SECRET), "tree").expect("staged");
    assert_eq!(fs::read(staged.join("sub/x.env")).expect("a file"), b"\0GITCRYPT\0");
}

#[test]
fn a_filter_that_no_file_of_the_tree_needs_is_no_trouble() {
    let mut room = Room::new();
    let attributes = "*.secret filter=git-crypt\nin/** filter=x\n[attr]notes filter=nbstripout\n*.ipynb notes\n\
                      a filter=x\na -filter\nb filter=x\nb !filter\nc filter\nd filter=x\nd filter=lfs\n";
    let files = [(".gitattributes", attributes), ("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("in/x", "1")];
    room.commit(&files);
    room.write(&[("in/x", None)]);
    let commit = room.commit(&[]);
    room.stage_fresh(&commit, "tree").expect("staged");
    // Neither is one of a folder that is not deployed, nor of what is left out.
    room.commit(&[("in/x", "1"), ("sub/a", "1"), (".gitattributes", "in/** filter=x\nin export-ignore\n")]);
    room.scope.subdir = Some("sub".into());
    room.stage_fresh(&room.head(), "sub").expect("staged");
    (room.scope.subdir, room.scope.export_ignore) = (None, true);
    room.stage_fresh(&room.head(), "ignored").expect("staged");
    room.scope.subdir = Some("in".into());
    room.scope.export_ignore = false;
    let failure = room.stage_fresh(&room.head(), "in").expect_err("refused");
    assert!(failure.reason.starts_with("`in/x` is to be changed by the filter `x`"), "{}", failure.reason);
}

#[test]
fn a_filter_that_a_macro_names_counts() {
    let room = Room::new();
    let commit =
        room.commit(&[(".gitattributes", "[attr]notes filter=nbstripout\n*.ipynb notes\n"), ("a.ipynb", "{}")]);
    let failure = room.stage_fresh(&commit, "tree").expect_err("refused");
    assert!(failure.reason.contains("`nbstripout`"), "{}", failure.reason);
}

#[test]
fn a_filter_within_a_submodule_is_refused_with_its_place() {
    let mut room = Room::new();
    room.commit(&[("a", "1")]);
    let inner = Room::new();
    inner.commit(&SECRET);
    let url = inner.source().display().to_string();
    room.git(&["-c", "protocol.file.allow=always", "submodule", "add", "-q", &url, "lib"]);
    let commit = room.commit(&[]);
    room.scope.submodules = Submodules::On;
    let failure = room.stage_fresh(&commit, "tree").expect_err("refused");
    assert!(failure.reason.starts_with("submodule `lib`: `sub/x.env` is to be changed"), "{}", failure.reason);
    room.scope.filters = UnknownFilters::Ignore;
    room.stage_fresh(&commit, "ignored").expect("staged");
    assert!(room.path("ignored/lib/sub/x.env").exists());
}
