//! What a working tree holds now, as far as its index cannot vouch for it.
//!
//! Invariant: a file whose size, times and inode are those of its index entry, and whose entry is older than the index,
//! is unchanged (<https://git-scm.com/docs/racy-git>); every other file is a suspect and is read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File, Metadata},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    rc::Rc,
    thread,
};

use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, statat};

use super::{adopt::Home, under_way::UnderWay};
use crate::git::{
    Cause, GitFailure, cannot,
    entries::{Entry, Kind, as_path},
    lfs, owner,
    shell::path_word,
    tree::attributes::{Attributes, is_attributes},
};

/// The working tree as its index has it, and the paths the index cannot vouch for.
pub(super) struct Standing {
    /// A copy of the index, which becomes the new one. Conflicts are taken out of it.
    pub(super) index: Index,
    /// Where the copy is.
    pub(super) copy: PathBuf,
    /// Paths of the index that may have been changed.
    pub(super) suspects: Vec<Vec<u8>>,
    /// Paths that were in conflict.
    pub(super) conflicts: Vec<Vec<u8>>,
    /// Paths that git was told to leave alone, with the flags that say so: they are never written, and never an edit.
    pub(super) kept: BTreeMap<Vec<u8>, Flags>,
    /// Whether nothing of it counts, as its files are somewhere else.
    pub(super) is_forgotten: bool,
    /// The blobs of the `.gitattributes` files in the index.
    pub(super) attributes: Vec<(Vec<u8>, Oid)>,
}

/// What an index entry says besides what is there (gitformat-index(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    plain: u16,
    extended: u16,
}

const ASSUME_VALID: u16 = 1 << 15;
const SKIP_WORKTREE: u16 = 1 << 14;

impl Flags {
    /// Of a path that a sparse checkout leaves out.
    pub(super) const SKIPPED: Self = Self { plain: 0, extended: SKIP_WORKTREE };

    /// Those that tell git to leave the file alone, if the entry has one.
    fn that_keep(entry: &IndexEntry) -> Option<Self> {
        let flags = Self { plain: entry.flags & ASSUME_VALID, extended: entry.flags_extended & SKIP_WORKTREE };
        (flags.plain != 0 || flags.extended != 0).then_some(flags)
    }
}

impl Standing {
    /// Knows nothing any more, as of an index that was emptied.
    pub(super) fn forget(&mut self) -> Result<(), GitFailure> {
        self.index.clear().map_err(cannot("empty an index"))?;
        self.suspects.clear();
        self.conflicts.clear();
        self.kept.clear();
        self.attributes.clear();
        self.is_forgotten = true;
        Ok(())
    }

    /// Looks at every file of the index.
    pub(super) fn look(home: &Home, under_way: &UnderWay) -> Result<Self, GitFailure> {
        let original = home.repo.path().join("index");
        let copy = under_way.folder.join("index");
        let what = || format!("read the index `{}`", original.display());
        // Entries as young as the index may have been changed after it was written.
        let written = match fs::copy(&original, &copy).and_then(|_| fs::metadata(&original)) {
            Ok(metadata) => (metadata.mtime(), metadata.mtime_nsec()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(err) => return Err(cannot(what())(err)),
        };
        let mut index = Index::open(&copy).map_err(|err| {
            let (why, path) = (err.why(), path_word(&original));
            GitFailure::other(format!("cannot {}: {why}; it is made anew where it is missing: `rm {path}`", what()))
        })?;
        let entries: Vec<IndexEntry> = index.iter().collect();
        let (mut conflicts, mut attributes) = (Vec::new(), Vec::new());
        for entry in &entries {
            let stage = i32::from(entry.flags >> 12 & 3);
            if stage != 0 {
                index.remove(as_path(&entry.path), stage).map_err(cannot(what()))?;
                conflicts.push(entry.path.clone());
            } else if is_attributes(&entry.path) {
                attributes.push((entry.path.clone(), entry.id));
            }
        }
        conflicts.dedup();
        let kept = entries.iter().filter_map(|it| Some((it.path.clone(), Flags::that_keep(it)?))).collect();
        let suspects = suspects(&entries, home, written);
        let is_forgotten = false;
        Ok(Self { index, copy, suspects, conflicts, kept, is_forgotten, attributes })
    }
}

/// What the files of a working tree mean there, for the threads that look at them.
#[derive(Clone, Copy)]
struct Meaning {
    trusts_modes: bool,
    makes_links: bool,
}

fn suspects(entries: &[IndexEntry], home: &Home, written: (i64, i64)) -> Vec<Vec<u8>> {
    let root = &*home.path;
    let means = Meaning { trusts_modes: home.trusts_modes, makes_links: home.makes_links };
    let look = |entries: &[IndexEntry]| -> Vec<Vec<u8>> {
        let mut places = Places { root, nearest: None };
        let suspects = entries.iter().filter(|it| is_suspect(it, &mut places, written, means));
        suspects.map(|it| it.path.clone()).collect()
    };
    let (first, second) = entries.split_at(entries.len() / 2);
    thread::scope(|scope| {
        let second = scope.spawn(|| look(second));
        let mut suspects = look(first);
        suspects.extend(second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        suspects
    })
}

/// Folders of a working tree, opened one after the other: index entries are in the order of their paths, and a name is
/// found faster in its folder than from the root.
struct Places<'a> {
    root: &'a Path,
    nearest: Option<(&'a [u8], Option<OwnedFd>)>,
}

impl<'a> Places<'a> {
    /// What is at a path; `None`: nothing, or nothing that can be looked at.
    fn stat(&mut self, path: &'a [u8]) -> Option<Stat> {
        let (folder, name) = match path.iter().rposition(|it| *it == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        if self.nearest.as_ref().is_none_or(|(it, _)| *it != folder) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::open(self.root.join(as_path(folder)), flags, Mode::empty());
            self.nearest = Some((folder, opened.ok()));
        }
        let (_, folder) = self.nearest.as_ref()?;
        statat(folder.as_ref()?, as_path(name), AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index has 32 bits for each of them")]
fn is_suspect<'a>(entry: &'a IndexEntry, places: &mut Places<'a>, written: (i64, i64), means: Meaning) -> bool {
    if entry.mode == Kind::Submodule.mode() || Flags::that_keep(entry).is_some() {
        return false;
    }
    let Some(now) = places.stat(&entry.path) else { return true };
    let file_type = FileType::from_raw_mode(now.st_mode);
    let is_same_kind = match entry.mode {
        0o120_000 => file_type.is_symlink() || !means.makes_links && file_type.is_file(),
        mode => file_type.is_file() && (!means.trusts_modes || (mode & 0o100 != 0) == (now.st_mode & 0o100 != 0)),
    };
    let (changed, edited) = ((now.st_ctime, now.st_ctime_nsec as i64), (now.st_mtime, now.st_mtime_nsec as i64));
    let time = |(seconds, nanos): (i64, i64)| IndexTime::new(seconds as i32, nanos as u32);
    let is_same = is_same_kind
        && (time(edited), time(changed)) == (entry.mtime, entry.ctime)
        && (now.st_ino as u32, now.st_size as u32) == (entry.ino, entry.file_size);
    !is_same || edited >= written || entry.flags_extended != 0
}

/// The index entry of a file that git was told to leave alone: what is on the disk does not matter.
pub(super) fn kept_entry(path: &[u8], entry: Entry, flags: Flags) -> IndexEntry {
    let never = IndexTime::new(0, 0);
    IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode: entry.kind.mode(),
        uid: 0,
        gid: 0,
        file_size: 0,
        id: entry.id,
        flags: flags.plain,
        flags_extended: flags.extended,
        path: path.to_owned(),
    }
}

/// The index entry of a file on disk. As in git's index, numbers are cut to 32 bits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index has 32 bits for each of them")]
pub(super) fn index_entry(path: &[u8], entry: Entry, metadata: &Metadata) -> IndexEntry {
    let is_submodule = entry.kind == Kind::Submodule;
    IndexEntry {
        ctime: IndexTime::new(metadata.ctime() as i32, metadata.ctime_nsec() as u32),
        mtime: IndexTime::new(metadata.mtime() as i32, metadata.mtime_nsec() as u32),
        dev: metadata.dev() as u32,
        ino: metadata.ino() as u32,
        mode: entry.kind.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        file_size: if is_submodule { 0 } else { metadata.len() as u32 },
        id: entry.id,
        flags: 0,
        flags_extended: 0,
        path: path.to_owned(),
    }
}

fn kind_of(metadata: &Metadata) -> Option<Kind> {
    let file_type = metadata.file_type();
    if file_type.is_symlink() {
        Some(Kind::Link)
    } else if file_type.is_file() {
        Some(if metadata.mode() & 0o100 != 0 { Kind::Executable } else { Kind::File })
    } else {
        None
    }
}

/// What is at a path on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or nothing that is below the folder: one of its parents is a link, or a file.
    Nothing,
    Folder,
    /// A file or a link. A filter may have been at it, so it may stand for two blobs; and where modes mean nothing, for
    /// two kinds.
    Leaf {
        kinds: Vec<Kind>,
        ids: Vec<Oid>,
    },
    /// A pipe, a socket, a device.
    Strange,
}

impl Found {
    /// Whether it is what a tree has there.
    pub(super) fn is(&self, entry: Option<Entry>) -> bool {
        match (self, entry) {
            (Self::Nothing | Self::Folder, None) => true,
            (Self::Nothing | Self::Folder, Some(entry)) => entry.kind == Kind::Submodule,
            (Self::Leaf { kinds, ids }, Some(entry)) => kinds.contains(&entry.kind) && ids.contains(&entry.id),
            (Self::Leaf { .. } | Self::Strange, None) | (Self::Strange, Some(_)) => false,
        }
    }
}

/// Looks at single paths of a working tree, without following a link.
pub(super) struct Eyes<'a> {
    home: &'a Home,
    has_filters: bool,
    has_lfs: bool,
    /// What goes before anything else is written, by its whole path: it counts as gone.
    cleared: Rc<BTreeSet<PathBuf>>,
    /// Whether a folder, given relative to the working tree, is a real one.
    folders: RefCell<HashMap<PathBuf, bool>>,
}

impl<'a> Eyes<'a> {
    pub(super) fn new(home: &'a Home, attributes: &Attributes, cleared: Rc<BTreeSet<PathBuf>>) -> Self {
        let (has_filters, has_lfs) = (attributes.has_filters, attributes.has_lfs);
        Self { home, has_filters, has_lfs, cleared, folders: RefCell::default() }
    }

    /// What is there.
    pub(super) fn look(&self, path: &[u8]) -> Result<Found, GitFailure> {
        let relative = as_path(path);
        let whole = self.home.path.join(relative);
        if !relative.parent().is_none_or(|it| self.is_real_folder(it)) || self.is_cleared(&whole) {
            return Ok(Found::Nothing);
        }
        let what = || format!("read `{}`", whole.display());
        let metadata = match fs::symlink_metadata(&whole) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(err) => return Err(cannot(what())(err)),
        };
        let Some(kind) = kind_of(&metadata) else {
            let is_strange = metadata.file_type().is_fifo() || !metadata.is_dir();
            return Ok(if is_strange { Found::Strange } else { Found::Folder });
        };
        let mut ids = vec![match kind {
            Kind::Link => {
                let target = fs::read_link(&whole).map_err(cannot(what()))?;
                Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes()).map_err(cannot(what()))?
            }
            Kind::File | Kind::Executable | Kind::Submodule => {
                // libgit2 calls a file that we may not read "locked".
                File::open(&whole).map_err(|err| match err.kind() {
                    io::ErrorKind::PermissionDenied => owner::refusal(&whole, "read it"),
                    _ => cannot(what())(err),
                })?;
                Oid::hash_file(ObjectType::Blob, &whole).map_err(cannot(what()))?
            }
        }];
        if self.has_filters && kind != Kind::Link {
            // Only this undoes filters; that it leaves a loose object is what `git add` does, too.
            ids.extend(self.home.repo.blob_path(&whole).ok());
        }
        if self.has_lfs && kind != Kind::Link {
            ids.push(lfs::pointer_of_file(&whole).map_err(cannot(what()))?);
        }
        let mut kinds = match kind {
            Kind::File | Kind::Executable if !self.home.trusts_modes => vec![Kind::File, Kind::Executable],
            kind => vec![kind],
        };
        if kind != Kind::Link && !self.home.makes_links {
            kinds.push(Kind::Link);
        }
        Ok(Found::Leaf { kinds, ids })
    }

    /// Whether a path goes before anything else is written.
    pub(super) fn is_cleared(&self, whole: &Path) -> bool {
        self.cleared.contains(whole)
    }

    /// Whether a relative path, and each of its parents, is a folder and no link.
    pub(super) fn is_real_folder(&self, relative: &Path) -> bool {
        if relative.as_os_str().is_empty() {
            return true;
        }
        if let Some(known) = self.folders.borrow().get(relative) {
            return *known;
        }
        let is_real = relative.parent().is_none_or(|it| self.is_real_folder(it))
            && fs::symlink_metadata(self.home.path.join(relative)).is_ok_and(|it| it.is_dir());
        self.folders.borrow_mut().insert(relative.to_owned(), is_real);
        is_real
    }
}
