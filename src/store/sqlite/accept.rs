//! Accepting a delivery: its row, its body, its runs and the keys by which it is known again, in one transaction.
//!
//! Invariant: of all deliveries that carry the same key, a hook runs one, unless what that one started ended badly.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    forge::DedupeKey,
    journal,
    model::{
        job::Job,
        name::HookName,
        push::CommitId,
        run::{Mood, Outcome, RunId, RunStep},
        source::{Forge, SourcePath},
    },
    route,
    store::{
        StoreError,
        arrival::{Accepted, DeliveryNo, Receipt, Repository},
        sqlite::{
            catch_up, hold,
            press::Press,
            repository,
            rows::{key_bytes, millis, ref_mark},
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
    pub(in crate::store) commit: Option<CommitId>,
    pub(in crate::store) repository: Option<Repository>,
    pub(in crate::store) dedupe: Vec<DedupeKey>,
    pub(in crate::store) body: Body,
    pub(in crate::store) wish: Wish,
}

impl Parcel {
    /// The commit, if no run will tell of it.
    fn commit_of(&self, accepted: Accepted) -> Option<&str> {
        match accepted {
            Accepted::Aside(_) => self.commit.as_ref().map(CommitId::as_str),
            Accepted::Queued | Accepted::Duplicate => None,
        }
    }
}

/// What a delivery is to do.
pub(in crate::store) enum Wish {
    /// To queue jobs; the other hooks of its repository do not want it, each for a reason.
    Queue { jobs: Vec<Prepared>, refused: Vec<(HookName, String)> },
    /// Nothing.
    Aside { result: &'static str, message: String },
}

impl Wish {
    /// The jobs, if it has any.
    pub(in crate::store) fn jobs(&self) -> &[Prepared] {
        match self {
            Self::Queue { jobs, .. } => jobs,
            Self::Aside { .. } => &[],
        }
    }

    /// What becomes of the delivery unless it was seen before or is on hold: almost always, so that its row is
    /// written once.
    fn expected(&self) -> (Accepted, String) {
        match self {
            Self::Queue { jobs, refused } => {
                let message = queued_for(jobs.iter().map(|it| &it.job.hook.name));
                (Accepted::Queued, with_others(message, refused))
            }
            Self::Aside { result, message } => (Accepted::Aside(result), message.clone()),
        }
    }
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

/// Takes a delivery in.
pub(in crate::store) fn accept(tx: &Connection, parcel: &Parcel, now: Timestamp) -> Result<Receipt, StoreError> {
    let expected = parcel.wish.expected();
    let delivery = insert(tx, parcel, &expected, now)?;
    let (accepted, runs, mut message) = match &parcel.wish {
        Wish::Aside { result, message } => (Accepted::Aside(result), Vec::new(), message.clone()),
        Wish::Queue { jobs, refused } => queue(tx, (delivery, jobs, refused), &parcel.dedupe, now)?,
    };
    let mut renamed = Vec::new();
    if let Some(it) = &parcel.repository {
        let seen = repository::see(tx, &parcel.path, it, &runs)?;
        message.push_str(&seen.remark);
        renamed = seen.news;
    }
    if (accepted, &message) != (expected.0, &expected.1) {
        let mut statement =
            tx.prepare_cached("UPDATE delivery SET result = ?2, message = ?3, commit_id = ?4 WHERE delivery = ?1")?;
        statement.execute(params![delivery, accepted.word(), message, parcel.commit_of(accepted)])?;
    }
    Ok(Receipt { delivery: DeliveryNo(delivery), accepted, runs, message, renamed })
}

type Runs = Vec<(RunId, HookName)>;

/// Queues what is not there already. The sentence gives the reason of every hook that runs nothing.
fn queue(
    tx: &Connection,
    (delivery, jobs, refused): (i64, &[Prepared], &[(HookName, String)]),
    dedupe: &[DedupeKey],
    now: Timestamp,
) -> Result<(Accepted, Runs, String), StoreError> {
    let (mut queued, mut repeated, mut held) = (Runs::new(), Vec::new(), Vec::new());
    for job in jobs {
        let name = job.job.hook.name.clone();
        let hook = runs::hook(tx, &name)?;
        match judge(tx, hook, (dedupe, &job.job), now)? {
            Seen::Stands(run, why) => {
                if matches!(why, Why::CaughtUp) {
                    remember(tx, hook, (dedupe, &job.job), (delivery, run), 1, now)?;
                }
                repeated.push((run, name, why));
            }
            Seen::Held(why) => held.push((name, why)),
            Seen::InVain { runs: earlier, first, times } => {
                let run = runs::append(tx, hook, job, (Some(delivery), first), now)?;
                if first.is_none() {
                    catch_up::forget(tx, hook, &job.job)?;
                }
                earlier.into_iter().try_for_each(|it| runs::note_next(tx, it, run))?;
                tie(tx, delivery, run, hook)?;
                remember(tx, hook, (dedupe, &job.job), (delivery, run), times + 1, now)?;
                queued.push((run, name));
            }
        }
    }
    let mut others = [held, refused.to_vec()].concat();
    Ok(match (queued.is_empty(), repeated.is_empty()) {
        (false, _) => {
            others.extend(repeated.into_iter().map(|(run, name, why)| (name, why.sentence(run))));
            let message = with_others(queued_for(queued.iter().map(|(_, name)| name)), &others);
            (Accepted::Queued, queued, message)
        }
        (true, false) => {
            repeated.iter().try_for_each(|(run, name, _)| tie(tx, delivery, *run, runs::hook(tx, name)?))?;
            let message = with_others(why_repeated(&repeated), &others);
            (Accepted::Duplicate, repeated.into_iter().map(|(run, name, _)| (run, name)).collect(), message)
        }
        (true, true) => match others.as_slice() {
            [(_, why)] => (Accepted::Aside(HELD), Runs::new(), why.clone()),
            _ => (Accepted::Aside(HELD), Runs::new(), route::each_rule(&others)),
        },
    })
}

fn queued_for<'a>(hooks: impl Iterator<Item = &'a HookName>) -> String {
    let names: Vec<_> = hooks.map(|it| format!("`{it}`")).collect();
    format!("queued for {}", names.join(", "))
}

/// The sentence, and why the other hooks run nothing.
fn with_others(message: String, others: &[(HookName, String)]) -> String {
    if others.is_empty() { message } else { format!("{message}; not for {}", route::each_rule(others)) }
}

/// The word for a push of a commit that is on hold.
const HELD: &str = "held";

fn insert(
    tx: &Connection,
    parcel: &Parcel,
    (accepted, message): &(Accepted, String),
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO delivery (path, forge, event, forge_id, commit_id, received_at, result, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let (path, forge, result) = (parcel.path.to_string(), parcel.forge.word(), accepted.word());
    let (Parcel { event, delivery_id, .. }, commit) = (parcel, parcel.commit_of(*accepted));
    let delivery = statement.insert(params![path, forge, event, delivery_id, commit, millis(now), result, message])?;
    let mut statement = tx.prepare_cached("INSERT INTO body (delivery, size_bytes, zstd) VALUES (?1, ?2, ?3)")?;
    let size_bytes = i64::try_from(parcel.body.size_bytes).unwrap_or(i64::MAX);
    statement.execute(params![delivery, size_bytes, parcel.body.zstd])?;
    Ok(delivery)
}

/// So many runs come of one delivery: the first, and three redeliveries. Whoever recorded one that failed could have it
/// run without end.
const RUNS_MAX: u32 = 4;

/// Whether a hook has seen a delivery.
enum Seen {
    /// It has, and this run stands for it.
    Stands(RunId, Why),
    /// Its commit is on hold, for a reason.
    Held(String),
    /// It has not, or all that came of it ended badly.
    InVain {
        /// The last runs that came of it.
        runs: Vec<RunId>,
        /// The run by which it was accepted first, if it was.
        first: Option<RunId>,
        /// How often it was queued.
        times: u32,
    },
}

/// Why a delivery is not queued once more.
#[derive(Clone, Copy)]
enum Why {
    /// The run has not ended, or ended well.
    Taken,
    /// The run was the last of all that may come of it.
    TooOften,
    /// The run is of a newer push, in whose favour this one would have been left out.
    Newer,
    /// The run was queued before the delivery came, since its remote had the commit.
    CaughtUp,
}

impl Why {
    /// As a clause about a hook.
    fn sentence(self, run: RunId) -> String {
        match self {
            Self::Taken => format!("it took this delivery before, as run {run}"),
            Self::TooOften => format!(
                "it was queued {RUNS_MAX} times, and every run of it ended badly: `landfall retry {run}` runs it once \
                 more"
            ),
            Self::Newer => format!("run {run} is of a newer push and takes its place"),
            Self::CaughtUp => format!("its remote had this before the delivery came, and run {run} is of it"),
        }
    }
}

fn judge(tx: &Connection, hook: i64, (keys, job): (&[DedupeKey], &Job), now: Timestamp) -> Result<Seen, StoreError> {
    let seen = seen(tx, hook, (keys, job), now)?;
    let Seen::InVain { runs, first, times } = &seen else { return Ok(seen) };
    if let Some(why) = hold::of_commit(tx, hook, job)? {
        return Ok(Seen::Held(why));
    }
    match (runs.iter().max(), first) {
        (Some(last), _) if *times >= RUNS_MAX => Ok(Seen::Stands(*last, Why::TooOften)),
        (_, Some(first)) => {
            let newer = runs::unfinished_newer(tx, hook, *first, job)?;
            Ok(newer.map_or(seen, |run| Seen::Stands(run, Why::Newer)))
        }
        (_, None) => Ok(seen),
    }
}

fn seen(tx: &Connection, hook: i64, (keys, job): (&[DedupeKey], &Job), now: Timestamp) -> Result<Seen, StoreError> {
    let mut statement = tx.prepare_cached("SELECT run, at, delivery, times FROM seen WHERE hook = ?1 AND key = ?2")?;
    let (mut runs, mut first, mut times) = (Vec::new(), None, 0);
    for key in keys {
        let row = statement.query_row(params![hook, key_bytes(key)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get::<_, u32>(3)?))
        });
        let Some((run, at, delivery, queued)) = row.optional()? else { continue };
        if !counts(tx, (hook, job), key, (at, delivery), now)? {
            continue;
        }
        match newest_of(tx, run)? {
            Newest::Stands(run) => return Ok(Seen::Stands(run, Why::Taken)),
            Newest::InVain { run, accepted } => {
                runs.push(run);
                first = Some(first.map_or(accepted, |it: RunId| it.min(accepted)));
                times = times.max(queued);
            }
        }
    }
    if runs.is_empty()
        && let Some(run) = catch_up::run_of(tx, hook, job)?
    {
        return Ok(match newest_of(tx, run)? {
            Newest::Stands(run) => Seen::Stands(run, Why::CaughtUp),
            Newest::InVain { run, accepted } => Seen::InVain { runs: vec![run], first: Some(accepted), times: 1 },
        });
    }
    Ok(Seen::InVain { runs, first, times })
}

/// Whether a delivery that was seen at that time with a key is the same one. A key of the body alone counts within its
/// window, and only if the ref has not been pushed to since: A to B, B to A, A to B are three pushes of two bodies.
fn counts(
    tx: &Connection,
    (hook, job): (i64, &Job),
    key: &DedupeKey,
    (at, delivery): (i64, i64),
    now: Timestamp,
) -> Result<bool, StoreError> {
    match key {
        DedupeKey::Id(_) | DedupeKey::Body(_) => Ok(true),
        DedupeKey::Named(_) => Ok(false),
        DedupeKey::BodyWithin(_, window) => {
            let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
            // The clock may have been set back since.
            if millis(now).abs_diff(at) > window {
                return Ok(false);
            }
            let mut since = tx.prepare_cached("SELECT 1 FROM seen WHERE hook = ?1 AND key = ?2 AND delivery > ?3")?;
            Ok(!since.exists(params![hook, ref_mark(job.target.ref_name()), delivery])?)
        }
    }
}

/// The last run in a chain of those that repeat one another.
enum Newest {
    /// It has not ended, or not badly.
    Stands(RunId),
    /// It ended badly.
    InVain {
        run: RunId,
        /// The first of the chain, as pushes were accepted.
        accepted: RunId,
    },
}

/// Judges the last run of a chain. A run that is forgotten stands: better a push that a person must send again than one
/// that runs twice.
fn newest_of(tx: &Connection, first: i64) -> Result<Newest, StoreError> {
    let mut statement =
        tx.prepare_cached("SELECT next_run, outcome, coalesce(first_run, run) FROM run WHERE run = ?1")?;
    let (mut run, mut accepted) = (first, first);
    loop {
        let row: Option<(Option<i64>, Option<String>, i64)> =
            statement.query_row([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        if let Some((.., it)) = &row {
            accepted = accepted.min(*it);
        }
        match row {
            Some((Some(next), ..)) => run = next,
            Some((None, Some(outcome), _)) if is_in_vain(&journal::outcome::decode(&outcome)?) => {
                return Ok(Newest::InVain { run: RunId(run), accepted: RunId(accepted) });
            }
            Some((None, ..)) | None => return Ok(Newest::Stands(RunId(run))),
        }
    }
}

/// Whether a redelivery may try once more. A superseded run had a newer one in its stead. What was skipped before it had
/// the lane was on hold.
fn is_in_vain(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Cancelled { .. } | Outcome::Skipped { step: RunStep::Lock, .. } => true,
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

/// Ties a run to a delivery.
fn tie(tx: &Connection, delivery: i64, run: RunId, hook: i64) -> Result<(), StoreError> {
    let mut tie = tx.prepare_cached("INSERT OR IGNORE INTO delivery_run (delivery, run, hook) VALUES (?1, ?2, ?3)")?;
    tie.execute(params![delivery, run.0, hook])?;
    Ok(())
}

/// Remembers by what a delivery is known again, and its run. Where a body alone says so, the ref is remembered as well.
fn remember(
    tx: &Connection,
    hook: i64,
    (keys, job): (&[DedupeKey], &Job),
    made: (i64, RunId),
    times: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    for key in keys {
        tie_key(tx, hook, &key_bytes(key), made, times, now)?;
        if matches!(key, DedupeKey::BodyWithin(..)) {
            tie_key(tx, hook, &ref_mark(job.target.ref_name()), made, 1, now)?;
        }
    }
    Ok(())
}

/// Ties a key to a delivery and its run. It hardly ever was tied to another before, and `OR REPLACE` would copy pages
/// for that.
fn tie_key(
    tx: &Connection,
    hook: i64,
    key: &[u8],
    (delivery, run): (i64, RunId),
    times: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO seen (hook, key, delivery, run, at, times) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let seen = params![hook, key, delivery, run.0, millis(now), times];
    if insert.execute(seen)? == 0 {
        // Replaced, not updated: the numbers of `seen` then rise with time, which is what retention goes by.
        tx.execute("DELETE FROM seen WHERE hook = ?1 AND key = ?2", params![hook, key])?;
        insert.execute(seen)?;
    }
    Ok(())
}

/// Why no hook queued a delivery once more, with the run of each.
fn why_repeated(repeated: &[(RunId, HookName, Why)]) -> String {
    let (taken, others): (Vec<_>, Vec<_>) = repeated.iter().partition(|(.., why)| matches!(why, Why::Taken));
    let runs: Vec<_> = taken.iter().map(|(run, hook, _)| format!("run {run} of hook `{hook}`")).collect();
    let taken = (!runs.is_empty()).then(|| format!("this delivery was taken before: {}", runs.join(", ")));
    let others = others.iter().map(|(run, hook, why)| format!("`{hook}`: {}", why.sentence(*run)));
    taken.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}
