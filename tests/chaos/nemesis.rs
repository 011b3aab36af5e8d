//! Carries out a plan against the daemon, its keepers, its disk, its file and those it tells.
//!
//! Invariant: each deed stands in the history, and after [`Nemesis::relent`] nothing is disturbed any more.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, Signal as Blow, pidfd_open, pidfd_send_signal};

use crate::{
    daemon::Daemon,
    history::{Event, Sink},
    pause::Ending,
    plan::{Act, Deed},
    scene::Scene,
    sinks::Sinks,
};

/// How long a blow that found nobody is tried again.
const AIM: Duration = Duration::from_millis(250);

/// The nemesis of one storm.
pub struct Nemesis<'a> {
    pub scene: &'a Scene,
    pub daemon: &'a Daemon<'a>,
    pub sinks: &'a Sinks,
    pub seconds: u64,
    pub edition: AtomicU64,
}

impl Nemesis<'_> {
    /// Carries out the plan, until its end.
    pub fn rage(&self, plan: &[Act], ending: &Ending) {
        let began = Instant::now();
        for act in plan {
            if ending.comes_until(began + act.at) {
                return;
            }
            self.act(act.deed, ending);
        }
    }

    fn act(&self, deed: Deed, ending: &Ending) {
        let pen = &self.scene.pen;
        match deed {
            Deed::KillDaemon => self.daemon.kill(),
            Deed::KillKeeper { lot } => self.hit_keeper(lot, Blow::KILL, |run| Event::KillKeeper { run }, ending),
            Deed::StopDaemon => self.daemon.signal(Signal::SIGSTOP, Event::StopDaemon),
            Deed::ContinueDaemon => self.daemon.signal(Signal::SIGCONT, Event::ContinueDaemon),
            Deed::StopKeeper { lot } => self.hit_keeper(lot, Blow::STOP, |run| Event::StopKeeper { run }, ending),
            Deed::ContinueKeepers => self.continue_keepers(),
            Deed::FillDisk if self.scene.no_full_disk.is_none() => {
                pen.note(Event::DiskFull);
                self.scene.fill_disk();
            }
            Deed::FreeDisk if self.scene.no_full_disk.is_none() => {
                self.scene.free_disk(self.seconds);
                pen.note(Event::DiskFreed);
            }
            Deed::FillDisk | Deed::FreeDisk => (),
            Deed::SinkDown(sink) => {
                pen.note(Event::SinkDown { sink });
                self.sinks.set_down(sink, true);
            }
            Deed::SinkUp(sink) => {
                self.sinks.set_down(sink, false);
                pen.note(Event::SinkUp { sink });
            }
            Deed::Reload => {
                self.write_hooks();
                pen.note(Event::Reloaded);
            }
            Deed::SpoilHooks => {
                pen.note(Event::Spoilt);
                self.scene.spoil_hooks();
            }
            Deed::MendHooks => {
                self.write_hooks();
                pen.note(Event::Mended);
            }
            Deed::RestartDaemon => self.daemon.signal(Signal::SIGTERM, Event::RestartDaemon),
            Deed::SetClock { lot } => self.scene.clock.set(lot, pen),
            Deed::CopyDatabase => self.daemon.copy_database(),
            Deed::PutBack => self.daemon.put_back(),
        }
    }

    fn write_hooks(&self) {
        self.scene.write_hooks(self.edition.fetch_add(1, Ordering::SeqCst) + 1);
    }

    /// Sends a blow to one of the keepers, as soon as there is one.
    fn hit_keeper(&self, lot: u64, blow: Blow, event: impl Fn(i64) -> Event, ending: &Ending) {
        let until = Instant::now() + AIM;
        loop {
            let keepers = keepers(&self.scene.state());
            if !keepers.is_empty() {
                let (pid, run) = keepers[(lot % keepers.len() as u64) as usize];
                if strike(pid, run, &self.scene.state(), blow) {
                    return self.scene.pen.note(event(run));
                }
            }
            if Instant::now() >= until || ending.comes_within(Duration::from_millis(5)) {
                return;
            }
        }
    }

    fn continue_keepers(&self) {
        for (pid, run) in keepers(&self.scene.state()) {
            strike(pid, run, &self.scene.state(), Blow::CONT);
        }
        self.scene.pen.note(Event::ContinueKeepers);
    }

    /// Disturbs nothing any more.
    pub fn relent(&self) {
        let ending = Ending::default();
        for deed in [
            Deed::FreeDisk,
            Deed::MendHooks,
            Deed::ContinueDaemon,
            Deed::ContinueKeepers,
            Deed::SinkUp(Sink::Slack),
            Deed::SinkUp(Sink::Mail),
        ] {
            self.act(deed, &ending);
        }
        self.scene.pen.note(Event::Calm);
    }
}

/// The keepers of this state folder: process and run.
fn keepers(state: &Path) -> Vec<(i32, i64)> {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, kept_by(pid, state)?))).collect()
}

/// The run that this process is the keeper of. A child of the keeper looks like it until it becomes its own program.
fn kept_by(pid: i32, state: &Path) -> Option<i64> {
    let run = run_of(pid, state)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
    (run_of(parent, state) != Some(run)).then_some(run)
}

/// The run that the command line of this process names.
fn run_of(pid: i32, state: &Path) -> Option<i64> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|it| *it == 0).collect();
    let folder = Path::new(std::str::from_utf8(words.get(2).filter(|_| words[1] == b"keeper")?).ok()?);
    folder.strip_prefix(state.join("runs")).ok()?.to_str()?.parse().ok()
}

/// Hits that keeper, and no other process that may have got its number since.
fn strike(pid: i32, run: i64, state: &Path, blow: Blow) -> bool {
    let Some(target) = Pid::from_raw(pid) else { return false };
    let Ok(handle) = pidfd_open(target, PidfdFlags::empty()) else { return false };
    kept_by(pid, state) == Some(run) && pidfd_send_signal(&handle, blow).is_ok()
}

/// The processes that are marked as this scene's, but for the daemon.
pub fn left_behind(scene: &Scene, daemon: Option<u32>) -> Vec<String> {
    let mark = [b"CHAOS_SCENE=", scene.folder.as_os_str().as_encoded_bytes()].concat();
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let is_marked = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // A daemon shows no environment.
        let works_here = || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|it| it == scene.folder);
        Some(*pid) != daemon && (environ.split(|it| *it == 0).any(|it| it == mark) || works_here())
    };
    let named = pids.filter(is_marked).map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
    });
    named.collect()
}
