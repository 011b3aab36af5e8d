//! Promises to the people whose clone a working tree is: what is adopted, what is kept, and what a crash leaves.

use std::{
    fs,
    os::unix::fs::chown,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    Room, git, git_command,
    in_place::{FAIL, SAVE},
    wait_for, write_files,
};
use crate::model::{push::CommitId, run::FailureClass};

fn clone(room: &Room) {
    git(room.folder.path(), &["clone", "-q", "source", "home"]);
}

#[test]
fn a_clone_of_the_same_remote_is_adopted() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    clone(&room);
    let second = room.commit(&[("a", "2")]);
    let staged = room.bring(&second, FAIL).expect("adopted");
    assert_eq!(staged.previous, Some(first));
    room.assert_is_at(&second);
    assert_eq!(git(&room.home(), &["status", "-sb", "--porcelain"]), "## main...origin/main");
}

#[test]
fn a_clone_by_another_way_and_a_shallow_one_are_adopted_for_a_commit_they_share() {
    for depth in ["--no-local", "--depth=1"] {
        let room = Room::new();
        room.commit(&[("a", "0")]);
        room.commit(&[("a", "1")]);
        let url = format!("file://{}", room.source().display());
        git(room.folder.path(), &["clone", "-q", depth, &url, "home"]);
        git(&room.home(), &["remote", "set-url", "origin", "git@example.org:acme/site.git"]);
        room.git(&["tag", "shared"]);
        let second = room.commit(&[("a", "2")]);
        room.bring(&second, FAIL).expect(depth);
        room.assert_is_at(&second);
        git(&room.home(), &["fsck", "--strict"]);
    }
}

#[test]
fn any_other_folder_is_refused_with_the_commands_that_mend_it() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    write_files(&room.home(), &[("index.html", Some(b"old site"))]);
    let files = room.bring(&commit, SAVE).expect_err("files");
    assert_eq!(files.class, FailureClass::Permanent);
    let home = room.home().display().to_string();
    assert!(files.reason.contains("not empty, and no clone"), "{}", files.reason);
    assert!(files.reason.contains(&format!("`mv {home} {home}.old`")), "{}", files.reason);
    assert_eq!(room.text("index.html"), "old site");

    git(&room.home(), &["init", "-q"]);
    git(&room.home(), &["commit", "-q", "--allow-empty", "-m", "something else"]);
    let other = room.bring(&commit, SAVE).expect_err("another repository");
    assert!(other.reason.contains("a clone of something else"), "{}", other.reason);

    // The commands that the failure names do mend it.
    let begin = files.reason.rfind("`cd ").expect("commands");
    let commands = files.reason[begin..].trim_matches('`').to_owned();
    let mended = std::process::Command::new("sh").args(["-ec", &commands]).output().expect("sh");
    assert!(mended.status.success(), "{commands}: {}", String::from_utf8_lossy(&mended.stderr));
    room.bring(&commit, SAVE).expect("mended");
    room.assert_is_at(&commit);
    assert_eq!(room.text("index.html"), "old site");
}

#[test]
fn a_repository_of_another_user_is_fetched_from_and_one_is_adopted() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    clone(&room);
    // Only root can give files away; for anyone else there is no such repository to make.
    let nobody = Some(65534);
    for folder in [room.source(), room.source().join(".git"), room.home(), room.home().join(".git")] {
        if let Err(err) = chown(&folder, nobody, nobody) {
            eprintln!("this promise needs root: {err}");
            return;
        }
    }
    room.bring(&commit, FAIL).expect("brought");
}

#[test]
fn a_git_folder_that_leads_elsewhere_is_refused() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    git(room.folder.path(), &["clone", "-q", "--separate-git-dir=elsewhere.git", "source", "home"]);
    let linked = room.bring(&commit, SAVE).expect_err("a gitfile");
    assert!(linked.reason.contains("`.git` is not a folder"), "{}", linked.reason);

    fs::remove_dir_all(room.home()).expect("again");
    clone(&room);
    git(&room.home(), &["config", "core.worktree", &room.folder.path().display().to_string()]);
    let elsewhere = room.bring(&commit, SAVE).expect_err("core.worktree");
    assert!(elsewhere.reason.contains("files elsewhere"), "{}", elsewhere.reason);
    assert!(!Path::new(&room.path("a")).exists());
}

#[test]
fn a_commit_that_only_the_working_tree_has_gets_a_ref_or_fails_the_run() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, SAVE).expect("first");
    room.edit("a", "mine");
    git(&room.home(), &["commit", "-qam", "a hotfix on the server"]);
    let hotfix = git(&room.home(), &["rev-parse", "HEAD"]);
    let second = room.commit(&[("a", "2")]);

    let failure = room.bring(&second, FAIL).expect_err("a local commit");
    assert!(failure.reason.contains(&format!("commit {} is not on the remote", &hotfix[..7])), "{}", failure.reason);
    room.bring(&second, SAVE).expect("saved");
    room.assert_is_at(&second);
    assert_eq!(git(&room.home(), &["rev-parse", &format!("refs/landfall/saved/{hotfix}")]), hotfix);
}

#[test]
fn a_merge_that_a_person_left_in_conflict_is_saved_and_ended() {
    let room = Room::new();
    let first = room.commit(&[("a", "1\n")]);
    room.bring(&first, SAVE).expect("first");
    git(&room.home(), &["checkout", "-q", "-b", "mine"]);
    room.edit("a", "mine\n");
    git(&room.home(), &["commit", "-qam", "mine"]);
    git(&room.home(), &["checkout", "-q", "main"]);
    room.edit("a", "theirs\n");
    git(&room.home(), &["commit", "-qam", "theirs"]);
    assert!(!git_command(&room.home()).args(["merge", "-q", "mine"]).status().expect("git").success());
    let second = room.commit(&[("b", "2\n")]);
    assert!(room.bring(&second, SAVE).expect("brought").patch_saved);
    room.assert_is_at(&second);
    assert!(fs::read_to_string(room.path("edits.patch")).expect("patch").contains("<<<<<<<"));
    assert!(!room.home().join(".git/MERGE_HEAD").exists());
}

/// Makes the working tree look as if an update to `commit` had been killed when these files were written.
fn break_off(room: &Room, commit: &CommitId, written: &[(&str, Option<&[u8]>)]) {
    let git = room.home().join(".git");
    fs::write(git.join("landfall/bringing"), format!("{commit}\n")).expect("mark");
    fs::write(git.join("index.lock"), "landfall").expect("lock");
    fs::write(git.join("landfall/writing"), "half/.landfall-new-0\0.landfall-new-1\0a\0").expect("a list");
    write_files(&room.home(), &[("half/.landfall-new-0", Some(b"x")), (".landfall-new-1", Some(b"y"))]);
    write_files(&room.home(), written);
}

#[test]
fn an_update_that_broke_off_is_completed_and_its_files_are_nobodys_edits() {
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1"), ("gone", "1")]);
    room.bring(&first, FAIL).expect("first");
    room.write(&[("gone", None)]);
    let second = room.commit(&[("a", "2"), ("b", "2"), ("new", "2")]);
    room.fetch_commit(&second).expect("fetched");
    break_off(&room, &second, &[("a", Some(b"2")), ("new", Some(b"2")), ("gone", None)]);
    room.bring(&second, FAIL).expect("completed");
    room.assert_is_at(&second);
    assert!(!room.home().join("half").exists() && !room.home().join(".git/landfall/writing").exists());
}

#[test]
fn an_update_that_broke_off_is_completed_by_a_later_commit_too() {
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1")]);
    room.bring(&first, FAIL).expect("first");
    let second = room.commit(&[("a", "2"), ("b", "2"), ("new", "2"), ("now-a-folder", "2")]);
    room.bring(&second, FAIL).expect("its objects are there");
    room.git(&["rm", "-q", "new", "now-a-folder"]);
    let third = room.commit(&[("a", "3"), ("now-a-folder/x", "3")]);
    // Back to the first, with the files of the second half written.
    room.bring(&first, FAIL).expect("back");
    let half: [(&str, Option<&[u8]>); 3] = [("a", Some(b"2")), ("new", Some(b"2")), ("now-a-folder", Some(b"2"))];
    break_off(&room, &second, &half);
    room.bring(&third, FAIL).expect("completed");
    room.assert_is_at(&third);
    assert!(!room.home().join("new").exists());

    break_off(&room, &second, &[("a", Some(b"a person's"))]);
    assert!(room.bring(&third, FAIL).expect_err("an edit all the same").reason.contains("`a`"));
}

#[test]
fn a_lock_of_another_git_is_respected_and_one_from_before_the_last_start_is_not() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, SAVE).expect("first");
    let lock = room.home().join(".git/index.lock");
    fs::write(&lock, "DIRC").expect("lock");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| room.bring(&first, SAVE));
        wait_for("the update to stand at the lock", || room.home().join(".git/landfall/claim").exists());
        assert_eq!(fs::read(&lock).expect("still there"), b"DIRC");
        fs::remove_file(&lock).expect("let go");
        waiting.join().expect("no panic").expect("went on");
    });

    let old = fs::File::create(&lock).expect("lock");
    old.set_modified(UNIX_EPOCH + Duration::from_secs(1)).expect("a time");
    room.bring(&first, SAVE).expect("older than the machine's start");
    room.assert_is_at(&first);
}

#[test]
fn a_branch_that_a_linked_working_tree_is_on_is_not_moved_under_it() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, FAIL).expect("first");
    git(&room.home(), &["branch", "dev"]);
    git(&room.home(), &["worktree", "add", "-q", "../linked", "dev"]);
    room.git(&["checkout", "-q", "-b", "dev"]);
    let second = room.commit(&[("a", "2")]);
    let place = || room.place(Some(crate::model::push::RefName::Branch("dev".into())), SAVE);
    let failure = room.stage(&second, place(), None).expect_err("it is checked out elsewhere");
    assert!(failure.reason.contains("linked working tree"), "{}", failure.reason);
    assert_eq!(room.text("a"), "1", "nothing was changed");
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
    assert_eq!(git(&room.path("linked"), &["status", "--porcelain"]), "");
    let command = failure.reason.split('`').find(|it| it.starts_with("cd ")).expect("a command");
    assert!(std::process::Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
    room.stage(&second, place(), None).expect("mended");
    room.assert_is_at(&second);
}

#[test]
fn a_tag_in_the_way_of_another_is_named_with_the_command_that_removes_it() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.git(&["tag", "t"]);
    room.bring(&first, FAIL).expect("first");
    room.git(&["tag", "-d", "t"]);
    let second = room.commit(&[("a", "2")]);
    room.git(&["tag", "t/x"]);
    let place = || room.place(Some(crate::model::push::RefName::Tag("t/x".into())), FAIL);
    let failure = room.stage(&second, place(), None).expect_err("in the way");
    let command = failure.reason.split('`').find(|it| it.starts_with("git --git-dir")).expect("a command");
    assert!(std::process::Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
    room.stage(&second, place(), None).expect("mended");
    room.assert_is_at(&second);
}

#[test]
fn a_commit_by_itself_leaves_a_new_working_tree_on_no_branch() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    let second = room.commit(&[("a", "2")]);
    room.stage(&first, room.place(None, FAIL), None).expect("first");
    room.assert_is_at(&first);
    assert_eq!(git(&room.home(), &["for-each-ref", "refs/heads"]), "");
    room.bring(&second, FAIL).expect("its branch");
    room.assert_is_at(&second);
    assert_eq!(git(&room.home(), &["symbolic-ref", "HEAD"]), "refs/heads/main");
}

#[test]
fn mirrors_that_no_fetch_used_for_long_are_removed_whatever_the_hook_does() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    let used_long_ago = |name: &str| {
        fs::create_dir(room.path(name)).expect("a folder");
        let lock = fs::File::create(room.path(&format!("{name}.lock"))).expect("its lock");
        lock.set_modified(UNIX_EPOCH + Duration::from_secs(1)).expect("a time");
    };
    for into_a_mirror in [false, true] {
        used_long_ago("old.git");
        match into_a_mirror {
            true => drop(room.fetch_commit(&first).expect("fetched")),
            false => drop(room.bring(&first, FAIL).expect("brought")),
        }
        assert!(!room.path("old.git").exists() && !room.path("old.git.lock").exists(), "{into_a_mirror}");
    }
    // The one that is used now is not one of them.
    let lock = fs::File::open(room.path("mirror.git.lock")).expect("its lock");
    let before = Duration::from_secs(61 * 24 * 60 * 60);
    lock.set_modified(std::time::SystemTime::now() - before).expect("a time");
    room.fetch_commit(&first).expect("fetched");
    room.bring(&first, FAIL).expect("brought");
    assert!(room.path("mirror.git").exists());
}
