//! Does what the plan says to the files and the index of a working tree.
//!
//! Invariant: the index is replaced only when every file is in place.

use std::{fs, path::Path};

use git2::Oid;

use super::{
    adopt::Home,
    folders::{self, remove, remove_empty_folders},
    plan::{Kept, Plan},
    standing::{Standing, index_entry, kept_entry},
    temporary::Temporary,
};
use crate::git::{
    GitFailure, Scope, cannot,
    entries::{self as tree, Entry, Kind, as_path},
};

/// Brings files and index to the commit. `own` is our folder within `.git`.
pub(super) fn apply(
    home: &Home,
    own: &Path,
    standing: &mut Standing,
    plan: &Plan,
    mut temporary: Temporary,
    commit: Oid,
    scope: &Scope,
) -> Result<(), GitFailure> {
    for path in plan.gone.iter().chain(&plan.in_the_way) {
        remove((&home.top, &home.path), path)?;
    }
    let root = folders::open(&home.top, &home.path).map_err(cannot(format!("open `{}`", home.path.display())))?;
    for change in &plan.puts {
        let path = as_path(&change.path);
        let whole = home.path.join(as_path(&change.path));
        // The repository in a submodule's folder has empty folders that it needs.
        let is_submodule = change.now.is_some_and(|now| now.kind == Kind::Submodule);
        let is_folder = fs::symlink_metadata(&whole).is_ok_and(|it| it.is_dir());
        if is_submodule && !is_folder {
            root.make_all(path, 0o777).map_err(cannot(format!("make `{}`", whole.display())))?;
        } else if is_folder && !is_submodule {
            remove_empty_folders(&root, path);
        }
    }
    temporary.write_late(home, own, plan, scope)?;
    temporary.settle(own)?;
    let tree = home.repo.find_commit(commit).map(|it| it.tree_id()).map_err(cannot("read the commit's tree"))?;
    write_index(home, standing, plan, tree)
}

/// Leaves an index without entries.
pub(super) fn empty_index(home: &Home, standing: &mut Standing) -> Result<(), GitFailure> {
    let what = format!("write the index of `{}`", home.repo.path().display());
    standing.index.clear().and_then(|()| standing.index.write()).map_err(cannot(&*what))?;
    fs::rename(&standing.copy, home.repo.path().join("index")).map_err(cannot(what))
}

fn write_index(home: &Home, standing: &mut Standing, plan: &Plan, tree: Oid) -> Result<(), GitFailure> {
    let what = format!("write the index of `{}`", home.path.display());
    let index = &mut standing.index;
    for path in &plan.gone {
        // It may have been known to no index.
        let _ = index.remove(as_path(path), 0);
    }
    let puts = plan.puts.iter().filter_map(|it| it.now.map(|entry| (it.path.as_slice(), entry)));
    let all: Vec<(&[u8], Entry)> =
        plan.fits.iter().map(|(path, entry)| (path.as_slice(), *entry)).chain(puts).collect();
    for (path, entry) in all {
        let metadata = fs::symlink_metadata(home.path.join(as_path(path))).map_err(cannot(&*what))?;
        index.add(&index_entry(path, entry, &metadata)).map_err(cannot(&*what))?;
    }
    for Kept { path, now, flags } in &plan.kept {
        match now {
            Some(entry) => index.add(&kept_entry(path, *entry, *flags)).map_err(cannot(&*what))?,
            None => drop(index.remove(as_path(path), 0)),
        }
    }
    let written = index.write_tree_to(&home.repo).map_err(cannot(&*what))?;
    // Old histories write a file's mode in other ways, or keep empty folders: an index has neither, and git minds not.
    if written != tree && !tree::changes(&home.repo, Some(written), Some(tree))?.is_empty() {
        return Err(GitFailure::other(format!("cannot {what}: it would hold tree {written}, and not {tree}")));
    }
    index.write().map_err(cannot(&*what))?;
    fs::rename(&standing.copy, home.repo.path().join("index")).map_err(cannot(what))
}
