//! What is on hold: hooks, everything, and commits that did not come up.
//!
//! Invariant: a job on hold waits, keeps its place, and gives way to a newer one as any waiting job does.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    model::{
        job::Job,
        name::HookName,
        push::CommitId,
        run::{FailureClass, Outcome, RunId},
    },
    store::{
        StoreError,
        history::{BadCommit, Hold},
        sqlite::{
            lanes,
            rows::{commit_id, hook_name, millis, time},
            runs,
        },
    },
};

/// The row that stands for all hooks.
const EVERYTHING: i64 = 0;

fn row_of(tx: &Connection, hook: Option<&HookName>) -> Result<i64, StoreError> {
    hook.map_or(Ok(EVERYTHING), |name| runs::hook(tx, name))
}

/// Puts a hook, or everything, on hold. A hold that is there already gets this reason and end.
pub(in crate::store) fn hold(tx: &Connection, hold: &Hold) -> Result<(), StoreError> {
    let hook = row_of(tx, hold.hook.as_ref())?;
    let mut statement = tx.prepare_cached(
        "INSERT INTO hold (hook, reason, author, since, until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (hook) DO UPDATE SET reason = excluded.reason, author = excluded.author, until = excluded.until",
    )?;
    statement.execute(params![hook, hold.reason, hold.author, millis(hold.since), hold.until.map(millis)])?;
    lanes::set_heads_of(tx, hook)
}

/// Ends a hold; whether there was one.
pub(in crate::store) fn resume(tx: &Connection, hook: Option<&HookName>) -> Result<bool, StoreError> {
    let hook = row_of(tx, hook)?;
    let was_held = tx.prepare_cached("DELETE FROM hold WHERE hook = ?1")?.execute([hook])? == 1;
    lanes::set_heads_of(tx, hook)?;
    Ok(was_held)
}

/// Ends the holds whose time is over.
pub(super) fn expire(tx: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("DELETE FROM hold WHERE until <= ?1 RETURNING hook")?;
    let ended = statement.query_map([millis(now)], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    ended.into_iter().try_for_each(|hook| lanes::set_heads_of(tx, hook))
}

/// The reason why everything is on hold, if it is.
pub(super) fn of_everything(tx: &Connection) -> Result<Option<String>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT reason FROM hold WHERE hook = ?1")?;
    Ok(statement.query_row([EVERYTHING], |row| row.get(0)).optional()?)
}

/// When the first hold ends by itself.
pub(super) fn next_end(tx: &Connection) -> Result<Option<i64>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT until FROM hold WHERE until IS NOT NULL ORDER BY until LIMIT 1")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

/// What is on hold, longest first.
pub(in crate::store) fn holds(tx: &Connection) -> Result<Vec<Hold>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT h.name, d.reason, d.author, d.since, d.until FROM hold d LEFT JOIN hook h USING (hook) ORDER BY d.since",
    )?;
    let mut rows = statement.query([])?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next()? {
        holds.push(Hold {
            hook: row.get::<_, Option<String>>(0)?.map(|it| hook_name(&it)).transpose()?,
            reason: row.get(1)?,
            author: row.get(2)?,
            since: time(row.get(3)?)?,
            until: row.get::<_, Option<i64>>(4)?.map(time).transpose()?,
        });
    }
    Ok(holds)
}

/// Remembers a commit that went live and did not come up, and forgets one that did. A release that a person goes back to
/// was good before, and is not at fault alone if it is not now; one that asked to be tried again later is to have that.
pub(super) fn judge_commit(
    tx: &Connection,
    (run, hook): (RunId, i64),
    (job, commit): (&Job, &CommitId),
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), StoreError> {
    match outcome {
        Outcome::RolledBack(_) | Outcome::RollbackFailed { .. } if !job.target.is_fetched() => (),
        Outcome::RolledBack(failure) if failure.class == FailureClass::Tempfail => (),
        Outcome::RolledBack(_) | Outcome::RollbackFailed { .. } => {
            let mut statement = tx.prepare_cached(
                "INSERT OR REPLACE INTO bad_commit (hook, commit_id, run, at) VALUES (?1, ?2, ?3, ?4)",
            )?;
            statement.execute(params![hook, commit.as_str(), run.0, millis(now)])?;
        }
        Outcome::Succeeded => {
            let mut statement = tx.prepare_cached("DELETE FROM bad_commit WHERE hook = ?1 AND commit_id = ?2")?;
            statement.execute(params![hook, commit.as_str()])?;
        }
        Outcome::Failed(_)
        | Outcome::TimedOut(_)
        | Outcome::Cancelled { .. }
        | Outcome::Superseded { .. }
        | Outcome::Stale { .. }
        | Outcome::Skipped { .. }
        | Outcome::Interrupted { .. } => (),
    }
    Ok(())
}

/// Why a push of this job's commit is not deployed, if its commit went live before and did not come up.
pub(super) fn of_commit(tx: &Connection, hook: i64, job: &Job) -> Result<Option<String>, StoreError> {
    let Some(commit) = job.target.commit() else { return Ok(None) };
    let mut statement = tx.prepare_cached("SELECT run FROM bad_commit WHERE hook = ?1 AND commit_id = ?2")?;
    let run = statement.query_row(params![hook, commit.as_str()], |row| row.get(0)).optional()?;
    Ok(run.map(|run| sentence(commit, &job.hook.name, RunId(run))))
}

/// That a commit is on hold, as a sentence without a full stop.
pub(super) fn sentence(commit: &CommitId, hook: &HookName, run: RunId) -> String {
    let short = commit.short();
    format!(
        "commit {short} is on hold, since it did not come up in run {run}: push a fix, or allow it with `landfall resume \
         {hook} --commit {commit}`"
    )
}

/// Lets a commit be queued again; whether it was on hold.
pub(in crate::store) fn forgive(tx: &Connection, hook: &HookName, commit: &CommitId) -> Result<bool, StoreError> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM bad_commit WHERE hook = (SELECT hook FROM hook WHERE name = ?1) AND commit_id = ?2",
    )?;
    Ok(statement.execute([hook.as_str(), commit.as_str()])? == 1)
}

/// The commits of a hook that are on hold, newest first.
pub(super) fn bad_commits(tx: &Connection, hook: &HookName) -> Result<Vec<BadCommit>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT commit_id, run, at FROM bad_commit JOIN hook USING (hook) WHERE name = ?1 ORDER BY run DESC",
    )?;
    let mut rows = statement.query([hook.as_str()])?;
    let mut commits = Vec::new();
    while let Some(row) = rows.next()? {
        let commit = commit_id(&row.get::<_, String>(0)?)?;
        commits.push(BadCommit { commit, run: RunId(row.get(1)?), since: time(row.get(2)?)? });
    }
    Ok(commits)
}
