//! Rows of runs: how one begins to wait, and how one ends.
//!
//! Invariant: a run is in `pending`, in `active`, or has an outcome: exactly one of the three.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    journal,
    model::{
        hook::QueuePolicy,
        job::Job,
        name::HookName,
        push::{CommitId, RefName},
        run::{Outcome, RunFacts, RunId},
    },
    store::{
        StoreError,
        sqlite::{
            clock, lanes,
            rows::{IS_NO_TAG, is_push, millis, readable_job, ref_key, replaces, takes_place},
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
    /// Since when its turn has been waited for.
    pub(super) since: i64,
    /// The lowest of all lanes comes first.
    pub(super) rank: i64,
}

/// A point of priority is worth so much waiting: a job of the highest priority passes those that came within the last
/// hundred minutes, and none waits behind others for ever.
const MILLIS_PER_PRIORITY: i64 = 60_000;

/// A busy branch is never quiet: no push waits longer than so many times its hook's `debounce`.
const DEBOUNCES_MAX: i64 = 10;

/// Queues a job that a person asked for.
pub(in crate::store) fn enqueue(tx: &Connection, new: &Prepared, now: Timestamp) -> Result<RunId, StoreError> {
    append(tx, hook(tx, &new.job.hook.name)?, new, (None, None), now)
}

/// Queues a job of this hook at the end of its lane. A waiting one gives way to it, if the hook says so and its push is
/// older, and so does one under way. `first` is the run by which the push was accepted first, if it comes again.
pub(super) fn append(
    tx: &Connection,
    hook: i64,
    new: &Prepared,
    (delivery, first): (Option<i64>, Option<RunId>),
    now: Timestamp,
) -> Result<RunId, StoreError> {
    let job = &new.job;
    let (lane, seq) = lanes::next_place(tx, &job.hook.lane)?;
    let run = insert(tx, new, (hook, lane), delivery, now)?;
    first.map_or(Ok(()), |first| note_first(tx, run, first))?;
    let accepted = first.unwrap_or(run);
    let rank = clock::ranking(tx)? - i64::from(job.hook.priority) * MILLIS_PER_PRIORITY;
    let mut place = Place { lane, seq, not_before: None, since: millis(now), rank };
    for earlier in supersede(tx, (hook, lane), (job, delivery), (run, accepted), now)? {
        // Its place in the lane is its own, but not how long people have waited: a busy branch would never be deployed.
        (place.since, place.rank) = (place.since.min(earlier.since), place.rank.min(earlier.rank));
    }
    // What a person asks for waits for no quiet and stops nothing.
    if is_push(job, delivery) {
        place.not_before = debounce(tx, hook, job, &place, now)?;
        make_room(tx, hook, (job, delivery), (run, accepted))?;
    }
    wait(tx, run, (hook, delivery), job, &place)?;
    lanes::set_head(tx, lane)?;
    Ok(run)
}

/// Until when a push waits for quiet. Those of the hook that wait already go on waiting with it.
fn debounce(tx: &Connection, hook: i64, job: &Job, place: &Place, now: Timestamp) -> Result<Option<i64>, StoreError> {
    let debounce = i64::try_from(job.hook.debounce.as_millis()).unwrap_or(i64::MAX);
    if debounce == 0 {
        return Ok(None);
    }
    let (quiet, longest) = (millis(now).saturating_add(debounce), debounce.saturating_mul(DEBOUNCES_MAX));
    let mut longer = tx.prepare_cached(
        "UPDATE pending SET not_before = max(not_before, min(?2, since + ?3)) WHERE hook = ?1 AND not_before IS NOT NULL
         RETURNING lane",
    )?;
    let lanes = longer.query_map([hook, quiet, longest], |row| row.get(0))?.collect::<Result<BTreeSet<i64>, _>>()?;
    lanes.into_iter().try_for_each(|lane| lanes::set_head(tx, lane))?;
    Ok(Some(quiet.min(place.since.saturating_add(longest))))
}

/// Asks a run under way to make room for a newer push, where the hook says `queue: cancel`; but not a third in a row,
/// or a busy branch would never be deployed.
fn make_room(
    tx: &Connection,
    hook: i64,
    (job, delivery): (&Job, Option<i64>),
    (run, accepted): (RunId, RunId),
) -> Result<(), StoreError> {
    const IN_A_ROW_MAX: i64 = 2;
    if job.hook.queue != QueuePolicy::Cancel {
        return Ok(());
    }
    let mut statement = tx.prepare_cached(&format!(
        "UPDATE active SET yields_to = ?2
         WHERE run IN (SELECT r.run FROM active a JOIN run r USING (run)
                       WHERE r.hook = ?1 AND coalesce(r.first_run, r.run) < ?6)
           AND ((?3 = 'hook' AND {IS_NO_TAG}) OR ref = ?4) AND (SELECT yields FROM hook WHERE hook = ?1) < ?5",
    ))?;
    let ref_key = ref_key(job.target.ref_name());
    statement.execute(params![hook, run.0, replaces(job, delivery), ref_key, IN_A_ROW_MAX, accepted.0])?;
    Ok(())
}

/// The row of the hook, made if it is new.
pub(super) fn hook(tx: &Connection, name: &HookName) -> Result<i64, StoreError> {
    match known_hook(tx, name)? {
        Some(hook) => Ok(hook),
        None => Ok(tx.prepare_cached("INSERT INTO hook (name) VALUES (?1)")?.insert([name.as_str()])?),
    }
}

/// The row of the hook, if there is one.
pub(super) fn known_hook(tx: &Connection, name: &HookName) -> Result<Option<i64>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT hook FROM hook WHERE name = ?1")?;
    Ok(statement.query_row([name.as_str()], |row| row.get(0)).optional()?)
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
    let mut statement = tx.prepare_cached(
        "INSERT INTO run (hook, lane, delivery, created_at, commit_id, token)
         VALUES (?1, ?2, ?3, ?4, ?5, lower(hex(randomblob(16))))",
    )?;
    let commit = new.job.target.commit().map(CommitId::as_str);
    let run = statement.insert(params![hook, lane, delivery, millis(now), commit])?;
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

/// Remembers by which run the push of this one was accepted first.
pub(super) fn note_first(tx: &Connection, run: RunId, first: RunId) -> Result<(), StoreError> {
    tx.prepare_cached("UPDATE run SET first_run = ?2 WHERE run = ?1")?.execute([run.0, first.0])?;
    Ok(())
}

/// The run by which the push of this one was accepted first. Their numbers are the order of acceptance.
pub(super) fn first_of(tx: &Connection, run: RunId) -> Result<RunId, StoreError> {
    let mut statement = tx.prepare_cached("SELECT coalesce(first_run, run) FROM run WHERE run = ?1")?;
    Ok(statement.query_row([run.0], |row| row.get(0)).optional()?.map_or(run, RunId))
}

/// Puts a run into its line. The caller sets the lane's head.
pub(super) fn wait(
    tx: &Connection,
    run: RunId,
    (hook, delivery): (i64, Option<i64>),
    job: &Job,
    place: &Place,
) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO pending (lane, seq, run, hook, ref, replaces, not_before, since, rank, interval)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let ref_key = ref_key(job.target.ref_name());
    let interval = i64::try_from(job.hook.min_interval.as_millis()).unwrap_or(i64::MAX);
    let Place { lane, seq, not_before, since, rank } = place;
    let replaces = replaces(job, delivery);
    statement.execute(params![lane, seq, run.0, hook, ref_key, replaces, not_before, since, rank, interval])?;
    Ok(())
}

/// A waiting run whose place was taken.
struct Replaced {
    run: i64,
    lane: i64,
    since: i64,
    rank: i64,
}

/// Ends every waiting run whose place the new one takes. The caller sets the head of the lane.
fn supersede(
    tx: &Connection,
    (hook, lane): (i64, i64),
    (job, delivery): (&Job, Option<i64>),
    (by, accepted): (RunId, RunId),
    now: Timestamp,
) -> Result<Vec<Replaced>, StoreError> {
    let replaces = replaces(job, delivery);
    if replaces == "nothing" {
        return Ok(Vec::new());
    }
    let mut statement = tx.prepare_cached(&format!(
        "DELETE FROM pending WHERE hook = ?1 AND ((?2 = 'hook' AND {IS_NO_TAG}) OR ref = ?3)
           AND (SELECT coalesce(r.first_run, r.run) FROM run r WHERE r.run = pending.run) < ?4
         RETURNING run, lane, since, rank",
    ))?;
    let row = |row: &Row| Ok(Replaced { run: row.get(0)?, lane: row.get(1)?, since: row.get(2)?, rank: row.get(3)? });
    let found = statement.query_map(params![hook, replaces, ref_key(job.target.ref_name()), accepted.0], row)?;
    let replaced = found.collect::<Result<Vec<_>, _>>()?;
    for it in &replaced {
        end(tx, &Ending::unclaimed(RunId(it.run), &Outcome::Superseded { by }, now))?;
        if it.lane != lane {
            lanes::set_head(tx, it.lane)?;
        }
    }
    Ok(replaced)
}

/// The newest waiting run of a newer push that takes the place of a run with this job, if there is one.
pub(super) fn replaced_by(tx: &Connection, hook: i64, run: RunId, job: &Job) -> Result<Option<RunId>, StoreError> {
    waiting_newer(tx, hook, first_of(tx, run)?, job)
}

fn waiting_newer(tx: &Connection, hook: i64, accepted: RunId, job: &Job) -> Result<Option<RunId>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT max(p.run) FROM pending p JOIN run r ON r.run = p.run
         WHERE p.hook = ?1 AND coalesce(r.first_run, r.run) > ?2
           AND ((p.replaces = 'hook' AND ?4) OR (p.replaces = 'ref' AND p.ref = ?3))",
    )?;
    let is_no_tag = !matches!(job.target.ref_name(), Some(RefName::Tag(_)));
    let ref_key = ref_key(job.target.ref_name());
    let newer: Option<i64> = statement.query_row(params![hook, accepted.0, ref_key, is_no_tag], |row| row.get(0))?;
    Ok(newer.map(RunId))
}

/// The newest run of a newer push that takes the place of one with this job, accepted then, and waits or is under way.
pub(super) fn unfinished_newer(
    tx: &Connection,
    hook: i64,
    accepted: RunId,
    job: &Job,
) -> Result<Option<RunId>, StoreError> {
    let mut newest = waiting_newer(tx, hook, accepted, job)?;
    let mut statement = tx.prepare_cached(
        "SELECT r.run, r.delivery, j.job FROM active a JOIN run r ON r.run = a.run JOIN job j ON j.run = a.run
         WHERE r.hook = ?1 AND coalesce(r.first_run, r.run) > ?2",
    )?;
    let ref_key = ref_key(job.target.ref_name());
    let mut rows = statement.query(params![hook, accepted.0])?;
    while let Some(row) = rows.next()? {
        let Some(job) = readable_job(row, 2)? else { continue };
        if takes_place((&job, row.get(1)?), &ref_key) {
            newest = newest.max(Some(RunId(row.get(0)?)));
        }
    }
    Ok(newest)
}

/// How a run ended, and what is known of it by then.
pub(super) struct Ending<'a> {
    run: RunId,
    outcome: &'a Outcome,
    now: Timestamp,
    facts: RunFacts,
    /// Whether it had begun to change what it deploys to.
    has_staged: bool,
    /// Of the claim it ended in: its fence, and when the run began, if it did.
    held: Option<(i64, Option<i64>)>,
}

impl<'a> Ending<'a> {
    /// Of a run that nobody had in hand.
    pub(super) fn unclaimed(run: RunId, outcome: &'a Outcome, now: Timestamp) -> Self {
        Self { run, outcome, now, facts: RunFacts::default(), has_staged: false, held: None }
    }

    /// Of a run that may have begun to change what it deploys to.
    pub(super) fn having_staged(self, has_staged: bool) -> Self {
        Self { has_staged, ..self }
    }

    /// Of a run that was claimed.
    pub(super) fn claimed(self, fence: i64, started_at: Option<i64>, facts: RunFacts) -> Self {
        Self { held: Some((fence, started_at)), facts, ..self }
    }
}

/// Writes the end down. The caller has taken the run out of its line.
pub(super) fn end(tx: &Connection, ending: &Ending) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE run SET finished_at = ?2, outcome = ?3, commit_id = coalesce(?4, commit_id), fields = ?5,
                        fence = ?6, started_at = ?7, has_folder = ?8, superseded_by = ?9, has_staged = ?10
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
        ending.outcome.superseded_by().map(|it| it.0),
        ending.has_staged,
    ])?;
    Ok(())
}
