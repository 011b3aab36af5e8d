//! What the store promises about letters.

use std::time::Duration;

use super::{World, all, failed};
use crate::{
    model::{
        letter::Occasion,
        run::{FailureClass, Outcome, RunFacts, RunId},
    },
    store::{LetterState, LetterTurn},
};

async fn occasions(world: &World, run: RunId) -> Vec<Occasion> {
    world.store.letters_of(run).await.expect("a read").iter().map(|it| it.occasion).collect()
}

#[tokio::test]
async fn people_are_told_of_a_failure_and_of_the_recovery_once() {
    let world = World::new();
    let hook = all("site");
    let mut told = Vec::new();
    for outcome in [Outcome::Succeeded, failed(FailureClass::Other), Outcome::Succeeded, Outcome::Succeeded] {
        let run = world.queue(&hook, 'a').await;
        world.carry_out(outcome).await;
        told.push(occasions(&world, run).await[1]);
    }
    assert_eq!(told, [Occasion::Success, Occasion::Failure, Occasion::Recovery, Occasion::Success]);
}

#[tokio::test]
async fn people_are_told_after_the_last_retry_only() {
    let mut world = World::new();
    let hook = all("site");
    let first = world.queue(&hook, 'a').await;
    let (_, retry) = world.carry_out(failed(FailureClass::Tempfail)).await;
    assert_eq!(occasions(&world, first).await, [Occasion::Start]);
    world.pass(Duration::from_secs(60));
    world.carry_out(Outcome::Succeeded).await;
    let told = occasions(&world, retry.expect("a retry")).await;
    assert!(told.contains(&Occasion::Success), "{told:?}");
}

#[tokio::test]
async fn a_letter_leaves_the_outbox_only_when_it_was_sent_or_given_up() {
    let mut world = World::new();
    let hook = all("site");
    let run = world.queue(&hook, 'a').await;
    let claim = world.claim().await;
    world.store.finish(claim, Outcome::Succeeded, RunFacts::default(), world.now).await.expect("finished");
    let letter = world.letter().await;
    let id = letter.letter().id;
    world.pass(Duration::from_secs(1));
    let later = world.now.saturating_add(Duration::from_secs(30)).expect("a time");
    world.store.try_later(letter, Duration::from_secs(30), "421 try later", world.now).await.expect("put back");
    let LetterTurn::NothingUntil(due) = world.store.next_letter(world.now).await.expect("a turn") else {
        panic!("nothing is due yet");
    };
    assert_eq!(due, Some(later));
    let mut world = world.reopen().await;
    world.pass(Duration::from_secs(31));
    let letter = world.letter().await;
    let tried = (letter.letter().id, letter.letter().attempts, letter.letter().refusals);
    assert_eq!(tried, (id, 1, 1), "the same letter, tried before");
    world.store.sent(letter, world.now).await.expect("noted");
    let letters = world.store.letters_of(run).await.expect("a read");
    assert_eq!(letters[0].state, LetterState::Sent { at: world.now });
}

#[tokio::test]
async fn a_letter_that_was_being_sent_when_the_daemon_was_killed_is_due_at_the_next_start() {
    let world = World::new();
    let run = world.queue(&all("site"), 'a').await;
    let claim = world.claim().await;
    world.store.finish(claim, Outcome::Succeeded, RunFacts::default(), world.now).await.expect("finished");
    let in_hand = world.letter().await;
    let id = in_hand.letter().id;
    drop(in_hand);
    let world = world.reopen().await;
    let again = world.letter().await;
    assert_eq!((again.letter().id, again.letter().run), (id, run), "the same letter, so the same Message-ID");
    assert_eq!((again.letter().attempts, again.letter().refusals), (1, 0), "nobody has refused it");
}
