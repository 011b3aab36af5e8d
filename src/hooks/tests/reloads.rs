//! What happens when the file changes while the daemon runs.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Sandbox, environment, working};
use crate::hooks::{Hooks, load, reload::follow};

const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon's view of the file, as far as this room goes.
struct Following {
    hooks: watch::Receiver<Arc<Hooks>>,
    trouble: watch::Receiver<Option<String>>,
    hup: mpsc::Sender<()>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    fn begin(file: &Path) -> Self {
        let first = load(file, &environment()).expect("a good file").hooks;
        let (hooks_sender, hooks) = watch::channel(Arc::new(first));
        let (trouble_sender, trouble) = watch::channel(None);
        let (hup, bell) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow(file.into(), environment(), hooks_sender, trouble_sender, bell, stop.clone()));
        Self { hooks, trouble, hup, stop, task }
    }

    /// The environment of the hook, once it is this one.
    async fn deploys_to(&mut self, place: &str) {
        let is_there = |hooks: &Arc<Hooks>| hooks.hooks.values().any(|it| it.environment == place);
        timeout(DEADLINE, self.hooks.wait_for(is_there)).await.expect("a reload in time").expect("a follower");
    }

    async fn is_troubled_by(&mut self, code: &str) {
        let is_there = |it: &Option<String>| it.as_ref().is_some_and(|it| it.contains(code));
        timeout(DEADLINE, self.trouble.wait_for(is_there)).await.expect("trouble in time").expect("a follower");
    }

    async fn is_untroubled(&mut self) {
        timeout(DEADLINE, self.trouble.wait_for(Option::is_none))
            .await
            .expect("no trouble in time")
            .expect("a follower");
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(DEADLINE, self.task).await.expect("an end in time").expect("no panic");
    }
}

fn to(place: &str) -> String {
    working(&format!("environment: {place}"))
}

#[tokio::test]
async fn a_changed_file_takes_effect_whether_written_or_renamed() {
    let place = Sandbox::with(&to("one"));
    let mut following = Following::begin(&place.file());
    fs::write(place.file(), to("two")).expect("a write");
    following.deploys_to("two").await;
    let beside = place.folder.path().join("hooks.yaml.new");
    fs::write(&beside, to("three")).expect("a write");
    fs::rename(&beside, place.file()).expect("a rename");
    following.deploys_to("three").await;
    fs::write(place.file(), to("four")).expect("a write");
    following.deploys_to("four").await;
    following.end().await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_hooks_and_says_why_until_a_good_one_comes() {
    let place = Sandbox::with(&to("one"));
    let mut following = Following::begin(&place.file());
    fs::write(place.file(), format!("{}    timeout: soon\n", to("two"))).expect("a write");
    following.is_troubled_by("bad-duration").await;
    following.deploys_to("one").await;
    fs::remove_file(place.file()).expect("a removal");
    following.is_troubled_by("unreadable-file").await;
    fs::write(place.file(), to("one")).expect("a write");
    following.is_untroubled().await;
    following.deploys_to("one").await;
    following.end().await;
}

#[tokio::test]
async fn a_file_behind_symbolic_links_is_followed() {
    let place = Sandbox::with("");
    let folder = place.folder.path();
    for (version, name) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(folder.join(version)).expect("a folder");
        fs::write(folder.join(version).join("hooks.yaml"), to(name)).expect("a file");
    }
    // As Kubernetes mounts a ConfigMap.
    fs::remove_file(place.file()).expect("a removal");
    symlink("v1", folder.join("..data")).expect("a link");
    symlink("..data/hooks.yaml", place.file()).expect("a link");
    let mut following = Following::begin(&place.file());
    following.deploys_to("one").await;
    symlink("v2", folder.join("..data.new")).expect("a link");
    fs::rename(folder.join("..data.new"), folder.join("..data")).expect("a swap");
    following.deploys_to("two").await;
    fs::write(folder.join("v2").join("hooks.yaml"), to("three")).expect("a write");
    following.deploys_to("three").await;
    following.end().await;
}

#[tokio::test]
async fn a_bell_loads_again_although_the_file_is_the_same() {
    let place = Sandbox::with(&working("secrets: {T: {file: secret}}"));
    let mut following = Following::begin(&place.file());
    fs::remove_file(place.folder.path().join("secret")).expect("a removal");
    following.hup.send(()).await.expect("a follower");
    following.is_troubled_by("unreadable-secret").await;
    fs::write(place.folder.path().join("secret"), "another").expect("a secret");
    following.hup.send(()).await.expect("a follower");
    following.is_untroubled().await;
    following.end().await;
}
