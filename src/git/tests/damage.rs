//! Promises to people whose clone is damaged, or not theirs: they are told which file it is, and what mends it.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use super::{
    Order, Room, answer, git,
    in_place::FAIL,
    main_branch,
    unlucky::{bring_as_nobody, give_away, is_root},
};
use crate::{
    git::{Answer, Fetch, GitFailure, Into},
    model::{job::Target, push::CommitId, run::FailureClass},
    process::errand,
};

/// Runs the command of a failure that begins like this.
fn mend(failure: &GitFailure, begin: &str) {
    let command = failure.reason.split('`').find(|it| it.starts_with(begin)).unwrap_or_else(|| panic!("{failure}"));
    assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
}

/// A room with a working tree at its first commit, a branch and a stash of a person's, and a second commit.
fn room_of_a_person() -> (Room, CommitId) {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.git(&["tag", "v1"]);
    room.bring(&first, FAIL).expect("first");
    git(&room.home(), &["branch", "mine"]);
    room.edit("a", "a person's");
    git(&room.home(), &["stash"]);
    let second = room.commit(&[("a", "2")]);
    (room, second)
}

/// That a damage is refused before anything changes, by the name of its file, and that the command mends it.
fn assert_mended(file: &str, content: &str, command: &str) {
    let (room, second) = room_of_a_person();
    let path = room.home().join(".git").join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, content).expect("spoilt");
    let failure = room.bring(&second, FAIL).expect_err(file);
    assert_eq!(failure.class, FailureClass::Permanent, "{file}: {}", failure.reason);
    assert!(failure.reason.contains(&format!("`{}`", path.display())), "{file}: {}", failure.reason);
    assert_eq!(room.text("a"), "1", "{file}: nothing was changed");
    mend(&failure, command);
    room.bring(&second, FAIL).unwrap_or_else(|failure| panic!("{file}: {failure}"));
    room.assert_is_at(&second);
    git(&room.home(), &["rev-parse", "mine"]);
    assert_eq!(git(&room.home(), &["stash", "list"]).lines().count(), 1, "{file}");
    git(&room.home(), &["fsck"]);
}

#[test]
fn a_head_that_says_nothing_is_named_with_the_command_that_mends_it() {
    assert_mended("HEAD", "", "echo ");
    assert_mended("HEAD", "garbage\n", "echo ");
}

#[test]
fn a_ref_that_says_nothing_is_named_with_the_command_that_mends_it() {
    assert_mended("refs/remotes/origin/main", "", "rm ");
    assert_mended("refs/tags/v1", "", "rm ");
    assert_mended("refs/tags/v1", "garbage\n", "rm ");
    // Where a branch was, its reflog knows.
    assert_mended("refs/heads/main", "", "echo ");
    assert_mended("refs/heads/mine", "", "echo ");
}

#[test]
fn a_ref_that_leads_to_itself_is_named_with_the_command_that_mends_it() {
    assert_mended("refs/remotes/origin/HEAD", "ref: refs/remotes/origin/HEAD\n", "rm ");
}

#[test]
fn a_line_of_the_packed_refs_that_is_none_is_named_before_anything_changes() {
    assert_mended("packed-refs", "# pack-refs with: peeled fully-peeled sorted \ngarbage\n", "sed ");
    let (room, second) = room_of_a_person();
    git(&room.home(), &["pack-refs", "--all"]);
    let file = room.home().join(".git/packed-refs");
    let whole = fs::read_to_string(&file).expect("refs");
    fs::write(&file, whole.trim_end()).expect("cut");
    let failure = room.bring(&second, FAIL).expect_err("no end");
    mend(&failure, "echo >> ");
    room.bring(&second, FAIL).expect("mended");
    assert_eq!(git(&room.home(), &["for-each-ref", "refs/tags"]).lines().count(), 1);
}

/// Fetches into the working tree as the user `nobody`.
fn fetch_as_nobody(room: &Room, commit: &CommitId) -> Result<(), GitFailure> {
    let target = Target::Commit { commit: commit.clone(), ref_name: Some(main_branch()) };
    let order = room.order(&room.remote, Vec::new(), target);
    let order = Fetch { into: Into::WorkTree(room.home()), mirrors: room.path("desk"), ..order };
    let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
    command.uid(65534).gid(65534).current_dir("/");
    let output = room.start_child_by(command, &Order::Fetch(order), &[]).wait_with_output().expect("the child ends");
    errand::decode(answer(&output)).and_then(Answer::fetched).map(drop)
}

/// A room whose working tree is that of `nobody`.
fn room_of_nobody() -> (Room, CommitId) {
    let (room, second) = room_of_a_person();
    fs::set_permissions(room.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    fs::create_dir(room.path("desk")).expect("a folder");
    give_away(&room.path("desk"));
    give_away_all(&room.home());
    (room, second)
}

fn give_away_all(folder: &Path) {
    let status = Command::new("chown").args(["-R", "65534:65534"]).arg(folder).status();
    assert!(status.expect("chown").success());
}

#[test]
fn as_root_objects_that_cannot_be_added_are_refused_with_the_command_that_mends_it() {
    if !is_root("as_root_objects_that_cannot_be_added_are_refused_with_the_command_that_mends_it") {
        return;
    }
    let (room, second) = room_of_nobody();
    let packs = room.home().join(".git/objects/pack");
    for (what, spoil) in [("chown -R nobody ", None), ("chmod -R u+rwX ", Some(0o555))] {
        match spoil {
            None => chown(&packs, Some(0), Some(0)).expect("taken"),
            Some(mode) => fs::set_permissions(&packs, Permissions::from_mode(mode)).expect("a mode"),
        }
        let failure = fetch_as_nobody(&room, &second).expect_err(what);
        assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
        assert!(failure.reason.contains(&format!("`{}`", packs.display())), "{}", failure.reason);
        mend(&failure, what);
    }
    fetch_as_nobody(&room, &second).expect("mended");
}

#[test]
fn as_root_what_we_keep_in_a_clone_and_cannot_write_is_named_by_its_own_folder() {
    if !is_root("as_root_what_we_keep_in_a_clone_and_cannot_write_is_named_by_its_own_folder") {
        return;
    }
    let (room, second) = room_of_nobody();
    let own = room.home().join(".git/landfall");
    let status = Command::new("chown").args(["-R", "0:0"]).arg(&own).status();
    assert!(status.expect("chown").success());
    let failure = fetch_as_nobody(&room, &second).expect_err("root's");
    assert!(failure.reason.contains(&format!("`{}` belongs to `root`", own.display())), "{}", failure.reason);
    mend(&failure, "chown -R nobody ");
    fetch_as_nobody(&room, &second).expect("mended");
}

#[test]
fn as_root_a_file_that_we_may_not_read_is_not_called_locked() {
    if !is_root("as_root_a_file_that_we_may_not_read_is_not_called_locked") {
        return;
    }
    let (room, second) = room_of_nobody();
    fetch_as_nobody(&room, &second).expect("fetched");
    let file = room.home().join("a");
    chown(&file, Some(0), Some(0)).expect("root's");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
    let reason = bring_as_nobody(&room, &second).expect_err("unreadable");
    assert!(!reason.contains("locked"), "{reason}");
    let expected =
        format!("`{}` belongs to `root`, and `nobody`, as whom this hook works, may not read", file.display());
    assert!(reason.contains(&expected), "{reason}");
    mend(&GitFailure::other(reason), "chown -R nobody ");
    bring_as_nobody(&room, &second).expect("mended");
    assert_eq!(room.text("a"), "2");
}
