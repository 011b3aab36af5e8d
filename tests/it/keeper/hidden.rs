//! Promises about what processes of one user keep from each other.
//!
//! Invariant: each test is one promise.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use landfall::journal::progress;

use crate::world::{house::House, until};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: "echo there; until [ -e $GATE ]; do sleep 0.05; done"
env: {GATE: "{folder}/gate"}
secrets: {PASSWORD: {env: PASSWORD}}"#;

const PASSWORD: &str = "a-password-for-one-hook";

/// Whether another process of the same user can read this of it.
fn is_shown(pid: u32, what: &str) -> bool {
    let output = powerless(&["cat", &format!("/proc/{pid}/{what}")]).output().expect("started");
    output.status.success() && !output.stdout.is_empty()
}

/// Takes from root what other users do not have.
const POWERLESS: &str = "--bounding-set=-all --inh-caps=-all";

fn powerless(argv: &[&str]) -> Command {
    if !nix::unistd::geteuid().is_root() {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]);
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args(POWERLESS.split(' ')).args(argv);
    command
}

#[test]
fn neither_daemon_nor_keeper_shows_its_environment_or_memory_to_processes_of_its_user() {
    let mut house = House::with_hook(HOOK);
    house.variables.push(("PASSWORD".into(), PASSWORD.into()));
    if nix::unistd::geteuid().is_root() {
        // Root without its capabilities is a user like any other, who could look at all that is theirs.
        let (wrapper, program) = (house.folder.path().join("powerless"), house.program.display());
        let text = format!("#!/bin/sh\nexec setpriv {POWERLESS} {program} \"$@\"\n");
        fs::write(&wrapper, text).expect("written");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a program");
        house.program = wrapper;
    }
    let commit = house.repo.commit(&[("page", "1")]);
    house.start();
    let run = house.queue(&commit);
    until("the script is under way", || (house.output(run) == ["there"]).then_some(()));
    let keeper = progress::read(&house.run_dir(run)).expect("a journal").begin.expect("it has begun").pid;
    let keeper = u32::try_from(keeper).expect("a number");
    let mut own = powerless(&["sleep", "1000"]).spawn().expect("a process that hides nothing");
    until("the test can tell", || is_shown(own.id(), "environ").then_some(()));
    own.kill().expect("ended");
    own.wait().expect("reaped");
    for pid in [house.pid(), keeper] {
        assert!(!is_shown(pid, "environ") && !is_shown(pid, "maps"), "process {pid}");
    }
    fs::write(house.folder.path().join("gate"), "").expect("opened");
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
}

#[test]
fn a_daemons_environment_shows_no_secret_even_to_root_and_the_daemon_still_has_it() {
    let mut house = House::with_hook(HOOK);
    house.variables.push(("PASSWORD".into(), PASSWORD.into()));
    let commit = house.repo.commit(&[("page", "1")]);
    fs::write(house.folder.path().join("gate"), "").expect("opened");
    house.start();
    if nix::unistd::geteuid().is_root() {
        let shown = fs::read(format!("/proc/{}/environ", house.pid())).expect("root reads it");
        assert!(shown.iter().all(|it| *it == 0), "{}", String::from_utf8_lossy(&shown));
    }
    let run = house.queue(&commit);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
}
