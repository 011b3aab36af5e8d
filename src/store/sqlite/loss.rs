//! What a database does not know any more: runs whose folders are there.
//!
//! Invariant: a run gets no number that a folder has.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    model::run::RunId,
    store::{
        StoreError,
        history::Loss,
        sqlite::rows::{millis, time},
    },
};

/// A number beyond this is no run's: it would use up those that are left.
const RUN_MAX: i64 = 1 << 53;

/// Takes note of the folders that are there. `Some`: the database does not know the runs of some of them, and the next
/// run comes after all of those.
pub(in crate::store) fn find(tx: &Connection, folders: &[RunId], now: Timestamp) -> Result<Option<Loss>, StoreError> {
    let mut statement = tx.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'run'")?;
    let sequence: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    let known = sequence.unwrap_or(0);
    let lost: Vec<i64> = folders.iter().map(|it| it.0).filter(|it| *it > known && *it <= RUN_MAX).collect();
    let Some(found) = lost.iter().copied().max() else { return Ok(None) };
    match sequence {
        Some(_) => tx.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'run'", [found])?,
        None => tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('run', ?1)", [found])?,
    };
    let mut note = tx.prepare("INSERT OR IGNORE INTO lost_folder (run, at) VALUES (?1, ?2)")?;
    for run in lost {
        note.execute([run, millis(now)])?;
    }
    tx.execute("INSERT INTO loss (at, known_run, found_run) VALUES (?1, ?2, ?3)", params![millis(now), known, found])?;
    Ok(Some(Loss { at: now, known: RunId(known), found: RunId(found) }))
}

/// The last time that something was missing.
pub(in crate::store) fn last(tx: &Connection) -> Result<Option<Loss>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT at, known_run, found_run FROM loss ORDER BY rowid DESC LIMIT 1")?;
    let row = |row: &Row| Ok((row.get::<_, i64>(0)?, RunId(row.get(1)?), RunId(row.get(2)?)));
    let found = statement.query_row([], row).optional()?;
    found.map(|(at, known, found)| Ok(Loss { at: time(at)?, known, found })).transpose()
}

/// Gives up folders that were found before this time; how many. Those that were found in the future, by a clock that was
/// ahead, were found now.
pub(super) fn give_up_folders(
    tx: &Connection,
    before: Timestamp,
    limit: i64,
    now: Timestamp,
) -> Result<i64, StoreError> {
    tx.prepare_cached("UPDATE lost_folder SET at = ?1 WHERE at > ?1")?.execute([millis(now)])?;
    let mut statement = tx.prepare_cached(
        "DELETE FROM lost_folder WHERE run IN (SELECT run FROM lost_folder WHERE at < ?1 LIMIT ?2) RETURNING run",
    )?;
    let runs = statement.query_map([millis(before), limit], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let mut remove = tx.prepare_cached("INSERT OR IGNORE INTO folder_to_remove (run) VALUES (?1)")?;
    for run in &runs {
        remove.execute([run])?;
    }
    Ok(runs.len() as i64)
}
