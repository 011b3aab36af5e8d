//! Completes a staged tree: links to what is shared, and the commit in its REVISION.
//!
//! Invariant: done again it ends the same.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{ErrandFailure, HeldSite, cannot, name_of, say, shared};
use crate::{
    journal::site::Site,
    model::{deploy::SharedPath, push::CommitId, run::RunId},
    process::beneath::Folder,
};

/// Does the order.
pub(super) fn furnish(site: &Site, run: RunId, commit: &CommitId, shared: &[SharedPath]) -> Result<(), ErrandFailure> {
    let tree = site.staging(run);
    for item in shared {
        shared::fits(&tree, item)?;
    }
    let held = HeldSite::open(site)?;
    let within = held.releases()?.folder(name_of(&tree)).map_err(cannot(format!("open `{}`", tree.display())))?;
    if !shared.is_empty() {
        let linking = shared::Linking { tree: (&within, &tree), shared: (&held.shared()?, &site.shared()) };
        shared.iter().try_for_each(|it| linking.link(it))?;
    }
    if within.folder(Path::new("REVISION")).is_ok() {
        say("the commit has a folder named REVISION: it stays, and what commit this is stands in releases.jsonl alone");
        return Ok(());
    }
    write_revision(&within, commit).map_err(cannot("write REVISION"))
}

/// As Capistrano names it, so that what reads it there reads it here. One of the commit's own gives way.
fn write_revision(tree: &Folder, commit: &CommitId) -> io::Result<()> {
    let path = Path::new("REVISION");
    match tree.remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => (),
    }
    let mut file = tree.create(path, 0o666)?;
    file.write_all(format!("{commit}\n").as_bytes())
}
