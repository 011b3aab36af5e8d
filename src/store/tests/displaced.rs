//! The laws of places taken in vain.

use std::sync::Arc;

use super::{World, commit_id, failed, hook, latest};
use crate::{
    model::{
        hook::{Hook, QueuePolicy},
        run::{Failure, FailureClass, Outcome, RunFacts, RunId, RunStep},
    },
    store::{Cancelled, Claim, GivenBack},
};

fn stale() -> Outcome {
    Outcome::Stale { reason: "it is older than what is live".into() }
}

fn failed_at(step: RunStep) -> Failure {
    Failure { step, exit_code: None, class: FailureClass::Permanent, reason: "the commit is gone".into() }
}

async fn end(world: &World, claim: Claim, outcome: Outcome) {
    world.store.finish(claim, outcome, RunFacts::default(), world.now).await.expect("finished");
}

/// The run that waits in the stead of `lost`, which is claimed.
async fn waits_again(world: &World, lost: RunId) -> Claim {
    let claim = world.claim().await;
    assert_eq!((claim.job().retry_of, claim.job().attempt), (Some(lost), 1), "run {} is not of {lost}", claim.run());
    claim
}

#[tokio::test]
async fn whose_place_a_stale_push_took_waits_again_unless_a_newer_one_does() {
    let stale = || Outcome::Stale { reason: "it is older than what is live".into() };
    let world = World::new();
    let hook = latest("site");
    let [newest, late, later] =
        [world.queue(&hook, 'c').await, world.queue(&hook, 'a').await, world.queue(&hook, 'b').await];
    assert_eq!(world.outcome(newest).await, Some(Outcome::Superseded { by: late }));
    assert_eq!(world.outcome(late).await, Some(Outcome::Superseded { by: later }));
    // What it took the place of is stale as well, and had taken the place of the newest.
    assert_eq!(world.carry_out(stale()).await.0, later);
    let (late_again, _) = world.carry_out(stale()).await;
    let (newest_again, _) = world.carry_out(Outcome::Succeeded).await;
    for (run, repeated) in [(late_again, late), (newest_again, newest)] {
        let view = world.store.run(run).await.expect("a read").expect("a run");
        assert_eq!((view.job.retry_of, view.job.attempt), (Some(repeated), 1));
    }
    assert_eq!(world.store.live(&hook.name, None).await.expect("a read"), Some(commit_id('c')));
    let again = world.deliver("push 0", "the body of push 0", &hook, 'c').await;
    assert_eq!(again.runs[0].0, newest_again, "it is known by what stands for it now");

    let lost = world.queue(&hook, 'd').await;
    let taker = world.queue(&hook, 'a').await;
    let claim = world.claim().await;
    let newer = world.queue(&hook, 'e').await;
    world.store.start(&claim, world.now).await.expect("started");
    assert_eq!(claim.run(), taker);
    world.store.finish(claim, stale(), RunFacts::default(), world.now).await.expect("finished");
    assert_eq!(world.carry_out(Outcome::Succeeded).await.0, newer);
    assert_eq!(world.nothing_to_claim().await, None, "run {lost} is not wanted any more");
}

#[tokio::test]
async fn whose_place_was_taken_waits_again_however_the_taker_ended_before_it_staged_anything() {
    let cancelled = |step| Outcome::Cancelled { step, reason: "wrong".into() };
    let interrupted = |step| Outcome::Interrupted { step, reason: "its keeper died".into() };
    let in_vain = [
        stale(),
        Outcome::Failed(failed_at(RunStep::Lock)),
        Outcome::Failed(failed_at(RunStep::Preflight)),
        Outcome::Failed(failed_at(RunStep::Fetch)),
        Outcome::TimedOut(failed_at(RunStep::Fetch)),
        Outcome::Skipped { step: RunStep::Fetch, reason: "no file of it is wanted".into() },
        cancelled(None),
        cancelled(Some(RunStep::Fetch)),
        interrupted(None),
        interrupted(Some(RunStep::Fetch)),
    ];
    for outcome in in_vain {
        let world = World::new();
        let newest = world.queue(&latest("site"), 'c').await;
        let taker = world.queue(&latest("site"), 'a').await;
        assert_eq!(world.outcome(newest).await, Some(Outcome::Superseded { by: taker }));
        world.carry_out(outcome).await;
        let claim = waits_again(&world, newest).await;
        assert_eq!(claim.job().target.commit(), Some(&commit_id('c')));
    }
    let staged = [
        failed(FailureClass::Other),
        Outcome::Failed(failed_at(RunStep::Stage)),
        Outcome::Skipped { step: RunStep::Run, reason: "nothing to do".into() },
        cancelled(Some(RunStep::Stage)),
        Outcome::Succeeded,
    ];
    for outcome in staged {
        let world = World::new();
        world.queue(&latest("site"), 'c').await;
        world.queue(&latest("site"), 'a').await;
        world.carry_out(outcome).await;
        assert_eq!(world.nothing_to_claim().await, None);
    }
}

#[tokio::test]
async fn of_a_run_that_ended_at_a_step_that_nobody_knows_the_steps_noted_before_decide() {
    for (step, is_back) in [(RunStep::Fetch, true), (RunStep::Finally, true), (RunStep::Stage, false)] {
        let world = World::new();
        let newest = world.queue(&latest("site"), 'c').await;
        world.queue(&latest("site"), 'a').await;
        let claim = world.claim().await;
        world.store.start(&claim, world.now).await.expect("started");
        for step in [step, RunStep::Finally] {
            world.store.note_step(&claim, step).await.expect("noted");
        }
        end(&world, claim, Outcome::Interrupted { step: Some(RunStep::Finally), reason: "its keeper died".into() })
            .await;
        match is_back {
            true => drop(waits_again(&world, newest).await),
            false => assert_eq!(world.nothing_to_claim().await, None),
        }
    }
}

#[tokio::test]
async fn whose_place_was_taken_waits_again_when_the_taker_is_cancelled_while_it_waits_or_is_given_up() {
    let mut world = World::new();
    let newest = world.queue(&latest("site"), 'c').await;
    let taker = world.queue(&latest("site"), 'a').await;
    assert_eq!(world.store.cancel(taker, "wrong", world.now).await.expect("cancelled"), Cancelled::Ended);
    let claim = waits_again(&world, newest).await;
    end(&world, claim, Outcome::Succeeded).await;

    let newest = world.queue(&latest("site"), 'd').await;
    let taker = world.queue(&latest("site"), 'a').await;
    loop {
        let claim = world.claim().await;
        assert_eq!(claim.run(), taker);
        match world.store.give_back(claim, Some("there is no room"), world.now).await.expect("given back") {
            GivenBack::Waits { not_before } => world.now = not_before.expect("a time"),
            GivenBack::Ended(Outcome::Failed(_)) => break,
            GivenBack::Ended(other) => panic!("{other:?}"),
        }
    }
    drop(waits_again(&world, newest).await);
}

#[tokio::test]
async fn whose_place_was_taken_waits_until_the_last_retry_of_the_taker_has_ended() {
    let mut world = World::new();
    let newest = world.queue(&latest("site"), 'c').await;
    world.queue(&latest("site"), 'a').await;
    let unreachable = || Outcome::Failed(Failure { class: FailureClass::Tempfail, ..failed_at(RunStep::Fetch) });
    for _ in 0..2 {
        assert!(world.carry_out(unreachable()).await.1.is_some());
        world.now = world.nothing_to_claim().await.expect("the wait of the retry");
    }
    assert_eq!(world.carry_out(unreachable()).await.1, None);
    drop(waits_again(&world, newest).await);
}

#[tokio::test]
async fn whose_place_was_taken_in_vain_waits_again_when_a_newer_run_that_stood_in_for_it_was_in_vain_too() {
    let world = World::new();
    let first = world.queue(&latest("site"), 'c').await;
    world.queue(&latest("site"), 'a').await;
    let claim = world.claim().await;
    let newer = world.queue(&latest("site"), 'b').await;
    end(&world, claim, stale()).await;
    let view = world.store.run(newer).await.expect("a read").expect("a run");
    assert_eq!(view.supersedes, [first], "the newer one stands in its place");
    assert_eq!(world.carry_out(Outcome::Failed(failed_at(RunStep::Fetch))).await.0, newer);
    drop(waits_again(&world, first).await);
}

#[tokio::test]
async fn a_run_that_was_stopped_for_a_newer_push_runs_again_when_that_was_in_vain() {
    let hook = Arc::new(Hook { queue: QueuePolicy::Cancel, ..hook("site") });
    for is_cancelled_first in [false, true] {
        let world = World::new();
        let stopped = world.queue(&hook, 'c').await;
        let claim = world.claim().await;
        world.store.start(&claim, world.now).await.expect("started");
        world.store.note_step(&claim, RunStep::Run).await.expect("noted");
        let newer = world.queue(&hook, 'a').await;
        if is_cancelled_first {
            assert_eq!(world.store.cancel(newer, "wrong", world.now).await.expect("a verb"), Cancelled::Ended);
        }
        end(&world, claim, Outcome::Cancelled { step: Some(RunStep::Run), reason: "made room".into() }).await;
        assert_eq!(world.outcome(stopped).await, Some(Outcome::Superseded { by: newer }));
        if !is_cancelled_first {
            world.carry_out(Outcome::Failed(failed_at(RunStep::Fetch))).await;
        }
        drop(waits_again(&world, stopped).await);
    }
}
