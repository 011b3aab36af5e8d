//! What catching up with a remote promises of the queue.

use std::{sync::Arc, time::Duration};

use super::{World, commit_id, failed, hook};
use crate::{
    model::{
        baseline::{Known, RemoteRef, RemoteRefs},
        hook::{BranchFilter, Hook, Patterns, QueuePolicy},
        job::Trigger,
        push::RefName,
        run::{FailureClass, Outcome, RunId},
    },
    route,
    store::{Accepted, CaughtUp, RemoteLook, RunState},
};

const LOOKED_FOR: &str = "all branches";

fn site(change: impl FnOnce(&mut Hook)) -> Arc<Hook> {
    let mut hook = hook("site");
    hook.on.push = BranchFilter::Matching(Patterns::parse(&["*".to_owned()]).expect("a pattern"));
    change(&mut hook);
    Arc::new(hook)
}

fn main_at(digit: char) -> RemoteRefs {
    let name = RefName::Branch("main".into());
    RemoteRefs { refs: vec![RemoteRef { name, commit: commit_id(digit), tag: None }], default_branch: None }
}

impl World {
    async fn known(&self, hook: &Hook) -> Known {
        self.store.known_refs(&hook.name, &hook.repo, LOOKED_FOR).await.expect("a read")
    }

    /// Takes up what the remote had when this was known.
    async fn take_up(&self, hook: &Arc<Hook>, there: &RemoteRefs, known: &Known) -> Vec<CaughtUp> {
        let route::Comparison { missed, seen, .. } = route::compare(hook, there, known);
        let (name, repo) = (hook.name.clone(), hook.repo.clone());
        let look = RemoteLook { hook: name, repo, looked_for: LOOKED_FOR.into(), seen, missed };
        self.store.catch_up(look, self.now).await.expect("a write")
    }

    /// Looks at a remote whose main is there; gives the run that is queued, if one is.
    async fn look(&self, hook: &Arc<Hook>, digit: char) -> Option<RunId> {
        let done = self.take_up(hook, &main_at(digit), &self.known(hook).await).await;
        match done.as_slice() {
            [] => None,
            [CaughtUp::Queued { run, .. }] => Some(*run),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_first_look_takes_note_and_later_ones_queue_what_has_moved_once() {
    let (world, site) = (World::new(), site(|_| ()));
    assert_eq!(world.look(&site, 'a').await, None);
    assert_eq!(world.look(&site, 'a').await, None);
    let run = world.look(&site, 'b').await.expect("it has moved");
    let view = world.store.run(run).await.expect("a read").expect("a run");
    assert_eq!((view.job.trigger, view.commit), (Trigger::CatchUp, Some(commit_id('b'))));
    assert_eq!(view.job.push.as_ref().and_then(|it| it.before.clone()), Some(commit_id('a')));
    assert_eq!(world.look(&site, 'b').await, None, "it waits");
    world.carry_out(failed(FailureClass::Permanent)).await;
    assert_eq!(world.look(&site, 'b').await, None, "people were told");
    let world = world.reopen().await;
    assert_eq!(world.look(&site, 'b').await, None);
    assert!(world.look(&site, 'a').await.is_some(), "it was forced back");
}

#[tokio::test]
async fn a_look_for_other_refs_begins_anew() {
    let (world, site) = (World::new(), site(|_| ()));
    world.look(&site, 'a').await;
    let known = world.store.known_refs(&site.name, &site.repo, "other ones").await.expect("a read");
    assert_eq!(known.seen, None);
    assert!(world.known(&site).await.seen.is_some());
}

#[tokio::test]
async fn a_push_that_turned_out_to_be_stale_is_not_the_newest() {
    let (world, site) = (World::new(), site(|_| ()));
    world.look(&site, 'a').await;
    let run = world.look(&site, 'b').await.expect("queued");
    world.carry_out(Outcome::Succeeded).await;
    world.look(&site, 'c').await.expect("queued");
    let main = RefName::Branch("main".into());
    let undecided = world.known(&site).await.accepted[&main].clone();
    assert_eq!((undecided.commit, undecided.else_at), (commit_id('c'), vec![commit_id('b')]), "while it waits");
    assert_eq!(world.look(&site, 'b').await, None, "it may turn out to be stale");
    world.carry_out(Outcome::Stale { reason: "older".into() }).await;
    let known = world.known(&site).await.accepted[&main].clone();
    assert_eq!((known.commit, known.run), (commit_id('b'), run));
}

#[tokio::test]
async fn what_was_overtaken_while_the_remote_answered_is_not_queued() {
    let (world, site) = (World::new(), site(|_| ()));
    world.look(&site, 'a').await;
    let known = world.known(&site).await;
    let newer = world.look(&site, 'b').await.expect("queued");
    let done = world.take_up(&site, &main_at('c'), &known).await;
    assert!(matches!(done.as_slice(), [CaughtUp::Overtaken { .. }]), "{done:?}");
    assert_eq!(world.claim().await.run(), newer);
    world.nothing_to_claim().await;
}

#[tokio::test]
async fn a_delivery_that_comes_late_is_the_push_that_was_caught_up_with_until_another_one_came() {
    let (world, site) = (World::new(), site(|it| it.queue = QueuePolicy::All));
    world.look(&site, 'a').await;
    let run = world.look(&site, 'b').await.expect("queued");
    let late = world.deliver("late", "late", &site, 'b').await;
    assert_eq!((late.accepted, late.runs[0].0), (Accepted::Duplicate, run), "{late:?}");
    world.queue(&site, 'c').await;
    // A redelivery of the late one is still that, and another delivery of that commit is a push of its own.
    let again = world.deliver("late", "late", &site, 'b').await;
    assert_eq!((again.accepted, again.runs[0].0), (Accepted::Duplicate, run), "{again:?}");
    assert_eq!(world.deliver("other", "other", &site, 'b').await.accepted, Accepted::Queued);
}

#[tokio::test]
async fn a_delivery_of_what_was_caught_up_with_in_vain_is_queued() {
    let (world, site) = (World::new(), site(|_| ()));
    world.look(&site, 'a').await;
    let run = world.look(&site, 'b').await.expect("queued");
    world.carry_out(failed(FailureClass::Permanent)).await;
    let late = world.deliver("late", "late", &site, 'b').await;
    assert_eq!(late.accepted, Accepted::Queued);
    assert_ne!(late.runs[0].0, run);
}

#[tokio::test]
async fn what_is_caught_up_with_takes_the_place_of_what_waits_as_a_push_does() {
    let (world, site) = (World::new(), site(|it| it.queue = QueuePolicy::Latest));
    world.look(&site, 'a').await;
    let older = world.look(&site, 'b').await.expect("queued");
    let newer = world.look(&site, 'c').await.expect("queued");
    assert_eq!(world.outcome(older).await, Some(Outcome::Superseded { by: newer }));
    // In vain: what it displaced waits again.
    world.carry_out(Outcome::Stale { reason: "older".into() }).await;
    let back = world.claim().await;
    assert_eq!(back.job().target.commit(), Some(&commit_id('b')));
}

#[tokio::test]
async fn what_retention_takes_away_was_noted_before() {
    let (mut world, site) = (World::new(), site(|it| it.notify.clear()));
    world.look(&site, 'a').await;
    world.look(&site, 'b').await.expect("queued");
    world.carry_out(failed(FailureClass::Permanent)).await;
    for digit in ['1', '2', '3'] {
        world.queue_of("refs/heads/other", &site, digit).await;
        world.carry_out(Outcome::Succeeded).await;
    }
    world.store.note_accepted().await.expect("noted");
    world.pass(Duration::from_secs(400 * 24 * 3600));
    while world.store.prune(1, None, world.now).await.expect("pruned").more {}
    assert!(matches!(world.store.run(RunId(1)).await, Ok(None)), "it is gone");
    assert_eq!(world.look(&site, 'b').await, None);
    assert!(world.look(&site, 'c').await.is_some());
    let waiting = world.store.run(world.claim().await.run()).await.expect("a read").expect("a run");
    assert!(!matches!(waiting.state, RunState::Finished { .. }));
}

#[tokio::test]
async fn what_is_caught_up_with_waits_its_turn_from_when_it_was_found() {
    let (mut world, site) = (World::new(), site(|_| ()));
    world.look(&site, 'a').await;
    world.pass(Duration::from_secs(7200));
    let found = world.look(&site, 'b').await.expect("queued");
    // A point of priority is worth a minute of waiting.
    let mut urgent = hook("urgent");
    urgent.priority = 1;
    let urgent = world.queue(&Arc::new(urgent), 'c').await;
    assert_eq!([world.claim().await.run(), world.claim().await.run()], [urgent, found]);
}

#[tokio::test]
async fn a_run_that_cannot_be_read_keeps_nobody_from_catching_up() {
    for damage in [
        "UPDATE job SET job = CAST(x'7b22ff22' AS TEXT) WHERE run = ?1",
        "DELETE FROM job WHERE run = ?1",
        "UPDATE run SET outcome = CAST(x'22ff22' AS TEXT) WHERE run = ?1",
    ] {
        let (world, site) = (World::new(), site(|_| ()));
        world.look(&site, 'a').await;
        let run = world.look(&site, 'b').await.expect("queued");
        world.carry_out(Outcome::Succeeded).await;
        let world = world.damaged(damage, run).await;
        assert!(world.look(&site, 'c').await.is_some(), "{damage}");
    }
}
