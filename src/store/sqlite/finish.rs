//! How a run leaves somebody's hands, or the line: with an outcome, or back to its place.
//!
//! Invariant: an outcome, the letters about it, the retry after it and the lane's next head are one transaction.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    journal,
    model::{
        job::Job,
        letter::Occasion,
        run::{Failure, FailureClass, Mood, Outcome, RunFacts, RunId, RunStep},
    },
    store::{
        StoreError,
        claims::{Cancelled, Finished, GivenBack, Right},
        sqlite::{
            again, displaced, hold, lanes, outbox,
            rows::{millis, readable_job, ref_key, time},
            runs::{self, Ending, Place},
        },
    },
};

/// The wait after a start in vain; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// So many starts in vain are enough. They take four minutes: a machine that is short of room or of processes for a
/// moment gets over it, and one that is broken is told of.
const VAIN_STARTS_MAX: u32 = 8;

/// What the store knew of a run in somebody's hands.
pub(super) struct Held {
    pub(super) lane: i64,
    seq: i64,
    started_at: Option<i64>,
    /// Whether a step was noted in which the run changes what it deploys to.
    has_staged: bool,
    pub(super) cancel_asked: Option<String>,
    yields_to: Option<RunId>,
    since: i64,
    rank: i64,
    pub(super) hook: i64,
    pub(super) delivery: Option<i64>,
}

impl Held {
    /// The place it had, for a run that is to have it again.
    pub(super) fn place(&self, not_before: Option<i64>) -> Place {
        Place { lane: self.lane, seq: self.seq, not_before, since: self.since, rank: self.rank }
    }

    /// What the end of a run means that was stopped: who made room for a newer push was superseded by it.
    fn outcome_of(&self, outcome: &Outcome) -> Outcome {
        match (outcome, self.yields_to) {
            (Outcome::Cancelled { .. }, Some(by)) if self.cancel_asked.is_none() => Outcome::Superseded { by },
            (outcome, _) => outcome.clone(),
        }
    }
}

/// The run has ended. It is tried again if the hook says so, else people are told.
pub(in crate::store) fn finish(
    tx: &Connection,
    right: Right,
    job: &Job,
    (outcome, facts): (&Outcome, &RunFacts),
    now: Timestamp,
) -> Result<Finished, StoreError> {
    let Some(held) = let_go(tx, right)? else { return finished_already(tx, right, outcome) };
    let has_staged = outcome.has_staged(held.has_staged);
    let outcome = &held.outcome_of(outcome);
    let commit = facts.commit.clone().or_else(|| job.target.commit().cloned());
    let live = match outcome {
        Outcome::Succeeded => commit.clone(),
        // What went live is live, however the run went on from there.
        Outcome::Failed(_)
        | Outcome::TimedOut(_)
        | Outcome::RolledBack(_)
        | Outcome::RollbackFailed { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Superseded { .. }
        | Outcome::Stale { .. }
        | Outcome::Skipped { .. }
        | Outcome::Interrupted { .. } => facts.live.clone(),
    };
    let ending = Ending::unclaimed(right.run, outcome, now).having_staged(has_staged);
    runs::end(tx, &ending.claimed(right.fence, held.started_at, RunFacts { commit: commit.clone(), ..facts.clone() }))?;
    count_yields(tx, held.hook, outcome)?;
    // Behind a stopped lane nobody tries again, so people are told now.
    let may_retry = again::wants_retry(job, outcome, &held) && !lanes::is_stopped(tx, held.lane)?;
    let retry = if may_retry && runs::replaced_by(tx, held.hook, right.run, job)?.is_none() {
        Some(again::queue_retry(tx, right.run, job, &held, now)?)
    } else {
        tell(tx, right.run, held.hook, job, outcome)?;
        displaced::settle(tx, (right.run, held.hook), outcome, &held.place(None), now)?;
        None
    };
    if let Some(commit) = commit {
        hold::judge_commit(tx, (right.run, held.hook), (job, &commit), outcome, now)?;
    }
    match live {
        Some(commit) => note_live(tx, right.run, held.hook, job, commit.as_str())?,
        // What was adopted may not say of which commit it is.
        None if *outcome == Outcome::Succeeded && !job.target.is_fetched() => forget_live(tx, held.hook, job)?,
        None => (),
    }
    lanes::set_head(tx, held.lane)?;
    Ok(Finished { retry })
}

/// How many in a row made room for a newer push.
fn count_yields(tx: &Connection, hook: i64, outcome: &Outcome) -> Result<(), StoreError> {
    let has_yielded = matches!(outcome, Outcome::Superseded { .. });
    let mut statement = tx.prepare_cached("UPDATE hook SET yields = iif(?2, yields + 1, 0) WHERE hook = ?1")?;
    statement.execute(params![hook, has_yielded])?;
    Ok(())
}

fn let_go(tx: &Connection, right: Right) -> Result<Option<Held>, StoreError> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM active WHERE run = ?1 AND fence = ?2
         RETURNING lane, seq, started_at, cancel_asked, yields_to, since, rank, has_staged,
                   (SELECT hook FROM run WHERE run.run = ?1), (SELECT delivery FROM run WHERE run.run = ?1)",
    )?;
    let held = statement.query_row(params![right.run.0, right.fence], |row| {
        Ok(Held {
            lane: row.get(0)?,
            seq: row.get(1)?,
            started_at: row.get(2)?,
            cancel_asked: row.get(3)?,
            yields_to: row.get::<_, Option<i64>>(4)?.map(RunId),
            since: row.get(5)?,
            rank: row.get(6)?,
            has_staged: row.get(7)?,
            hook: row.get(8)?,
            delivery: row.get(9)?,
        })
    });
    Ok(held.optional()?)
}

/// The same end by the same right is no news: the first answer may have been lost.
fn finished_already(tx: &Connection, right: Right, outcome: &Outcome) -> Result<Finished, StoreError> {
    let find = "SELECT next_run FROM run
                WHERE run = ?1 AND fence = ?2 AND (outcome = ?3 OR (?4 AND superseded_by IS NOT NULL))";
    let is_stopped = matches!(outcome, Outcome::Cancelled { .. });
    let same = params![right.run.0, right.fence, journal::outcome::encode(outcome), is_stopped];
    let next = tx.query_row(find, same, |row| row.get::<_, Option<i64>>(0)).optional()?;
    next.map(|retry| Finished { retry: retry.map(RunId) }).ok_or(StoreError::Fenced(right.run))
}

/// Owes the letters about an outcome, and remembers what people now believe of the hook.
fn tell(tx: &Connection, run: RunId, hook: i64, job: &Job, outcome: &Outcome) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("SELECT mood FROM hook WHERE hook = ?1")?;
    let before: Option<String> = statement.query_row([hook], |row| row.get(0))?;
    let before = match before.as_deref() {
        Some("bad") => Mood::Bad,
        Some(_) => Mood::Good,
        None => Mood::Neither,
    };
    outbox::owe(tx, run, &job.hook.notify, Occasion::of(outcome, before))?;
    let after = match outcome.mood() {
        Mood::Good => "good",
        Mood::Bad => "bad",
        Mood::Neither => return Ok(()),
    };
    tx.prepare_cached("UPDATE hook SET mood = ?2 WHERE hook = ?1")?.execute(params![hook, after])?;
    Ok(())
}

fn note_live(tx: &Connection, run: RunId, hook: i64, job: &Job, commit: &str) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("UPDATE hook SET live_commit = ?2, live_run = ?3 WHERE hook = ?1")?;
    statement.execute(params![hook, commit, run.0])?;
    let mut statement = tx.prepare_cached(
        "INSERT INTO live (hook, ref, commit_id, run) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (hook, ref) DO UPDATE SET commit_id = excluded.commit_id, run = excluded.run",
    )?;
    statement.execute(params![hook, ref_key(job.target.ref_name()), commit, run.0])?;
    Ok(())
}

/// What is live is of no commit that is known.
fn forget_live(tx: &Connection, hook: i64, job: &Job) -> Result<(), StoreError> {
    tx.execute("UPDATE hook SET live_commit = NULL, live_run = NULL WHERE hook = ?1", [hook])?;
    tx.execute("DELETE FROM live WHERE hook = ?1 AND ref = ?2", params![hook, ref_key(job.target.ref_name())])?;
    Ok(())
}

/// The run never began: it waits again, in its place. If it was to be stopped, if a newer one waits in its stead, or
/// if it could not be started too often, it ends instead.
pub(in crate::store) fn give_back(
    tx: &Connection,
    right: Right,
    job: &Job,
    why: Option<&str>,
    now: Timestamp,
) -> Result<GivenBack, StoreError> {
    let Some(held) = let_go(tx, right)? else { return given_back_already(tx, right) };
    if held.started_at.is_some() {
        return Err(StoreError::Started(right.run));
    }
    let vain_starts = why.map(|why| note_vain_start(tx, right.run, why)).transpose()?;
    let given = if let Some(reason) = &held.cancel_asked {
        GivenBack::Ended(Outcome::Cancelled { step: None, reason: reason.clone() })
    } else if let Some(by) = runs::replaced_by(tx, held.hook, right.run, job)? {
        GivenBack::Ended(Outcome::Superseded { by })
    } else if let (Some(why), Some(VAIN_STARTS_MAX..)) = (why, vain_starts) {
        let reason = format!("it could not be started {VAIN_STARTS_MAX} times, the last time because: {why}");
        let failure = Failure { step: RunStep::Lock, exit_code: None, class: FailureClass::Other, reason };
        GivenBack::Ended(Outcome::Failed(failure))
    } else {
        GivenBack::Waits { not_before: vain_starts.map(|it| after_vain_starts(it, now)) }
    };
    match &given {
        GivenBack::Waits { not_before } => {
            runs::wait(tx, right.run, (held.hook, held.delivery), job, &held.place(not_before.map(millis)))?;
        }
        GivenBack::Ended(outcome) => {
            let ending = Ending::unclaimed(right.run, outcome, now);
            runs::end(tx, &ending.claimed(right.fence, None, RunFacts::default()))?;
            // Nobody had heard of it, and the run in its place tells of itself.
            if !matches!(outcome, Outcome::Superseded { .. }) {
                tell(tx, right.run, held.hook, job, outcome)?;
            }
            displaced::settle(tx, (right.run, held.hook), outcome, &held.place(None), now)?;
        }
    }
    lanes::set_head(tx, held.lane)?;
    Ok(given)
}

/// The same again by the same right is no news: the first answer may have been lost.
fn given_back_already(tx: &Connection, right: Right) -> Result<GivenBack, StoreError> {
    let waits = "SELECT p.not_before FROM pending p JOIN lane l USING (lane) WHERE p.run = ?1 AND l.fence = ?2";
    let mut statement = tx.prepare_cached(waits)?;
    let not_before: Option<Option<i64>> =
        statement.query_row(params![right.run.0, right.fence], |row| row.get(0)).optional()?;
    let not_before = not_before.ok_or(StoreError::Fenced(right.run))?;
    Ok(GivenBack::Waits { not_before: not_before.map(time).transpose()? })
}

fn note_vain_start(tx: &Connection, run: RunId, why: &str) -> Result<u32, StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE run SET vain_starts = vain_starts + 1, vain_why = ?2 WHERE run = ?1 RETURNING vain_starts",
    )?;
    Ok(statement.query_row(params![run.0, why], |row| row.get(0))?)
}

/// When a run that could not be started so often may be tried again. Each wait is twice the one before.
fn after_vain_starts(vain_starts: u32, now: Timestamp) -> Timestamp {
    let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(vain_starts.saturating_sub(1)));
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// Ends a waiting run, or asks the holder of a running one to.
pub(in crate::store) fn cancel(
    tx: &Connection,
    run: RunId,
    reason: &str,
    now: Timestamp,
) -> Result<Cancelled, StoreError> {
    let mut ask = tx.prepare_cached("UPDATE active SET cancel_asked = coalesce(cancel_asked, ?2) WHERE run = ?1")?;
    if ask.execute(params![run.0, reason])? == 1 {
        return Ok(Cancelled::Asked);
    }
    let mut leave = tx.prepare_cached("DELETE FROM pending WHERE run = ?1 RETURNING hook, lane, seq, since, rank")?;
    let place = |row: &Row| {
        let (lane, seq, since, rank) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((row.get(0)?, Place { lane, seq, not_before: None, since, rank }))
    };
    let Some((hook, place)) = leave.query_row([run.0], place).optional()? else {
        let is_known = tx.prepare_cached("SELECT 1 FROM run WHERE run = ?1")?.exists([run.0])?;
        return Ok(if is_known { Cancelled::AlreadyFinished } else { Cancelled::Unknown });
    };
    let outcome = Outcome::Cancelled { step: None, reason: reason.to_owned() };
    runs::end(tx, &Ending::unclaimed(run, &outcome, now))?;
    let mut find = tx.prepare_cached("SELECT job FROM job WHERE run = ?1")?;
    // A job that cannot be read names nobody to tell; the stop is what was asked for.
    if let Some(job) = find.query_row([run.0], |row| readable_job(row, 0)).optional()?.flatten() {
        tell(tx, run, hook, &job, &outcome)?;
    }
    displaced::settle(tx, (run, hook), &outcome, &place, now)?;
    lanes::set_head(tx, place.lane)?;
    Ok(Cancelled::Ended)
}

/// Ends a run whose job cannot be read, so that the lane behind it can go on. Nobody can be told: the job knew whom.
pub(in crate::store) fn condemn(
    tx: &Connection,
    right: Right,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), StoreError> {
    let held = let_go(tx, right)?.ok_or(StoreError::Fenced(right.run))?;
    let ending = Ending::unclaimed(right.run, outcome, now).having_staged(outcome.has_staged(held.has_staged));
    runs::end(tx, &ending.claimed(right.fence, held.started_at, RunFacts::default()))?;
    displaced::settle(tx, (right.run, held.hook), outcome, &held.place(None), now)?;
    lanes::set_head(tx, held.lane)
}
