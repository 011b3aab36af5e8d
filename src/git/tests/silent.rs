//! Promises about remotes that hang: each is given up after a while, and another try is worth it.

use std::{fs, net::TcpListener, time::Duration};

use super::{
    Fetch, Room, git,
    server::{GitServer, Judge, Request, Verdict, everyone},
    ssh::SshRoom,
};
use crate::{
    git::{GitFailure, bring::fetch},
    model::{deploy::Lfs, job::Target, push::CommitId, run::FailureClass},
};

/// Long enough for a server that works, even on a machine that is busy.
const SILENCE: Duration = Duration::from_secs(2);

/// A way in which a server may stall, by its name.
type Stall = (&'static str, fn(&Request) -> Verdict);

fn impatient(order: Fetch) -> Fetch {
    Fetch { silence: SILENCE, ..order }
}

/// That the order is given up for the remote's silence.
fn assert_silent(what: &str, order: &Fetch) -> GitFailure {
    let failure = fetch(&impatient(order.clone())).expect_err(what);
    assert_eq!(failure.class, FailureClass::Fetch, "{what}: {}", failure.reason);
    failure
}

fn by_id(commit: &CommitId) -> Target {
    Target::Commit { commit: commit.clone(), ref_name: None }
}

#[test]
fn who_takes_the_connection_and_never_answers_is_given_up_by_name() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address");
    let ssh = SshRoom::new();
    for remote in [format!("http://{address}/x"), format!("https://{address}/x"), format!("ssh://git@{address}/x")] {
        let order = ssh.room.order(&remote, ssh.door(), Target::DefaultBranch);
        let failure = assert_silent(&remote, &order);
        assert!(failure.reason.contains(&address.to_string()), "{}", failure.reason);
    }
}

#[test]
fn an_answer_that_stalls_anywhere_is_given_up_and_the_mirror_works_afterwards() {
    let room = Room::new();
    let commit = room.commit(&[("a", &"1".repeat(5000))]);
    let stalls: [Stall; 3] = [
        ("behind the headers", |_| Verdict::Headers),
        ("in the list of refs", |_| Verdict::Stall),
        ("in the pack", |request| if request.method == "POST" { Verdict::Stall } else { Verdict::Serve }),
    ];
    for (what, stall) in stalls {
        let server = GitServer::plain(room.folder.path(), Box::new(stall));
        let remote = format!("http://{}/source/.git", server.address);
        let failure = assert_silent(what, &room.order(&remote, Vec::new(), by_id(&commit)));
        assert!(failure.reason.contains("`127.0.0.1` fell silent for 2 seconds"), "{what}: {}", failure.reason);
    }
    let server = GitServer::plain(room.folder.path(), everyone());
    let remote = format!("http://{}/source/.git", server.address);
    room.fetch_from(&remote, Vec::new(), by_id(&commit)).expect("fetched");
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
}

#[test]
fn an_ssh_server_that_stalls_is_given_up() {
    let ssh = SshRoom::new();
    ssh.knows(&ssh.sshd.known_hosts_line);
    let commit = ssh.room.commit(&[("a", "1")]);
    let program = ssh.sshd.programs.join("git-upload-pack");
    // They end with their input, so none outlives the test. The second one stalls in the middle of a line.
    for (what, script) in [("at once", "exec cat"), ("in the list of refs", "printf '0100abcdef'; exec cat")] {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        super::make_executable(&program);
        let failure = assert_silent(what, &ssh.room.order(&ssh.remote(), ssh.door(), by_id(&commit)));
        assert!(failure.reason.contains("fell silent for 2 seconds"), "{what}: {}", failure.reason);
    }
    fs::remove_file(&program).expect("removed");
    fetch(&ssh.room.order(&ssh.remote(), ssh.door(), by_id(&commit))).expect("fetched");
}

#[test]
fn a_server_of_git_lfs_that_stalls_is_given_up() {
    let mut room = Room::new();
    room.scope.lfs = Lfs::Pull;
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "ab".repeat(32));
    let commit = room.commit(&[(".gitattributes", "*.bin filter=lfs\n"), ("a.bin", &pointer)]);
    let judge: Judge = Box::new(|request| match request.target.ends_with("/batch") {
        true => Verdict::Headers,
        false => Verdict::Serve,
    });
    let server = GitServer::plain(room.folder.path(), judge);
    let remote = format!("http://{}/source/.git", server.address);
    assert_silent("in an answer", &room.order(&remote, Vec::new(), by_id(&commit)));
}
