//! An older commit never overwrites a newer one by accident, and what would change nothing is left out: with the real
//! binary and real pushes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    keeper::root::is_root,
    world::{house::House, until},
};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: '[ ! -e "$BREAK" ]'
env: {BREAK: "{folder}/break"}"#;

/// A house where these two commits were deployed, one after the other.
fn house_with(pages: [&str; 2]) -> (House, [String; 2]) {
    let mut house = House::with_hook(HOOK);
    house.start();
    let commits = pages.map(|page| {
        let commit = house.repo.commit(&[("page", page)]);
        assert_eq!(house.ended(house.queue(&commit))["outcome"], "succeeded");
        commit
    });
    (house, commits)
}

fn page(house: &House) -> String {
    fs::read_to_string(house.live().join("page")).expect("deployed")
}

/// How a run ended, and why.
fn end(house: &House, run: i64) -> (Value, String) {
    let view = house.ended(run);
    (view["outcome"].clone(), view["reason"].as_str().unwrap_or_default().to_owned())
}

/// A push of `commit` to main that the forge sends once more, with another body.
fn pushed_again(house: &House, commit: &str) -> i64 {
    let body = house.push_of(commit, "refs/heads/main").replace("\"a commit\"", "\"a commit, again\"");
    let (status, answer) = house.post("/hooks/site", crate::world::house::signed(body));
    assert_eq!(status, 202, "{answer}");
    answer["runs"][0]["id"].as_i64().expect("a run")
}

#[test]
fn a_push_that_comes_late_is_stale_and_changes_nothing() {
    let (house, [first, second]) = house_with(["one", "two"]);
    let run = pushed_again(&house, &first);
    let (outcome, reason) = end(&house, run);
    assert_eq!(outcome, "stale", "{reason}");
    assert!(reason.contains(&format!("older than {}, which is live", &second[..7])), "{reason}");
    assert!(reason.ends_with(&format!("`landfall deploy site --sha {first}` deploys it all the same")), "{reason}");
    assert_eq!(page(&house), "two");
    let why = house.json(&["why", &run.to_string()])["sentences"].to_string();
    assert!(why.contains("which is live"), "{why}");
}

#[test]
fn a_branch_that_is_moved_back_by_force_is_deployed() {
    let (house, [first, _]) = house_with(["one", "two"]);
    house.repo.git(&["push", "--quiet", "--force", "origin", &format!("{first}:main")]);
    let run = pushed_again(&house, &first);
    assert_eq!(end(&house, run).0, "succeeded", "{}", house.whole_log(run));
    assert_eq!(page(&house), "one");
    assert!(house.whole_log(run).contains("points at it now, so it is meant"));
}

#[test]
fn the_commit_that_is_live_is_skipped_but_not_after_a_run_that_failed_half_way() {
    let (house, [_, second]) = house_with(["one", "two"]);
    let (outcome, reason) = end(&house, pushed_again(&house, &second));
    assert_eq!((outcome, reason), (json!("skipped"), format!("{} is already live", &second[..7])));

    fs::write(house.folder.path().join("break"), "").expect("written");
    let third = house.repo.commit(&[("page", "three")]);
    assert_eq!(end(&house, house.queue(&third)).0, "failed");
    assert_eq!(page(&house), "three", "the tree is where the failed run left it");
    fs::remove_file(house.folder.path().join("break")).expect("removed");
    house.repo.git(&["push", "--quiet", "--force", "origin", &format!("{second}:main")]);
    let body = house.push_of(&second, "refs/heads/main").replace("\"a commit\"", "\"back to what was good\"");
    let (_, answer) = house.post("/hooks/site", crate::world::house::signed(body));
    let run = answer["runs"][0]["id"].as_i64().expect("a run");
    assert_eq!(end(&house, run).0, "succeeded", "{}", house.whole_log(run));
    assert_eq!(page(&house), "two");
}

#[test]
fn a_person_deploys_an_older_commit_by_its_id_and_it_is_recorded_as_that() {
    let (house, [first, _]) = house_with(["one", "two"]);
    let output = house.landfall(&["deploy", "site", "--sha", &first, "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(page(&house), "one");
    assert!(house.whole_log(3).contains("it is deployed all the same, as a person asked for it"));
    let why = house.json(&["why", "3"])["sentences"].to_string();
    assert!(why.contains("was asked for by hand, so its commit is not held against what is live"), "{why}");
}

#[test]
fn a_push_that_changes_only_what_the_hook_does_not_care_for_is_skipped_and_the_next_one_makes_up_for_it() {
    let mut house = House::with_hook(&format!("{HOOK}\npaths: ['**', '!docs/**']"));
    house.start();
    let deploy = |files: &[(&str, &str)]| end(&house, house.queue(&house.repo.commit(files)));
    assert_eq!(deploy(&[("docs/x", "1")]).0, "succeeded", "nothing was live");
    let (outcome, reason) = deploy(&[("docs/x", "2")]);
    assert_eq!(outcome, "skipped");
    let rule = "`paths`: the one file that differs from what is live is not in [`**`, `!docs/**`]";
    assert_eq!(reason, rule);
    let why = |run: &str| house.json(&["why", run])["sentences"].to_string();
    assert!(why("2").contains(rule), "{}", why("2"));
    assert_eq!(deploy(&[("page", "three")]).0, "succeeded");
    assert_eq!(fs::read_to_string(house.live().join("docs/x")).expect("deployed"), "2");
    house.repo.git(&["commit", "--quiet", "--allow-empty", "-m", "words [skip deploy]"]);
    house.repo.git(&["push", "--quiet", "origin", "HEAD:main"]);
    let (outcome, reason) = end(&house, house.queue(&house.repo.head()));
    let rule = "`skip_markers`: the message of the new commit has `[skip deploy]`";
    assert_eq!((outcome, reason.as_str()), (json!("skipped"), rule));
    assert!(why("4").contains(rule) && why("site").contains(rule), "{} {}", why("4"), why("site"));
    let output = house.landfall(&["deploy", "site", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_run_that_a_person_repeats_runs_again_and_an_old_one_is_still_old() {
    let (house, _) = house_with(["one", "two"]);
    assert!(house.landfall(&["retry", "2"]).status.success());
    assert_eq!(end(&house, 3).0, "succeeded", "{}", house.whole_log(3));
    assert!(house.whole_log(3).contains("is already live: once more, as a person asked for it"));
    assert!(house.landfall(&["retry", "1"]).status.success());
    assert_eq!(end(&house, 4).0, "stale", "{}", house.whole_log(4));
    until("nothing else is queued", || (house.json(&["runs"]).as_array().map(Vec::len) == Some(4)).then_some(()));
}

/// The state folder is lost, and the daemon starts with a new one.
fn lose_the_state(house: &mut House) {
    house.stop();
    fs::remove_dir_all(house.state()).expect("removed");
    house.start();
}

fn site(house: &House) -> Value {
    house.json(&["status"])["hooks"][0].clone()
}

#[test]
fn where_the_store_is_new_what_stands_in_the_folder_is_live_and_no_late_push_leads_it_back() {
    let (mut house, [first, second]) = house_with(["one", "two"]);
    lose_the_state(&mut house);
    assert_eq!(site(&house)["live_sha"], second);
    let note = site(&house)["live_note"].as_str().expect("a note").to_owned();
    let words = "and no run on record has deployed it";
    assert!(note.starts_with(&second[..7]) && note.ends_with(words), "{note}");
    assert!(house.json(&["why", "site"])["sentences"].to_string().contains(words));
    let (outcome, reason) = end(&house, house.queue(&first));
    assert_eq!(outcome, "stale", "{reason}");
    assert!(reason.contains(&format!("older than {}, which is live", &second[..7])), "{reason}");
    assert_eq!(page(&house), "two");
    let run = house.queue(&second);
    assert_eq!(end(&house, run).0, "succeeded", "nobody knows whether the scripts have run for it");
    assert_eq!((site(&house)["live_sha"].clone(), site(&house)["live_note"].clone()), (json!(second), Value::Null));
}

#[test]
fn where_the_store_is_new_what_current_leads_to_is_live() {
    let mut house =
        House::with_hook("on: {push: main}\ndeploy: {strategy: releases, path: \"{live}\", remote: \"{remote}\"}");
    house.start();
    let commits = ["one", "two"].map(|page| {
        let commit = house.repo.commit(&[("page", page)]);
        assert_eq!(house.ended(house.queue(&commit))["outcome"], "succeeded");
        commit
    });
    lose_the_state(&mut house);
    assert_eq!(site(&house)["live_sha"], commits[1]);
    assert_eq!(end(&house, house.queue(&commits[0])).0, "stale");
    // What was never found good counts, too: it is what stands there.
    lose_the_state(&mut house);
    let record = house.live().join(".landfall/releases.jsonl");
    let text = fs::read_to_string(&record).expect("a record");
    fs::write(&record, text.replace("\"good\"", "\"live\"")).expect("written");
    assert_eq!(end(&house, house.queue(&commits[0])).0, "stale");
    let run = house.queue(&commits[1]);
    assert_eq!(end(&house, run).0, "succeeded", "{}", house.whole_log(run));
}

#[test]
fn as_root_what_stands_in_the_folder_of_another_user_is_looked_at_as_that_user() {
    if !is_root("as_root_what_stands_in_the_folder_of_another_user_is_looked_at_as_that_user") {
        return;
    }
    let (mut house, [_, second]) = house_with(["one", "two"]);
    house.stop();
    fs::remove_dir_all(house.state()).expect("removed");
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).arg(house.live()).status();
        assert!(status.expect("started").success(), "{program}");
    };
    fs::set_permissions(house.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    run("chown", &["-R", "nobody"]);
    house.start();
    assert_eq!(site(&house)["live_sha"], second);
    // What that user may not read, nobody reads for them.
    let head = house.live().join(".git/HEAD");
    chown(&head, Some(0), Some(0)).expect("given to root");
    fs::set_permissions(&head, Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(site(&house)["live_sha"], Value::Null);
}
