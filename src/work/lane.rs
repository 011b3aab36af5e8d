//! The lock of a lane on this host: whoever holds it may change what the lane deploys. The file says which run had it last,
//! whatever becomes of the database.
//!
//! Invariant: from the launch of a keeper to its end, and that of everything it started, someone holds the lock.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::model::{name::LaneName, run::RunId};

/// A lane's lock, held. It is passed on to a keeper, or let go when dropped.
#[derive(Debug)]
pub struct LaneLock(File);

impl LaneLock {
    /// The run that had the lane last, as far as that was noted.
    pub fn holder(&self) -> Option<RunId> {
        let mut text = [0; 32];
        let size = self.0.read_at(&mut text, 0).ok()?;
        str::from_utf8(&text[..size]).ok()?.lines().next()?.parse().ok().map(RunId)
    }

    /// Notes which run has the lane from now on.
    pub fn note(&self, run: RunId) -> io::Result<()> {
        // A number that is longer than the one before leaves nothing of it, and one that is shorter ends its line.
        self.0.write_all_at(format!("{run}\n").as_bytes(), 0)
    }
}

/// The descriptor that holds the lock, for a keeper to inherit.
impl From<LaneLock> for OwnedFd {
    fn from(lock: LaneLock) -> Self {
        lock.0.into()
    }
}

/// Takes the lock if nobody holds it; `None` while a keeper does.
pub fn try_lock(state: &Path, lane: &LaneName) -> io::Result<Option<LaneLock>> {
    fail::fail_point!("lane-unlocked", |_| open(state, lane).map(|file| Some(LaneLock(file))));
    let file = open(state, lane)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(LaneLock(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn open(state: &Path, lane: &LaneName) -> io::Result<File> {
    let folder: PathBuf = state.join("lanes");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(format!("{lane}.lock"));
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::{LaneName, OwnedFd, RunId, try_lock};

    #[test]
    fn a_lane_says_which_run_had_it_last() {
        let state = tempfile::tempdir().expect("temporary folder");
        let lock = || try_lock(state.path(), &LaneName::parse("site").expect("a name")).expect("io").expect("free");
        assert_eq!(lock().holder(), None);
        for run in [RunId(12_345), RunId(7)] {
            lock().note(run).expect("noted");
            assert_eq!(lock().holder(), Some(run));
        }
    }

    #[test]
    fn a_lane_is_locked_by_one_and_free_when_the_last_descriptor_is_gone() {
        let state = tempfile::tempdir().expect("temporary folder");
        let lane = LaneName::parse("site").expect("a name");
        let lock = try_lock(state.path(), &lane).expect("io").expect("free");
        let passed_on = OwnedFd::from(lock);
        let inherited = passed_on.try_clone().expect("dup");
        drop(passed_on);
        assert!(try_lock(state.path(), &lane).expect("io").is_none(), "the keeper's descriptor still holds it");
        drop(inherited);
        assert!(try_lock(state.path(), &lane).expect("io").is_some());
    }
}
