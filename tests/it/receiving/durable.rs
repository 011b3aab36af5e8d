//! What is acknowledged is on disk, once.

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use landfall::store::{RunState, Store};

use crate::world::{
    forge::{GITHUB_PUSH, GITLAB_TAG, github, github_push, gitlab},
    reception::World,
};

#[tokio::test]
async fn what_was_answered_with_202_is_there_after_a_restart() {
    let mut world = World::open().await;
    let answer = github("push", "1", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!(answer.status, 202);
    world.stopped().await;
    world.store.close().await;
    let reopened = Store::open(&world.state()).expect("a store");
    let run = world.runs_of(&reopened).await.remove(0);
    assert_eq!(vec![run.id.0], answer.runs());
    assert!(matches!(run.state, RunState::Queued { .. }));
    reopened.close().await;
}

#[tokio::test]
async fn what_cannot_be_committed_is_answered_with_503_and_a_time() {
    let world = World::open().await;
    world.store.close().await;
    let answer = github("push", "1", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!(answer.verdict(), (503, "unavailable".into()));
    assert!(answer.header("retry-after").is_some());
    let ignored = github("issues", "2", b"{}").send(world.address).await;
    assert_eq!(ignored.verdict(), (503, "unavailable".into()));
}

#[tokio::test]
async fn the_same_delivery_never_starts_a_second_run() {
    let world = World::open().await;
    let first = github("push", "guid-1", GITHUB_PUSH.as_bytes());
    let run = first.send(world.address).await.runs();
    let again = first.send(world.address).await;
    assert_eq!((again.verdict(), again.runs()), ((200, "duplicate".into()), run.clone()));
    let same_body = github("push", "guid-2", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!((same_body.verdict(), same_body.runs()), ((200, "duplicate".into()), run));
    let other = github("push", "guid-3", &github_push(3)).send(world.address).await;
    assert_eq!(other.verdict(), (202, "queued".into()));
    assert_eq!(world.runs().await.len(), 2);
}

#[tokio::test]
async fn gitlabs_equal_bodies_are_different_deliveries_if_their_keys_differ() {
    let world = World::open().await;
    let of = |key: Option<&str>| gitlab("Tag Push Hook", key, GITLAB_TAG.as_bytes());
    for (key, expect) in [(Some("a"), 202), (Some("b"), 202), (Some("a"), 200), (None, 202), (None, 200)] {
        assert_eq!(of(key).send(world.address).await.status, expect, "{key:?}");
    }
    assert_eq!(world.runs().await.len(), 3);
}

#[tokio::test]
async fn twenty_pushes_at_once_are_twenty_runs() {
    let world = World::open().await;
    let mut senders = JoinSet::new();
    for number in 0..20 {
        let (address, request) = (world.address, github("push", &format!("guid-{number}"), &github_push(number)));
        senders.spawn(async move { request.send(address).await });
    }
    let answers = senders.join_all().await;
    let mut runs: Vec<i64> = answers.iter().flat_map(|it| it.runs()).collect();
    assert!(answers.iter().all(|it| it.status == 202), "{answers:?}");
    runs.sort_unstable();
    runs.dedup();
    assert_eq!((runs.len(), world.runs().await.len(), world.deliveries().await.len()), (20, 20, 20));
}

#[tokio::test]
async fn one_delivery_sent_twenty_times_at_once_is_one_run() {
    let world = World::open().await;
    let mut senders = JoinSet::new();
    for _ in 0..20 {
        let (address, request) = (world.address, github("push", "guid-1", GITHUB_PUSH.as_bytes()));
        senders.spawn(async move { request.send(address).await });
    }
    let mut words: Vec<_> = senders.join_all().await.iter().map(|it| it.verdict().1).collect();
    words.sort();
    assert_eq!(words.iter().filter(|it| *it == "queued").count(), 1, "{words:?}");
    assert_eq!((words.len(), world.runs().await.len()), (20, 1));
}

#[tokio::test]
async fn a_sender_that_hangs_up_after_its_body_has_delivered() {
    let world = World::open().await;
    for number in 0..10 {
        let bytes = github("push", &format!("guid-{number}"), &github_push(number)).bytes();
        let mut stream = TcpStream::connect(world.address).await.expect("a connection");
        stream.write_all(&bytes).await.expect("a written request");
        drop(stream);
    }
    assert_eq!(world.until_deliveries(10).await.len(), 10);
    assert_eq!(world.runs().await.len(), 10);
}
