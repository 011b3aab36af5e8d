//! Makes a release of a folder that stands where the link to the live one belongs.
//!
//! Invariant: what was served through `current` is served through it at every instant, where the file system can
//! exchange two names; where it cannot, people are told.

use std::{fs, os::unix::fs::symlink};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{ErrandFailure, cannot, prepare, say, seal::size_of, sync_folder, write_down};
use crate::{
    journal::{
        releases::{History, Release},
        site::{Site, Standing},
    },
    model::push::CommitId,
};

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
    prepare(site)?;
    let said = fs::read_to_string(current.join("REVISION")).unwrap_or_default();
    let size_bytes = size_of(&current);
    let release = Release { commit: CommitId::parse(said.trim()), size_bytes, ..release.clone() };
    let mut history = History::read(site)?;
    history.add(release.clone());
    write_down(&mut history)?;
    // The link is made where the tree will be: it leads to the tree once the two have changed places.
    let link = Site::link_to(&release.name);
    symlink(&link, &tree).map_err(cannot(what()))?;
    fail::fail_point!("adopt-linked");
    match renameat_with(CWD, &current, CWD, &tree, RenameFlags::EXCHANGE) {
        Ok(()) => (),
        Err(Errno::INVAL | Errno::NOSYS) => {
            say("this file system cannot exchange two names in one step: `current` is missing for a moment");
            let moved = fs::remove_file(&tree).and_then(|()| fs::rename(&current, &tree));
            moved.and_then(|()| symlink(&link, &current)).map_err(cannot(what()))?;
        }
        Err(err) => {
            let _ = fs::remove_file(&tree);
            return Err(cannot(what())(err));
        }
    }
    fail::fail_point!("adopt-exchanged");
    sync_folder(site.root())?;
    sync_folder(&site.releases())?;
    say(&format!("`{}` is now a link to {}", current.display(), link.display()));
    Ok(release)
}
