//! The history of a storm: one file, to which scripts, senders, sinks and nemeses append a line each.
//!
//! Invariant: a line is one `write` to a file that is open for appending, so the lines stand in the order in which
//! things happened, for all processes together. That order is what is judged; it is finer than any clock. `up` is
//! CLOCK_BOOTTIME as `/proc/uptime` tells it, for people.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Where letters arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    Slack,
    Mail,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Event {
    /// A script began, in a tree that says it is `tree`.
    Begin {
        run: i64,
        lane: String,
        hook: String,
        attempt: u32,
        tree: String,
    },
    /// Something of a run is alive: its script, or what that left behind.
    Beat {
        run: i64,
        lane: String,
    },
    /// A script is about to exit.
    Done {
        run: i64,
        lane: String,
        code: i32,
    },
    /// The last step of a run.
    Finally {
        run: i64,
        lane: String,
    },

    /// A delivery was begun to be sent. `turn` names the request.
    Sent {
        turn: u64,
        id: String,
        path: String,
        repo: String,
        sha: String,
        ref_name: String,
        tree: String,
    },
    /// It was answered.
    Answered {
        turn: u64,
        status: u16,
        result: String,
        runs: Vec<i64>,
    },
    /// Nobody knows what became of it.
    Unknown {
        turn: u64,
        why: String,
    },
    /// Nobody was there to take it.
    Unsent {
        turn: u64,
    },

    /// A witness saw a run to have ended.
    Seen {
        run: i64,
        outcome: String,
    },
    /// A daemon has come with letters, and is greeted after this line: so the one that lives now, or none any more.
    Called {
        call: u64,
    },
    /// A letter is here, and is said yes to after this line.
    Arrived {
        sink: Sink,
        to: String,
        key: String,
        call: u64,
    },

    DaemonUp,
    /// It ended without having been killed. `code` is nothing if a signal ended it; `said` is the last line of its log.
    DaemonEnded {
        code: Option<i32>,
        said: String,
    },
    KillDaemon,
    /// It was asked to stop.
    RestartDaemon,
    StopDaemon,
    ContinueDaemon,
    KillKeeper {
        run: i64,
    },
    StopKeeper {
        run: i64,
    },
    ContinueKeepers,
    DiskFull,
    DiskFreed,
    SinkDown {
        sink: Sink,
    },
    SinkUp {
        sink: Sink,
    },
    /// hooks.yaml was written anew, the same in other words.
    Reloaded,
    /// hooks.yaml is nonsense from here on.
    Spoilt,
    /// hooks.yaml is good again.
    Mended,
    /// The daemon's clock is so many seconds ahead of the machine's from here on; `at` is the machine's, in milliseconds.
    ClockSet {
        ahead: i64,
        at: i64,
    },
    /// The database was copied, while no daemon was there.
    Copied,
    /// That copy was put in its place, while no daemon was there.
    PutBack,
    /// A person asked for a run to be cancelled.
    Cancelled {
        run: i64,
    },
    /// The storm is over: from here on nothing is disturbed.
    Calm,
    /// After all was done, this process was still there.
    Left {
        process: String,
    },
    /// What should have come to an end did not.
    Stuck {
        what: String,
    },
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since boot.
    pub up: f64,
    #[serde(flatten)]
    pub event: Event,
}

/// The pen of those who append. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Pen {
    file: Arc<File>,
}

impl Pen {
    /// Opens, or begins, the history.
    pub fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path).expect("a history");
        Self { file: Arc::new(file) }
    }

    /// Appends a line.
    pub fn note(&self, event: Event) {
        let mut line = serde_json::to_vec(&Line { up: uptime(), event }).expect("strings and numbers");
        line.push(b'\n');
        self.file.as_ref().write_all(&line).expect("the history's disk has room");
    }
}

fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").expect("Linux");
    text.split(' ').next().and_then(|it| it.parse().ok()).expect("a number")
}

/// Where the history of a scene is.
pub fn path(scene: &Path) -> PathBuf {
    scene.join("history.jsonl")
}

/// Reads a history.
pub fn read(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).expect("a history");
    text.lines().map(|it| serde_json::from_str(it).unwrap_or_else(|err| panic!("{err}: {it}"))).collect()
}
