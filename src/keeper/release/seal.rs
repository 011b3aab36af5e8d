//! Gives a staged tree its final name.
//!
//! Invariant: a tree under its final name is complete, on the disk, and on record.

use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};

use super::{Trouble, cannot, sync_folder, write_down};
use crate::journal::{
    releases::{History, Release},
    site::Site,
};

/// Does the order.
pub(super) fn seal(site: &Site, release: &Release) -> Result<(), Trouble> {
    let (staging, tree) = (site.staging(release.run), site.release(&release.name));
    let what = || format!("complete `{}`", tree.display());
    let size_bytes = size_of(&staging).map_err(cannot(what()))?;
    // A power failure after the switch must not leave a live tree of empty files.
    let folder = File::open(&staging).map_err(cannot(what()))?;
    syncfs(&folder).map_err(cannot(what()))?;
    fail::fail_point!("seal-synced");
    let mut history = History::read(site)?;
    history.add(Release { size_bytes, ..release.clone() });
    write_down(&mut history)?;
    fail::fail_point!("seal-recorded");
    renameat_with(CWD, &staging, CWD, &tree, RenameFlags::NOREPLACE).map_err(cannot(what()))?;
    fail::fail_point!("seal-renamed");
    sync_folder(&site.releases())
}

/// Bytes in the files below a folder. A file of several names counts each time.
pub(super) fn size_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.size() };
    }
    Ok(bytes)
}
