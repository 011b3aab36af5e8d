//! Who this keeper is, for those who look for it later.
//!
//! Invariant: number, start and boot together name one process for ever.

use std::{fs, io, path::PathBuf};

use jiff::Timestamp;
use rustix::process::Signal;

use crate::{
    journal::{entries::Begin, spec::RunToken},
    keeper::processes::{Process, Signalled},
};

/// Which boot of this machine it is.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The entry that says: this process has started the run, and all it starts is in this control group.
pub fn begin(at: Timestamp, token: &RunToken, cgroup: Option<PathBuf>) -> io::Result<Begin> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let own = Process::find(pid).ok_or_else(|| io::Error::other("cannot read /proc/self/stat"))?;
    let (process_start, version) = (own.start, env!("CARGO_PKG_VERSION").into());
    Ok(Begin { at, token: Some(token.clone()), pid, process_start, boot_id: boot_id()?, version, cgroup })
}

/// Whether the machine has not been restarted since this entry was written.
pub fn is_of_this_boot(begin: &Begin) -> bool {
    boot_id().is_ok_and(|it| it == begin.boot_id)
}

/// Whether the keeper that wrote this entry is still alive.
pub fn is_alive(begin: &Begin) -> bool {
    let is_same = |it: Process| it.start == begin.process_start && !it.is_dead;
    is_of_this_boot(begin) && Process::find(begin.pid).is_some_and(is_same)
}

/// Asks the keeper that wrote this entry to cancel its run. `false`: it is gone.
pub fn ask_to_cancel(begin: &Begin) -> bool {
    let same = Process::find(begin.pid).filter(|it| it.start == begin.process_start && is_of_this_boot(begin));
    same.is_some_and(|it| it.signal(Signal::TERM) == Signalled::Yes)
}
