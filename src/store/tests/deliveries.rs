//! What the store promises about deliveries.

use std::time::Duration;

use super::{World, all, arrival, failed, latest, ticket, ticket_of};
use crate::{
    forge::DedupeKey,
    model::{
        push::RepoName,
        run::{FailureClass, Outcome},
    },
    store::{Accepted, Arrival, DeliveryFilter, Repository, Verdict},
};

#[tokio::test]
async fn the_same_delivery_never_starts_a_second_run() {
    let world = World::new();
    let hook = all("site");
    let first = world.deliver("id-1", "body", &hook, 'a').await;
    assert_eq!(first.accepted, Accepted::Queued);
    for (id, body) in [("id-1", "body"), ("id-2", "body")] {
        let again = world.deliver(id, body, &hook, 'a').await;
        assert_eq!((again.accepted, &again.runs), (Accepted::Duplicate, &first.runs), "{id} {body}");
    }
    let world = world.reopen().await;
    assert_eq!(world.deliver("id-1", "body", &hook, 'a').await.accepted, Accepted::Duplicate, "after a restart");
    assert_eq!(world.deliver("id-3", "new body", &hook, 'b').await.accepted, Accepted::Queued);
}

#[tokio::test]
async fn a_delivery_to_two_hooks_makes_one_run_of_each() {
    let world = World::new();
    let (one, two) = (all("one"), all("two"));
    let tickets = vec![ticket(&one, 'a'), ticket(&two, 'a')];
    let verdict = Verdict::Queue { tickets, refused: Vec::new() };
    let receipt = world.store.accept(arrival("id", "body", verdict), world.now).await.expect("accepted");
    assert_eq!(receipt.runs.len(), 2);
}

#[tokio::test]
async fn a_redelivery_of_what_ended_badly_queues_it_again_and_of_what_went_well_does_not() {
    let world = World::new();
    let hook = all("site");
    world.deliver("id-1", "body", &hook, 'a').await;
    world.carry_out(failed(FailureClass::Other)).await;
    let again = world.deliver("id-1", "body", &hook, 'a').await;
    assert_eq!(again.accepted, Accepted::Queued);
    assert_eq!(world.deliver("id-1", "body", &hook, 'a').await.accepted, Accepted::Duplicate, "it waits now");
    world.carry_out(Outcome::Succeeded).await;
    assert_eq!(world.deliver("id-1", "body", &hook, 'a').await.accepted, Accepted::Duplicate);
}

#[tokio::test]
async fn an_id_that_is_not_signed_makes_no_other_body_a_duplicate() {
    let world = World::new();
    let hook = all("site");
    let (first, body) = (world.deliver("id-1", "body", &hook, 'a').await, "another body");
    let second = world.deliver("id-1", body, &hook, 'b').await;
    assert_eq!(second.accepted, Accepted::Queued);
    assert_ne!(first.runs, second.runs);
}

#[tokio::test]
async fn of_one_delivery_come_four_runs_at_most_and_then_the_command_is_named() {
    let world = World::new();
    let hook = all("site");
    let mut last = 0;
    for number in 0..4 {
        let receipt = world.deliver(&format!("id-{number}"), "body", &hook, 'a').await;
        assert_eq!(receipt.accepted, Accepted::Queued, "{number}");
        last = receipt.runs[0].0.0;
        world.carry_out(failed(FailureClass::Other)).await;
    }
    let fifth = world.deliver("id-5", "body", &hook, 'a').await;
    assert_eq!((fifth.accepted, fifth.runs[0].0.0), (Accepted::Duplicate, last));
    assert!(fifth.message.contains(&format!("`landfall retry {last}` runs it once more")), "{}", fifth.message);
    assert_eq!(world.nothing_to_claim().await, None);
    assert_eq!(world.deliver("id-6", "body 6", &hook, 'b').await.accepted, Accepted::Queued, "another push");
}

#[tokio::test]
async fn a_body_without_an_id_is_new_if_the_ref_was_pushed_to_in_between() {
    let world = World::new();
    let hook = all("site");
    let deliver = async |body: &str, ref_name: &str| {
        let verdict = Verdict::Queue { tickets: vec![ticket_of(ref_name, &hook, 'a')], refused: Vec::new() };
        let mut arrival = arrival("id", body, verdict);
        let Some(DedupeKey::Body(hash)) = arrival.dedupe.first() else { panic!("no body") };
        arrival.dedupe = vec![DedupeKey::BodyWithin(*hash, Duration::from_secs(3600))];
        world.store.accept(arrival, world.now).await.expect("accepted").accepted
    };
    let (main, next) = ("refs/heads/main", "refs/heads/next");
    assert_eq!(deliver("A to B", main).await, Accepted::Queued);
    assert_eq!(deliver("A to B of next", next).await, Accepted::Queued);
    assert_eq!(deliver("A to B", main).await, Accepted::Duplicate, "only another ref was pushed to");
    assert_eq!(deliver("B to A", main).await, Accepted::Queued);
    assert_eq!(deliver("A to B", main).await, Accepted::Queued, "a third push");
    assert_eq!(deliver("A to B", main).await, Accepted::Duplicate);
}

#[tokio::test]
async fn a_repository_is_known_by_its_number_when_its_name_has_changed_and_that_is_news_once() {
    let world = World::new();
    let hook = all("site");
    let of = |number, name: &str, is_named| {
        let name = RepoName::parse(name).expect("a name");
        Some(Repository { number, name, is_named })
    };
    let receive = async |id: &str, repository, verdict| {
        let arrival = Arrival { repository, ..arrival(id, id, verdict) };
        world.store.accept(arrival, world.now).await.expect("accepted")
    };
    let queue = || Verdict::Queue { tickets: vec![ticket(&hook, 'a')], refused: Vec::new() };
    let aside = || Verdict::Aside { result: "ignored", message: "it is another repository".into() };
    let new_name = async || {
        let summary = world.store.hook_summary(&hook.name).await.expect("a read");
        summary.renamed_to.map(|it| it.to_string())
    };
    receive("id-1", of(7, "acme/site", true), queue()).await;
    let other = receive("id-2", of(8, "acme/other", false), aside()).await;
    assert_eq!((other.renamed.len(), new_name().await), (0, None));
    assert_eq!(other.message, "it is another repository");
    for (id, news) in [("id-3", 1), ("id-4", 0)] {
        let receipt = receive(id, of(7, "acme/new", false), aside()).await;
        assert_eq!(receipt.renamed.len(), news, "{id}");
        assert!(receipt.message.ends_with("of `site` under a new name: write `acme/new` in hooks.yaml"));
        assert_eq!(new_name().await.as_deref(), Some("acme/new"));
    }
    receive("id-5", of(7, "acme/new", true), queue()).await;
    assert_eq!(new_name().await, None, "hooks.yaml has it now");
}

#[tokio::test]
async fn a_redelivery_takes_no_place_of_a_newer_push_and_waits_for_none() {
    let world = World::new();
    let hook = latest("site");
    world.deliver("id-1", "old", &hook, 'a').await;
    world.carry_out(failed(FailureClass::Other)).await;
    let newer = world.deliver("id-2", "new", &hook, 'b').await.runs[0].0;
    let again = world.deliver("id-1", "old", &hook, 'a').await;
    assert_eq!((again.accepted, again.runs[0].0), (Accepted::Duplicate, newer));
    assert!(again.message.contains("is of a newer push and takes its place"), "{}", again.message);
    assert_eq!(world.carry_out(Outcome::Succeeded).await.0, newer);
    let again = world.deliver("id-1", "old", &hook, 'a').await;
    assert_eq!(again.accepted, Accepted::Queued, "nothing newer waits or runs");
    let asked = world.ask(&hook, 'c').await;
    assert_eq!(world.outcome(asked).await, None);
}

#[tokio::test]
async fn what_starts_nothing_is_stored_with_its_reason_and_its_body() {
    let world = World::new();
    let verdict = Verdict::Aside { result: "ignored", message: "branch `dev` is not in [main]".into() };
    let receipt = world.store.accept(arrival("id", "the body", verdict), world.now).await.expect("accepted");
    assert_eq!(receipt.accepted, Accepted::Aside("ignored"));
    let filter = DeliveryFilter { path: None, before: None, limit: 10 };
    let deliveries = world.store.deliveries(filter).await.expect("a read");
    assert_eq!(deliveries.len(), 1);
    assert_eq!(
        (deliveries[0].result.as_str(), deliveries[0].message.as_str()),
        ("ignored", "branch `dev` is not in [main]")
    );
    assert_eq!(world.store.payload(receipt.delivery).await.expect("a read"), Some(b"the body".to_vec()));
}

#[tokio::test]
async fn the_newest_delivery_is_found_by_the_id_its_sender_gave_it_whatever_became_of_it() {
    let world = World::new();
    let hook = all("site");
    let found = async |id: &str| world.store.delivery_by_id(id).await.expect("a read").map(|it| it.id);
    let queued = world.deliver("id-1", "body", &hook, 'a').await;
    assert_eq!(found("id-1").await, Some(queued.delivery));
    let duplicate = world.deliver("id-1", "body", &hook, 'a').await;
    assert_eq!(found("id-1").await, Some(duplicate.delivery), "a duplicate");
    world.carry_out(failed(FailureClass::Other)).await;
    let again = world.deliver("id-1", "body", &hook, 'a').await;
    assert_eq!((again.accepted, found("id-1").await), (Accepted::Queued, Some(again.delivery)), "queued again");
    let verdict = Verdict::Aside { result: "ignored", message: "branch `dev` is not in [main]".into() };
    let ignored = world.store.accept(arrival("id-2", "another", verdict), world.now).await.expect("accepted");
    assert_eq!(found("id-2").await, Some(ignored.delivery), "one that queued nothing");
    assert_eq!(found("id-3").await, None);
}

#[tokio::test]
async fn many_deliveries_at_once_are_all_stored_in_the_order_of_their_numbers() {
    let world = World::new();
    let hook = latest("site");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (store, hook, now) = (world.store.clone(), hook.clone(), world.now);
        tasks.spawn(async move {
            let verdict = Verdict::Queue { tickets: vec![ticket(&hook, 'a')], refused: Vec::new() };
            let id = format!("id-{number}");
            store.accept(arrival(&id, &format!("body {number}"), verdict), now).await.expect("accepted").runs[0].0
        });
    }
    let mut runs = tasks.join_all().await;
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 200);
    assert_eq!(world.claim().await.run(), runs[199], "all but the newest are superseded");
    for run in &runs[..199] {
        assert!(matches!(world.outcome(*run).await, Some(Outcome::Superseded { by }) if by > *run));
    }
}
