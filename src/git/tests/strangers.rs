//! Promises about submodules on hosts that are not the hook's: where a redirect leads, and what people are told.

use super::{
    Room, git,
    submodules::{embed, nested, repository},
};
use crate::model::{deploy::Submodules, job::Target, run::FailureClass};

#[test]
fn a_commit_of_a_submodule_that_was_never_pushed_is_told_with_its_remote_and_the_usual_cause() {
    let mut room = Room::new();
    repository(&room, "lib", &[("l", "lib\n")]);
    room.commit(&[("a", "1")]);
    embed(&room, "source", ("lib", "lib", "../lib"), &"12".repeat(20));
    room.scope.submodules = Submodules::On;
    let failure = room.fetch_commit(&room.head()).expect_err("never pushed");
    assert_eq!(failure.class, FailureClass::Permanent);
    let expected = format!(
        "submodule `lib`: commit 1212121, which the commit around it wants, is not on the remote {}: most likely it was \
         never pushed there",
        room.path("lib").display()
    );
    assert!(failure.reason.starts_with(&expected), "{}", failure.reason);
}

#[test]
fn a_submodule_within_another_is_named_by_its_whole_path() {
    let (mut room, commit) = nested();
    room.scope.submodules = Submodules::Recursive;
    let target = Target::Commit { commit, ref_name: None };
    let (fetched, said) = room.fetch_by_child(room.order(&room.remote, Vec::new(), target), &[]);
    fetched.expect("fetched");
    let deep = git(&room.path("deep"), &["rev-parse", "--short=7", "HEAD"]);
    assert!(said.contains(&format!("submodule `vendor/lib/inner` is at {deep}")), "{said}");
    assert!(said.contains("submodule `vendor/lib` is at "), "{said}");
}
