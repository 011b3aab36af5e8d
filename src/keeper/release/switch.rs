//! Lets `current` point elsewhere, in one step.
//!
//! Invariant: at every instant `current` is the whole old link or the whole new one, and when this says that it is
//! done, it was read back.

use std::path::Path;

use rustix::fs::RenameFlags;

use super::{ErrandFailure, HeldSite, cannot, look::is_absent, name_of, sync_folder, write_down};
use crate::{
    journal::{
        releases::History,
        site::{Site, Standing},
    },
    model::{release::Verdict, run::RunId},
};

/// Does the order.
pub(super) fn switch(site: &Site, run: RunId, link: &Path) -> Result<(), ErrandFailure> {
    let (current, draft) = (site.current(), format!(".current-r{run}"));
    let (held, draft) = (HeldSite::open(site)?, Path::new(&draft));
    let root = held.root();
    let what = || format!("let `{}` point to `{}`", current.display(), link.display());
    if !site.root().join(link).is_dir() {
        return Err(ErrandFailure::other(format!("cannot {}: there is no such folder", what())));
    }
    match root.remove_file(draft) {
        Err(err) if !is_absent(&err) => return Err(cannot(what())(err)),
        Ok(()) | Err(_) => (),
    }
    root.link(link.as_os_str(), draft).map_err(cannot(what()))?;
    fail::fail_point!("switch-linked");
    // rename(2) puts one link in the place of the other; a folder in its place would be refused (EISDIR).
    root.rename(draft, (root, name_of(&current)), RenameFlags::empty()).map_err(cannot(what()))?;
    fail::fail_point!("switch-renamed");
    sync_folder(root, site.root())?;
    let is_so = site.standing().is_ok_and(|it| it == Standing::Link(link.to_owned()));
    if !is_so || !current.is_dir() {
        return Err(ErrandFailure::other(format!("cannot {}: it was done, and reads otherwise", what())));
    }
    note_live(site, link)
}

/// Notes that a release is live that never was before.
fn note_live(site: &Site, link: &Path) -> Result<(), ErrandFailure> {
    let mut history = History::read(site)?;
    let name = site.name_in(link);
    // Read back, it is `live` by the link; here that is written down.
    if let Some(release) = history.releases.iter().find(|it| Some(&it.name) == name.as_ref())
        && release.verdict == Verdict::Live
    {
        write_down(&mut history)?;
    }
    fail::fail_point!("switch-recorded");
    Ok(())
}
