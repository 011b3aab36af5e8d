//! Lanes: the head that claim looks at, the fence, and the stop.
//!
//! Invariant: `ready_run` is the first of the line whose hook is not on hold, if it may be claimed, else NULL. Whoever
//! changes `pending`, `active`, `hold` or `stopped` of a lane, or `began_at` of a hook, calls [`set_head`] before the
//! transaction ends.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    model::name::LaneName,
    store::{
        StoreError,
        claims::Right,
        history::StoppedLane,
        sqlite::rows::{lane_name, millis, time},
    },
};

/// A place at the end of the line, made if the lane is new.
pub(super) fn next_place(tx: &Connection, lane: &LaneName) -> Result<(i64, i64), StoreError> {
    let mut find = tx.prepare_cached("SELECT lane, next_seq FROM lane WHERE name = ?1")?;
    let known = find.query_row([lane.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((lane, seq)) = known else {
        let lane = tx.prepare_cached("INSERT INTO lane (name, next_seq) VALUES (?1, 2)")?.insert([lane.as_str()])?;
        return Ok((lane, 1));
    };
    tx.prepare_cached("UPDATE lane SET next_seq = next_seq + 1 WHERE lane = ?1")?.execute([lane])?;
    Ok((lane, seq))
}

const SET_HEAD: &str = "UPDATE lane SET (ready_run, ready_at, ready_rank) = (
        SELECT p.run,
               nullif(max(coalesce(p.not_before, 0), iif(p.interval > 0, coalesce(h.began_at, 0) + p.interval, 0)), 0),
               (SELECT min(q.rank) FROM pending q
                WHERE q.lane = lane.lane AND NOT EXISTS (SELECT 1 FROM hold WHERE hold.hook = q.hook))
        FROM pending p JOIN hook h ON h.hook = p.hook
        WHERE p.lane = lane.lane AND lane.stopped IS NULL
          AND NOT EXISTS (SELECT 1 FROM active a WHERE a.lane = lane.lane)
          AND NOT EXISTS (SELECT 1 FROM hold WHERE hold.hook = p.hook)
        ORDER BY p.seq LIMIT 1)
    WHERE lane.lane = ?1";

/// Finds the head anew.
pub(super) fn set_head(tx: &Connection, lane: i64) -> Result<(), StoreError> {
    fail::fail_point!("lane-from-its-end", |_| {
        let backwards = SET_HEAD.replace("p.seq LIMIT", "p.seq DESC LIMIT");
        Ok(tx.execute(&backwards, [lane]).map(drop)?)
    });
    tx.prepare_cached(SET_HEAD)?.execute([lane])?;
    Ok(())
}

/// Finds the heads anew of all lanes in which a hook has a waiting job.
pub(super) fn set_heads_of(tx: &Connection, hook: i64) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("SELECT DISTINCT lane FROM pending WHERE hook = ?1")?;
    let lanes = statement.query_map([hook], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    lanes.into_iter().try_for_each(|lane| set_head(tx, lane))
}

/// Raises the fence, so that every earlier right to the lane is void.
pub(super) fn raise_fence(tx: &Connection, lane: i64) -> Result<i64, StoreError> {
    fail::fail_point!("lane-fence-stays", |_| {
        Ok(tx.query_row("SELECT fence FROM lane WHERE lane = ?1", [lane], |row| row.get(0))?)
    });
    let mut statement = tx.prepare_cached("UPDATE lane SET fence = fence + 1 WHERE lane = ?1 RETURNING fence")?;
    Ok(statement.query_row([lane], |row| row.get(0))?)
}

/// Claims nothing more from the lane of a run, until [`open`].
pub(in crate::store) fn stop(tx: &Connection, right: Right, reason: &str, now: Timestamp) -> Result<(), StoreError> {
    let find = "SELECT lane FROM active WHERE run = ?1 AND fence = ?2";
    let lane = tx.query_row(find, params![right.run.0, right.fence], |row| row.get::<_, i64>(0)).optional()?;
    let lane = lane.ok_or(StoreError::Fenced(right.run))?;
    tx.execute(
        "UPDATE lane SET stopped = ?2, stopped_at = coalesce(stopped_at, ?3) WHERE lane = ?1",
        params![lane, reason, millis(now)],
    )?;
    set_head(tx, lane)
}

/// Whether nothing is claimed from the lane.
pub(super) fn is_stopped(tx: &Connection, lane: i64) -> Result<bool, StoreError> {
    let mut statement = tx.prepare_cached("SELECT 1 FROM lane WHERE lane = ?1 AND stopped IS NOT NULL")?;
    Ok(statement.exists([lane])?)
}

/// Claims from the lane again; whether it was stopped.
pub(in crate::store) fn open(tx: &Connection, lane: &LaneName) -> Result<bool, StoreError> {
    let open = "UPDATE lane SET stopped = NULL, stopped_at = NULL
                WHERE name = ?1 AND stopped IS NOT NULL RETURNING lane";
    let lane = tx.query_row(open, [lane.as_str()], |row| row.get::<_, i64>(0)).optional()?;
    lane.map(|lane| set_head(tx, lane)).transpose().map(|opened| opened.is_some())
}

/// The lanes that are stopped, longest first.
pub(in crate::store) fn stopped(tx: &Connection) -> Result<Vec<StoppedLane>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT name, stopped, stopped_at FROM lane WHERE stopped_at IS NOT NULL ORDER BY stopped_at",
    )?;
    let mut rows = statement.query([])?;
    let mut lanes = Vec::new();
    while let Some(row) = rows.next()? {
        let lane = lane_name(&row.get::<_, String>(0)?)?;
        lanes.push(StoppedLane { lane, reason: row.get(1)?, since: time(row.get(2)?)? });
    }
    Ok(lanes)
}
