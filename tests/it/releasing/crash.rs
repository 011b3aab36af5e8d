//! Promises about a keeper that dies at the edge of any step of a deploy with releases.

use std::fs;

use landfall::journal::progress;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{house::House, until};

const HOOK: &str = r#"on: {push: main}
deploy: {strategy: releases, path: "{live}", remote: "{remote}", keep: 2}
run: echo building
activate: cat index.html; test ! -e bad || test -n "$DEPLOY_ROLLBACK"
health: {command: "true"}
pass_env: [FAILPOINTS]"#;

/// Deploys a commit again and again, each time by a keeper that dies one entry of its journal later, until one lives.
/// After each death the daemon starts anew, and the tree and the record are looked at.
fn die_everywhere(point: &str, is_bad: bool, expected: &str) -> usize {
    let mut house = House::with_hook(HOOK);
    house.start();
    let mut commits = vec![commit_page(&house, "first", false)];
    let run = house.ended(house.queue(&commits[0]));
    assert_eq!(run["outcome"], "succeeded", "{run}");
    // Before its `begin` a run has not started, and is queued again; so at least that entry is written.
    for entries in 1.. {
        assert!(entries < 100, "it never lives");
        let action = format!("{entries}*off->return");
        house.variables.retain(|(name, _)| name != "FAILPOINTS");
        house.variables.push(("FAILPOINTS".into(), format!("{point}={action}")));
        house.stop().start();
        let commit = commit_page(&house, &entries.to_string(), is_bad);
        commits.push(commit.clone());
        let run = house.ended(house.queue(&commit));
        let live = is_whole(&house, &commits);
        let context = format!("{point} {entries}: {run}\n{}", house.whole_log(run["id"].as_i64().expect("a run")));
        if run["outcome"] == expected {
            assert_eq!(live == commit, !is_bad, "{context}");
            return entries - 1;
        }
        assert_eq!(run["outcome"], "interrupted", "{context}");
        if run["reason"].as_str().is_some_and(|it| it.contains("to which it had switched")) {
            let link = fs::read_link(house.live().join("current")).expect("a link");
            assert!(run["reason"].to_string().contains(&format!("{} is live", link.display())), "{context}");
        }
    }
    unreachable!("the loop returns")
}

/// Commits a page whose every file says the same.
fn commit_page(house: &House, text: &str, is_bad: bool) -> String {
    let files = [("index.html", text), ("style.css", text), ("bad", "")];
    house.repo.commit(if is_bad { &files } else { &files[..2] })
}

/// What is served is wholly one commit, and every record agrees on which. Gives it.
fn is_whole(house: &House, commits: &[String]) -> String {
    let read = |name: &str| fs::read_to_string(house.live().join("current").join(name)).expect("it is served");
    let commit = read("REVISION").trim().to_owned();
    let index = commits.iter().position(|it| *it == commit).expect("a commit of ours");
    let expected = if index == 0 { "first".to_owned() } else { index.to_string() };
    assert_eq!((read("index.html"), read("style.css")), (expected.clone(), expected));
    let live = house.json(&["status"])["hooks"][0]["live_sha"].clone();
    assert_eq!(live, commit.as_str(), "the store believes otherwise: {}", house.log());
    let releases = house.json(&["releases", "site"]);
    let releases = releases.as_array().expect("an array");
    let live: Vec<_> = releases.iter().filter(|it| it["is_live"] == true).collect();
    assert!(live.len() == 1 && live[0]["sha"] == commit.as_str() && live[0]["verdict"] != "ready", "{releases:?}");
    commit
}

/// Lets the work on `current` stand still at this point, and kills daemon and keeper together. What stands still is
/// left to the next daemon, as a process may survive its keeper.
fn die_together(point: &str, has_come_to_it: impl Fn(&House) -> bool, has_switched: bool) {
    let mut house = House::with_hook(HOOK);
    house.start();
    let mut commits = vec![commit_page(&house, "first", false)];
    assert_eq!(house.ended(house.queue(&commits[0]))["outcome"], "succeeded");
    house.variables.push(("FAILPOINTS".into(), format!("{point}=pause")));
    house.stop().start();
    commits.push(commit_page(&house, "1", false));
    let run = house.queue(&commits[1]);
    until(point, || has_come_to_it(&house).then_some(()));
    let begin = progress::read(&house.run_dir(run)).expect("a journal").begin.expect("it has begun");
    house.kill();
    kill(Pid::from_raw(begin.pid), Signal::SIGKILL).expect("the keeper is killed");
    house.variables.pop();
    house.start();
    let view = house.ended(run);
    let reason = view["reason"].as_str().unwrap_or_default();
    let says = if has_switched { "to which it had switched" } else { "what was live before still is" };
    assert!(view["outcome"] == "interrupted" && reason.contains(says), "{point}: {view}");
    assert!(reason.contains("ended what it left behind"), "{point}: {view}");
    assert_eq!(is_whole(&house, &commits), commits[usize::from(has_switched)], "{point}");
    commits.push(commit_page(&house, "2", false));
    assert_eq!(house.ended(house.queue(&commits[2]))["outcome"], "succeeded", "{point}");
    assert_eq!(is_whole(&house, &commits), commits[2], "{point}");
    assert!(!house.live().join(format!(".current-r{run}")).is_symlink(), "{point}: nothing of it is left");
}

#[test]
fn a_daemon_and_a_keeper_killed_together_in_mid_switch_leave_the_old_or_the_new_live() {
    let is_served = |house: &House, page: &str| {
        fs::read_to_string(house.live().join("current/index.html")).is_ok_and(|it| it == page)
    };
    die_together("switch-linked", |house| house.live().join(".current-r2").is_symlink(), false);
    die_together("switch-renamed", |house| is_served(house, "1"), true);
    let record = |house: &House| fs::read_to_string(house.live().join(".landfall/releases.jsonl")).expect("a file");
    die_together("switch-recorded", |house| record(house).contains("\"verdict\":\"live\""), true);
}

#[test]
fn a_keeper_that_dies_after_any_entry_leaves_the_old_or_the_new_live_and_the_record_agrees() {
    let deaths = die_everywhere("keeper-after-entry", false, "succeeded");
    assert!(deaths > 25, "it died only {deaths} times");
}

#[test]
fn a_keeper_that_dies_before_any_entry_leaves_the_old_or_the_new_live_and_the_record_agrees() {
    let deaths = die_everywhere("keeper-before-entry", false, "succeeded");
    assert!(deaths > 25, "it died only {deaths} times");
}

#[test]
fn a_keeper_that_dies_on_its_way_back_leaves_the_old_or_the_new_live_and_the_record_agrees() {
    let deaths = die_everywhere("keeper-after-entry", true, "rolled_back");
    assert!(deaths > 30, "it died only {deaths} times");
}
