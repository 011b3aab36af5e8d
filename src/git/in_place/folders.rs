//! Opens and makes folders of a working tree, and removes files of it, with the folders that nothing is left in.
//!
//! Invariant: beneath the outermost working tree a link is never followed, whoever puts it there meanwhile, and a folder
//! that holds anything stays.

use std::{fs, io, path::Path};

use rustix::io::Errno;

use crate::{
    git::{GitFailure, cannot, entries::as_path},
    process::beneath::Folder,
};

/// Opens the folder of a working tree that is within the outermost one, or is that one.
pub(super) fn open(top: &Path, folder: &Path) -> io::Result<Folder> {
    let (root, below) = (Folder::open(top)?, below(top, folder)?);
    if below.as_os_str().is_empty() { Ok(root) } else { root.folder(below) }
}

/// The same; the folder is made, with those above it, if it is not there.
pub(super) fn make(top: &Path, folder: &Path) -> io::Result<Folder> {
    let (root, below) = (Folder::open(top)?, below(top, folder)?);
    root.make_all(below, 0o777)?;
    if below.as_os_str().is_empty() { Ok(root) } else { root.folder(below) }
}

/// The way from the outermost working tree to one within it.
pub(super) fn below<'f>(top: &Path, folder: &'f Path) -> io::Result<&'f Path> {
    folder.strip_prefix(top).map_err(|_| io::Error::other(format!("it is not within `{}`", top.display())))
}

/// Removes a file, and the folders that it leaves empty.
pub(super) fn remove((top, folder): (&Path, &Path), path: &[u8]) -> Result<(), GitFailure> {
    let whole = folder.join(as_path(path));
    let what = || format!("remove `{}`", whole.display());
    let root = match open(top, folder) {
        Ok(root) => root,
        Err(err) if is_not_there(&err) => return Ok(()),
        Err(err) => return Err(cannot(what())(err)),
    };
    match fs::symlink_metadata(&whole) {
        // A submodule that somebody filled stays, as it does with git.
        Ok(metadata) if metadata.is_dir() => {
            let _ = root.remove_folder(as_path(path));
        }
        Ok(_) => match root.remove_file(as_path(path)) {
            // A link among its parents leads elsewhere, so the file is not there.
            Err(err) if is_not_there(&err) => return Ok(()),
            removed => removed.map_err(cannot(what()))?,
        },
        Err(err) if is_not_there(&err) => (),
        Err(err) => return Err(cannot(what())(err)),
    }
    remove_empty_parents(&root, path);
    Ok(())
}

fn is_not_there(err: &io::Error) -> bool {
    matches!(Errno::from_io_error(err), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// Removes the folders above a path, from the lowest, as long as they are empty. Who was killed may have made only the
/// highest of them.
pub(super) fn remove_empty_parents(root: &Folder, path: &[u8]) {
    for parent in as_path(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()) {
        match root.remove_folder(parent) {
            Ok(()) => (),
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(_) => return,
        }
    }
}

/// Removes a folder that holds nothing but folders; what takes its place fails on any other.
pub(super) fn remove_empty_folders(root: &Folder, path: &Path) {
    if let Ok(entries) = root.folder(path).and_then(|it| Ok(rustix::fs::Dir::read_from(&it)?)) {
        for entry in entries.flatten().filter(|it| !matches!(it.file_name().to_bytes(), b"." | b"..")) {
            remove_empty_folders(root, &path.join(as_path(entry.file_name().to_bytes())));
        }
        let _ = root.remove_folder(path);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{make, open, remove, remove_empty_parents};
    use crate::process::beneath::Folder;

    #[test]
    fn a_link_on_the_way_to_a_working_tree_within_another_leads_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let (top, out) = (folder.path().join("top"), folder.path().join("out"));
        fs::create_dir(&top).expect("a folder");
        fs::create_dir_all(out.join("lib")).expect("a folder");
        fs::write(out.join("lib/file"), "").expect("a file");
        symlink(&out, top.join("vendor")).expect("a link");
        let lib = top.join("vendor/lib");
        assert!(open(&top, &lib).is_err() && make(&top, &lib).is_err() && make(&top, &lib.join("new")).is_err());
        let _ = remove((&top, &lib), b"file");
        assert!(out.join("lib/file").exists() && !out.join("lib/new").exists());
        fs::remove_file(top.join("vendor")).expect("removed");
        make(&top, &lib).expect("made");
        assert!(open(&top, &lib).is_ok() && open(&top, &top).is_ok() && open(&top, &out).is_err());
    }

    #[test]
    fn of_folders_that_were_being_made_the_highest_goes_too_and_one_that_holds_something_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("kept/made")).expect("folders");
        fs::write(folder.path().join("kept/file"), "").expect("a file");
        remove_empty_parents(&Folder::open(folder.path()).expect("open"), b"kept/made/not/yet/new");
        assert!(!folder.path().join("kept/made").exists() && folder.path().join("kept/file").exists());
    }
}
