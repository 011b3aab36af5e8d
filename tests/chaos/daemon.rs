//! The daemon under test: kept up as a service manager would, and asked what it knows.
//!
//! Invariant: every beginning and every end of a daemon stands in the history.

use std::{
    fs::{self, File},
    io,
    process::Child,
    sync::Mutex,
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    history::Event,
    http,
    pause::Ending,
    record::{Delivery, Record, Run},
    scene::Scene,
};

/// What the API gives at once.
const PAGE: usize = 1000;

/// A daemon that comes back whenever it ends.
pub struct Daemon<'a> {
    scene: &'a Scene,
    /// Nobody while it is down. The one who keeps it up and the one who kills it share it.
    process: Mutex<Option<Child>>,
}

impl<'a> Daemon<'a> {
    pub fn of(scene: &'a Scene) -> Self {
        Self { scene, process: Mutex::default() }
    }

    /// Keeps it up until the end.
    pub fn keep_up(&self, ending: &Ending) {
        while !ending.comes_within(Duration::from_millis(15)) {
            let mut process = self.process.lock().expect("no panic");
            if let Some(child) = process.as_mut() {
                let Some(status) = child.try_wait().expect("a child") else { continue };
                self.scene.pen.note(Event::DaemonEnded { code: status.code(), said: self.last_words(1) });
            }
            *process = Some(self.start());
        }
    }

    fn start(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.scene.folder.join("daemon.log"));
        self.scene.pen.note(Event::DaemonUp);
        let mut command = self.scene.command(&["serve", "--log-format", "human"]);
        self.scene.clock.give_to(&mut command);
        command.stderr(log.expect("a log")).spawn().expect("the daemon")
    }

    /// Ends it at once, in the middle of anything, if it is there.
    pub fn kill(&self) {
        self.kill_in(&mut self.process.lock().expect("no panic"));
    }

    /// Ends it likewise, and keeps a copy of its database.
    pub fn copy_database(&self) {
        let mut process = self.process.lock().expect("no panic");
        self.kill_in(&mut process);
        if self.scene.copy_database() {
            self.scene.pen.note(Event::Copied);
        }
    }

    /// Ends it likewise, and puts the copy in the place of its database, if there is one.
    pub fn put_back(&self) {
        let mut process = self.process.lock().expect("no panic");
        self.kill_in(&mut process);
        if self.scene.put_back() {
            self.scene.pen.note(Event::PutBack);
        }
    }

    fn kill_in(&self, process: &mut Option<Child>) {
        if let Some(child) = process.as_mut()
            && child.try_wait().expect("a child").is_none()
        {
            child.kill().expect("killed");
            child.wait().expect("reaped");
            self.scene.pen.note(Event::KillDaemon);
            *process = None;
        }
    }

    /// Sends it a signal, and says so in the history before.
    pub fn signal(&self, signal: Signal, event: Event) {
        if let Some(child) = self.process.lock().expect("no panic").as_ref() {
            self.scene.pen.note(event);
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
            signal::kill(pid, signal).expect("signalled");
        }
    }

    /// Its process, while it is there.
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().expect("no panic").as_ref().map(Child::id)
    }

    /// What it answers to this question.
    pub fn ask<T: DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        let answer = http::get(&self.scene.state().join("landfall.sock"), path)?;
        serde_json::from_value(answer).map_err(io::Error::from)
    }

    /// All runs with their letters, and all deliveries.
    pub fn record(&self) -> io::Result<Record> {
        let runs = self.pages("/v1/runs", |it: &Numbered| it.id)?.into_iter();
        let runs = runs.map(|it| self.ask::<Run>(&format!("/v1/runs/{}", it.id))).collect::<io::Result<_>>()?;
        Ok(Record { runs, deliveries: self.pages("/v1/deliveries", |it: &Delivery| it.id)? })
    }

    /// A whole list, oldest first.
    fn pages<T: DeserializeOwned>(&self, path: &str, number: impl Fn(&T) -> i64) -> io::Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        loop {
            let before = all.last().map(|it| format!("&before={}", number(it))).unwrap_or_default();
            let page: Vec<T> = self.ask(&format!("{path}?limit={PAGE}{before}"))?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                all.reverse();
                return Ok(all);
            }
        }
    }

    /// The last lines of its log, for when something is wrong.
    pub fn last_words(&self, count: usize) -> String {
        let log = fs::read_to_string(self.scene.folder.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A run of which only the number is asked.
#[derive(Deserialize)]
struct Numbered {
    id: i64,
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Ok(mut process) = self.process.lock()
            && let Some(mut child) = process.take()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
