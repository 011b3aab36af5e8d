//! The main job, end to end, with the real binary: a signed push becomes a finished deploy.

use std::fs;

use serde_json::json;

use crate::world::{
    house::{House, signed},
    until,
};

/// A hook that deploys in place and runs the repository's own script.
const HOOK: &str = r#"on: {push: main, tag: "v*"}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh
env: {OUT: "{folder}/out"}"#;

fn house(script: &str) -> (House, String) {
    let mut house = House::with_hook(HOOK);
    let commit = house.repo.commit(&[("deploy.sh", &format!("#!/bin/sh\nset -eu\n{script}\n")), ("page", "one")]);
    house.start();
    (house, commit)
}

#[test]
fn a_signed_push_becomes_a_finished_deploy() {
    let (house, commit) = house("echo \"deploying $DEPLOY_SHA of $DEPLOY_BRANCH by $DEPLOY_ACTOR\"");
    let run = house.queue(&commit);
    let view = house.ended(run);
    assert_eq!(view["outcome"], "succeeded", "{}", house.whole_log(run));
    for (field, value) in [
        ("hook", json!("site")),
        ("lane", json!("site")),
        ("sha", json!(commit)),
        ("ref", json!("refs/heads/main")),
        ("trigger", json!("push")),
        ("actor", json!("ana")),
        ("exit_code", json!(0)),
    ] {
        assert_eq!(view[field], value, "{field}");
    }
    assert_eq!(house.output(run), [format!("deploying {commit} of main by ana")]);
    assert_eq!(fs::read_to_string(house.live().join("page")).expect("deployed"), "one");
    let deliveries = house.json(&["deliveries"]);
    assert_eq!(deliveries[0]["status"], 202);
    assert_eq!(deliveries[0]["runs"], json!([run]));
}

#[test]
fn exactly_the_pushed_commit_is_deployed_and_not_what_the_branch_is_by_now() {
    let (house, first) = house("true");
    house.repo.commit(&[("page", "two")]);
    let run = house.queue(&first);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
    assert_eq!(fs::read_to_string(house.live().join("page")).expect("deployed"), "one");
}

#[test]
fn a_commit_that_is_gone_from_the_remote_fails_at_fetch_and_says_so() {
    let (house, _) = house("true");
    let run = house.queue(&"ab".repeat(20));
    let view = house.ended(run);
    assert_eq!((&view["outcome"], &view["step"]), (&json!("failed"), &json!("fetch")));
    assert!(view["reason"].as_str().expect("a reason").contains("no longer on the remote"), "{view}");
    assert_eq!(house.json(&["runs"]).as_array().expect("an array").len(), 1, "it is not tried again");
}

#[test]
fn a_deleted_branch_deploys_nothing() {
    let (house, _) = house("true");
    let (status, answer) = house.deliver(&"0".repeat(40));
    assert_eq!((status, &answer["result"]), (200, &json!("ignored")), "{answer}");
    assert_eq!(house.json(&["runs"]), json!([]));
}

#[test]
fn a_tag_is_deployed_where_the_hook_asks_for_tags() {
    let (house, _) = house("echo \"$DEPLOY_TAG $DEPLOY_TRIGGER\"");
    house.repo.git(&["tag", "-a", "v1", "-m", "one"]);
    house.repo.git(&["push", "--quiet", "origin", "v1"]);
    let head = house.repo.head();
    let (status, answer) = house.post("/hooks/site", signed(house.push_of(&head, "refs/tags/v1")));
    assert_eq!(status, 202, "{answer}");
    let run = answer["runs"][0]["id"].as_i64().expect("a run");
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
    assert_eq!(house.output(run), ["v1 tag"]);
}

#[test]
fn a_failing_script_fails_the_run_with_its_step_and_exit_code() {
    let (house, commit) = house("echo before; exit 3");
    let run = house.queue(&commit);
    let view = house.ended(run);
    assert_eq!((&view["outcome"], &view["step"], &view["exit_code"]), (&json!("failed"), &json!("run"), &json!(3)));
    assert_eq!(house.output(run), ["before"]);
}

#[test]
fn a_script_that_says_try_again_later_is_tried_again_and_keeps_its_delivery() {
    let (house, commit) = house("if [ -e $OUT ]; then echo again; else touch $OUT; exit 75; fi");
    let mut house = house;
    house.write_hooks("", &format!("{HOOK}\nretry: {{backoff: 1s}}"));
    until("the change is taken", || house.log().contains("hooks.yaml").then_some(()));
    let run = house.queue(&commit);
    assert_eq!(house.ended(run)["outcome"], "failed");
    let retry = house.ended(run + 1);
    assert_eq!((&retry["outcome"], &retry["trigger"]), (&json!("succeeded"), &json!("retry")), "{retry}");
    assert_eq!((&retry["attempt"], &retry["retry_of"]), (&json!(2), &json!(run)));
    house.stop();
}

#[test]
fn a_script_that_says_nothing_to_do_skips_the_run() {
    let (house, commit) = house("exit 78");
    assert_eq!(house.ended(house.queue(&commit))["outcome"], "skipped");
}

#[test]
fn a_person_deploys_by_hand_and_the_command_tells_how_it_went() {
    let (house, commit) = house("echo \"$DEPLOY_TRIGGER\"");
    let output = house.landfall(&["deploy", "site", "--wait"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().find(|it| *it == "manual"), Some("manual"), "{said}");
    assert_eq!(house.run(1)["sha"], json!(commit));
    let output = house.landfall(&["deploy", "site", "--sha", &"ab".repeat(20), "--wait"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(house.landfall(&["deploy", "nope"]).status.code(), Some(6));
    assert_eq!(house.landfall(&["deploy", "site", "--sha", "abc"]).status.code(), Some(2));
}

#[test]
fn a_running_run_is_cancelled_with_everything_it_started() {
    let script = "trap '' TERM\necho $$ > $OUT\n(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000)";
    let (house, commit) = house(script);
    let run = house.queue(&commit);
    until("the script runs", || (!house.file("out").is_empty()).then_some(()));
    let token = house.run_dir(run).read_spec().expect("a spec").token;
    assert!(house.landfall(&["cancel", &run.to_string(), "--reason", "wrong branch"]).status.success());
    let view = house.ended(run);
    assert_eq!(view["outcome"], "cancelled", "{view}");
    assert!(view["reason"].as_str().expect("a reason").contains("wrong branch"), "{view}");
    assert!(processes_with(token.as_str()).is_empty(), "something of the run goes on");
    assert_eq!(house.landfall(&["cancel", &run.to_string()]).status.code(), Some(1), "it has ended already");
}

#[test]
fn a_test_delivery_takes_the_whole_way() {
    let (house, commit) = house("true");
    let sent = house.json(&["send", "site", "--sha", &commit]);
    assert_eq!(sent["status"], 202, "{sent}");
    let run = sent["answer"]["runs"][0]["id"].as_i64().expect("a run");
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    let again = house.json(&["send", "site"]);
    assert_eq!(again["status"], 202, "the newest known commit is sent by default: {again}");
}

#[test]
fn why_explains_a_hook_a_run_a_commit_and_a_delivery() {
    let (house, commit) = house("exit 9");
    let run = house.queue(&commit);
    house.ended(run);
    let delivery = house.json(&["deliveries"])[0]["delivery_id"].as_str().expect("an id").to_owned();
    for about in ["site", "1", &commit[..10], &delivery] {
        let why = house.json(&["why", about]);
        assert!(why["sentences"].to_string().contains("exit code 9"), "{about}: {why}");
    }
    assert_eq!(house.landfall(&["why", "nothing-like-this"]).status.code(), Some(6));
}

/// Processes that carry the word in their environment.
fn processes_with(word: &str) -> Vec<String> {
    let environ = |it: &fs::DirEntry| fs::read(it.path().join("environ")).unwrap_or_default();
    let has_it = |it: &fs::DirEntry| environ(it).windows(word.len()).any(|it| it == word.as_bytes());
    let entries = fs::read_dir("/proc").expect("procfs").flatten().filter(has_it);
    entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect()
}
