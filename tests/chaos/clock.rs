//! The wall clock of the daemon, which can be set; that of its keepers, and of the machine, is left alone.
//!
//! A small library that is loaded before libc's adds seconds to what the kernel tells. Every setting has a remainder of
//! hours that no other has, so that any time that the daemon wrote down says under which setting it was read.
//!
//! Invariant: a time of a record that was set right is that of the machine, and can be compared with any other.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;

use crate::{
    history::{Event, Line, Pen},
    record::Record,
};

const HOUR: i64 = 3600;

const DAY: i64 = 24 * HOUR;

/// To where the clock is set, against the machine's: far and near, forward and back.
const SETTINGS: [i64; 6] = [365 * DAY, -DAY, 0, 2 * DAY, -365 * DAY, 40 * DAY];

/// A time may be read under the setting before, and be written down this much later.
const SLACK_MILLIS: i64 = 30_000;

/// The clock of one scene.
pub struct Clock {
    ahead: File,
    path: PathBuf,
    library: PathBuf,
    settings: Mutex<i64>,
}

impl Clock {
    /// A clock that is right, for the daemons of this folder.
    pub fn at(folder: &Path, pen: &Pen) -> Self {
        pen.note(Event::ClockSet { ahead: 0, at: machine_millis() });
        let (path, source, library) = (folder.join("clock"), folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&path, 0_i64.to_ne_bytes()).expect("written");
        fs::write(&source, include_str!("clock.c")).expect("written");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
        assert!(built.expect("cc is installed by scripts/test").success(), "the clock's library was not built");
        let ahead = File::options().write(true).open(&path).expect("a file");
        Self { ahead, path, library, settings: Mutex::default() }
    }

    /// Has a daemon go by it.
    pub fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CHAOS_CLOCK", &self.path);
    }

    /// Sets it, for the daemon that runs too.
    pub fn set(&self, lot: u64, pen: &Pen) {
        let mut settings = self.settings.lock().expect("no panic");
        *settings += 1;
        let ahead = SETTINGS[(lot % SETTINGS.len() as u64) as usize] + *settings * HOUR;
        pen.note(Event::ClockSet { ahead, at: machine_millis() });
        self.ahead.write_all_at(&ahead.to_ne_bytes(), 0).expect("written");
    }
}

fn machine_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the end of time")
}

/// A setting, and from when to when it was in force.
struct Setting {
    ahead_millis: i64,
    from: i64,
    to: i64,
}

/// Makes every time of the record the machine's.
pub fn set_right(record: &mut Record, lines: &[Line]) {
    let settings = settings(lines);
    for run in &mut record.runs {
        let times = [Some(&mut run.created_at), run.started_at.as_mut(), run.finished_at.as_mut()];
        for time in times.into_iter().flatten() {
            *time = right(time, &settings);
        }
    }
}

fn settings(lines: &[Line]) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for line in lines {
        let Event::ClockSet { ahead, at } = line.event else { continue };
        if let Some(last) = settings.last_mut() {
            last.to = at;
        }
        settings.push(Setting { ahead_millis: ahead * 1000, from: at, to: machine_millis() });
    }
    settings
}

/// As so many milliseconds, in digits that can be compared.
fn right(time: &str, settings: &[Setting]) -> String {
    let told: Timestamp = time.parse().unwrap_or_else(|err| panic!("{time}: {err}"));
    let told = told.as_millisecond();
    let is_it = |it: &&Setting| {
        let real = told - it.ahead_millis;
        it.from - SLACK_MILLIS <= real && real <= it.to + SLACK_MILLIS
    };
    let setting = settings.iter().rev().find(is_it).unwrap_or_else(|| panic!("under no setting it was {time}"));
    format!("{:015}", told - setting.ahead_millis)
}
