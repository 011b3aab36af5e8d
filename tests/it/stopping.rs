//! What a stop, and what somebody does to the daemon's socket, leave of it for others.

use std::fs;

use crate::world::{house::House, until};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh
env: {GATE: "{folder}/gate"}
queue: all"#;

const DEPLOY_SH: &str = "#!/bin/sh\nuntil [ -e $GATE ]; do sleep 0.05; done\n";

fn house() -> (House, String) {
    let house = House::with("server: {listen: \"127.0.0.1:0\", grace: 5m}", HOOK);
    let commit = house.repo.commit(&[("deploy.sh", DEPLOY_SH)]);
    (house, commit)
}

#[test]
fn a_push_that_comes_while_a_stop_waits_for_runs_is_stored_and_deployed_by_the_next_daemon() {
    let (mut house, first) = house();
    house.start();
    let listen = house.listen();
    let under_way = house.queue(&first);
    house.run_once(under_way, "running");
    house.ask_to_stop();
    until("the daemon stops", || house.log().contains("stopping:").then_some(()));
    let second = house.repo.commit(&[("page", "two")]);
    let (status, answer) = house.post_to(&listen, &second);
    assert_eq!(status, 202, "{answer}");
    let run = answer["runs"][0]["id"].as_i64().expect("a run");
    fs::write(house.folder.path().join("gate"), "").expect("opened");
    house.stopped().start();
    assert_eq!(house.ended(under_way)["outcome"], "succeeded");
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    house.stop();
}

#[test]
fn a_socket_that_was_removed_is_made_again_and_meanwhile_clients_say_that_a_daemon_runs() {
    let (mut house, _) = house();
    house.start();
    let socket = house.state().join("landfall.sock");
    fs::remove_file(&socket).expect("removed");
    fs::write(&socket, "a plain file").expect("written");
    let output = house.landfall(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("a daemon is running on") && said.contains("nobody answers at"), "{said}");
    until("it is told", || house.log().contains("something else is at").then_some(()));
    fs::remove_file(&socket).expect("removed");
    until("it is made again", || house.landfall(&["status"]).status.success().then_some(()));
    assert!(house.log().contains("has been made again"), "{}", house.log());
    house.stop();
    assert!(!socket.exists(), "a stopped daemon leaves no socket");
    let output = house.landfall(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(7) && said.contains("no daemon is running"), "{said}");
}

#[test]
fn clients_of_a_killed_daemon_say_that_none_is_running() {
    let (mut house, _) = house();
    house.start().kill();
    assert!(house.state().join("landfall.sock").exists());
    let output = house.landfall(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(7) && said.contains("no daemon is running: nobody answers at"), "{said}");
}
