//! Follows hooks.yaml while the daemon runs: on SIGHUP, and whenever the file changes.
//!
//! Invariant: a file with errors never replaces hooks that work; the trouble stays visible until a good one does.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::hooks::{Environment, Hooks, Loaded, load, read_bytes, server};

/// A file that is being written is left alone until nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(200);
/// But no longer than this.
const QUIET_AT_MOST: Duration = Duration::from_secs(2);
/// How often the file is looked at unasked: for network file systems, and for a folder that was itself replaced.
const POLL: Duration = Duration::from_secs(10);
/// A chain of symbolic links longer than this is a loop.
const LINKS_MAX: usize = 40;

/// Keeps `hooks` at what the file last said without errors, until `stop`.
///
/// `trouble` is why the file as it is now is not in force, one line for each error; `None` if it is.
pub async fn follow(
    file: PathBuf,
    environment: Environment,
    hooks: watch::Sender<Arc<Hooks>>,
    trouble: watch::Sender<Option<String>>,
    mut hup: mpsc::Receiver<()>,
    stop: CancellationToken,
) {
    let (bell, mut changed) = mpsc::channel(1);
    let mut lookout = Lookout::begin(bell);
    let mut seen = Some(hooks.borrow().content_hash);
    loop {
        lookout.look_at(&file).await;
        // The file may have changed before the lookout stood, so look once before waiting.
        let now = read_hash(&file).await;
        if now != seen {
            seen = now;
            take_over(&file, &environment, &hooks, &trouble).await;
        }
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = hup.recv() => true,
            Some(()) = changed.recv() => false,
            () = sleep(POLL) => false,
        };
        if asked {
            seen = read_hash(&file).await;
            take_over(&file, &environment, &hooks, &trouble).await;
        } else {
            wait_for_quiet(&mut changed).await;
        }
    }
}

/// Waits until the bell has been silent for a moment.
async fn wait_for_quiet(changed: &mut mpsc::Receiver<()>) {
    let deadline = Instant::now() + QUIET_AT_MOST;
    while let Ok(Some(())) = timeout_at(deadline.min(Instant::now() + QUIET), changed.recv()).await {}
}

/// Loads the file and puts it in force, or says why not.
async fn take_over(
    file: &Path,
    environment: &Environment,
    hooks: &watch::Sender<Arc<Hooks>>,
    trouble: &watch::Sender<Option<String>>,
) {
    let (path, environment) = (file.to_owned(), environment.clone());
    let loaded = match task::spawn_blocking(move || load(&path, &environment)).await {
        Ok(loaded) => loaded,
        Err(err) => {
            warn!("cannot check {}: {err}", file.display());
            return;
        }
    };
    match loaded {
        Ok(Loaded { hooks: new, warnings, .. }) => {
            for warning in warnings {
                warn!("{warning}");
            }
            let restart = server::needs_restart(&hooks.borrow().server, &new.server);
            for key in restart {
                warn!("`server.{key}` of {} changed and holds after a restart of the daemon", file.display());
            }
            let count = new.hooks.len();
            info!("{} loaded again: {count} {}", file.display(), if count == 1 { "hook" } else { "hooks" });
            hooks.send_replace(Arc::new(new));
            trouble.send_replace(None);
        }
        Err(refused) => {
            for problem in &refused.problems {
                warn!("{problem}");
            }
            warn!("{} has errors: the hooks loaded before stay in force", file.display());
            trouble.send_replace(Some(refused.to_string()));
        }
    }
}

/// What the file holds, as far as a change of it matters; `None` if it cannot be read.
async fn read_hash(file: &Path) -> Option<[u8; 32]> {
    let file = file.to_owned();
    let read = task::spawn_blocking(move || read_bytes(&file).ok().map(|it| Sha256::digest(it).into()));
    read.await.ok().flatten()
}

/// Rings a bell when something happens in a folder that the file depends on. It watches folders, not the file: a
/// file that is replaced by a rename, or through a symbolic link, is another file.
struct Lookout {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Lookout {
    fn begin(bell: mpsc::Sender<()>) -> Self {
        let ring = move |event: notify::Result<Event>| {
            // A full bell has rung already, and a closed one is nobody's.
            if event.is_ok_and(|it| may_change(&it.kind)) {
                bell.try_send(()).ok();
            }
        };
        let watcher = notify::recommended_watcher(ring);
        if let Err(err) = &watcher {
            warn!("cannot watch hooks.yaml, so it is looked at every {} s: {err}", POLL.as_secs());
        }
        Self { watcher: watcher.ok(), folders: BTreeSet::new() }
    }

    /// Watches the folders that the file depends on now.
    async fn look_at(&mut self, file: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let file = file.to_owned();
        let folders = task::spawn_blocking(move || folders_of(&file)).await.unwrap_or_default();
        for gone in self.folders.difference(&folders) {
            // It may be gone for good.
            watcher.unwatch(gone).ok();
        }
        // Those that are watched already are watched anew: another folder may stand there now. What cannot be
        // watched is looked at now and then.
        self.folders =
            folders.into_iter().filter(|it| watcher.watch(it, RecursiveMode::NonRecursive).is_ok()).collect();
    }
}

/// Whether something of this kind can change what a file holds. Our own reading must not wake us.
fn may_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// The folder of the file, and those of what it links to.
fn folders_of(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut next = std::path::absolute(file).ok();
    for _ in 0..LINKS_MAX {
        let Some(path) = next else { break };
        let Some(folder) = path.parent() else { break };
        folders.insert(folder.to_owned());
        next = fs::read_link(&path).ok().map(|it| folder.join(it));
    }
    // Links may also stand further up, so the folder where the file really is comes too.
    folders.extend(fs::canonicalize(file).ok().and_then(|it| it.parent().map(Path::to_owned)));
    folders
}
