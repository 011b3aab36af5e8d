//! What all releases share: it lives in `shared/`, and every tree has a link to it.
//!
//! * What `shared/` does not have yet begins as a copy of `seed`, or as an empty folder.
//! * What the commit has at the same path gives way to the link; it is still in the repository.
//! * A `required` path that nobody has put there is an error before anything changes.
//!
//! Invariant: no link of the commit's or of `shared/` leads a path of ours out of the tree or out of `shared/`, and root
//! makes nothing there in a folder that anybody else may change. All is made by descriptors.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use nix::unistd::geteuid;
use rustix::fs::{FileType, RenameFlags};

use super::{ErrandFailure, cannot, held::no_folder, look::is_absent, say};
use crate::{
    journal::site::Site,
    model::deploy::SharedPath,
    process::{beneath::Folder, clear::remove_all, way},
};

/// What a copy is called in `shared/` until it is complete.
const DRAFT: &str = ".landfall-seed";

/// Looks whether what is required is there, and whether what is there stays inside.
pub(super) fn look(site: &Site, shared: &[SharedPath]) -> Result<(), ErrandFailure> {
    leads_back(site, shared)?;
    let mut missing = Vec::new();
    for item in shared {
        let place = site.shared().join(&item.path);
        way_below(&site.shared(), &item.path)?;
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

/// A tree, and what it is linked to: each held, with its path.
pub(super) struct Linking<'a> {
    /// The tree in the making.
    pub tree: (&'a Folder, &'a Path),
    /// What all releases share.
    pub shared: (&'a Folder, &'a Path),
}

impl Linking<'_> {
    /// Links one path of the tree to what is shared.
    pub(super) fn link(&self, item: &SharedPath) -> Result<(), ErrandFailure> {
        let (tree, ours) = (self.tree.0, self.tree.1.join(&item.path));
        let place = way_below(self.shared.1, &item.path)?;
        if !is_there(self.shared, &place)? {
            self.begin(item, &place)?;
        }
        make_parents(self.tree, &item.path)?;
        if is_there(self.tree, &item.path)? {
            let (above, name) =
                tree.above(&item.path).map_err(cannot(format!("open the folder of `{}`", ours.display())))?;
            let removed = remove_all(&above, name.as_os_str());
            removed.map_err(cannot(format!("remove `{}`", ours.display())))?;
            say(&format!("`{}` of the commit gives way to the shared one", item.path.display()));
        }
        // Out of the folders within the tree, out of the tree, out of `releases/`.
        let up = "../".repeat(item.path.components().count() + 1);
        let text = Path::new(&up).join("shared").join(&item.path);
        tree.link(text.as_os_str(), &item.path).map_err(cannot(format!("link `{}`", ours.display())))
    }

    /// Makes what `shared/` does not have yet, at this path without links.
    fn begin(&self, item: &SharedPath, place: &Path) -> Result<(), ErrandFailure> {
        let (shared, shown) = (self.shared.0, self.shared.1.join(&item.path));
        make_parents(self.shared, place)?;
        match &item.seed {
            None => {
                if self.tree.0.stat_of(&item.path).is_ok_and(|it| kind(it.st_mode) != FileType::Directory) {
                    let path = item.path.display();
                    return Err(ErrandFailure::permanent(format!(
                        "`{path}` is a file of the commit, and `{}` is not there; say what it begins as: {{path: \
                         {path}, seed: {path}}}",
                        shown.display()
                    )));
                }
                let (above, name) = shared.above(place).map_err(|err| no_folder(&shown, err))?;
                let folder = above.make(name.as_os_str(), 0o777);
                let folder = folder.map_err(cannot(format!("make `{}`", shown.display())))?;
                let set = item.mode.map_or(Ok(()), |it| folder.set_mode(it));
                set.map_err(cannot(format!("set the mode of `{}`", shown.display())))
            }
            Some(seed) => self.copy_seed(seed, item.mode, (place, &shown)),
        }
    }

    /// Copies a seed. The copy comes to its name when it is complete.
    fn copy_seed(&self, seed: &Path, mode: Option<u32>, (place, shown): (&Path, &Path)) -> Result<(), ErrandFailure> {
        let (shared, draft) = (self.shared.0, Path::new(DRAFT));
        let what = || format!("copy `{}` to `{}`", seed.display(), shown.display());
        let from = below(self.tree.1, seed)?.0;
        if !is_there(self.tree, &from)? {
            return Err(ErrandFailure::permanent(format!("cannot {}: the commit has no such path", what())));
        }
        let clear = || remove_all(shared, draft.as_os_str());
        let copied = clear().and_then(|()| copy((self.tree.0, &from), (shared, draft), 0));
        let set = copied.and_then(|()| mode.map_or(Ok(()), |it| shared.set_mode_of(draft, it)));
        let named = set.and_then(|()| shared.rename(draft, (shared, place), RenameFlags::empty()));
        named.map_err(|err| {
            // On a disk that is full, half a copy is in everybody's way.
            let _ = clear();
            cannot(what())(err)
        })?;
        say(&format!("`{}` begins as a copy of `{}`", shown.display(), seed.display()));
        Ok(())
    }
}

/// The way to a path in `shared/`, without links. Root makes things there, and what is there already may be removed
/// meanwhile: so no folder on the way may be one that somebody else may change.
fn way_below(shared: &Path, path: &Path) -> Result<PathBuf, ErrandFailure> {
    let (place, refusal) = below(shared, path)?;
    match refusal {
        Some(why) if geteuid().is_root() => Err(ErrandFailure::permanent(why)),
        Some(_) | None => Ok(place),
    }
}

/// A path below a folder, without links but perhaps the last name, and why root makes nothing there, if so.
fn below(folder: &Path, path: &Path) -> Result<(PathBuf, Option<String>), ErrandFailure> {
    stays_inside(folder, path)?;
    // What is not there yet has no links.
    let Ok(home) = folder.canonicalize() else { return Ok((path.to_owned(), None)) };
    let parent = folder.join(path.parent().unwrap_or(Path::new("")));
    let way = way::look(&parent).map_err(cannot(format!("look at `{}`", parent.display())))?;
    let standing = way.standing.strip_prefix(&home).map_err(|_| leads_out(&parent, folder))?;
    let place = standing.join(&way.missing).join(path.file_name().unwrap_or_default());
    Ok((place, way.judge_below(&home).err()))
}

/// Refuses a path of which a part is a link that leads out of the folder.
fn stays_inside(folder: &Path, path: &Path) -> Result<(), ErrandFailure> {
    let Ok(home) = folder.canonicalize() else { return Ok(()) };
    let mut walked = folder.to_owned();
    for part in path.components() {
        walked.push(part);
        let is_link = fs::symlink_metadata(&walked).is_ok_and(|it| it.is_symlink());
        if is_link && !walked.canonicalize().is_ok_and(|it| it.starts_with(&home)) {
            return Err(leads_out(&walked, folder));
        }
    }
    Ok(())
}

fn leads_out(link: &Path, folder: &Path) -> ErrandFailure {
    ErrandFailure::permanent(format!(
        "`{}` is a link that leads out of `{}`; put the files there, or mount them there",
        link.display(),
        folder.display()
    ))
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

fn make_parents((folder, at): (&Folder, &Path), path: &Path) -> Result<(), ErrandFailure> {
    let parent = path.parent().unwrap_or(Path::new(""));
    folder.make_all(parent, 0o777).map_err(|err| no_folder(&at.join(parent), err))
}

fn is_there((folder, at): (&Folder, &Path), path: &Path) -> Result<bool, ErrandFailure> {
    match folder.stat_of(path) {
        Ok(_) => Ok(true),
        Err(err) if is_absent(&err) => Ok(false),
        Err(err) => Err(cannot(format!("look at `{}`", at.join(path).display()))(err)),
    }
}

fn exists(path: &Path) -> Result<bool, ErrandFailure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(err) if is_absent(&err) => Ok(false),
        Err(err) => Err(cannot(format!("look at `{}`", path.display()))(err)),
    }
}

fn kind(mode: u32) -> FileType {
    FileType::from_raw_mode(mode)
}

/// Copies files, folders and such links as stay below what is copied; `depth` is how far below that this is.
fn copy((from, path): (&Folder, &Path), (to, name): (&Folder, &Path), depth: usize) -> io::Result<()> {
    let mode = from.stat_of(path)?.st_mode;
    match kind(mode) {
        FileType::Symlink => {
            let text = from.read_link(path)?;
            if climbs_out(&text, depth) {
                return Err(io::Error::other(format!("`{}` is a link that leads out of it", path.display())));
            }
            to.link(text.as_os_str(), name)
        }
        FileType::Directory => {
            let (inner, copied) = (from.folder(path)?, to.make(name.as_os_str(), 0o777)?);
            for entry in inner.entries()? {
                let entry = Path::new(&entry);
                copy((&inner, entry), (&copied, entry), depth + 1)?;
            }
            copied.set_mode(mode & 0o7777)
        }
        _ => copy_file(from.read(path)?, to.create(name, 0o600)?),
    }
}

fn copy_file(mut from: File, mut to: File) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    let mode = from.metadata()?.permissions().mode();
    to.set_permissions(Permissions::from_mode(mode))
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
