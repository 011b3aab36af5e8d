//! The lock of a state folder: one daemon at a time.
//!
//! Invariant: whoever holds the file that [`take`] gives is the only daemon on the folder.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, test_kill_process},
};

use crate::store::sqlite::open::OpenError;

/// How long a process that was being started may take to become its program, on a busy machine.
const LAST_MOMENT: Duration = Duration::from_secs(10);

/// Takes the folder for this process. Rust opens files close-on-exec, so no script ever inherits the lock.
///
/// A daemon that was killed while it started a process may leave its lock to that one for a moment, until it is the
/// program that it becomes. So where the holder is known and gone, that moment is waited for.
pub(super) fn take(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("landfall.lock");
    let failed = |source| OpenError::File { path: path.clone(), source };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
    let mut file = options.open(&path).map_err(failed)?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                if pid.is_none_or(is_there) || began.elapsed() > LAST_MOMENT {
                    return Err(OpenError::InUse { folder: folder.to_owned(), pid });
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    // The number is for people, and says whether a holder is gone; the lock alone decides. It is written over the one
    // before, which takes no room on a full disk.
    let text = format!("{}\n", std::process::id());
    let written = file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64));
    written.map_err(failed)?;
    Ok(file)
}

/// Whether there is a process of that number.
fn is_there(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|it| test_kill_process(it) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
        sync::mpsc,
        time::Duration,
    };

    use super::{OpenError, take};

    #[test]
    fn a_lock_that_a_killed_daemon_has_left_to_a_process_it_was_starting_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("landfall.lock");
        let mut gone = Command::new("true").spawn().expect("a process");
        gone.wait().expect("it ends");
        fs::write(&path, gone.id().to_string()).expect("written");
        let mut heir = Command::new("flock");
        heir.arg(&path).args(["sh", "-c", "echo held; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut heir = heir.spawn().expect("flock(1)");
        let mut word = [0; 5];
        std::io::Read::read_exact(heir.stdout.as_mut().expect("a pipe"), &mut word).expect("it holds the lock");

        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| tell.send(take(folder.path()).map(drop)).expect("somebody waits"));
            let early = told.recv_timeout(Duration::from_millis(200));
            drop(heir.stdin.take());
            assert!(early.is_err(), "it did not wait: {early:?}");
            told.recv().expect("an answer").expect("the lock");
        });
        heir.wait().expect("it ends");
    }

    #[test]
    fn a_lock_whose_holder_lives_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = take(folder.path()).expect("the lock");
        let own = std::process::id();
        assert!(matches!(take(folder.path()), Err(OpenError::InUse { pid: Some(pid), .. }) if pid == own));
        drop(held);
        take(folder.path()).expect("the lock");
    }
}
