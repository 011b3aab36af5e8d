//! What a killed update leaves beside the files of a working tree.
//!
//! Invariant: only files that an update of ours has listed are removed, and each by the name it gave them.

use std::{fs, io, os::unix::ffi::OsStrExt, path::Path};

use super::folders::{self, remove_empty_parents};
use crate::git::entries::as_path;

/// What the names begin with.
pub(super) const NAME: &str = ".landfall-new-";

/// The file, in our folder within `.git`, that lists them.
pub(super) const LIST: &str = "writing";

/// Removes what a killed update left.
pub(super) fn remove_leftovers((top, folder): (&Path, &Path), own: &Path) -> io::Result<()> {
    let list = match fs::read(own.join(LIST)) {
        Ok(list) => list,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    let root = folders::open(top, folder)?;
    for name in list.split(|it| *it == 0).filter(|it| !it.is_empty()) {
        let is_ours = as_path(name).file_name().is_some_and(|it| it.as_bytes().starts_with(NAME.as_bytes()));
        if is_ours {
            // It may have been killed when it had made the folder alone.
            let _ = root.remove_file(as_path(name));
            remove_empty_parents(&root, name);
        }
    }
    fs::remove_file(own.join(LIST))
}
