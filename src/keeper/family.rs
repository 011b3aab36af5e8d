//! The children of the keeper: the one it started, and those that fell to it because their parent ended.
//!
//! The keeper is a child subreaper: whatever a script starts stays below it, however often it forks and whatever
//! session it opens. So "the kernel says we have no child", and nobody is in the run's control group where it has one,
//! means: nothing of the run is left.
//!
//! Invariant: only this file reaps, so no status is lost and no number is waited for twice.

use std::{cell::Cell, collections::HashSet, rc::Rc, time::Duration};

use rustix::{
    io::Errno,
    process::{Signal, WaitOptions, wait},
};
use tokio::time::{Instant, sleep};

use crate::keeper::{
    cgroup::Cgroup,
    processes::{self, Process, Signalled},
};

/// How long what a script leaves behind may take to end by itself: a `tee` still has to write what it read, and may not
/// get its turn at once where the machine is busy. Nobody waits once all are gone.
const LINGER: Duration = Duration::from_secs(1);

/// How long after KILL we wait before we say that something does not end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal of this number.
    Signal(i32),
}

/// The children of the keeper while one child and what it starts are at work.
#[derive(Debug)]
pub struct Family {
    own_pid: i32,
    child: i32,
    exit: Cell<Option<Exit>>,
    group: Option<Rc<Cgroup>>,
}

impl Family {
    /// The family of this child, which was just started, in this control group, and is the only one.
    pub fn of(child: i32, group: Option<Rc<Cgroup>>) -> Self {
        Self { own_pid: rustix::process::getpid().as_raw_nonzero().get(), child, exit: Cell::new(None), group }
    }

    /// How the child ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.exit.get()
    }

    /// Takes note of everyone who has ended; says whether anyone is left.
    pub fn reap(&self) -> bool {
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) => return true,
                Err(Errno::INTR) => continue,
                // ECHILD: there is no child at all.
                Err(_) => return self.group.as_ref().is_some_and(|it| it.is_populated()),
            };
            if pid.as_raw_nonzero().get() == self.child {
                let signal = status.terminating_signal().map(Exit::Signal);
                self.exit.set(signal.or(status.exit_status().map(Exit::Code)));
            }
        }
    }

    /// Waits a moment for those left behind to end by themselves; returns who has not.
    pub async fn linger(&self) -> Vec<Process> {
        let until = Instant::now() + LINGER;
        while self.reap() {
            if Instant::now() >= until {
                return self.living();
            }
            sleep(Duration::from_millis(5)).await;
        }
        Vec::new()
    }

    /// Ends everyone: TERM, the grace, then KILL until the kernel says that nobody is left.
    /// `report` hears of those that do not end even so; then this waits on, since the lane must not move on.
    pub async fn end(&self, grace: Duration, mut report: impl FnMut(&[Process])) {
        let term_until = Instant::now() + grace;
        let mut told: HashSet<(i32, u64)> = HashSet::new();
        let mut pause = Duration::from_millis(2);
        while Instant::now() < term_until {
            // Whoever was started meanwhile is told as well, everyone once.
            for process in self.living() {
                if told.insert((process.pid, process.start)) {
                    process.signal(Signal::TERM);
                    // Who is stopped hears nothing.
                    process.signal(Signal::CONT);
                }
            }
            if !self.reap() {
                return;
            }
            sleep(pause.min(term_until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.kill(&mut report).await;
    }

    async fn kill(&self, report: &mut impl FnMut(&[Process])) {
        let report_at = Instant::now() + PATIENCE;
        let mut is_reported = false;
        let mut pause = Duration::from_millis(1);
        while self.reap() {
            // All in one stroke, so that nobody forks faster than we look; whoever has left the group comes next.
            if let Some(group) = &self.group {
                let _ = group.kill();
            }
            let living = self.living();
            let refused = living.iter().filter(|it| it.signal(Signal::KILL) == Signalled::Refused).count();
            let is_hopeless = self.group.is_none() && refused > 0 && refused == living.len();
            if !is_reported && (is_hopeless || Instant::now() >= report_at) && !living.is_empty() {
                report(&living);
                is_reported = true;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(if is_reported { 500 } else { 20 }));
        }
        // Since 6.14 the kernel kills whoever is forked from outside into a group that was killed before. It is made
        // anew for the next child.
        if let Some(group) = &self.group {
            let _ = group.remove();
        }
    }

    fn living(&self) -> Vec<Process> {
        let members = self.group.as_ref().map(|it| it.members()).unwrap_or_default();
        processes::living_among(self.own_pid, &members).unwrap_or_default()
    }
}
