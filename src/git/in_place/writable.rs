//! Whether we may write where an update has to, asked before the first file changes.
//!
//! Invariant: who reads the refusal learns whose the folder is, who we are, and the command that mends it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Uid, geteuid};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use crate::git::{GitFailure, cannot, entries::as_path, owner::name, shell};

/// Fails where a folder that is there cannot be written to.
pub(super) fn judge(folder: &Path) -> Result<(), GitFailure> {
    refusal(folder, || {
        format!("`chown -R {} {}` gives it over", shell::word(&name(geteuid())), shell::path_word(folder))
    })
}

/// Fails where a folder that is not there cannot be made.
pub(super) fn judge_new(folder: &Path) -> Result<(), GitFailure> {
    let Some(above) = folder.ancestors().skip(1).find(|it| it.exists()) else { return Ok(()) };
    let (user, path) = (shell::word(&name(geteuid())), shell::path_word(folder));
    refusal(above, || format!("`install -d -o {user} {path}` makes the one that is wanted"))
}

/// Fails where one of the folders that these paths are in cannot be written to.
pub(super) fn judge_all<'a>(root: &Path, paths: impl Iterator<Item = &'a Vec<u8>>) -> Result<(), GitFailure> {
    let folders: BTreeSet<PathBuf> = paths.filter_map(|it| as_path(it).parent().map(Path::to_owned)).collect();
    // What is no folder yet, or no real one, will be made where its parent is.
    let folders = folders.iter().map(|it| root.join(it));
    folders.filter(|it| it.symlink_metadata().is_ok_and(|it| it.is_dir())).try_for_each(|it| judge(&it))
}

fn refusal(folder: &Path, advice: impl FnOnce() -> String) -> Result<(), GitFailure> {
    let shown = folder.display();
    match accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(Errno::ROFS) => Err(GitFailure::other(format!(
            "`{shown}` is on a file system that is mounted read-only: mount it to be written"
        ))),
        Err(Errno::ACCESS | Errno::PERM) => {
            let owner = fs::symlink_metadata(folder)
                .map_or_else(|_| "nobody we know".into(), |it| name(Uid::from_raw(it.uid())));
            Err(GitFailure::permanent(format!(
                "`{shown}` belongs to `{owner}`, and `{}`, as whom this hook works, may not write to it: {}",
                name(geteuid()),
                advice()
            )))
        }
        Err(err) => Err(cannot(format!("look at `{shown}`"))(err)),
    }
}
