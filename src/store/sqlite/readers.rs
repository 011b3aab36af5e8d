//! A few connections that only read, so that history never waits for the writer nor the writer for history.
//!
//! Invariant: a read sees one state of the database from its first statement to its last.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task};

use crate::store::{StoreError, sqlite::open::open_reader};

/// Reads at once. History is read by a few people and never on the way of a push.
const READERS: usize = 3;

/// The connections that are free.
#[derive(Clone)]
pub(super) struct Readers {
    database: PathBuf,
    permits: Arc<Semaphore>,
    /// Protects the list alone, for a push or a pop. A channel would need an owner that hands connections out.
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Connections are opened when they are first needed.
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, permits: Arc::new(Semaphore::new(READERS)), idle: Arc::default() }
    }

    /// Reads, on a thread that may block.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = self.clone();
        let reading = task::spawn_blocking(move || {
            // Given back with the connection, also if the caller has stopped waiting.
            let _permit = permit;
            let connection = readers.idle().pop();
            let connection = connection.map_or_else(|| open_reader(&readers.database), Ok)?;
            let result = within_snapshot(&connection, work);
            readers.idle().push(connection);
            result
        });
        reading.await.map_err(|err| StoreError::Unavailable(format!("a read was broken off: {err}")))?
    }

    /// Waits for the reads under way and closes their connections; later ones are refused.
    pub(super) async fn close(&self) {
        let all = u32::try_from(READERS).expect("there are few readers");
        if let Ok(permits) = self.permits.acquire_many(all).await {
            self.idle().clear();
            self.permits.close();
            drop(permits);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list that somebody panicked over is still a list of connections.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let snapshot = connection.unchecked_transaction()?;
    let value = work(&snapshot)?;
    snapshot.commit()?;
    Ok(value)
}
