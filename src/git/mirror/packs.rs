//! The packs of a repository: whether they are whole, and how many are made few.
//!
//! Invariant: no object is dropped that a ref or a reflog leads to, whenever this is interrupted.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use git2::{Oid, Repository};

use crate::git::{
    GitFailure, cannot,
    config::{Setting, settings},
    git_program,
    progress::plain,
};

/// Beyond this many packs the small ones are made one: each fetch brings a pack, and each look-up asks all of them.
const PACKS_MAX: usize = 50;

/// A pack of this size stays as it is.
const SMALL_PACK_BYTES: u64 = 32 << 20;

/// So many loose objects in one of 256 folders, and git tidies up (git-gc(1), `gc.auto`: 6,700 in all).
const LOOSE_OF_FOLDER_MAX: usize = 27;

/// Tidies the repository of a working tree as `git gc --auto` does, which keeps what a reflog names and what is younger
/// than two weeks. Without git, small packs are made one.
pub(in crate::git) fn tidy_clone(repo: &Repository) -> Result<(), GitFailure> {
    let what = || format!("tidy up `{}`", repo.path().display());
    let packs = list(&pack_folder(repo))?.len();
    let loose = fs::read_dir(repo.commondir().join("objects/17")).map_or(0, Iterator::count);
    if packs <= PACKS_MAX && loose <= LOOSE_OF_FOLDER_MAX {
        return Ok(());
    }
    if !git_program::is_installed() {
        return unite(repo);
    }
    // Its own file may name a program for this, and there is no way to say "none".
    let config = fs::read(repo.commondir().join("config")).map_err(cannot(what()))?;
    // One more file is read where this is set.
    let is_steered = |it: &Setting| {
        it.section.starts_with(b"include") || matches!(&*it.key, b"recentobjectshook" | b"worktreeconfig")
    };
    if settings(&config).iter().any(is_steered) {
        return Ok(());
    }
    let mut command = git_program::command_in(repo.path())?;
    command.args(["-c", "gc.pruneExpire=2.weeks.ago", "-c", "gc.reflogExpireUnreachable=30.days.ago"]);
    command.args(["-c", "gc.worktreePruneExpire=never", "gc", "--auto", "--quiet"]);
    let output = command.stdout(Stdio::null()).output().map_err(cannot(what()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(GitFailure::other(format!("cannot {}: {}", what(), plain(&output.stderr)))),
    }
}

/// Makes the small packs one, if there are many packs. Nothing but packs made by libgit2 is touched: those of git
/// have companions, such as a reverse index, or a mark that keeps them.
pub(in crate::git) fn unite(repo: &Repository) -> Result<(), GitFailure> {
    let folder = pack_folder(repo);
    let packs = list(&folder)?;
    if packs.len() <= PACKS_MAX {
        return Ok(());
    }
    let small: Vec<_> =
        packs.iter().filter(|(_, pack)| pack.files.len() == 2 && pack.bytes < SMALL_PACK_BYTES).collect();
    let what = format!("unite the packs of `{}`", repo.path().display());
    let mut builder = repo.packbuilder().map_err(cannot(&*what))?;
    builder.set_threads(0);
    for (stem, _) in &small {
        for id in ids_of(&folder.join(format!("{stem}.idx"))).map_err(cannot(&*what))? {
            builder.insert_object(id, None).map_err(cannot(&*what))?;
        }
    }
    builder.write(&folder, 0).map_err(cannot(&*what))?;
    let united = builder.name().map_err(cannot(&*what))?.map(|name| format!("pack-{name}"));
    for (stem, pack) in small.into_iter().filter(|(stem, _)| Some(stem.as_str()) != united.as_deref()) {
        // The index goes first: a pack without one is no pack, an index without its pack is a damage.
        for extension in ["idx", "pack"] {
            fs::remove_file(folder.join(format!("{stem}.{extension}"))).map_err(cannot(&*what))?;
        }
        debug_assert_eq!(pack.files.len(), 2);
    }
    repo.odb().and_then(|it| it.refresh()).map_err(cannot(what))
}

/// Whether each pack ends with the checksum that its index has of it, so that none was cut short.
pub(in crate::git) fn are_whole(folder: &Path) -> io::Result<bool> {
    const SUM: u64 = 20;
    let last = |path: &Path, from_end: u64| -> io::Result<[u8; SUM as usize]> {
        let (file, mut sum) = (File::open(path)?, [0; SUM as usize]);
        let begin = file.metadata()?.len().checked_sub(from_end).ok_or(io::ErrorKind::UnexpectedEof)?;
        file.read_exact_at(&mut sum, begin)?;
        Ok(sum)
    };
    for entry in fs::read_dir(folder)? {
        let index = entry?.path();
        let pack = index.with_extension("pack");
        // A pack without an index is what a killed fetch leaves.
        if index.extension().is_some_and(|it| it == "idx") && last(&pack, SUM)? != last(&index, 2 * SUM)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a repository keeps its packs.
pub(in crate::git) fn pack_folder(repo: &Repository) -> PathBuf {
    repo.commondir().join("objects/pack")
}

#[derive(Default)]
struct Pack {
    files: Vec<String>,
    bytes: u64,
}

/// The packs of a folder by their stem; files that belong to none are left out.
fn list(folder: &Path) -> Result<BTreeMap<String, Pack>, GitFailure> {
    let what = format!("list the packs in `{}`", folder.display());
    let mut packs: BTreeMap<String, Pack> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(cannot(&*what))? {
        let entry = entry.map_err(cannot(&*what))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some((stem, extension)) = name.split_once('.') else { continue };
        if stem.starts_with("pack-") && !extension.contains("lock") {
            let pack = packs.entry(stem.to_owned()).or_default();
            pack.bytes += entry.metadata().map_err(cannot(&*what))?.len();
            pack.files.push(name);
        }
    }
    // The index is made last when packs are linked.
    packs.values_mut().for_each(|pack| pack.files.sort_by_key(|it| it.ends_with(".idx")));
    packs.retain(|_, pack| ["idx", "pack"].iter().all(|end| pack.files.iter().any(|it| it.ends_with(end))));
    Ok(packs)
}

/// The ids in a pack's index, version 2 (<https://git-scm.com/docs/pack-format>).
fn ids_of(index: &Path) -> io::Result<Vec<Oid>> {
    const NAMES: usize = 8 + 256 * 4;
    let bytes = fs::read(index)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is damaged", index.display()));
    let count = bytes.get(NAMES - 4..NAMES).and_then(|it| it.try_into().ok()).map(u32::from_be_bytes);
    let names = count.and_then(|count| bytes.get(NAMES..NAMES + count as usize * 20)).ok_or_else(damaged)?;
    if !bytes.starts_with(b"\xfftOc\0\0\0\x02") {
        return Err(damaged());
    }
    names.chunks_exact(20).map(|it| Oid::from_bytes(it).map_err(|_| damaged())).collect()
}
