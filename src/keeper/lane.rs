//! What the keeper inherits: the lane's lock on descriptor 3, and perhaps more that must go no further.
//!
//! Invariant: after [`LaneLock::inherit`] no child of the keeper gets a descriptor that it was not given on purpose.

use std::{
    fs,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::{
    fs::{FileType, FlockOperation, flock, fstat},
    io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd},
};

/// The number under which `work` hands the lock over.
const LOCK_FD: RawFd = 3;

/// The lane's lock. It is let go when the keeper exits, and by nothing else.
#[derive(Debug)]
pub struct LaneLock(OwnedFd);

impl LaneLock {
    /// Takes what was handed over. To be called before the keeper opens anything; the error is a sentence.
    pub fn inherit() -> Result<Self, String> {
        // Looked at without opening anything, which might take the very number.
        fs::symlink_metadata(format!("/proc/self/fd/{LOCK_FD}"))
            .map_err(|_| "no lane lock was handed over on descriptor 3".to_owned())?;
        // SAFETY: the descriptor is open, as was just seen, and was opened before this process began, so nothing in
        // it owns the number yet.
        #[allow(unsafe_code)]
        let lock = unsafe { OwnedFd::from_raw_fd(LOCK_FD) };
        close_on_exec().map_err(|err| format!("cannot keep descriptors from scripts: {err}"))?;
        let stat = fstat(&lock).map_err(|err| format!("cannot look at the lane's lock: {err}"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            Ok(Self(lock))
        } else {
            Err("descriptor 3 is not the lane's lock file".into())
        }
    }

    /// Makes sure that the lane is ours. It is already, unless nobody took the lock before handing it over.
    pub fn hold(&self) -> Result<(), String> {
        fail::fail_point!("lane-unlocked", |_| Ok(()));
        match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err("another process holds the lock of this lane".into()),
            Err(err) => Err(format!("cannot lock the lane: {err}")),
        }
    }
}

/// Marks everything behind the three standard descriptors as not for children.
fn close_on_exec() -> std::io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|it| it.parse::<RawFd>().ok()) else { continue };
        if number <= 2 {
            continue;
        }
        // SAFETY: the descriptor was open a moment ago and this process has one thread, which closes none meanwhile.
        // The one that lists the folder itself is among them, and open.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let flags = fcntl_getfd(fd)?;
        fcntl_setfd(fd, flags | FdFlags::CLOEXEC)?;
    }
    Ok(())
}
