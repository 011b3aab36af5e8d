//! Puts away what is not kept: old releases, broken trees, what runs that died have left.
//!
//! Kept are so many good ones, so many broken ones, what is live, the one to go back to from there, and what is spared. A
//! folder that is on no record is not ours to remove.
//!
//! Invariant: a tree loses its name before it loses a file, so a half-removed one is never taken for a whole one. Nothing
//! is named, renamed or removed but by descriptors, and no link is followed.

use std::{
    cmp::Reverse,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use rustix::fs::{FileType, RenameFlags};

use super::{HeldSite, cannot, held::no_folder, name_of, say, write_down};
use crate::{
    journal::{
        releases::{History, Release},
        site::Site,
    },
    model::{
        release::{ReleaseName, Verdict},
        run::RunId,
    },
    process::{beneath::Folder, clear::remove_all},
};

/// The folders of a site that trees go to and fro.
struct SiteFolders<'s> {
    site: &'s Site,
    held: HeldSite<'s>,
    releases: Folder,
    own: Folder,
}

/// Does the order; returns sentences about what could not be done.
pub(super) fn tidy(site: &Site, run: RunId, (good, failed): (usize, usize), spared: &[ReleaseName]) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut note = |result: Result<(), super::ErrandFailure>| {
        if let Err(trouble) = result {
            troubles.push(trouble.reason);
        }
    };
    let folders = match SiteFolders::open(site) {
        Ok(folders) => folders,
        Err(trouble) => return vec![trouble.reason],
    };
    note(folders.set_broken_aside());
    match History::read(site) {
        Ok(mut history) => {
            note(folders.remove_idle_links(&history));
            for tree in folders.too_many(&history, run, (good, failed), spared) {
                note(folders.put_away(&tree));
            }
            note(write_down(&mut history));
        }
        Err(err) => note(Err(err.into())),
    }
    note(folders.empty_trash());
    troubles
}

/// A tree of that run, which never came to its final name.
pub(super) fn set_aside(
    site: &Site,
    (releases, own): (&Folder, &Folder),
    tree: &Path,
    run: RunId,
) -> Result<(), super::ErrandFailure> {
    let place = site.failed().join(format!("r{run}"));
    let failed = enter(own, &site.failed())?;
    let cleared = remove_all(&failed, name_of(&place).as_os_str());
    let moved = cleared.and_then(|()| releases.rename(name_of(tree), (&failed, name_of(&place)), RenameFlags::empty()));
    moved.map_err(cannot(format!("set `{}` aside", tree.display())))?;
    say(&format!("the broken tree is kept in {}", place.display()));
    Ok(())
}

impl<'s> SiteFolders<'s> {
    fn open(site: &'s Site) -> Result<Self, super::ErrandFailure> {
        let held = HeldSite::open(site)?;
        let (releases, own) = (held.releases()?, held.own()?);
        Ok(Self { site, held, releases, own })
    }

    /// Trees that never came to their final name: of a run that failed, or died.
    fn set_broken_aside(&self) -> Result<(), super::ErrandFailure> {
        let what = || "set broken trees aside".to_owned();
        for name in self.releases.entries().map_err(cannot(what()))? {
            let run = name.to_str().and_then(|it| it.strip_prefix(".staging-r")?.parse().ok());
            if let Some(run) = run {
                set_aside(self.site, (&self.releases, &self.own), &self.site.releases().join(&name), RunId(run))?;
            }
        }
        // A link that a run died beside.
        let root = self.held.root();
        for name in root.entries().map_err(cannot(what()))? {
            if name.to_string_lossy().starts_with(".current-r") {
                remove_all(root, &name).map_err(cannot(what()))?;
            }
        }
        Ok(())
    }

    /// Links in the place of trees, which an adoption leaves that died before it was done.
    fn remove_idle_links(&self, history: &History) -> Result<(), super::ErrandFailure> {
        for name in history.releases.iter().map(|it| Path::new(it.name.as_str())) {
            let is_link = |mode| FileType::from_raw_mode(mode) == FileType::Symlink;
            if self.releases.stat_of(name).is_ok_and(|it| is_link(it.st_mode)) {
                let removed = self.releases.remove_file(name);
                removed.map_err(cannot(format!("remove `{}`", self.site.releases().join(name).display())))?;
            }
        }
        Ok(())
    }

    /// The trees that are beyond what is kept.
    fn too_many(
        &self,
        history: &History,
        run: RunId,
        (good, failed): (usize, usize),
        spared: &[ReleaseName],
    ) -> Vec<PathBuf> {
        let site = self.site;
        let previous = history.way_back().next().map(|it| &it.name);
        let is_spared =
            |it: &ReleaseName| history.live.as_ref() == Some(it) || previous == Some(it) || spared.contains(it);
        let there = || history.releases.iter().rev().filter(|it| history.is_there(&it.name));
        let is_good = |it: &Release| match it.verdict {
            Verdict::Good => true,
            Verdict::Ready | Verdict::Live | Verdict::Bad => false,
        };
        let old = there().filter(|it| is_good(it)).skip(good);
        let broken = there().filter(|it| !is_good(it) && !is_spared(&it.name));
        let mut broken: Vec<(RunId, PathBuf)> = broken.map(|it| (it.run, site.release(&it.name))).collect();
        for name in self.inner(&site.failed()).unwrap_or_default() {
            let run = name.to_str().and_then(|it| it.strip_prefix('r')?.parse().ok());
            broken.extend(run.map(|run| (RunId(run), site.failed().join(name))));
        }
        // A number beyond ours is of a time before the state folder was lost, when numbers began anew.
        broken.sort_by_key(|(it, _)| (*it > run, Reverse(*it)));
        let old = old.filter(|it| !is_spared(&it.name)).map(|it| site.release(&it.name));
        old.chain(broken.into_iter().skip(failed).map(|(_, tree)| tree)).collect()
    }

    fn put_away(&self, tree: &Path) -> Result<(), super::ErrandFailure> {
        let (trash, name) = (enter(&self.own, &self.trash())?, name_of(tree));
        let is_broken = tree.parent() == Some(self.site.failed().as_path());
        let failed = if is_broken { Some(enter(&self.own, &self.site.failed())?) } else { None };
        let from = failed.as_ref().unwrap_or(&self.releases);
        let cleared = remove_all(&trash, name.as_os_str());
        let moved = cleared.and_then(|()| from.rename(name, (&trash, name), RenameFlags::empty()));
        moved.map_err(cannot(format!("put `{}` away", tree.display())))?;
        say(&format!("{} is put away", name.display()));
        fail::fail_point!("tidy-renamed", |_| Ok(()));
        discard(&trash, &self.trash().join(name))
    }

    fn empty_trash(&self) -> Result<(), super::ErrandFailure> {
        let path = self.trash();
        let names = self.inner(&path).map_err(cannot(format!("empty `{}`", path.display())))?;
        if names.is_empty() {
            return Ok(());
        }
        let trash = enter(&self.own, &path)?;
        names.iter().try_for_each(|it| discard(&trash, &path.join(it)))
    }

    /// What is in a folder of our own; nothing, if it is not there.
    fn inner(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        match self.own.folder(name_of(folder)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result?.entries(),
        }
    }

    fn trash(&self) -> PathBuf {
        self.site.own().join("trash")
    }
}

/// Enters a folder of our own, which is made if it is missing.
fn enter(own: &Folder, path: &Path) -> Result<Folder, super::ErrandFailure> {
    own.make(name_of(path).as_os_str(), 0o777).map_err(|err| no_folder(path, err))
}

/// Removes what is in the trash. What other users have written into it is theirs to remove, or root's.
fn discard(trash: &Folder, path: &Path) -> Result<(), super::ErrandFailure> {
    remove_all(trash, name_of(path).as_os_str()).map_err(|err| {
        let help = match err.kind() {
            io::ErrorKind::PermissionDenied if !geteuid().is_root() => "; other users have files in it: sudo rm -r",
            _ => "; look what keeps it (`lsattr` shows files that nobody may remove), then: rm -r",
        };
        super::ErrandFailure::other(format!("cannot remove `{0}`: {err}{help} {0}", path.display()))
    })
}
