//! Retention: runs beyond what a hook keeps, folders and bodies beyond their age.
//!
//! Invariant: what has not ended, what is live, the last run of a hook and a run with an unsent letter are never
//! pruned. A step is small, and its cost does not depend on how much is kept.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::{
    model::run::RunId,
    store::{
        StoreError,
        history::{Pruned, TooOld},
        sqlite::{loss, rows::millis},
    },
};

/// Rows of a kind that one step looks at.
const STEP: i64 = 200;

/// How long the keys of deliveries, and their rows, are kept. GitHub's signature has no time in it: whoever recorded
/// a signed body could send it again for ever under another id, and these keys are what stops that. A year and a
/// month outlasts every redelivery by hand, and a hook that deploys once a year.
const KEYS_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// One small step of retention.
pub(in crate::store) fn prune(
    tx: &Connection,
    keep_runs: u64,
    old: Option<TooOld>,
    now: Timestamp,
) -> Result<Pruned, StoreError> {
    let mut steps = vec![forget_runs(tx, keep_runs)?];
    if let Some(TooOld { logs_before, bodies_before }) = old {
        let keys_before = now.saturating_sub(KEYS_KEPT).unwrap_or(Timestamp::MIN);
        steps.extend([
            give_up_folders(tx, logs_before, now)?,
            loss::give_up_folders(tx, logs_before, STEP, now)?,
            forget_bodies(tx, bodies_before, now)?,
            forget_keys(tx, keys_before, now)?,
            forget_deliveries(tx, keys_before, now)?,
        ]);
    }
    let mut statement = tx.prepare_cached("SELECT run FROM folder_to_remove ORDER BY run LIMIT ?1")?;
    let folders = statement.query_map([2 * STEP], |row| Ok(RunId(row.get(0)?)))?.collect::<Result<Vec<_>, _>>()?;
    Ok(Pruned { more: steps.into_iter().any(|rows| rows == STEP), folders })
}

/// The folders are gone from disk.
pub(in crate::store) fn folders_removed(tx: &Connection, runs: &[RunId]) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("DELETE FROM folder_to_remove WHERE run = ?1")?;
    for run in runs {
        statement.execute([run.0])?;
    }
    Ok(())
}

/// Goes by the hooks' own count of their runs, so that what is kept need not be walked.
fn forget_runs(tx: &Connection, keep_runs: u64) -> Result<i64, StoreError> {
    let keep_runs = i64::try_from(keep_runs).unwrap_or(i64::MAX);
    let mut statement = tx.prepare_cached("SELECT hook, runs - ?1 FROM hook WHERE runs > ?1")?;
    let hooks = statement
        .query_map([keep_runs], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, i64)>, _>>()?;
    let mut left = STEP;
    for (hook, surplus) in hooks {
        if left == 0 {
            break;
        }
        left -= forget_runs_of(tx, hook, surplus.min(left))?;
    }
    Ok(STEP - left)
}

fn forget_runs_of(tx: &Connection, hook: i64, rows: i64) -> Result<i64, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT run, has_folder FROM run
         WHERE hook = ?1 AND finished_at IS NOT NULL
           AND run IS NOT (SELECT live_run FROM hook WHERE hook = ?1)
           AND run < (SELECT max(run) FROM run WHERE hook = ?1)
           AND NOT EXISTS (SELECT 1 FROM letter WHERE letter.run = run.run AND due_at IS NOT NULL)
         ORDER BY run LIMIT ?2",
    )?;
    let runs = statement
        .query_map([hook, rows], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, bool)>, _>>()?;
    for (run, has_folder) in &runs {
        if *has_folder {
            tx.prepare_cached("INSERT OR IGNORE INTO folder_to_remove (run) VALUES (?1)")?.execute([run])?;
        }
        tx.prepare_cached("DELETE FROM run WHERE run = ?1")?.execute([run])?;
    }
    let forgotten = i64::try_from(runs.len()).expect("a step is small");
    let mut statement = tx.prepare_cached("UPDATE hook SET runs = runs - ?2 WHERE hook = ?1")?;
    statement.execute([hook, forgotten])?;
    Ok(forgotten)
}

/// A run that ended in the future, by a clock that was ahead, goes with the first one that was accepted after it.
fn give_up_folders(tx: &Connection, logs_before: Timestamp, now: Timestamp) -> Result<i64, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT run FROM run WHERE has_folder = 1 AND finished_at < ?1 ORDER BY finished_at LIMIT ?2",
    )?;
    let mut runs =
        statement.query_map(params![millis(logs_before), STEP], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    if let Some(newest) = runs.iter().copied().max() {
        let mut ahead =
            tx.prepare_cached("SELECT run FROM run WHERE has_folder = 1 AND finished_at > ?1 AND run < ?2")?;
        let ahead = ahead.query_map([millis(now), newest], |row| row.get(0))?;
        runs.extend(ahead.collect::<Result<Vec<i64>, _>>()?);
    }
    for run in &runs {
        tx.prepare_cached("UPDATE run SET has_folder = 0 WHERE run = ?1")?.execute([run])?;
        tx.prepare_cached("INSERT OR IGNORE INTO folder_to_remove (run) VALUES (?1)")?.execute([run])?;
    }
    Ok(i64::try_from(runs.len()).expect("a step is small").min(STEP))
}

// The three below look at the oldest rows alone: a row that may not go yet takes up one place of the step. One that came
// in the future, by a clock that was ahead, is older than the first after it that did not, and goes with that.

fn forget_bodies(tx: &Connection, before: Timestamp, now: Timestamp) -> Result<i64, StoreError> {
    delete(
        tx,
        "DELETE FROM body WHERE delivery IN (
             SELECT b.delivery FROM (SELECT delivery FROM body ORDER BY delivery LIMIT ?2) b
             JOIN delivery d USING (delivery)
             WHERE (d.received_at < ?1 OR (d.received_at > ?3 AND coalesce((
                       SELECT e.received_at FROM delivery e WHERE e.delivery > d.delivery AND e.received_at <= ?3
                       ORDER BY e.delivery LIMIT 1) < ?1, 0)))
               AND NOT EXISTS (SELECT 1 FROM run r WHERE r.delivery = b.delivery AND r.finished_at IS NULL))",
        (before, now),
    )
}

fn forget_keys(tx: &Connection, before: Timestamp, now: Timestamp) -> Result<i64, StoreError> {
    delete(
        tx,
        "DELETE FROM seen WHERE seen IN (
             SELECT s.seen FROM (SELECT seen, at FROM seen ORDER BY seen LIMIT ?2) s
             WHERE s.at < ?1 OR (s.at > ?3 AND coalesce((
                       SELECT e.at FROM seen e WHERE e.seen > s.seen AND e.at <= ?3
                       ORDER BY e.seen LIMIT 1) < ?1, 0)))",
        (before, now),
    )
}

fn forget_deliveries(tx: &Connection, before: Timestamp, now: Timestamp) -> Result<i64, StoreError> {
    delete(
        tx,
        "DELETE FROM delivery WHERE delivery IN (
             SELECT d.delivery FROM (SELECT delivery, received_at FROM delivery ORDER BY delivery LIMIT ?2) d
             WHERE (d.received_at < ?1 OR (d.received_at > ?3 AND coalesce((
                       SELECT e.received_at FROM delivery e WHERE e.delivery > d.delivery AND e.received_at <= ?3
                       ORDER BY e.delivery LIMIT 1) < ?1, 0)))
               AND NOT EXISTS (SELECT 1 FROM run r WHERE r.delivery = d.delivery AND r.finished_at IS NULL))",
        (before, now),
    )
}

fn delete(tx: &Connection, sql: &str, (before, now): (Timestamp, Timestamp)) -> Result<i64, StoreError> {
    let rows = tx.prepare_cached(sql)?.execute(params![millis(before), STEP, millis(now)])?;
    Ok(i64::try_from(rows).expect("a step is small"))
}
