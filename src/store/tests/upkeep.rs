//! What the store promises about its folder, its versions and its past.

use rusqlite::Connection;

use super::{World, all, days_before, failed};
use crate::{
    model::run::{FailureClass, Outcome, RunId},
    store::{OpenError, RunFilter, Store, TooOld},
};

#[tokio::test]
async fn a_second_daemon_on_the_same_folder_is_refused_and_told_why() {
    let world = World::new();
    let refused = Store::open(world.folder.path()).expect_err("refused").to_string();
    assert!(refused.contains(world.folder.path().to_str().expect("plain")), "{refused}");
    world.store.close().await;
    Store::open(world.folder.path()).expect("free again");
}

#[tokio::test]
async fn a_store_of_a_newer_landfall_is_refused() {
    let world = World::new();
    world.store.close().await;
    let database = Connection::open(world.folder.path().join("landfall.db")).expect("a database");
    database.pragma_update(None, "user_version", 99).expect("a version");
    drop(database);
    let refused = Store::open(world.folder.path()).expect_err("refused");
    assert!(matches!(refused, OpenError::Newer { .. }), "{refused}");
}

#[tokio::test]
async fn retention_keeps_the_newest_the_live_and_the_unfinished() {
    let world = World::new();
    let hook = all("site");
    let live = world.queue(&hook, 'a').await;
    world.carry_out(Outcome::Succeeded).await;
    let mut failures = Vec::new();
    for _ in 0..5 {
        failures.push(world.queue(&hook, 'b').await);
        world.carry_out(failed(FailureClass::Other)).await;
    }
    let waiting = world.queue(&hook, 'c').await;
    while let crate::store::LetterTurn::Letter(letter) = world.store.next_letter(world.now).await.expect("a turn") {
        world.store.sent(letter, world.now).await.expect("noted");
    }
    let before = days_before(world.now, 90);
    let old = Some(TooOld { logs_before: before, bodies_before: before });
    while world.store.prune(3, old, world.now).await.expect("pruned").more {}
    let kept = world.store.runs(RunFilter { hook: None, stage: None, before: None, limit: 100 }).await.expect("a read");
    let kept: Vec<_> = kept.iter().map(|it| it.id).collect();
    assert!(kept.contains(&live) && kept.contains(&waiting) && kept.contains(&failures[4]), "{kept:?}");
    assert!(!kept.contains(&failures[0]), "{kept:?}");
}

#[tokio::test]
async fn the_state_folder_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let mode = |name: &str| world.folder.path().join(name).metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode("landfall.db"), 0o600);
}

#[tokio::test]
async fn a_run_from_before_runs_had_words_is_known_by_its_number_until_it_is_claimed() {
    let world = World::new();
    let (under_way, waiting) = (all("site"), all("shop"));
    let (first, second) = (world.queue(&under_way, 'a').await, world.queue(&waiting, 'b').await);
    let claimed = world.claim().await;
    assert_eq!(claimed.run(), first);
    world.store.close().await;
    let database = Connection::open(world.folder.path().join("landfall.db")).expect("a database");
    database.execute("UPDATE run SET token = NULL", []).expect("as an earlier release left it");
    drop(database);
    let world = world.reopen().await;
    let adopted = world.store.adopt(world.now).await.expect("adopted");
    // Whoever started it knew no words, so it is known by its number alone.
    assert_eq!(adopted.iter().map(|it| (it.claim.run(), it.claim.token())).collect::<Vec<_>>(), [(first, None)]);
    let claim = world.claim().await;
    assert!(claim.run() == second && claim.token().is_some());
}

#[tokio::test]
async fn folders_of_lost_runs_keep_their_numbers_and_go_when_they_are_old() {
    let mut world = World::new();
    let hook = all("site");
    let known = world.queue(&hook, 'a').await;
    assert_eq!(world.store.find_loss(vec![known], world.now).await.expect("a look"), None);
    let found = vec![RunId(known.0 + 4), known, RunId(known.0 + 2), RunId(i64::MAX)];
    let loss = world.store.find_loss(found.clone(), world.now).await.expect("a look").expect("a loss");
    assert_eq!((loss.known, loss.found), (known, RunId(known.0 + 4)));
    assert_eq!(world.store.find_loss(found, world.now).await.expect("a look"), None, "it is found once");
    assert_eq!(world.store.last_loss().await.expect("a look"), Some(loss));
    assert_eq!(world.queue(&hook, 'b').await, RunId(known.0 + 5));
    let when_found = world.now;
    world.pass(std::time::Duration::from_secs(60));
    let old = |before| Some(TooOld { logs_before: before, bodies_before: before });
    let prune = |before| world.store.prune(100, old(before), world.now);
    assert_eq!(prune(when_found).await.expect("pruned").folders, []);
    assert_eq!(prune(world.now).await.expect("pruned").folders, [RunId(known.0 + 2), RunId(known.0 + 4)]);
}
