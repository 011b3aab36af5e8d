//! Writes files of a tree into a folder, straight out of the object database.
//!
//! Invariant: nothing is written but below that folder, which is empty at first; no file is overwritten and no link
//! followed.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, symlink},
    },
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use git2::{ErrorCode, Odb, Tree, build::CheckoutBuilder};

use super::{
    Cause, GitFailure,
    attributes::{Asked, use_attributes_of},
    cannot,
    mirror::{Mirror, MirrorFolder},
    progress::{plain, say},
    tree::{Change, Entry, Kind, as_path},
};

/// Reading and unpacking is most of the work; more threads than this only wait for the same disk.
const THREADS: usize = 2;

/// Files a thread takes at once.
const BATCH: usize = 64;

/// Writes what is there now of `changes`, which are ones of `tree`.
pub(super) fn write(
    mirror: &Mirror,
    tree: &Tree<'_>,
    asked: Asked,
    changes: &[Change],
    folder: &Path,
) -> Result<(), GitFailure> {
    let files: Vec<(&[u8], Entry)> =
        changes.iter().filter_map(|change| change.now.map(|entry| (change.path.as_slice(), entry))).collect();
    make_folders(&files, folder)?;
    if asked.filters {
        write_filtered(mirror, tree, &files, folder)
    } else {
        write_plain(&mirror.folder, &files, folder)
    }
}

/// Makes every folder, those of submodules included.
fn make_folders(files: &[(&[u8], Entry)], folder: &Path) -> Result<(), GitFailure> {
    let mut made: HashSet<&[u8]> = HashSet::new();
    for (path, entry) in files {
        let separators = path.iter().enumerate().filter(|(_, it)| **it == b'/').map(|(at, _)| at);
        let own = (entry.kind == Kind::Submodule).then_some(path.len());
        for end in separators.chain(own) {
            if made.insert(&path[..end]) {
                let new = folder.join(as_path(&path[..end]));
                DirBuilder::new().mode(0o755).create(&new).map_err(cannot(format!("make `{}`", new.display())))?;
            }
        }
        if entry.kind == Kind::Submodule {
            say(&format!("`{}` is a submodule, and stays empty", plain(path)));
        }
    }
    Ok(())
}

fn write_plain(mirror: &MirrorFolder, files: &[(&[u8], Entry)], folder: &Path) -> Result<(), GitFailure> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), GitFailure> {
        let repo = mirror.again()?;
        let odb = repo.odb().map_err(cannot("open the mirror's objects"))?;
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(rest) = files.get(from..).filter(|it| !it.is_empty()) else { return Ok(()) };
            for (path, entry) in rest.iter().take(BATCH) {
                if let Err(failure) = write_one(mirror, &odb, path, *entry, folder) {
                    // The others need not go on.
                    next.store(files.len(), Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let others = threads.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        others.fold(mine, |result, other| result.and(other))
    })
}

/// A blob is read whole: libgit2 cannot stream out of a pack, and a mirror has nothing else.
fn write_one(mirror: &MirrorFolder, odb: &Odb<'_>, path: &[u8], entry: Entry, folder: &Path) -> Result<(), GitFailure> {
    let target = folder.join(as_path(path));
    let what = || format!("write `{}`", target.display());
    let read = || odb.read(entry.id).map_err(|err| unreadable(mirror, path, &err));
    match entry.kind {
        Kind::Submodule => Ok(()),
        Kind::Link => symlink(OsStr::from_bytes(read()?.data()), &target).map_err(cannot(what())),
        Kind::File | Kind::Executable => {
            let mode = entry.kind.mode() & 0o777;
            let blob = read()?;
            let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&target);
            file.and_then(|mut file| file.write_all(blob.data())).map_err(cannot(what()))
        }
    }
}

fn unreadable(mirror: &MirrorFolder, path: &[u8], err: &git2::Error) -> GitFailure {
    let why = format!("cannot read `{}` of the tree: {}", plain(path), err.why());
    match err.code() {
        ErrorCode::NotFound => mirror.is_damaged(&why),
        _ => GitFailure::other(why),
    }
}

/// Through libgit2's own checkout, which knows line ends and `$Id$`.
fn write_filtered(mirror: &Mirror, tree: &Tree<'_>, files: &[(&[u8], Entry)], folder: &Path) -> Result<(), GitFailure> {
    let what = format!("write the tree to `{}`", folder.display());
    use_attributes_of(&mirror.repo, tree)?;
    // libgit2 takes a relative target for one within a working tree.
    let folder = fs::canonicalize(folder).map_err(cannot(&*what))?;
    let mut checkout = CheckoutBuilder::new();
    checkout.force().target_dir(&folder).update_index(false).disable_pathspec_match(true);
    // The index is only in memory, so it cannot be read again.
    checkout.dir_perm(0o755).refresh(false);
    for (path, _) in files {
        checkout.path(*path);
    }
    if files.is_empty() {
        return Ok(());
    }
    mirror.repo.checkout_tree(tree.as_object(), Some(&mut checkout)).map_err(cannot(what))
}
