//! The locks that git's own programs take: files with `.lock` at the end of their names.
//!
//! Invariant: one that somebody else left is removed only when its owner cannot be alive.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{GitFailure, cannot, pack_drafts, progress::say, shell::path_word};

/// What our `index.lock` says. Git's own begins with `DIRC`, or is empty.
pub(super) const OURS: &[u8] = b"landfall";

/// How long another git may hold the index: a person's `git status` does, for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lock that is left by a killed work of ours is no older than that work, and no git holds one on a ref for so long.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// The marks of a fetch and of an update.
const MARKS: [&str; 2] = [FETCHING, UPDATING];
pub(super) const FETCHING: &str = "fetching";
pub(super) const UPDATING: &str = "updating";

/// A mark in a repository that work of ours is under way. Only a kill leaves it there.
pub(super) struct Mark(PathBuf);

impl Mark {
    /// Sets it. One that is there was left by a kill, and so were the locks on refs and the drafts of packs that are as
    /// young: they go. The caller holds a lock that keeps all other work of ours away.
    pub(super) fn set(git_dir: &Path, name: &str) -> Result<Self, GitFailure> {
        let mark = git_dir.join("landfall").join(name);
        let what = || cannot::<io::Error>(format!("write `{}`", mark.display()));
        for left in MARKS {
            let left_mark = git_dir.join("landfall").join(left);
            if let Ok(since) = fs::metadata(left_mark).and_then(|it| it.modified()) {
                remove_left_behind(git_dir, since).map_err(what())?;
                if left == FETCHING {
                    pack_drafts::remove(git_dir, since).map_err(what())?;
                }
            }
        }
        fs::write(&mark, "").map_err(what())?;
        Ok(Self(mark))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the locks that were taken since then, and that nobody lets go of.
fn remove_left_behind(git_dir: &Path, since: SystemTime) -> io::Result<()> {
    let mut folders = vec![git_dir.to_owned(), git_dir.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let Ok(metadata) = path.symlink_metadata() else { continue };
            // Of the folder itself only its files: what else is in it is no ref.
            if metadata.is_dir() && folder != git_dir {
                folders.push(path);
                continue;
            }
            let is_lock = path.extension().is_some_and(|it| it == "lock") && !path.ends_with("index.lock");
            let Ok(taken) = metadata.modified() else { continue };
            if metadata.is_file() && is_lock && taken >= since {
                thread::sleep(LEFT_BEHIND.saturating_sub(taken.elapsed().unwrap_or(LEFT_BEHIND)));
                if path.symlink_metadata().and_then(|it| it.modified()).is_ok_and(|it| it == taken) {
                    say(&format!("removing `{}`, which was left by a killed run", path.display()));
                    remove_if_there(&path)?;
                }
            }
        }
    }
    Ok(())
}

/// Waits until nobody holds a lock.
pub(super) fn wait_until_free(lock: &Path) -> Result<(), GitFailure> {
    wait_for_others(lock, || match lock.symlink_metadata() {
        Ok(_) => Ok(false),
        // Not even a folder is there where another branch has the name of one.
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(true),
        Err(err) => Err(err),
    })
}

/// Removes a file, if it is there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Tries until it works, as long as somebody may hold the lock for a moment; one that nobody can hold any more goes.
pub(super) fn wait_for_others(lock: &Path, attempt: impl Fn() -> io::Result<bool>) -> Result<(), GitFailure> {
    let what = || format!("lock `{}`", lock.display());
    let began = Instant::now();
    while !attempt().map_err(cannot(what()))? {
        if is_stale(lock) {
            say(&format!("removing `{}`, which nobody holds any more", lock.display()));
            remove_if_there(lock).map_err(cannot(what()))?;
        } else if began.elapsed() > PATIENCE {
            return Err(GitFailure::other(format!(
                "another git is at work: `{}` is there. If none is, remove it with `rm {}`",
                lock.display(),
                path_word(lock)
            )));
        } else {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Whether the owner of a lock cannot be alive: it is one of ours (and we hold the lock that every one of us holds for
/// as long), or it is older than the machine's last start.
fn is_stale(lock: &Path) -> bool {
    let is_ours = fs::read(lock).is_ok_and(|it| it.starts_with(OURS));
    let changed = fs::symlink_metadata(lock).map(|it| it.mtime());
    is_ours || changed.is_ok_and(|changed| boot_time().is_some_and(|boot| changed < boot))
}

/// When the machine started, in seconds since 1970 (proc_stat(5)).
fn boot_time() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|it| it.strip_prefix("btime "))?.trim().parse().ok()
}
