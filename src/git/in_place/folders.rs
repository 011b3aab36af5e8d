//! Removes files of a working tree, and folders that nothing is left in.
//!
//! Invariant: a link is never followed, whoever puts it there meanwhile, and a folder that holds anything stays.

use std::{fs, io, path::Path};

use rustix::io::Errno;

use crate::{
    git::{GitFailure, cannot, entries::as_path},
    process::beneath::Folder,
};

/// Removes a file, and the folders that it leaves empty.
pub(super) fn remove(folder: &Path, path: &[u8]) -> Result<(), GitFailure> {
    let whole = folder.join(as_path(path));
    let what = || format!("remove `{}`", whole.display());
    let root = match Folder::open(folder) {
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
    use std::fs;

    use super::remove_empty_parents;
    use crate::process::beneath::Folder;

    #[test]
    fn of_folders_that_were_being_made_the_highest_goes_too_and_one_that_holds_something_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("kept/made")).expect("folders");
        fs::write(folder.path().join("kept/file"), "").expect("a file");
        remove_empty_parents(&Folder::open(folder.path()).expect("open"), b"kept/made/not/yet/new");
        assert!(!folder.path().join("kept/made").exists() && folder.path().join("kept/file").exists());
    }
}
