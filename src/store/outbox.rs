//! The verbs of those who send letters.
//!
//! Invariant: a letter leaves the outbox only when it was sent or given up.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    model::letter::LetterId,
    store::{
        Kept, LetterClaim, LetterTurn, Store, StoreError,
        bells::Rings,
        sqlite::outbox::{self, End, Turn},
    },
};

impl Store {
    /// Takes the letter that is due first.
    pub async fn next_letter(&self, now: Timestamp) -> Result<LetterTurn, StoreError> {
        Ok(match self.engine.look_at(now, move |tx| outbox::next(tx, now)).await? {
            Turn::Letter(letter) => LetterTurn::Letter(LetterClaim { letter }),
            Turn::NothingUntil(due) => LetterTurn::NothingUntil(due),
        })
    }

    /// The far side has it.
    pub async fn sent(&self, claim: LetterClaim, now: Timestamp) -> Result<(), Kept<LetterClaim>> {
        let id = claim.letter.id;
        let done = self.engine.write_at(Rings::NONE, now, move |tx| outbox::end(tx, id, End::Sent, now)).await;
        done.map_err(|error| Kept { claim, error })
    }

    /// It could not be sent now, and is due again after this time.
    pub async fn try_later(
        &self,
        claim: LetterClaim,
        wait: Duration,
        why: &str,
        now: Timestamp,
    ) -> Result<(), Kept<LetterClaim>> {
        let (letter, why) = (claim.letter.clone(), why.to_owned());
        let done = self.engine.write_at(Rings::LETTERS, now, move |tx| outbox::try_later(tx, &letter, wait, &why, now));
        let done = done.await;
        done.map_err(|error| Kept { claim, error })
    }

    /// Whoever had it came to nothing: it is due.
    pub async fn owe_again(&self, letter: LetterId) -> Result<(), StoreError> {
        self.engine.write(Rings::LETTERS, move |tx| outbox::owe_again(tx, letter)).await
    }

    /// It will never be sent.
    pub async fn give_up(&self, claim: LetterClaim, why: &str, now: Timestamp) -> Result<(), Kept<LetterClaim>> {
        let (id, why) = (claim.letter.id, why.to_owned());
        let done = self.engine.write_at(Rings::NONE, now, move |tx| outbox::end(tx, id, End::GivenUp(&why), now)).await;
        done.map_err(|error| Kept { claim, error })
    }
}
