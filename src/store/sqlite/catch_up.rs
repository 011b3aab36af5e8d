//! Queues what a remote has and no delivery brought, and knows the delivery that brings it late.
//!
//! Invariant: it is queued only if no push of its ref has been accepted since the remote was asked.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    model::{
        baseline::{Known, RemoteRef},
        job::Job,
        name::HookName,
        push::{CommitId, RefName, RepoName},
        run::RunId,
    },
    store::{
        StoreError,
        catch_up::CaughtUp,
        sqlite::{
            accepted::{self, Unnoted},
            hold,
            rows::{commit_id, ref_key},
            runs::{self, Prepared},
        },
    },
};

/// What a look at a remote found for one hook, ready to be written.
pub(in crate::store) struct Finding {
    pub(in crate::store) hook: HookName,
    pub(in crate::store) repo: RepoName,
    pub(in crate::store) looked_for: String,
    /// Where refs are that only match a pattern.
    pub(in crate::store) seen: Vec<(RefName, CommitId)>,
    pub(in crate::store) missed: Vec<MissedJob>,
}

/// A push that no delivery brought.
pub(in crate::store) struct MissedJob {
    pub(in crate::store) job: Prepared,
    pub(in crate::store) found: RemoteRef,
    /// The newest push that was accepted when the remote was asked.
    pub(in crate::store) newest: Option<RunId>,
}

/// What is known of the refs of a hook's repository, and what of that is still to be noted.
pub(in crate::store) fn known(
    tx: &Connection,
    hook: &HookName,
    repo: &RepoName,
    looked_for: &str,
) -> Result<(Known, Option<Unnoted>), StoreError> {
    let Some(hook) = runs::known_hook(tx, hook)? else { return Ok((Known::default(), None)) };
    let unnoted = accepted::unnoted(tx, hook)?;
    let known = Known { accepted: accepted::newest(tx, &unnoted, repo)?, seen: seen(tx, hook, looked_for)? };
    Ok((known, Some(unnoted).filter(|it| !it.is_empty())))
}

/// Where the last look saw refs, if it was for the same ones.
fn seen(tx: &Connection, hook: i64, looked_for: &str) -> Result<Option<HashMap<RefName, CommitId>>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT 1 FROM hook WHERE hook = ?1 AND looked_for = ?2")?;
    if !statement.exists(params![hook, looked_for])? {
        return Ok(None);
    }
    let mut statement = tx.prepare_cached("SELECT ref, commit_id FROM seen_ref WHERE hook = ?1")?;
    let mut rows = statement.query([hook])?;
    let mut seen = HashMap::new();
    while let Some(row) = rows.next()? {
        if let Some(name) = RefName::parse(&row.get::<_, String>(0)?) {
            seen.insert(name, commit_id(&row.get::<_, String>(1)?)?);
        }
    }
    Ok(Some(seen))
}

/// Queues what was missed, and remembers what was seen.
pub(in crate::store) fn catch_up(
    tx: &Connection,
    finding: &Finding,
    now: Timestamp,
) -> Result<Vec<CaughtUp>, StoreError> {
    let hook = runs::hook(tx, &finding.hook)?;
    let newest = accepted::newest(tx, &accepted::unnoted(tx, hook)?, &finding.repo)?;
    let mut done = Vec::new();
    for missed in &finding.missed {
        let found = missed.found.clone();
        if newest.get(&found.name).map(|it| it.run) != missed.newest {
            done.push(CaughtUp::Overtaken { found });
        } else if let Some(why) = hold::of_commit(tx, hook, &missed.job.job)? {
            done.push(CaughtUp::Held { why });
        } else {
            let run = runs::append(tx, hook, &missed.job, (None, None), now)?;
            note(tx, hook, &found, run)?;
            done.push(CaughtUp::Queued { found, run });
        }
    }
    remember(tx, hook, finding)?;
    Ok(done)
}

fn note(tx: &Connection, hook: i64, found: &RemoteRef, run: RunId) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO caught_up (hook, ref, commit_id, tag_id, run) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let tag = found.tag.as_ref().map(CommitId::as_str);
    statement.execute(params![hook, found.name.full(), found.commit.as_str(), tag, run.0])?;
    Ok(())
}

fn remember(tx: &Connection, hook: i64, finding: &Finding) -> Result<(), StoreError> {
    if seen(tx, hook, &finding.looked_for)? == Some(finding.seen.iter().cloned().collect()) {
        return Ok(());
    }
    tx.prepare_cached("DELETE FROM seen_ref WHERE hook = ?1")?.execute([hook])?;
    let mut statement = tx.prepare_cached("INSERT INTO seen_ref (hook, ref, commit_id) VALUES (?1, ?2, ?3)")?;
    for (name, commit) in &finding.seen {
        statement.execute(params![hook, name.full(), commit.as_str()])?;
    }
    let mut statement = tx.prepare_cached("UPDATE hook SET looked_for = ?2 WHERE hook = ?1")?;
    statement.execute(params![hook, finding.looked_for])?;
    Ok(())
}

/// The run by which the push of this job was caught up with, if it was and no other push of its ref came since.
pub(super) fn run_of(tx: &Connection, hook: i64, job: &Job) -> Result<Option<i64>, StoreError> {
    let (Some(name), Some(commit)) = (job.target.ref_name(), job.target.commit()) else { return Ok(None) };
    let mut statement = tx
        .prepare_cached("SELECT run FROM caught_up WHERE hook = ?1 AND ref = ?2 AND (commit_id = ?3 OR tag_id = ?3)")?;
    let run = statement.query_row(params![hook, name.full(), commit.as_str()], |row: &Row| row.get(0));
    Ok(run.optional()?)
}

/// Another push of this job's ref was accepted: from now on a delivery of what was caught up with is a push of its own.
pub(super) fn forget(tx: &Connection, hook: i64, job: &Job) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached("DELETE FROM caught_up WHERE hook = ?1 AND ref = ?2")?;
    statement.execute(params![hook, ref_key(job.target.ref_name())])?;
    Ok(())
}
