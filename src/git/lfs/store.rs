//! The files of Git LFS that a mirror has.
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
use crate::git::{GitFailure, cannot, progress::plain};

/// A file that no commit has needed for so long is removed. The run that fetched it has long staged it.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// The files of one mirror.
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens it, or makes it.
    pub(super) fn open(mirror: &Path) -> Result<Self, GitFailure> {
        let folder = mirror.join("landfall-lfs");
        let what = || format!("make `{}`", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot(what()))?;
        Ok(Self { folder })
    }

    /// What of this is not here yet. What is here is marked as used, and what was not used for long goes, as does what
    /// a killed fetch left.
    pub(super) fn missing(&self, mut wanted: Wanted) -> Result<Wanted, GitFailure> {
        self.look(&mut wanted).map_err(cannot(format!("read `{}`", self.folder.display())))?;
        Ok(wanted)
    }

    fn look(&self, wanted: &mut Wanted) -> io::Result<()> {
        let now = SystemTime::now();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let pointer = Pointer { oid: entry.file_name().to_string_lossy().into_owned(), size: metadata.len() };
            if wanted.remove(&pointer).is_some() {
                File::options().append(true).open(&path)?.set_modified(now)?;
                continue;
            }
            let is_part = path.extension().is_some();
            let age = now.duration_since(metadata.modified()?).unwrap_or_default();
            if is_part || age > UNUSED_MAX {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// The file of a pointer at a path.
    pub(super) fn file(&self, path: &[u8], pointer: &Pointer) -> Result<PathBuf, GitFailure> {
        let file = self.folder.join(&pointer.oid);
        match fs::metadata(&file) {
            Ok(metadata) if metadata.len() == pointer.size => Ok(file),
            Ok(_) | Err(_) => Err(GitFailure::fetch(format!(
                "the file of `{}` from Git LFS is not in the mirror any more",
                plain(path)
            ))),
        }
    }

    /// Takes in a file from wherever it comes. It must be what the pointer says.
    pub(super) fn take(&self, pointer: &Pointer, from: &mut dyn Read) -> Result<(), Refused> {
        let (part, whole) = (self.folder.join(format!("{}.part", pointer.oid)), self.folder.join(&pointer.oid));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
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
