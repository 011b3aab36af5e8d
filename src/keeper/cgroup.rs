//! The control group of a run: everything that it starts is in there before its first instruction.
//!
//! It is below the group that systemd hands over with `Delegate=yes`: beside our own where that is a leaf (`home.rs`),
//! else within it; daemon and keepers stay outside of it. Where there is no such group, a run is held together by its
//! session and by its keeper's being a subreaper.
//!
//! Invariant: a group whose folder is gone is empty: the kernel removes no other. Only its living keeper makes it anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{
    fs::{Access, access},
    io::Errno,
};

use crate::{
    journal::spec::RunToken,
    keeper::{
        controllers::{self, Met},
        home::{self, Home},
    },
    model::limits::RunLimits,
};

/// The control group of a run.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    limits: RunLimits,
}

impl Cgroup {
    /// Makes the group of a run, and sets its limits; gives the sentences that say which of them do not hold, and why.
    /// The error is a sentence that says why there is no group here.
    pub fn make(token: &RunToken, limits: RunLimits) -> Result<(Self, Vec<String>), String> {
        let home = home::find()?;
        let group = Self::make_below(&home.folder, &name_of(token), limits)?;
        let unheld = controllers::hold(&home, &group.folder, &limits);
        Ok((group, unheld))
    }

    fn make_below(home: &Path, name: &str, limits: RunLimits) -> Result<Self, String> {
        // Who may not write here may not move a process out of here either (cgroups(7), "Delegation").
        let procs = home.join("cgroup.procs");
        access(&procs, Access::WRITE_OK)
            .map_err(|err| format!("`{}` is not handed over to us: {err}", home.display()))?;
        let group = Self { folder: home.join(name), limits };
        fs::create_dir(&group.folder).map_err(|err| format!("`{}` is not ours to divide: {err}", home.display()))?;
        match group.judge() {
            Ok(()) => Ok(group),
            Err(why) => {
                // It was made a moment ago and nobody is in it.
                let _ = fs::remove_dir(&group.folder);
                Err(why)
            }
        }
    }

    /// Whether it is of use: a kernel may be too old, or the groups here may be of another type.
    fn judge(&self) -> Result<(), String> {
        if !self.folder.join("cgroup.kill").exists() {
            return Err("this kernel cannot end a control group as a whole: it is older than 5.14".to_owned());
        }
        match fs::read_to_string(self.folder.join("cgroup.type")) {
            Ok(kind) if kind.trim() == "domain" => Ok(()),
            Ok(kind) => Err(format!("a new control group here is of type `{}`", kind.trim())),
            Err(err) => Err(format!("cannot read the type of a control group: {err}")),
        }
    }

    /// The group at this folder, which another process made, and may have removed.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), limits: RunLimits::default() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its folder, for a process that is forked into it.
    pub fn open(&self) -> io::Result<OwnedFd> {
        self.be_there()?;
        File::open(&self.folder).map(OwnedFd::from)
    }

    /// What a process writes [`Self::MYSELF`] to, to be in the group from then on.
    pub fn door(&self) -> io::Result<OwnedFd> {
        self.be_there()?;
        OpenOptions::new().write(true).open(self.folder.join("cgroup.procs")).map(OwnedFd::from)
    }

    /// Makes it anew if it is gone: a keeper removes a group whose members it killed, and systemd clears away whatever
    /// group of a service is empty when the service is stopped, while the keeper goes on.
    fn be_there(&self) -> io::Result<()> {
        match fs::create_dir(&self.folder) {
            Ok(()) => {
                // Which of them hold was said when it was made first.
                controllers::set(&self.folder, &self.limits);
                Ok(())
            }
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// What those in it have met of their limits since it was made.
    pub fn met(&self) -> Met {
        Met::read(&self.folder)
    }

    /// Its limits.
    pub fn limits(&self) -> &RunLimits {
        &self.limits
    }

    /// How the process that writes is named; see cgroups(7).
    pub const MYSELF: &[u8] = b"0";

    /// Whether somebody is in it, or in a group that was made below it. What cannot be told counts as yes.
    pub fn is_populated(&self) -> bool {
        match fs::read_to_string(self.folder.join("cgroup.events")) {
            Ok(events) => events.lines().any(|it| it == "populated 1"),
            Err(err) => !is_gone(&err),
        }
    }

    /// The numbers of the processes in it, and in groups below it, as far as they can be seen.
    pub fn members(&self) -> Vec<i32> {
        let folders = self.all_folders().unwrap_or_default();
        let texts = folders.iter().filter_map(|it| fs::read_to_string(it.join("cgroup.procs")).ok());
        texts.flat_map(|text| text.lines().filter_map(|it| it.parse().ok()).collect::<Vec<i32>>()).collect()
    }

    /// Ends everybody in it at once, also those who are being forked just now, and whoever they run as.
    pub fn kill(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).open(self.folder.join("cgroup.kill")) {
            Ok(mut file) => file.write_all(b"1"),
            Err(err) if is_gone(&err) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Takes it away; `false` if somebody is still in it.
    pub fn remove(&self) -> io::Result<bool> {
        for folder in self.all_folders()?.iter().rev() {
            match fs::remove_dir(folder) {
                Ok(()) => (),
                Err(err) if is_gone(&err) => (),
                Err(err) if err.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => return Ok(false),
                Err(err) => return Err(err),
            }
        }
        Ok(true)
    }

    /// Its folder and all below it, each before those below it.
    fn all_folders(&self) -> io::Result<Vec<PathBuf>> {
        let (mut found, mut next) = (vec![self.folder.clone()], 0);
        while let Some(folder) = found.get(next).cloned() {
            next += 1;
            match fs::read_dir(folder) {
                Ok(entries) => {
                    for entry in entries {
                        let entry = entry?;
                        if entry.file_type()?.is_dir() {
                            found.push(entry.path());
                        }
                    }
                }
                Err(err) if is_gone(&err) => (),
                Err(err) => return Err(err),
            }
        }
        Ok(found)
    }
}

/// Takes away the group of a run whose keeper died before it wrote down where that is: nobody has ever been in it, and
/// it is where that of any keeper we start is.
pub fn discard_unbegun(token: &RunToken) {
    if let Ok(home) = home::find() {
        // Mostly it never was there.
        let _ = fs::remove_dir(home.folder.join(name_of(token)));
    }
}

fn name_of(token: &RunToken) -> String {
    format!("landfall-{}", token.as_str())
}

/// Where a run started by this process would get a group of its own, or, as a sentence, why it would get none.
pub fn probe() -> Result<PathBuf, String> {
    try_one(|home, _| home.folder.clone())
}

/// Which limits would not hold for a run started by this process, as sentences with their reasons; none: all of them hold.
pub fn probe_limits() -> Vec<String> {
    let all = RunLimits { memory_bytes: Some(1 << 30), cpu_weight: Some(100), ..RunLimits::default() };
    let unheld = try_one(|home, group| controllers::hold(home, &group.folder, &all));
    unheld.unwrap_or_else(|why| vec![format!("`limits` do not hold: {why}")])
}

/// Makes a group, asks something about it, and takes it away again.
fn try_one<T>(ask: impl FnOnce(&Home, &Cgroup) -> T) -> Result<T, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let home = home::find()?;
    let name = format!("landfall-probe-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // In a container every daemon has the same number, also one that was killed over this.
    let _ = fs::remove_dir(home.folder.join(&name));
    let group = Cgroup::make_below(&home.folder, &name, RunLimits::default())?;
    let answer = ask(&home, &group);
    group.remove().map_err(|err| format!("cannot remove a control group: {err}"))?;
    Ok(answer)
}

/// A group that was removed under our hands.
fn is_gone(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, probe};
    use crate::{journal::spec::RunToken, model::limits::RunLimits};

    #[test]
    fn a_group_that_was_cleared_away_between_two_steps_is_made_anew() {
        if let Err(why) = probe() {
            return println!("SKIPPED, {why}: a_group_that_was_cleared_away_between_two_steps_is_made_anew");
        }
        let token = RunToken::random().expect("random");
        let (group, _) = Cgroup::make(&token, RunLimits::default()).expect("a group");
        drop(group.door().expect("it is there"));
        std::fs::remove_dir(group.folder()).expect("nobody is in it");
        assert!(!group.is_populated() && group.members().is_empty());
        drop(group.door().expect("it is there again"));
        assert!(group.remove().expect("removed") && !group.folder().exists());
        assert!(group.remove().expect("gone already"));
    }

    #[test]
    fn looking_for_a_group_by_many_at_once_gives_each_the_same_answer() {
        let expected = probe();
        std::thread::scope(|scope| {
            let probes: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..50).map(|_| probe()).collect::<Vec<_>>())).collect();
            for found in probes {
                assert!(found.join().expect("no panic").iter().all(|it| *it == expected));
            }
        });
    }
}
