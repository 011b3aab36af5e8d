//! The folders of a site, each held by a descriptor, so that what becomes of their names leads nobody astray.
//!
//! Invariant: root enters none of them by a link, and none that anybody else may change. Nobody follows a link to
//! `.landfall`.

use std::{io, path::Path};

use nix::unistd::geteuid;
use rustix::io::Errno;

use super::{ErrandFailure, cannot, make_folder};
use crate::{
    journal::site::Site,
    process::{beneath::Folder, way},
};

/// A folder of releases, and the way to what is in it.
pub(super) struct HeldSite<'s> {
    site: &'s Site,
    root: Folder,
}

impl<'s> HeldSite<'s> {
    /// The site, which must be there.
    pub(super) fn open(site: &'s Site) -> Result<Self, ErrandFailure> {
        let root = Folder::open(site.root()).map_err(cannot(format!("open `{}`", site.root().display())))?;
        judge(site.root(), &root)?;
        Ok(Self { site, root })
    }

    /// The site with all its folders, made as far as they are missing.
    pub(super) fn make(site: &'s Site) -> Result<Self, ErrandFailure> {
        make_folder(site.root())?;
        let held = Self::open(site)?;
        for path in [site.releases(), site.shared(), site.own()] {
            let name = path.file_name().unwrap_or_default();
            // Entering says best why it cannot be made.
            let _ = held.root.make(name, 0o777);
            held.enter(&path)?;
        }
        Ok(held)
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Folder {
        &self.root
    }

    /// The folder of complete trees.
    pub(super) fn releases(&self) -> Result<Folder, ErrandFailure> {
        self.enter(&self.site.releases())
    }

    /// The folder of what all releases share.
    pub(super) fn shared(&self) -> Result<Folder, ErrandFailure> {
        self.enter(&self.site.shared())
    }

    /// Landfall's own folder.
    pub(super) fn own(&self) -> Result<Folder, ErrandFailure> {
        self.enter(&self.site.own())
    }

    /// Enters a folder that is directly in this one. Other users than root may have put it on another disk by a link.
    fn enter(&self, path: &Path) -> Result<Folder, ErrandFailure> {
        let follows = !geteuid().is_root() && path != self.site.own();
        let name = Path::new(path.file_name().unwrap_or_default());
        let entered = if follows { Folder::open(path) } else { self.root.folder(name) };
        let folder = entered.map_err(|err| no_folder(path, err))?;
        judge(path, &folder)?;
        Ok(folder)
    }
}

/// Looks whether root may work in the folders of a site, as far as they are there. Others may if they can.
pub(super) fn look(site: &Site) -> Result<(), ErrandFailure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let held = HeldSite::open(site)?;
    for path in [site.releases(), site.shared(), site.own()] {
        if path.symlink_metadata().is_ok() {
            held.enter(&path)?;
        }
    }
    Ok(())
}

/// Root works only in folders that root alone may change.
fn judge(path: &Path, folder: &Folder) -> Result<(), ErrandFailure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let stat = folder.stat().map_err(cannot(format!("look at `{}`", path.display())))?;
    way::roots_alone(path, (stat.st_uid, stat.st_gid, stat.st_mode)).map_err(ErrandFailure::permanent)
}

/// Why a folder cannot be entered, or made.
pub(super) fn no_folder(path: &Path, err: io::Error) -> ErrandFailure {
    let shown = path.display();
    match Errno::from_io_error(&err) {
        Some(Errno::LOOP | Errno::NOTDIR) if path.is_symlink() => ErrandFailure::permanent(format!(
            "`{shown}` is a link, which could lead anywhere, and is not followed; mount that folder there instead"
        )),
        Some(Errno::NOTDIR) => ErrandFailure::permanent(format!("`{shown}` is not a folder")),
        _ => cannot(format!("open `{shown}`"))(err),
    }
}
