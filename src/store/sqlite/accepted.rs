//! The newest accepted push of each ref of a hook, read off its runs.
//!
//! An accept writes nothing for it: what is new since last time is read when somebody asks, and noted then.
//!
//! Invariant: a run is noted once it and all that repeat it have ended, so a push that turned out to be stale never is.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params, types::ValueRef};

use crate::{
    journal,
    model::{
        baseline::AcceptedPush,
        job::{Asked, Job, Trigger},
        push::{RefChange, RefName, RepoName},
        run::{Outcome, RunId},
    },
    store::{
        StoreError,
        sqlite::{
            rows::{commit_id, readable_job},
            runs,
        },
    },
};

/// An accepted push.
struct Push {
    repo: RepoName,
    name: RefName,
    accepted: AcceptedPush,
}

/// What the runs of a hook say that are not noted yet.
pub(in crate::store) struct Unnoted {
    hook: i64,
    /// Those before it are all noted.
    up_to: i64,
    /// Pushes whose runs have ended.
    ended: Vec<Push>,
    /// Pushes that may still turn out to be stale.
    open: Vec<Push>,
}

impl Unnoted {
    /// Whether there is nothing to note.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }
}

/// Reads them.
pub(in crate::store) fn unnoted(tx: &Connection, hook: i64) -> Result<Unnoted, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT r.run, coalesce(r.first_run, r.run), r.delivery, j.job FROM run r LEFT JOIN job j USING (run)
         WHERE r.hook = ?1 AND r.run > (SELECT accepted_up_to FROM hook WHERE hook = ?1) ORDER BY r.run",
    )?;
    let (mut found, mut first_open) = (Unnoted { hook, up_to: 0, ended: Vec::new(), open: Vec::new() }, None);
    let mut rows = statement.query([hook])?;
    while let Some(row) = rows.next()? {
        let (run, accepted): (i64, i64) = (row.get(0)?, row.get(1)?);
        found.up_to = first_open.map_or(run, |it: i64| it - 1);
        // One that cannot be read can never run.
        let job = readable_job(row, 3)?;
        let Some(push) = job.as_ref().and_then(|it| push_of(it, row.get(2).ok()?, RunId(accepted))) else { continue };
        match fate(tx, run)? {
            Fate::Open => {
                found.up_to = *first_open.get_or_insert(run) - 1;
                found.open.push(push);
            }
            Fate::Counts => found.ended.push(push),
            Fate::Stale => (),
        }
    }
    Ok(found)
}

/// The push that a run was accepted with. One that repeats another was not accepted once more.
fn push_of(job: &Job, delivery: Option<i64>, run: RunId) -> Option<Push> {
    let is_accepted = delivery.is_some() || job.trigger == Trigger::CatchUp;
    let push = job.push.as_ref().filter(|_| is_accepted && job.asked == Asked::Push && job.retry_of.is_none())?;
    let RefChange::Moved(commit) = &push.change else { return None };
    let accepted = AcceptedPush { commit: commit.clone(), run, else_at: Vec::new() };
    Some(Push { repo: push.repo.clone(), name: push.ref_name.clone(), accepted })
}

/// What became of a push.
enum Fate {
    /// It has not ended.
    Open,
    /// It was older than what was live.
    Stale,
    /// It was the newest one, whatever became of it.
    Counts,
}

fn fate(tx: &Connection, run: i64) -> Result<Fate, StoreError> {
    let mut statement = tx.prepare_cached("SELECT next_run, outcome FROM run WHERE run = ?1")?;
    let mut run = run;
    loop {
        let row = |row: &Row| {
            let outcome = row.get_ref(1)?;
            let is_open = outcome == ValueRef::Null;
            let is_stale = matches!(outcome.as_str().map(journal::outcome::decode), Ok(Ok(Outcome::Stale { .. })));
            Ok((row.get::<_, Option<i64>>(0)?, is_open, is_stale))
        };
        match statement.query_row([run], row).optional()? {
            Some((Some(next), ..)) => run = next,
            Some((None, true, _)) => return Ok(Fate::Open),
            Some((None, false, true)) => return Ok(Fate::Stale),
            // What cannot be read counts: better a push that a person must send again than one that runs twice.
            Some((None, false, false)) => return Ok(Fate::Counts),
            // Retention has removed it, long after its end.
            None => return Ok(Fate::Counts),
        }
    }
}

/// Notes them.
pub(in crate::store) fn note(tx: &Connection, unnoted: &Unnoted) -> Result<(), StoreError> {
    unnoted.ended.iter().try_for_each(|it| note_one(tx, unnoted.hook, it))?;
    let mut statement =
        tx.prepare_cached("UPDATE hook SET accepted_up_to = ?2 WHERE hook = ?1 AND accepted_up_to < ?2")?;
    statement.execute([unnoted.hook, unnoted.up_to])?;
    Ok(())
}

fn note_one(tx: &Connection, hook: i64, push: &Push) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO accepted (hook, repo, ref, commit_id, run) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET commit_id = excluded.commit_id, run = excluded.run WHERE excluded.run > run",
    )?;
    let Push { repo, name, accepted: AcceptedPush { commit, run, .. } } = push;
    statement.execute(params![hook, repo_key(repo), name.full(), commit.as_str(), run.0])?;
    Ok(())
}

/// Notes what a store knew that was lost: pushes whose jobs stand in folders of runs that it does not know any more.
pub(in crate::store) fn recall(tx: &Connection, jobs: &[(RunId, Job)]) -> Result<(), StoreError> {
    for (run, job) in jobs {
        // Whether it came with a delivery is not in the folder; what a person asked for says so itself.
        let Some(push) = push_of(job, Some(0), *run) else { continue };
        note_one(tx, runs::hook(tx, &job.hook.name)?, &push)?;
    }
    Ok(())
}

/// The newest accepted push of each ref of a repository.
pub(in crate::store) fn newest(
    tx: &Connection,
    unnoted: &Unnoted,
    repo: &RepoName,
) -> Result<HashMap<RefName, AcceptedPush>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT ref, commit_id, run FROM accepted WHERE hook = ?1 AND repo = ?2")?;
    let mut rows = statement.query(params![unnoted.hook, repo_key(repo)])?;
    let mut newest = HashMap::new();
    while let Some(row) = rows.next()? {
        if let Some(name) = RefName::parse(&row.get::<_, String>(0)?) {
            let (commit, run) = (commit_id(&row.get::<_, String>(1)?)?, RunId(row.get(2)?));
            newest.insert(name, AcceptedPush { commit, run, else_at: Vec::new() });
        }
    }
    let of_repo = |it: &&Push| it.repo == *repo;
    for Push { name, accepted, .. } in unnoted.ended.iter().filter(of_repo) {
        let known = newest.entry(name.clone()).or_insert_with(|| accepted.clone());
        if accepted.run >= known.run {
            *known = accepted.clone();
        }
    }
    // Each of them may turn out to be stale, and then what was before it is the newest.
    for Push { name, accepted, .. } in unnoted.open.iter().filter(of_repo) {
        match newest.get_mut(name) {
            Some(known) if accepted.run >= known.run => {
                let before = std::mem::replace(known, accepted.clone());
                known.else_at = before.else_at;
                known.else_at.push(before.commit);
            }
            Some(known) => known.else_at.push(accepted.commit.clone()),
            None => drop(newest.insert(name.clone(), accepted.clone())),
        }
    }
    Ok(newest)
}

/// Hooks of which runs are not noted.
pub(in crate::store) fn hooks_to_note(tx: &Connection) -> Result<Vec<i64>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT hook FROM hook h WHERE EXISTS (SELECT 1 FROM run WHERE hook = h.hook AND run > h.accepted_up_to)",
    )?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn repo_key(repo: &RepoName) -> String {
    repo.as_str().to_lowercase()
}
