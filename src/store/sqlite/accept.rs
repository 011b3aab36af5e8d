//! Accepting a delivery: its row, its body, its runs and the keys by which it is known again, in one transaction.
//!
//! Invariant: of all deliveries that carry the same key, a hook runs one, unless what that one started ended badly.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    forge::DedupeKey,
    journal,
    model::{
        name::HookName,
        run::{Mood, Outcome, RunId},
        source::{Forge, SourcePath},
    },
    store::{
        StoreError,
        arrival::{Accepted, DeliveryNo, Receipt},
        sqlite::{
            press::Press,
            rows::{key_bytes, millis},
            runs::{self, Prepared},
        },
    },
};

/// A delivery in the form it is stored in, made before the writer is asked for anything.
pub(in crate::store) struct Parcel {
    pub(in crate::store) path: SourcePath,
    pub(in crate::store) forge: Forge,
    pub(in crate::store) event: Option<String>,
    pub(in crate::store) delivery_id: Option<String>,
    pub(in crate::store) dedupe: Vec<DedupeKey>,
    pub(in crate::store) body: Body,
    pub(in crate::store) jobs: Vec<Prepared>,
    /// What it is if it makes no run and repeats none.
    pub(in crate::store) otherwise: &'static str,
    pub(in crate::store) message: String,
}

/// A compressed body.
pub(in crate::store) struct Body {
    size_bytes: usize,
    zstd: Vec<u8>,
}

impl Body {
    /// Compresses.
    pub(in crate::store) fn compress(bytes: &[u8], press: &Press) -> Result<Self, StoreError> {
        Ok(Self { size_bytes: bytes.len(), zstd: press.compress(bytes)? })
    }
}

impl Parcel {
    /// What becomes of it unless it was seen before: almost always, so that its row is written once.
    fn expected(&self) -> Accepted {
        if self.jobs.is_empty() { Accepted::Aside(self.otherwise) } else { Accepted::Queued }
    }
}

/// Takes a delivery in.
pub(in crate::store) fn accept(tx: &Connection, parcel: &Parcel, now: Timestamp) -> Result<Receipt, StoreError> {
    let delivery = insert(tx, parcel, now)?;
    let (mut queued, mut repeated) = (Vec::new(), Vec::new());
    for job in &parcel.jobs {
        let name = job.job.hook.name.clone();
        match seen(tx, &name, &parcel.dedupe, now)? {
            Seen::Stands(run) => repeated.push((run, name)),
            Seen::InVain(earlier) => {
                let run = runs::append(tx, job, Some(delivery), now)?;
                earlier.into_iter().try_for_each(|it| runs::note_next(tx, it, run))?;
                queued.push((run, name));
            }
        }
    }
    let (accepted, runs) = match (queued.is_empty(), repeated.is_empty()) {
        (false, _) => (Accepted::Queued, queued),
        (true, false) => (Accepted::Duplicate, repeated),
        (true, true) => (Accepted::Aside(parcel.otherwise), Vec::new()),
    };
    note_runs(tx, delivery, &runs, (accepted == Accepted::Queued).then_some(parcel.dedupe.as_slice()), now)?;
    let message = match accepted {
        Accepted::Queued | Accepted::Aside(_) => parcel.message.clone(),
        Accepted::Duplicate => format!("this delivery was taken before: {}", runs_in_words(&runs)),
    };
    if accepted != parcel.expected() || message != parcel.message {
        let mut statement = tx.prepare_cached("UPDATE delivery SET result = ?2, message = ?3 WHERE delivery = ?1")?;
        statement.execute(params![delivery, accepted.word(), message])?;
    }
    Ok(Receipt { delivery: DeliveryNo(delivery), accepted, runs, message })
}

fn insert(tx: &Connection, parcel: &Parcel, now: Timestamp) -> Result<i64, StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO delivery (path, forge, event, forge_id, received_at, result, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (path, forge, result) = (parcel.path.to_string(), parcel.forge.word(), parcel.expected().word());
    let Parcel { event, delivery_id, message, .. } = parcel;
    let delivery = statement.insert(params![path, forge, event, delivery_id, millis(now), result, message])?;
    let mut statement = tx.prepare_cached("INSERT INTO body (delivery, size_bytes, zstd) VALUES (?1, ?2, ?3)")?;
    let size_bytes = i64::try_from(parcel.body.size_bytes).unwrap_or(i64::MAX);
    statement.execute(params![delivery, size_bytes, parcel.body.zstd])?;
    Ok(delivery)
}

/// Whether a hook has seen a delivery.
enum Seen {
    /// It has, and this run stands for it.
    Stands(RunId),
    /// It has not, or all that came of it ended badly: these runs.
    InVain(Vec<RunId>),
}

fn seen(tx: &Connection, hook: &HookName, keys: &[DedupeKey], now: Timestamp) -> Result<Seen, StoreError> {
    // Not a join: SQLite would plan that anew for every key.
    let mut statement = tx
        .prepare_cached("SELECT run, at FROM seen WHERE hook = (SELECT hook FROM hook WHERE name = ?1) AND key = ?2")?;
    let mut in_vain = Vec::new();
    for key in keys {
        let row = statement.query_row(params![hook.as_str(), key_bytes(key)], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((run, at)) = row.optional()? else { continue };
        if !is_recent(key, at, now) {
            continue;
        }
        match newest_of(tx, run)? {
            Seen::Stands(run) => return Ok(Seen::Stands(run)),
            Seen::InVain(runs) => in_vain.extend(runs),
        }
    }
    Ok(Seen::InVain(in_vain))
}

/// A key of the body alone counts within its window; the others for ever.
fn is_recent(key: &DedupeKey, at: i64, now: Timestamp) -> bool {
    match key {
        DedupeKey::Id(_) | DedupeKey::Body(_) => true,
        DedupeKey::BodyWithin(_, window) => {
            let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
            millis(now).saturating_sub(at) <= window
        }
    }
}

/// Judges the last run in the chain of those that repeat one another. A run that is forgotten stands: better a push
/// that a person must send again than one that runs twice.
fn newest_of(tx: &Connection, first: i64) -> Result<Seen, StoreError> {
    let mut statement = tx.prepare_cached("SELECT next_run, outcome FROM run WHERE run = ?1")?;
    let mut run = first;
    loop {
        let row: Option<(Option<i64>, Option<String>)> =
            statement.query_row([run], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match row {
            Some((Some(next), _)) => run = next,
            Some((None, Some(outcome))) if is_in_vain(&journal::outcome::decode(&outcome)?) => {
                return Ok(Seen::InVain(vec![RunId(run)]));
            }
            Some((None, _)) | None => return Ok(Seen::Stands(RunId(run))),
        }
    }
}

/// Whether a redelivery may try once more. A superseded run had a newer one in its stead.
fn is_in_vain(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Cancelled { .. } => true,
        Outcome::Failed(_)
        | Outcome::TimedOut(_)
        | Outcome::RolledBack(_)
        | Outcome::RollbackFailed { .. }
        | Outcome::Stale { .. }
        | Outcome::Interrupted { .. }
        | Outcome::Succeeded
        | Outcome::Superseded { .. }
        | Outcome::Skipped { .. } => outcome.mood() == Mood::Bad,
    }
}

/// Ties runs to a delivery, and the keys of a delivery to the runs it made.
fn note_runs(
    tx: &Connection,
    delivery: i64,
    runs: &[(RunId, HookName)],
    keys: Option<&[DedupeKey]>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut tie = tx.prepare_cached(
        "INSERT INTO delivery_run (delivery, run, hook) VALUES (?1, ?2, (SELECT hook FROM hook WHERE name = ?3))
         ON CONFLICT DO NOTHING",
    )?;
    // Replaced, not updated: the numbers of `seen` then rise with time, which is what retention goes by.
    let mut remember = tx.prepare_cached(
        "INSERT OR REPLACE INTO seen (hook, key, run, at) VALUES ((SELECT hook FROM hook WHERE name = ?1), ?2, ?3, ?4)",
    )?;
    for (run, hook) in runs {
        tie.execute(params![delivery, run.0, hook.as_str()])?;
        for key in keys.unwrap_or_default() {
            remember.execute(params![hook.as_str(), key_bytes(key), run.0, millis(now)])?;
        }
    }
    Ok(())
}

fn runs_in_words(runs: &[(RunId, HookName)]) -> String {
    let words: Vec<_> = runs.iter().map(|(run, hook)| format!("run {run} of hook `{hook}`")).collect();
    words.join(", ")
}
