//! Rows of runs: how one begins to wait, and how one ends.
//!
//! Invariant: a run is in `pending`, in `active`, or has an outcome: exactly one of the three.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::{
    journal,
    model::{
        job::Job,
        run::{Outcome, RunFacts, RunId},
    },
    store::{
        StoreError,
        sqlite::{
            lanes,
            rows::{millis, ref_key, replaces},
        },
    },
};

/// A job in the form it is stored in, made before the writer is asked for anything.
pub(in crate::store) struct Prepared {
    /// The job.
    pub(in crate::store) job: Job,
    text: String,
}

impl Prepared {
    /// Writes the job down.
    pub(in crate::store) fn new(job: Job) -> Self {
        let text = journal::job::encode(&job);
        Self { job, text }
    }
}

/// Where and how a run waits.
pub(super) struct Place {
    /// Its lane.
    pub(super) lane: i64,
    /// Its place in it.
    pub(super) seq: i64,
    /// Not before; `None`: at once.
    pub(super) not_before: Option<i64>,
}

/// Queues a job at the end of its lane. A waiting one of the same hook and ref gives way to it, if the hook says so.
pub(in crate::store) fn append(
    tx: &Connection,
    new: &Prepared,
    delivery: Option<i64>,
    now: Timestamp,
) -> Result<RunId, StoreError> {
    let hook = hook(tx, new)?;
    let (lane, seq) = lanes::next_place(tx, &new.job.hook.lane)?;
    let run = insert(tx, new, (hook, lane), delivery, now)?;
    supersede(tx, hook, &new.job, run, now)?;
    wait(tx, run, hook, &new.job, &Place { lane, seq, not_before: None })?;
    lanes::set_head(tx, lane)?;
    Ok(run)
}

/// The row of the hook, made if it is new.
fn hook(tx: &Connection, new: &Prepared) -> Result<i64, StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO hook (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING hook",
    )?;
    Ok(statement.query_row([new.job.hook.name.as_str()], |row| row.get(0))?)
}

/// The next run, in nobody's line yet.
pub(super) fn insert(
    tx: &Connection,
    new: &Prepared,
    (hook, lane): (i64, i64),
    delivery: Option<i64>,
    now: Timestamp,
) -> Result<RunId, StoreError> {
    tx.prepare_cached("UPDATE hook SET runs = runs + 1 WHERE hook = ?1")?.execute([hook])?;
    let mut statement =
        tx.prepare_cached("INSERT INTO run (hook, lane, delivery, created_at) VALUES (?1, ?2, ?3, ?4)")?;
    let run = statement.insert(params![hook, lane, delivery, millis(now)])?;
    tx.prepare_cached("INSERT INTO job (run, job) VALUES (?1, ?2)")?.execute(params![run, new.text])?;
    if let Some(repeated) = new.job.retry_of {
        note_next(tx, repeated, RunId(run))?;
    }
    Ok(RunId(run))
}

/// Remembers which run repeats another, so that a redelivery of the push judges the newest of them.
pub(super) fn note_next(tx: &Connection, run: RunId, next: RunId) -> Result<(), StoreError> {
    tx.prepare_cached("UPDATE run SET next_run = ?2 WHERE run = ?1 AND run < ?2")?.execute([run.0, next.0])?;
    Ok(())
}

/// Puts a run into its line. The caller sets the lane's head.
pub(super) fn wait(tx: &Connection, run: RunId, hook: i64, job: &Job, place: &Place) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO pending (lane, seq, run, hook, ref, replaces, not_before) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let ref_key = ref_key(job.target.ref_name());
    statement.execute(params![place.lane, place.seq, run.0, hook, ref_key, replaces(job), place.not_before])?;
    Ok(())
}

/// Ends every waiting run whose place the new one takes.
fn supersede(tx: &Connection, hook: i64, job: &Job, by: RunId, now: Timestamp) -> Result<(), StoreError> {
    let replaces = replaces(job);
    if replaces == "nothing" {
        return Ok(());
    }
    let mut statement =
        tx.prepare_cached("DELETE FROM pending WHERE hook = ?1 AND (?2 = 'hook' OR ref = ?3) RETURNING run, lane")?;
    let mut rows = statement.query(params![hook, replaces, ref_key(job.target.ref_name())])?;
    let mut replaced: Vec<(i64, i64)> = Vec::new();
    while let Some(row) = rows.next()? {
        replaced.push((row.get(0)?, row.get(1)?));
    }
    for (run, lane) in replaced {
        end(tx, &Ending::unclaimed(RunId(run), &Outcome::Superseded { by }, now))?;
        lanes::set_head(tx, lane)?;
    }
    Ok(())
}

/// The waiting run that takes the place of this job, if there is one.
pub(super) fn replaced_by(tx: &Connection, hook: i64, job: &Job) -> Result<Option<RunId>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT max(run) FROM pending WHERE hook = ?1 AND (replaces = 'hook' OR (replaces = 'ref' AND ref = ?2))",
    )?;
    let run: Option<i64> = statement.query_row(params![hook, ref_key(job.target.ref_name())], |row| row.get(0))?;
    Ok(run.map(RunId))
}

/// How a run ended, and what is known of it by then.
pub(super) struct Ending<'a> {
    run: RunId,
    outcome: &'a Outcome,
    now: Timestamp,
    facts: RunFacts,
    /// Of the claim it ended in: its fence, and when the run began, if it did.
    held: Option<(i64, Option<i64>)>,
}

impl<'a> Ending<'a> {
    /// Of a run that nobody had in hand.
    pub(super) fn unclaimed(run: RunId, outcome: &'a Outcome, now: Timestamp) -> Self {
        Self { run, outcome, now, facts: RunFacts::default(), held: None }
    }

    /// Of a run that was claimed.
    pub(super) fn claimed(self, fence: i64, started_at: Option<i64>, facts: RunFacts) -> Self {
        Self { held: Some((fence, started_at)), facts, ..self }
    }
}

/// Writes the end down. The caller has taken the run out of its line.
pub(super) fn end(tx: &Connection, ending: &Ending) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE run SET finished_at = ?2, outcome = ?3, commit_id = ?4, fields = ?5,
                        fence = ?6, started_at = ?7, has_folder = ?8
         WHERE run = ?1 AND finished_at IS NULL",
    )?;
    let facts = &ending.facts;
    let fields =
        (!facts.fields.is_empty()).then(|| serde_json::to_string(&facts.fields).expect("fields are pairs of strings"));
    let (fence, started_at) = ending.held.map_or((None, None), |(fence, started_at)| (Some(fence), started_at));
    statement.execute(params![
        ending.run.0,
        millis(ending.now),
        journal::outcome::encode(ending.outcome),
        facts.commit.as_ref().map(|it| it.as_str()),
        fields,
        fence,
        started_at,
        ending.held.is_some(),
    ])?;
    Ok(())
}
