//! Makes a release of a folder that stands where the link to the live one belongs.
//!
//! Invariant: what was served through `current` is served through it at every instant, where the file system can
//! exchange two names; where it cannot, people are told.

use std::{
    io::{self, Read},
    path::Path,
};

use rustix::{fs::RenameFlags, io::Errno};

use super::{ErrandFailure, HeldSite, cannot, name_of, say, seal::size_of, sync_folder, write_down};
use crate::{
    journal::{
        releases::{History, Release},
        site::{Site, Standing},
    },
    model::push::CommitId,
    process::beneath::Folder,
};

/// What is read of a REVISION at most: it is one line.
const REVISION_BYTES_MAX: u64 = 1024;

/// Does the order.
pub(super) fn adopt(site: &Site, release: &Release) -> Result<Release, ErrandFailure> {
    let (current, tree) = (site.current(), site.release(&release.name));
    let what = || format!("make `{}` a release", current.display());
    match site.standing().map_err(cannot(what()))? {
        Standing::Folder => (),
        Standing::Other => {
            return Err(ErrandFailure::permanent(format!("cannot {}: it is not a folder; move it away", what())));
        }
        Standing::Nothing => {
            return Err(ErrandFailure::permanent(format!(
                "cannot {}: there is nothing; the first deploy makes one",
                what()
            )));
        }
        Standing::Link(link) => {
            return Err(ErrandFailure::permanent(format!(
                "cannot {}: it is a link to `{}` already, and nothing needs to be done",
                what(),
                link.display()
            )));
        }
    }
    let held = HeldSite::make(site)?;
    let (root, releases) = (held.root(), held.releases()?);
    let said = revision(root, name_of(&current)).unwrap_or_default();
    let size_bytes = size_of(&current);
    let release = Release { commit: CommitId::parse(said.trim()), size_bytes, ..release.clone() };
    let mut history = History::read(site)?;
    history.add(release.clone());
    write_down(&mut history)?;
    // The link is made where the tree will be: it leads to the tree once the two have changed places.
    let link = Site::link_to(&release.name);
    releases.link(link.as_os_str(), name_of(&tree)).map_err(cannot(what()))?;
    fail::fail_point!("adopt-linked");
    let move_to_tree = |how| root.rename(name_of(&current), (&releases, name_of(&tree)), how);
    match move_to_tree(RenameFlags::EXCHANGE) {
        Ok(()) => (),
        Err(err) if matches!(Errno::from_io_error(&err), Some(Errno::INVAL | Errno::NOSYS)) => {
            say("this file system cannot exchange two names in one step: `current` is missing for a moment");
            let moved = releases.remove_file(name_of(&tree)).and_then(|()| move_to_tree(RenameFlags::empty()));
            moved.and_then(|()| root.link(link.as_os_str(), name_of(&current))).map_err(cannot(what()))?;
        }
        Err(err) => {
            let _ = releases.remove_file(name_of(&tree));
            return Err(cannot(what())(err));
        }
    }
    fail::fail_point!("adopt-exchanged");
    sync_folder(root, site.root())?;
    sync_folder(&releases, &site.releases())?;
    say(&format!("`{}` is now a link to {}", current.display(), link.display()));
    Ok(release)
}

/// What the folder says of its commit. It may be another user's, and whatever that one has put there.
fn revision(root: &Folder, folder: &Path) -> io::Result<String> {
    let mut text = String::new();
    root.read(&folder.join("REVISION"))?.take(REVISION_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
