//! A repository of this machine that commits are fetched into: a bare mirror, or that of a working tree.
//!
//! Invariant: at most one process fetches into it at a time, and packs do not vanish under a reader. Nothing that the
//! configuration of a working tree says decides where a fetch goes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use git2::{Config, ConfigLevel, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::packs;
use crate::git::{
    Cause, GitFailure, cannot,
    entries::{self as tree, Change},
    owner,
    progress::say,
    shell::path_word,
    transport::library,
};
use crate::model::run::FailureClass;

/// The file in a mirror that says "make this one anew".
const DAMAGED: &str = "landfall-damaged";

/// A mirror that no fetch has touched for so long is removed: no hook uses it any more, or it is had again soon.
const UNUSED_MAX: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// An open repository, with a lock on it.
pub(in crate::git) struct LocalRepo {
    pub(in crate::git) repo: Repository,
    pub(in crate::git) folder: RepoFolder,
    _lock: File,
}

/// Whose branches are where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) enum Kind {
    /// Its branches and tags are those of the remote.
    Bare,
    /// It belongs to a working tree: the remote's branches are below `refs/remotes/<name>/`. Without a name nobody
    /// follows them.
    Clone {
        /// What the repository calls the remote.
        remote_name: Option<String>,
    },
}

impl Kind {
    /// The ref that stands for one of the remote's.
    pub(in crate::git) fn local_name(&self, full: &str) -> Option<String> {
        match (self, full.strip_prefix("refs/heads/")) {
            (Self::Bare, _) | (Self::Clone { .. }, None) => Some(full.to_owned()),
            (Self::Clone { remote_name }, Some(branch)) => {
                remote_name.as_ref().map(|it| format!("refs/remotes/{it}/{branch}"))
            }
        }
    }
}

/// Where a repository is; threads share this, and each opens the repository for itself.
pub(in crate::git) struct RepoFolder {
    path: PathBuf,
    pub(in crate::git) kind: Kind,
}

impl LocalRepo {
    /// Opens a bare mirror, or makes it, to fetch into it. Waits for any other process that does.
    pub(in crate::git) fn for_fetch(path: &Path, shown: &str) -> Result<Self, GitFailure> {
        library::settle()?;
        let what = || format!("open the mirror `{}`", path.display());
        let parent = path.parent().ok_or_else(|| GitFailure::other(format!("cannot {}: it has no parent", what())))?;
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(cannot(what()))?;
        let lock = lock_mirror(path, shown)?;
        let repo = match open(path, &Kind::Bare) {
            Ok(repo) if is_sound(&repo) => repo,
            Ok(_) | Err(_) => {
                if path.exists() {
                    say(&format!("the mirror `{}` is damaged: making it anew", path.display()));
                }
                make(path).map_err(|why| GitFailure::other(format!("cannot {}: {why}", what())))?
            }
        };
        tidy(path).map_err(cannot(what()))?;
        Ok(Self { repo, folder: RepoFolder { path: path.to_owned(), kind: Kind::Bare }, _lock: lock })
    }

    /// Opens a bare mirror to read from it.
    pub(in crate::git) fn for_reading(path: &Path) -> Result<Self, GitFailure> {
        library::settle()?;
        let what = || format!("open the mirror `{}`", path.display());
        let lock = File::open(path).map_err(cannot(what()))?;
        flock(&lock, FlockOperation::LockShared).map_err(cannot(what()))?;
        let repo = open(path, &Kind::Bare).map_err(|why| GitFailure::other(format!("cannot {}: {why}", what())))?;
        Ok(Self { repo, folder: RepoFolder { path: path.to_owned(), kind: Kind::Bare }, _lock: lock })
    }

    /// Opens the repository of a working tree, to fetch into it or to read from it.
    pub(in crate::git) fn of_clone(git_dir: &Path, remote_name: Option<String>) -> Result<Self, GitFailure> {
        library::settle()?;
        let what = || format!("open the repository `{}`", git_dir.display());
        let own = git_dir.join("landfall");
        DirBuilder::new().recursive(true).mode(0o700).create(&own).map_err(cannot(what()))?;
        let lock = open_lock(&own.join("fetch.lock")).map_err(|err| match err.kind() {
            io::ErrorKind::PermissionDenied => owner::refusal(&own, "write to it"),
            _ => cannot(what())(err),
        })?;
        lock_exclusively(&lock, || say(&format!("waiting for another fetch into {}", git_dir.display())))?;
        let kind = Kind::Clone { remote_name };
        let repo = open(git_dir, &kind).map_err(|why| GitFailure::other(format!("cannot {}: {why}", what())))?;
        Ok(Self { repo, folder: RepoFolder { path: git_dir.to_owned(), kind }, _lock: lock })
    }

    /// Opens it anew: libgit2 remembers where the history of a repository ended.
    pub(in crate::git) fn reopen(&mut self) -> Result<(), GitFailure> {
        self.repo = self.folder.again()?;
        Ok(())
    }

    /// How two trees of it differ. One that cannot be read is a damage.
    pub(in crate::git) fn changes(&self, old: Option<Oid>, new: Oid) -> Result<Vec<Change>, GitFailure> {
        tree::changes(&self.repo, old, Some(new)).map_err(|failure| match failure.class {
            FailureClass::Permanent => failure,
            FailureClass::Tempfail | FailureClass::Fetch | FailureClass::Other => {
                self.folder.is_damaged(&failure.reason)
            }
        })
    }

    /// Where the remote's ref was at the last fetch.
    pub(in crate::git) fn commit_at(&self, full: &str) -> Option<Oid> {
        let name = self.folder.kind.local_name(full)?;
        self.repo.find_reference(&name).and_then(|it| it.peel_to_commit()).map(|it| it.id()).ok()
    }

    /// Makes many packs few, unless someone reads from it just now.
    pub(in crate::git) fn tidy_packs(&self) -> Result<(), GitFailure> {
        let result = match self.folder.kind {
            Kind::Clone { .. } => packs::tidy_clone(&self.repo),
            Kind::Bare => {
                let what = || format!("open the mirror `{}`", self.folder.path.display());
                let lock = File::open(&self.folder.path).map_err(cannot(what()))?;
                match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => packs::unite(&self.repo),
                    Err(Errno::WOULDBLOCK) => Ok(()),
                    Err(err) => return Err(cannot(what())(err)),
                }
            }
        };
        // Who cannot make them few can work with many.
        result.or_else(|failure| {
            say(&format!("warning: {}", failure.reason));
            Ok(())
        })
    }
}

impl RepoFolder {
    /// Where it is.
    pub(in crate::git) fn path(&self) -> &Path {
        &self.path
    }

    /// The same repository once more, for another thread.
    pub(in crate::git) fn again(&self) -> Result<Repository, GitFailure> {
        open(&self.path, &self.kind)
            .map_err(|why| GitFailure::other(format!("cannot open `{}`: {why}", self.path.display())))
    }

    /// Notes that an object is missing, so that the next fetch makes a mirror anew. The repository of a working tree is
    /// a person's, and theirs to mend.
    pub(in crate::git) fn is_damaged(&self, why: &str) -> GitFailure {
        let path = self.path.display();
        match &self.kind {
            Kind::Bare => match fs::write(self.path.join(DAMAGED), why) {
                Ok(()) => GitFailure::fetch(format!("the mirror `{path}` is damaged and will be fetched anew: {why}")),
                Err(_) => {
                    GitFailure::other(format!("the mirror `{path}` is damaged; remove it to have it anew: {why}"))
                }
            },
            Kind::Clone { .. } => {
                let word = path_word(&self.path);
                GitFailure::permanent(format!(
                    "the repository `{path}` is damaged: {why}. `git --git-dir={word} fsck` shows how, and \
                     `git --git-dir={word} fetch --refetch` brings what the remote has of it anew"
                ))
            }
        }
    }
}

/// Marks a mirror as used.
pub(in crate::git) fn mark_used(mirror: &Path) {
    // One that is not there yet is made with its lock.
    if let Ok(lock) = File::options().write(true).open(beside(mirror, "lock")) {
        let _ = lock.set_modified(SystemTime::now());
    }
}

/// Removes the mirrors that were not used for long.
pub(in crate::git) fn remove_unused(mirrors: &Path) {
    let now = SystemTime::now();
    let Ok(entries) = fs::read_dir(mirrors) else { return };
    for lock in entries.flatten().map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "lock")) {
        let mirror = lock.with_extension("");
        let Ok(file) = File::options().write(true).open(&lock) else { continue };
        let modified = file.metadata().and_then(|it| it.modified());
        let is_old = modified.is_ok_and(|it| now.duration_since(it).unwrap_or_default() > UNUSED_MAX);
        let is_free = || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_old && is_free() && fs::remove_dir_all(&mirror).is_ok() {
            say(&format!("removed the mirror `{}`, which was not used for 60 days", mirror.display()));
            let _ = fs::remove_file(&lock);
        }
    }
}

/// Whether a fetch has noted that it is to be made anew.
pub(in crate::git) fn is_noted_as_damaged(path: &Path) -> bool {
    path.join(DAMAGED).exists()
}

/// Whether a mirror may be believed, as far as a short look tells: its packs are whole, and its refs lead to something.
/// Whatever else is wrong is found by whoever reads it.
fn is_sound(repo: &Repository) -> bool {
    let leads_somewhere = || -> Result<bool, git2::Error> {
        let odb = repo.odb()?;
        for reference in repo.references()? {
            let reference = reference?;
            if reference.target().is_some_and(|it| !odb.exists(it)) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    !is_noted_as_damaged(repo.path())
        && packs::are_whole(&packs::pack_folder(repo)).unwrap_or(false)
        && leads_somewhere().unwrap_or(false)
}

/// Takes the lock beside a mirror, which is removed together with one that was not used for long.
fn lock_mirror(path: &Path, shown: &str) -> Result<File, GitFailure> {
    let place = beside(path, "lock");
    loop {
        let lock = open_lock(&place).map_err(cannot(format!("open the mirror `{}`", path.display())))?;
        lock_exclusively(&lock, || say(&format!("waiting for another run that fetches {shown}")))?;
        let (held, there) = (lock.metadata().map(|it| it.ino()).ok(), place.metadata().map(|it| it.ino()).ok());
        if held == there {
            return Ok(lock);
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)
}

/// Locks a file, and tells once that it has to wait.
pub(in crate::git) fn lock_exclusively(lock: &File, tell: impl FnOnce()) -> Result<(), GitFailure> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            tell();
            flock(lock, FlockOperation::LockExclusive).map_err(cannot("wait for a lock"))
        }
        Err(err) => Err(cannot("take a lock")(err)),
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Opens a repository by its own folder. A mirror has its own configuration alone, and that of a working tree has none
/// at all: neither a person's `insteadOf` nor a repository's may send a fetch elsewhere.
fn open(path: &Path, kind: &Kind) -> Result<Repository, String> {
    let open = || -> Result<Repository, git2::Error> {
        // `open_bare` does not look where a shallow history ends.
        let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
        let none: [&Path; 0] = [];
        let repo = Repository::open_ext(path, flags, none)?;
        let mut config = Config::new()?;
        match kind {
            Kind::Bare => config.add_file(&path.join("config"), ConfigLevel::Local, false)?,
            Kind::Clone { .. } => (),
        }
        repo.set_config(&config)?;
        Ok(repo)
    };
    open().map_err(|err| err.why())
}

/// Makes an empty mirror. Until it is complete it has another name.
fn make(path: &Path) -> Result<Repository, String> {
    let new = beside(path, "new");
    for old in [&new, path] {
        match fs::remove_dir_all(old) {
            Ok(()) => (),
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(err) => return Err(err.to_string()),
        }
    }
    let mut options = RepositoryInitOptions::new();
    options.bare(true).no_reinit(true).external_template(false);
    let made = Repository::init_opts(&new, &options).and_then(|repo| {
        let mut config = repo.config()?.open_level(ConfigLevel::Local)?;
        // A mirror must not be believed after a power cut that it did not survive.
        config.set_bool("core.fsyncObjectFiles", true)?;
        // What a pack that is made here may take of memory besides its largest file. To libgit2 the first is also the size
        // from which a file is no longer held against others.
        config.set_i64("pack.deltaCacheSize", 16 << 20)?;
        config.set_i64("pack.windowMemory", 64 << 20)
    });
    made.map_err(|err| err.why())?;
    fs::rename(&new, path).map_err(|err| err.to_string())?;
    open(path, &Kind::Bare)
}

/// Removes what a killed fetch left: nobody else changes the mirror while we hold its lock.
fn tidy(mirror: &Path) -> io::Result<()> {
    let packs = mirror.join("objects/pack");
    for entry in fs::read_dir(&packs)? {
        let path = entry?.path();
        // Both halves of a pack have their names only when both are complete.
        let other_half = match path.extension().and_then(|it| it.to_str()) {
            Some("pack") => Some("idx"),
            Some("idx") => Some("pack"),
            Some(_) | None => None,
        };
        if other_half.is_none_or(|it| !path.with_extension(it).exists()) {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(mirror)? {
        remove_stale_lock(&entry?.path())?;
    }
    let mut folders = vec![mirror.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => remove_stale_lock(&entry.path())?,
            }
        }
    }
    Ok(())
}

fn remove_stale_lock(path: &Path) -> io::Result<()> {
    match path.extension() {
        Some(it) if it == "lock" => fs::remove_file(path),
        Some(_) | None => Ok(()),
    }
}
