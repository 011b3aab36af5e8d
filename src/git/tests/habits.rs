//! Promises to people who have told their clone how it keeps line ends and links: files are what git makes of them there.

use std::{fs, os::unix::fs::symlink};

use super::{
    Room, contents, git,
    in_place::{FAIL, SAVE},
};
use crate::model::run::FailureClass;

const ATTRIBUTES: &str = "*.text text\n*.auto text=auto\n*.raw -text\n*.lf eol=lf\n*.crlf eol=crlf\n*.input crlf=input\n\
                          *.id ident\n*.autolf text=auto eol=lf\n*.autocrlf text=auto eol=crlf\n*.utf working-tree-encoding=UTF-16\n";

/// Writes a file of each kind, with each sort of content, and commits them.
fn commit_all(room: &Room, word: &str) -> crate::model::push::CommitId {
    // Blobs are stored as they are.
    fs::write(room.source().join(".git/info/attributes"), "* -text !eol !crlf !ident !working-tree-encoding\n")
        .expect("attributes");
    let contents = [
        ("lf", format!("{word}\n$Id$\n")),
        ("crlf", format!("{word}\r\n$Id$\r\n")),
        ("mixed", format!("{word}\r\n\n")),
        ("binary", format!("{word}\0\n")),
    ];
    let ends = ["none", "text", "auto", "raw", "lf", "crlf", "input", "id", "autolf", "autocrlf", "utf"];
    let files: Vec<(String, &str)> = contents
        .iter()
        .flat_map(|(name, content)| ends.map(|end| (format!("{name}.{end}"), content.as_str())))
        .collect();
    let files = files.iter().map(|(path, content)| (path.as_str(), *content));
    room.commit(&files.chain([(".gitattributes", ATTRIBUTES)]).collect::<Vec<_>>())
}

#[test]
fn line_ends_are_what_the_configuration_of_a_clone_makes_of_them() {
    for (key, value) in [("autocrlf", "true"), ("autocrlf", "input"), ("eol", "crlf"), ("eol", "native")] {
        let room = Room::new();
        let set = format!("core.{key}={value}");
        commit_all(&room, "one");
        for name in ["home", "reference"] {
            git(room.folder.path(), &["clone", "-q", "-c", &set, "source", name]);
        }
        for word in ["two", "three"] {
            let commit = commit_all(&room, word);
            let staged = room.bring(&commit, FAIL).unwrap_or_else(|failure| panic!("{set}: {failure}"));
            assert!(!staged.patch_saved, "{set}");
            git(&room.path("reference"), &["fetch", "-q"]);
            git(&room.path("reference"), &["reset", "-q", "--hard", commit.as_str()]);
            let (ours, theirs) = (contents(&room.home()), contents(&room.path("reference")));
            let differ: Vec<_> = theirs.iter().filter(|(path, it)| ours.get(*path) != Some(it)).collect();
            assert!(differ.is_empty(), "{set}: {differ:?}");
            // What else git calls changed are blobs that it would store in another way, as they were not added in this clone.
            let status = git(&room.home(), &["status", "--porcelain"]);
            assert!(!status.lines().any(|it| it.contains(" lf.")), "{set}: {status}");
        }
        room.edit("lf.none", "a person's\r\n");
        let failure = room.bring(&commit_all(&room, "four"), FAIL).expect_err("an edit");
        assert!(failure.reason.contains("`lf.none`"), "{set}: {}", failure.reason);
    }
}

#[test]
fn a_clone_without_links_gets_files_that_hold_where_they_lead() {
    let room = Room::new();
    let link = |target: &str, name: &str| {
        let _ = fs::remove_file(room.source().join(name));
        symlink(target, room.source().join(name)).expect("a link");
    };
    link("a", "link");
    link("d/f", "becomes-a-file");
    room.commit(&[("a", "1"), ("becomes-a-link", "text")]);
    for name in ["home", "reference"] {
        git(room.folder.path(), &["clone", "-q", "-c", "core.symlinks=false", "source", name]);
    }
    for turn in ["b", "c"] {
        link(turn, "link");
        link("elsewhere", "becomes-a-link");
        let _ = fs::remove_file(room.source().join("becomes-a-file"));
        let commit = room.commit(&[("becomes-a-file", "text"), ("a", turn)]);
        assert!(!room.bring(&commit, FAIL).expect("nobody's edit").patch_saved);
        git(&room.path("reference"), &["fetch", "-q"]);
        git(&room.path("reference"), &["reset", "-q", "--hard", commit.as_str()]);
        assert_eq!(contents(&room.home()), contents(&room.path("reference")));
        assert_eq!(room.text("link"), turn);
        room.assert_is_at(&commit);
    }
    room.edit("link", "a person's");
    link("d", "link");
    let commit = room.commit(&[]);
    let failure = room.bring(&commit, FAIL).expect_err("an edit");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(room.bring(&commit, SAVE).expect("saved").patch_saved);
    assert_eq!(room.text("link"), "d");
}
