//! Looks at a database from outside: whether it is whole, and whether a daemon is at work on it.
//!
//! Invariant: it is opened for reading and left as it was, whoever else has it open.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    open::{self, OpenError},
    soundness::is_damage,
};

/// A database of many gigabytes takes longer to read than a person waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The version of its schema.
    pub schema: i64,
    /// The size of its file.
    pub bytes: u64,
    /// Whether it is whole.
    pub condition: Condition,
}

/// Whether a database is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `PRAGMA quick_check` has found nothing.
    Whole,
    /// It was not done after so long.
    NotFinished(Duration),
    /// What it found, its first line.
    Damaged(String),
}

/// The version of the SQLite that is linked.
pub fn engine_version() -> &'static str {
    rusqlite::version()
}

/// Looks at the database of a state folder; `None`: there is none yet.
///
/// # Errors
/// It cannot be read, or is no store of this Landfall.
pub fn examine(state: &Path) -> Result<Option<Examined>, OpenError> {
    let path = state.join("landfall.db");
    let bytes = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::File { path, source }),
    };
    let failed = |source| OpenError::Database { folder: state.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    match open::judge(&connection, &path, state) {
        Ok(schema) => Ok(Some(Examined { schema, bytes, condition: check(&connection).map_err(failed)? })),
        Err(OpenError::Database { source, .. }) if is_damage(&source) => {
            Ok(Some(Examined { schema: 0, bytes, condition: Condition::Damaged(source.to_string()) }))
        }
        Err(err) => Err(err),
    }
}

/// Whether a daemon holds the lock of the state folder; see proc_locks(5). Taking the lock to find out could turn away a
/// daemon that is just being started.
pub fn is_in_use(state: &Path) -> bool {
    let Ok(lock) = fs::metadata(state.join("landfall.lock")) else { return false };
    let inode = format!(":{}", lock.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next() == Some("FLOCK") && words.nth(3).is_some_and(|it| it.ends_with(&inode))
    })
}

fn check(connection: &Connection) -> rusqlite::Result<Condition> {
    let breaker = connection.get_interrupt_handle();
    let (done, waits) = channel::<()>();
    let watch = thread::spawn(move || {
        if waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            breaker.interrupt();
        }
    });
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    // It has nothing left to wait for.
    let _ = watch.join();
    match said {
        Ok(said) if said == "ok" => Ok(Condition::Whole),
        Ok(said) => Ok(Condition::Damaged(said.lines().last().unwrap_or_default().to_owned())),
        Err(err) if err.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(Condition::NotFinished(PATIENCE))
        }
        Err(err) if is_damage(&err) => Ok(Condition::Damaged(err.to_string())),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Condition, examine, is_in_use, open};

    fn condition(folder: &Path) -> Condition {
        examine(folder).unwrap().unwrap().condition
    }

    #[test]
    fn a_database_is_found_whole_beside_the_daemon_that_writes_it_and_after() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(examine(folder.path()).unwrap(), None);
        let opened = open::open(folder.path()).unwrap();
        assert!(is_in_use(folder.path()));
        assert_eq!(condition(folder.path()), Condition::Whole);
        drop(opened);
        assert!(!is_in_use(folder.path()));
        assert_eq!(condition(folder.path()), Condition::Whole);
        assert!(open::open(folder.path()).is_ok());
    }

    #[test]
    fn a_page_that_was_overwritten_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        drop(open::open(folder.path()).unwrap());
        let file = folder.path().join("landfall.db");
        let mut bytes = fs::read(&file).unwrap();
        let page = bytes.len() / 2 / 4096 * 4096;
        bytes[page..page + 4096].fill(0xa5);
        fs::write(&file, bytes).unwrap();
        assert!(matches!(condition(folder.path()), Condition::Damaged(_)));
        fs::write(&file, "no database at all, and long enough to be looked at as one".repeat(99)).unwrap();
        assert!(matches!(condition(folder.path()), Condition::Damaged(_)));
    }
}
