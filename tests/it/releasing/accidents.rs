//! Promises about what becomes of releases when people or accidents have changed something by hand.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::Value;

use crate::{
    keeper::root::is_root,
    releasing::journey::{acted, publish, refused, releases, served},
    world::{
        disk::SmallDisk,
        house::{House, signed},
    },
};

const HOOK: &str = r#"on: {push: main}
deploy: {strategy: releases, path: "{live}", remote: "{remote}"}
activate: test ! -e bad || test -e {folder}/mended"#;

/// A house whose pages one and two were live, one after the other; gives their commits.
fn house_with_two() -> (House, [String; 2]) {
    let mut house = House::with_hook(HOOK);
    house.start();
    let commits = ["one", "two"].map(|page| publish(&house, page));
    (house, commits)
}

/// What the forge is answered that sends a push once more, with another body.
fn pushed_again(house: &House, commit: &str) -> (u16, Value) {
    let body = house.push_of(commit, "refs/heads/main").replace("\"a commit\"", "\"a commit, again\"");
    house.post("/hooks/site", signed(body))
}

/// The same, of one that is queued; gives the run as it ended.
fn run_again(house: &House, commit: &str) -> Value {
    let (status, answer) = pushed_again(house, commit);
    assert_eq!(status, 202, "{answer}");
    house.ended(answer["runs"][0]["id"].as_i64().expect("a run"))
}

/// Puts a link of this text in the place of whatever stands at `current`.
fn relink(house: &House, text: &Path) {
    let _ = fs::remove_file(house.live().join("current"));
    symlink(text, house.live().join("current")).expect("a link");
}

fn said_of_releases(house: &House) -> String {
    String::from_utf8_lossy(&house.landfall(&["releases", "site"]).stderr).into_owned()
}

#[test]
fn without_its_state_folder_a_new_daemon_knows_the_releases_and_the_way_back_from_their_own_record() {
    let (mut house, [first, second]) = house_with_two();
    let known = releases(&house);
    house.stop();
    fs::remove_dir_all(house.state()).expect("lost");
    house.start();
    assert_eq!(releases(&house), known);
    let old = run_again(&house, &first);
    let reason = old["reason"].as_str().unwrap_or_default();
    assert!(old["outcome"] == "stale" && reason.contains("which is live"), "{old}");
    assert_eq!(run_again(&house, &second)["outcome"], "skipped");
    fs::rename(&house.repo.bare, house.folder.path().join("gone")).expect("the remote is gone");
    let run = acted(&house, &["rollback", "site"]);
    assert_eq!((&run["outcome"], served(&house)), (&"succeeded".into(), "one".into()));
}

#[test]
fn after_a_switch_by_hand_a_push_of_what_was_live_brings_it_back() {
    let (house, [_, second]) = house_with_two();
    let first = releases(&house)[1]["release"].as_str().expect("a name").to_owned();
    relink(&house, &Path::new("releases").join(&first));
    assert_eq!(served(&house), "one");
    assert_eq!(releases(&house)[1]["is_live"], true);
    let run = run_again(&house, &second);
    assert_eq!((&run["outcome"], served(&house)), (&"succeeded".into(), "two".into()), "{run}");
}

#[test]
fn what_went_live_and_did_not_come_up_is_deployed_again_when_it_is_pushed_again() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let commit = house.repo.commit(&[("bad", ""), ("index.html", "one")]);
    assert_eq!(house.ended(house.queue(&commit))["outcome"], "failed", "there is nothing to go back to");
    fs::write(house.folder.path().join("mended"), "").expect("a file");
    assert_eq!(run_again(&house, &commit)["outcome"], "succeeded");
}

#[test]
fn a_release_that_did_not_come_up_is_no_way_back_for_the_next_one() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let [_, second] = ["one", "two"].map(|page| {
        let run = house.ended(house.queue(&house.repo.commit(&[("bad", ""), ("index.html", page)])));
        assert_eq!((&run["outcome"], served(&house)), (&"failed".into(), page.to_owned()), "{run}");
        run
    });
    let reason = second["reason"].as_str().expect("a reason");
    assert!(reason.contains("which was live before, did not come up either"), "{reason}");
}

#[test]
fn a_release_that_asks_to_be_tried_later_is_tried_later_and_its_commit_is_not_held() {
    let rules = HOOK.to_owned() + " || exit 75";
    let mut house = House::with_hook(&format!("{rules}\nretry: {{max: 1, backoff: 1ms}}"));
    house.start();
    publish(&house, "one");
    let busy = house.repo.commit(&[("bad", ""), ("index.html", "two")]);
    let run = house.queue(&busy);
    let (tried, again) = (house.ended(run), house.ended(run + 1));
    assert_eq!((&tried["outcome"], &again["outcome"]), (&"rolled_back".into(), &"rolled_back".into()), "{again}");
    assert_eq!(again["attempt"], 2, "{again}");
    fs::write(house.folder.path().join("mended"), "").expect("a file");
    assert_eq!((&run_again(&house, &busy)["outcome"], served(&house)), (&"succeeded".into(), "two".into()));
}

#[test]
fn a_bad_commit_is_held_until_a_person_has_deployed_it_with_success() {
    let (house, _) = house_with_two();
    let bad = house.repo.commit(&[("bad", ""), ("index.html", "three")]);
    let run = house.ended(house.queue(&bad));
    assert_eq!(run["outcome"], "rolled_back");
    let (status, answer) = pushed_again(&house, &bad);
    assert_eq!((status, &answer["result"]), (200, &"held".into()), "{answer}");
    let rule = format!("did not come up in run {}", run["id"]);
    assert!(answer["message"].to_string().contains(&rule), "{answer}");
    for about in ["site", &bad] {
        assert!(house.json(&["why", about])["sentences"].to_string().contains(&rule), "{about}");
    }
    let deploy = ["deploy", "site", "--sha", &bad];
    assert_eq!((&acted(&house, &deploy)["outcome"], served(&house)), (&"rolled_back".into(), "two".into()));
    fs::write(house.folder.path().join("mended"), "").expect("a file");
    assert_eq!((&acted(&house, &deploy)["outcome"], served(&house)), (&"succeeded".into(), "three".into()));
    assert_eq!(run_again(&house, &bad)["outcome"], "skipped", "it is live, and nothing holds it");
}

#[test]
fn whatever_stands_in_the_links_place_is_named_and_a_link_gives_way() {
    let (house, _) = house_with_two();
    let elsewhere = house.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    for (page, text, says) in [
        ("three", Path::new("releases/nowhere"), "leads to `releases/nowhere`, which is not there"),
        ("four", &elsewhere, "which is no release on record"),
    ] {
        relink(&house, text);
        let said = said_of_releases(&house);
        assert!(said.contains("none of the releases is live") && said.contains(says), "{said}");
        publish(&house, page);
    }
    assert_eq!(said_of_releases(&house), "");
    let current = house.live().join("current");
    fs::remove_file(&current).expect("removed");
    fs::write(&current, "a file").expect("written");
    assert!(said_of_releases(&house).contains("is neither a link nor a folder"));
    for run in [
        house.ended(house.queue(&house.repo.commit(&[("index.html", "five")]))),
        acted(&house, &["rollback", "site"]),
        acted(&house, &["adopt", "site"]),
    ] {
        let reason = run["reason"].as_str().expect("a reason");
        assert!(run["outcome"] == "failed" && reason.ends_with("move it away"), "{run}");
        assert!(reason.contains(current.to_str().expect("plain")), "{run}");
    }
    assert_eq!(fs::read_to_string(&current).expect("a file"), "a file");
}

#[test]
fn a_torn_record_stands_in_nobodys_way_and_a_record_that_is_none_is_refused_with_what_to_do() {
    let (house, _) = house_with_two();
    let path = house.live().join(".landfall/releases.jsonl");
    let whole = fs::read_to_string(&path).expect("a file");
    fs::write(&path, format!("{whole}{{\"release\":\"2026")).expect("written");
    let said = said_of_releases(&house);
    assert!(said.contains(&format!("line 3 of `{}`", path.display())), "{said}");
    let run = acted(&house, &["rollback", "site"]);
    assert_eq!((&run["outcome"], served(&house)), (&"succeeded".into(), "one".into()));
    assert!(house.whole_log(run["id"].as_i64().expect("a run")).contains("line 3 of"));
    assert!(house.live().join(".landfall/releases.jsonl.damaged").exists());
    assert_eq!(said_of_releases(&house), "");

    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    let run = house.ended(house.queue(&house.repo.commit(&[])));
    for said in [run["reason"].as_str().expect("a reason"), &refused(&house, &["rollback", "site"]).1] {
        assert!(said.contains(path.to_str().expect("plain")) && said.contains("move it away"), "{said}");
    }
    assert_eq!(served(&house), "one");
}

#[test]
fn a_record_that_somebody_has_taken_for_themselves_is_written_all_the_same() {
    let (house, _) = house_with_two();
    let path = house.live().join(".landfall/releases.jsonl");
    let mut permissions = fs::metadata(&path).expect("a file").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).expect("read-only");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).expect("given away");
    }
    publish(&house, "three");
    assert_eq!(releases(&house)[0]["verdict"], "good");
}

#[test]
fn what_was_found_good_when_that_could_not_be_written_down_is_good_from_the_next_run_on() {
    let hook =
        HOOK.replace("test ! -e bad", "grep -qv two index.html || mkdir ../../.landfall/releases.jsonl.new; true");
    let mut house = House::with_hook(&hook);
    house.start();
    for page in ["one", "two"] {
        publish(&house, page);
    }
    assert_eq!(releases(&house)[0]["verdict"], "live");
    assert!(house.whole_log(2).contains("is good is not written down"), "{}", house.whole_log(2));
    fs::remove_dir(house.live().join(".landfall/releases.jsonl.new")).expect("removed");
    publish(&house, "three");
    let run = acted(&house, &["rollback", "site"]);
    assert_eq!((&run["outcome"], served(&house)), (&"succeeded".into(), "two".into()));
}

#[test]
fn a_release_that_was_removed_by_hand_is_named_as_gone() {
    let (house, [first, _]) = house_with_two();
    let name = releases(&house)[1]["release"].as_str().expect("a name").to_owned();
    fs::remove_dir_all(house.live().join("releases").join(&name)).expect("removed");
    for to in [&name, &first] {
        let (code, said) = refused(&house, &["rollback", "site", "--to", to]);
        assert!(code == Some(6) && said.contains(&format!("release {name} is no longer there")), "{said}");
    }
    assert_eq!(refused(&house, &["rollback", "site"]).0, Some(6));
    fs::remove_dir_all(house.live().join("releases")).expect("removed");
    assert!(said_of_releases(&house).contains("which is not there"));
    publish(&house, "three");
}

#[test]
fn as_root_a_full_disk_fails_a_deploy_cleanly_wherever_it_is_and_keeps_nobody_from_going_back() {
    if !is_root("as_root_a_full_disk_fails_a_deploy_cleanly_wherever_it_is_and_keeps_nobody_from_going_back") {
        return;
    }
    let hook = HOOK.replace("{remote}\"", "{remote}\", min_free: 64KiB")
        + "\nrun: test ! -e fill || cat /dev/zero > {live}/filler || true";
    let mut house = House::with_hook(&hook);
    let disk = SmallDisk::at(&house.live());
    house.start();
    for page in ["one", "two"] {
        publish(&house, page);
    }
    let fails_at = |step: &str, files: &[(&str, &str)]| {
        let run = house.ended(house.queue(&house.repo.commit(files)));
        assert_eq!((&run["outcome"], run["step"].as_str()), (&"failed".into(), Some(step)), "{run}");
        assert!(run["reason"].to_string().contains("No space left on device"), "{run}");
        assert_eq!((served(&house), releases(&house).len()), ("two".into(), 2));
    };
    fails_at("stage", &[("index.html", "three"), ("large", &"x".repeat(9 << 20))]);
    fs::remove_file(house.repo.work.join("large")).expect("removed");
    let failed = house.live().join(".landfall/failed");
    assert_eq!(fs::read_dir(&failed).expect("a folder").count(), 0, "it would keep the next run from having room");
    fails_at("seal", &[("index.html", "four"), ("fill", "")]);
    let run = house.ended(house.queue(&house.repo.commit(&[("index.html", "five")])));
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.contains("`min_free` asks for 64 KiB"), "{run}");
    let run = acted(&house, &["rollback", "site"]);
    assert_eq!((&run["outcome"], served(&house)), (&"succeeded".into(), "one".into()), "{run}");
    disk.make_room();
    fs::remove_file(house.repo.work.join("fill")).expect("removed");
    publish(&house, "six");
    house.stop();
}
