//! The daemon: opens the store, binds, starts the loops, and stops them in order.
//!
//! Invariant: nothing is received before the store is open, and the store is closed after the last loop has ended.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    catch_up::{self, Lookout, Troubles},
    hooks::{self, Environment, Hooks, Refused, reload},
    journal::folder::RunDir,
    keeper,
    model::run::RunId,
    notify::{self, Desk},
    process::open_files::OpenFiles,
    store::{Belief, OpenError, Store, StoreError, TooOld},
    web::{
        self, Tally,
        api::{self, Api, Daemon},
        listeners::{HandedOver, ListenError, Listeners},
        socket::{Socket, SocketError},
    },
    work::{self, Workplace},
};

/// How often what is too old is put away.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Bodies of deliveries are kept for replays and questions; their verdicts outlive them.
const KEEP_BODIES: Duration = Duration::from_secs(30 * 24 * 3600);

/// The time the listeners get to answer what they have accepted.
const LAST_ANSWERS: Duration = Duration::from_secs(15);

/// Why the daemon did not start, or ended.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// hooks.yaml has problems.
    #[error("hooks.yaml has problems")]
    Refused(Refused),
    /// The state folder is not the daemon's own.
    #[error(transparent)]
    NotOurs(#[from] keeper::premises::NotOurs),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There is nothing to receive deliveries at.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The limit of open files cannot be asked for.
    #[error("cannot ask how many files may be open: {0}")]
    OpenFiles(io::Error),
    /// The Unix socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// A loop ended that must not.
    #[error("{0} ended by itself; see the log above")]
    LoopEnded(&'static str),
}

/// Serves until SIGTERM or SIGINT, at the sockets that were handed over or at its own.
pub async fn serve(file: &Path, environment: Environment, handed_over: HandedOver) -> Result<(), DaemonError> {
    let mut signals = Signals::catch().map_err(DaemonError::Signals)?;
    let loaded = hooks::load(file, &environment).map_err(DaemonError::Refused)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let hooks = Arc::new(loaded.hooks);
    let files = OpenFiles::raise().map_err(DaemonError::OpenFiles)?;
    warn_of_few(files, &hooks);
    keeper::premises::judge(&hooks.server.state)?;
    let store = Store::open(&hooks.server.state)?;
    if let Err(err) = store.tell_time(Timestamp::now()).await {
        error!("cannot note the time in the store: {err}");
    }
    look_for_loss(&store, &hooks.server.state).await;
    let listeners = Listeners::open(&hooks.server.listen, handed_over).await?;
    let local = listeners.local().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let outlives_us = listeners.outlive_us();
    let sockets = bind_sockets(&hooks, &environment)?;
    let mut loops = Loops::start(file, environment, hooks, store.clone(), (listeners, files), sockets);
    info!("landfall {} receives at {local} and follows {}", env!("CARGO_PKG_VERSION"), file.display());
    tell_systemd(&NotifyState::Ready);
    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Wish::Stop => break None,
                Wish::Reload => loops.ask_for_reload(),
            },
            name = loops.one_ended() => break Some(name),
        }
    };
    tell_systemd(&NotifyState::Stopping);
    info!("stopping: no more runs are started; deliveries are accepted to the end");
    loops.stop().await;
    if outlives_us {
        info!("whoever connects from now on waits for the next daemon");
    }
    store.close().await;
    ended.map_or(Ok(()), |name| Err(DaemonError::LoopEnded(name)))
}

/// The rest of the descriptors is for the store, runs, mail and clients.
fn connections_max(files: OpenFiles) -> usize {
    files.max() / 2
}

fn warn_of_few(files: OpenFiles, hooks: &Hooks) {
    let (wanted, max) = (hooks.server.max_connections.all, connections_max(files));
    if max < wanted {
        warn!(
            "only {} files may be open, so `server.max_connections.all` is {max} and not {wanted}: raise the hard limit \
             (`LimitNOFILE=` of a unit, `ulimit -Hn` of a shell)",
            files.max()
        );
    }
}

/// Looks whether the store knows the runs that have folders, before a run gets a number.
async fn look_for_loss(store: &Store, state: &Path) {
    let folder = state.to_owned();
    let numbers = spawn_blocking(move || RunDir::numbers(&folder)).await.map_err(io::Error::from).flatten();
    let numbers = numbers.unwrap_or_else(|err| {
        error!("cannot read the folder `runs` in `{}`: {err}", state.display());
        Vec::new()
    });
    match store.find_loss(numbers, Timestamp::now()).await {
        Ok(None) => (),
        Ok(Some(loss)) => {
            error!("{loss}: what it accepted in between is looked for at the remotes");
            recall(store, state, loss.known).await;
        }
        // A folder that is there is no other run's all the same.
        Err(err) => error!("cannot see whether the store knows all runs that have folders: {err}"),
    }
}

/// Tells a store that lost runs what pushes those were of, by their folders: catching up begins there.
async fn recall(store: &Store, state: &Path, known: RunId) {
    let folder = state.to_owned();
    let jobs = spawn_blocking(move || {
        let lost = RunDir::numbers(&folder).unwrap_or_default().into_iter().filter(|it| *it > known);
        // One that cannot be read tells nothing.
        lost.filter_map(|run| Some((run, RunDir::of(&folder, run).read_spec().ok()?.job))).collect()
    });
    let jobs = jobs.await.unwrap_or_default();
    if let Err(err) = store.recall(jobs).await {
        error!("cannot note what the lost runs were of: {err}");
    }
}

/// The loops, and the two levers that stop them: first what works, then what receives, so that a push that comes while
/// runs are waited for is stored like any other.
struct Loops {
    receiving: JoinSet<&'static str>,
    working: JoinSet<&'static str>,
    stop_receiving: CancellationToken,
    stop_working: CancellationToken,
    reload_bell: mpsc::Sender<()>,
}

impl Loops {
    fn start(
        file: &Path,
        environment: Environment,
        hooks: Arc<Hooks>,
        store: Store,
        (listeners, files): (Listeners, OpenFiles),
        sockets: Vec<Socket>,
    ) -> Self {
        let (stop_receiving, stop_working) = (CancellationToken::new(), CancellationToken::new());
        let state = hooks.server.state.clone();
        let (hooks_now, hooks) = watch::channel(hooks);
        let (trouble_now, trouble) = watch::channel(None);
        let (remotes_now, remotes) = watch::channel(Troubles::new());
        let (reload_bell, reload_asked) = mpsc::channel(1);
        let tally = Arc::new(Tally::default());
        let environment = Arc::new(environment);
        let mut receiving = JoinSet::new();
        let local = listeners.local();
        let (tally_of_public, stop_public, max) = (tally.clone(), stop_receiving.clone(), connections_max(files));
        let public = web::serve_public(listeners, max, store.clone(), hooks.clone(), tally_of_public, stop_public);
        receiving.spawn(named("the public listener", public));
        let started_at = Timestamp::now();
        let (cgroup, unheld_limits) = (keeper::probe_cgroup(), keeper::probe_unheld_limits());
        let (file_owned, state_owned) = (file.to_owned(), state.clone());
        let daemon = Daemon {
            file: file_owned,
            state: state_owned,
            local,
            cgroup,
            unheld_limits,
            started_at,
            trouble,
            remotes,
            tally,
        };
        let api = Api { store: store.clone(), hooks: hooks.clone(), daemon, stop: stop_receiving.clone() };
        for socket in sockets {
            let clients = web::socket::serve(socket, api::router(api.clone()), stop_receiving.clone());
            receiving.spawn(named("the socket", clients));
        }
        let mut working = JoinSet::new();
        let place = Workplace {
            store: store.clone(),
            hooks: hooks.clone(),
            environment: environment.clone(),
            state: state.clone(),
            files,
        };
        working.spawn(named("the work loop", work::serve(place, stop_working.clone())));
        let desk =
            Desk { store: store.clone(), hooks: hooks.clone(), environment: environment.clone(), state: state.clone() };
        working.spawn(named("the notify loop", notify::serve(desk, stop_working.clone())));
        let lookout = Lookout {
            store: store.clone(),
            hooks: hooks.clone(),
            environment: environment.clone(),
            troubles: remotes_now,
        };
        working.spawn(named("catching up", catch_up::serve(lookout, stop_working.clone())));
        working.spawn(named("tidying", tidy(store, hooks, state, stop_working.clone())));
        let environment = Arc::unwrap_or_clone(environment);
        let reload =
            reload::follow(file.to_owned(), environment, hooks_now, trouble_now, reload_asked, stop_working.clone());
        working.spawn(named("following hooks.yaml", reload));
        Self { receiving, working, stop_receiving, stop_working, reload_bell }
    }

    /// Rings for a reload; one that is asked for already is enough.
    fn ask_for_reload(&self) {
        let _ = self.reload_bell.try_send(());
    }

    /// Waits until a loop ends that must not.
    async fn one_ended(&mut self) -> &'static str {
        let ended = tokio::select! {
            Some(ended) = self.receiving.join_next() => ended,
            Some(ended) = self.working.join_next() => ended,
        };
        ended.unwrap_or_else(|err| {
            error!("a loop panicked: {err}");
            "a loop"
        })
    }

    async fn stop(mut self) {
        self.stop_working.cancel();
        join_all(&mut self.working).await;
        self.stop_receiving.cancel();
        if timeout(LAST_ANSWERS, join_all(&mut self.receiving)).await.is_err() {
            warn!("some senders were still waiting for an answer; their deliveries are stored or were never confirmed");
        }
    }
}

async fn join_all(loops: &mut JoinSet<&'static str>) {
    while let Some(ended) = loops.join_next().await {
        if let Err(err) = ended {
            error!("a loop panicked while stopping: {err}");
        }
    }
}

/// A loop together with what to call it when it ends.
async fn named<T: Loop>(name: &'static str, work: impl Future<Output = T>) -> &'static str {
    work.await.note(name);
    name
}

/// What a loop may end with.
trait Loop {
    /// Logs a failure; a loop that cannot fail has none.
    fn note(self, name: &'static str);
}

impl Loop for () {
    fn note(self, _name: &'static str) {}
}

impl<E: std::fmt::Display> Loop for Result<(), E> {
    fn note(self, name: &'static str) {
        if let Err(err) = self {
            error!("{name} failed: {err}");
        }
    }
}

/// Puts away what is too old, now and then.
async fn tidy(store: Store, hooks: watch::Receiver<Arc<Hooks>>, state: PathBuf, stop: CancellationToken) {
    let (mut looked_at, mut is_told) = (Instant::now(), false);
    while !stop.is_cancelled() {
        let ran = looked_at.elapsed();
        looked_at += ran;
        let (keep_runs, keep_logs) = {
            let hooks = hooks.borrow();
            (hooks.server.keep_runs, hooks.server.keep_logs)
        };
        let now = Timestamp::now();
        let done = match store.believe(now, ran).await {
            Ok(belief) => {
                let old = what_is_too_old(belief, keep_logs, now, &mut is_told);
                put_away(&store, &state, keep_runs, old, now).await
            }
            Err(err) => Err(err),
        };
        if let Err(err) = done {
            warn!("cannot put old runs away: {err}");
        }
        tokio::select! {
            () = sleep(TIDY_EVERY) => (),
            () = stop.cancelled() => (),
        }
    }
}

/// What is too old by now; nothing as long as the clock is not believed.
fn what_is_too_old(belief: Belief, keep_logs: Duration, now: Timestamp, is_told: &mut bool) -> Option<TooOld> {
    let before = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    match belief {
        Belief::Believed => {
            *is_told = false;
            Some(TooOld { logs_before: before(keep_logs), bodies_before: before(KEEP_BODIES) })
        }
        Belief::NotYet { last, left } => {
            if !std::mem::replace(is_told, true) {
                warn!(
                    "the clock says {now}, and it was {last} when old logs and payloads were last looked for: nothing is \
                     removed for its age until the daemon has run for {} minutes more; look at the clock of this machine",
                    left.as_secs().div_ceil(60)
                );
            }
            None
        }
    }
}

/// Puts away in small steps, so that no push waits for it.
async fn put_away(
    store: &Store,
    state: &Path,
    keep_runs: u64,
    old: Option<TooOld>,
    now: Timestamp,
) -> Result<(), StoreError> {
    store.note_accepted().await?;
    loop {
        let pruned = store.prune(keep_runs, old, now).await?;
        let state = state.to_owned();
        let removed = spawn_blocking(move || remove_folders(&state, pruned.folders)).await.unwrap_or_default();
        store.folders_removed(removed).await?;
        if !pruned.more {
            return Ok(());
        }
    }
}

/// Removes the folders of these runs, and gives those of which nothing is left.
fn remove_folders(state: &Path, runs: Vec<RunId>) -> Vec<RunId> {
    let is_gone = |run: &RunId| match RunDir::of(state, *run).remove() {
        Ok(()) => true,
        Err(err) => {
            warn!("cannot remove the folder of run {run}: {err}");
            false
        }
    };
    runs.into_iter().filter(is_gone).collect()
}

/// The socket in the state folder and, under a service manager, one where clients look without knowing hooks.yaml.
fn bind_sockets(hooks: &Hooks, environment: &Environment) -> Result<Vec<Socket>, SocketError> {
    let group = hooks.server.socket_group.as_deref();
    let mut sockets = vec![web::socket::bind(&hooks.server.state, group)?];
    if let Some(folder) = environment.variable("RUNTIME_DIRECTORY") {
        sockets.push(web::socket::bind(Path::new(folder), group)?);
    }
    Ok(sockets)
}

/// What a signal asks for.
enum Wish {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

/// Tells the service manager, if one started us and wants to know.
fn tell_systemd(state: &NotifyState<'_>) {
    if let Err(err) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!("cannot tell systemd how we are: {err}");
    }
}
