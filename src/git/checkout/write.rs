//! Writes files of a tree into a folder, straight out of the object database.
//!
//! Invariant: nothing is written but below that folder, whatever links others put into it meanwhile, and no file is
//! overwritten.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    num::NonZeroUsize,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use git2::{ErrorClass, Odb};
use memchr::{memchr_iter, memrchr};
use rustix::fs::{Mode, mkdirat};

use super::{
    blobs::{Reader, Shelf, Spot},
    put::Put,
};
use crate::git::{
    Cause, GitFailure, cannot,
    entries::{Kind, as_path},
    mirror::repository::{LocalRepo, RepoFolder},
    progress::plain,
};
use crate::{model::size::Size, process::beneath::Folder};

/// Reading and unpacking is most of the work; more threads than this only wait for the same disk.
const THREADS_MAX: usize = 4;

/// What a file may have that is converted, which is done in memory.
pub(in crate::git) const CONVERTED_BYTES_MAX: usize = 64 << 20;

/// No link leads further (`PATH_MAX`).
const LINK_BYTES_MAX: usize = 4095;

/// How much older a file is made that is not its blob. No file system counts time in longer steps.
const OLDER: Duration = Duration::from_secs(2);

/// Files a thread takes at once.
const BATCH: usize = 64;

/// Writes all of these into an empty folder; a submodule becomes an empty folder, as does each of `folders` that nothing
/// is put in.
pub(in crate::git) fn write(
    mirror: &LocalRepo,
    puts: &[Put<'_>],
    folders: &BTreeSet<Vec<u8>>,
    folder: &Path,
) -> Result<(), GitFailure> {
    let root = open_root(folder)?;
    make_folders(puts, folders, &root, folder)?;
    let names: Vec<&[u8]> = puts.iter().map(|it| it.path).collect();
    write_all(mirror, puts, &names, (&root, folder))
}

/// Writes each of these under another path, in a folder that is there.
pub(in crate::git) fn write_as(
    mirror: &LocalRepo,
    puts: &[Put<'_>],
    names: &[&[u8]],
    place: (&Folder, &Path),
) -> Result<(), GitFailure> {
    write_all(mirror, puts, names, place)
}

fn open_root(folder: &Path) -> Result<Folder, GitFailure> {
    Folder::open(folder).map_err(cannot(format!("write to `{}`", folder.display())))
}

fn write_all(
    mirror: &LocalRepo,
    puts: &[Put<'_>],
    names: &[&[u8]],
    (root, folder): (&Folder, &Path),
) -> Result<(), GitFailure> {
    let shelf = Shelf::open(&mirror.repo)?;
    let ids: Vec<_> = puts.iter().map(|it| it.entry.id).collect();
    let spots = shelf.find(&ids).map_err(|err| mirror.folder.is_damaged(&err.to_string()))?;
    let puts = puts.iter().zip(names);
    let mut work: Vec<Work<'_>> = spots.into_iter().zip(puts).map(|(spot, (put, name))| (spot, put, *name)).collect();
    // In the order of the pack, so that it is read from one end to the other.
    work.sort_by_key(|(spot, ..)| *spot);
    let writer = Writer { mirror: &mirror.folder, shelf: &shelf, root, folder };
    writer.write_all(&work)
}

/// Where a blob is, what it becomes, and under which path.
type Work<'a> = (Option<Spot>, &'a Put<'a>, &'a [u8]);

/// Makes every folder, those of submodules included.
fn make_folders(puts: &[Put<'_>], folders: &BTreeSet<Vec<u8>>, root: &Folder, folder: &Path) -> Result<(), GitFailure> {
    let mut made: HashSet<&[u8]> = HashSet::new();
    let mut make = |path| -> Result<(), GitFailure> {
        for end in memchr_iter(b'/', path).chain([path.len()]).filter(|it| *it > 0) {
            if made.insert(&path[..end]) {
                let new = as_path(&path[..end]);
                let what = || format!("make `{}`", folder.join(new).display());
                mkdirat(root, new, Mode::from_raw_mode(0o777)).map_err(cannot(what()))?;
            }
        }
        Ok(())
    };
    let mut last: &[u8] = b"";
    for Put { path, entry, .. } in puts {
        let parent = memrchr(b'/', path).map_or(&b""[..], |at| &path[..at]);
        if parent != last {
            make(parent)?;
        }
        last = parent;
        if entry.kind == Kind::Submodule {
            make(path)?;
        }
    }
    folders.iter().try_for_each(|it| make(it))
}

struct Writer<'a> {
    mirror: &'a RepoFolder,
    shelf: &'a Shelf,
    root: &'a Folder,
    folder: &'a Path,
}

impl Writer<'_> {
    fn write_all(&self, work: &[Work<'_>]) -> Result<(), GitFailure> {
        let next = AtomicUsize::new(0);
        let labour = || -> Result<(), GitFailure> {
            let repo = self.mirror.again()?;
            let odb = repo.odb().map_err(cannot("open the mirror's objects"))?;
            let mut reader = Reader::new();
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                let Some(rest) = work.get(from..).filter(|it| !it.is_empty()) else { return Ok(()) };
                for (spot, put, name) in rest.iter().take(BATCH) {
                    if let Err(failure) = self.write_one(&odb, &mut reader, *spot, (put, name)) {
                        // The others need not go on.
                        next.store(work.len(), Ordering::Relaxed);
                        return Err(failure);
                    }
                }
            }
        };
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if work.len() > BATCH { processors.min(THREADS_MAX) } else { 1 };
        thread::scope(|scope| {
            let threads: Vec<_> = (1..threads).map(|_| scope.spawn(labour)).collect();
            let mine = labour();
            let others =
                threads.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            others.fold(mine, |result, other| result.and(other))
        })
    }

    fn write_one(
        &self,
        odb: &Odb<'_>,
        reader: &mut Reader,
        spot: Option<Spot>,
        (put, name): (&Put<'_>, &[u8]),
    ) -> Result<(), GitFailure> {
        let what = || format!("write `{}`", self.folder.join(as_path(put.path)).display());
        let open = || -> Result<File, GitFailure> {
            // As git makes it: the umask, or the folder's default access list, takes from it what it has to.
            let mode = if put.entry.kind == Kind::Executable { 0o777 } else { 0o666 };
            self.root.create(as_path(name), mode).map_err(cannot(what()))
        };
        match put.entry.kind {
            Kind::Submodule => Ok(()),
            Kind::Link => {
                let size = self.size(odb, put)?;
                if size > LINK_BYTES_MAX {
                    let why = format!("`{}` is a link of {size} bytes, and none can be so long", plain(put.path));
                    return Err(GitFailure::permanent(why));
                }
                let target = self.read(odb, reader, spot, put)?;
                if put.is_written_out {
                    return open()?.write_all(&target).map_err(cannot(what()));
                }
                self.root.link(OsStr::from_bytes(&target), as_path(name)).map_err(cannot(what()))
            }
            Kind::File | Kind::Executable => {
                let mut file = open()?;
                if let Some(object) = &put.object {
                    let copied = File::open(object).and_then(|mut object| io::copy(&mut object, &mut file));
                    // Git reads a file again that is as young as the index, and would find something else than its blob.
                    copied.and_then(|_| file.set_modified(SystemTime::now() - OLDER)).map_err(cannot(what()))
                } else if put.is_converted() {
                    let size = self.size(odb, put)?;
                    if size > CONVERTED_BYTES_MAX {
                        let (size, limit) = (Size(size as u64), Size(CONVERTED_BYTES_MAX as u64));
                        return Err(GitFailure::permanent(format!(
                            "`{0}` has {size}, and its line ends, letters, `$Id$` or `$Format$` are to be converted, which is \
                             done up to {limit}: say `{0} -text -ident -export-subst` in `.gitattributes`",
                            plain(put.path)
                        )));
                    }
                    let content = put.convert(self.read(odb, reader, spot, put)?);
                    file.write_all(&content).map_err(cannot(what()))
                } else {
                    self.copy(odb, reader, spot, put, &mut file)
                }
            }
        }
    }

    /// How large a blob is.
    fn size(&self, odb: &Odb<'_>, put: &Put<'_>) -> Result<usize, GitFailure> {
        odb.read_header(put.entry.id).map(|(size, _)| size).map_err(|err| self.unreadable(put, &err))
    }

    fn unreadable(&self, put: &Put<'_>, err: &git2::Error) -> GitFailure {
        self.mirror.is_damaged(&format!("cannot read `{}` of the tree: {}", plain(put.path), err.why()))
    }

    fn read(
        &self,
        odb: &Odb<'_>,
        reader: &mut Reader,
        spot: Option<Spot>,
        put: &Put<'_>,
    ) -> Result<Vec<u8>, GitFailure> {
        let mut content = Vec::new();
        self.copy(odb, reader, spot, put, &mut content).map(|()| content)
    }

    /// Copies the blob of a path. What the shelf does not have, libgit2 reads whole.
    fn copy(
        &self,
        odb: &Odb<'_>,
        reader: &mut Reader,
        spot: Option<Spot>,
        put: &Put<'_>,
        out: &mut impl Write,
    ) -> Result<(), GitFailure> {
        let what = || format!("write `{}`", self.folder.join(as_path(put.path)).display());
        if let Some(spot) = spot {
            match self.shelf.copy(spot, reader, out) {
                Ok(true) => return Ok(()),
                Ok(false) => (),
                Err(err) if err.kind() == io::ErrorKind::InvalidData => {
                    let why = format!("cannot read `{}` of the tree: {err}", plain(put.path));
                    return Err(self.mirror.is_damaged(&why));
                }
                Err(err) => return Err(cannot(what())(err)),
            }
        }
        let blob = odb.read(put.entry.id).map_err(|err| match err.class() {
            // Nothing is wrong with the mirror then.
            ErrorClass::NoMemory => cannot(what())(err),
            _ => self.unreadable(put, &err),
        })?;
        out.write_all(blob.data()).map_err(cannot(what()))
    }
}
