//! One public listener with a real store and a real hooks.yaml, and a sender that says exactly what a test tells it to.
//!
//! Invariant: here alone stands how a world is opened, how a request is written and how an answer is read.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use landfall::{
    hooks::{self, Environment, Hooks},
    store::{DeliveryFilter, DeliveryView, RunFilter, RunView, Store},
    web::{Tally, listeners::Listeners, serve_public},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// No wait of a test lasts longer.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running public listener.
pub struct World {
    pub address: SocketAddr,
    pub store: Store,
    pub tally: Arc<Tally>,
    pub hooks: watch::Sender<Arc<Hooks>>,
    pub stop: CancellationToken,
    task: JoinHandle<()>,
    folder: TempDir,
}

/// A hook `site` of GitHub's recorded pushes, and one `lab` of GitLab's.
pub const HOOKS: &str = "
hooks:
  site:
    github: codertocat/hello-world
    secret: [{env: SITE_SECRET}, {env: SITE_SECRET_OLD}]
    on: {push: master, tag: 'v*'}
    queue: all
    run: 'true'
  lab:
    gitlab: gitlab-org/hello-world
    secret: {env: LAB_TOKEN}
    on: {push: [master, feature], tag: 'v*'}
    queue: all
    run: 'true'
";

fn environment() -> Environment {
    Environment::default()
        .with("SITE_SECRET", "site-secret")
        .with("SITE_SECRET_OLD", "site-secret-old")
        .with("LAB_TOKEN", "lab-token-of-many-bytes")
        .with("LAB_SIGNING", "whsec_a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5")
}

impl World {
    /// The world of [`HOOKS`].
    pub async fn open() -> Self {
        Self::with("", HOOKS).await
    }

    /// A world with these lines of `server:` (indented by two) and this rest of hooks.yaml.
    pub async fn with(server: &str, rest: &str) -> Self {
        Self::at("127.0.0.1:0", server, rest).await
    }

    /// The same, received at this address.
    pub async fn at(listen: &str, server: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshot = load(&folder, server, rest);
        let store = Store::open(&snapshot.server.state).expect("a store");
        let (hooks, listener) = (watch::channel(snapshot), TcpListener::bind(listen).await.expect("a port"));
        let address = listener.local_addr().expect("a bound address");
        let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
        let (all, listeners) = (usize::MAX, Listeners::from(listener));
        let public = serve_public(listeners, all, store.clone(), hooks.1, Arc::clone(&tally), stop.clone());
        let task = tokio::spawn(public);
        Self { address, store, tally, hooks: hooks.0, stop, task, folder }
    }

    /// Puts another hooks.yaml in force.
    pub fn reload(&self, server: &str, rest: &str) {
        self.hooks.send_replace(load(&self.folder, server, rest));
    }

    /// Every delivery that is stored, oldest first.
    pub async fn deliveries(&self) -> Vec<DeliveryView> {
        let filter = DeliveryFilter { path: None, before: None, limit: 1000 };
        let mut found = self.store.deliveries(filter).await.expect("deliveries");
        found.reverse();
        found
    }

    /// Every run that is stored, oldest first.
    pub async fn runs(&self) -> Vec<RunView> {
        self.runs_of(&self.store).await
    }

    /// The same, seen by another handle.
    pub async fn runs_of(&self, store: &Store) -> Vec<RunView> {
        let filter = RunFilter { hook: None, stage: None, before: None, limit: 1000 };
        let mut found = store.runs(filter).await.expect("runs");
        found.reverse();
        found
    }

    /// Waits until so many deliveries are stored.
    pub async fn until_deliveries(&self, count: usize) -> Vec<DeliveryView> {
        let mut glances = interval(Duration::from_millis(5));
        let look = async {
            loop {
                glances.tick().await;
                let found = self.deliveries().await;
                if found.len() >= count {
                    return found;
                }
            }
        };
        timeout(DEADLINE, look).await.expect("the deliveries in time")
    }

    /// Stops the listener and waits for its end.
    pub async fn stopped(&mut self) {
        self.stop.cancel();
        timeout(DEADLINE, &mut self.task).await.expect("an end in time").expect("no panic");
    }

    /// The state folder's file of that name.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

fn load(folder: &TempDir, server: &str, rest: &str) -> Arc<Hooks> {
    let file = folder.path().join("hooks.yaml");
    let state = folder.path().join("state");
    fs::write(&file, format!("server:\n  state: {}\n{server}\n{rest}", state.display())).expect("a file");
    let loaded = hooks::load(&file, &environment()).unwrap_or_else(|refused| panic!("{:?}", refused.problems));
    Arc::new(loaded.hooks)
}
