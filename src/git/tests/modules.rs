//! Promises about the names of submodules, by which git keeps their repositories.

use std::{fs, path::Path};

use super::{
    Room, contents, git,
    in_place::{FAIL, SAVE},
    submodules::{cloned, embed, remove_submodule, repository, without_git},
    write_files,
};
use crate::model::{deploy::Submodules, push::CommitId};

/// A room whose working tree has a submodule of this name at `n1`, which has one within it.
fn with_submodule(name: &str) -> (Room, String) {
    let mut room = Room::new();
    room.scope.submodules = Submodules::Recursive;
    let deep = repository(&room, "deep", &[("d", "deep\n")]);
    repository(&room, "lib", &[("l", "lib\n")]);
    let lib = embed(&room, "lib", ("in", "inner", "../deep"), &deep);
    room.commit(&[("a", "1")]);
    let first = embed(&room, "source", (name, "n1", "../lib"), lib.as_str());
    room.bring(&first, FAIL).expect("first");
    (room, lib.to_string())
}

fn assert_is_as_cloned(room: &Room, commit: &CommitId) {
    room.assert_is_at(commit);
    assert_eq!(without_git(contents(&room.home())), cloned(room, &["--recurse-submodules"]));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
    git(&room.home(), &["submodule", "foreach", "--recursive", "git fsck --connectivity-only"]);
}

fn head(git_dir: &Path) -> String {
    git(git_dir, &["--git-dir=.", "--work-tree=.", "rev-parse", "HEAD"])
}

#[test]
fn the_repository_of_a_submodule_that_is_gone_gives_way_to_one_whose_name_it_is_in_the_way_of() {
    for (old, new, kept) in [("new/deep/name", "new", "new.old-1/deep/name"), ("lib", "lib/two", "lib.old-1")] {
        // First it goes, and another time it goes in the commit that brings the other.
        for goes_before in [true, false] {
            for place in ["n2", "n1"] {
                let (room, lib) = with_submodule(old);
                let other = repository(&room, "other", &[("o", "other\n")]);
                remove_submodule(&room, old, "n1");
                if goes_before {
                    room.bring(&room.head(), FAIL).expect("removed");
                }
                let second = embed(&room, "source", (new, place, "../other"), &other);
                room.bring(&second, FAIL).unwrap_or_else(|failure| panic!("{old}, {new}: {}", failure.reason));
                assert_is_as_cloned(&room, &second);
                assert_eq!(head(&room.home().join(".git/modules").join(kept)), lib);
                assert!(place == "n1" || !room.home().join("n1").exists());
            }
        }
    }
}

#[test]
fn what_a_person_changed_in_a_submodule_that_gives_way_is_saved_first() {
    for (old, new) in [("new/deep/name", "new"), ("lib", "lib/two")] {
        let (room, _) = with_submodule(old);
        let first = room.head();
        let other = repository(&room, "other", &[("o", "other\n")]);
        remove_submodule(&room, old, "n1");
        let second = embed(&room, "source", (new, "n2", "../other"), &other);
        write_files(&room.home(), &[("n1/l", Some(b"by hand\n")), ("n1/inner/d", Some(b"by hand\n"))]);
        let failure = room.bring(&second, FAIL).expect_err("an edit");
        assert!(failure.reason.contains("`l`") || failure.reason.contains("`d`"), "{}", failure.reason);
        assert_eq!(git(&room.home(), &["rev-parse", "HEAD"]), first.as_str());
        assert_eq!(git(&room.home().join("n1"), &["diff", "--name-only", "--ignore-submodules"]), "l");
        assert_eq!(git(&room.home().join("n1/inner"), &["diff", "--name-only"]), "d");
        assert!(room.bring(&second, SAVE).expect("second").patch_saved);
        assert_is_as_cloned(&room, &second);
        assert!(fs::read_to_string(room.path("edits.patch.files/n1.patch")).expect("a patch").contains("+by hand"));
    }
}

#[test]
fn the_way_back_to_a_commit_whose_submodule_gave_way_is_open() {
    let (room, _) = with_submodule("lib");
    let first = room.head();
    let other = repository(&room, "other", &[("o", "other\n")]);
    remove_submodule(&room, "lib", "n1");
    let second = embed(&room, "source", ("lib/two", "n1", "../other"), &other);
    room.bring(&second, FAIL).expect("second");
    room.git(&["reset", "-q", "--hard", first.as_str()]);
    room.bring(&first, FAIL).expect("back");
    assert_is_as_cloned(&room, &first);
}

#[test]
fn two_submodules_of_one_commit_whose_names_are_in_each_others_way_are_refused_by_name() {
    for (one, two) in [("lib", "lib/two"), ("lib/two", "lib")] {
        let (room, lib) = with_submodule(one);
        let first = room.head();
        let second = embed(&room, "source", (two, "n2", "../lib"), &lib);
        let failure = room.bring(&second, FAIL).expect_err("both");
        assert!(failure.reason.contains("submodule `n2`: its name in `.gitmodules`"), "{}", failure.reason);
        assert!(failure.reason.contains("another name"), "{}", failure.reason);
        assert_eq!(git(&room.home(), &["rev-parse", "HEAD"]), first.as_str());
        assert!(room.home().join(".git/modules").join(one).join("HEAD").exists());
    }
}
