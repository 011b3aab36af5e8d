//! Tells people: takes letters out of the store and brings them to e-mail and Slack.
//!
//! Invariant: nothing here delays or changes a run, and a letter is never dropped without a word in the log.

pub mod story;

pub mod wording;

pub mod page;

pub mod blocks;

pub mod email;

pub mod slack;

mod gather;

mod patience;

pub mod foreign;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::{self, JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    hooks::{Environment, Hooks},
    model::{
        letter::{Address, Letter, LetterId},
        secret::SecretRef,
    },
    notify::story::Story,
    store::{Kept, LetterClaim, LetterTurn, Store, StoreError},
};

/// Letters under way at once: a mail server that takes connections and says nothing should not hold up Slack.
const AT_ONCE: usize = 32;

/// The loop looks at least this often, should a bell be lost.
const POLL: Duration = Duration::from_secs(30);

/// The wait after the store refused something.
const AFTER_TROUBLE: Duration = Duration::from_secs(2);

/// Letters under way at a stop get this long; the others wait in the outbox for the next start.
const LAST_LETTERS: Duration = Duration::from_secs(5);

/// What a person should do about a letter that is given up; the run's number follows.
const REMEDY: &str = "mend `notify`, `smtp` or what they point to, and see what was not told by `landfall show";

/// What sending needs to know of the house.
#[derive(Clone)]
pub struct Desk {
    /// What survives a restart.
    pub store: Store,
    /// The hooks of now: accounts, and secrets that are written in hooks.yaml.
    pub hooks: watch::Receiver<Arc<Hooks>>,
    /// Where secrets are found.
    pub environment: Arc<Environment>,
    /// The state folder.
    pub state: PathBuf,
}

/// Sends letters until `stop`.
pub async fn serve(desk: Desk, stop: CancellationToken) {
    let (mut under_way, mut in_hand) = (JoinSet::new(), HashMap::new());
    while !stop.is_cancelled() {
        // Listen before looking: a letter written in between must ring this bell.
        let mut bell = pin!(desk.store.letter_bell());
        bell.as_mut().enable();
        let mut nap = POLL;
        if under_way.len() < AT_ONCE {
            match desk.store.next_letter(Timestamp::now()).await {
                Ok(LetterTurn::Letter(letter)) => {
                    let id = letter.letter().id;
                    in_hand.insert(under_way.spawn(deliver(desk.clone(), letter)).id(), id);
                    continue;
                }
                Ok(LetterTurn::NothingUntil(due)) => nap = due.map_or(POLL, |due| until(due).min(POLL)),
                Err(err) => {
                    error!("cannot look for letters: {err}");
                    nap = AFTER_TROUBLE;
                }
            }
        }
        tokio::select! {
            () = bell => (),
            Some(ended) = under_way.join_next_with_id() => note_end(&desk, &mut in_hand, ended).await,
            () = sleep(nap) => (),
            () = stop.cancelled() => (),
        }
    }
    let all_sent = async {
        while let Some(ended) = under_way.join_next_with_id().await {
            note_end(&desk, &mut in_hand, ended).await;
        }
    };
    if timeout(LAST_LETTERS, all_sent).await.is_err() {
        under_way.shutdown().await;
    }
}

fn until(due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

/// Whoever had a letter has ended. One that did so without a word left it in hand.
async fn note_end(desk: &Desk, in_hand: &mut HashMap<task::Id, LetterId>, ended: Result<(task::Id, ()), JoinError>) {
    let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
    let (Some(letter), Err(err)) = (in_hand.remove(&id), ended) else { return };
    error!("storing what became of letter {letter} panicked, it is sent again: {err}");
    if let Err(err) = desk.store.owe_again(letter).await {
        error!("letter {letter} is sent again after the next start only: {err}");
    }
}

/// Brings one letter to its address, and stores what became of it.
async fn deliver(desk: Desk, claim: LetterClaim) {
    let letter = claim.letter().clone();
    let (id, run) = (letter.id, letter.run);
    let name = format!("letter {id} about run {run} ({} by {})", letter.occasion.word(), letter.address);
    match answer_or_panic(&desk, &letter).await {
        Answer::Taken => {
            info!(run.id = %run, "{name} was sent");
            insist(claim, |claim| desk.store.sent(claim, Timestamp::now())).await;
        }
        Answer::Never { why } => {
            error!(run.id = %run, "{name} is given up: {why}; {REMEDY} {run}`");
            insist(claim, |claim| desk.store.give_up(claim, &why, Timestamp::now())).await;
        }
        Answer::Later { why, wait } => match patience::wait_after(letter.refusals) {
            None => {
                error!(run.id = %run, "{name} is given up after {} tries: {why}; {REMEDY} {run}`", letter.refusals + 1);
                insist(claim, |claim| desk.store.give_up(claim, &why, Timestamp::now())).await;
            }
            Some(own) => {
                let wait = wait.map_or(own, |asked| asked.max(own));
                warn!(run.id = %run, "{name} could not be sent and is tried again in {} s: {why}", wait.as_secs());
                insist(claim, |claim| desk.store.try_later(claim, wait, &why, Timestamp::now())).await;
            }
        },
    }
}

/// Writes the letter and sends it, in a task of its own: a letter that makes us panic would do so again each time.
async fn answer_or_panic(desk: &Desk, letter: &Letter) -> Answer {
    let mut writing = JoinSet::new();
    let (desk, letter) = (desk.clone(), letter.clone());
    writing.spawn(async move { answer(&desk, &letter).await });
    match writing.join_next().await {
        Some(Ok(answer)) => answer,
        Some(Err(err)) if err.is_panic() => Answer::Never { why: format!("writing or sending it panicked: {err}") },
        Some(Err(_)) | None => Answer::Later { why: "sending it was broken off".into(), wait: None },
    }
}

/// Writes the letter and sends it.
async fn answer(desk: &Desk, letter: &Letter) -> Answer {
    fail::fail_point!("notify-before-writing");
    let hooks = desk.hooks.borrow().clone();
    let story = match gather::story(&desk.store, &hooks, &desk.state, letter).await {
        Ok(Some(story)) => story,
        Ok(None) => return Answer::Never { why: "its run is no longer known".into() },
        Err(StoreError::Damaged(why)) => return Answer::Never { why },
        Err(err) => return Answer::Later { why: err.to_string(), wait: None },
    };
    let secret = |place: &SecretRef| hooks.secret(place, &desk.environment);
    match &letter.address {
        Address::Email { to } => mail(&hooks, desk, &story, to).await,
        Address::Slack { webhook } => match secret(webhook) {
            Ok(url) => slack::send(blocks::slack_json(&story), &url, Timestamp::now()).await,
            Err(err) => Answer::Later { why: err.to_string(), wait: None },
        },
    }
}

async fn mail(hooks: &Hooks, desk: &Desk, story: &Story, to: &str) -> Answer {
    let Some(smtp) = &hooks.smtp else {
        return Answer::Later { why: "hooks.yaml has no `smtp` any more".into(), wait: None };
    };
    let password = match smtp.password.as_ref().map(|it| hooks.secret(it, &desk.environment)).transpose() {
        Ok(password) => password,
        Err(err) => return Answer::Later { why: format!("the password of `smtp`: {err}"), wait: None },
    };
    match email::write(story, &smtp.from, to, Timestamp::now()) {
        Ok(mail) => email::send(&mail, smtp, password.as_ref()).await,
        Err(why) => Answer::Never { why },
    }
}

/// Stores what became of a letter, however long the store cannot commit: a letter that was sent must not be again.
async fn insist<F>(mut claim: LetterClaim, mut verb: impl FnMut(LetterClaim) -> F)
where
    F: Future<Output = Result<(), Kept<LetterClaim>>>,
{
    loop {
        match verb(claim).await {
            Ok(()) => return,
            Err(Kept { error: StoreError::Closed, .. }) => return,
            Err(kept) => {
                error!("cannot store what became of a letter, will try again: {}", kept.error);
                claim = kept.claim;
            }
        }
        sleep(AFTER_TROUBLE).await;
    }
}

/// What the far side made of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has the letter.
    Taken,
    /// Not now.
    Later {
        /// Why, in one sentence without a full stop.
        why: String,
        /// How long it asks to be left alone, if it does.
        wait: Option<Duration>,
    },
    /// Never.
    Never {
        /// Why, in one sentence without a full stop.
        why: String,
    },
}
