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

use super::{InPlace, adopt::Home, bring};
use crate::{
    keeper::git::{
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
    match place.scope.submodules {
        Submodules::Off => return Ok(false),
        Submodules::On | Submodules::Recursive => (),
    }
    let tree = tree_of(mirror, commit.id())?;
    let links = Listing::of(mirror, &tree, None)?.submodules().collect();
    let scope = submodules::scope_within(place.scope);
    let mut has_saved = false;
    for Within { path, commit, remote } in submodules::resolve(mirror, &tree, links, place.remote)? {
        let inner = Mirror::for_reading(&submodules::mirror_beside(mirror.folder.path(), &remote))?;
        let folder = folder(&home.path, &path).map_err(|failure| submodules::failed(&path, failure))?;
        let patch = patch_within(place.patch, &path)?;
        let within = InPlace {
            path: &folder,
            outer: Some(place.outer.unwrap_or(&home.path)),
            remote: &remote,
            ref_name: None,
            patch: &patch,
            scope: &scope,
            ..*place
        };
        say(&format!("submodule `{}`", plain(&path)));
        let commit =
            inner.repo.find_commit(commit).map_err(cannot(format!("find commit {commit:.7} in the mirror")))?;
        let brought = bring(&inner, &commit, &within).map_err(|failure| submodules::failed(&path, failure))?;
        has_saved |= brought.patch_saved;
    }
    Ok(has_saved)
}

/// The folder of one, which no link leads out of the working tree.
fn folder(home: &Path, path: &[u8]) -> Result<PathBuf, GitFailure> {
    let folder = home.join(as_path(path));
    let what = || format!("open `{}`", folder.display());
    DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(cannot(what()))?;
    match folder.canonicalize().map_err(cannot(what()))? {
        real if real == folder => Ok(folder),
        real => Err(GitFailure::permanent(format!("`{}` leads to `{}`", folder.display(), real.display()))),
    }
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
