//! Repositories within a working tree: each is a working tree of its own, at the commit that the outer one names.
//!
//! Invariant: the outer working tree is at its commit before any of them is touched, so an update that breaks off is
//! completed by the next one, whatever it was doing.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use git2::Commit;

use super::{InPlace, adopt::Home, bring, refuse};
use crate::{
    git::{
        GitFailure, cannot,
        listing::{Listing, tree_of},
        mirror::Mirror,
        progress::{plain, say},
        submodules::{self, Within},
        tree::as_path,
    },
    model::deploy::Submodules,
};

/// Brings all of them, if the hook wants that. Answers whether edits were saved.
pub(super) fn bring_all(
    mirror: &Mirror,
    home: &Home,
    commit: &Commit<'_>,
    place: &InPlace<'_>,
) -> Result<bool, GitFailure> {
    let mut has_saved = false;
    visit(mirror, home, commit, place, |path, inner, commit, within| {
        make_folder(&home.path, path)?;
        say(&format!("submodule `{}`", plain(path)));
        has_saved |= bring(inner, commit, within)?.patch_saved;
        Ok(())
    })?;
    Ok(has_saved)
}

/// Fails where one has edits that would be overwritten.
pub(super) fn refuse_all(
    mirror: &Mirror,
    home: &Home,
    commit: &Commit<'_>,
    place: &InPlace<'_>,
) -> Result<(), GitFailure> {
    visit(mirror, home, commit, place, |_, inner, commit, within| {
        match within.path.join(".git").symlink_metadata() {
            Ok(_) => refuse(inner, commit, within),
            // There is nothing yet.
            Err(_) => Ok(()),
        }
    })
}

fn visit(
    mirror: &Mirror,
    home: &Home,
    commit: &Commit<'_>,
    place: &InPlace<'_>,
    mut each: impl FnMut(&[u8], &Mirror, &Commit<'_>, &InPlace<'_>) -> Result<(), GitFailure>,
) -> Result<(), GitFailure> {
    match place.scope.submodules {
        Submodules::Off => return Ok(()),
        Submodules::On | Submodules::Recursive => (),
    }
    let tree = tree_of(mirror, commit.id())?;
    let links = Listing::of(mirror, &tree, None)?.submodules().collect();
    let scope = submodules::scope_within(place.scope);
    for Within { path, commit, remote } in submodules::resolve(mirror, &tree, links, place.remote)? {
        let inner = Mirror::for_reading(&submodules::mirror_beside(mirror.folder.path(), &remote))?;
        let patch = patch_within(place.patch, &path)?;
        let within = InPlace {
            path: &home.path.join(as_path(&path)),
            outer: Some(place.outer.unwrap_or(&home.path)),
            remote: &remote,
            ref_name: None,
            patch: &patch,
            scope: &scope,
            ..*place
        };
        let commit =
            inner.repo.find_commit(commit).map_err(cannot(format!("find commit {commit:.7} in the mirror")))?;
        each(&path, &inner, &commit, &within).map_err(|failure| submodules::failed(&path, failure))?;
    }
    Ok(())
}

/// Makes the folder of one, unless a link or a file is in its place or above it.
fn make_folder(home: &Path, path: &[u8]) -> Result<(), GitFailure> {
    for relative in as_path(path).ancestors().filter(|it| !it.as_os_str().is_empty()) {
        let folder = home.join(relative);
        if folder.symlink_metadata().is_ok_and(|it| !it.is_dir()) {
            return Err(GitFailure::permanent(format!("`{}` is not a folder", folder.display())));
        }
    }
    let folder = home.join(as_path(path));
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&folder);
    made.map_err(cannot(format!("make `{}`", folder.display())))
}

/// Where the edits of one are saved: among the files that are saved of the outer one.
fn patch_within(patch: &Path, path: &[u8]) -> Result<PathBuf, GitFailure> {
    let mut files = OsString::from(patch);
    files.push(".files");
    let mut within = PathBuf::from(files).join(as_path(path)).into_os_string();
    within.push(".patch");
    let within = PathBuf::from(within);
    if let Some(parent) = within.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(cannot(format!("make `{}`", parent.display())))?;
    }
    Ok(within)
}
