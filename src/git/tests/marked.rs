//! Promises of files that their attributes mark: not exported, changed by a filter, or in another encoding.

use std::fs;

use super::{Room, answer, contents, fresh::checked_out, in_place::FAIL};
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

/// Names of encodings, and a text that has letters of all kinds.
const ENCODINGS: [&str; 8] =
    ["UTF-16", "utf16", "UTF-16LE", "UTF-16BE", "UTF-16LE-BOM", "utf-16be-bom", "ISO-8859-1", "latin-1"];

/// Commits a file for each encoding.
fn commit_encoded(room: &Room, text: &str) -> CommitId {
    // Stored as they are.
    fs::write(room.source().join(".git/info/attributes"), "* !working-tree-encoding !text\n").expect("attributes");
    let lines = ENCODINGS.iter().map(|it| format!("{it} text working-tree-encoding={it}\n"));
    let attributes: String = lines.chain(["ISO-8859-1 eol=crlf\nUTF-16 eol=crlf\n".into()]).collect();
    let files = ENCODINGS.iter().map(|it| (*it, text)).chain([(".gitattributes", &attributes[..])]);
    room.commit(&files.collect::<Vec<_>>())
}

#[test]
fn a_text_is_written_in_the_encoding_that_its_attributes_name() {
    for text in ["d\u{e9}j\u{e0}\nvu\n", "\u{20ac} \u{1f600}\n", "\u{feff}a", "", "\u{e0041}a\0\n"] {
        let room = Room::new();
        let commit = commit_encoded(&room, text);
        let staged = room.stage_fresh(&commit, "tree").expect("staged");
        assert_eq!(contents(&staged), contents(&checked_out(&room, &commit)), "{text:?}");
    }
}

#[test]
fn a_file_in_another_encoding_is_an_edit_only_if_somebody_edited_it() {
    let room = Room::new();
    room.bring(&commit_encoded(&room, "d\u{e9}j\u{e0} vu\n"), FAIL).expect("first");
    for name in ENCODINGS {
        // Looked at again, since it is younger than the index.
        let path = room.home().join(name);
        let content = fs::read(&path).expect("a file");
        fs::write(&path, content).expect("written");
    }
    room.bring(&commit_encoded(&room, "plus \u{e7}a change\n"), FAIL).expect("no edits");
    fs::write(room.home().join("UTF-16"), b"\xff\xfee\0").expect("an edit");
    let failure = room.bring(&commit_encoded(&room, "third\n"), FAIL).expect_err("an edit");
    assert!(failure.reason.contains("UTF-16"), "{}", failure.reason);
}

#[test]
fn a_hook_hears_of_encodings_that_are_not_written() {
    let room = Room::new();
    let attributes = "a working-tree-encoding=SHIFT-JIS\nb working-tree-encoding=latin-1\n";
    let said = said_of(&room, &room.commit(&[(".gitattributes", attributes), ("a", "1"), ("b", "1")]));
    assert!(said.contains("warning: `working-tree-encoding=SHIFT-JIS` is left out"), "{said}");
    assert!(!said.contains("latin"), "{said}");
    assert_eq!(fs::read(room.path("said/a")).expect("a file"), b"1");
}
