//! How an act is asked of the store.

use std::time::Duration;

use landfall::{
    model::{
        name::{HookName, LaneName},
        run::{RunFacts, RunId},
    },
    store::{Claim, Claimed, LetterTurn, Receipt as Stored, StoreError},
};

use super::{Stage, hands::right};
use crate::{
    acts::{Act, Answer, Delivery, Handed, Receipt, Right},
    cast::commit_id,
    engine::{calm, crash_at, refuse_at},
    model::{CANCEL_REASON, POST_TROUBLE, STOP_REASON, TROUBLE, fields},
    verbs::{Deed, Fate, Posting},
};

impl Stage<'_> {
    /// Asks it of the store, whose commit goes as it is to go.
    pub(super) async fn carry_out(&mut self, act: &Act, fate: Fate) -> Answer {
        let (before, after) = (self.engine.before_commit, self.engine.after_commit);
        match fate {
            Fate::Good => (),
            Fate::Refused => refuse_at(before),
            Fate::CrashBefore => crash_at(before),
            Fate::CrashAfter => crash_at(after),
        }
        let answer = self.ask(act).await.unwrap_or_else(|error| refusal(&error));
        calm(before);
        calm(after);
        answer
    }

    async fn ask(&mut self, act: &Act) -> Result<Answer, StoreError> {
        let (store, now) = (self.store.clone(), self.now);
        Ok(match act {
            Act::Receive(deliveries) => Answer::Received(self.receive(deliveries).await),
            Act::Ask(ticket) => Answer::Queued(store.enqueue(ticket.as_ref().clone(), now).await?.0),
            Act::Claim => match store.claim(now).await? {
                Claimed::NothingUntil(due) => Answer::Idle(due),
                Claimed::Run(claim) => {
                    let right = right(&claim);
                    self.hands.keep_claim(claim, false);
                    Answer::Claimed(right)
                }
            },
            Act::Adopt => {
                let mut adopted = Vec::new();
                for it in store.adopt(now).await? {
                    adopted.push((right(&it.claim), it.started));
                    self.hands.keep_claim(it.claim, false);
                }
                Answer::Adopted(adopted)
            }
            Act::TellTime => done(store.tell_time(now).await?),
            Act::Open => Answer::Done,
            Act::Deed { right, deed, .. } => self.ask_with_claim(right, *deed).await?,
            Act::Cancel(run) => Answer::Cancelled(store.cancel(RunId(*run), CANCEL_REASON, now).await?),
            Act::OpenLane(lane) => Answer::Was(store.open_lane(&LaneName::parse(lane).expect("a lane")).await?),
            Act::Hold(hold) => done(store.hold(hold.clone()).await?),
            Act::Resume(hook) => Answer::Was(store.resume(hook.as_ref()).await?),
            Act::Forgive(hook, commit) => Answer::Was(store.forgive(hook, commit).await?),
            Act::NextLetter => match store.next_letter(now).await? {
                LetterTurn::NothingUntil(due) => Answer::NoLetter(due),
                LetterTurn::Letter(claim) => {
                    let letter = claim.letter();
                    let handed = Handed { letter: letter.id.0, run: letter.run.0, attempts: letter.attempts };
                    self.hands.keep_letter(claim);
                    Answer::Letter(handed)
                }
            },
            Act::Post { letter, attempts, posting } => self.post(*letter, *attempts, *posting).await?,
        })
    }

    /// Those of one act come at the same time, so that they may share a commit.
    async fn receive(&self, deliveries: &[Delivery]) -> Vec<Answer> {
        let accept = |delivery: &Delivery| {
            let (store, arrival, now) = (self.store.clone(), delivery.arrival(), self.now);
            tokio::spawn(async move { store.accept(arrival, now).await })
        };
        let coming: Vec<_> = deliveries.iter().map(accept).collect();
        let mut answers = Vec::new();
        for it in coming {
            let answer = it.await.expect("a task that ends");
            answers.push(answer.map_or_else(|error| refusal(&error), |stored| Answer::Receipt(receipt(stored))));
        }
        answers
    }

    async fn ask_with_claim(&mut self, right: &Right, deed: Deed) -> Result<Answer, StoreError> {
        let (claim, is_void) = self.hands.take_claim(right).expect("a claim that is held");
        let (store, now) = (&self.store, self.now);
        let asked = match deed {
            Deed::Start => keeping(store.start(&claim, now).await, claim),
            Deed::NoteStep(step) => keeping(store.note_step(&claim, step).await, claim),
            Deed::StopLane => keeping(store.stop_lane(&claim, STOP_REASON, now).await, claim),
            Deed::Finish(end) => {
                let commit = claim.job().target.commit().cloned().unwrap_or_else(|| commit_id(2));
                let facts = RunFacts { commit: Some(commit), fields: fields(), live: None };
                let finished = store.finish(claim, end.outcome(), facts, now).await;
                match finished {
                    Ok(finished) => (Ok(Answer::Finished(finished.retry.map(|it| it.0))), None),
                    Err(kept) => (Err(kept.error), Some(kept.claim)),
                }
            }
            Deed::GiveBack(in_vain) => match store.give_back(claim, in_vain.then_some(TROUBLE), now).await {
                Ok(given) => (Ok(Answer::GivenBack(given)), None),
                Err(kept) => (Err(kept.error), Some(kept.claim)),
            },
        };
        if let Some(claim) = asked.1 {
            self.hands.keep_claim(claim, is_void);
        }
        asked.0
    }

    async fn post(&mut self, letter: i64, attempts: u32, posting: Posting) -> Result<Answer, StoreError> {
        let claim = self.hands.take_letter(letter, attempts).expect("a letter that is held");
        let (store, now) = (&self.store, self.now);
        let posted = match posting {
            Posting::Sent => store.sent(claim, now).await,
            Posting::TryLater(seconds) => {
                store.try_later(claim, Duration::from_secs(seconds.into()), POST_TROUBLE, now).await
            }
            Posting::GiveUp => store.give_up(claim, POST_TROUBLE, now).await,
        };
        posted.map(done).map_err(|kept| {
            self.hands.keep_letter(kept.claim);
            kept.error
        })
    }
}

/// A deed that leaves the claim with its holder.
fn keeping(asked: Result<(), StoreError>, claim: Claim) -> (Result<Answer, StoreError>, Option<Claim>) {
    (asked.map(done), Some(claim))
}

fn done((): ()) -> Answer {
    Answer::Done
}

fn refusal(error: &StoreError) -> Answer {
    match error {
        StoreError::Fenced(_) => Answer::Fenced,
        StoreError::Started(_) => Answer::Started,
        StoreError::Unavailable(_) | StoreError::Corrupt(_) | StoreError::Damaged(_) | StoreError::Closed => {
            Answer::Lost(error.to_string())
        }
    }
}

fn receipt(stored: Stored) -> Receipt {
    let word = stored.accepted.word().to_owned();
    let runs = stored.runs.iter().map(|(run, _): &(RunId, HookName)| run.0).collect();
    Receipt { delivery: stored.delivery.0, word, runs, message: stored.message }
}
