//! How a run that failed is tried again, where its hook wants that.
//!
//! Invariant: what is repeated knows its repetition, so nothing is repeated twice.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use crate::{
    model::{
        job::Job,
        run::{Outcome, RunId},
    },
    route,
    store::{
        StoreError,
        sqlite::{
            finish::Held,
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
    runs::note_first(tx, retry, runs::first_of(tx, run)?)?;
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
