//! What is live: the last commit of a hook, or of a hook and a ref, whose run succeeded.
//!
//! Invariant: success is what a run said of itself when it ended; nothing is concluded from anything else.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    journal,
    model::{
        name::HookName,
        push::{CommitId, RefName},
        run::{Outcome, RunId},
    },
    store::{
        StoreError,
        history::Disturbed,
        sqlite::rows::{commit_id, ref_key},
    },
};

/// The last succeeded commit of a hook, or of a hook and a ref.
pub(in crate::store) fn live(
    tx: &Connection,
    hook: &HookName,
    ref_name: Option<&RefName>,
) -> Result<Option<CommitId>, StoreError> {
    Ok(find(tx, hook, ref_name)?.map(|(commit, _)| commit))
}

/// The ref that what is live came from; `None`: nothing is live, or it came from no ref that was known by then.
pub(in crate::store) fn ref_of_live(
    tx: &Connection,
    hook: &HookName,
    ref_name: Option<&RefName>,
) -> Result<Option<RefName>, StoreError> {
    let Some((_, run)) = find(tx, hook, ref_name)? else { return Ok(None) };
    let mut statement =
        tx.prepare_cached("SELECT ref FROM live WHERE hook = (SELECT hook FROM hook WHERE name = ?1) AND run = ?2")?;
    let found: Option<String> = statement.query_row(params![hook.as_str(), run], |row| row.get(0)).optional()?;
    Ok(found.and_then(|it| RefName::parse(&it)))
}

/// Whether the run that brought what is live did not succeed, or one after it may have changed that, and did not succeed.
///
/// A run of another ref counts too: what its scripts did is not known to be elsewhere. Only runs since then are
/// looked at, from the newest on.
pub(in crate::store) fn is_disturbed(
    tx: &Connection,
    hook: &HookName,
    ref_name: Option<&RefName>,
) -> Result<bool, StoreError> {
    Ok(disturbed_by(tx, hook, ref_name, i64::MAX)?.is_some())
}

/// The newest of these runs, and its commit as far as that is known; only so many of the newest are looked at.
pub(super) fn disturbed_by(
    tx: &Connection,
    hook: &HookName,
    ref_name: Option<&RefName>,
    runs_max: i64,
) -> Result<Option<Disturbed>, StoreError> {
    let Some((_, since)) = find(tx, hook, ref_name)? else { return Ok(None) };
    let mut statement = tx.prepare_cached(
        "SELECT outcome, run, commit_id FROM run WHERE hook = (SELECT hook FROM hook WHERE name = ?1) AND run >= ?2
             AND started_at IS NOT NULL AND outcome IS NOT NULL ORDER BY run DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![hook.as_str(), since, runs_max])?;
    while let Some(row) = rows.next()? {
        let run: i64 = row.get(1)?;
        let disturbs = |it: Outcome| if run == since { it != Outcome::Succeeded } else { it.may_have_changed() };
        // One that cannot be read may have been anything.
        if journal::outcome::decode(&row.get::<_, String>(0)?).map_or(true, disturbs) {
            let commit = row.get::<_, Option<String>>(2)?.map(|it| commit_id(&it)).transpose()?;
            return Ok(Some(Disturbed { run: RunId(run), commit }));
        }
    }
    Ok(None)
}

/// The commit, and the run that brought it.
fn find(tx: &Connection, hook: &HookName, ref_name: Option<&RefName>) -> Result<Option<(CommitId, i64)>, StoreError> {
    let both = |row: &Row| Ok(row.get::<_, Option<String>>(0)?.zip(row.get::<_, Option<i64>>(1)?));
    let found = match ref_name {
        None => {
            let mut statement = tx.prepare_cached("SELECT live_commit, live_run FROM hook WHERE name = ?1")?;
            statement.query_row([hook.as_str()], both).optional()?
        }
        Some(_) => {
            let mut statement = tx.prepare_cached(
                "SELECT commit_id, run FROM live JOIN hook USING (hook) WHERE name = ?1 AND ref = ?2",
            )?;
            statement.query_row(params![hook.as_str(), ref_key(ref_name)], both).optional()?
        }
    };
    found.flatten().map(|(commit, run)| Ok((commit_id(&commit)?, run))).transpose()
}
