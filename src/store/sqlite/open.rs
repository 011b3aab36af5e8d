//! Opens the state folder and its database, for one daemon at a time.
//!
//! Invariant: who holds an [`Opened`] is the only daemon on this folder, and its database has exactly the schema
//! this program knows.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use thiserror::Error;

use crate::store::sqlite::{clock, lock, soundness::is_damage};

/// One per version of the schema, in order. A released one is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
];

/// `LndF`: says whose database this is, in the file's header.
const APPLICATION_ID: i64 = 0x4c6e_6446;

/// The first SQLite without <https://sqlite.org/wal.html#walresetbug>, which met just our shape: one connection
/// writes while another makes a checkpoint.
const SQLITE_MIN: i32 = 3_051_003;

/// Why the store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another daemon is at work on this folder.
    #[error("state folder `{}` is in use by another Landfall{}: stop it first, or give this one a `state` of its own",
        folder.display(), pid.map(|it| format!(" (process {it})")).unwrap_or_default())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it, as far as it said so.
        pid: Option<u32>,
    },
    /// A newer Landfall has been here.
    #[error("the store in `{}` has schema {found}, and this Landfall knows up to {known}: run the newer Landfall again",
        folder.display())]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// There is a database, and it is not ours.
    #[error("`{}` is not a store of Landfall: give it a `state` of its own", .0.display())]
    Foreign(PathBuf),
    /// The program was built with an SQLite that may damage a database.
    #[error("SQLite {0} is linked, which can damage a database in WAL mode: build with 3.51.3 or later")]
    OldSqlite(&'static str),
    /// The file system cannot carry the write-ahead log.
    #[error("the file system of `{}` cannot carry SQLite's write-ahead log: put `state` on a local disk", .0.display())]
    NoWriteAheadLog(PathBuf),
    /// A folder or file cannot be made or opened.
    #[error("cannot open `{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite cannot open or migrate the database.
    #[error("cannot open the store in `{}`: {source}{}", folder.display(), next_step(source))]
    Database {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// What is to be done about a damaged database.
fn next_step(source: &rusqlite::Error) -> &'static str {
    match is_damage(source) {
        true => {
            ". Keep a copy of landfall.db and landfall.db-wal, then put a backup back, or save what can be read with \
             `sqlite3 landfall.db .recover`. If both are in vain, move landfall.db and landfall.db-wal away: that loses the \
             queue and the history, and nothing that is deployed"
        }
        false => "",
    }
}

/// The open database, and the lock that keeps others out.
pub(super) struct Opened {
    /// The only connection that writes.
    pub(super) writer: Connection,
    /// Where readers find the database.
    pub(super) database: PathBuf,
    /// Held as long as the file is open.
    pub(super) lock: File,
    /// Whether whoever had it last was killed, or the machine went down: what is closed leaves no log.
    pub(super) was_left_open: bool,
}

/// Opens the folder, makes what is missing and brings the schema up to date.
pub(super) fn open(folder: &Path) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < SQLITE_MIN {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::File { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    let lock = lock::take(folder)?;
    let database = folder.join("landfall.db");
    // Made by us and not by SQLite, for its mode: the log and the index beside it get the same.
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).to_owned();
    options.open(&database).map_err(at(&database))?;
    let was_left_open = fs::metadata(folder.join("landfall.db-wal")).is_ok_and(|it| it.len() > 0);
    let writer = connect(&database, folder)?;
    Ok(Opened { writer, database, lock, was_left_open })
}

fn connect(database: &Path, folder: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Database { folder: folder.to_owned(), source };
    let mut writer = Connection::open_with_flags(database, flags()).map_err(failed)?;
    settle(&writer).map_err(failed)?;
    let mode: String = writer.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog(folder.to_owned()));
    }
    writer.pragma_update(None, "synchronous", "full").map_err(failed)?;
    writer.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    writer.pragma_update(None, "cache_size", -8192).map_err(failed)?;
    // What a savepoint needs in order to be undone: a batch of a few hundred would spill it to a file.
    writer.pragma_update(None, "temp_store", "memory").map_err(failed)?;
    writer.pragma_update(None, "journal_size_limit", 64 << 20).map_err(failed)?;
    // 32 MiB of log: pages that change again and again are brought home once, with two flushes, and not eight times. A
    // longer log would be felt at the start after a kill, when it is read.
    writer.pragma_update(None, "wal_autocheckpoint", 8192).map_err(failed)?;
    migrate(&mut writer, database, folder)?;
    writer.execute_batch(clock::IN_MEMORY).map_err(failed)?;
    Ok(writer)
}

/// A connection that can only read.
pub(super) fn open_reader(database: &Path) -> rusqlite::Result<Connection> {
    let reader = Connection::open_with_flags(database, flags())?;
    settle(&reader)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok(reader)
}

/// Never creates: a database that is gone under a running daemon is a failure, not an empty history.
fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn settle(connection: &Connection) -> rusqlite::Result<()> {
    // Nobody but us writes; the wait is for a person's `sqlite3` or a copy being made.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(96);
    // Without it SQLite plans some statements anew whenever another value is bound, in case a better plan fits that.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// The version of the schema; 0 for a new database. One of another program, or of a newer Landfall, is refused.
pub(super) fn judge(connection: &Connection, database: &Path, folder: &Path) -> Result<i64, OpenError> {
    let failed = |source| OpenError::Database { folder: folder.to_owned(), source };
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let (owner, found) = (number("application_id")?, number("user_version")?);
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let is_new = tables.map_err(failed)? == 0 && found == 0;
    if owner != APPLICATION_ID && !is_new {
        return Err(OpenError::Foreign(database.to_owned()));
    }
    let known = i64::try_from(MIGRATIONS.len()).expect("there are few migrations");
    if found > known {
        return Err(OpenError::Newer { folder: folder.to_owned(), found, known });
    }
    Ok(found)
}

fn migrate(writer: &mut Connection, database: &Path, folder: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database { folder: folder.to_owned(), source };
    let found = judge(writer, database, folder)?;
    for (migration, version) in MIGRATIONS.iter().zip(1..).skip_while(|(_, version)| *version <= found) {
        let step = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        step.execute_batch(migration).map_err(failed)?;
        step.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        step.pragma_update(None, "user_version", version).map_err(failed)?;
        step.commit().map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{MIGRATIONS, OpenError, open};

    #[test]
    fn a_second_daemon_on_the_same_folder_is_refused_by_name_and_pid() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        let Err(refused) = open(folder.path()) else { panic!("opened twice") };
        let text = refused.to_string();
        assert!(text.contains(&folder.path().display().to_string()), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(first);
        assert!(open(folder.path()).is_ok());
    }

    #[test]
    fn what_is_committed_is_flushed_to_the_disk_before_it_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let writer = open(folder.path()).unwrap().writer;
        let pragma = |name: &str| writer.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        // FULL, without which a commit in WAL mode survives a kill, and no power cut (https://sqlite.org/pragma.html).
        assert_eq!(pragma("synchronous"), 2);
    }

    #[test]
    fn a_database_of_a_newer_landfall_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().writer.pragma_update(None, "user_version", 99).unwrap();
        let Err(refused) = open(folder.path()) else { panic!("opened a newer one") };
        assert!(matches!(refused, OpenError::Newer { found: 99, known: 6, .. }), "{refused}");
        assert!(refused.to_string().contains("run the newer Landfall again"), "{refused}");
    }

    #[test]
    fn a_store_of_the_first_release_is_taken_over_with_what_waits_and_what_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let old = rusqlite::Connection::open(folder.path().join("landfall.db")).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO hook (hook, name) VALUES (1, 'site');
             INSERT INTO lane (lane, name) VALUES (1, 'site'), (2, 'other'), (3, 'third');
             INSERT INTO run (run, hook, lane, created_at, finished_at, outcome)
             VALUES (1, 1, 1, 0, 1, '\"succeeded\"'), (2, 1, 1, 0, NULL, NULL), (3, 1, 2, 0, NULL, NULL),
                    (4, 1, 3, 0, NULL, NULL), (5, 1, 1, 0, NULL, NULL);
             INSERT INTO pending (lane, seq, run, hook, ref, replaces, since, rank, interval)
             VALUES (1, 1, 2, 1, 'refs/tags/v1', 'hook', 0, 0, 0), (1, 2, 5, 1, 'refs/heads/main', 'hook', 0, 0, 0);
             INSERT INTO active (lane, run, seq, fence, step, ref, since, rank)
             VALUES (2, 3, 1, 1, 'fetch', '', 0, 0), (3, 4, 1, 1, 'activate', '', 0, 0);
             INSERT INTO seen (hook, key, delivery, run, at) VALUES (1, x'00', 1, 1, 0);",
        )
        .unwrap();
        old.pragma_update(None, "application_id", super::APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let writer = open(folder.path()).unwrap().writer;
        let ask = |sql: &str| {
            let mut statement = writer.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
            rows.map(|it| it.unwrap().unwrap_or_else(|| "unknown".into())).collect::<Vec<_>>()
        };
        assert_eq!(
            ask("SELECT replaces FROM pending ORDER BY seq"),
            ["ref", "hook"],
            "a tag takes a tag's place alone"
        );
        assert_eq!(ask("SELECT CAST(has_staged AS TEXT) FROM active ORDER BY run"), ["0", "1"]);
        assert_eq!(ask("SELECT CAST(has_staged AS TEXT) FROM run WHERE run = 1"), ["unknown"]);
        assert_eq!(ask("SELECT CAST(times AS TEXT) FROM seen"), ["1"]);
        assert_eq!(ask("SELECT repository FROM hook"), ["unknown"]);
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = rusqlite::Connection::open(folder.path().join("landfall.db")).unwrap();
        other.execute_batch("CREATE TABLE song(name TEXT)").unwrap();
        assert!(matches!(open(folder.path()), Err(OpenError::Foreign(_))));
    }

    #[test]
    fn the_folder_and_everything_in_it_are_the_daemons_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        let _opened = open(&folder).unwrap();
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
        assert!(names.len() >= 3, "{names:?}");
        for file in names {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn the_linked_sqlite_is_not_one_that_damages_a_write_ahead_log() {
        assert!(rusqlite::version_number() >= super::SQLITE_MIN);
    }
}
