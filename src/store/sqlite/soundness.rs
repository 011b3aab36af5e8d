//! Whether what is stored can still be read.
//!
//! Invariant: from the first sign of damage on nothing is committed any more, since nobody might be able to read it.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, InterruptHandle};

use crate::store::StoreError;

/// What is known of the damage.
#[derive(Default)]
pub(super) struct Soundness {
    damage: OnceLock<String>,
    check: Mutex<Option<Check>>,
}

/// A look at the whole database, under way.
struct Check {
    breaker: InterruptHandle,
    thread: JoinHandle<()>,
}

impl Soundness {
    /// Takes note of what became of a verb.
    pub(super) fn look<T>(&self, result: &Result<T, StoreError>) {
        if let Err(StoreError::Corrupt(why)) = result {
            self.note(why);
        }
    }

    fn note(&self, why: &str) {
        if self.damage.set(why.to_owned()).is_ok() {
            tracing::error!(
                "the database is damaged, and nothing is accepted any more: {why}; stop the daemon, keep a copy of the state \
                 folder, and see `landfall doctor`"
            );
        }
    }

    /// What the damage is, if there is any.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Fails once there was a sign of damage.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.damage().map_or(Ok(()), |why| Err(StoreError::Corrupt(why.to_owned())))
    }

    /// Looks at all of the database meanwhile; for one that was not closed.
    pub(super) fn look_at_all(this: &Arc<Self>, connection: Connection) {
        let breaker = connection.get_interrupt_handle();
        let soundness = Arc::clone(this);
        let thread = thread::Builder::new().name("store check".into()).spawn(move || {
            let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
            match said {
                Ok(said) if said == "ok" => (),
                Ok(said) => soundness.note(said.lines().last().unwrap_or_default()),
                Err(err) if is_damage(&err) => soundness.note(&err.to_string()),
                // It was broken off, or cannot be done now.
                Err(_) => (),
            }
        });
        if let Ok(thread) = thread {
            *this.check.lock().unwrap_or_else(PoisonError::into_inner) = Some(Check { breaker, thread });
        }
    }

    /// Breaks the look at the whole off, if it is under way.
    pub(super) fn close(&self) {
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Check { breaker, thread }) = check {
            breaker.interrupt();
            // It has nothing to say that matters now.
            let _ = thread.join();
        }
    }
}

/// Whether an error says that the file is no whole database.
pub(super) fn is_damage(err: &rusqlite::Error) -> bool {
    matches!(err.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
