//! What the store promises about what is old, where nobody knows how late it is.

use std::time::Duration;

use jiff::Timestamp;

use super::{World, all, days_before};
use crate::{
    model::run::{Outcome, RunId},
    store::{Belief, TooOld},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl World {
    async fn is_believed(&self, ran: Duration) -> bool {
        self.store.believe(self.now, ran).await.expect("judged") == Belief::Believed
    }

    /// The daemon runs for an hour more, and looks.
    async fn runs_for_an_hour(&mut self) -> bool {
        self.pass(HOUR);
        self.is_believed(HOUR).await
    }

    /// Puts away what is older than ninety days; the runs whose folders go.
    async fn put_away(&self) -> Vec<RunId> {
        let before = days_before(self.now, 90);
        let old = Some(TooOld { logs_before: before, bodies_before: before });
        let pruned = self.store.prune(1000, old, self.now).await.expect("pruned");
        self.store.folders_removed(pruned.folders.clone()).await.expect("noted");
        pruned.folders
    }

    fn jump_to(&mut self, now: Timestamp) {
        self.now = now;
    }
}

#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_is_believed_after_a_day_of_running_over_restarts() {
    let mut world = World::new();
    world.queue(&all("site"), 'a').await;
    assert!(world.is_believed(Duration::ZERO).await, "of a new store nothing can be lost");
    for _ in 0..30 {
        assert!(world.runs_for_an_hour().await, "an ordinary day");
    }
    world.pass(YEAR);
    let mut world = world.reopen().await;
    assert!(!world.is_believed(Duration::ZERO).await);
    for hour in 1..24 {
        if hour % 7 == 0 {
            // Pushes come in, and a new daemon goes on counting.
            world.queue(&all("site"), 'b').await;
            world = world.reopen().await;
        }
        assert!(!world.runs_for_an_hour().await, "after {hour} hours");
    }
    assert!(world.runs_for_an_hour().await, "after a day");
    assert!(world.runs_for_an_hour().await, "and from then on");
}

#[tokio::test]
async fn a_clock_that_is_put_right_is_believed_at_once_and_so_is_a_daemon_that_paused_for_a_night() {
    let mut world = World::new();
    assert!(world.is_believed(Duration::ZERO).await);
    let right = world.now;
    world.pass(YEAR);
    assert!(!world.is_believed(Duration::ZERO).await);
    world.jump_to(right);
    assert!(world.runs_for_an_hour().await);
    // A machine that has no clock of its own begins in 1970, until it has asked for the time.
    let right = world.now;
    world.jump_to(Timestamp::UNIX_EPOCH);
    assert!(!world.is_believed(Duration::ZERO).await);
    world.jump_to(right);
    world.pass(DAY - HOUR);
    assert!(world.is_believed(Duration::ZERO).await);
}

#[tokio::test]
async fn what_ended_in_the_future_goes_with_what_came_after_it() {
    let mut world = World::new();
    let right = world.now;
    world.pass(YEAR);
    let ahead = world.queue(&all("site"), 'a').await;
    world.carry_out(Outcome::Succeeded).await;
    world.jump_to(right);
    let after = world.queue(&all("site"), 'b').await;
    world.carry_out(Outcome::Succeeded).await;
    let newest = world.queue(&all("site"), 'c').await;
    world.pass(89 * DAY);
    world.carry_out(Outcome::Succeeded).await;
    assert_eq!(world.put_away().await, [], "nothing is old");
    world.pass(2 * DAY);
    assert_eq!(world.put_away().await, [ahead, after]);
    let body_of = async |run: RunId| {
        let delivery = world.store.run(run).await.expect("a read").expect("a run").delivery.expect("a delivery");
        world.store.payload(delivery).await.expect("a read")
    };
    assert_eq!((body_of(ahead).await, body_of(after).await), (None, None));
    // It came when those did.
    assert_eq!(body_of(newest).await, None);
}
