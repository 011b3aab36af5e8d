//! Removes files that git does not know from a working tree.
//!
//! Invariant: an ignored file is never touched, nor is another repository that lies in the working tree.

use git2::{Repository, Status, StatusOptions, StatusShow};

use super::{
    adopt::Home,
    folders::{self, remove_empty_parents},
    writable,
};
use crate::git::{
    GitFailure, cannot,
    entries::as_path,
    progress::{plain, say},
};

/// Removes them, but for what is another user's, if that is spared.
pub(super) fn remove_untracked(home: &Home, spares_others: bool) -> Result<(), GitFailure> {
    let what = || format!("remove untracked files from `{}`", home.path.display());
    // Opened anew, so that index and attributes are those that have just been written.
    let repo = Repository::open(&home.path).map_err(cannot(what()))?;
    let mut options = StatusOptions::new();
    options.show(StatusShow::Workdir).include_untracked(true).recurse_untracked_dirs(true).include_ignored(false);
    let statuses = repo.statuses(Some(&mut options)).map_err(cannot(what()))?;
    let root = folders::open(&home.top, &home.path).map_err(cannot(what()))?;
    let mut count = 0;
    for entry in statuses.iter().filter(|it| it.status().contains(Status::WT_NEW)) {
        let path = entry.path_bytes();
        // libgit2 goes into every folder but that of another repository.
        if path.ends_with(b"/") {
            continue;
        }
        if spares_others && let Some((other, _)) = writable::of_another(&home.path, path) {
            say(&format!("untracked `{}` stays: `{}` belongs to another user", plain(path), other.display()));
            continue;
        }
        root.remove_file(as_path(path)).map_err(cannot(what()))?;
        remove_empty_parents(&root, path);
        count += 1;
    }
    if count > 0 {
        say(&format!("removed {count} untracked files"));
    }
    Ok(())
}
