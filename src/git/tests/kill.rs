//! Promises about a git process that is killed, and about two of them.

use std::{collections::BTreeSet, fs, thread};

use super::{
    Order, Room, git,
    in_place::FAIL,
    server::{GitServer, Judge, Verdict, everyone},
    wait_for,
};
use crate::{
    git::{Fetch, Into, mirror::repository::LocalRepo},
    model::job::Target,
};

#[test]
fn a_mirror_survives_a_kill_in_mid_fetch() {
    let room = Room::new();
    let noise: String =
        (0..200_000).map(|it: u32| char::from(b'!' + (it.wrapping_mul(2_654_435_761) >> 25) as u8)).collect();
    let commit = room.commit(&[("a", &noise)]);
    let target = || Target::Commit { commit: commit.clone(), ref_name: None };
    let judge: Judge = Box::new(|request| match request.method.as_str() {
        "POST" => Verdict::Stall,
        _ => Verdict::Serve,
    });
    let stalling = GitServer::plain(room.folder.path(), judge);
    let url = |server: &GitServer| format!("http://{}/source/.git", server.address);
    let mut child = room.start_child(&Order::Fetch(room.order(&url(&stalling), Vec::new(), target())), &[]);
    let packs = room.path("mirror.git/objects/pack");
    let half_packs = || fs::read_dir(&packs).into_iter().flatten().flatten().count();
    wait_for("half a pack", || half_packs() > 0);
    // What a kill at other instructions leaves.
    fs::write(room.path("mirror.git/packed-refs.lock"), "").expect("a lock");
    fs::write(room.path("mirror.git/refs/heads/main.lock"), "").expect("a lock");
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
    assert!(half_packs() > 0);

    let server = GitServer::plain(room.folder.path(), everyone());
    let fetched = room.fetch_from(&url(&server), Vec::new(), target()).expect("fetched");
    assert_eq!(fetched.commit, commit);
    assert_eq!(half_packs(), 2, "one pack and its index");
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
}

#[test]
fn a_second_fetch_of_the_same_remote_waits_and_says_so() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let remote = room.source().display().to_string();
    let held = LocalRepo::for_fetch(&room.path("mirror.git"), &remote).expect("the lock");
    thread::scope(|scope| {
        let order = room.order(&remote, Vec::new(), Target::DefaultBranch);
        let mut child = room.start_child(&Order::Fetch(order), &[]);
        let words = child.stderr.take().expect("piped");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(words));
        let waiting = lines.find_map(|it| it.ok().filter(|it| it.contains("waiting for another run")));
        assert!(waiting.expect("it says so").contains(&remote));
        drop(held);
        scope.spawn(move || lines.count());
        assert!(child.wait().expect("it ends").success());
    });
    room.fetch_commit(&commit).expect("fetched");
}

#[test]
fn an_update_that_is_killed_anywhere_is_completed_by_the_next_order() {
    let room = Room::new();
    let files: Vec<(String, String)> = (0..120).map(|it| (format!("d{}/f{it}", it % 7), format!("{it}"))).collect();
    let with = |suffix: &str| -> Vec<(String, String)> {
        files.iter().map(|(path, text)| (path.clone(), format!("{text}{suffix}"))).collect()
    };
    let commit = |files: &[(String, String)]| {
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        room.commit(&files)
    };
    let first = commit(&with("one"));
    room.bring(&first, FAIL).expect("first");
    let second = commit(&with("two"));
    room.bring(&second, FAIL).expect("its objects are there");
    room.bring(&first, FAIL).expect("and back");
    let home = room.home();
    // Each turn kills a little later in the same update; the last ones come to its end.
    for turn in 0..6 {
        let (from, to) = if turn % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let place = room.place(Some(super::main_branch()), FAIL);
        let order = super::Stage {
            remote: room.source().display().to_string(),
            commit: to.clone(),
            place,
            scope: room.scope.clone(),
            previous: None,
            changed_files: room.path("changed-files"),
        };
        let mut child = room.start_child(&Order::Stage(order), &[]);
        let staged = home.join(".git/landfall/writing");
        let is_changed = |number: usize| {
            let (path, _) = &files[number];
            let expected = if to == &second { "two" } else { "one" };
            fs::read_to_string(home.join(path)).is_ok_and(|it| it.ends_with(expected))
        };
        let is_over = || !home.join(".git/landfall/bringing").exists() && is_changed(119);
        wait_for("the update to get that far", || match turn {
            0..2 => staged.exists() || is_over(),
            2..4 => is_changed(turn * 20) || is_over(),
            _ => (is_changed(119) && is_changed(0)) || is_over(),
        });
        let _ = child.kill();
        child.wait().expect("it is dead");
        room.bring(to, FAIL).unwrap_or_else(|failure| panic!("turn {turn}, from {from}: {failure}"));
        room.assert_is_at(to);
    }
}

#[test]
fn a_killed_fetch_leaves_no_draft_of_a_pack_in_a_clone_and_those_of_others_stay() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, FAIL).expect("first");
    // The two know of each other by a commit, as the remote is another one to the clone.
    room.git(&["tag", "shared"]);
    let second = room.commit(&[("a", &"noise ".repeat(5000))]);
    // The request that ends the talk about what is there already is answered by the pack.
    let stalls: Judge = Box::new(|request| match request.body.ends_with(b"0009done\n") {
        true => Verdict::Stall,
        false => Verdict::Serve,
    });
    let stalling = GitServer::plain(room.folder.path(), stalls);
    let order = |server: &GitServer| {
        let target = Target::Commit { commit: second.clone(), ref_name: Some(super::main_branch()) };
        let remote = format!("http://{}/source/.git", server.address);
        Fetch { into: Into::WorkTree(room.home()), ..room.order(&remote, Vec::new(), target) }
    };
    let mut child = room.start_child(&Order::Fetch(order(&stalling)), &[]);
    let packs = room.home().join(".git/objects/pack");
    let names = || -> BTreeSet<String> {
        let entries = fs::read_dir(&packs).expect("packs").flatten();
        entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect()
    };
    wait_for("a draft of a pack", || names().iter().any(|it| it.starts_with("pack_git2_")));
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
    // What a kill at other instructions leaves, and what a person's own git is writing at this moment.
    for left in ["tmp_pack_AbCdEf", "tmp_idx_AbCdEf", ".tmp-77-pack-12.pack", "pack-12.idx", "pack-13.pack"] {
        fs::write(packs.join(left), "").expect("a draft");
    }
    let theirs = fs::File::create(packs.join("tmp_pack_theirs")).expect("a draft");

    let server = GitServer::plain(room.folder.path(), everyone());
    crate::git::bring::fetch(&order(&server)).expect("fetched");
    let left: Vec<String> = names().into_iter().filter(|it| !it.starts_with("pack-")).collect();
    assert_eq!(left, ["tmp_pack_theirs"]);
    assert!(!packs.join("pack-12.idx").exists() && !packs.join("pack-13.pack").exists());
    drop(theirs);
    git(&room.home(), &["fsck", "--strict"]);
}
