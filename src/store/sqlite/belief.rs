//! Whether the clock of the machine is believed about what is old.
//!
//! A clock that jumps a year ahead makes every log a year old, and one look of retention would remove them all. So a
//! clock that is further from where it was last than daemons have run since is believed only after they have run for a
//! day more: somebody will have put it right by then, or it is right.
//!
//! Invariant: how long daemons have run is measured by a clock that nobody sets, and outlives restarts.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::store::{
    StoreError,
    history::Belief,
    sqlite::rows::{millis, time},
};

/// A jump of less is an ordinary pause; and so long a clock is watched.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Judges the time; `ran`: how long the daemon has run since it asked last.
pub(in crate::store) fn judge(tx: &Connection, now: Timestamp, ran: Duration) -> Result<Belief, StoreError> {
    let mut statement = tx.prepare_cached("SELECT believed_at, ran FROM retention")?;
    let (believed_at, ran_before): (i64, i64) = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let ran = Duration::from_millis(ran_before.unsigned_abs()).saturating_add(ran);
    let distance = Duration::from_millis(millis(now).abs_diff(believed_at));
    // Of a store that is new nothing can be lost.
    let is_believed = believed_at == 0 || ran >= DAY || distance <= DAY.saturating_add(ran);
    let (believed_at, ran) = if is_believed { (millis(now), Duration::ZERO) } else { (believed_at, ran) };
    let mut note = tx.prepare_cached("UPDATE retention SET believed_at = ?1, ran = ?2")?;
    note.execute(params![believed_at, i64::try_from(ran.as_millis()).unwrap_or(i64::MAX)])?;
    Ok(match is_believed {
        true => Belief::Believed,
        false => Belief::NotYet { last: time(believed_at)?, left: DAY.saturating_sub(ran) },
    })
}
