//! Promises of a working tree at a fixed path.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::PathBuf,
};

use git2::Oid;

use super::{Place, Room, contents, git, git_command, git_with_input, id, main_branch, make_executable, write_files};
use crate::{
    git::{GitFailure, Staged},
    model::{
        deploy::{Clean, Dirty},
        push::{CommitId, RefName},
        run::FailureClass,
    },
};

/// What the hook says, where a promise is about it.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) dirty: Dirty,
    pub(super) clean: Clean,
}

pub(super) const SAVE: Rules = Rules { dirty: Dirty::Save, clean: Clean::None };
pub(super) const FAIL: Rules = Rules { dirty: Dirty::Fail, clean: Clean::None };

impl Room {
    pub(super) fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub(super) fn place(&self, ref_name: Option<RefName>, rules: Rules) -> Place {
        Place::InPlace {
            path: self.home(),
            ref_name,
            dirty: rules.dirty,
            clean: rules.clean,
            patch: self.path("edits.patch"),
        }
    }

    /// Brings the working tree to a commit of branch `main`.
    pub(super) fn bring(&self, commit: &CommitId, rules: Rules) -> Result<Staged, GitFailure> {
        self.stage(commit, self.place(Some(main_branch()), rules), None)
    }

    /// That git sees nothing to do, and the files are those of the commit.
    pub(super) fn assert_is_at(&self, commit: &CommitId) {
        assert_eq!(git(&self.home(), &["status", "--porcelain", "--untracked-files=no"]), "");
        assert_eq!(git(&self.home(), &["rev-parse", "HEAD"]), commit.as_str());
        git(&self.home(), &["diff", "--exit-code", commit.as_str()]);
        assert!(!self.home().join(".git/index.lock").exists());
        assert!(!self.home().join(".git/landfall/bringing").exists());
    }

    pub(super) fn edit(&self, path: &str, text: &str) {
        write_files(&self.home(), &[(path, Some(text.as_bytes()))]);
    }

    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.home().join(path)).expect(path)
    }
}

#[test]
fn an_empty_folder_becomes_a_clone_like_any_other() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    symlink("a", room.source().join("link")).expect("link");
    room.write(&[("bin/run", Some(b"#!/bin/sh\n"))]);
    make_executable(&room.source().join("bin/run"));
    let commit = room.commit(&[]);
    let staged = room.bring(&commit, SAVE).expect("brought");
    assert_eq!((staged.previous, staged.patch_saved), (None, false));
    room.assert_is_at(&commit);

    assert!(!room.path("mirror.git").exists(), "no mirror is needed");
    assert_eq!(git(&room.home(), &["log", "--oneline"]).lines().count(), 2);
    git(&room.home(), &["fsck", "--strict"]);
    assert_eq!(git(&room.home(), &["status", "-sb", "--porcelain"]), "## main...origin/main");
    assert_eq!(git(&room.home(), &["remote", "get-url", "origin"]), room.source().display().to_string());
    let from_source: Vec<_> =
        contents(&room.source()).into_iter().filter(|(_, it)| it.0 & 0o170_000 != 0o040_000).collect();
    let brought: Vec<_> = contents(&room.home()).into_iter().filter(|(_, it)| it.0 & 0o170_000 != 0o040_000).collect();
    assert_eq!(brought, from_source);
}

#[test]
fn modes_and_empty_folders_of_old_histories_are_what_git_makes_of_them() {
    let room = Room::new();
    let blob = git_with_input(&room.source(), &["hash-object", "-w", "--stdin"], b"legacy");
    let empty = git_with_input(&room.source(), &["hash-object", "-w", "-t", "tree", "--stdin"], b"");
    let bytes = |hex: &str| Oid::from_str(hex).expect("an id").as_bytes().to_vec();
    let tree = [b"40000 hollow\0".to_vec(), bytes(&empty), b"100664 old\0".to_vec(), bytes(&blob)].concat();
    let write = ["hash-object", "-w", "-t", "tree", "--stdin", "--literally"];
    let tree = git_with_input(&room.source(), &write, &tree);
    let commit = id(&git(&room.source(), &["commit-tree", &tree, "-m", "legacy"]));
    git(&room.source(), &["update-ref", "refs/heads/main", commit.as_str()]);
    for _ in 0..2 {
        room.bring(&commit, FAIL).expect("brought");
        room.assert_is_at(&commit);
        assert_eq!(room.text("old"), "legacy");
    }
}

#[test]
fn a_commit_that_was_asked_for_by_itself_moves_the_branch_that_the_tree_is_on() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    room.bring(&second, SAVE).expect("second");
    room.stage(&first, room.place(None, SAVE), None).expect("back");
    room.assert_is_at(&first);
    assert_eq!(git(&room.home(), &["status", "-sb", "--porcelain"]), "## main...origin/main [behind 1]");
    git(&room.home(), &["checkout", "-q", "--detach"]);
    room.stage(&second, room.place(None, SAVE), None).expect("forth");
    room.assert_is_at(&second);
    assert_eq!(git(&room.home(), &["rev-parse", "main"]), first.as_str(), "nobody is on it");
}

#[test]
fn a_file_that_git_was_told_to_leave_alone_is_left_alone() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let room = Room::new();
        let first = room.commit(&[("a", "1"), ("b", "1")]);
        room.bring(&first, SAVE).expect("first");
        git(&room.home(), &["update-index", flag, "a"]);
        room.edit("a", "mine");
        // The commit changes another file, then this one, and at last it has it no more.
        let second = room.commit(&[("b", "2")]);
        assert!(!room.bring(&second, FAIL).expect("second").patch_saved);
        let third = room.commit(&[("a", "2")]);
        assert!(!room.bring(&third, SAVE).expect("third").patch_saved);
        assert_eq!((room.text("a"), room.text("b")), ("mine".into(), "2".into()), "{flag}");
        assert_eq!(git(&room.home(), &["rev-parse", "HEAD"]), third.as_str());
        assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
        let marks = git(&room.home(), &["ls-files", "-v", "a"]);
        assert!(marks.starts_with(if flag == "--skip-worktree" { 'S' } else { 'h' }), "{flag}: {marks}");
        room.git(&["rm", "-q", "-f", "a"]);
        let fourth = room.commit(&[("b", "3")]);
        let failure = room.bring(&fourth, SAVE).expect_err("it is to go");
        assert!(failure.reason.contains("`a`"), "{}", failure.reason);
        assert_eq!((room.text("a"), room.text("b")), ("mine".into(), "2".into()), "nothing was changed");
        let command = failure.reason.split('`').find(|it| it.starts_with("cd ")).expect("a command");
        assert!(std::process::Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
        assert!(room.bring(&fourth, SAVE).expect("an edit like any other").patch_saved);
        room.assert_is_at(&fourth);
    }
}

#[test]
fn a_newer_commit_changes_what_differs_and_touches_nothing_else() {
    let room = Room::new();
    let first = room.commit(&[("same", "1"), ("edit", "1"), ("dir/gone", "1"), ("was-file", "1"), ("was-dir/x", "1")]);
    room.bring(&first, SAVE).expect("first");
    room.edit("mine", "untracked");
    let untouched = fs::metadata(room.home().join("same")).expect("metadata").modified().expect("a time");

    room.write(&[("dir/gone", None), ("was-file", None), ("was-dir/x", None)]);
    fs::remove_dir(room.source().join("was-dir")).expect("empty");
    let second = room.commit(&[("edit", "2"), ("was-file/x", "2"), ("was-dir", "2"), ("new/deep/file", "2")]);
    let staged = room.bring(&second, FAIL).expect("second");
    assert_eq!((staged.previous, staged.changed, staged.commit_count), (Some(first), 7, Some(1)));
    room.assert_is_at(&second);
    assert_eq!(room.text("mine"), "untracked");
    assert!(!room.home().join("dir").exists());
    let now = fs::metadata(room.home().join("same")).expect("metadata").modified().expect("a time");
    assert_eq!(now, untouched);
}

#[test]
fn a_branch_is_checked_out_and_a_tag_is_detached() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    room.bring(&commit, SAVE).expect("branch");
    assert_eq!(git(&room.home(), &["symbolic-ref", "HEAD"]), "refs/heads/main");
    let other = RefName::Branch("other/branch".into());
    room.stage(&commit, room.place(Some(other), SAVE), None).expect("other branch");
    assert_eq!(git(&room.home(), &["symbolic-ref", "HEAD"]), "refs/heads/other/branch");
    room.stage(&commit, room.place(Some(RefName::Tag("v1".into())), SAVE), None).expect("tag");
    assert_eq!(git(&room.home(), &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
    room.assert_is_at(&commit);
}

/// A commit in place, with edits of every kind on top, and a newer commit to bring.
fn with_edits() -> (Room, CommitId, CommitId) {
    let room = Room::new();
    room.write(&[("binary", Some(&[0, 159, 146, 150, 0]))]);
    let first = room.commit(&[("a", "1\n"), ("b", "1\n"), ("removed", "1\n"), ("staged", "1\n"), ("mode", "1\n")]);
    room.bring(&first, SAVE).expect("first");
    room.edit("a", "mine\n");
    write_files(&room.home(), &[("binary", Some(&[0, 1, 2, 255])), ("removed", None)]);
    room.edit("staged", "staged by me\n");
    room.edit("added", "added by me\n");
    git(&room.home(), &["add", "staged", "added"]);
    make_executable(&room.home().join("mode"));
    let second = room.commit(&[("a", "2\n"), ("b", "2\n")]);
    (room, first, second)
}

#[test]
fn local_edits_are_saved_as_a_patch_that_git_applies() {
    let (room, first, second) = with_edits();
    let edited = contents(&room.home());
    let staged = room.bring(&second, SAVE).expect("brought");
    assert!(staged.patch_saved);
    room.assert_is_at(&second);

    git(room.folder.path(), &["clone", "-q", "source", "again"]);
    let again = room.path("again");
    git(&again, &["checkout", "-q", first.as_str()]);
    git(&again, &["apply", &room.path("edits.patch").display().to_string()]);
    assert_eq!(contents(&again), edited);
}

#[test]
fn edits_of_files_with_any_name_and_of_any_kind_are_in_a_patch_that_git_applies() {
    let room = Room::new();
    let names: [&[u8]; 8] = [
        b"with space",
        b"quote\"d",
        b"back\\slash",
        b"tab\there",
        b"new\nline",
        b"latin-\xe9\xff",
        "\u{2603}".as_bytes(),
        b"-x",
    ];
    let file = |folder: PathBuf, name: &[u8]| folder.join(OsStr::from_bytes(name));
    for name in names {
        fs::write(file(room.source(), name), "one\ntwo\n").expect("a file");
    }
    symlink("target", room.source().join("link")).expect("a link");
    symlink("target", room.source().join("was-link")).expect("a link");
    let attributes = "*.dos text eol=crlf\n";
    let others = [("a.dos", "one\ntwo\n"), ("was-file", "1\n"), ("no-end", "1"), ("emptied", "1\n"), ("dir/x", "1\n")];
    let first = room.commit(&[&others[..], &[(".gitattributes", attributes)]].concat());
    room.bring(&first, SAVE).expect("first");
    for name in names {
        fs::write(file(room.home(), name), "one\nmine\n").expect("a file");
    }
    for name in ["link", "was-link", "was-file", "dir/x"] {
        fs::remove_file(room.home().join(name)).expect("removed");
    }
    fs::remove_dir(room.home().join("dir")).expect("removed");
    symlink("elsewhere", room.home().join("link")).expect("a link");
    symlink("elsewhere", room.home().join("was-file")).expect("a link");
    for (name, text) in
        [("was-link", "a file now\n"), ("a.dos", "one\r\nmine\r\n"), ("no-end", "2"), ("emptied", ""), ("dir", "x")]
    {
        room.edit(name, text);
    }
    let edited = contents(&room.home());
    let second = room.commit(&[("b", "2\n")]);
    assert!(room.bring(&second, SAVE).expect("brought").patch_saved);
    room.assert_is_at(&second);

    git(room.folder.path(), &["clone", "-q", "source", "again"]);
    let again = room.path("again");
    git(&again, &["checkout", "-q", first.as_str()]);
    git(&again, &["apply", &room.path("edits.patch").display().to_string()]);
    // What was in the way of a folder is nothing that git knows, and lies beside the patch.
    fs::copy(room.path("edits.patch.files/dir"), again.join("dir")).expect("saved");
    assert_eq!(contents(&again), edited);
}

#[test]
fn local_edits_fail_the_run_and_stay_where_the_hook_says_so() {
    let (room, first, second) = with_edits();
    let edited = contents(&room.home());
    let failure = room.bring(&second, FAIL).expect_err("edits");
    assert_eq!(failure.class, FailureClass::Permanent);
    for name in ["`a`", "`binary`", "`removed`", "`staged`", "`added`", "`mode`"] {
        assert!(failure.reason.contains(name), "{name}: {}", failure.reason);
    }
    assert!(!failure.reason.contains("`b`"));
    assert_eq!(contents(&room.home()), edited);
    assert_eq!(git(&room.home(), &["rev-parse", "HEAD"]), first.as_str());
    assert!(!room.home().join(".git/index.lock").exists());
}

#[test]
fn local_edits_are_overwritten_where_the_hook_says_so() {
    let (room, _, second) = with_edits();
    let staged = room.bring(&second, Rules { dirty: Dirty::Overwrite, clean: Clean::None }).expect("brought");
    assert!(!staged.patch_saved && !room.path("edits.patch").exists());
    room.assert_is_at(&second);
    // Like any `git reset --hard`, this leaves no trace of a file that only the index knew.
    assert!(!room.home().join("added").exists());
}

#[test]
fn an_edit_that_is_just_what_the_commit_brings_is_no_edit() {
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1")]);
    room.bring(&first, SAVE).expect("first");
    room.edit("a", "2");
    room.edit("new", "2");
    let second = room.commit(&[("a", "2"), ("new", "2")]);
    room.bring(&second, FAIL).expect("no edit");
    room.assert_is_at(&second);
}

#[test]
fn an_edit_of_the_same_length_in_the_same_moment_is_seen() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    room.bring(&commit, SAVE).expect("first");
    room.edit("a", "9");
    assert!(room.bring(&commit, SAVE).expect("again").patch_saved);
    assert_eq!(room.text("a"), "1");
}

#[test]
fn untracked_files_in_the_way_are_saved_beside_the_patch_or_fail_the_run() {
    let room = Room::new();
    let first = room.commit(&[("keep", "1"), (".gitignore", "*.log\n")]);
    room.bring(&first, SAVE).expect("first");
    room.edit("file", "mine");
    room.edit("folder/in/the/way", "mine");
    room.edit("parent", "mine");
    room.edit("ignored.log", "mine");
    let second = room.commit(&[("file", "2"), ("folder", "2"), ("parent/child", "2"), ("ignored.log", "2")]);

    let failure = room.bring(&second, FAIL).expect_err("in the way");
    for name in ["`file`", "`folder/in/the/way`", "`parent`", "`ignored.log`"] {
        assert!(failure.reason.contains(name), "{name}: {}", failure.reason);
    }
    assert_eq!(room.text("file"), "mine");

    assert!(room.bring(&second, SAVE).expect("saved").patch_saved);
    room.assert_is_at(&second);
    assert_eq!(room.text("parent/child"), "2");
    for name in ["file", "folder/in/the/way", "parent", "ignored.log"] {
        let saved = fs::read_to_string(room.path("edits.patch.files").join(name));
        assert_eq!(saved.expect(name), "mine");
    }
}

#[test]
fn a_link_in_place_of_a_folder_is_never_followed() {
    let room = Room::new();
    let first = room.commit(&[("dir/a", "1"), ("other/b", "1")]);
    room.bring(&first, SAVE).expect("first");
    fs::create_dir(room.path("outside")).expect("a folder");
    fs::write(room.path("outside/a"), "precious").expect("a file");
    for name in ["dir", "other"] {
        fs::remove_dir_all(room.home().join(name)).expect("removed");
        symlink(room.path("outside"), room.home().join(name)).expect("link");
    }
    room.write(&[("other/b", None)]);
    let second = room.commit(&[("dir/a", "2"), ("dir/new", "2")]);
    room.bring(&second, Rules { dirty: Dirty::Overwrite, clean: Clean::None }).expect("brought");
    room.assert_is_at(&second);
    assert_eq!(fs::read_dir(room.path("outside")).expect("folder").count(), 1);
    assert_eq!(fs::read_to_string(room.path("outside/a")).expect("file"), "precious");
}

#[test]
fn clean_removes_untracked_files_and_never_ignored_ones() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1"), (".gitignore", "*.log\ncache/\n")]);
    room.bring(&commit, SAVE).expect("first");
    for path in ["untracked", "deep/er/untracked", "x.log", "cache/x", "deep/y.log", "nested/file"] {
        room.edit(path, "mine");
    }
    git(&room.home().join("nested"), &["init", "-q"]);
    room.bring(&commit, SAVE).expect("kept");
    assert_eq!(room.text("untracked"), "mine");

    room.bring(&commit, Rules { dirty: Dirty::Save, clean: Clean::Untracked }).expect("cleaned");
    assert!(!room.home().join("untracked").exists() && !room.home().join("deep/er").exists());
    for path in ["x.log", "cache/x", "deep/y.log", "nested/file"] {
        assert_eq!(room.text(path), "mine");
    }
}

#[test]
fn line_ends_are_written_as_the_attributes_say_and_status_is_clean() {
    let room = Room::new();
    let first = room.commit(&[(".gitattributes", "*.txt text eol=crlf\n"), ("a.txt", "1\n"), ("b.txt", "1\n")]);
    room.bring(&first, FAIL).expect("first");
    room.assert_is_at(&first);
    assert_eq!(room.text("a.txt"), "1\r\n");
    let second = room.commit(&[("a.txt", "2\n")]);
    fs::write(room.home().join("b.txt"), "1\r\n").expect("touched");
    room.bring(&second, FAIL).expect("a touched file is no edit");
    room.assert_is_at(&second);
    assert_eq!((room.text("a.txt"), room.text("b.txt")), ("2\r\n".into(), "1\r\n".into()));
}

#[test]
fn hooks_of_the_working_tree_do_not_run() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, SAVE).expect("first");
    for name in ["post-checkout", "post-merge", "reference-transaction", "post-index-change"] {
        let hook = room.home().join(".git/hooks").join(name);
        fs::create_dir_all(hook.parent().expect("below")).expect("folder");
        fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", room.path("ran").display())).expect("hook");
        make_executable(&hook);
    }
    let second = room.commit(&[("a", "2")]);
    room.bring(&second, SAVE).expect("second");
    assert!(!room.path("ran").exists());
    assert!(git_command(&room.home()).args(["checkout", "-q", "--detach"]).status().expect("git").success());
    assert!(room.path("ran").exists(), "the hooks themselves are good");
}

#[test]
fn a_file_that_attributes_made_differ_from_its_blob_is_nobodys_edit() {
    let room = Room::new();
    // Stored with line ends of both kinds, which git itself could not do any more.
    fs::write(room.source().join(".git/info/attributes"), "* !text !eol -text\n").expect("attributes");
    let first = room.commit(&[(".gitattributes", "*.txt text eol=crlf\n*.c ident\n"), ("a.txt", "1\r\n2\n")]);
    room.bring(&first, FAIL).expect("first");
    assert_eq!(room.text("a.txt"), "1\r\n2\r\n");
    // Read again, since the index cannot vouch for it.
    room.edit("a.txt", "1\r\n2\r\n");
    let second = room.commit(&[("b", "1"), ("a.txt", "1\r\n2\n3\n")]);
    room.bring(&second, FAIL).expect("second");
    assert_eq!(room.text("a.txt"), "1\r\n2\r\n3\r\n");
    room.edit("a.txt", "1\r\n2\r\nmine\r\n");
    let third = room.commit(&[("b", "2")]);
    assert!(room.bring(&third, FAIL).expect_err("an edit").reason.contains("`a.txt`"));
}
