//! Knows the repository of a hook by the forge's own number of it, and so notices that it has a new name.
//!
//! Invariant: a number is learnt from a push that a hook queued, and a new name from a proven sender. It changes nothing
//! but what people are told.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    model::{name::HookName, push::RepoName, run::RunId, source::SourcePath},
    store::{
        StoreError,
        arrival::Repository,
        sqlite::{rows::hook_name, runs},
    },
};

/// What the name of a pushed repository says about hooks.
#[derive(Default)]
pub(super) struct Seen {
    /// What the sender and `why` are told besides; a clause that begins with a semicolon, or nothing.
    pub(super) remark: String,
    /// Hooks whose repository has a new name since now.
    pub(super) news: Vec<(HookName, RepoName)>,
}

/// Looks at the repository of a push. Its number counts at its address alone: another forge has the same numbers.
pub(super) fn see(
    tx: &Connection,
    path: &SourcePath,
    repository: &Repository,
    queued: &[(RunId, HookName)],
) -> Result<Seen, StoreError> {
    let number = format!("{path}#{}", repository.number);
    if repository.is_named {
        queued.iter().try_for_each(|(_, name)| learn(tx, name, &number))?;
        return Ok(Seen::default());
    }
    let mut statement = tx.prepare_cached("SELECT hook, name, renamed_to FROM hook WHERE repository = ?1")?;
    let mut rows = statement.query([&number])?;
    let (mut hooks, mut seen) = (Vec::new(), Seen::default());
    while let Some(row) = rows.next()? {
        let name = hook_name(&row.get::<_, String>(1)?)?;
        if row.get::<_, Option<String>>(2)?.as_deref() != Some(repository.name.as_str()) {
            let mut rename = tx.prepare_cached("UPDATE hook SET renamed_to = ?2 WHERE hook = ?1")?;
            rename.execute(params![row.get::<_, i64>(0)?, repository.name.as_str()])?;
            seen.news.push((name.clone(), repository.name.clone()));
        }
        hooks.push(format!("`{name}`"));
    }
    if !hooks.is_empty() {
        let (hooks, new) = (hooks.join(", "), &repository.name);
        seen.remark = format!("; it is the repository of {hooks} under a new name: write `{new}` in hooks.yaml");
    }
    Ok(seen)
}

/// Remembers the number of a hook's repository, whose name is right.
fn learn(tx: &Connection, hook: &HookName, number: &str) -> Result<(), StoreError> {
    let Some(hook) = runs::known_hook(tx, hook)? else { return Ok(()) };
    let mut statement = tx.prepare_cached(
        "UPDATE hook SET repository = ?2, renamed_to = NULL
         WHERE hook = ?1 AND (repository IS NOT ?2 OR renamed_to IS NOT NULL)",
    )?;
    statement.execute(params![hook, number])?;
    Ok(())
}

/// What the forge calls the repository of a hook now, if that is not the name it had.
pub(super) fn new_name(tx: &Connection, hook: i64) -> Result<Option<RepoName>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT renamed_to FROM hook WHERE hook = ?1")?;
    let found: Option<String> = statement.query_row([hook], |row| row.get(0)).optional()?.flatten();
    Ok(found.and_then(|it| RepoName::parse(&it)))
}
