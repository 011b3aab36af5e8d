//! The clock of the machine, as the store sees it. Where it was set back, what waits is moved back with it.
//!
//! Waits are stored as the time at which they end, so a clock that is set back by a year would make each a year longer.
//! The store knows the latest time that it was told: since the last start in a table that is in memory alone, so that a
//! look costs no write, and from before it in `queue_clock`. An earlier time means that the clock was set back, and
//! every wait is shortened by as much as lies between. A jump forward only ends waits early.
//!
//! Invariant: after [`turn`] no wait ends later than it would have without the jump, as far as the store was told the
//! time before it. Whatever it was told, no wait is longer than it was when it began.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use tracing::warn;

use crate::store::{StoreError, sqlite::rows::millis};

/// Verbs that were asked for at the same moment may come in another order, and no jump lies between those. A clock that is
/// set back by less is noticed once it was set back by more in all.
const SLACK_MILLIS: i64 = 2000;

/// The table that is in memory, for a connection that writes.
pub(super) const IN_MEMORY: &str =
    "CREATE TEMP TABLE clock_seen (at INTEGER NOT NULL) STRICT; INSERT INTO clock_seen VALUES (0);";

/// Everything that waits for a time, or is ranked by one. What a letter is due at is 0 where that is at once.
const MOVES: [&str; 6] = [
    "UPDATE pending SET not_before = not_before - ?1, since = since - ?1, rank = rank - ?1",
    "UPDATE active SET since = since - ?1, rank = rank - ?1",
    "UPDATE lane SET ready_at = ready_at - ?1, ready_rank = ready_rank - ?1 WHERE ready_run IS NOT NULL",
    "UPDATE hook SET began_at = began_at - ?1 WHERE began_at IS NOT NULL",
    "UPDATE hold SET since = since - ?1, until = until - ?1",
    "UPDATE letter SET due_at = max(due_at - ?1, 1) WHERE due_at > 0",
];

/// Takes note of the time, where something is written anyway.
pub(super) fn turn(tx: &Connection, now: Timestamp) -> Result<(), StoreError> {
    notice(tx, now)?;
    tx.prepare_cached("UPDATE queue_clock SET at = ?1 WHERE at < ?1")?.execute([millis(now)])?;
    Ok(())
}

/// The same for a look, which writes nothing unless the clock was set back.
pub(super) fn look(tx: &Connection, now: Timestamp) -> Result<(), StoreError> {
    notice(tx, now)?;
    tx.prepare_cached("UPDATE temp.clock_seen SET at = ?1 WHERE at < ?1")?.execute([millis(now)])?;
    Ok(())
}

/// Moves what waits where the clock was set back.
fn notice(tx: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let mut latest = tx.prepare_cached("SELECT max((SELECT at FROM queue_clock), (SELECT at FROM temp.clock_seen))")?;
    let latest: i64 = latest.query_row([], |row| row.get(0))?;
    let back = latest.saturating_sub(millis(now));
    if back < SLACK_MILLIS {
        return Ok(());
    }
    for moves in MOVES {
        tx.execute(moves, [back])?;
    }
    for clock in ["queue_clock", "temp.clock_seen"] {
        tx.execute(&format!("UPDATE {clock} SET at = ?1"), [millis(now)])?;
    }
    warn!(
        "the clock of this machine was set back by {} s: what waits for a time waits no longer for that",
        back / 1000
    );
    Ok(())
}

/// The time by which jobs are ranked. Those of one moment keep their order although a clock was set back a little.
pub(super) fn ranking(tx: &Connection) -> Result<i64, StoreError> {
    let at = tx.prepare_cached("SELECT at FROM queue_clock")?.query_row([], |row| row.get(0)).optional()?;
    Ok(at.unwrap_or(0))
}
