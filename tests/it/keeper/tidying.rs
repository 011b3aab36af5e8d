//! Promises about what is kept of releases, and that tidying never fails a run.
//!
//! Invariant: each test is one promise.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use landfall::model::run::Outcome;

use super::shop::Shop;

/// Deploys so many good ones; gives their names.
fn good(shop: &mut Shop, count: usize) -> Vec<String> {
    (0..count).map(|it| shop.good(&[("index.html", &format!("{it}\n"))]).to_string()).collect()
}

#[test]
fn so_many_good_ones_are_kept_and_broken_ones_push_out_none_of_them() {
    let mut shop = Shop::activating("test ! -e bad");
    shop.keeping().good = 2;
    let names = good(&mut shop, 4);
    assert_eq!(shop.names_in("releases"), names[2..]);
    shop.commit(&[("bad", "")]);
    for _ in 0..3 {
        assert_eq!(shop.deploy().said().0, "rolled_back");
    }
    let kept = shop.names_in("releases");
    assert_eq!((&kept[..2], kept.len()), (&names[2..], 3), "two good ones and the newest of the broken");
    assert!(kept[2].contains("-r7-"), "{kept:?}");
    assert_eq!(shop.names_in(".landfall/trash"), [""; 0]);
}

#[test]
fn broken_trees_of_every_kind_share_one_quota() {
    let mut shop = Shop::running("test ! -e unbuildable");
    shop.hook.activate = vec![super::bench::script("reload", "test ! -e bad")];
    good(&mut shop, 1);
    shop.commit(&[("bad", "")]);
    shop.deploy();
    assert_eq!(shop.names_in("releases").len(), 2);
    shop.commit(&[("unbuildable", "")]);
    shop.deploy();
    assert_eq!((shop.names_in("releases").len(), shop.names_in(".landfall/failed")), (1, vec!["r3".to_owned()]));
    shop.keeping().failed = 0;
    shop.deploy();
    assert_eq!(shop.names_in(".landfall/failed"), [""; 0]);
}

#[test]
fn what_is_live_and_what_was_before_are_kept_however_old() {
    let mut shop = Shop::running("true");
    let names = good(&mut shop, 3);
    let first = shop.history().releases[0].name.clone();
    shop.keeping().good = 1;
    shop.go_back_to(&first);
    assert_eq!(shop.names_in("releases"), [names[0].clone(), names[2].clone()], "live; and before, the newest too");
    assert_eq!(shop.served("index.html"), "0\n");
}

#[test]
fn a_release_that_a_process_works_in_is_spared_until_it_ends() {
    spares_the_first("true", |current| {
        let mut process = Command::new("cat");
        process.current_dir(current);
        process
    });
}

#[test]
fn a_release_that_a_process_was_started_from_is_spared_until_it_ends() {
    spares_the_first("cp /bin/cat worker", |current| {
        let mut process = Command::new(current.join("worker"));
        process.current_dir("/");
        process
    });
}

/// The release that is live when this process starts is spared for as long as it reads.
fn spares_the_first(run: &str, process: impl FnOnce(PathBuf) -> Command) {
    let mut shop = Shop::running(run);
    shop.keeping().good = 1;
    let first = good(&mut shop, 1).remove(0);
    let mut process = process(shop.path("current")).stdin(Stdio::piped()).spawn().expect("started");
    good(&mut shop, 3);
    assert!(shop.names_in("releases").contains(&first), "{:?}", shop.names_in("releases"));
    drop(process.stdin.take());
    process.wait().expect("ended");
    good(&mut shop, 1);
    assert!(!shop.names_in("releases").contains(&first));
}

#[test]
fn a_broken_tree_of_a_time_before_the_state_folder_was_lost_makes_room_for_the_newest() {
    let mut shop = Shop::running("test ! -e bad");
    good(&mut shop, 1);
    fs::create_dir_all(shop.path(".landfall/failed/r90")).expect("made");
    shop.commit(&[("bad", "")]);
    shop.deploy();
    assert_eq!(shop.names_in(".landfall/failed"), ["r2"]);
}

#[test]
fn what_landfall_did_not_make_it_does_not_remove() {
    let mut shop = Shop::running("true");
    shop.keeping().good = 1;
    fs::create_dir_all(shop.path("releases/20200101000000")).expect("made");
    good(&mut shop, 3);
    assert_eq!(shop.names_in("releases").len(), 3);
    assert!(shop.path("releases/20200101000000").exists());
}

#[test]
fn folders_that_were_made_read_only_are_put_away_too() {
    let mut shop = Shop::running("mkdir -p cache/inner; touch cache/inner/x; chmod -R a-w cache");
    shop.keeping().good = 1;
    good(&mut shop, 3);
    assert_eq!((shop.names_in("releases").len(), shop.names_in(".landfall/trash").len()), (2, 0));
}

#[test]
fn what_cannot_be_put_away_is_said_and_fails_nothing() {
    let mut shop = Shop::running("true");
    shop.keeping().good = 1;
    good(&mut shop, 2);
    // A file in the place of the folder that trees go to on their way out.
    fs::write(shop.path(".landfall/trash"), "").expect("a file");
    shop.commit(&[]);
    let ended = shop.deploy();
    assert_eq!(ended.outcome(), Outcome::Succeeded);
    assert!(ended.has_remark("cleanup: ") && shop.names_in("releases").len() == 3, "{:#?}", ended.whole_log());
}

#[test]
fn what_a_run_that_died_left_is_put_away_by_the_next() {
    let mut shop = Shop::running("true");
    good(&mut shop, 1);
    fs::create_dir(shop.path("releases/.staging-r90")).expect("made");
    fs::set_permissions(shop.path("releases/.staging-r90"), fs::Permissions::from_mode(0o755)).expect("mode");
    std::os::unix::fs::symlink("releases/nowhere", shop.path(".current-r90")).expect("a link");
    let names = good(&mut shop, 1);
    assert!(
        shop.names_in("releases").iter().all(|it| !it.starts_with('.'))
            && shop.names_in("releases").contains(&names[0])
    );
    assert_eq!(shop.names_in(".landfall/failed"), ["r90"]);
    assert!(fs::symlink_metadata(shop.path(".current-r90")).is_err());
}
