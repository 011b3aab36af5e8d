//! What all releases share: it lives in `shared/`, and every tree has a link to it.
//!
//! * What `shared/` does not have yet begins as a copy of `seed`, or as an empty folder.
//! * What the commit has at the same path gives way to the link; it is still in the repository.
//! * A `required` path that nobody has put there is an error before anything changes.
//!
//! Invariant: no link of the commit's or of `shared/` leads a path of ours out of the tree or out of `shared/`.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use super::{
    ErrandFailure, cannot,
    look::{is_absent, roots_alone},
    make_folder, say,
};
use crate::{journal::site::Site, model::deploy::SharedPath};

/// Looks whether what is required is there, and whether what is there stays inside.
pub(super) fn look(site: &Site, shared: &[SharedPath]) -> Result<(), ErrandFailure> {
    leads_back(site, shared)?;
    let mut missing = Vec::new();
    for item in shared {
        let place = site.shared().join(&item.path);
        stays_inside(&site.shared(), &item.path)?;
        if !exists(&place)? {
            // It will be made there.
            let folders = item.path.ancestors().skip(1).map(|it| site.shared().join(it));
            folders.filter(|it| it.exists()).try_for_each(|it| roots_alone(&it))?;
        }
        if item.required && item.seed.is_none() && !exists(&place)? {
            missing.push(format!("`{}`", place.display()));
        }
    }
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(ErrandFailure::permanent(format!("{one} is required and not there; put it there first"))),
        many => Err(ErrandFailure::permanent(format!(
            "{} are required and not there; put them there first",
            many.join(", ")
        ))),
    }
}

/// The links in the trees say `../../shared`, and the kernel goes up from where a folder really is.
fn leads_back(site: &Site, shared: &[SharedPath]) -> Result<(), ErrandFailure> {
    let (Ok(releases), Ok(root)) = (site.releases().canonicalize(), site.root().canonicalize()) else { return Ok(()) };
    if shared.is_empty() || releases.parent() == Some(root.as_path()) {
        return Ok(());
    }
    Err(ErrandFailure::permanent(format!(
        "`{}` leads to `{}`, from where releases would not find what they share; mount that folder there instead",
        site.releases().display(),
        releases.display()
    )))
}

/// Links one path of the tree to what is shared.
pub(super) fn link(site: &Site, tree: &Path, item: &SharedPath) -> Result<(), ErrandFailure> {
    let (ours, place) = (tree.join(&item.path), site.shared().join(&item.path));
    stays_inside(&site.shared(), &item.path)?;
    if !exists(&place)? {
        begin(site, tree, item)?;
    }
    make_parents(tree, &item.path)?;
    match fs::symlink_metadata(&ours) {
        Ok(metadata) => {
            let removed = if metadata.is_dir() { fs::remove_dir_all(&ours) } else { fs::remove_file(&ours) };
            removed.map_err(cannot(format!("remove `{}`", ours.display())))?;
            say(&format!("`{}` of the commit gives way to the shared one", item.path.display()));
        }
        Err(err) if is_absent(&err) => (),
        Err(err) => return Err(cannot(format!("look at `{}`", ours.display()))(err)),
    }
    // Out of the folders within the tree, out of the tree, out of `releases/`.
    let up = "../".repeat(item.path.components().count() + 1);
    let text = Path::new(&up).join("shared").join(&item.path);
    symlink(text, &ours).map_err(cannot(format!("link `{}`", ours.display())))
}

/// Makes what `shared/` does not have yet. A copy comes to its name when it is complete.
fn begin(site: &Site, tree: &Path, item: &SharedPath) -> Result<(), ErrandFailure> {
    let place = site.shared().join(&item.path);
    make_parents(&site.shared(), &item.path)?;
    match &item.seed {
        None => {
            if fs::symlink_metadata(tree.join(&item.path)).is_ok_and(|it| !it.is_dir()) {
                let path = item.path.display();
                return Err(ErrandFailure::permanent(format!(
                    "`{path}` is a file of the commit, and `{}` is not there; say what it begins as: {{path: {path}, \
                     seed: {path}}}",
                    place.display()
                )));
            }
            make_folder(&place)?;
        }
        Some(seed) => {
            stays_inside(tree, seed)?;
            let (from, draft) = (tree.join(seed), site.shared().join(".landfall-seed"));
            let what = || format!("copy `{}` to `{}`", seed.display(), place.display());
            if !exists(&from)? {
                return Err(ErrandFailure::permanent(format!("cannot {}: the commit has no such path", what())));
            }
            let copied = clear(&draft).and_then(|()| copy(&from, &draft, 0)).and_then(|()| fs::rename(&draft, &place));
            copied.map_err(|err| {
                // On a disk that is full, half a copy is in everybody's way.
                let _ = clear(&draft);
                cannot(what())(err)
            })?;
            say(&format!("`{}` begins as a copy of `{}`", place.display(), seed.display()));
        }
    }
    if let Some(mode) = item.mode {
        let set = fs::set_permissions(&place, fs::Permissions::from_mode(mode));
        set.map_err(cannot(format!("set the mode of `{}`", place.display())))?;
    }
    Ok(())
}

/// Refuses a path of which a part is a link that leads out of the folder.
fn stays_inside(folder: &Path, path: &Path) -> Result<(), ErrandFailure> {
    let Ok(home) = folder.canonicalize() else { return Ok(()) };
    let mut walked = folder.to_owned();
    for part in path.components() {
        walked.push(part);
        let is_link = fs::symlink_metadata(&walked).is_ok_and(|it| it.is_symlink());
        if is_link && !walked.canonicalize().is_ok_and(|it| it.starts_with(&home)) {
            return Err(ErrandFailure::permanent(format!(
                "`{}` is a link that leads out of `{}`; put the files there, or mount them there",
                walked.display(),
                folder.display()
            )));
        }
    }
    Ok(())
}

/// Refuses a path of which a folder is a link of the commit's, even where that stays inside: two shared paths might be
/// one then, and the way up to `shared/` is another. To be asked of all paths before the first is linked.
pub(super) fn fits(tree: &Path, item: &SharedPath) -> Result<(), ErrandFailure> {
    let path = &item.path;
    stays_inside(tree, path.parent().unwrap_or(Path::new("")))?;
    let folders = path.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
    let Some(link) = folders.filter(|it| tree.join(it).is_symlink()).last() else { return Ok(()) };
    let leads = fs::read_link(tree.join(link)).unwrap_or_default();
    Err(ErrandFailure::permanent(format!(
        "`{}` cannot be shared, as `{}` of the commit is a link to `{}`; share the path that it leads to",
        path.display(),
        link.display(),
        leads.display()
    )))
}

fn make_parents(base: &Path, path: &Path) -> Result<(), ErrandFailure> {
    let mut folder = base.to_owned();
    for part in path.parent().unwrap_or(Path::new("")).components() {
        folder.push(part);
        make_folder(&folder)?;
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, ErrandFailure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(err) if is_absent(&err) => Ok(false),
        Err(err) => Err(cannot(format!("look at `{}`", path.display()))(err)),
    }
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(err) if is_absent(&err) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Copies files, folders and such links as stay below what is copied; `depth` is how far below that this is.
fn copy(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        let text = fs::read_link(from)?;
        if climbs_out(&text, depth) {
            return Err(io::Error::other(format!("`{}` is a link that leads out of it", from.display())));
        }
        return symlink(text, to);
    }
    if !metadata.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name), depth + 1)?;
    }
    fs::set_permissions(to, metadata.permissions())
}

/// Whether a link so many folders below what is copied leads above it.
fn climbs_out(text: &Path, depth: usize) -> bool {
    let mut level = PathBuf::new();
    for _ in 1..depth {
        level.push("x");
    }
    for part in text.components() {
        match part {
            Component::Normal(name) => level.push(name),
            Component::CurDir => (),
            Component::ParentDir if level.pop() => (),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    // A link that is copied by itself has nothing to lead to.
    depth == 0
}
