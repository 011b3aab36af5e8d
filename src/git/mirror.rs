//! The bare mirror of one remote.
//!
//! Invariant: at most one process changes a mirror (lock beside it) and packs do not vanish under a reader (lock on it).
//! A mirror is only a copy: whatever is wrong with one is mended by making it anew.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use git2::{Config, ConfigLevel, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    Cause, GitFailure, cannot, library, packs,
    progress::say,
    tree::{self, Change},
};
use crate::model::run::FailureClass;

/// The file in a mirror that says "make this one anew".
const DAMAGED: &str = "landfall-damaged";

/// An open mirror, with a lock on it.
pub(super) struct Mirror {
    pub(super) repo: Repository,
    pub(super) folder: MirrorFolder,
    _lock: File,
}

/// Where a mirror is; threads share this, and each opens the mirror for itself.
pub(super) struct MirrorFolder(PathBuf);

impl Mirror {
    /// Opens the mirror, or makes it, to change it. Waits for any other process that does.
    pub(super) fn for_fetch(path: &Path, shown: &str) -> Result<Self, GitFailure> {
        library::settle()?;
        let what = || format!("open the mirror `{}`", path.display());
        let parent = path.parent().ok_or_else(|| GitFailure::other(format!("cannot {}: it has no parent", what())))?;
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(cannot(what()))?;
        let lock = beside(path, "lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(lock);
        let lock = lock.map_err(cannot(what()))?;
        lock_exclusively(&lock, || say(&format!("waiting for another run that fetches {shown}")))?;
        let repo = match open(path) {
            Ok(repo) if is_sound(&repo) => repo,
            Ok(_) | Err(_) => {
                if path.exists() {
                    say(&format!("the mirror `{}` is damaged: making it anew", path.display()));
                }
                make(path).map_err(|why| GitFailure::other(format!("cannot {}: {why}", what())))?
            }
        };
        tidy(path).map_err(cannot(what()))?;
        Ok(Self { repo, folder: MirrorFolder(path.to_owned()), _lock: lock })
    }

    /// Opens the mirror to read from it.
    pub(super) fn for_reading(path: &Path) -> Result<Self, GitFailure> {
        library::settle()?;
        let what = || format!("open the mirror `{}`", path.display());
        let lock = File::open(path).map_err(cannot(what()))?;
        flock(&lock, FlockOperation::LockShared).map_err(cannot(what()))?;
        let repo = open(path).map_err(|why| GitFailure::other(format!("cannot {}: {why}", what())))?;
        Ok(Self { repo, folder: MirrorFolder(path.to_owned()), _lock: lock })
    }

    /// Opens it anew: libgit2 remembers where the history of a repository ended.
    pub(super) fn reopen(&mut self) -> Result<(), GitFailure> {
        self.repo = self.folder.again()?;
        Ok(())
    }

    /// How two trees of the mirror differ. One that cannot be read is a damage.
    pub(super) fn changes(&self, old: Option<Oid>, new: Oid) -> Result<Vec<Change>, GitFailure> {
        tree::changes(&self.repo, old, Some(new)).map_err(|failure| match failure.class {
            FailureClass::Permanent => failure,
            FailureClass::Tempfail | FailureClass::Fetch | FailureClass::Other => {
                self.folder.is_damaged(&failure.reason)
            }
        })
    }

    /// Makes many packs few, unless someone reads from the mirror just now.
    pub(super) fn unite_packs(&self) -> Result<(), GitFailure> {
        let what = || format!("open the mirror `{}`", self.folder.0.display());
        let lock = File::open(&self.folder.0).map_err(cannot(what()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            // Who cannot make them few can work with many.
            Ok(()) => packs::unite(&self.repo).or_else(|failure| {
                say(&format!("warning: {}", failure.reason));
                Ok(())
            }),
            Err(Errno::WOULDBLOCK) => Ok(()),
            Err(err) => Err(cannot(what())(err)),
        }
    }
}

impl MirrorFolder {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The same mirror once more, for another thread.
    pub(super) fn again(&self) -> Result<Repository, GitFailure> {
        open(&self.0).map_err(|why| GitFailure::other(format!("cannot open `{}`: {why}", self.0.display())))
    }

    /// Notes that an object is missing, so that the next fetch makes the mirror anew.
    pub(super) fn is_damaged(&self, why: &str) -> GitFailure {
        let path = self.0.display();
        match fs::write(self.0.join(DAMAGED), why) {
            Ok(()) => GitFailure::fetch(format!("the mirror `{path}` is damaged and will be fetched anew: {why}")),
            Err(_) => GitFailure::other(format!("the mirror `{path}` is damaged; remove it to have it anew: {why}")),
        }
    }
}

/// Whether a fetch has noted that it is to be made anew.
pub(super) fn is_noted_as_damaged(path: &Path) -> bool {
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

/// Locks a file, and tells once that it has to wait.
pub(super) fn lock_exclusively(lock: &File, tell: impl FnOnce()) -> Result<(), GitFailure> {
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

/// Opens a mirror with its own configuration alone: a person's `insteadOf` must not send a fetch elsewhere.
fn open(path: &Path) -> Result<Repository, String> {
    let open = || -> Result<Repository, git2::Error> {
        // `open_bare` does not look where a shallow history ends.
        let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
        let none: [&Path; 0] = [];
        let repo = Repository::open_ext(path, flags, none)?;
        let mut config = Config::new()?;
        config.add_file(&path.join("config"), ConfigLevel::Local, false)?;
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
    open(path)
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
