//! Gives a staged tree its final name.
//!
//! Invariant: a tree under its final name is complete, on the disk, and on record.

use std::{os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{RenameFlags, syncfs};

use super::{ErrandFailure, HeldSite, cannot, name_of, sync_folder, write_down};
use crate::journal::{
    releases::{History, Release},
    site::Site,
};

/// Does the order.
pub(super) fn seal(site: &Site, release: &Release) -> Result<(), ErrandFailure> {
    let (staging, tree) = (site.staging(release.run), site.release(&release.name));
    let what = || format!("complete `{}`", tree.display());
    let releases = HeldSite::open(site)?.releases()?;
    let size_bytes = size_of(&staging);
    // A power failure after the switch must not leave a live tree of empty files.
    let folder = releases.folder(name_of(&staging)).map_err(cannot(what()))?;
    syncfs(&folder).map_err(cannot(what()))?;
    fail::fail_point!("seal-synced");
    let mut history = History::read(site)?;
    history.add(Release { size_bytes, ..release.clone() });
    write_down(&mut history)?;
    fail::fail_point!("seal-recorded");
    let renamed = releases.rename(name_of(&staging), (&releases, name_of(&tree)), RenameFlags::NOREPLACE);
    renamed.map_err(cannot(what()))?;
    fail::fail_point!("seal-renamed");
    sync_folder(&releases, &site.releases())
}

/// Bytes in the files below a folder. A file of several names counts each time, and what cannot be looked at, which
/// steps may have made as another user, does not count: a figure for people fails no run.
pub(super) fn size_of(folder: &Path) -> u64 {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let sizes = entries.filter_map(|it| Some((it.metadata().ok()?, it.path())));
    sizes.map(|(it, path)| if it.is_dir() { size_of(&path) } else { it.size() }).sum()
}
