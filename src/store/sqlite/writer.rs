//! The one thread that writes: it drains a channel into one transaction, commits, and only then answers.
//!
//! Invariant: whoever got an `Ok` had their change flushed to disk before. If a commit fails, all of its batch are
//! told so, nothing of it is stored, and the next batch is tried as if nothing had been.

use std::{
    cell::Cell,
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
    /// The log beside it, and how long the last commit left it.
    log: PathBuf,
    log_bytes: Cell<u64>,
}

impl Home {
    fn of(database: &Path) -> io::Result<Self> {
        let found = fs::metadata(database)?;
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let (database, log, log_bytes) = (database.to_owned(), PathBuf::from(log), Cell::new(0));
        Ok(Self { database, device: found.dev(), inode: found.ino(), log, log_bytes })
    }

    /// A file that was removed or moved away can still be written to, and nobody would ever read it again.
    fn check(&self) -> Result<(), StoreError> {
        let is_same = |it: &fs::Metadata| (it.dev(), it.ino()) == (self.device, self.inode);
        match fs::metadata(&self.database) {
            Ok(found) if is_same(&found) && self.length_of_log() < self.log_bytes.get() => {
                Err(StoreError::Corrupt(format!("`{}` was cut short under the running daemon", self.log.display())))
            }
            Ok(found) if is_same(&found) => Ok(()),
            Ok(_) | Err(_) => Err(StoreError::Unavailable(format!(
                "`{}` was removed or moved away under the running daemon: put it back, or restart the daemon",
                self.database.display()
            ))),
        }
    }
}

impl Home {
    fn length_of_log(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |it| it.len())
    }

    /// Takes note of what a commit has left; nobody else writes.
    fn committed(&self) {
        self.log_bytes.set(self.length_of_log());
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
    /// Makes the change within the transaction that is open; whether it succeeded. What it said before, in a
    /// transaction that was rolled back, is forgotten.
    fn carry_out(&mut self, connection: &Connection) -> bool;
    /// Says what became of it, after the transaction's end.
    fn answer(self: Box<Self>, ended: &Result<(), StoreError>) -> Rings;
}

struct Change<T, F> {
    work: F,
    result: Option<Result<T, StoreError>>,
    rings: Rings,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Item for Change<T, F>
where
    T: Send,
    F: Fn(&Connection) -> Result<T, StoreError> + Send,
{
    fn carry_out(&mut self, connection: &Connection) -> bool {
        let result = self.result.insert((self.work)(connection));
        // A full disk may make SQLite roll the whole transaction back by itself, whatever the change makes of that.
        if connection.is_autocommit() && result.is_ok() {
            *result = Err(rolled_back());
        }
        result.is_ok()
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

    /// Makes a change and waits until it is on disk. The work may be begun more than once, each time on what was there
    /// before.
    pub(super) async fn write<T, F>(&self, rings: Rings, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let change = Change { work, result: None, rings, answer };
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

/// Carries out a batch of which one item has failed: each within a savepoint of its own, so that it fails alone. Not
/// done from the start, since hardly any item ever fails and a savepoint costs a copy of every page that is changed.
fn each_alone(connection: &Connection, batch: &mut [Box<dyn Item>]) -> Result<(), StoreError> {
    for item in batch {
        run(connection, "SAVEPOINT item")?;
        let is_good = item.carry_out(connection);
        if connection.is_autocommit() {
            return Err(rolled_back());
        }
        if !is_good {
            run(connection, "ROLLBACK TO item")?;
        }
        run(connection, "RELEASE item")?;
    }
    Ok(())
}

fn rolled_back() -> StoreError {
    StoreError::Unavailable("the transaction was rolled back".into())
}

fn within_transaction(connection: &Connection, home: &Home, batch: &mut [Box<dyn Item>]) -> Result<(), StoreError> {
    run(connection, "BEGIN IMMEDIATE")?;
    if !batch.iter_mut().all(|it| it.carry_out(connection)) {
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        run(connection, "BEGIN IMMEDIATE")?;
        each_alone(connection, batch)?;
    }
    home.check()?;
    fail::fail_point!("store-before-commit", |_| Err(StoreError::Unavailable("the commit failed".into())));
    run(connection, "COMMIT")?;
    home.committed();
    fail::fail_point!("store-after-commit");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::Writer;
    use crate::{
        model::run::RunId,
        store::{StoreError, bells::Rings, sqlite::open::open},
    };

    #[tokio::test]
    async fn a_change_that_fails_leaves_nothing_behind_and_its_batch_whole() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path()).unwrap();
        let writer = Writer::start(opened.writer, &opened.database, opened.lock, Arc::default()).unwrap();
        let (go, waits) = mpsc::channel::<()>();
        let first = writer.write(Rings::NONE, move |_| Ok(waits.recv().is_ok()));
        let named = |name: &'static str, ends: Result<(), StoreError>| {
            writer.write(Rings::NONE, move |tx| {
                tx.execute("INSERT INTO hook (name) VALUES (?1)", [name])?;
                ends.clone()
            })
        };
        // All of them wait for the first, and so make one batch.
        let (_, good, bad, unlucky, last, ()) = tokio::join!(
            first,
            named("good", Ok(())),
            named("bad", Err(StoreError::Started(RunId(7)))),
            named("good", Ok(())),
            named("last", Ok(())),
            async move { go.send(()).unwrap() },
        );
        assert!(good.is_ok() && last.is_ok(), "{good:?} {last:?}");
        assert!(matches!(bad, Err(StoreError::Started(RunId(7)))), "{bad:?}");
        assert!(matches!(unlucky, Err(StoreError::Unavailable(_))), "a name is there once: {unlucky:?}");
        let names = writer.write(Rings::NONE, |tx| {
            Ok(tx.query_row("SELECT group_concat(name) FROM (SELECT name FROM hook ORDER BY hook)", [], |row| {
                row.get::<_, String>(0)
            })?)
        });
        assert_eq!(names.await.unwrap(), "good,last");
    }
}
