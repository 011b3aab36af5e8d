//! Carries out runs: claims them, starts a keeper for each, and stores what became of it.
//!
//! Invariant: what happens to a run is decided by its keeper and read from its folder, so this loop can die at any
//! instruction and the next one carries on.

mod attend;
mod lane;
mod launch;
mod leftovers;

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    hooks::{Environment, Hooks},
    process::open_files::OpenFiles,
    store::{Adopted, Claimed, Store, StoreError},
};

/// The loop looks at least this often, should a bell be lost.
const POLL: Duration = Duration::from_secs(5);

/// The wait after the store refused a claim, so that a full disk is not asked in a tight circle.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// The wait where the database is damaged: only a person can mend that, and has been told.
const AFTER_DAMAGE: Duration = Duration::from_secs(600);

/// What every run under way needs to know of the house.
#[derive(Clone)]
pub struct Workplace {
    /// What survives a restart.
    pub store: Store,
    /// The hooks of now: for secrets that are written in hooks.yaml.
    pub hooks: watch::Receiver<Arc<Hooks>>,
    /// Where secrets are found.
    pub environment: Arc<Environment>,
    /// The state folder.
    pub state: PathBuf,
    /// The limit of open files that keepers get back.
    pub files: OpenFiles,
}

/// Carries out runs until `stop`, then gives those under way `server.grace` to end, and leaves the rest to their
/// keepers.
pub async fn serve(place: Workplace, stop: CancellationToken) -> Result<(), StoreError> {
    let mut under_way = JoinSet::new();
    for adopted in adopt(&place, &stop).await? {
        under_way.spawn(attend::take_up(place.clone(), adopted));
    }
    while !stop.is_cancelled() {
        // Listen before looking: a run queued in between must ring this bell.
        let mut bell = pin!(place.store.queue_bell());
        bell.as_mut().enable();
        let workers = place.hooks.borrow().server.workers;
        let mut nap = POLL;
        if under_way.len() < workers {
            match place.store.claim(Timestamp::now()).await {
                Ok(Claimed::Run(claim)) => {
                    under_way.spawn(attend::carry_out(place.clone(), claim));
                    continue;
                }
                Ok(Claimed::NothingUntil(due)) => nap = due.map_or(POLL, |due| until(due).min(POLL)),
                Err(err) => {
                    error!("cannot claim a run: {err}");
                    nap = wait_after(&err);
                }
            }
        }
        tokio::select! {
            () = bell => (),
            Some(ended) = under_way.join_next() => note_panic(ended),
            () = sleep(nap) => (),
            () = stop.cancelled() => (),
        }
    }
    let grace = place.hooks.borrow().server.grace;
    let all_ended = async {
        while let Some(ended) = under_way.join_next().await {
            note_panic(ended);
        }
    };
    if timeout(grace, all_ended).await.is_err() {
        info!("{} runs go on without the daemon; the next one takes them up", under_way.len());
        under_way.shutdown().await;
    }
    Ok(())
}

/// The runs that an earlier daemon has left under way. On a full disk this waits until there is room again, and beside a
/// damaged database, where senders are answered 503, until a person ends it.
async fn adopt(place: &Workplace, stop: &CancellationToken) -> Result<Vec<Adopted>, StoreError> {
    loop {
        let nap = match place.store.adopt(Timestamp::now()).await {
            Err(err @ (StoreError::Unavailable(_) | StoreError::Corrupt(_))) => {
                error!("cannot take up the runs under way, will try again: {err}");
                wait_after(&err)
            }
            result => return result,
        };
        tokio::select! {
            () = sleep(nap) => (),
            () = stop.cancelled() => return Ok(Vec::new()),
        }
    }
}

/// How long nothing is asked of the store after this.
fn wait_after(err: &StoreError) -> Duration {
    match err {
        StoreError::Corrupt(_) => AFTER_DAMAGE,
        StoreError::Unavailable(_)
        | StoreError::Damaged(_)
        | StoreError::Fenced(_)
        | StoreError::Started(_)
        | StoreError::Closed => AFTER_TROUBLE,
    }
}

fn until(due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

fn note_panic(ended: Result<(), JoinError>) {
    match ended {
        Err(err) if err.is_panic() => error!("attending to a run panicked, the next start takes it up: {err}"),
        Ok(()) | Err(_) => (),
    }
}
