//! Removes files of a working tree, and folders that nothing is left in.
//!
//! Invariant: a link is never followed, and a folder that holds anything stays.

use std::{fs, io, path::Path};

use crate::git::{GitFailure, cannot, entries::as_path};

/// Removes a file, and the folders that it leaves empty.
pub(super) fn remove(folder: &Path, path: &[u8]) -> Result<(), GitFailure> {
    let whole = folder.join(as_path(path));
    let what = || format!("remove `{}`", whole.display());
    // A link among its parents leads elsewhere, so the file is not there.
    let mut parents = as_path(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
    if parents.any(|it| !fs::symlink_metadata(folder.join(it)).is_ok_and(|it| it.is_dir())) {
        return Ok(());
    }
    match fs::symlink_metadata(&whole) {
        // A submodule that somebody filled stays, as it does with git.
        Ok(metadata) if metadata.is_dir() => {
            let _ = fs::remove_dir(&whole);
        }
        Ok(_) => fs::remove_file(&whole).map_err(cannot(what()))?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => (),
        Err(err) => return Err(cannot(what())(err)),
    }
    remove_empty_parents(folder, path);
    Ok(())
}

/// Removes the folders above a path, from the lowest, as long as they are empty. Who was killed may have made only the
/// highest of them.
pub(super) fn remove_empty_parents(folder: &Path, path: &[u8]) {
    for parent in as_path(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()) {
        match fs::remove_dir(folder.join(parent)) {
            Ok(()) => (),
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(_) => return,
        }
    }
}

/// Removes a folder that holds nothing but folders; what takes its place fails on any other.
pub(super) fn remove_empty_folders(folder: &Path) {
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
            remove_empty_folders(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::remove_empty_parents;

    #[test]
    fn of_folders_that_were_being_made_the_highest_goes_too_and_one_that_holds_something_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("kept/made")).expect("folders");
        fs::write(folder.path().join("kept/file"), "").expect("a file");
        remove_empty_parents(folder.path(), b"kept/made/not/yet/new");
        assert!(!folder.path().join("kept/made").exists() && folder.path().join("kept/file").exists());
    }
}
