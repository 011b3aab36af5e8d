//! What is asked for while a release comes up, and is carried out when that has ended otherwise than hoped.

use std::fs;

use serde_json::Value;

use super::journey::{publish, served};
use crate::world::{
    house::{House, signed},
    until,
};

/// A release comes up once the gate is open, unless it is bad.
const HOOK: &str = r#"on: {push: main}
deploy: {strategy: releases, path: "{live}", remote: "{remote}"}
activate: until [ -e {folder}/gate ]; do sleep 0.05; done; test ! -e bad"#;

const IN_PLACE: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: until [ -e {folder}/gate ]; do sleep 0.05; done; test ! -e bad"#;

fn house(hook: &str) -> House {
    let mut house = House::with_hook(hook);
    house.start();
    open_gate(&house);
    house
}

fn open_gate(house: &House) {
    fs::write(house.folder.path().join("gate"), "").expect("opened");
}

/// Pushes this, and waits until it stands at the closed gate.
fn comes_up(house: &House, files: &[(&str, &str)], step: &str) -> (String, i64) {
    fs::remove_file(house.folder.path().join("gate")).expect("closed");
    let commit = house.repo.commit(files);
    let run = house.queue(&commit);
    until("it comes up", || (house.run(run)["step"] == step).then_some(()));
    (commit, run)
}

/// The same push as another delivery.
fn delivered_again(house: &House, commit: &str) -> (u16, Value) {
    let body = house.push_of(commit, "refs/heads/main").replace("\"a commit\"", "\"a commit, again\"");
    house.post("/hooks/site", signed(body))
}

/// Asks for the way back; gives the run and what was said.
fn back(house: &House) -> (i64, String) {
    let output = house.landfall(&["rollback", "site"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (String::from_utf8_lossy(&output.stdout).trim().parse().expect("a run"), said)
}

#[test]
fn a_commit_that_is_accepted_again_while_it_comes_up_is_skipped_if_it_does_not() {
    let house = house(HOOK);
    publish(&house, "one");
    let (bad, run) = comes_up(&house, &[("bad", ""), ("index.html", "two")], "activate");
    let (status, answer) = delivered_again(&house, &bad);
    assert_eq!((status, answer["result"].as_str()), (202, Some("queued")), "nothing speaks against it yet");
    let second = answer["runs"][0]["id"].as_i64().expect("a run");
    open_gate(&house);
    assert_eq!(house.ended(run)["outcome"], "rolled_back");
    let view = house.ended(second);
    assert_eq!((&view["outcome"], &view["started_at"]), (&"skipped".into(), &Value::Null), "{view}");
    let reason = view["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("is on hold, since it did not come up in run {run}")), "{reason}");
    assert!(house.json(&["why", &second.to_string()]).to_string().contains("did not come up in run"));
    assert_eq!(served(&house), "one");
    assert!(!house.run_dir(second).path().exists(), "nothing of it was started");

    assert_eq!(delivered_again(&house, &bad).1["result"], "held");
    assert!(house.landfall(&["resume", "site", "--commit", &bad]).status.success());
    assert_eq!(delivered_again(&house, &bad).1["result"], "queued", "a person has allowed it");
    assert_eq!(house.ended(second + 1)["outcome"], "rolled_back");
    assert!(house.landfall(&["retry", &second.to_string()]).status.success());
    assert_eq!(house.ended(second + 2)["outcome"], "rolled_back", "what a person asks for is not held");
}

#[test]
fn the_way_back_is_counted_from_what_was_live_when_it_was_asked_for() {
    let house = house(HOOK);
    publish(&house, "one");
    publish(&house, "two");
    let (_, bad) = comes_up(&house, &[("bad", ""), ("index.html", "three")], "activate");
    let (run, _) = back(&house);
    open_gate(&house);
    assert_eq!(house.ended(bad)["outcome"], "rolled_back");
    let view = house.ended(run);
    let reason = view["reason"].as_str().unwrap_or_default();
    assert_eq!(view["outcome"], "skipped", "{view}");
    assert!(reason.ends_with("is live again already"), "{reason}");
    assert_eq!(served(&house), "two", "and not the one before it");

    fs::remove_file(house.repo.work.join("bad")).expect("removed");
    let (_, good) = comes_up(&house, &[("index.html", "four")], "activate");
    let (run, _) = back(&house);
    open_gate(&house);
    assert_eq!(
        (house.ended(good)["outcome"].clone(), house.ended(run)["outcome"].clone()),
        ("succeeded".into(), "succeeded".into())
    );
    assert_eq!(served(&house), "two");
}

#[test]
fn in_place_the_way_back_is_counted_from_what_stands_there() {
    let house = house(IN_PLACE);
    let page = || fs::read_to_string(house.live().join("page")).expect("deployed");
    let mut good = Vec::new();
    for text in ["one", "two"] {
        good.push(house.repo.commit(&[("page", text)]));
        assert_eq!(house.ended(house.queue(good.last().expect("one")))["outcome"], "succeeded");
    }
    let (bad, failed) = comes_up(&house, &[("bad", ""), ("page", "three")], "run");
    let (run, said) = back(&house);
    assert!(said.contains(&format!("deploys commit {} again", &good[1][..7])), "{said}");
    open_gate(&house);
    assert_eq!(house.ended(failed)["outcome"], "failed");
    assert_eq!((house.ended(run)["outcome"].clone(), page()), ("succeeded".into(), "two".into()));

    // The same once it has failed: its files are what is gone back from.
    let again = house.ended(delivered_again(&house, &bad).1["runs"][0]["id"].as_i64().expect("a run"));
    assert_eq!((&again["outcome"], page()), (&"failed".into(), "three".into()));
    let hook = house.json(&["status"])["hooks"][0].clone();
    assert_eq!(hook["live_sha"], good[1]);
    let note = hook["live_note"].as_str().expect("a note");
    assert!(note.contains(&format!("run {} of {} ended badly", again["id"], &bad[..7])), "{note}");
    let text = String::from_utf8_lossy(&house.landfall(&["status"]).stdout).into_owned();
    assert!(text.contains(note), "{text}");
    let (run, _) = back(&house);
    assert_eq!((house.ended(run)["outcome"].clone(), page()), ("succeeded".into(), "two".into()));
    assert_eq!(house.json(&["status"])["hooks"][0]["live_note"], Value::Null);
    assert_eq!(house.ended(back(&house).0)["outcome"], "succeeded");
    assert_eq!(page(), "one", "from what is good it is one further");
}
