//! The laws of policies: priority, debounce, intervals, and pushes that stop a run under way.

use std::{sync::Arc, time::Duration};

use super::{World, all, hook};
use crate::{
    model::{
        hook::{Hook, QueuePolicy},
        run::{Outcome, RunFacts, RunId, RunStep},
    },
    store::{Claim, GivenBack, RunState, Stop},
};

fn of_priority(name: &str, priority: i8) -> Arc<Hook> {
    Arc::new(Hook { priority, ..hook(name) })
}

fn cancelling() -> Arc<Hook> {
    Arc::new(Hook { queue: QueuePolicy::Cancel, ..hook("site") })
}

async fn push(world: &World, number: u32, hook: &Arc<Hook>) -> RunId {
    world.deliver(&format!("id-{number}"), &format!("body {number}"), hook, 'a').await.runs[0].0
}

async fn end(world: &World, claim: Claim, outcome: Outcome) {
    world.store.finish(claim, outcome, RunFacts::default(), world.now).await.expect("finished");
}

fn stopped() -> Outcome {
    Outcome::Cancelled { step: Some(RunStep::Run), reason: "made room".into() }
}

#[tokio::test]
async fn a_higher_priority_comes_first_and_carries_those_before_it_in_its_lane_along() {
    let world = World::new();
    let low = world.queue(&of_priority("low", -1), 'a').await;
    let middle = world.queue(&of_priority("middle", 0), 'a').await;
    let behind = Hook { lane: hook("middle").lane, ..hook("urgent") };
    let urgent = world.queue(&Arc::new(Hook { priority: 9, ..behind }), 'a').await;
    let other = world.queue(&of_priority("other", 5), 'a').await;
    let claim = world.claim().await;
    assert_eq!(claim.run(), middle, "an urgent job waits behind it");
    assert_eq!(world.claim().await.run(), other);
    assert_eq!(world.claim().await.run(), low);
    end(&world, claim, Outcome::Succeeded).await;
    assert_eq!(world.claim().await.run(), urgent);
}

#[tokio::test]
async fn no_lane_starves_behind_a_higher_priority() {
    let mut world = World::new();
    let patient = world.queue(&of_priority("patient", 0), 'a').await;
    world.pass(Duration::from_secs(101 * 60));
    world.queue(&of_priority("urgent", 100), 'a').await;
    assert_eq!(world.claim().await.run(), patient, "it has waited longer than a hundred points are worth");
}

#[tokio::test]
async fn a_busy_branch_keeps_its_turn_among_lanes_when_a_newer_push_takes_the_place_of_a_waiting_one() {
    let mut world = World::new();
    let busy = super::latest("busy");
    world.queue(&busy, 'a').await;
    world.pass(Duration::from_secs(1));
    world.queue(&all("other"), 'a').await;
    world.pass(Duration::from_secs(1));
    let newest = world.queue(&busy, 'b').await;
    assert_eq!(world.claim().await.run(), newest, "its lane has waited longest");
}

#[tokio::test]
async fn an_older_push_never_takes_the_place_of_a_newer_one() {
    let world = World::new();
    let older = world.queue(&super::latest("site"), 'a').await;
    // The hook as it is after a reload: in another lane, where it is claimed first.
    let newer = world.queue(&Arc::new(Hook { priority: 9, lane: hook("other").lane, ..hook("site") }), 'b').await;
    let claim = world.claim().await;
    assert_eq!(claim.run(), newer);
    let given = world.store.give_back(claim, None, world.now).await.expect("given back");
    assert_eq!(given, GivenBack::Waits { not_before: None });
    assert_eq!(world.outcome(older).await, None);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_change_the_order() {
    let mut world = World::new();
    let first = world.queue(&all("first"), 'a').await;
    world.now = world.now.saturating_sub(Duration::from_secs(3600)).expect("a time");
    let second = world.queue(&all("second"), 'a').await;
    assert_eq!([world.claim().await.run(), world.claim().await.run()], [first, second]);
}

#[tokio::test]
async fn a_debounced_push_waits_for_quiet_but_not_for_ever() {
    let mut world = World::new();
    let debounce = Duration::from_secs(10);
    let hook = Arc::new(Hook { debounce, queue: QueuePolicy::Latest, ..hook("site") });
    let began = world.now;
    push(&world, 0, &hook).await;
    assert_eq!(world.nothing_to_claim().await, Some(began.saturating_add(debounce).expect("a time")));
    let mut newest = RunId(0);
    for number in 1..=12 {
        world.pass(Duration::from_secs(8));
        newest = push(&world, number, &hook).await;
    }
    let due = world.nothing_to_claim().await;
    assert_eq!(due, Some(began.saturating_add(debounce * 10).expect("a time")), "ten times is the most");
    world.pass(Duration::from_secs(4));
    assert_eq!(world.claim().await.run(), newest);
}

#[tokio::test]
async fn between_two_starts_of_a_hook_lies_its_interval() {
    let mut world = World::new();
    let interval = Duration::from_secs(60);
    let hook = Arc::new(Hook { min_interval: interval, ..hook("site") });
    for _ in 0..2 {
        world.queue(&hook, 'a').await;
    }
    let claim = world.claim().await;
    world.store.start(&claim, world.now).await.expect("started");
    let began = world.now;
    world.pass(Duration::from_secs(5));
    end(&world, claim, Outcome::Succeeded).await;
    assert_eq!(world.nothing_to_claim().await, Some(began.saturating_add(interval).expect("a time")));
    world.pass(interval);
    assert_eq!(world.claim().await.hook(), &hook.name);
}

#[tokio::test]
async fn the_interval_of_a_hook_counts_in_each_lane_it_waits_in() {
    let world = World::new();
    let interval = Duration::from_secs(60);
    world.queue(&Arc::new(Hook { min_interval: interval, ..hook("site") }), 'a').await;
    // The hook as it is after a reload.
    let moved = Hook { min_interval: interval, lane: hook("other").lane, ..hook("site") };
    world.queue(&Arc::new(moved), 'b').await;
    let claim = world.claim().await;
    world.store.start(&claim, world.now).await.expect("started");
    assert_eq!(world.nothing_to_claim().await, Some(world.now.saturating_add(interval).expect("a time")));
}

#[tokio::test]
async fn a_newer_push_stops_a_run_under_way_and_supersedes_it_but_not_a_third_in_a_row() {
    let world = World::new();
    let hook = cancelling();
    for number in 0..3 {
        let older = push(&world, 2 * number, &hook).await;
        let claim = world.claim().await;
        assert_eq!(claim.run(), older);
        world.store.start(&claim, world.now).await.expect("started");
        let newer = push(&world, 2 * number + 1, &hook).await;
        let asked = world.store.stops_asked().await.expect("a read");
        if number == 2 {
            assert_eq!(asked, [], "a busy branch is deployed at last");
            end(&world, claim, Outcome::Succeeded).await;
            continue;
        }
        assert_eq!(asked, [(older, Stop::Yield { to: newer })]);
        end(&world, claim, stopped()).await;
        assert_eq!(world.outcome(older).await, Some(Outcome::Superseded { by: newer }));
        let view = world.store.run(newer).await.expect("a read").expect("a run");
        assert_eq!(view.supersedes, [older]);
        // For the next round: the newer one, and then the older one, which waits again.
        for run in [newer, RunId(newer.0 + 1)] {
            let waiting = world.store.cancel(run, "for the next round", world.now).await.expect("cancelled");
            assert_eq!(waiting, crate::store::Cancelled::Ended);
        }
    }
}

#[tokio::test]
async fn a_push_of_a_branch_stops_no_tag_and_a_tag_stops_no_branch() {
    for (under_way, newer) in [("refs/tags/v1", "refs/heads/main"), ("refs/heads/main", "refs/tags/v1")] {
        let world = World::new();
        world.queue_of(under_way, &cancelling(), 'a').await;
        let claim = world.claim().await;
        world.store.start(&claim, world.now).await.expect("started");
        world.queue_of(newer, &cancelling(), 'b').await;
        assert_eq!(world.store.stops_asked().await.expect("a read"), [], "{newer} after {under_way}");
    }
}

#[tokio::test]
async fn a_run_that_was_to_make_room_and_did_not_ends_as_it_did() {
    let world = World::new();
    let hook = cancelling();
    let older = push(&world, 0, &hook).await;
    let claim = world.claim().await;
    world.store.start(&claim, world.now).await.expect("started");
    push(&world, 1, &hook).await;
    end(&world, claim, Outcome::Succeeded).await;
    assert_eq!(world.outcome(older).await, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn what_a_person_asks_for_stops_nothing_and_a_persons_cancel_stays_one() {
    let world = World::new();
    let hook = cancelling();
    let older = push(&world, 0, &hook).await;
    let claim = world.claim().await;
    world.store.start(&claim, world.now).await.expect("started");
    world.ask(&hook, 'b').await;
    assert_eq!(world.store.stops_asked().await.expect("a read"), [], "a manual deploy waits");
    push(&world, 1, &hook).await;
    world.store.cancel(older, "wrong", world.now).await.expect("asked");
    assert_eq!(world.store.stops_asked().await.expect("a read"), [(older, Stop::Cancel("wrong".into()))]);
    let view = world.store.run(older).await.expect("a read").expect("a run");
    assert!(matches!(view.state, RunState::Running { stop: Some(Stop::Cancel(_)), .. }));
    end(&world, claim, stopped()).await;
    assert_eq!(world.outcome(older).await, Some(stopped()));
}
