//! Promises about releases: complete before they are live, live in one step, and a way back.
//!
//! Invariant: each test is one promise.

use std::{fs, os::unix::fs::symlink, time::Duration};

use landfall::{
    journal::entries::Entry,
    model::{
        deploy::Rollback,
        release::Verdict,
        run::{Outcome, RunStep},
    },
};
use rustix::process::Signal;

use super::{
    bench::script,
    shop::{Shop, link, steps},
};

#[test]
fn a_release_is_built_beside_the_live_one_and_is_live_in_one_step() {
    let mut shop = Shop::running("pwd; cat index.html; cat ../../current/index.html || echo nothing live");
    shop.hook.activate = vec![script("reload", "pwd; cat index.html REVISION")];
    let commit = shop.commit(&[("index.html", "one\n")]);
    let ended = shop.deploy();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:#?}", ended.whole_log());
    let name = shop.live().expect("live");
    let root = shop.path("").canonicalize().expect("a folder");
    let staging = root.join("releases/.staging-r1").display().to_string();
    let tree = root.join("releases").join(name.as_str()).display().to_string();
    let expected =
        [&staging, "one", "cat: ../../current/index.html: No such file or directory", "nothing live", &tree, "one"];
    assert_eq!(ended.printed()[..6], expected);
    assert_eq!(ended.printed()[6], commit.as_str());
    assert_eq!(link(&shop.path("current")), format!("releases/{name}"));
    assert!(name.as_str().ends_with(&format!("Z-r1-{}", commit.short())), "{name}");
    assert_eq!(shop.served("index.html"), "one\n");
    let record = shop.record(&name);
    assert_eq!((record.verdict, record.commit, record.run.0), (Verdict::Good, Some(commit.clone()), 1));
    assert_eq!((record.subject.as_str(), record.author.as_str(), record.size_bytes), ("change things", "Ann", 45));
    let (second, third) = (shop.good(&[("index.html", "two\n")]), shop.good(&[("index.html", "three\n")]));
    assert_eq!(shop.served("index.html"), "three\n");
    assert_eq!(shop.names_in("releases"), [name.as_str(), second.as_str(), third.as_str()]);
}

#[test]
fn the_steps_come_in_the_order_of_the_book_and_the_switch_is_announced_and_confirmed() {
    let mut shop = Shop::activating("true");
    shop.commit(&[("index.html", "one\n")]);
    let ended = shop.deploy();
    use RunStep::{Activate, Cleanup, Fetch, Lock, Preflight, Run, Seal, Shared, Stage, Switch};
    assert_eq!(steps(&ended), [Lock, Preflight, Fetch, Stage, Shared, Run, Seal, Switch, Activate, Cleanup]);
    let entries = ended.entries();
    let at = |wanted: fn(&Entry) -> bool| entries.iter().position(wanted).expect("it is there");
    let begins = at(|it| matches!(it, Entry::StepBegin { step: Switch, .. }));
    let (announced, confirmed) =
        (at(|it| matches!(it, Entry::Switching { .. })), at(|it| matches!(it, Entry::Switched { .. })));
    assert_eq!((announced, confirmed), (begins + 1, begins + 2));
}

#[test]
fn scripts_know_where_everything_is() {
    let show = "echo $DEPLOY_PATH; echo $DEPLOY_CURRENT_PATH; echo $DEPLOY_SHARED_PATH; echo ${DEPLOY_PREVIOUS_RELEASE-none}; \
                echo ${DEPLOY_ROLLBACK-no}";
    let mut shop = Shop::running(show);
    shop.hook.activate = vec![script("reload", show)];
    shop.commit(&[("index.html", "one\n")]);
    let output = shop.deploy().printed();
    let path = |name: &str| shop.path(name).display().to_string();
    let tree = shop.site().release(&shop.live().expect("live")).display().to_string();
    let known = [path("current"), path("shared"), "none".into(), "no".into()];
    assert_eq!(output, [&[path("releases/.staging-r1")], &known[..], std::slice::from_ref(&tree), &known[..]].concat());
    shop.commit(&[]);
    let output = shop.deploy().printed();
    assert_eq!((&output[3], &output[8]), (&tree, &tree));
}

#[test]
fn a_failure_before_the_switch_changes_nothing_live_and_the_broken_tree_stays_for_a_look() {
    let mut shop = Shop::running("echo built > built; test ! -e bad");
    let good = shop.good(&[("index.html", "one\n")]);
    shop.commit(&[("bad", "")]);
    let ended = shop.deploy();
    assert_eq!(ended.outcome().step(), Some(RunStep::Run));
    assert_eq!((shop.live(), shop.served("index.html")), (Some(good.clone()), "one\n".into()));
    assert_eq!(shop.names_in("releases"), [good.as_str()]);
    assert_eq!(shop.names_in(".landfall/failed"), ["r2"]);
    assert_eq!(fs::read_to_string(shop.path(".landfall/failed/r2/built")).expect("a file"), "built\n");
    assert!(ended.facts().live.is_none());
}

#[test]
fn a_release_that_does_not_come_up_gives_way_to_what_was_live_before() {
    let text = "echo $(cat index.html) ${DEPLOY_ROLLBACK-no} $DEPLOY_SHA $DEPLOY_PREVIOUS_SHA; test ! -e bad";
    let mut shop = Shop::activating(text);
    shop.hook.on_failure = vec![script("look", "cat index.html; echo $DEPLOY_SHA")];
    let first = shop.commit(&[("index.html", "one\n")]);
    shop.deploy();
    let good = shop.live().expect("live");
    let second = shop.commit(&[("index.html", "two\n"), ("bad", "")]);
    let ended = shop.deploy();
    assert_eq!(ended.said(), ("rolled_back", "step `reload` of `activate` ended with exit code 1".into()));
    let lines =
        [format!("two no {second} {first}"), format!("one 1 {first} {second}"), "two".to_owned(), second.to_string()];
    assert_eq!(ended.printed(), lines);
    assert_eq!((shop.live(), shop.served("index.html")), (Some(good), "one\n".into()));
    let bad = shop.history().releases.pop().expect("a release");
    assert_eq!((bad.verdict, bad.commit.as_ref()), (Verdict::Bad, Some(&second)));
    assert_eq!(bad.note.as_deref(), Some("step `reload` of `activate` ended with exit code 1"));
    assert_eq!((ended.facts().commit, ended.facts().live), (Some(second), None));
    // The fix ships without anybody's leave.
    fs::remove_file(shop.state.path().join("remote/bad")).expect("removed");
    shop.good(&[("index.html", "three\n")]);
    assert_eq!(shop.served("index.html"), "three\n");
}

#[test]
fn a_first_release_that_does_not_come_up_stays_and_people_are_told_why() {
    let mut shop = Shop::activating("false");
    let commit = shop.commit(&[("index.html", "one\n")]);
    let ended = shop.deploy();
    let name = shop.live().expect("live");
    let reason = format!(
        "step `reload` of `activate` ended with exit code 1; there is nothing to go back to, so {name} stays live"
    );
    assert_eq!(ended.said(), ("failed", reason));
    assert_eq!((shop.record(&name).verdict, ended.facts().live), (Verdict::Bad, Some(commit)));
}

#[test]
fn with_rollback_off_a_release_that_does_not_come_up_stays() {
    let mut shop = Shop::activating("test ! -e bad");
    shop.keeping().rollback = Rollback::Off;
    shop.good(&[("index.html", "one\n")]);
    let commit = shop.commit(&[("bad", ""), ("index.html", "two\n")]);
    let ended = shop.deploy();
    let (word, reason) = ended.said();
    assert!(word == "failed" && reason.contains("`rollback: off` leaves"), "{reason}");
    assert_eq!((shop.served("index.html"), ended.facts().live), ("two\n".into(), Some(commit)));
}

#[test]
fn a_time_limit_with_nothing_to_go_back_to_is_told_as_one() {
    let mut shop = Shop::activating("sleep 1000");
    shop.hook.timeout = Duration::from_secs(2);
    shop.commit(&[("index.html", "one\n")]);
    let (word, reason) = shop.deploy().said();
    assert!(word == "timed_out" && reason.contains("there is nothing to go back to"), "{word}: {reason}");
}

#[test]
fn a_way_back_that_fails_too_says_both() {
    let mut shop = Shop::activating("test ! -e $DEPLOY_SHARED_PATH/down");
    let good = shop.good(&[("index.html", "one\n")]);
    fs::write(shop.path("shared/down"), "").expect("a file");
    shop.commit(&[("index.html", "two\n")]);
    let ended = shop.deploy();
    let clause = "step `reload` of `activate` ended with exit code 1";
    let reason = format!("{clause}; rolling back failed: {good} is live again, and did not come up: {clause}");
    assert_eq!(ended.said(), ("rollback_failed", reason));
    assert_eq!(shop.served("index.html"), "one\n");
}

#[test]
fn a_cancel_after_the_switch_goes_back_and_stays_a_cancel() {
    let mut shop = Shop::activating("test ! -e slow || test -n \"$DEPLOY_ROLLBACK\" || { echo waiting; sleep 1000; }");
    let good = shop.good(&[("index.html", "one\n")]);
    shop.commit(&[("slow", "")]);
    let mut keeper = shop.next().start();
    keeper.until_line("waiting").signal(Signal::TERM);
    assert_eq!(keeper.finish().said(), ("cancelled", format!("cancelled; {good} is live again")));
    assert_eq!(shop.live(), Some(good));
}

#[test]
fn a_time_limit_after_the_switch_goes_back() {
    let mut shop = Shop::activating("test ! -e slow || test -n \"$DEPLOY_ROLLBACK\" || sleep 1000");
    let good = shop.good(&[("index.html", "one\n")]);
    shop.hook.timeout = Duration::from_secs(3);
    shop.commit(&[("slow", "")]);
    let ended = shop.deploy();
    let (word, reason) = ended.said();
    assert!(word == "rolled_back" && reason.contains("`timeout` of 3s"), "{word}: {reason}");
    assert_eq!(shop.live(), Some(good));
}

#[test]
fn going_back_by_hand_is_a_switch_alone_and_needs_no_remote() {
    let mut shop =
        Shop::activating("echo $(cat index.html) $DEPLOY_TRIGGER ${DEPLOY_ROLLBACK-no} $DEPLOY_COMMIT_SUBJECT");
    let (first, second) = (shop.good(&[("index.html", "one\n")]), shop.good(&[("index.html", "two\n")]));
    fs::rename(shop.state.path().join("remote"), shop.state.path().join("gone")).expect("renamed");
    let ended = shop.go_back_to(&first);
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:#?}", ended.whole_log());
    use RunStep::{Activate, Cleanup, Lock, Preflight, Switch};
    assert_eq!(steps(&ended), [Lock, Preflight, Switch, Activate, Cleanup]);
    assert_eq!(ended.printed(), ["one rollback 1 change things"]);
    assert_eq!((shop.live(), shop.served("index.html")), (Some(first.clone()), "one\n".into()));
    assert_eq!(ended.facts().commit, shop.record(&first).commit);
    let left = shop.record(&second);
    assert_eq!((left.verdict, left.note.as_deref()), (Verdict::Good, Some("left by octocat in run 3: it was slow")));
    let again = shop.go_back_to(&first);
    assert_eq!(again.said(), ("skipped", format!("release {first} is live again already")));
}

#[test]
fn nobody_goes_back_to_what_was_never_found_good() {
    let mut shop = Shop::activating("test ! -e bad");
    shop.good(&[("index.html", "one\n")]);
    shop.commit(&[("bad", "")]);
    shop.deploy();
    let bad = shop.history().releases.pop().expect("a release").name;
    let ended = shop.go_back_to(&bad);
    assert_eq!(ended.said(), ("failed", format!("release {bad} has never been found good")));
    assert_eq!(ended.outcome().step(), Some(RunStep::Preflight));
}

#[test]
fn the_way_back_from_what_came_after_a_way_back_leads_to_what_was_live_before_it() {
    let mut shop = Shop::activating("true");
    let names = ["one\n", "two\n", "three\n"].map(|page| shop.good(&[("index.html", page)]));
    assert_eq!(shop.go_back_to(&names[0]).said().0, "succeeded");
    shop.good(&[("index.html", "four\n")]);
    let way: Vec<_> = shop.history().way_back().map(|it| it.name.clone()).collect();
    assert_eq!(way, [names[0].clone()], "two and three were left by a person");
}

#[test]
fn a_tree_that_a_lost_state_folder_left_in_the_making_gives_way() {
    let mut shop = Shop::running("true");
    fs::create_dir_all(shop.path("releases/.staging-r1/index.html")).expect("made");
    shop.good(&[("index.html", "one\n")]);
    assert_eq!((shop.served("index.html"), shop.names_in(".landfall/failed")), ("one\n".into(), vec!["r1".into()]));
}

#[test]
fn files_of_another_user_in_a_tree_keep_nobody_from_going_live_and_who_removes_them_is_said() {
    let name = "files_of_another_user_in_a_tree_keep_nobody_from_going_live_and_who_removes_them_is_said";
    if !super::root::is_root(name) {
        return;
    }
    let mut shop = Shop::running("mkdir -m 777 open");
    let mut other = script("cache", "test \"$(cat index.html)\" = two || mkdir -m 700 -p open/cache/inner");
    other.user = Some("daemon".into());
    shop.hook.run.push(other);
    shop.hook.user = Some("nobody".into());
    shop.keeping().good = 1;
    fs::create_dir(shop.path("")).expect("made");
    std::os::unix::fs::chown(shop.path(""), Some(65534), Some(65534)).expect("given");
    let first = shop.good(&[("index.html", "one")]);
    shop.good(&[("index.html", "two")]);
    shop.commit(&[("index.html", "two"), ("more", "")]);
    let ended = shop.deploy();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:#?}", ended.whole_log());
    let left = shop.path(".landfall/trash").join(first.as_str());
    let help = format!("other users have files in it: sudo rm -r {}", left.display());
    assert!(ended.has_remark(&format!("cleanup: cannot remove `{}`", left.display())), "{:#?}", ended.whole_log());
    assert!(ended.whole_log().iter().any(|it| format!("{it:?}").contains(&help)), "{:#?}", ended.whole_log());
}

#[test]
fn a_release_that_was_good_stays_so_when_it_does_not_come_up_again() {
    let mut shop = Shop::activating("test ! -e $DEPLOY_SHARED_PATH/down || test \"$(cat index.html)\" = two");
    let (first, second) = (shop.good(&[("index.html", "one\n")]), shop.good(&[("index.html", "two\n")]));
    fs::write(shop.path("shared/down"), "").expect("a file");
    assert_eq!(shop.go_back_to(&first).said().0, "rolled_back");
    assert_eq!((shop.live(), shop.record(&first).verdict), (Some(second), Verdict::Good));
}

#[test]
fn a_folder_in_the_links_place_is_refused_with_the_command_that_adopts_it_and_adopted_it_is_a_release() {
    let mut shop = Shop::activating("test ! -e bad");
    fs::create_dir_all(shop.path("current")).expect("made");
    fs::write(shop.path("current/index.html"), "old\n").expect("a file");
    shop.commit(&[("index.html", "one\n"), ("bad", "")]);
    let (word, reason) = shop.deploy().said();
    assert!(word == "failed" && reason.ends_with("make it the first release: landfall adopt website"), "{reason}");
    assert_eq!(shop.names_in(""), ["current"]);

    let ended = shop.adopt();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:#?}", ended.whole_log());
    let adopted = shop.live().expect("live");
    assert_eq!(
        (link(&shop.path("current")), shop.served("index.html")),
        (format!("releases/{adopted}"), "old\n".into())
    );
    let record = shop.record(&adopted);
    assert_eq!((record.verdict, record.commit), (Verdict::Good, None));
    assert!(shop.adopt().said().1.contains("it is a link to"), "once is enough");
    assert_eq!(shop.deploy().said().0, "rolled_back");
    assert_eq!((shop.live(), shop.served("index.html")), (Some(adopted), "old\n".into()));
}

#[test]
fn a_link_that_another_tool_made_is_gone_back_to_as_it_was() {
    let mut shop = Shop::activating("cat index.html; test ! -e bad");
    let old = shop.path("releases/20200101000000");
    fs::create_dir_all(&old).expect("made");
    fs::write(old.join("index.html"), "old\n").expect("a file");
    symlink(&old, shop.path("current")).expect("a link");
    shop.commit(&[("index.html", "one\n"), ("bad", "")]);
    let ended = shop.deploy();
    assert_eq!((ended.said().0, ended.printed()), ("rolled_back", vec!["one".to_owned(), "old".to_owned()]));
    assert_eq!(link(&shop.path("current")), old.to_str().expect("plain"));
}

#[test]
fn a_folder_nobody_may_write_into_is_refused_with_the_command_that_mends_it() {
    let name = "a_folder_nobody_may_write_into_is_refused_with_the_command_that_mends_it";
    if !super::root::is_root(name) {
        return;
    }
    let mut shop = Shop::running("true");
    shop.hook.user = Some("nobody".into());
    shop.commit(&[("index.html", "one\n")]);
    let (_, reason) = shop.deploy().said();
    let path = shop.path("").display().to_string();
    let path = path.trim_end_matches('/');
    assert_eq!(
        reason,
        format!("user `nobody` cannot make `{path}`; make it for them: sudo install -d -o nobody {path}")
    );
    fs::create_dir(path).expect("made");
    assert!(shop.deploy().said().1.contains(&format!("sudo chown nobody {path}")));
    std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("given");
    let text = "stat -c %U . index.html REVISION ../../shared ../../.landfall/releases.jsonl | sort -u";
    shop.hook.activate = vec![script("look", text)];
    assert_eq!(shop.deploy().printed(), ["nobody"]);
}
