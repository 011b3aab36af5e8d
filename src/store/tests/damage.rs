//! What the store promises of a row that cannot be read: it is one run, and the others go on.

use rusqlite::Connection;

use super::{World, all};
use crate::{
    model::run::{Outcome, RunId},
    store::{ListedRun, RunFilter, RunStage, StoreError},
};

/// What may have become of a row, as SQL about run `?1`.
const DAMAGES: [&str; 4] = [
    "UPDATE job SET job = '{\"format\": 1}' WHERE run = ?1",
    "UPDATE job SET job = CAST(x'7b22ff22' AS TEXT) WHERE run = ?1",
    "DELETE FROM job WHERE run = ?1",
    "UPDATE run SET token = 'no token' WHERE run = ?1",
];

impl World {
    /// Stops, does something to the database, and starts again.
    pub(super) async fn damaged(self, sql: &str, run: RunId) -> Self {
        self.store.close().await;
        let database = Connection::open(self.folder.path().join("landfall.db")).expect("a database");
        assert_eq!(database.execute(sql, [run.0]).expect("damaged"), 1);
        drop(database);
        self.reopen().await
    }

    async fn listed(&self) -> Vec<ListedRun> {
        let filter = RunFilter { hook: None, stage: None, before: None, limit: 10 };
        self.store.listed_runs(filter).await.expect("a list")
    }
}

fn unreadable(runs: &[ListedRun]) -> Vec<(RunId, RunStage)> {
    let of = |it: &ListedRun| match it {
        ListedRun::Whole(_) => None,
        ListedRun::Unreadable(run) => Some((run.id, run.stage)),
    };
    runs.iter().filter_map(of).collect()
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_listed_as_that_between_the_others() {
    for damage in DAMAGES.iter().take(3).chain(&["UPDATE run SET outcome = '\"lucky\"' WHERE run = ?1"]) {
        let world = World::new();
        let mut runs = Vec::new();
        for commit in ['a', 'b', 'c'] {
            runs.push(world.queue(&all("site"), commit).await);
            world.carry_out(Outcome::Succeeded).await;
        }
        let world = world.damaged(damage, runs[1]).await;
        let listed = world.listed().await;
        assert_eq!(listed.iter().map(ListedRun::id).collect::<Vec<_>>(), [runs[2], runs[1], runs[0]], "{damage}");
        assert_eq!(unreadable(&listed), [(runs[1], RunStage::Finished)], "{damage}");
        let ListedRun::Unreadable(left) = &listed[1] else { panic!("{damage}") };
        assert_eq!((left.hook.as_str(), left.lane.as_str(), left.created_at), ("site", "site", Some(world.now)));
        let error = world.store.run(runs[1]).await.expect_err("it cannot be read");
        assert!(matches!(&error, StoreError::Damaged(why) if why.contains("run 2")), "{error}");
        // The newest is what a glance shows.
        let world = world.damaged(damage, runs[2]).await;
        let glance = world.store.hook_summary(&all("site").name).await.expect("a glance");
        assert!(matches!(glance.last, Some(ListedRun::Unreadable(left)) if left.id == runs[2]), "{damage}");
    }
}

#[tokio::test]
async fn a_waiting_run_that_cannot_be_read_is_ended_and_the_others_are_claimed() {
    for damage in DAMAGES {
        let world = World::new();
        let bad = world.queue(&all("site"), 'a').await;
        let behind = world.queue(&all("site"), 'b').await;
        let beside = world.queue(&all("shop"), 'c').await;
        let world = world.damaged(damage, bad).await;
        let mut claimed = [world.claim().await.run(), world.claim().await.run()];
        claimed.sort_unstable();
        assert_eq!(claimed, [behind, beside], "{damage}");
        let stages: Vec<_> = world.listed().await.iter().map(|it| (it.id(), it.stage())).collect();
        assert!(stages.contains(&(bad, RunStage::Finished)), "{damage}: {stages:?}");
    }
}

#[tokio::test]
async fn a_run_under_way_that_cannot_be_read_keeps_no_daemon_from_taking_up_the_others() {
    for damage in DAMAGES {
        let world = World::new();
        let (bad, good) = (world.queue(&all("site"), 'a').await, world.queue(&all("shop"), 'b').await);
        for _ in 0..2 {
            let claim = world.claim().await;
            world.store.start(&claim, world.now).await.expect("started");
        }
        let world = world.damaged(damage, bad).await;
        let adopted = world.store.adopt(world.now).await.expect("adopted");
        assert_eq!(adopted.iter().map(|it| it.claim.run()).collect::<Vec<_>>(), [good], "{damage}");
        let next = world.queue(&all("site"), 'c').await;
        assert_eq!(world.claim().await.run(), next, "{damage}");
    }
}
