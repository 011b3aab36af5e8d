//! What a person can rely on who asks at the command line: the answer is whole, true and in time.

use std::{
    fs::{self, File, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{
    keeper::root::is_root,
    world::{
        house::{House, signed},
        until,
    },
};

const HOOK: &str = r#"on: {push: main}
deploy: {strategy: none}
run: sh {folder}/deploy.sh"#;

/// A house whose hook runs this script.
fn house_that_runs(script: &str, more: &str) -> House {
    let mut house = House::with_hook(&format!("{HOOK}\n{more}"));
    fs::write(house.folder.path().join("deploy.sh"), script).expect("a script");
    house.start();
    house
}

/// A script that goes on printing until somebody opens the gate.
const TALKER: &str = "until [ -e gate ]; do echo still at it; sleep 0.05; done";

fn open_gate(house: &House) {
    fs::write(house.folder.path().join("gate"), "").expect("opened");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn why(house: &House, about: &str) -> String {
    house.json(&["why", about])["sentences"].to_string()
}

/// A push of a commit that is nowhere, by its only digit.
fn push(house: &House, digit: char) -> i64 {
    house.queue(&digit.to_string().repeat(40))
}

#[test]
fn a_wait_ends_with_its_time_whatever_the_run_prints() {
    let house = house_that_runs(TALKER, "");
    let output = house.landfall(&["deploy", "site", "--wait", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(124), "{}", said(&output));
    assert!(said(&output).contains("run 1 is still running"), "{}", said(&output));
    open_gate(&house);
    house.ended(1);
}

#[test]
fn a_wait_goes_on_with_the_run_that_tries_again() {
    let house = house_that_runs("[ -e once ] || { touch once; exit 75; }", "retry: {max: 1, backoff: 1ms}");
    let output = house.landfall(&["deploy", "site", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("run 2 tries it again") && said(&output).contains("run 2 succeeded"));
    assert_eq!((&house.run(1)["repeated_by"], &house.run(2)["retry_of"]), (&2.into(), &1.into()));
    assert!(why(&house, "1").contains("; run 2 repeats it"), "{}", why(&house, "1"));
}

#[test]
fn whoever_asks_for_a_run_that_has_to_wait_is_told_for_what() {
    let house = house_that_runs(TALKER, "queue: all");
    let first = push(&house, 'a');
    house.run_once(first, "running");
    let ahead = format!("run {first} of hook site is under way in lane site");
    let second = push(&house, 'b');
    assert!(why(&house, &second.to_string()).contains(&ahead), "{}", why(&house, &second.to_string()));
    assert!(why(&house, "site").contains(&ahead), "{}", why(&house, "site"));
    assert_eq!(house.run(second)["reason"], format!("waits: {ahead}"));
    assert!(house.landfall(&["hold", "--all", "--reason", "a migration"]).status.success());
    let output = house.landfall(&["deploy", "site"]);
    assert!(said(&output).contains("it waits: all hooks are on hold since"), "{}", said(&output));
    let output = house.landfall(&["resume", "site"]);
    assert!(said(&output).contains("`landfall resume --all` ends that"), "{}", said(&output));
    let status = String::from_utf8_lossy(&house.landfall(&["status"]).stdout).into_owned();
    assert!(status.contains("everything is on hold") && status.contains("a migration"), "{status}");
    open_gate(&house);
    house.ended(first);
}

#[test]
fn why_knows_every_pushed_commit_whatever_became_of_it() {
    let house = house_that_runs(TALKER, "");
    let running = push(&house, '1');
    house.run_once(running, "running");
    let (superseded, waiting) = (push(&house, '2'), push(&house, '3'));
    let ignored = "4".repeat(40);
    let (status, answer) = house.post("/hooks/site", signed(house.push_of(&ignored, "refs/heads/dev")));
    assert_eq!((status, &answer["result"]), (200, &"ignored".into()), "{answer}");
    for (digit, reason) in [
        ("1", "has been running since"),
        ("2", &*format!(": superseded by run {waiting}")),
        ("3", "waits in lane site for its turn"),
        ("4", "branch `dev` is not in [`main`]"),
    ] {
        // Digits alone may be the number of a run, and here are not.
        let told = why(&house, &digit.repeat(7));
        assert!(told.contains(reason), "{digit}: {told}");
    }
    let delivery = house.json(&["deliveries"])[0]["id"].to_string();
    assert!(why(&house, &format!("delivery:{delivery}")).contains("branch `dev` is not in [`main`]"));
    assert_eq!(house.run(waiting)["supersedes"], Value::from(vec![superseded]));
    let output = house.landfall(&["log", &superseded.to_string()]);
    assert!(output.status.success() && said(&output).contains("it never began"), "{}", said(&output));
    open_gate(&house);
    house.ended(waiting);
}

#[test]
fn a_delivery_is_explained_also_when_its_run_is_no_longer_kept() {
    let mut house = House::with("server: {listen: \"127.0.0.1:0\", keep_runs: 1}", HOOK);
    fs::write(house.folder.path().join("deploy.sh"), "true").expect("a script");
    house.start();
    for digit in ['a', 'b', 'c'] {
        house.ended(push(&house, digit));
    }
    house.stop().start();
    let told = until("the first run is forgotten", || {
        Some(why(&house, "delivery:1")).filter(|it| it.contains("run 1 of hook site is no longer kept"))
    });
    assert!(told.contains("answered `queued`"), "{told}");
}

#[test]
fn a_run_names_all_whose_place_it_took() {
    let house = house_that_runs(TALKER, "");
    let running = push(&house, 'a');
    house.run_once(running, "running");
    let runs = ['b', 'c', 'd'].map(|it| push(&house, it));
    assert_eq!(house.run(runs[2])["supersedes"], Value::from(vec![runs[0], runs[1]]));
    open_gate(&house);
    house.ended(runs[2]);
}

#[test]
fn an_output_that_cannot_be_written_does_not_look_whole() {
    let house = house_that_runs("echo hello", "");
    let run = push(&house, 'a');
    house.ended(run);
    let run = run.to_string();
    for arguments in [&["status"][..], &["runs", "--json"], &["log", &run], &["show", &run], &["why", "site"]] {
        let full = File::options().write(true).open("/dev/full").expect("a full device");
        let output = house.command(arguments).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("cannot print: No space left on device"), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn a_hook_that_is_nowhere_has_no_empty_list_of_runs() {
    let house = house_that_runs("true", "");
    let output = house.landfall(&["runs", "--hook", "sight"]);
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(house.landfall(&["runs", "--hook", "site"]).status.success());
}

#[test]
fn as_root_members_of_the_sockets_group_may_ask_and_others_are_told_that_they_may_not() {
    if !is_root("as_root_members_of_the_sockets_group_may_ask_and_others_are_told_that_they_may_not") {
        return;
    }
    let (nobody, nogroup, daemon) = (65534, 65534, 1);
    let mut house = House::with("server: {listen: \"127.0.0.1:0\", socket_group: nogroup}", HOOK);
    fs::set_permissions(house.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    house.start();
    let ask = |group| house.command(&["status"]).uid(nobody).gid(group).output().expect("it runs");
    let member = ask(nogroup);
    assert!(member.status.success(), "{}", said(&member));
    let stranger = ask(daemon);
    assert_eq!(stranger.status.code(), Some(4), "{}", said(&stranger));
    assert!(said(&stranger).contains("`server.socket_group`"), "{}", said(&stranger));
}

#[test]
fn a_retry_takes_the_hook_as_it_is_now_and_says_so_and_as_it_was_takes_the_other() {
    let mut house = House::with_hook("on: {push: main}\ndeploy: {strategy: none}\nrun: exit 3");
    house.start();
    let run = push(&house, 'a').to_string();
    assert_eq!(house.ended(1)["outcome"], "failed");
    house.write_hooks("", "on: {push: main}\ndeploy: {strategy: none}\nrun: exit 0");
    until("the hook of now is good", || {
        let output = house.landfall(&["retry", &run, "--wait"]);
        assert!(said(&output).contains("repeats run 1 with hook `site` as hooks.yaml has it now"), "{}", said(&output));
        output.status.success().then_some(())
    });
    let newest = house.json(&["runs"])[0].clone();
    let words = "repeats run 1 with the hook as hooks.yaml had it when that was asked for";
    assert_eq!((&newest["outcome"], &newest["reason"]), (&"succeeded".into(), &words.into()));
    assert!(why(&house, &newest["id"].to_string()).contains(words));

    let output = house.landfall(&["retry", &run, "--as-it-was", "--wait"]);
    assert!(said(&output).contains("with hook `site` as it was in run 1"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert_eq!(house.json(&["runs"])[0]["exit_code"], 3);

    let text = fs::read_to_string(house.hooks_file()).expect("hooks.yaml");
    fs::write(house.hooks_file(), text.replace("  site:", "  other:")).expect("written");
    until("the hook is gone", || (house.json(&["status"])["hooks"][0]["hook"] == "other").then_some(()));
    let output = house.landfall(&["retry", &run]);
    let advice = "`landfall retry 1 --as-it-was` repeats run 1";
    assert!(output.status.code() == Some(1) && said(&output).contains(advice), "{}", said(&output));
    assert_eq!(house.landfall(&["retry", &run, "--as-it-was", "--wait"]).status.code(), Some(5));
}
