//! Promises of the way over ssh, kept against a real sshd.

use super::ssh_login;
use crate::git::Login;
use std::{ffi::OsStr, fs, path::PathBuf, process::Command};

use super::{
    Room,
    server::{Sshd, make_key},
};
use crate::{
    git::GitFailure,
    model::{job::Target, push::CommitId, run::FailureClass},
};

/// A room and an sshd, with a file of known hosts to fill.
pub(super) struct SshRoom {
    pub(super) room: Room,
    pub(super) sshd: Sshd,
    known_hosts: PathBuf,
}

impl SshRoom {
    pub(super) fn new() -> Self {
        let room = Room::new();
        let sshd = Sshd::start(room.folder.path());
        let known_hosts = room.path("known hosts");
        Self { room, sshd, known_hosts }
    }

    pub(super) fn knows(&self, line: &str) {
        fs::write(&self.known_hosts, line).expect("written");
    }

    pub(super) fn door(&self) -> Vec<Login> {
        ssh_login(self.sshd.key.clone(), self.known_hosts.clone())
    }

    pub(super) fn remote(&self) -> String {
        format!("ssh://127.0.0.1:{}{}", self.sshd.port, self.room.source().display())
    }

    fn fetch(&self, remote: &str, door: Vec<Login>) -> Result<CommitId, GitFailure> {
        self.room.fetch_from(remote, door, Target::DefaultBranch).map(|it| it.commit)
    }
}

#[test]
fn a_known_host_and_a_good_key_bring_the_commit_and_the_next_one() {
    let ssh = SshRoom::new();
    ssh.knows(&ssh.sshd.known_hosts_line);
    let first = ssh.room.commit(&[("a", "1")]);
    assert_eq!(ssh.fetch(&ssh.remote(), ssh.door()).expect("first"), first);
    let second = ssh.room.commit(&[("a", "2")]);
    assert_eq!(ssh.fetch(&ssh.remote(), ssh.door()).expect("second"), second);
    assert_eq!(ssh.fetch(&ssh.remote(), ssh.door()).expect("nothing new"), second);
}

#[test]
fn a_path_with_quotes_stays_one_path_for_the_far_shell() {
    let ssh = SshRoom::new();
    ssh.knows(&ssh.sshd.known_hosts_line);
    let commit = ssh.room.commit(&[("a", "1")]);
    let odd = ssh.room.path("it's; $(touch pwned)");
    fs::rename(ssh.room.source(), &odd).expect("renamed");
    let remote = format!("ssh://127.0.0.1:{}{}", ssh.sshd.port, odd.display());
    assert_eq!(ssh.fetch(&remote, ssh.door()).expect("fetched"), commit);
}

#[test]
fn an_unknown_host_is_refused_with_the_command_that_makes_it_known() {
    let ssh = SshRoom::new();
    ssh.knows("");
    ssh.room.commit(&[("a", "1")]);
    let failure = ssh.fetch(&ssh.remote(), ssh.door()).expect_err("unknown");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert_eq!(fs::read(&ssh.known_hosts).expect("file"), b"", "nothing is accepted on the way");
    let command = failure.reason.split('`').find(|it| it.starts_with("ssh-keyscan")).expect("a command");
    assert!(Command::new("sh").args(["-c", command]).status().expect("a shell").success(), "{command}");
    ssh.fetch(&ssh.remote(), ssh.door()).expect("the command mends it");
}

#[test]
fn a_changed_host_key_is_refused_as_one() {
    let ssh = SshRoom::new();
    ssh.room.commit(&[("a", "1")]);
    make_key(&ssh.room.path("other"));
    let other = fs::read_to_string(ssh.room.path("other.pub")).expect("a key");
    ssh.knows(&format!("[127.0.0.1]:{} {other}", ssh.sshd.port));
    let failure = ssh.fetch(&ssh.remote(), ssh.door()).expect_err("changed");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("is not the one we know"), "{}", failure.reason);
    assert!(failure.reason.contains(&format!("ssh-keygen -R '[127.0.0.1]:{}'", ssh.sshd.port)), "{}", failure.reason);
}

#[test]
fn a_wrong_key_and_a_missing_repository_are_refused_with_what_ssh_said() {
    let ssh = SshRoom::new();
    ssh.knows(&ssh.sshd.known_hosts_line);
    ssh.room.commit(&[("a", "1")]);
    make_key(&ssh.room.path("stranger"));
    let door = ssh_login(ssh.room.path("stranger"), ssh.known_hosts.clone());
    let failure = ssh.fetch(&ssh.remote(), door).expect_err("a stranger");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("Permission denied"), "{}", failure.reason);

    let missing = ssh.fetch(&format!("{}-not", ssh.remote()), ssh.door()).expect_err("missing");
    assert_eq!(missing.class, FailureClass::Permanent, "{}", missing.reason);
    assert!(missing.reason.contains("does not appear to be a git repository"), "{}", missing.reason);
}

#[test]
fn nobody_at_the_door_may_pass_and_no_ssh_program_says_what_to_install() {
    let ssh = SshRoom::new();
    ssh.knows(&ssh.sshd.known_hosts_line);
    let failure = ssh.fetch("ssh://127.0.0.1:1/x", ssh.door()).expect_err("nobody listens");
    assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);

    let order = ssh.room.order(&ssh.remote(), ssh.door(), Target::DefaultBranch);
    let (failure, _) = ssh.room.fetch_by_child(order, &[("PATH", OsStr::new("/nowhere"))]);
    let failure = failure.expect_err("no ssh");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.reason.contains("apt install openssh-client"), "{}", failure.reason);
}
