//! Does what the plan says to the files, the index and the refs of a working tree.
//!
//! Invariant: each file comes into place whole, by a rename; the index is replaced only when every file is in place, and
//! the refs only when the index is.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::Path,
};

use git2::{Commit, Oid, Repository};

use super::{
    adopt::Home,
    plan::Plan,
    standing::{Standing, index_entry},
    under_way::UnderWay,
};
use crate::{
    git::{
        GitFailure, cannot,
        mirror::Mirror,
        put,
        tree::{self, Change, Entry, Kind, as_path},
        write,
    },
    model::{deploy::Lfs, push::RefName},
};

/// Brings files and index to the commit.
pub(super) fn apply(
    (mirror, lfs): (&Mirror, Lfs),
    home: &Home,
    under_way: &UnderWay,
    mut standing: Standing,
    plan: &Plan,
    commit: &Commit<'_>,
) -> Result<(), GitFailure> {
    let tree = commit.tree().map_err(cannot("read the commit's tree"))?;
    let puts = put::prepare(mirror, &plan.attributes, b"", &plan.puts, lfs)?;
    // Within `.git`, so on the same file system, and out of people's way.
    let staged = under_way.folder.join("tree");
    DirBuilder::new().mode(0o755).create(&staged).map_err(cannot(format!("make `{}`", staged.display())))?;
    write::write(mirror, &puts, &BTreeSet::new(), &staged)?;
    for path in plan.gone.iter().chain(&plan.in_the_way) {
        remove(&home.path, path)?;
    }
    // The repository in a submodule's folder has empty folders that it needs.
    let is_submodule = |it: &Change| it.now.is_some_and(|now| now.kind == Kind::Submodule);
    for change in plan.puts.iter().filter(|it| !is_submodule(it)) {
        let whole = home.path.join(as_path(&change.path));
        if fs::symlink_metadata(&whole).is_ok_and(|it| it.is_dir()) {
            remove_empty_folders(&whole);
        }
    }
    settle(&staged, &home.path)?;
    fs::remove_dir(&staged).map_err(cannot(format!("remove `{}`", staged.display())))?;
    write_index(home, &mut standing, plan, tree.id())
}

/// Removes a file, and the folders that it leaves empty.
fn remove(folder: &Path, path: &[u8]) -> Result<(), GitFailure> {
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

/// Removes the folders above a path, from the lowest, as long as they are empty.
pub(super) fn remove_empty_parents(folder: &Path, path: &[u8]) {
    for parent in as_path(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()) {
        if fs::remove_dir(folder.join(parent)).is_err() {
            return;
        }
    }
}

/// Removes a folder that holds nothing but folders; `settle` fails on any other.
fn remove_empty_folders(folder: &Path) {
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
            remove_empty_folders(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Moves everything below `from` to where it belongs. What is not there yet moves in one piece.
fn settle(from: &Path, to: &Path) -> Result<(), GitFailure> {
    let what = |path: &Path| format!("write `{}`", path.display());
    for entry in fs::read_dir(from).map_err(cannot(what(to)))? {
        let entry = entry.map_err(cannot(what(to)))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let is_folder = entry.file_type().map_err(cannot(what(&target)))?.is_dir();
        let is_there = fs::symlink_metadata(&target).is_ok_and(|it| it.is_dir());
        if is_folder && is_there {
            settle(&source, &target)?;
            fs::remove_dir(&source).map_err(cannot(what(&target)))?;
        } else {
            move_one(&source, &target).map_err(cannot(what(&target)))?;
        }
    }
    Ok(())
}

fn move_one(source: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(source, target) {
        Err(err) if err.kind() == io::ErrorKind::CrossesDevices => {
            // Something is mounted within the working tree. The copy has another name until it is whole.
            let metadata = fs::symlink_metadata(source)?;
            let name = target.file_name().unwrap_or_default().to_string_lossy();
            let new = target.with_file_name(format!(".landfall-{name}"));
            let _ = fs::remove_file(&new);
            if metadata.is_symlink() {
                symlink(fs::read_link(source)?, &new)?;
            } else {
                fs::copy(source, &new)?;
                File::open(&new)?.set_permissions(metadata.permissions())?;
            }
            fs::rename(&new, target)?;
            fs::remove_file(source)
        }
        moved => moved,
    }
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
    let written = index.write_tree_to(&home.repo).map_err(cannot(&*what))?;
    // Old histories write a file's mode in other ways, or keep empty folders: an index has neither, and git minds not.
    if written != tree && !tree::changes(&home.repo, Some(written), Some(tree))?.is_empty() {
        return Err(GitFailure::other(format!("cannot {what}: it would hold tree {written}, and not {tree}")));
    }
    index.write().map_err(cannot(&*what))?;
    fs::rename(&standing.copy, home.repo.path().join("index")).map_err(cannot(what))
}

/// Moves the branch and HEAD to the commit, and ends a merge or a rebase that a person left.
pub(super) fn move_refs(home: &Home, commit: Oid, ref_name: Option<&RefName>) -> Result<(), GitFailure> {
    let repo = &home.repo;
    let what = || cannot::<git2::Error>(format!("move the refs of `{}`", home.path.display()));
    match ref_name {
        Some(full @ RefName::Branch(name)) => {
            if let Some(origin) = &home.origin {
                let tracking = format!("refs/remotes/{origin}/{name}");
                repo.reference(&tracking, commit, true, "landfall: fetch").map_err(what())?;
                follow(home, origin, name).map_err(what())?;
            }
            if repo.refname_to_id(&full.full()).ok() != Some(commit) {
                repo.reference(&full.full(), commit, true, "landfall: deploy").map_err(what())?;
            }
            if branch_of_head(repo) != Some(full.full()) {
                repo.set_head(&full.full()).map_err(what())?;
            }
        }
        Some(RefName::Tag(_)) => repo.set_head_detached(commit).map_err(what())?,
        // A commit that was asked for by itself moves the branch that the tree is on.
        None => match branch_of_head(repo) {
            Some(branch) => drop(repo.reference(&branch, commit, true, "landfall: deploy").map_err(what())?),
            None => repo.set_head_detached(commit).map_err(what())?,
        },
    }
    repo.cleanup_state().map_err(what())
}

/// The full name of the branch that HEAD is on; `None`: it is detached.
fn branch_of_head(repo: &Repository) -> Option<String> {
    repo.find_reference("HEAD").ok()?.symbolic_target().ok()?.map(str::to_owned)
}

/// Makes `git pull` work for a person, unless they have set the branch up themselves.
fn follow(home: &Home, origin: &str, branch: &str) -> Result<(), git2::Error> {
    let mut config = home.repo.config()?;
    let key = format!("branch.{branch}.remote");
    if config.get_string(&key).is_ok() {
        return Ok(());
    }
    config.set_str(&key, origin)?;
    config.set_str(&format!("branch.{branch}.merge"), &format!("refs/heads/{branch}"))
}
