//! A storm: a scene, everybody who takes part, the calm after it, and the verdict.
//!
//! Invariant: whatever happens in here, panics included, the warden ends what the scene has started.

use std::{
    path::PathBuf,
    sync::atomic::AtomicU64,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    check::{self, Case, Violation},
    clock,
    daemon::Daemon,
    history::{self, Event, Line},
    nemesis::{self, Nemesis},
    pause::Ending,
    people,
    plan::{Kind, plan},
    record::Record,
    rules::RULES,
    scene::Scene,
    senders::Senders,
    sinks::Sinks,
    warden::Warden,
};

/// How long everything may take to come to an end once nothing disturbs it: a letter that met a sink that was down
/// waits for ten seconds, then for twenty, for forty.
pub const CALM_MAX: Duration = Duration::from_secs(150);

/// What to do.
#[derive(Clone, Debug)]
pub struct Order {
    pub kind: Kind,
    pub seconds: u64,
    pub seed: u64,
    /// How long the calm may take.
    pub calm_max: Duration,
    /// The folder stays.
    pub keep: bool,
    /// What the program under test is to do wrong.
    pub failpoints: Option<&'static str>,
}

/// What a storm has shown.
pub struct Aftermath {
    pub order: Order,
    pub folder: PathBuf,
    pub lines: Vec<Line>,
    pub record: Record,
    pub violations: Vec<Violation>,
    pub no_full_disk: Option<String>,
    /// How long the calm lasted.
    pub calm: Duration,
    /// Whether the folder is still there.
    pub is_kept: bool,
}

/// Lets a storm rage, waits for the calm, and judges.
pub fn rage(order: Order) -> Aftermath {
    let folder = tempfile::Builder::new().prefix("landfall-chaos-").tempdir().expect("a folder").keep();
    let mut warden = Warden::over(&folder);
    let sinks = Sinks::bind();
    let scene = Scene::set(&folder, order.seconds, sinks.ports(), order.failpoints);
    sinks.open(&scene.pen);
    let daemon = Daemon::of(&scene);
    let (senders, nemesis) = (
        Senders::at(&scene, order.seed),
        Nemesis { scene: &scene, daemon: &daemon, sinks: &sinks, seconds: order.seconds, edition: AtomicU64::new(0) },
    );
    let (storm_ends, watch_ends) = (Ending::default(), Ending::default());
    let acts = plan(order.kind, order.seed, order.seconds);
    let (mut record, calm) = thread::scope(|threads| {
        threads.spawn(|| daemon.keep_up(&watch_ends));
        // Whoever panics ends the storm for all: the scope waits for everybody.
        let bells = [RingAtEnd(&storm_ends), RingAtEnd(&watch_ends)];
        for name in ["ana", "bob", "cem"] {
            let (senders, ending) = (&senders, &storm_ends);
            threads.spawn(move || senders.send(name, ending));
        }
        threads.spawn(|| people::witness(&scene, &daemon, &watch_ends));
        threads.spawn(|| people::cancel(&scene, &daemon, order.seed, &storm_ends));
        threads.spawn(|| nemesis.rage(&acts, &storm_ends));
        storm_ends.comes_within(Duration::from_secs(order.seconds));
        storm_ends.ring();
        nemesis.relent();
        let began = Instant::now();
        let record = calm_down(&scene, &daemon, order.calm_max);
        drop(bells);
        (record, began.elapsed())
    });
    drop(daemon);
    let lines = history::read(&history::path(&folder));
    clock::set_right(&mut record, &lines);
    let case = Case { rules: RULES, lines: &lines, record: &record, offers: &scene.offers() };
    let violations = match order.kind {
        Kind::Usual => check::judge(&case),
        Kind::OldDatabase => check::judge_what_remains(&case),
    };
    let is_kept = order.keep || (!violations.is_empty() && order.failpoints.is_none());
    if is_kept {
        warden.keep();
    }
    let no_full_disk = scene.no_full_disk.clone();
    Aftermath { order, folder, lines, record, violations, no_full_disk, calm, is_kept }
}

/// Rings when it goes, also because of a panic.
struct RingAtEnd<'a>(&'a Ending);

impl Drop for RingAtEnd<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// Waits until nothing is left to be done, and reads what was.
fn calm_down(scene: &Scene, daemon: &Daemon, calm_max: Duration) -> Record {
    let until = Instant::now() + calm_max;
    let pen = &scene.pen;
    loop {
        let unfinished = match unfinished(daemon) {
            Ok(unfinished) => unfinished,
            Err(err) => format!("the daemon does not answer: {err}\n{}", daemon.last_words(20)),
        };
        if unfinished.is_empty() {
            break;
        }
        if Instant::now() > until {
            pen.note(Event::Stuck { what: unfinished });
            break;
        }
        thread::park_timeout(Duration::from_millis(100));
    }
    for process in nemesis::left_behind(scene, daemon.pid()) {
        pen.note(Event::Left { process });
    }
    daemon
        .record()
        .unwrap_or_else(|err| panic!("the daemon does not tell what it knows: {err}\n{}", daemon.last_words(20)))
}

/// What is still to be done, in a sentence; empty: nothing.
fn unfinished(daemon: &Daemon) -> std::io::Result<String> {
    let status: Value = daemon.ask("/v1/status")?;
    let mut left = Vec::new();
    for state in ["queued", "running"] {
        let runs: Vec<Value> = daemon.ask(&format!("/v1/runs?state={state}&limit=1000"))?;
        left.extend(runs.iter().map(|it| format!("run {} of {} is {state}", it["id"], it["hook"])));
    }
    for hook in status["hooks"].as_array().into_iter().flatten() {
        if let Some(why) = hook["lane_stopped"].as_str() {
            left.push(format!("lane {} is stopped: {why}", hook["lane"]));
        }
    }
    if status["letters_waiting"] != 0 {
        left.push(format!("{} letters wait", status["letters_waiting"]));
    }
    Ok(left.join("; "))
}
