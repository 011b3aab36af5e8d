//! Claim, start, adopt: how a waiting run comes into somebody's hands.
//!
//! Invariant: a claim looks at lane heads alone, `active(lane)` is a primary key, and every claim raises its lane's
//! fence: what an earlier holder writes is refused.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    journal::{self, spec::RunToken},
    model::{
        job::Job,
        letter::Occasion,
        run::{RunId, RunStep},
    },
    store::{
        StoreError,
        arrival::DeliveryNo,
        claims::{Claim, Right, Stop},
        sqlite::{
            hold, lanes, outbox,
            rows::{known, lane_name, millis, time},
        },
    },
};

/// The head that comes first among those that may be claimed at once.
pub(super) const READY_HEAD: &str = "SELECT lane, ready_run FROM lane
    WHERE ready_run IS NOT NULL AND ready_at IS NULL ORDER BY ready_rank, ready_run LIMIT 1";

/// Heads whose time has come are like any other.
pub(super) const WAKE_HEADS: &str = "UPDATE lane SET ready_at = NULL WHERE ready_at <= ?1";

/// When the next head's time comes.
pub(super) const NEXT_DUE: &str = "SELECT ready_at FROM lane WHERE ready_at IS NOT NULL ORDER BY ready_at LIMIT 1";

/// What a look at the lane heads gave.
pub(in crate::store) enum Head {
    Taken(Taken),
    NothingUntil(Option<Timestamp>),
}

/// A run in our hands, its job not yet read.
pub(in crate::store) struct Taken {
    run: i64,
    lane: Text,
    fence: i64,
    delivery: Option<i64>,
    token: Text,
    job: Text,
    started: bool,
    /// The run in which its commit did not come up.
    bad_run: Option<i64>,
}

impl Taken {
    /// Whether the store knows that it began.
    pub(in crate::store) fn started(&self) -> bool {
        self.started
    }

    /// What goes to the writer about it.
    pub(in crate::store) fn right(&self) -> Right {
        Right { run: RunId(self.run), fence: self.fence }
    }

    /// Reads the job. Not the writer's business: it takes a while to compile a hook's globs.
    pub(in crate::store) fn read(self) -> Result<Claim, StoreError> {
        let missing = |what: &str| StoreError::Damaged(format!("run {} has no {what}", self.run));
        let job = journal::job::decode(&self.job?.ok_or_else(|| missing("job"))?)?;
        let lane = self.lane?.ok_or_else(|| missing("lane"))?;
        let bad = self.bad_run.filter(|_| !job.asked.is_by_a_person()).zip(job.target.commit());
        Ok(Claim {
            run: RunId(self.run),
            lane: lane_name(&lane)?,
            fence: self.fence,
            delivery: self.delivery.map(DeliveryNo),
            token: self.token?.map(|it| known("token", &it, RunToken::parse(&it))).transpose()?,
            hold: bad.map(|(run, commit)| hold::sentence(commit, &job.hook.name, RunId(run))),
            job: Arc::new(job),
        })
    }
}

/// A text of a row, or why it cannot be read. Not an error of the look: a row that cannot be read must be taken, to be
/// put out of the way.
type Text = Result<Option<String>, StoreError>;

fn text(row: &Row, column: usize) -> rusqlite::Result<Text> {
    let value = row.get_ref(column)?;
    let text = value.as_str_or_null().map(|it| it.map(str::to_owned));
    Ok(text.map_err(|err| StoreError::Damaged(format!("a text of its row: {err}"))))
}

/// Takes the lane head that comes first among those whose time has come.
pub(in crate::store) fn claim(tx: &Connection, now: Timestamp) -> Result<Head, StoreError> {
    hold::expire(tx, now)?;
    let hold = hold::of_everything(tx)?;
    if hold.is_none() {
        tx.prepare_cached(WAKE_HEADS)?.execute([millis(now)])?;
        let ready = tx.prepare_cached(READY_HEAD)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((lane, run)) = ready {
            return take(tx, lane, run).map(Head::Taken);
        }
    }
    let next_due: Option<i64> = match hold {
        None => tx.prepare_cached(NEXT_DUE)?.query_row([], |row| row.get(0)).optional()?,
        Some(_) => None,
    };
    let next = next_due.into_iter().chain(hold::next_end(tx)?).min();
    Ok(Head::NothingUntil(next.map(time).transpose()?))
}

fn take(tx: &Connection, lane: i64, run: i64) -> Result<Taken, StoreError> {
    let fence = lanes::raise_fence(tx, lane)?;
    // Whatever stands in the row: what cannot be read is found out by who reads it.
    let mut enter = tx.prepare_cached(
        "INSERT INTO active (lane, run, seq, fence, ref, since, rank)
         SELECT lane, run, seq, ?3, ref, since, rank FROM pending WHERE run = ?2 AND lane = ?1",
    )?;
    enter.execute(params![lane, run, fence])?;
    tx.prepare_cached("DELETE FROM pending WHERE run = ?1 AND lane = ?2")?.execute([run, lane])?;
    // A row from before there were words has none, and its run no folder in which one stands.
    let mut name =
        tx.prepare_cached("UPDATE run SET token = lower(hex(randomblob(16))) WHERE run = ?1 AND token IS NULL")?;
    name.execute([run])?;
    lanes::set_head(tx, lane)?;
    taken(tx, lane)
}

fn taken(tx: &Connection, lane: i64) -> Result<Taken, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT a.run, l.name, a.fence, r.delivery, r.token, j.job, a.started_at IS NOT NULL, b.run
         FROM active a JOIN lane l USING (lane) JOIN run r USING (run) LEFT JOIN job j USING (run)
         LEFT JOIN bad_commit b ON b.hook = r.hook AND b.commit_id = r.commit_id
         WHERE a.lane = ?1",
    )?;
    Ok(statement.query_row([lane], |row| {
        Ok(Taken {
            run: row.get(0)?,
            lane: text(row, 1)?,
            fence: row.get(2)?,
            delivery: row.get(3)?,
            token: text(row, 4)?,
            job: text(row, 5)?,
            started: row.get(6)?,
            bad_run: row.get(7)?,
        })
    })?)
}

/// Every run that is in somebody's hands comes into ours.
pub(in crate::store) fn adopt(tx: &Connection) -> Result<Vec<Taken>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT lane FROM active ORDER BY run")?;
    let lanes = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let adopted = lanes.into_iter().map(|lane| {
        let fence = lanes::raise_fence(tx, lane)?;
        tx.prepare_cached("UPDATE active SET fence = ?2 WHERE lane = ?1")?.execute([lane, fence])?;
        taken(tx, lane)
    });
    adopted.collect()
}

/// The run has begun. The letters about that are written with it, for the first attempt.
pub(in crate::store) fn start(tx: &Connection, right: Right, job: &Job, now: Timestamp) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE active SET started_at = ?3, step = coalesce(step, 'lock')
         WHERE run = ?1 AND fence = ?2 AND started_at IS NULL",
    )?;
    let is_news = statement.execute(params![right.run.0, right.fence, millis(now)])? == 1;
    if !is_news {
        return holds(tx, right);
    }
    let mut begun = tx.prepare_cached(
        "UPDATE hook SET began_at = ?2 WHERE hook = (SELECT hook FROM run WHERE run = ?1) RETURNING hook",
    )?;
    let hook = begun.query_row(params![right.run.0, millis(now)], |row| row.get(0))?;
    // After a reload a hook may wait in a second lane, and its interval counts there, too.
    lanes::set_heads_of(tx, hook)?;
    if job.attempt == 1 {
        outbox::owe(tx, right.run, &job.hook.notify, Occasion::Start)?;
    }
    Ok(())
}

/// The run has come to this step.
pub(in crate::store) fn note_step(tx: &Connection, right: Right, step: RunStep) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE active SET step = ?3, has_staged = max(has_staged, ?4) WHERE run = ?1 AND fence = ?2",
    )?;
    match statement.execute(params![right.run.0, right.fence, step.word(), step.changes_target()])? {
        0 => Err(StoreError::Fenced(right.run)),
        _ => Ok(()),
    }
}

/// The runs whose holders are asked to stop them, and why. What a person wants goes before what a push wants.
pub(in crate::store) fn stops_asked(tx: &Connection) -> Result<Vec<(RunId, Stop)>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT run, cancel_asked, yields_to FROM active
         WHERE cancel_asked IS NOT NULL OR yields_to IS NOT NULL ORDER BY run",
    )?;
    let mut rows = statement.query([])?;
    let mut stops = Vec::new();
    while let Some(row) = rows.next()? {
        let run = RunId(row.get(0)?);
        match (row.get(1)?, row.get::<_, Option<i64>>(2)?) {
            (Some(reason), _) => stops.push((run, Stop::Cancel(reason))),
            (None, Some(to)) => stops.push((run, Stop::Yield { to: RunId(to) })),
            (None, None) => (),
        }
    }
    Ok(stops)
}

/// Refuses a right that a later claim has made void.
fn holds(tx: &Connection, right: Right) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("SELECT 1 FROM active WHERE run = ?1 AND fence = ?2")?;
    match statement.exists(params![right.run.0, right.fence])? {
        true => Ok(()),
        false => Err(StoreError::Fenced(right.run)),
    }
}
