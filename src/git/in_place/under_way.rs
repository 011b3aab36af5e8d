//! That an update of a working tree is under way: for other processes, and for whoever comes after a crash.
//!
//! Invariant: `index.lock` is ours for the whole update, as it is git's own way to keep others off, and when the first
//! file changes nobody holds what else the update needs; a lock that somebody else left is removed only when its owner
//! cannot be alive.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use git2::Oid;

use super::{adopt::Home, temporary};
use crate::git::{GitFailure, cannot, mirror::lock_exclusively, progress::say, shell::path_word};

/// What our `index.lock` says. Git's own begins with `DIRC`, or is empty.
const OURS: &[u8] = b"landfall";

/// What else an update writes under a lock, besides the refs that it moves.
const OTHERS: [&str; 4] = ["HEAD", "packed-refs", "shallow", "config"];

/// How long another git may hold the index: a person's `git status` does, for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// An update under way. Dropped before its end it leaves the mark, so that the next one knows.
pub(super) struct UnderWay {
    /// Our own folder within `.git`.
    pub(super) folder: PathBuf,
    /// Commits that updates were bringing when they broke off. A file as one of them has it is our own work.
    pub(super) earlier: Vec<Oid>,
    index_lock: PathBuf,
    // The kernel lets go of it when we die, which is what proves a mark to be stale.
    _lock: File,
}

impl UnderWay {
    /// Keeps all others off, and waits for those who hold one of `refs`.
    pub(super) fn begin(home: &Home, refs: &[String]) -> Result<Self, GitFailure> {
        let repo = &home.repo;
        let folder = repo.path().join("landfall");
        let what = format!("prepare `{}`", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot(&*what))?;
        let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(folder.join("lock"));
        let lock = lock.map_err(cannot(&*what))?;
        lock_exclusively(&lock, || say(&format!("waiting for another update of {}", repo.path().display())))?;
        for leftover in ["index", "index.lock", "claim"] {
            remove_if_there(&folder.join(leftover)).map_err(cannot(&*what))?;
        }
        temporary::remove_leftovers(&home.path, &folder).map_err(cannot(&*what))?;
        let index_lock = repo.path().join("index.lock");
        take(&index_lock, &folder.join("claim"))?;
        let earlier = match fs::read_to_string(folder.join("bringing")) {
            Ok(text) => text.lines().filter_map(|it| Oid::from_str(it).ok()).collect(),
            Err(_) => Vec::new(),
        };
        if !earlier.is_empty() {
            say("an earlier update broke off; completing it");
        }
        let under_way = Self { folder, earlier, index_lock, _lock: lock };
        let others = OTHERS.iter().copied().chain(refs.iter().map(String::as_str));
        for lock in others.map(|it| repo.path().join(format!("{it}.lock"))) {
            wait_for_others(&lock, || match lock.symlink_metadata() {
                Ok(_) => Ok(false),
                Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(true),
                Err(err) => Err(err),
            })?;
        }
        Ok(under_way)
    }

    /// Notes what will be brought, before the first file changes.
    pub(super) fn note(&mut self, commit: Oid) -> Result<(), GitFailure> {
        if !self.earlier.contains(&commit) {
            self.earlier.push(commit);
        }
        let text: String = self.earlier.iter().map(|it| format!("{it}\n")).collect();
        let (new, mark) = (self.folder.join("bringing.new"), self.folder.join("bringing"));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &mark))
            .map_err(cannot(format!("write `{}`", mark.display())))
    }

    /// Everything is as it should be.
    pub(super) fn end(self) -> Result<(), GitFailure> {
        let mark = self.folder.join("bringing");
        remove_if_there(&mark).map_err(cannot(format!("remove `{}`", mark.display())))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.index_lock);
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes `lock` ours. It comes into being with its text in it, by a link: no crash leaves an empty one.
fn take(lock: &Path, claim: &Path) -> Result<(), GitFailure> {
    fs::write(claim, OURS).map_err(cannot(format!("lock `{}`", lock.display())))?;
    let taken = wait_for_others(lock, || match fs::hard_link(claim, lock) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err),
    });
    remove_if_there(claim).map_err(cannot(format!("lock `{}`", lock.display())))?;
    taken
}

/// Tries until it works, as long as somebody may hold the lock for a moment; one that nobody can hold any more goes.
fn wait_for_others(lock: &Path, attempt: impl Fn() -> io::Result<bool>) -> Result<(), GitFailure> {
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
