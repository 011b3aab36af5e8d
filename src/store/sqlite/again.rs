//! How a run comes to be repeated: since it failed and its hook retries, or since its place was taken in vain.
//!
//! Invariant: what is repeated knows its repetition, so nothing is repeated twice.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    journal,
    model::{
        job::Job,
        run::{Outcome, RunId},
    },
    route,
    store::{
        StoreError,
        sqlite::{
            finish::Held,
            lanes,
            rows::millis,
            runs::{self, Prepared},
        },
    },
};

/// No retry waits longer, however often the wait was doubled.
const BACKOFF_MAX: Duration = Duration::from_secs(24 * 3600);

/// Whether the run that ended so is to be tried again.
pub(super) fn wants_retry(job: &Job, outcome: &Outcome, held: &Held) -> bool {
    let retry = &job.hook.retry;
    held.cancel_asked.is_none() && job.attempt <= retry.max && outcome.wants_retry(&retry.on)
}

/// The next attempt, in the place of the one that just ended.
pub(super) fn queue_retry(
    tx: &Connection,
    run: RunId,
    job: &Job,
    held: &Held,
    now: Timestamp,
) -> Result<RunId, StoreError> {
    let again = Prepared::new(route::again(job, run, job.attempt + 1, None).into_job());
    let retry = runs::insert(tx, &again, (held.hook, held.lane), held.delivery, now)?;
    let at = now.saturating_add(wait_before(job, run)).unwrap_or(Timestamp::MAX);
    runs::wait(tx, retry, (held.hook, held.delivery), &again.job, &held.place(Some(millis(at))))?;
    Ok(retry)
}

/// Doubles with each attempt. Up to a tenth is added, a different part for each run, so that hooks that fail
/// together at one remote do not come back together.
fn wait_before(job: &Job, run: RunId) -> Duration {
    let doubled = 2_u32.saturating_pow(job.attempt.saturating_sub(1));
    let wait = job.hook.retry.backoff.saturating_mul(doubled).min(BACKOFF_MAX);
    // The multiplier of Fibonacci hashing spreads neighbouring numbers over the whole range.
    let spread = run.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    wait + wait / 10 * u32::try_from(spread).unwrap_or(0) / 1024
}

/// A push that was stale took the place of others in vain: it came later, and was older. The newest of them waits again
/// in that place, unless a newer one does.
pub(super) fn put_back(
    tx: &Connection,
    run: RunId,
    (job, outcome): (&Job, &Outcome),
    held: &Held,
    now: Timestamp,
) -> Result<(), StoreError> {
    if !matches!(outcome, Outcome::Stale { .. }) {
        return Ok(());
    }
    // What was put back may be stale itself, and may have taken the place of others before.
    let mut statement = tx.prepare_cached(
        "SELECT run, delivery, lane, job FROM run JOIN job USING (run)
         WHERE superseded_by IN (?1, ?2) AND next_run IS NULL ORDER BY run DESC LIMIT 1",
    )?;
    let row = |row: &Row| Ok((RunId(row.get(0)?), row.get(1)?, row.get(2)?, row.get::<_, String>(3)?));
    let found = statement.query_row([Some(run.0), job.retry_of.map(|it| it.0)], row).optional()?;
    let Some((lost, delivery, lane, text)) = found else { return Ok(()) };
    let lost_job = journal::job::decode(&text)?;
    if runs::replaced_by(tx, held.hook, lost, &lost_job)?.is_some() {
        return Ok(());
    }
    let again = Prepared::new(route::again(&lost_job, lost, lost_job.attempt, None).into_job());
    let back = runs::insert(tx, &again, (held.hook, lane), delivery, now)?;
    let place = if lane == held.lane {
        held.place(None)
    } else {
        let (lane, seq) = lanes::next_place(tx, &lost_job.hook.lane)?;
        held.place_in(lane, seq)
    };
    runs::wait(tx, back, (held.hook, delivery), &again.job, &place)?;
    lanes::set_head(tx, place.lane)
}
