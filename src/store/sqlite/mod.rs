//! The embedded engine: SQLite with a write-ahead log, one thread that writes, a few connections that read.
//!
//! Invariant: SQL is written in this folder and nowhere else, and every change goes through the one writer.

mod examine;
mod lock;
mod open;
mod press;
mod readers;
mod soundness;
mod writer;

mod again;
mod clock;
mod displaced;
mod repository;
mod rows;

pub(super) mod accept;
pub(super) mod accepted;
pub(super) mod belief;
pub(super) mod catch_up;
pub(super) mod finish;
pub(super) mod history;
pub(super) mod hold;
pub(super) mod lanes;
pub(super) mod live;
pub(super) mod loss;
pub(super) mod outbox;
pub(super) mod prune;
pub(super) mod queue;
pub(super) mod runs;

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use rusqlite::Connection;

use crate::store::{
    StoreError,
    bells::{Bells, Rings},
};

pub use examine::{Condition, Examined, engine_version, examine, is_in_use};
pub use open::OpenError;

/// The engine behind a [`crate::store::Store`].
pub(super) struct Engine {
    writer: writer::Writer,
    readers: readers::Readers,
    soundness: Arc<soundness::Soundness>,
    /// Compresses what is to be written, before the writer is asked for it.
    pub(super) press: press::Press,
    /// Rung by the writer.
    pub(super) bells: Arc<Bells>,
}

impl Engine {
    /// Opens the database in a state folder. Letters that were in a sender's hands are due again: nobody sends yet.
    pub(super) fn open(folder: &Path) -> Result<Self, OpenError> {
        let open::Opened { writer: connection, database, lock, was_left_open } = open::open(folder)?;
        match outbox::take_back(&connection) {
            Err(source) if soundness::is_damage(&source) => {
                return Err(OpenError::Database { folder: folder.to_owned(), source });
            }
            // On a full disk they are due when their senders would have had to be done.
            Err(err) => tracing::warn!("letters that were being sent are sent again later: {err}"),
            Ok(()) => (),
        }
        let bells = Arc::<Bells>::default();
        let writer = writer::Writer::start(connection, &database, lock, Arc::clone(&bells))
            .map_err(|source| OpenError::File { path: folder.to_owned(), source })?;
        let soundness = Arc::<soundness::Soundness>::default();
        if was_left_open {
            let reader = open::open_reader(&database);
            let reader = reader.map_err(|source| OpenError::Database { folder: folder.to_owned(), source })?;
            soundness::Soundness::look_at_all(&soundness, reader);
        }
        let readers = readers::Readers::new(database);
        Ok(Self { writer, readers, soundness, press: press::Press::default(), bells })
    }

    /// Makes a change as one transaction; answered once it is on disk.
    pub(super) async fn write<T, F>(&self, rings: Rings, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.soundness.check()?;
        let written = self.writer.write(rings, work).await;
        self.soundness.look(&written);
        written
    }

    /// The same for a change at this time, which the store takes note of.
    pub(super) async fn write_at<T, F>(&self, rings: Rings, now: Timestamp, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let dated = move |tx: &Connection| clock::turn(tx, now).and_then(|()| work(tx));
        self.write(rings, dated).await
    }

    /// The same for a look at this time that changes something only if it finds something.
    pub(super) async fn look_at<T, F>(&self, now: Timestamp, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let dated = move |tx: &Connection| clock::look(tx, now).and_then(|()| work(tx));
        self.write(Rings::NONE, dated).await
    }

    /// Takes note of the time.
    pub(super) async fn tell_time(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write_at(Rings::ALL, now, |_| Ok(())).await
    }

    /// Reads one state of the database.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let read = self.readers.read(work).await;
        self.soundness.look(&read);
        read
    }

    /// What is damaged, if that was noticed.
    pub(super) fn damage(&self) -> Option<&str> {
        self.soundness.damage()
    }

    /// Finishes what was asked for, closes the database and lets go of the folder.
    pub(super) async fn close(&self) {
        self.soundness.close();
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Damaged(error.to_string()),
            error if soundness::is_damage(&error) => Self::Corrupt(error.to_string()),
            // A foreign enum: everything else is a matter of the disk or of the moment.
            error => Self::Unavailable(error.to_string()),
        }
    }
}
