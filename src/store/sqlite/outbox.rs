//! The outbox: letters that are owed, in hand, sent or given up.
//!
//! Invariant: a letter is written in the transaction that gives cause for it, and stays due until somebody says that
//! it was sent or will never be. While it is in a sender's hands no other gets it, however long
//! that takes and whatever the clock says: it comes back by that sender, or with the next start.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    journal,
    model::{
        letter::{Letter, LetterId, Notification, Occasion, addresses_owed},
        run::RunId,
    },
    store::{
        StoreError,
        history::{LetterState, LetterView},
        sqlite::rows::{known, millis, time},
    },
};

/// The letter that may be sent next: new ones first, so that a dead mail server does not hold up the others.
pub(super) const NEXT_DUE: &str =
    "SELECT letter, due_at FROM letter WHERE due_at IS NOT NULL AND taken = 0 ORDER BY due_at, letter LIMIT 1";

/// What a look at the outbox gave.
pub(in crate::store) enum Turn {
    Letter(Letter),
    NothingUntil(Option<Timestamp>),
}

/// Owes a letter to everybody who wants to hear of this.
pub(super) fn owe(tx: &Connection, run: RunId, notify: &[Notification], occasion: Occasion) -> Result<(), StoreError> {
    let mut statement =
        tx.prepare_cached("INSERT INTO letter (run, occasion, address, due_at) VALUES (?1, ?2, ?3, 0)")?;
    for address in addresses_owed(notify, occasion) {
        statement.execute(params![run.0, occasion.word(), journal::letter::encode_address(&address)])?;
    }
    Ok(())
}

/// At the start nobody is sending: what was in hand is due.
pub(super) fn take_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE letter SET taken = 0, due_at = 0 WHERE taken = 1", []).map(|_| ())
}

/// Hands out the next letter. One that cannot be read is given up on the way.
pub(in crate::store) fn next(tx: &Connection, now: Timestamp) -> Result<Turn, StoreError> {
    loop {
        let mut statement = tx.prepare_cached(NEXT_DUE)?;
        let first: Option<(i64, i64)> = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let letter = match first {
            Some((letter, due_at)) if due_at <= millis(now) => letter,
            Some((_, due_at)) => return Ok(Turn::NothingUntil(Some(time(due_at)?))),
            None => return Ok(Turn::NothingUntil(None)),
        };
        match take(tx, letter) {
            Ok(letter) => return Ok(Turn::Letter(letter)),
            Err(StoreError::Damaged(why)) => end(tx, LetterId(letter), End::GivenUp(&why), now)?,
            Err(error) => return Err(error),
        }
    }
}

fn take(tx: &Connection, letter: i64) -> Result<Letter, StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE letter SET taken = 1, attempts = attempts + 1 WHERE letter = ?1
         RETURNING run, occasion, address, attempts - 1, refusals",
    )?;
    let (run, occasion, address, attempts, refusals): (i64, String, String, u32, u32) =
        statement.query_row([letter], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    Ok(Letter {
        id: LetterId(letter),
        run: RunId(run),
        occasion: known("occasion", &occasion, Occasion::parse(&occasion))?,
        address: journal::letter::decode_address(&address)?,
        attempts,
        refusals,
    })
}

/// Its sender came to nothing: it is due.
pub(in crate::store) fn owe_again(tx: &Connection, letter: LetterId) -> Result<(), StoreError> {
    tx.execute("UPDATE letter SET taken = 0, due_at = 0 WHERE letter = ?1 AND taken = 1", [letter.0])?;
    Ok(())
}

/// How it ends with a letter.
pub(in crate::store) enum End<'a> {
    Sent,
    GivenUp(&'a str),
}

/// Nothing more is to be done about the letter. That it was sent is true whoever says it, however late.
pub(in crate::store) fn end(tx: &Connection, letter: LetterId, end: End, now: Timestamp) -> Result<(), StoreError> {
    let (sent_at, given_up_at, why) = match end {
        End::Sent => (Some(millis(now)), None, None),
        End::GivenUp(why) => (None, Some(millis(now)), Some(why)),
    };
    let mut statement = tx.prepare_cached(
        "UPDATE letter SET due_at = NULL, taken = 0, sent_at = ?2, given_up_at = ?3, why = coalesce(?4, why)
         WHERE letter = ?1 AND due_at IS NOT NULL",
    )?;
    statement.execute(params![letter.0, sent_at, given_up_at, why])?;
    Ok(())
}

/// The letter waits for so long, unless another sender has taken it since.
pub(in crate::store) fn try_later(
    tx: &Connection,
    letter: &Letter,
    wait: Duration,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    let mut statement = tx.prepare_cached(
        "UPDATE letter SET due_at = ?3, taken = 0, why = ?4, refusals = refusals + 1
         WHERE letter = ?1 AND attempts = ?2 + 1 AND due_at IS NOT NULL",
    )?;
    statement.execute(params![letter.id.0, letter.attempts, millis(at), why])?;
    Ok(())
}

/// The letters about a run, in the order of writing.
pub(in crate::store) fn letters_of(tx: &Connection, run: RunId) -> Result<Vec<LetterView>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT letter, occasion, address, attempts, due_at, sent_at, given_up_at, why
         FROM letter WHERE run = ?1 ORDER BY letter",
    )?;
    let mut rows = statement.query([run.0])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let (occasion, address): (String, String) = (row.get(1)?, row.get(2)?);
        letters.push(LetterView {
            id: LetterId(row.get(0)?),
            occasion: known("occasion", &occasion, Occasion::parse(&occasion))?,
            address: journal::letter::decode_address(&address)?,
            attempts: row.get(3)?,
            state: letter_state(row)?,
        });
    }
    Ok(letters)
}

fn letter_state(row: &rusqlite::Row) -> Result<LetterState, StoreError> {
    let (due, sent, given_up): (Option<i64>, Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?, row.get(6)?);
    let why: Option<String> = row.get(7)?;
    Ok(match (due, sent, given_up) {
        (_, Some(at), _) => LetterState::Sent { at: time(at)? },
        (_, _, Some(at)) => LetterState::GivenUp { at: time(at)?, why: why.unwrap_or_default() },
        (due, None, None) => LetterState::Owed { due: due.filter(|it| *it > 0).map(time).transpose()?, why },
    })
}
