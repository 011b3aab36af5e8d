//! The lock of a lane on this host: whoever holds it may change what the lane deploys.
//!
//! Invariant: from the launch of a keeper to its end, and that of everything it started, someone holds the lock.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::model::name::LaneName;

/// A lane's lock, held. It is passed on to a keeper, or let go when dropped.
#[derive(Debug)]
pub struct LaneLock(File);

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
    use super::{LaneName, OwnedFd, try_lock};

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
