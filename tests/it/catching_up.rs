//! Pushes that no delivery brought: what the remote has is found at the next start, and as often as a hook says.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use serde_json::{Value, json};

use crate::{
    keeper::root::is_root,
    world::{
        house::{House, signed},
        until,
    },
};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: "true""#;

/// The same for any branch below `release/` and every tag, with a second look each second.
const OPEN: &str = r#"on: {push: [main, "release/*"], tag: "v*"}
poll: 1s
deploy: {path: "{live}", remote: "{remote}"}
run: "true""#;

/// A house in which a first commit was pushed, delivered and deployed.
fn settled(lines: &str) -> (House, String) {
    let mut house = House::with_hook(lines);
    let first = house.repo.commit(&[("page", "one")]);
    house.start();
    let run = house.queue(&first);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
    (house, first)
}

/// All runs, the newest first.
fn runs(house: &House) -> Vec<Value> {
    house.json(&["runs"]).as_array().expect("a list").clone()
}

/// The run that catches up with this commit, once it has ended.
fn caught_up(house: &House, commit: &str) -> Value {
    let is_it = |it: &Value| it["sha"] == commit && it["trigger"] == "catch_up";
    let run = until("it is caught up", || runs(house).into_iter().find(is_it));
    house.ended(run["id"].as_i64().expect("a number"))
}

/// Waits until the remote was looked at: from then on what moves below `release/` is caught up with.
fn has_looked(house: &House) {
    until("a branch that moves is noticed", || {
        house.repo.git(&["commit", "--quiet", "--allow-empty", "-m", "moved"]);
        house.repo.git(&["push", "--quiet", "--force", "origin", "HEAD:refs/heads/release/moves"]);
        runs(house).iter().any(|it| it["ref"] == "refs/heads/release/moves").then_some(())
    });
}

fn live_page(house: &House) -> String {
    fs::read_to_string(house.live().join("page")).expect("a page")
}

#[test]
fn a_push_that_came_while_no_daemon_was_there_is_found_at_the_next_start_and_deployed_once() {
    let (mut house, first) = settled(HOOK);
    house.stop();
    let missed = house.repo.commit(&[("page", "two")]);
    house.start();
    let run = caught_up(&house, &missed);
    assert_eq!(
        (&run["outcome"], &run["ref"], &run["delivery"]),
        (&json!("succeeded"), &json!("refs/heads/main"), &Value::Null)
    );
    assert_eq!(live_page(&house), "two");
    let number = run["id"].as_i64().expect("a number");
    // It says why it is there, in the log and when asked.
    let why = house.landfall(&["why", &number.to_string()]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("no delivery brought") && why.contains(&first[..7]), "{why}");
    assert!(house.log().contains(&format!("run {number} of site catches up")), "{}", house.log());
    // The forge sends it after all: that is the same push.
    let (status, answer) = house.deliver(&missed);
    assert_eq!(
        (status, &answer["result"], &answer["runs"][0]["id"]),
        (200, &json!("duplicate"), &json!(number)),
        "{answer}"
    );
    assert!(answer["message"].as_str().is_some_and(|it| it.contains("before the delivery came")), "{answer}");
    // And the next start finds nothing new.
    house.stop().start();
    let next = house.repo.commit(&[("page", "three")]);
    let (status, _) = house.deliver(&next);
    assert_eq!(status, 202);
    assert_eq!(runs(&house).len(), 3);
}

#[test]
fn once_another_push_came_the_commit_that_was_caught_up_with_may_be_pushed_again() {
    let (mut house, _) = settled(HOOK);
    house.stop();
    let missed = house.repo.commit(&[("page", "two")]);
    house.start();
    caught_up(&house, &missed);
    let next = house.repo.commit(&[("page", "three")]);
    house.ended(house.queue(&next));
    house.repo.git(&["push", "--quiet", "--force", "origin", &format!("{missed}:main")]);
    let run = house.ended(house.queue(&missed));
    assert_eq!((&run["outcome"], live_page(&house)), (&json!("succeeded"), "two".to_owned()));
}

#[test]
fn what_was_caught_up_with_in_vain_is_queued_again_when_its_delivery_comes() {
    let mut house = House::with_hook(&HOOK.replace("\"true\"", "test ! -e {folder}/broken"));
    let first = house.repo.commit(&[("page", "one")]);
    house.start();
    house.ended(house.queue(&first));
    house.stop();
    fs::write(house.folder.path().join("broken"), "").expect("written");
    let missed = house.repo.commit(&[("page", "two")]);
    house.start();
    assert_eq!(caught_up(&house, &missed)["outcome"], "failed");
    fs::remove_file(house.folder.path().join("broken")).expect("removed");
    assert_eq!(house.ended(house.queue(&missed))["outcome"], "succeeded");
}

#[test]
fn a_branch_that_was_forced_back_while_no_daemon_was_there_goes_back() {
    let (mut house, first) = settled(HOOK);
    let second = house.repo.commit(&[("page", "two")]);
    house.ended(house.queue(&second));
    house.stop();
    house.repo.git(&["push", "--quiet", "--force", "origin", &format!("{first}:main")]);
    house.start();
    let run = caught_up(&house, &first);
    assert_eq!((&run["outcome"], live_page(&house)), (&json!("succeeded"), "one".to_owned()), "{run}");
}

#[test]
fn a_push_that_was_stale_is_not_what_the_remote_is_held_against() {
    let (mut house, first) = settled(OPEN);
    has_looked(&house);
    let second = house.repo.commit(&[("page", "two")]);
    house.ended(house.queue(&second));
    // In another body than the first time.
    let late = house.push_of(&first, "refs/heads/main").replace("\"a commit\"", "\"once more\"");
    let (_, answer) = house.post("/hooks/site", signed(late));
    let late = answer["runs"][0]["id"].as_i64().expect("a run");
    assert_eq!(house.ended(late)["outcome"], "stale");
    house.stop();
    house.repo.git(&["push", "--quiet", "origin", "HEAD:refs/heads/release/new"]);
    house.start();
    // In the look that finds the new branch, main was looked at, too.
    until("the new branch", || runs(&house).into_iter().find(|it| it["ref"] == "refs/heads/release/new"));
    let of_main = |it: &&Value| it["ref"] == "refs/heads/main" && it["trigger"] == "catch_up";
    assert_eq!(runs(&house).iter().find(of_main), None, "{}", house.log());
}

#[test]
fn with_poll_a_push_is_found_while_the_daemon_runs() {
    let (house, _) = settled(&HOOK.replace("deploy:", "poll: 1s\ndeploy:"));
    let missed = house.repo.commit(&[("page", "two")]);
    assert_eq!(caught_up(&house, &missed)["outcome"], "succeeded");
    assert_eq!(live_page(&house), "two");
    // Once it is deployed it is not found again, and the next one is.
    let next = house.repo.commit(&[("page", "three")]);
    caught_up(&house, &next);
    assert_eq!(runs(&house).len(), 3);
}

#[test]
fn of_patterns_only_what_is_new_or_has_moved_since_the_last_look_is_caught_up_with() {
    let (mut house, _) = settled(OPEN);
    let push = |house: &House, what: &str| drop(house.repo.git(&["push", "--quiet", "--force", "origin", what]));
    house.stop();
    push(&house, "HEAD:refs/heads/release/old");
    push(&house, "HEAD:refs/tags/v0");
    // The state of a look before these were there is unknown: it is the first look that only takes note.
    house.write_hooks("", &OPEN.replace("release/*", "release/**"));
    house.start();
    let second = house.repo.commit(&[("page", "two")]);
    caught_up(&house, &second);
    assert!(runs(&house).iter().all(|it| it["ref"] == "refs/heads/main"), "{:?}", runs(&house));
    // One that is new since then is caught up with, under the rules of a new branch or tag.
    push(&house, "HEAD:refs/heads/release/new");
    let is_new = |it: &Value| it["ref"] == "refs/heads/release/new";
    until("the new branch", || runs(&house).into_iter().find(is_new));
    push(&house, "HEAD~1:refs/tags/v1");
    let tag = until("the new tag", || runs(&house).into_iter().find(|it| it["ref"] == "refs/tags/v1"));
    let tag = house.ended(tag["id"].as_i64().expect("a number"));
    assert_eq!(tag["outcome"], "stale", "{tag}");
    assert!(tag["reason"].as_str().is_some_and(|it| it.contains("--ref refs/tags/v1")), "{tag}");
    // One that was seen and has moved is caught up with, too.
    let third = house.repo.commit(&[("page", "three")]);
    push(&house, "HEAD:refs/heads/release/old");
    until("the branch that moved", || {
        runs(&house).into_iter().find(|it| it["ref"] == "refs/heads/release/old" && it["sha"] == third.as_str())
    });
}

#[test]
fn a_remote_that_cannot_be_asked_is_told_once_and_asked_again() {
    let (mut house, _) = settled(&HOOK.replace("deploy:", "poll: 1s\ndeploy:"));
    house.stop();
    let missed = house.repo.commit(&[("page", "two")]);
    let elsewhere = house.folder.path().join("elsewhere.git");
    fs::rename(&house.repo.bare, &elsewhere).expect("moved away");
    house.start();
    let words = "cannot see whether `site` missed pushes";
    until("it is told", || house.log().contains(words).then_some(()));
    let status = house.json(&["status"]);
    assert!(status["hooks"][0]["remote_trouble"].is_string(), "{status}");
    let why = house.landfall(&["why", "site"]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("its remote cannot be asked"), "{why:?}");
    assert_eq!(house.log().matches(words).count(), 1, "{}", house.log());
    // The next start does not wait for the remote that is back.
    fs::rename(&elsewhere, &house.repo.bare).expect("moved back");
    house.stop().start();
    assert_eq!(caught_up(&house, &missed)["outcome"], "succeeded");
    until("no trouble is left", || house.json(&["status"])["hooks"][0]["remote_trouble"].is_null().then_some(()));
}

#[test]
fn a_hook_on_hold_waits_and_a_commit_on_hold_is_not_caught_up_with() {
    let (mut house, _) = settled(&format!(
        "{}\nhealth: {{command: \"test ! -e bad\", attempts: 1}}",
        HOOK.replace("path:", "strategy: releases, path:")
    ));
    let bad = house.repo.commit(&[("bad", "")]);
    assert_eq!(house.ended(house.queue(&bad))["outcome"], "rolled_back");
    // Somebody goes back, and then to the bad commit again, while nobody listens.
    let good = {
        house.repo.git(&["rm", "--quiet", "bad"]);
        house.repo.commit(&[("page", "good")])
    };
    house.ended(house.queue(&good));
    house.stop();
    house.repo.git(&["push", "--quiet", "--force", "origin", &format!("{bad}:main")]);
    house.start();
    house.landfall(&["hold", "site", "--reason", "a test"]);
    house.stop();
    let next = house.repo.commit(&[("page", "next")]);
    house.start();
    let is_next = |it: &Value| it["sha"] == next.as_str();
    let waiting = until("it waits", || runs(&house).into_iter().find(is_next));
    assert_eq!(waiting["state"], "queued");
    assert!(runs(&house).iter().all(|it| it["sha"] != bad.as_str() || it["trigger"] == "push"), "{:?}", runs(&house));
    house.landfall(&["resume", "site"]);
    assert_eq!(house.ended(waiting["id"].as_i64().expect("a number"))["outcome"], "succeeded");
}

#[test]
fn what_a_lost_store_had_accepted_is_found_by_the_folders_of_its_runs() {
    let (mut house, _) = settled(HOOK);
    house.stop();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(house.state().join(format!("landfall.db{end}")));
    }
    let missed = house.repo.commit(&[("page", "two")]);
    house.start();
    assert_eq!(caught_up(&house, &missed)["outcome"], "succeeded");
    assert_eq!(live_page(&house), "two");
}

#[test]
fn who_is_not_to_be_asked_is_not_asked() {
    for off in ["poll: off\n", "enabled: false\n"] {
        let (mut house, _) = settled(HOOK);
        house.stop();
        house.repo.commit(&[("page", "two")]);
        fs::rename(&house.repo.bare, house.folder.path().join("elsewhere.git")).expect("moved away");
        // The other hook asks the same remote, and finds that it is gone.
        let other = r#"  other:
    github: acme/other
    secret: {env: SECRET}
    on: {push: "*"}
    deploy: {remote: "{remote}"}
    run: "true""#;
        house.write_hooks("", &format!("{off}{HOOK}\n"));
        let other = other.replace("{remote}", house.repo.bare.to_str().expect("plain"));
        let text = fs::read_to_string(house.hooks_file()).expect("a file");
        fs::write(house.hooks_file(), format!("{text}{other}\n")).expect("written");
        house.start();
        until("the other has asked", || house.log().contains("whether `other` missed").then_some(()));
        assert!(!house.log().contains("`site` missed") && !house.log().contains("`other`, `site`"), "{}", house.log());
        assert_eq!(runs(&house).len(), 1);
    }
}

#[test]
fn as_root_the_remote_is_asked_as_the_hooks_user() {
    if !is_root("as_root_the_remote_is_asked_as_the_hooks_user") {
        return;
    }
    // The remote can be read by its owner alone; what is asked as another user fails.
    let lines = format!("{HOOK}\nuser: nobody").replace("path: \"{live}\", ", "");
    let mut house = House::with_hook(&lines);
    fs::set_permissions(house.folder.path(), PermissionsExt::from_mode(0o755)).expect("opened");
    let first = house.repo.commit(&[("page", "one")]);
    house.start();
    let run = house.queue(&first);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
    house.stop();
    let missed = house.repo.commit(&[("page", "two")]);
    fs::set_permissions(&house.repo.bare, PermissionsExt::from_mode(0o700)).expect("closed");
    house.start();
    until("it is refused", || house.log().contains("cannot see whether `site` missed").then_some(()));
    let nobody = nix::unistd::User::from_name("nobody").expect("users").expect("nobody");
    chown(&house.repo.bare, Some(nobody.uid.as_raw()), None).expect("given away");
    house.stop().start();
    caught_up(&house, &missed);
}
