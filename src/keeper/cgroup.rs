//! The control group of a run: everything that it starts is in there before its first instruction.
//!
//! It is a child of our own group, which systemd hands over with `Delegate=yes`. No controller is switched on, so the
//! rule against processes beside child groups does not touch us: daemon and keepers stay outside of it. Where there
//! is no such group, a run is held together by its session and by its keeper's being a subreaper.
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

use crate::journal::spec::RunToken;

/// The control group of a run.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Makes the group of a run; the error is a sentence that says why there is none here.
    pub fn make(token: &RunToken) -> Result<Self, String> {
        Self::make_below(&own_folder()?, &name_of(token))
    }

    fn make_below(home: &Path, name: &str) -> Result<Self, String> {
        // Who may not write here may not move a process out of here either (cgroups(7), "Delegation").
        let procs = home.join("cgroup.procs");
        access(&procs, Access::WRITE_OK)
            .map_err(|err| format!("`{}` is not handed over to us: {err}", home.display()))?;
        let group = Self { folder: home.join(name) };
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
        Self { folder: folder.to_owned() }
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
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
            Ok(()) | Err(_) => Ok(()),
        }
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
/// it is beside us, as that of any keeper we start.
pub fn discard_unbegun(token: &RunToken) {
    if let Ok(home) = own_folder() {
        // Mostly it never was there.
        let _ = fs::remove_dir(home.join(name_of(token)));
    }
}

fn name_of(token: &RunToken) -> String {
    format!("landfall-{}", token.as_str())
}

/// Where a run started by this process would get a group of its own, or, as a sentence, why it would get none.
pub fn probe() -> Result<PathBuf, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let home = own_folder()?;
    let name = format!("landfall-probe-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // In a container every daemon has the same number, also one that was killed over this.
    let _ = fs::remove_dir(home.join(&name));
    let group = Cgroup::make_below(&home, &name)?;
    group.remove().map_err(|err| format!("cannot remove a control group: {err}"))?;
    Ok(home)
}

/// A group that was removed under our hands.
fn is_gone(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// The folder of our own group.
fn own_folder() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|err| format!("cannot read `{path}`: {err}"));
    find(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

/// Our own group among these groups and mounts; see cgroups(7) and proc_pid_mountinfo(5).
fn find(groups: &str, mounts: &str) -> Result<PathBuf, String> {
    let own = groups.lines().find_map(|it| it.strip_prefix("0::")).ok_or("this kernel has no cgroup v2")?;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut fields = before.split(' ').skip(3);
        let (Some(root), Some(place), true) = (fields.next(), fields.next(), after.starts_with("cgroup2 ")) else {
            continue;
        };
        // What is mounted may be a part of the whole, and we may be outside of it.
        if let Ok(relative) = Path::new(own).strip_prefix(root)
            && !own.contains("/..")
        {
            // Joining nothing would leave a slash at the end.
            return Ok(Path::new(place).components().chain(relative.components()).collect());
        }
    }
    Err("our own control group is below no mounted cgroup v2".into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Cgroup, find, probe};
    use crate::journal::spec::RunToken;

    #[test]
    fn a_group_that_was_cleared_away_between_two_steps_is_made_anew() {
        if let Err(why) = probe() {
            return println!("SKIPPED, {why}: a_group_that_was_cleared_away_between_two_steps_is_made_anew");
        }
        let group = Cgroup::make(&RunToken::random().expect("random")).expect("a group");
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

    #[test]
    fn the_own_group_is_found_wherever_cgroup2_is_mounted() {
        let both = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let own = "4:memory:/x\n0::/system.slice/landfall.service\n";
        let expected = PathBuf::from("/sys/fs/cgroup/unified/system.slice/landfall.service");
        assert_eq!(find(own, both), Ok(expected));
        let part = "41 31 0:38 /system.slice /sys/fs/cgroup rw shared:9 master:1 - cgroup2 cgroup rw\n";
        assert_eq!(find(own, part), Ok("/sys/fs/cgroup/landfall.service".into()));
        for (groups, mounts) in [("4:memory:/x\n", both), (own, ""), ("0::/../x\n", both), ("0::/user.slice\n", part)] {
            assert!(find(groups, mounts).is_err(), "{groups} {mounts}");
        }
    }
}
