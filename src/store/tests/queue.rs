//! The laws of lanes.

use std::{sync::Arc, time::Duration};

use super::{World, all, commit_id, failed, hook, in_lane, latest};
use crate::{
    model::{
        hook::{Hook, QueuePolicy, Retry},
        push::RefName,
        run::{FailureClass, Outcome, RetryClass, RunFacts, RunStep},
    },
    store::{Cancelled, GivenBack, Kept, RunState, Stop, StoreError},
};

#[tokio::test]
async fn a_lane_never_has_two_under_way_and_goes_in_the_order_of_acceptance() {
    let world = World::new();
    let (one, two) = (in_lane("one", "shared"), in_lane("two", "shared"));
    let runs = [world.queue(&one, 'a').await, world.queue(&two, 'b').await, world.queue(&one, 'c').await];
    for run in runs {
        let claim = world.claim().await;
        assert_eq!(claim.run(), run);
        assert_eq!(world.nothing_to_claim().await, None);
        world.store.finish(claim, Outcome::Succeeded, RunFacts::default(), world.now).await.expect("finished");
    }
    assert_eq!(world.nothing_to_claim().await, None);
}

#[tokio::test]
async fn what_is_live_is_disturbed_by_a_run_that_may_have_changed_it_and_not_by_one_that_was_left_out() {
    let world = World::new();
    let hook = all("site");
    let is_disturbed = async || world.store.is_disturbed(&hook.name, None).await.expect("a read");
    let ends = async |commit, outcome| {
        world.queue(&hook, commit).await;
        world.carry_out(outcome).await;
    };
    ends('a', failed(FailureClass::Other)).await;
    assert!(!is_disturbed().await, "nothing is live");
    ends('b', Outcome::Succeeded).await;
    ends('c', Outcome::Stale { reason: "old".into() }).await;
    ends('d', Outcome::Skipped { step: RunStep::Fetch, reason: "no file".into() }).await;
    assert!(!is_disturbed().await);
    ends('e', failed(FailureClass::Other)).await;
    ends('f', Outcome::Stale { reason: "old".into() }).await;
    assert!(is_disturbed().await);
    let main = crate::model::push::RefName::parse("refs/heads/main");
    assert!(world.store.is_disturbed(&hook.name, main.as_ref()).await.expect("a read"));
    ends('b', Outcome::Succeeded).await;
    assert!(!is_disturbed().await);
    // It went live, and its keeper died before anybody knew whether it came up.
    world.queue(&hook, 'a').await;
    let (step, reason) = (Some(RunStep::Activate), "its keeper died".into());
    let facts = RunFacts { live: Some(commit_id('a')), ..RunFacts::default() };
    let claim = world.claim().await;
    world.store.start(&claim, world.now).await.expect("started");
    world.store.finish(claim, Outcome::Interrupted { step, reason }, facts, world.now).await.expect("finished");
    assert_eq!(world.store.live(&hook.name, None).await.expect("a read"), Some(commit_id('a')));
    assert!(is_disturbed().await, "what is live was never found good");
}

#[tokio::test]
async fn the_lane_that_has_waited_longest_comes_first() {
    let world = World::new();
    let runs =
        [world.queue(&all("c"), 'a').await, world.queue(&all("a"), 'b').await, world.queue(&all("b"), 'c').await];
    let claims = [world.claim().await, world.claim().await, world.claim().await];
    assert_eq!(claims.map(|it| it.run()), runs);
}

#[tokio::test]
async fn latest_skips_only_to_a_newer_accepted_push() {
    let world = World::new();
    let hook = latest("site");
    let first = world.queue(&hook, 'a').await;
    let running = world.claim().await;
    let (second, third) = (world.queue(&hook, 'b').await, world.queue(&hook, 'c').await);
    assert_eq!(world.outcome(second).await, Some(Outcome::Superseded { by: third }));
    assert_eq!(running.run(), first, "what is under way goes on");
    world.store.finish(running, Outcome::Succeeded, RunFacts::default(), world.now).await.expect("finished");
    assert_eq!(world.claim().await.run(), third);
}

#[tokio::test]
async fn a_branch_takes_the_place_of_a_branch_alone_and_a_tag_that_of_the_same_tag_alone() {
    let (main, next, v1, v2) = ("refs/heads/main", "refs/heads/next", "refs/tags/v1", "refs/tags/v2");
    let pairs =
        [(main, main, true), (next, main, true), (v1, main, false), (main, v1, false), (v1, v1, true), (v1, v2, false)];
    for (waiting, newer, is_taken) in pairs {
        let world = World::new();
        let older = world.queue_of(waiting, &latest("site"), 'a').await;
        let by = world.queue_of(newer, &latest("site"), 'b').await;
        let taken = is_taken.then_some(Outcome::Superseded { by });
        assert_eq!(world.outcome(older).await, taken, "{newer} after {waiting}");
    }
}

#[tokio::test]
async fn what_is_live_names_the_ref_it_came_from() {
    let world = World::new();
    let hook = latest("site");
    let ref_of_live = async || world.store.ref_of_live(&hook.name, None).await.expect("a read").map(|it| it.full());
    assert_eq!(ref_of_live().await, None);
    for ref_name in ["refs/heads/main", "refs/tags/v1", "refs/heads/main"] {
        world.queue_of(ref_name, &hook, 'a').await;
        world.carry_out(Outcome::Succeeded).await;
        assert_eq!(ref_of_live().await.as_deref(), Some(ref_name));
    }
    let tag = RefName::parse("refs/tags/v1");
    assert_eq!(world.store.ref_of_live(&hook.name, tag.as_ref()).await.expect("a read"), tag);
}

#[tokio::test]
async fn what_a_person_asks_for_takes_nobodys_place_and_gives_its_own_to_a_newer_push() {
    let world = World::new();
    let hook = latest("site");
    let push = world.queue(&hook, 'b').await;
    let asked = world.ask(&hook, 'a').await;
    assert_eq!((world.outcome(push).await, world.outcome(asked).await), (None, None));
    let newer = world.queue(&hook, 'c').await;
    assert_eq!(world.outcome(asked).await, Some(Outcome::Superseded { by: newer }));
}

#[tokio::test]
async fn an_old_claim_is_refused_after_another_took_over() {
    let world = World::new();
    world.queue(&all("site"), 'a').await;
    let old = world.claim().await;
    world.store.start(&old, world.now).await.expect("started");
    let world = world.reopen().await;
    let adopted = world.store.adopt(world.now).await.expect("adopted");
    let [adopted] = <[_; 1]>::try_from(adopted).expect("one run");
    assert!(adopted.started);
    assert!(adopted.claim.fence() > old.fence());
    assert!(matches!(world.store.note_step(&old, RunStep::Run).await, Err(StoreError::Fenced(_))));
    let refused = world.store.finish(old, Outcome::Succeeded, RunFacts::default(), world.now).await;
    assert!(matches!(refused, Err(Kept { error: StoreError::Fenced(_), .. })));
    let run = adopted.claim.run();
    let finished = world.store.finish(adopted.claim, failed(FailureClass::Other), RunFacts::default(), world.now).await;
    finished.expect("finished");
    assert_eq!(world.outcome(run).await, Some(failed(FailureClass::Other)));
}

#[tokio::test]
async fn what_was_claimed_and_never_began_is_queued_again_in_its_place() {
    let world = World::new();
    let hook = all("site");
    let (first, _) = (world.queue(&hook, 'a').await, world.queue(&hook, 'b').await);
    let claim = world.claim().await;
    let given = world.store.give_back(claim, None, world.now).await.expect("given back");
    assert_eq!(given, GivenBack::Waits { not_before: None });
    assert_eq!(world.claim().await.run(), first);
}

#[tokio::test]
async fn what_cannot_be_started_waits_longer_each_time_and_is_given_up_loudly() {
    let mut world = World::new();
    let hook = all("site");
    let (first, behind) = (world.queue(&hook, 'a').await, world.queue(&hook, 'b').await);
    let mut waits = Vec::new();
    let outcome = loop {
        let claim = world.claim().await;
        assert_eq!(claim.run(), first, "it keeps its place");
        match world.store.give_back(claim, Some("the disk is full"), world.now).await.expect("given back") {
            GivenBack::Waits { not_before } => {
                let due = world.nothing_to_claim().await.expect("the lane waits");
                assert_eq!(not_before, Some(due));
                let view = world.store.run(first).await.expect("a read").expect("a run");
                assert!(matches!(view.state, RunState::Queued { trouble: Some(why), .. } if why == "the disk is full"));
                let wait = Duration::try_from(due.duration_since(world.now)).expect("a wait");
                world.pass(wait);
                waits.push(wait.as_secs());
            }
            GivenBack::Ended(outcome) => break outcome,
        }
    };
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128]);
    assert!(
        outcome.reason().is_some_and(|it| it.contains("8 times") && it.contains("the disk is full")),
        "{outcome:?}"
    );
    assert_eq!(world.outcome(first).await, Some(outcome));
    assert_eq!(world.store.letters_of(first).await.expect("a read").len(), 1, "people are told");
    assert_eq!(world.claim().await.run(), behind);
}

#[tokio::test]
async fn what_cannot_be_started_can_still_be_cancelled_and_replaced() {
    let world = World::new();
    let hook = latest("site");
    let first = world.queue(&hook, 'a').await;
    let claim = world.claim().await;
    let newer = world.queue(&hook, 'b').await;
    let given = world.store.give_back(claim, Some("the disk is full"), world.now).await.expect("given back");
    assert_eq!(given, GivenBack::Ended(Outcome::Superseded { by: newer }));
    assert_eq!(world.outcome(first).await, Some(Outcome::Superseded { by: newer }));
    let claim = world.claim().await;
    assert_eq!(world.store.cancel(newer, "by ana", world.now).await.expect("a verb"), Cancelled::Asked);
    let given = world.store.give_back(claim, Some("the disk is full"), world.now).await.expect("given back");
    assert!(matches!(given, GivenBack::Ended(Outcome::Cancelled { .. })), "{given:?}");
}

#[tokio::test]
async fn a_retry_keeps_its_place_and_waits_longer_each_time() {
    let mut world = World::new();
    let hook = all("site");
    let (first, behind) = (world.queue(&hook, 'a').await, world.queue(&hook, 'b').await);
    let (run, retry) = world.carry_out(failed(FailureClass::Tempfail)).await;
    assert_eq!(run, first);
    let retry = retry.expect("a retry");
    let due = world.nothing_to_claim().await.expect("the lane waits for the retry");
    let first_wait = Duration::try_from(due.duration_since(world.now)).expect("a wait");
    assert!((9..=12).contains(&first_wait.as_secs()), "{first_wait:?}");
    world.pass(first_wait);
    let (run, second) = world.carry_out(failed(FailureClass::Tempfail)).await;
    assert_eq!(run, retry);
    let due = world.nothing_to_claim().await.expect("the lane waits again");
    let second_wait = Duration::try_from(due.duration_since(world.now)).expect("a wait");
    assert!((18..=24).contains(&second_wait.as_secs()), "{second_wait:?}");
    world.pass(second_wait);
    let (run, third) = world.carry_out(failed(FailureClass::Tempfail)).await;
    assert_eq!((Some(run), third), (second, None), "twice is enough");
    assert_eq!(world.claim().await.run(), behind);
}

#[tokio::test]
async fn a_newer_push_takes_the_place_of_a_retry() {
    let world = World::new();
    let hook = latest("site");
    world.queue(&hook, 'a').await;
    let (_, retry) = world.carry_out(failed(FailureClass::Tempfail)).await;
    let newer = world.queue(&hook, 'b').await;
    assert_eq!(world.outcome(retry.expect("a retry")).await, Some(Outcome::Superseded { by: newer }));
    assert_eq!(world.claim().await.run(), newer);
}

#[tokio::test]
async fn an_interrupted_run_is_tried_again_only_where_the_hook_says_so() {
    let world = World::new();
    let interrupted = || Outcome::Interrupted { step: Some(RunStep::Run), reason: "its keeper died".into() };
    world.queue(&all("careful"), 'a').await;
    assert_eq!(world.carry_out(interrupted()).await.1, None);
    let retry = Retry { max: 1, on: vec![RetryClass::Interrupted], backoff: Duration::ZERO };
    world.queue(&Arc::new(Hook { retry, queue: QueuePolicy::All, ..hook("bold") }), 'a').await;
    assert!(world.carry_out(interrupted()).await.1.is_some());
}

#[tokio::test]
async fn a_waiting_run_is_cancelled_at_once_and_a_running_one_is_asked_to_stop() {
    let world = World::new();
    let hook = all("site");
    let (running, waiting) = (world.queue(&hook, 'a').await, world.queue(&hook, 'b').await);
    let claim = world.claim().await;
    world.store.start(&claim, world.now).await.expect("started");
    let cancel = async |run| world.store.cancel(run, "wrong branch", world.now).await.expect("a verb");
    assert_eq!(cancel(waiting).await, Cancelled::Ended);
    assert_eq!(cancel(waiting).await, Cancelled::AlreadyFinished);
    assert_eq!(cancel(running).await, Cancelled::Asked);
    assert_eq!(cancel(crate::model::run::RunId(99)).await, Cancelled::Unknown);
    let asked = world.store.stops_asked().await.expect("a read");
    assert_eq!(asked, [(running, Stop::Cancel("wrong branch".to_owned()))]);
    let view = world.store.run(running).await.expect("a read").expect("a run");
    assert!(matches!(view.state, RunState::Running { stop: Some(Stop::Cancel(_)), .. }));
}

#[tokio::test]
async fn nothing_is_claimed_from_a_stopped_lane_until_it_is_opened() {
    let world = World::new();
    let hook = all("site");
    world.queue(&hook, 'a').await;
    let claim = world.claim().await;
    let next = world.queue(&hook, 'b').await;
    world.store.stop_lane(&claim, "something of run 1 goes on", world.now).await.expect("stopped");
    world.store.finish(claim, failed(FailureClass::Other), RunFacts::default(), world.now).await.expect("finished");
    assert_eq!(world.nothing_to_claim().await, None);
    assert_eq!(world.store.lanes_stopped().await.expect("a read")[0].reason, "something of run 1 goes on");
    assert!(world.store.open_lane(&hook.lane).await.expect("opened"));
    assert_eq!(world.claim().await.run(), next);
}

#[tokio::test]
async fn behind_a_stopped_lane_nobody_tries_again_so_people_are_told_at_once() {
    let world = World::new();
    let retry = Retry { max: 1, on: vec![RetryClass::Interrupted], backoff: Duration::ZERO };
    world.queue(&Arc::new(Hook { retry, ..hook("bold") }), 'a').await;
    let claim = world.claim().await;
    let run = claim.run();
    world.store.stop_lane(&claim, "something of run 1 goes on", world.now).await.expect("stopped");
    let interrupted = Outcome::Interrupted { step: None, reason: "its keeper died".into() };
    let finished = world.store.finish(claim, interrupted, RunFacts::default(), world.now).await.expect("finished");
    assert_eq!(finished.retry, None);
    assert_eq!(world.store.letters_of(run).await.expect("a read").len(), 1);
}

#[tokio::test]
async fn live_is_the_last_succeeded_commit() {
    let world = World::new();
    let hook = all("site");
    world.queue(&hook, 'a').await;
    world.carry_out(Outcome::Succeeded).await;
    world.queue(&hook, 'b').await;
    world.carry_out(failed(FailureClass::Other)).await;
    assert_eq!(world.store.live(&hook.name, None).await.expect("a read"), Some(commit_id('a')));
}
