//! The files of Git LFS that a repository has.
//!
//! Invariant: a file has its name only once all of it is there and is what the name says. One process at a time adds to
//! a store: the one that holds the mirror's lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::{Pointer, Wanted};
use crate::git::{
    GitFailure, cannot,
    mirror::repository::{Kind, RepoFolder},
    progress::plain,
};

/// A file that no commit has needed for so long is removed. The run that fetched it has long staged it.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// The files of one repository, where `git lfs` keeps them, too.
pub(super) struct Store {
    folder: PathBuf,
    /// In a person's repository nothing is put away: that is `git lfs prune`'s to do.
    is_ours: bool,
}

impl Store {
    /// Opens it, or makes it.
    pub(super) fn open(repository: &RepoFolder) -> Result<Self, GitFailure> {
        let folder = repository.path().join("lfs/objects");
        let what = || format!("make `{}`", folder.display());
        DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(cannot(what()))?;
        Ok(Self { folder, is_ours: repository.kind == Kind::Bare })
    }

    /// What of this is not here yet. What is here is marked as used, and in a mirror what was not used for long goes.
    pub(super) fn missing(&self, mut wanted: Wanted) -> Result<Wanted, GitFailure> {
        let look = |wanted: &mut Wanted| -> io::Result<()> {
            let now = SystemTime::now();
            let mut here = Vec::new();
            for pointer in wanted.keys().filter(|it| self.has(it)) {
                if self.is_ours {
                    File::options().append(true).open(self.path_of(pointer))?.set_modified(now)?;
                }
                here.push(pointer.clone());
            }
            here.iter().for_each(|it| drop(wanted.remove(it)));
            if self.is_ours { put_away(&self.folder, now) } else { Ok(()) }
        };
        look(&mut wanted).map_err(cannot(format!("read `{}`", self.folder.display())))?;
        Ok(wanted)
    }

    /// The file of a pointer at a path.
    pub(super) fn file(&self, path: &[u8], pointer: &Pointer) -> Result<PathBuf, GitFailure> {
        match self.has(pointer) {
            true => Ok(self.path_of(pointer)),
            false => Err(GitFailure::fetch(format!(
                "the file of `{}` from Git LFS is not in the repository any more",
                plain(path)
            ))),
        }
    }

    fn has(&self, pointer: &Pointer) -> bool {
        fs::metadata(self.path_of(pointer)).is_ok_and(|it| it.is_file() && it.len() == pointer.size)
    }

    /// Two levels of folders, as `git lfs` has them. An id is hex digits, so it is no path of its own.
    fn path_of(&self, pointer: &Pointer) -> PathBuf {
        self.folder.join(&pointer.oid[..2]).join(&pointer.oid[2..4]).join(&pointer.oid)
    }

    /// Takes in a file from wherever it comes. It must be what the pointer says.
    pub(super) fn take(&self, pointer: &Pointer, from: &mut dyn Read) -> Result<(), Refused> {
        let whole = self.path_of(pointer);
        let part = whole.with_extension("part");
        DirBuilder::new().recursive(true).mode(0o755).create(whole.parent().unwrap_or(&self.folder))?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&part)?;
        let (mut hash, mut left) = (Sha256::new(), pointer.size);
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(Refused::BrokeOff(err)),
            };
            left = left.checked_sub(length as u64).ok_or(Refused::Other("it is longer than the pointer says"))?;
            hash.update(&buffer[..length]);
            file.write_all(&buffer[..length])?;
        }
        if left > 0 {
            return Err(Refused::Other("it is shorter than the pointer says"));
        }
        if hex::encode(hash.finalize()) != pointer.oid {
            return Err(Refused::Other("its SHA-256 is not that of the pointer"));
        }
        file.sync_all()?;
        fs::rename(&part, &whole)?;
        Ok(())
    }
}

/// Removes files that no commit has needed for long, and what a killed fetch left.
fn put_away(folder: &Path, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_dir() {
            put_away(&path, now)?;
            continue;
        }
        let age = now.duration_since(metadata.modified()?).unwrap_or_default();
        if path.extension().is_some() || age > UNUSED_MAX {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Why a file was not taken in.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is not what the pointer says.
    Other(&'static str),
    /// It did not come in whole.
    BrokeOff(io::Error),
    /// It could not be written.
    Unwritten(io::Error),
}

impl From<io::Error> for Refused {
    fn from(err: io::Error) -> Self {
        Self::Unwritten(err)
    }
}
