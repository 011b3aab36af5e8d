//! Completes a staged tree: links to what is shared, and the commit in its REVISION.
//!
//! Invariant: done again it ends the same.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use super::{ErrandFailure, cannot, say, shared};
use crate::{
    journal::site::Site,
    model::{deploy::SharedPath, push::CommitId, run::RunId},
};

/// Does the order.
pub(super) fn furnish(site: &Site, run: RunId, commit: &CommitId, shared: &[SharedPath]) -> Result<(), ErrandFailure> {
    let tree = site.staging(run);
    for item in shared {
        shared::fits(&tree, item)?;
    }
    for item in shared {
        shared::link(site, &tree, item)?;
    }
    let revision = tree.join("REVISION");
    if fs::symlink_metadata(&revision).is_ok_and(|it| it.is_dir()) {
        say("the commit has a folder named REVISION: it stays, and what commit this is stands in releases.jsonl alone");
        return Ok(());
    }
    write_revision(&revision, commit).map_err(cannot("write REVISION"))
}

/// As Capistrano names it, so that what reads it there reads it here. One of the commit's own gives way.
fn write_revision(path: &Path, commit: &CommitId) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => (),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(format!("{commit}\n").as_bytes())
}
