//! What the store promises where the clock of the machine jumps.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{World, all, failed, hook};
use crate::{
    model::{
        hook::{Hook, QueuePolicy},
        run::{FailureClass, Outcome, RunFacts},
    },
    store::{Hold, LetterState, LetterTurn},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const JUMPS: [Duration; 3] = [Duration::from_secs(600), DAY, YEAR];

impl World {
    fn set_back(&mut self, time: Duration) {
        self.now = self.now.saturating_sub(time).expect("a time");
    }

    fn in_a(&self, time: Duration) -> Option<Timestamp> {
        Some(self.now.saturating_add(time).expect("a time"))
    }
}

/// A hook whose failures are tried again after a minute, give or take a tenth.
fn patient() -> Arc<Hook> {
    let mut hook = hook("site");
    hook.retry.backoff = Duration::from_secs(60);
    Arc::new(hook)
}

fn quiet() -> Arc<Hook> {
    Arc::new(Hook { debounce: Duration::from_secs(60), queue: QueuePolicy::Latest, ..hook("site") })
}

#[tokio::test]
async fn a_retry_waits_no_longer_where_the_clock_is_set_back() {
    for jump in JUMPS {
        let mut world = World::new();
        world.queue(&patient(), 'a').await;
        world.carry_out(failed(FailureClass::Tempfail)).await;
        let due = world.nothing_to_claim().await.expect("a retry waits");
        let wait = due.duration_since(world.now).unsigned_abs();
        world.pass(Duration::from_secs(40));
        assert_eq!(world.nothing_to_claim().await, Some(due));
        world.set_back(jump);
        assert_eq!(world.nothing_to_claim().await, world.in_a(wait - Duration::from_secs(40)), "{jump:?}");
        world.pass(wait);
        drop(world.claim().await);
    }
}

#[tokio::test]
async fn an_interval_that_began_in_the_future_is_no_longer_than_it_is() {
    let mut world = World::new();
    let interval = Duration::from_secs(60);
    let hook = Arc::new(Hook { min_interval: interval, ..hook("site") });
    world.pass(YEAR);
    world.queue(&hook, 'a').await;
    world.carry_out(Outcome::Succeeded).await;
    world.set_back(YEAR);
    // A push is the first to come after the clock was put right, and after a restart.
    let mut world = world.reopen().await;
    world.queue(&hook, 'b').await;
    assert_eq!(world.nothing_to_claim().await, world.in_a(interval));
    world.pass(interval);
    drop(world.claim().await);
}

#[tokio::test]
async fn a_push_waits_for_quiet_no_longer_where_the_clock_is_set_back() {
    let mut world = World::new();
    let run = world.queue(&quiet(), 'a').await;
    world.set_back(DAY);
    assert_eq!(world.nothing_to_claim().await, world.in_a(Duration::from_secs(60)));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.claim().await.run(), run);
}

#[tokio::test]
async fn a_run_that_could_not_be_started_waits_no_longer_where_the_clock_is_set_back() {
    let mut world = World::new();
    world.queue(&all("site"), 'a').await;
    let claim = world.claim().await;
    world.store.give_back(claim, Some("there is no room"), world.now).await.expect("given back");
    world.set_back(YEAR);
    assert_eq!(world.nothing_to_claim().await, world.in_a(Duration::from_secs(2)));
}

#[tokio::test]
async fn a_hold_with_an_end_is_no_longer_where_the_clock_is_set_back() {
    let mut world = World::new();
    let run = world.queue(&all("site"), 'a').await;
    let (reason, author) = ("a migration".to_owned(), "ana".to_owned());
    let hour = Duration::from_secs(3600);
    let hold = Hold { hook: None, reason, author, since: world.now, until: world.in_a(hour) };
    world.store.hold(hold).await.expect("held");
    world.set_back(DAY);
    assert_eq!(world.nothing_to_claim().await, world.in_a(hour));
    let held = world.store.holds().await.expect("a read").remove(0);
    assert_eq!((held.since, held.until), (world.now, world.in_a(hour)));
    world.pass(hour);
    assert_eq!(world.claim().await.run(), run);
}

#[tokio::test]
async fn a_letter_waits_no_longer_where_the_clock_is_set_back() {
    let mut world = World::new();
    let run = world.queue(&all("site"), 'a').await;
    let claim = world.claim().await;
    world.store.finish(claim, Outcome::Succeeded, RunFacts::default(), world.now).await.expect("finished");
    let letter = world.letter().await;
    let wait = Duration::from_secs(30);
    world.store.try_later(letter, wait, "421 try later", world.now).await.expect("put back");
    world.set_back(YEAR);
    match world.store.next_letter(world.now).await.expect("a turn") {
        LetterTurn::NothingUntil(due) => assert_eq!(due, world.in_a(wait)),
        LetterTurn::Letter(_) => panic!("nothing is due yet"),
    }
    let shown = world.store.letters_of(run).await.expect("a read").remove(0).state;
    assert!(matches!(shown, LetterState::Owed { due, .. } if due == world.in_a(wait)), "{shown:?}");
}

#[tokio::test]
async fn a_letter_that_is_being_sent_is_not_sent_twice_where_the_clock_is_set_ahead() {
    let mut world = World::new();
    let run = world.queue(&all("site"), 'a').await;
    let claim = world.claim().await;
    world.store.finish(claim, Outcome::Succeeded, RunFacts::default(), world.now).await.expect("finished");
    let letter = world.letter().await;
    world.pass(YEAR);
    assert!(matches!(world.store.next_letter(world.now).await, Ok(LetterTurn::NothingUntil(None))));
    world.store.owe_again(letter.letter().id).await.expect("its sender is gone");
    let again = world.letter().await;
    assert_eq!((again.letter().run, again.letter().attempts), (run, 1));
}

#[tokio::test]
async fn a_lane_is_not_passed_over_for_the_time_that_a_clock_was_ahead() {
    let mut world = World::new();
    let urgent = Arc::new(Hook { priority: 1, ..hook("urgent") });
    world.pass(YEAR);
    world.queue(&all("before"), 'a').await;
    drop(world.claim().await);
    world.set_back(YEAR);
    let plain = world.queue(&all("plain"), 'a').await;
    // A point of priority is worth a minute, and the plain one has waited for two.
    world.pass(Duration::from_secs(120));
    world.queue(&urgent, 'a').await;
    assert_eq!(world.claim().await.run(), plain);
}

#[tokio::test]
async fn what_was_told_of_the_time_outlives_a_restart_unless_nothing_was_written() {
    let mut world = World::new();
    world.queue(&patient(), 'a').await;
    world.carry_out(failed(FailureClass::Tempfail)).await;
    let due = world.nothing_to_claim().await.expect("a retry waits");
    let wait = due.duration_since(world.now).unsigned_abs();
    world.pass(Duration::from_secs(30));
    let mut world = world.reopen().await;
    world.set_back(DAY);
    world.store.tell_time(world.now).await.expect("noted");
    // Nobody wrote down that half of the wait had passed.
    assert_eq!(world.nothing_to_claim().await, world.in_a(wait));
}

#[tokio::test]
async fn verbs_that_come_in_another_order_than_their_times_are_no_jump() {
    let mut world = World::new();
    let run = world.queue(&quiet(), 'a').await;
    let due = world.nothing_to_claim().await;
    world.set_back(Duration::from_secs(1));
    assert_eq!(world.nothing_to_claim().await, due);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.claim().await.run(), run);
}
