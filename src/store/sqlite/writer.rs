//! The one thread that writes: it drains a channel into one transaction, commits, and only then answers.
//!
//! Invariant: whoever got an `Ok` had their change flushed to disk before. If a commit fails, all of its batch are
//! told so, nothing of it is stored, and the next batch is tried as if nothing had been.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::store::{
    StoreError,
    bells::{Bells, Rings},
};

/// Requests that may wait; beyond it, callers wait to get in.
const CAPACITY: usize = 1024;

/// Requests that share one commit. More would save little and make the first of them wait.
const BATCH_MAX: usize = 256;

/// Where the database was when it was opened.
struct Home {
    database: PathBuf,
    device: u64,
    inode: u64,
}

impl Home {
    fn of(database: &Path) -> io::Result<Self> {
        let found = fs::metadata(database)?;
        Ok(Self { database: database.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// A file that was removed or moved away can still be written to, and nobody would ever read it again.
    fn check(&self) -> Result<(), StoreError> {
        let is_same = |it: &fs::Metadata| (it.dev(), it.ino()) == (self.device, self.inode);
        match fs::metadata(&self.database) {
            Ok(found) if is_same(&found) => Ok(()),
            Ok(_) | Err(_) => Err(StoreError::Unavailable(format!(
                "`{}` was removed or moved away under the running daemon: put it back, or restart the daemon",
                self.database.display()
            ))),
        }
    }
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Carry(Box<dyn Item>),
    Close(oneshot::Sender<()>),
}

/// One change, and the one who waits for it.
trait Item: Send {
    /// Makes the change within the transaction that is open.
    fn carry_out(&mut self, connection: &Connection);
    /// Says what became of it, after the transaction's end.
    fn answer(self: Box<Self>, ended: &Result<(), StoreError>) -> Rings;
}

struct Change<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    rings: Rings,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Item for Change<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn carry_out(&mut self, connection: &Connection) {
        self.result = self.work.take().map(|work| within_savepoint(connection, work));
    }

    fn answer(self: Box<Self>, ended: &Result<(), StoreError>) -> Rings {
        let result = match (ended, self.result) {
            // An error of the item's own says more than that of the batch it spoilt.
            (_, Some(Err(error))) => Err(error),
            (Err(error), Some(Ok(_)) | None) => Err(error.clone()),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(StoreError::Unavailable("the change was not made".into())),
        };
        let rings = if result.is_ok() { self.rings } else { Rings::NONE };
        // Nobody may be waiting any more: a sender that hung up, a loop that is being stopped.
        let _ = self.answer.send(result);
        rings
    }
}

/// Each item of a batch fails alone.
fn within_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    run(connection, "SAVEPOINT item")?;
    let result = work(connection);
    // A full disk may make SQLite roll the whole transaction back by itself; then there is no savepoint to leave.
    if connection.is_autocommit() {
        return result.and_then(|_| Err(StoreError::Unavailable("the transaction was rolled back".into())));
    }
    match result {
        Ok(value) => run(connection, "RELEASE item").map(|()| value),
        Err(error) => {
            connection.execute_batch("ROLLBACK TO item; RELEASE item")?;
            Err(error)
        }
    }
}

/// Does what would be parsed anew each time otherwise.
fn run(connection: &Connection, statement: &str) -> Result<(), StoreError> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

impl Writer {
    /// Starts the thread. It owns the connection and the lock of the folder, and lets go of both at its end.
    pub(super) fn start(connection: Connection, database: &Path, lock: File, bells: Arc<Bells>) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel(CAPACITY);
        let home = Home::of(database)?;
        thread::Builder::new().name("store".into()).spawn(move || serve(connection, &home, lock, &bells, queue))?;
        Ok(Self { requests })
    }

    /// Makes a change and waits until it is on disk.
    pub(super) async fn write<T, F>(&self, rings: Rings, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let change = Change { work: Some(work), result: None, rings, answer };
        self.requests.send(Request::Carry(Box::new(change))).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Ends the thread after what was asked for before, and waits until the database is closed.
    pub(super) async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // An error means that another call closed it first.
            let _ = ended.await;
        }
    }
}

fn serve(connection: Connection, home: &Home, lock: File, bells: &Bells, mut queue: mpsc::Receiver<Request>) {
    let mut closing = None;
    while closing.is_none() {
        let Some(first) = queue.blocking_recv() else { break };
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Carry(item) => batch.push(item),
                Request::Close(done) => closing = Some(done),
            }
            next = if batch.len() < BATCH_MAX && closing.is_none() { queue.try_recv().ok() } else { None };
        }
        commit(&connection, home, bells, batch);
    }
    // Whoever comes later is told that the store is closed, since the channel goes with this function.
    queue.close();
    drop(connection);
    drop(lock);
    if let Some(done) = closing {
        let _ = done.send(());
    }
}

fn commit(connection: &Connection, home: &Home, bells: &Bells, mut batch: Vec<Box<dyn Item>>) {
    if batch.is_empty() {
        return;
    }
    let ended = within_transaction(connection, home, &mut batch);
    if let Err(error) = &ended {
        tracing::error!(changes = batch.len(), "cannot commit to the store: {error}");
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!("cannot roll back a transaction of the store: {error}");
        }
    }
    let rings = batch.into_iter().fold(Rings::NONE, |rings, item| rings.and(item.answer(&ended)));
    bells.ring(rings);
}

fn within_transaction(connection: &Connection, home: &Home, batch: &mut [Box<dyn Item>]) -> Result<(), StoreError> {
    run(connection, "BEGIN IMMEDIATE")?;
    for item in batch {
        item.carry_out(connection);
        if connection.is_autocommit() {
            return Err(StoreError::Unavailable("the transaction was rolled back".into()));
        }
    }
    home.check()?;
    fail::fail_point!("store-before-commit", |_| Err(StoreError::Unavailable("the commit failed".into())));
    run(connection, "COMMIT")?;
    fail::fail_point!("store-after-commit");
    Ok(())
}
