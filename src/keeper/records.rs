//! The keeper's side of the journal: writes entries and rings the bell for whoever follows them.
//!
//! Invariant: a bell that nobody hears, or that is full, delays nothing.

use std::io;

use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::write,
    stdio::stdout,
};

use crate::{
    journal::entries::{Entry, Journal, StepExit},
    model::run::RunStep,
};

/// The journal, and the bell on standard output: one line for each entry.
#[derive(Debug)]
pub struct Records(Journal);

impl Records {
    /// Records in this journal.
    pub fn new(journal: Journal) -> Self {
        Self(journal)
    }

    /// Adds an entry and rings.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        // A crash at the edge of any step; the process is gone as after a kill, with no last word.
        fail::fail_point!("keeper-before-entry", |_| std::process::abort());
        self.0.append(entry)?;
        fail::fail_point!("keeper-after-entry", |_| std::process::abort());
        ring();
        Ok(())
    }

    /// A step begins.
    pub fn begin(&mut self, (step, script): Subject<'_>, log_from: u64) -> io::Result<()> {
        let script = script.map(str::to_owned);
        self.add(&Entry::StepBegin { at: Timestamp::now(), step, script, log_from })
    }

    /// A step has ended.
    pub fn end(&mut self, (step, script): Subject<'_>, log: std::ops::Range<u64>, exit: StepExit) -> io::Result<()> {
        let script = script.map(str::to_owned);
        self.add(&Entry::StepEnd { at: Timestamp::now(), step, script, log, exit })
    }

    /// Something people should know of.
    pub fn note(&mut self, text: String) -> io::Result<()> {
        self.add(&Entry::Note { at: Timestamp::now(), text })
    }
}

/// A step, and the script of it.
pub type Subject<'a> = (RunStep, Option<&'a str>);

/// The daemon may be gone, or slow: then the entry is found without a bell.
fn ring() {
    let bell = stdout();
    let mut wanted = [PollFd::new(&bell, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    if matches!(poll(&mut wanted, Some(&at_once)), Ok(1)) && wanted[0].revents().contains(PollFlags::OUT) {
        let _ = write(bell, b"\n");
    }
}
