//! Puts away what is not kept: old releases, broken trees, what runs that died have left.
//!
//! Kept are so many good ones, so many broken ones, what is live, the one to go back to from there, and what is spared. A
//! folder that is on no record is not ours to remove.
//!
//! Invariant: a tree loses its name before it loses a file, so a half-removed one is never taken for a whole one.

use std::{
    cmp::Reverse,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::{cannot, make_folder, say, write_down};
use crate::{
    journal::{
        releases::{History, Release},
        site::Site,
    },
    model::{
        release::{ReleaseName, Verdict},
        run::RunId,
    },
};

/// Does the order; returns sentences about what could not be done.
pub(super) fn tidy(site: &Site, run: RunId, (good, failed): (usize, usize), spared: &[ReleaseName]) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut note = |result: Result<(), super::ErrandFailure>| {
        if let Err(trouble) = result {
            troubles.push(trouble.reason);
        }
    };
    note(set_broken_aside(site));
    match History::read(site) {
        Ok(mut history) => {
            note(remove_idle_links(site, &history));
            for tree in too_many((site, &history), run, (good, failed), spared) {
                note(put_away(site, &tree));
            }
            note(write_down(&mut history));
        }
        Err(err) => note(Err(err.into())),
    }
    note(empty_trash(site));
    troubles
}

/// Trees that never came to their final name: of a run that failed, or died.
fn set_broken_aside(site: &Site) -> Result<(), super::ErrandFailure> {
    let what = || "set broken trees aside".to_owned();
    for entry in entries(&site.releases()).map_err(cannot(what()))? {
        let name = entry.file_name().and_then(|it| it.to_str()).unwrap_or_default().to_owned();
        let Some(run) = name.strip_prefix(".staging-r") else { continue };
        if let Ok(run) = run.parse() {
            set_aside(site, &entry, RunId(run))?;
        }
    }
    // A link that a run died beside.
    for entry in entries(site.root()).map_err(cannot(what()))? {
        let is_draft = entry.file_name().is_some_and(|it| it.to_string_lossy().starts_with(".current-r"));
        if is_draft {
            remove(&entry).map_err(cannot(what()))?;
        }
    }
    Ok(())
}

/// A tree of that run, which never came to its final name.
pub(super) fn set_aside(site: &Site, tree: &Path, run: RunId) -> Result<(), super::ErrandFailure> {
    make_folder(&site.failed())?;
    let place = site.failed().join(format!("r{run}"));
    let moved = remove(&place).and_then(|()| fs::rename(tree, &place));
    moved.map_err(cannot(format!("set `{}` aside", tree.display())))?;
    say(&format!("the broken tree is kept in {}", place.display()));
    Ok(())
}

/// Links in the place of trees, which an adoption leaves that died before it was done.
fn remove_idle_links(site: &Site, history: &History) -> Result<(), super::ErrandFailure> {
    for release in history.releases.iter().map(|it| site.release(&it.name)) {
        if fs::symlink_metadata(&release).is_ok_and(|it| it.is_symlink()) {
            remove(&release).map_err(cannot(format!("remove `{}`", release.display())))?;
        }
    }
    Ok(())
}

/// The trees that are beyond what is kept.
fn too_many(
    (site, history): (&Site, &History),
    run: RunId,
    (good, failed): (usize, usize),
    spared: &[ReleaseName],
) -> Vec<PathBuf> {
    let previous = history.way_back().next().map(|it| &it.name);
    let is_spared = |it: &ReleaseName| history.live.as_ref() == Some(it) || previous == Some(it) || spared.contains(it);
    let there = || history.releases.iter().rev().filter(|it| history.is_there(&it.name));
    let is_good = |it: &Release| match it.verdict {
        Verdict::Good => true,
        Verdict::Ready | Verdict::Live | Verdict::Bad => false,
    };
    let old = there().filter(|it| is_good(it)).skip(good);
    let broken = there().filter(|it| !is_good(it) && !is_spared(&it.name));
    let mut broken: Vec<(RunId, PathBuf)> = broken.map(|it| (it.run, site.release(&it.name))).collect();
    for entry in entries(&site.failed()).unwrap_or_default() {
        let run = entry.file_name().and_then(|it| it.to_str()).and_then(|it| it.strip_prefix('r')?.parse().ok());
        broken.extend(run.map(|run| (RunId(run), entry)));
    }
    // A number beyond ours is of a time before the state folder was lost, when numbers began anew.
    broken.sort_by_key(|(it, _)| (*it > run, Reverse(*it)));
    let old = old.filter(|it| !is_spared(&it.name)).map(|it| site.release(&it.name));
    old.chain(broken.into_iter().skip(failed).map(|(_, tree)| tree)).collect()
}

fn put_away(site: &Site, tree: &Path) -> Result<(), super::ErrandFailure> {
    let trash = trash(site);
    make_folder(&trash)?;
    let name = tree.file_name().unwrap_or_default();
    let what = || format!("put `{}` away", tree.display());
    remove(&trash.join(name)).and_then(|()| fs::rename(tree, trash.join(name))).map_err(cannot(what()))?;
    say(&format!("{} is put away", name.to_string_lossy()));
    fail::fail_point!("tidy-renamed", |_| Ok(()));
    discard(&trash.join(name))
}

fn empty_trash(site: &Site) -> Result<(), super::ErrandFailure> {
    let what = || format!("empty `{}`", trash(site).display());
    for entry in entries(&trash(site)).map_err(cannot(what()))? {
        discard(&entry)?;
    }
    Ok(())
}

/// Removes what is in the trash. What other users have written into it is theirs to remove, or root's.
fn discard(path: &Path) -> Result<(), super::ErrandFailure> {
    remove(path).map_err(|err| {
        let help = match err.kind() {
            io::ErrorKind::PermissionDenied if !geteuid().is_root() => "; other users have files in it: sudo rm -r",
            _ => "; look what keeps it (`lsattr` shows files that nobody may remove), then: rm -r",
        };
        super::ErrandFailure::other(format!("cannot remove `{0}`: {err}{help} {0}", path.display()))
    })
}

fn trash(site: &Site) -> PathBuf {
    site.own().join("trash")
}

/// What is in a folder; nothing, if it is not there.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result?.map(|it| it.map(|it| it.path())).collect(),
    }
}

/// Removes a file, or a folder with all that is in it, also where package caches have made folders read-only.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
        Ok(metadata) if !metadata.is_dir() => fs::remove_file(path),
        Ok(_) => match fs::remove_dir_all(path) {
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                open_up(path)?;
                fs::remove_dir_all(path)
            }
            result => result,
        },
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
