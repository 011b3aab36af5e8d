//! Lets runs wait again whose place another run took, where that run ended without having staged anything.
//!
//! A run that took a place may fail before it changes anything, be stale or be cancelled. Then the push whose place it
//! took would never be deployed, although it may be the newest one.
//!
//! Invariant: `superseded_by` of a run that is not repeated names the run that stands in its place. That one has not
//! ended, or it had staged something.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    model::{
        job::Job,
        run::{Outcome, RunId},
    },
    route,
    store::{
        StoreError,
        sqlite::{
            lanes,
            rows::{readable_job, ref_key, takes_place},
            runs::{self, Place, Prepared},
        },
    },
};

/// A run whose place was taken.
struct Displaced {
    run: RunId,
    lane: i64,
    delivery: Option<i64>,
    job: Job,
}

/// A run has ended for good in this place. The runs that it displaced wait again if it has staged nothing, and so does
/// the run itself if it made room for one that has ended meanwhile.
pub(super) fn settle(
    tx: &Connection,
    (run, hook): (RunId, i64),
    outcome: &Outcome,
    place: &Place,
    now: Timestamp,
) -> Result<(), StoreError> {
    let displaced = match outcome.superseded_by() {
        Some(by) => match standing(tx, by)? {
            Some(standing) => return stand_in(tx, run, standing),
            None => find(tx, "r.run = ?1", run.0)?,
        },
        None => displaced_by(tx, run)?,
    };
    wait_again(tx, hook, displaced, place, now)
}

/// The run that stands for this one by now, through all that repeated it or took its place; `None`: the last of them
/// ended without having staged anything.
fn standing(tx: &Connection, run: RunId) -> Result<Option<RunId>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT coalesce(next_run, superseded_by), finished_at IS NOT NULL AND has_staged = 0 FROM run WHERE run = ?1",
    )?;
    let mut run = run;
    loop {
        let row = |row: &Row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?));
        match statement.query_row([run.0], row).optional()? {
            Some((Some(next), _)) => run = RunId(next),
            Some((None, true)) => return Ok(None),
            // One that retention has removed ended long ago, and is not missed.
            Some((None, false)) | None => return Ok(Some(run)),
        }
    }
}

/// Notes which run stands in the place of another.
fn stand_in(tx: &Connection, run: RunId, standing: RunId) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("UPDATE run SET superseded_by = ?2 WHERE run = ?1")?;
    statement.execute([run.0, standing.0])?;
    Ok(())
}

/// The runs whose place this run took in vain, or one that it repeats, the newest first.
fn displaced_by(tx: &Connection, run: RunId) -> Result<Vec<Displaced>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT has_staged = 0, job FROM run JOIN job USING (run) WHERE run = ?1")?;
    let (mut displaced, mut taker) = (Vec::new(), Some(run));
    while let Some(RunId(run)) = taker {
        let row = |row: &Row| Ok((row.get::<_, Option<bool>>(0)?, readable_job(row, 1)?));
        // What an earlier release ended is left alone: nobody knows whether it had staged anything.
        let Some((Some(true), job)) = statement.query_row([run], row).optional()? else { break };
        displaced.extend(find(tx, "r.superseded_by = ?1 AND r.next_run IS NULL", run)?);
        // A job that cannot be read ends the chain.
        taker = job.and_then(|it| it.retry_of);
    }
    displaced.sort_by_key(|it| std::cmp::Reverse(it.run));
    Ok(displaced)
}

/// Such runs. One whose job cannot be read can never run, so it is left out.
fn find(tx: &Connection, which: &str, run: i64) -> Result<Vec<Displaced>, StoreError> {
    let sql = format!("SELECT r.run, r.lane, r.delivery, j.job FROM run r JOIN job j USING (run) WHERE {which}");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query([run])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(job) = readable_job(row, 3)? {
            found.push(Displaced { run: RunId(row.get(0)?), lane: row.get(1)?, delivery: row.get(2)?, job });
        }
    }
    Ok(found)
}

/// Lets displaced runs wait again, as new runs. They come newest first. One that a newer run makes needless stays out,
/// and the newer one stands in its place.
fn wait_again(
    tx: &Connection,
    hook: i64,
    displaced: Vec<Displaced>,
    place: &Place,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut back, mut needless): (Vec<Displaced>, Vec<(RunId, RunId)>) = (Vec::new(), Vec::new());
    for it in displaced {
        let ref_key = ref_key(it.job.target.ref_name());
        let takes_its_place = |newer: &&Displaced| takes_place((&newer.job, newer.delivery), &ref_key);
        if let Some(newer) = runs::unfinished_newer(tx, hook, runs::first_of(tx, it.run)?, &it.job)? {
            stand_in(tx, it.run, newer)?;
        } else if let Some(newer) = back.iter().find(takes_its_place) {
            needless.push((it.run, newer.run));
        } else {
            back.push(it);
        }
    }
    let mut is_free = true;
    // The oldest comes first, and gets the place that has become free, if that is in its lane.
    for it in back.iter().rev() {
        let again = Prepared::new(route::again(&it.job, it.run, it.job.attempt, None).into_job());
        let new = runs::insert(tx, &again, (hook, it.lane), it.delivery, now)?;
        runs::note_first(tx, new, runs::first_of(tx, it.run)?)?;
        let own = if is_free && it.lane == place.lane {
            is_free = false;
            Place { not_before: None, ..*place }
        } else {
            let (lane, seq) = lanes::next_place(tx, &it.job.hook.lane)?;
            Place { lane, seq, not_before: None, ..*place }
        };
        runs::wait(tx, new, (hook, it.delivery), &again.job, &own)?;
        lanes::set_head(tx, own.lane)?;
        for (run, _) in needless.iter().filter(|(_, newer)| *newer == it.run) {
            stand_in(tx, *run, new)?;
        }
    }
    Ok(())
}
