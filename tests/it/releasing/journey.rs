//! Promises about releases from the push to the way back, by the commands of people.

use std::fs;

use landfall::journal::entries::{self, Entry};
use serde_json::Value;

use crate::world::house::House;

const HOOK: &str = r#"on: {push: main}
deploy: {strategy: releases, path: "{live}", remote: "{remote}"}
activate: test ! -e bad"#;

pub fn served(house: &House) -> String {
    fs::read_to_string(house.live().join("current/index.html")).unwrap_or_default()
}

/// Pushes a page that must be live afterwards; gives its commit.
pub fn publish(house: &House, page: &str) -> String {
    let commit = house.repo.commit(&[("index.html", page)]);
    let run = house.ended(house.queue(&commit));
    assert_eq!(run["outcome"], "succeeded", "{run}");
    assert_eq!(served(house), page);
    commit
}

pub fn releases(house: &House) -> Vec<Value> {
    house.json(&["releases", "site"]).as_array().expect("an array").clone()
}

/// Runs a command that queues a run; gives the run as it ended.
pub fn acted(house: &House, arguments: &[&str]) -> Value {
    let output = house.landfall(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "landfall {arguments:?}: {said}");
    house.ended(String::from_utf8_lossy(&output.stdout).trim().parse().expect("a run"))
}

/// Runs a command that is refused; gives its exit code and what it said.
pub fn refused(house: &House, arguments: &[&str]) -> (Option<i32>, String) {
    let output = house.landfall(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn live_sha(house: &House) -> String {
    house.json(&["status"])["hooks"][0]["live_sha"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_person_goes_back_to_what_was_live_before_and_it_is_on_record_who_and_why() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let (first, second) = (publish(&house, "one"), publish(&house, "two"));
    fs::rename(&house.repo.bare, house.folder.path().join("gone")).expect("the remote is gone");
    let run = acted(&house, &["rollback", "site", "--reason", "it was slow"]);
    assert_eq!(
        (&run["outcome"], &run["trigger"], &run["because"]),
        (&"succeeded".into(), &"rollback".into(), &"it was slow".into())
    );
    assert_eq!(
        (served(&house), live_sha(&house), run["sha"].as_str()),
        ("one".into(), first.clone(), Some(first.as_str()))
    );
    let entries = entries::read(&house.run_dir(run["id"].as_i64().expect("a run"))).expect("a journal");
    let has = |word: &str| entries.iter().any(|it| matches!(it, Entry::StepBegin { step, .. } if step.word() == word));
    assert!(has("switch") && !has("fetch") && !has("stage") && !has("run"));

    let list = releases(&house);
    let seen: Vec<_> = list.iter().map(|it| (it["sha"].as_str().expect("a commit"), it["is_live"] == true)).collect();
    assert_eq!(seen, [(second.as_str(), false), (first.as_str(), true)]);
    let note = list[0]["note"].as_str().expect("a note");
    assert!(note.ends_with(&format!("in run {}: it was slow", run["id"])), "{note}");
    assert_eq!(
        (&list[0]["verdict"], &list[0]["author"], &list[0]["is_candidate"]),
        (&"good".into(), &"Ana".into(), &true.into())
    );
    let why = house.json(&["why", &run["id"].to_string()]).to_string();
    assert!(why.contains("is to go back to release") && why.contains("it was slow"), "{why}");
}

#[test]
fn the_way_back_is_counted_named_or_given_by_commit_and_never_leads_to_what_was_not_good() {
    let mut house = House::with_hook(HOOK);
    house.start();
    assert_eq!(refused(&house, &["rollback", "site"]).0, Some(6), "there is nothing yet");
    let commits = [publish(&house, "one"), publish(&house, "two"), publish(&house, "three")];
    let bad = house.repo.commit(&[("bad", ""), ("index.html", "four")]);
    let run = house.ended(house.queue(&bad));
    assert_eq!((&run["outcome"], served(&house)), (&"rolled_back".into(), "three".into()));
    assert_eq!(live_sha(&house), commits[2]);
    for (to, page) in [("-2", "one"), (&commits[2], "three"), (&commits[1][..9], "two"), ("-1", "one")] {
        acted(&house, &["rollback", "site", "--to", to]);
        assert_eq!(served(&house), page, "--to {to}");
    }
    let name = releases(&house)[1]["release"].as_str().expect("a name").to_owned();
    acted(&house, &["rollback", "site", "--to", &name]);
    assert_eq!(served(&house), "three");
    for to in [bad.as_str(), &bad[..7], "-7", &name, "nonsense"] {
        let (code, said) = refused(&house, &["rollback", "site", "--to", to]);
        assert!(code == Some(6) && said.contains("there are: "), "--to {to}: {said}");
    }
    assert_eq!(refused(&house, &["rollback", "site", "--to", "-0"]).0, Some(2));
}

#[test]
fn a_list_of_releases_says_what_is_live_what_was_good_and_what_did_not_come_up() {
    let mut house = House::with_hook(HOOK);
    house.start();
    publish(&house, "one");
    let live = publish(&house, "two");
    house.ended(house.queue(&house.repo.commit(&[("bad", "")])));
    let output = house.landfall(&["releases", "site"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (headings, lines) = text.split_once('\n').expect("two lines");
    let headings: Vec<&str> = headings.split_whitespace().collect();
    assert_eq!(headings, ["DATE", "RELEASE", "STATE", "COMMIT", "BY", "SIZE", "WHAT"]);
    let lines: Vec<&str> = lines.lines().collect();
    let states = ["  bad  ", "  live  ", "  good  "];
    assert!(lines.len() == 3 && lines.iter().zip(states).all(|(line, state)| line.contains(state)), "{text}");
    let year = releases(&house)[1]["at"].as_str().expect("a time")[..4].to_owned();
    let cells: Vec<&str> = lines[1].split("  ").map(str::trim).filter(|it| !it.is_empty()).collect();
    assert!(cells[0].starts_with(&year) && cells[0].len() == "2026-01-01 00:00:00".len(), "{text}");
    assert_eq!(cells[2..], ["live", &live[..7], "Ana", "44 B", "a commit"], "{text}");
    assert!(lines[0].contains("step `test ! -e bad` of `activate` ended with exit code 1"), "{text}");
}

#[test]
fn a_folder_that_is_served_becomes_the_first_release() {
    let mut house = House::with_hook(HOOK);
    fs::create_dir_all(house.live().join("current")).expect("made");
    fs::write(house.live().join("current/index.html"), "by hand").expect("a file");
    house.start();
    let commit = house.repo.commit(&[("index.html", "one")]);
    let run = house.ended(house.queue(&commit));
    assert_eq!(run["outcome"], "failed");
    assert!(run["reason"].as_str().expect("a reason").ends_with("landfall adopt site"), "{run}");
    assert_eq!(acted(&house, &["adopt", "site"])["outcome"], "succeeded");
    assert_eq!(served(&house), "by hand");
    publish(&house, "two");
    acted(&house, &["rollback", "site"]);
    assert_eq!((served(&house), live_sha(&house)), ("by hand".into(), String::new()), "nobody knows of which commit");
}

#[test]
fn where_there_are_no_releases_the_way_back_deploys_the_earlier_commit_and_says_so() {
    let mut house = House::with_hook("on: {push: main}\ndeploy: {path: \"{live}\", remote: \"{remote}\"}");
    house.start();
    let mut commits = Vec::new();
    for page in ["one", "two"] {
        commits.push(house.repo.commit(&[("index.html", page)]));
        assert_eq!(house.ended(house.queue(&commits[commits.len() - 1]))["outcome"], "succeeded");
    }
    let output = house.landfall(&["rollback", "site", "--wait"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("again, as run 1 did: this hook has no releases"), "{said}");
    assert_eq!(fs::read_to_string(house.live().join("index.html")).expect("deployed"), "one");
    assert_eq!(live_sha(&house), commits[0]);
    let (code, said) = refused(&house, &["releases", "site"]);
    assert!(code == Some(1) && said.contains("its strategy is `in-place`"), "{said}");
}

#[test]
fn a_hook_without_code_has_no_way_back() {
    let mut house = House::with_hook("on: {push: main}\ndeploy: {strategy: none}\nrun: 'true'");
    house.start();
    let (code, said) = refused(&house, &["rollback", "site"]);
    assert!(code == Some(1) && said.contains("deploys no code"), "{said}");
}

#[test]
fn a_push_that_waits_is_not_replaced_by_a_way_back() {
    let gate = "on: {push: main}\ndeploy: {strategy: releases, path: \"{live}\", remote: \"{remote}\"}\nrun: |\n  test ! \
                -e slow || while test ! -e {folder}/go; do sleep 0.05; done";
    let mut house = House::with_hook(gate);
    house.start();
    publish(&house, "one");
    publish(&house, "two");
    let slow = house.queue(&house.repo.commit(&[("slow", "")]));
    house.run_once(slow, "running");
    let waiting = house.queue(&house.repo.commit(&[("index.html", "four")]));
    let output = house.landfall(&["rollback", "site"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("it waits: run {slow} is under way and ends first")), "{said}");
    let back: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a run");
    fs::write(house.folder.path().join("go"), "").expect("a file");
    assert_eq!(house.ended(waiting)["outcome"], "succeeded");
    assert_eq!((&house.ended(back)["outcome"], served(&house)), (&"succeeded".into(), "one".into()));
}

#[test]
fn a_way_back_that_has_to_wait_for_a_person_says_so_at_once() {
    let mut house = House::with_hook(HOOK);
    house.start();
    publish(&house, "one");
    publish(&house, "two");
    assert!(house.landfall(&["hold", "site", "--reason", "a fire"]).status.success());
    let output = house.landfall(&["rollback", "site"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("it waits: the hook is on hold since") && said.contains("a fire"), "{said}");
    assert!(house.landfall(&["resume", "site"]).status.success());
    house.ended(3);
    assert_eq!(served(&house), "one");
}
