//! What survives a restart: deliveries, the queue, the outbox and history, behind verbs that say nothing of an engine.
//!
//! Invariant: each verb is one transaction and may be asked for again; what it answered is on disk.

mod arrival;
mod bells;
mod catch_up;
mod claims;
mod history;

mod outbox;
mod past;
mod queue;

mod sqlite;

#[cfg(test)]
mod tests;

use std::{fmt, path::Path, sync::Arc};

use jiff::Timestamp;
use thiserror::Error;
use tokio::{sync::futures::Notified, task::spawn_blocking};

use crate::{
    journal::Unreadable,
    model::{hook::QueuePolicy, run::RunId},
    route::Ticket,
    store::{
        bells::Rings,
        sqlite::{
            Engine,
            accept::{self, Body, Parcel, Wish},
            runs::{self, Prepared},
        },
    },
};

pub use self::{
    arrival::{Accepted, Arrival, DeliveryNo, Receipt, Repository, Verdict},
    catch_up::{CaughtUp, RemoteLook},
    claims::{Adopted, Cancelled, Claim, Claimed, Finished, GivenBack, Kept, LetterClaim, LetterTurn, Stop},
    history::{
        BadCommit, Belief, Counts, DeliveryFilter, DeliveryView, Disturbed, Hold, HookSummary, LetterState, LetterView,
        ListedRun, Loss, Pruned, RunFilter, RunStage, RunState, RunView, StoppedLane, TooOld, UnreadableRun,
    },
    sqlite::{Condition, Examined, OpenError, engine_version, examine, is_in_use},
};

/// Bodies up to this size are compressed on the spot; a larger one would hold up what shares its thread.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// A handle of the store; clones are the same store.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Store")
    }
}

/// Why a verb was not done.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// It cannot be stored now; nothing of it was. Try again later.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// The database as a whole cannot be relied on any more; nothing is stored from now on.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// What is stored cannot be read; trying again does not help.
    #[error("the store holds something unreadable: {0}")]
    Damaged(String),
    /// The claim is void: the run is in other hands, or has ended.
    #[error("run {0} is in other hands")]
    Fenced(RunId),
    /// The run has begun, so it cannot be queued again.
    #[error("run {0} has begun already")]
    Started(RunId),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl From<Unreadable> for StoreError {
    fn from(error: Unreadable) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Store {
    /// Opens the store in a state folder, which is made if it is missing. One process at a time.
    ///
    /// # Errors
    /// The folder is in use, cannot be used, or was written by a newer Landfall.
    pub fn open(state: &Path) -> Result<Self, OpenError> {
        Ok(Self { engine: Arc::new(Engine::open(state)?) })
    }

    /// What is damaged of the database, if that was noticed. Nothing is stored from then on.
    pub fn damage(&self) -> Option<String> {
        self.engine.damage().map(str::to_owned)
    }

    /// Takes note of the time, as every verb does that is given it: where the clock was set back, what waits is moved back
    /// with it. For the start of a daemon.
    pub async fn tell_time(&self, now: Timestamp) -> Result<(), StoreError> {
        self.engine.tell_time(now).await
    }

    /// Finishes what was asked for, then closes. Later verbs are refused.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// Takes a delivery in, with the runs it makes. It is on disk when this answers.
    pub async fn accept(&self, arrival: Arrival, now: Timestamp) -> Result<Receipt, StoreError> {
        let parcel = if arrival.body.len() <= SMALL_BODY_BYTES {
            pack(arrival, &self.engine)?
        } else {
            let engine = Arc::clone(&self.engine);
            let packing = spawn_blocking(move || pack(arrival, &engine)).await;
            packing.map_err(|err| StoreError::Unavailable(format!("packing a delivery was broken off: {err}")))??
        };
        let may_stop = parcel.wish.jobs().iter().any(|it| it.job.hook.queue == QueuePolicy::Cancel);
        let rings = if may_stop { Rings::ALL } else { Rings::ENDED };
        self.engine.write_at(rings, now, move |tx| accept::accept(tx, &parcel, now)).await
    }

    /// Queues a job that a person asked for.
    pub async fn enqueue(&self, ticket: Ticket, now: Timestamp) -> Result<RunId, StoreError> {
        let job = Prepared::new(ticket.into_job());
        self.engine.write_at(Rings::ENDED, now, move |tx| runs::enqueue(tx, &job, now)).await
    }

    /// Rings when a run may have become claimable. Listen before looking.
    pub fn queue_bell(&self) -> Notified<'_> {
        self.engine.bells.queue()
    }

    /// Rings when a letter may have become due. Listen before looking.
    pub fn letter_bell(&self) -> Notified<'_> {
        self.engine.bells.letters()
    }

    /// Rings when somebody may have asked for a run to be stopped. Listen before looking.
    pub fn cancel_bell(&self) -> Notified<'_> {
        self.engine.bells.cancels()
    }
}

fn pack(arrival: Arrival, engine: &Engine) -> Result<Parcel, StoreError> {
    let wish = match arrival.verdict {
        Verdict::Queue { tickets, refused } => {
            Wish::Queue { jobs: tickets.into_iter().map(|it| Prepared::new(it.into_job())).collect(), refused }
        }
        Verdict::Aside { result, message } => Wish::Aside { result, message },
    };
    Ok(Parcel {
        path: arrival.path,
        forge: arrival.forge,
        event: arrival.event,
        commit: arrival.commit,
        repository: arrival.repository,
        delivery_id: arrival.delivery_id,
        dedupe: arrival.dedupe,
        body: Body::compress(&arrival.body, &engine.press)?,
        wish,
    })
}
