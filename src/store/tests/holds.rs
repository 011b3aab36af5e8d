//! What the store promises about holds, and about commits that did not come up.

use std::time::Duration;

use super::{World, all, commit_id, failed, in_lane, latest};
use crate::{
    model::{
        job::Target,
        release::ReleaseName,
        run::{Failure, FailureClass, Outcome, RunStep},
    },
    store::{Accepted, Hold, RunState, Verdict},
};

fn hold_of(world: &World, hook: Option<&str>, span: Option<Duration>) -> Hold {
    Hold {
        hook: hook.map(|it| crate::model::name::HookName::parse(it).expect("a name")),
        reason: "a migration".into(),
        author: "ana".into(),
        since: world.now,
        until: span.map(|it| world.now.saturating_add(it).expect("a time")),
    }
}

fn rolled_back() -> Outcome {
    let (exit_code, class, reason) = (None, FailureClass::Other, "GET / answered 502".into());
    Outcome::RolledBack(Failure { step: RunStep::Health, exit_code, class, reason })
}

#[tokio::test]
async fn jobs_of_a_hook_on_hold_wait_and_coalesce_and_others_of_its_lane_go_on() {
    let world = World::new();
    world.store.hold(hold_of(&world, Some("site"), None)).await.expect("held");
    let hook = latest("site");
    let (first, second) = (world.queue(&hook, 'a').await, world.queue(&hook, 'b').await);
    assert_eq!(world.outcome(first).await, Some(Outcome::Superseded { by: second }));
    let neighbour = world.queue(&in_lane("other", "site"), 'c').await;
    assert_eq!(world.claim().await.run(), neighbour);
    let view = world.store.run(second).await.expect("a read").expect("a run");
    assert_eq!(view.state, RunState::Queued { not_before: None, hold: Some("a migration".into()), trouble: None });
    let world = world.reopen().await;
    for adopted in world.store.adopt(world.now).await.expect("adopted") {
        world.store.give_back(adopted.claim, None, world.now).await.expect("released");
    }
    assert_eq!(world.claim().await.run(), neighbour, "the hold outlives a restart");
    assert!(world.store.resume(Some(&hook.name)).await.expect("resumed"));
    assert!(!world.store.resume(Some(&hook.name)).await.expect("resumed"), "it was not held any more");
}

#[tokio::test]
async fn a_hold_ends_by_itself_when_its_time_is_over() {
    let mut world = World::new();
    let run = world.queue(&all("site"), 'a').await;
    for hook in [Some("site"), None] {
        let hold = hold_of(&world, hook, Some(Duration::from_secs(60)));
        let until = hold.until;
        world.store.hold(hold).await.expect("held");
        assert_eq!(world.nothing_to_claim().await, until);
        world.pass(Duration::from_secs(60));
        let claim = world.claim().await;
        assert_eq!(claim.run(), run);
        world.store.give_back(claim, None, world.now).await.expect("released");
        assert_eq!(world.store.holds().await.expect("a read"), []);
    }
}

#[tokio::test]
async fn while_everything_is_on_hold_nothing_is_claimed() {
    let world = World::new();
    let run = world.queue(&all("site"), 'a').await;
    world.store.hold(hold_of(&world, None, None)).await.expect("held");
    assert_eq!(world.nothing_to_claim().await, None);
    assert!(world.store.resume(None).await.expect("resumed"));
    assert_eq!(world.claim().await.run(), run);
}

#[tokio::test]
async fn a_commit_that_did_not_come_up_is_not_queued_again_until_a_person_allows_it() {
    let world = World::new();
    let hook = all("site");
    world.deliver("id-1", "body 1", &hook, 'a').await;
    world.carry_out(rolled_back()).await;
    for (id, body) in [("id-1", "body 1"), ("id-2", "body 2")] {
        let receipt = world.deliver(id, body, &hook, 'a').await;
        assert_eq!(receipt.accepted, Accepted::Aside("held"), "{id}");
        assert!(receipt.message.contains("did not come up in run 1"), "{}", receipt.message);
    }
    assert_eq!(world.deliver("id-3", "body 3", &hook, 'b').await.accepted, Accepted::Queued, "the fix ships");
    assert_eq!(world.store.hook_summary(&hook.name).await.expect("a read").bad_commits.len(), 1);
    assert!(world.store.forgive(&hook.name, &commit_id('a')).await.expect("allowed"));
    assert_eq!(world.deliver("id-4", "body 4", &hook, 'a').await.accepted, Accepted::Queued);
}

#[tokio::test]
async fn the_commit_of_a_release_that_was_gone_back_to_in_vain_is_not_held() {
    let world = World::new();
    let hook = all("site");
    let name = ReleaseName::parse("x-r1").expect("a name");
    let target = Target::Release { name, commit: Some(commit_id('a')), reason: None };
    world.store.enqueue(crate::route::back(&hook, target, "ana"), world.now).await.expect("queued");
    world.carry_out(rolled_back()).await;
    assert_eq!(world.deliver("id-1", "body 1", &hook, 'a').await.accepted, Accepted::Queued);
}

#[tokio::test]
async fn a_commit_that_failed_before_it_went_live_is_not_held() {
    let world = World::new();
    let hook = all("site");
    world.deliver("id-1", "body 1", &hook, 'a').await;
    world.carry_out(failed(FailureClass::Other)).await;
    assert_eq!(world.deliver("id-1", "body 1", &hook, 'a').await.accepted, Accepted::Queued);
}

#[tokio::test]
async fn of_one_delivery_every_hook_that_runs_nothing_has_its_reason_stored() {
    let world = World::new();
    let (held, taken, fresh) = (all("held"), all("taken"), all("fresh"));
    world.deliver("id-1", "body 1", &held, 'a').await;
    world.carry_out(rolled_back()).await;
    world.deliver("id-2", "body 2", &taken, 'a').await;
    let refused = vec![(all("other").name.clone(), "branch `dev` is not in [main]".to_owned())];
    let tickets = |hooks: &[&std::sync::Arc<crate::model::hook::Hook>]| {
        let tickets = hooks.iter().map(|it| super::ticket(it, 'a')).collect();
        Verdict::Queue { tickets, refused: refused.clone() }
    };
    let some = super::arrival("id-2", "body 2", tickets(&[&held, &taken, &fresh]));
    let receipt = world.store.accept(some, world.now).await.expect("accepted");
    assert_eq!((receipt.accepted, receipt.runs.len()), (Accepted::Queued, 1));
    for part in ["queued for `fresh`", "`held`: commit aaaaaaa is on hold", "`taken`: it took", "`other`: branch"] {
        assert!(receipt.message.contains(part), "{part}: {}", receipt.message);
    }
    let none = super::arrival("id-3", "body 3", tickets(&[&held]));
    let receipt = world.store.accept(none, world.now).await.expect("accepted");
    assert_eq!(receipt.accepted, Accepted::Aside("held"));
    assert!(receipt.message.contains("on hold") && receipt.message.contains("`other`: branch"), "{}", receipt.message);
}
