//! That an update of a working tree is under way: for other processes, and for whoever comes after a crash.
//!
//! Invariant: `index.lock` is ours for the whole update, as it is git's own way to keep others off, and when the first
//! file changes nobody holds what else the update needs; a lock that somebody else left is removed only when its owner
//! cannot be alive.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use git2::Oid;

use super::{adopt::Home, leftovers};
use crate::git::{
    GitFailure, cannot,
    locks::{self, remove_if_there},
    mirror::repository::lock_exclusively,
    progress::say,
};

/// What else an update writes under a lock, besides the refs that it moves.
const OTHERS: [&str; 4] = ["HEAD", "packed-refs", "shallow", "config"];

/// An update under way. Dropped before its end it leaves the mark, so that the next one knows.
pub(super) struct UnderWay {
    /// Our own folder within `.git`.
    pub(super) folder: PathBuf,
    /// Commits that updates were bringing when they broke off. A file as one of them has it is our own work.
    pub(super) earlier: Vec<Oid>,
    index_lock: PathBuf,
    _mark: locks::Mark,
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
        leftovers::remove_leftovers((&home.top, &home.path), &folder).map_err(cannot(&*what))?;
        let mark = locks::Mark::set(repo.path(), locks::UPDATING)?;
        let index_lock = repo.path().join("index.lock");
        take(&index_lock, &folder.join("claim"))?;
        let earlier = match fs::read_to_string(folder.join("bringing")) {
            Ok(text) => text.lines().filter_map(|it| Oid::from_str(it).ok()).collect(),
            Err(_) => Vec::new(),
        };
        if !earlier.is_empty() {
            say("an earlier update broke off; completing it");
        }
        let under_way = Self { folder, earlier, index_lock, _mark: mark, _lock: lock };
        let others = OTHERS.iter().copied().chain(refs.iter().map(String::as_str));
        others.map(|it| repo.path().join(format!("{it}.lock"))).try_for_each(|it| locks::wait_until_free(&it))?;
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

/// Makes `lock` ours. It comes into being with its text in it, by a link: no crash leaves an empty one.
fn take(lock: &Path, claim: &Path) -> Result<(), GitFailure> {
    fs::write(claim, locks::OURS).map_err(cannot(format!("lock `{}`", lock.display())))?;
    let taken = locks::wait_for_others(lock, || match fs::hard_link(claim, lock) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err),
    });
    remove_if_there(claim).map_err(cannot(format!("lock `{}`", lock.display())))?;
    taken
}
