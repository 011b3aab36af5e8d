//! What people can do to the queue, and what pushes do to one another, with the real program.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::world::{house::House, until};

/// A hook whose one script says its run and waits for a file of that run's number.
const GATED: &str = r#"on: {push: main}
deploy: {strategy: none}
queue: cancel
env: {GATES: "{folder}/gates"}
GATED_STEP: |
  echo "$DEPLOY_RUN_ID" >> $GATES.began
  until [ -e $GATES.$DEPLOY_RUN_ID ]; do sleep 0.05; done
"#;

fn gated(step: &str) -> House {
    let mut house = House::with_hook(&GATED.replace("GATED_STEP", step));
    house.start();
    house
}

fn until_began(house: &House, run: i64) {
    let began = || house.file("gates.began").lines().any(|it| it == run.to_string());
    until(&format!("run {run} has begun"), || began().then_some(()));
}

fn open(house: &House, run: i64) {
    let gate: PathBuf = house.folder.path().join(format!("gates.{run}"));
    fs::write(gate, "").expect("opened");
}

fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn outcome(house: &House, run: i64) -> Value {
    house.ended(run)["outcome"].clone()
}

#[test]
fn a_newer_push_stops_the_run_under_way_where_the_hook_says_so() {
    let house = gated("run");
    let older = house.queue(&commit('a'));
    until_began(&house, older);
    let newer = house.queue(&commit('b'));
    assert_eq!(outcome(&house, older), "superseded");
    assert_eq!(house.run(newer)["supersedes"], json!([older]));
    open(&house, newer);
    assert_eq!(outcome(&house, newer), "succeeded");
}

#[test]
fn a_run_that_makes_room_ends_its_last_steps_however_many_pushes_come_meanwhile() {
    let house = {
        let last = "finally: |\n  echo finally >> $GATES.last\n  until [ -e $GATES.last.go ]; do sleep 0.05; done\n  \
                    echo done >> $GATES.last\n";
        let mut house = House::with_hook(&format!("{}{last}", GATED.replace("GATED_STEP", "run")));
        house.start();
        house
    };
    let older = house.queue(&commit('a'));
    until_began(&house, older);
    house.queue(&commit('b'));
    until("the last step runs", || (house.file("gates.last") == "finally\n").then_some(()));
    let newest = house.queue(&commit('c'));
    let makes_room = || house.run(older)["reason"].as_str().is_some_and(|it| it.contains(&format!("run {newest}")));
    until("the newest push is waited for", || makes_room().then_some(()));
    fs::write(house.folder.path().join("gates.last.go"), "").expect("opened");
    assert_eq!(house.ended(older)["reason"], format!("superseded by run {newest}"));
    assert_eq!(house.file("gates.last"), "finally\ndone\n");
    assert!(!house.whole_log(older).contains("goes on"), "it does not go on: {}", house.whole_log(older));
}

#[test]
fn a_run_that_is_going_live_is_stopped_by_no_push_but_by_a_person() {
    let house = gated("activate");
    let first = house.queue(&commit('a'));
    until_began(&house, first);
    let second = house.queue(&commit('b'));
    until("the keeper has turned the push down or is to", || house.run_dir(first).read_yield().map(drop));
    open(&house, first);
    assert_eq!(outcome(&house, first), "succeeded");
    until_began(&house, second);
    house.queue(&commit('c'));
    until("the keeper is told", || house.run_dir(second).read_yield().map(drop));
    assert!(house.landfall(&["cancel", &second.to_string(), "--reason", "wrong"]).status.success());
    assert_eq!(outcome(&house, second), "cancelled");
}

#[test]
fn what_is_on_hold_waits_and_says_why_until_it_is_resumed() {
    let house = gated("run");
    assert_eq!(house.landfall(&["hold", "site"]).status.code(), Some(2), "a hold has a reason");
    assert!(house.landfall(&["hold", "site", "--reason", "a migration", "--for", "1h"]).status.success());
    let run = house.queue(&commit('a'));
    assert_eq!(house.run(run)["state"], "queued");
    assert!(house.run(run)["reason"].as_str().expect("a reason").contains("a migration"));
    assert!(house.json(&["why", "site"])["sentences"].to_string().contains("a migration"));
    let status = house.json(&["status"]);
    assert_eq!(status["hooks"][0]["hold"]["reason"], "a migration");
    let shown = String::from_utf8(house.landfall(&["status"]).stdout).expect("text");
    assert!(shown.contains("site is on hold"), "{shown}");
    assert!(house.landfall(&["resume", "site"]).status.success());
    assert_eq!(house.landfall(&["resume", "site"]).status.code(), Some(1), "it is not on hold any more");
    open(&house, run);
    assert_eq!(outcome(&house, run), "succeeded");
}
