//! Objects on their way from one repository of this machine into another, and packs that are made one.
//!
//! Invariant: a repository never holds a commit without all that the commit needs, whenever this is interrupted.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use git2::{ObjectType, Oid, PackBuilder, Repository};

use super::{GitFailure, cannot};

/// Beyond this many packs the small ones are made one: each fetch brings a pack, and each look-up asks all of them.
const PACKS_MAX: usize = 50;

/// A file of more than this is not packed anew.
const LARGE_FILE_BYTES: usize = 32 << 20;

/// Nor are files of more than this together: it takes minutes to look for differences among them once more.
const LARGE_LOAD_BYTES: usize = 64 << 20;

/// A pack of this size stays as it is.
const SMALL_PACK_BYTES: u64 = 32 << 20;

/// Gathers what `wants` need and another repository lacks, where it has all that `has` reach.
pub(super) fn gather<'a>(from: &'a Repository, wants: &[Oid], has: &[Oid]) -> Result<Load<'a>, GitFailure> {
    let found = || cannot::<git2::Error>(format!("gather objects of `{}`", from.path().display()));
    let mut walk = from.revwalk().map_err(found())?;
    let mut builder = from.packbuilder().map_err(found())?;
    for want in wants {
        let mut object = from.find_object(*want, None).map_err(found())?;
        while let Some(tag) = object.as_tag() {
            builder.insert_object(tag.id(), None).map_err(found())?;
            object = from.find_object(tag.target_id(), None).map_err(found())?;
        }
        match object.kind() {
            Some(ObjectType::Commit) => walk.push(object.id()).map_err(found())?,
            _ => builder.insert_recursive(object.id(), None).map_err(found())?,
        }
    }
    for has in has {
        if let Ok(commit) = from.find_object(*has, None).and_then(|it| it.peel_to_commit()) {
            walk.hide(commit.id()).map_err(found())?;
        }
    }
    let mut load = Load { from, builder, seen: HashSet::new(), largest: 0, bytes: 0 };
    for id in walk {
        // A parent is on the walk itself, or there already with all that it needs: only what differs has to come.
        let commit = id.and_then(|it| from.find_commit(it)).map_err(found())?;
        let parent = commit.parent(0).map(|it| it.tree_id()).ok();
        load.add_commit(commit.id(), commit.tree_id(), parent, &|_| false).map_err(found())?;
    }
    Ok(load)
}

/// Gathers a commit, its history as far as it is there, and all that these need, leaving out what the other repository
/// has: where history is cut short, what a commit reaches says nothing of that.
pub(super) fn gather_missing<'a>(from: &'a Repository, to: &Repository, want: Oid) -> Result<Load<'a>, GitFailure> {
    let found = || cannot::<git2::Error>(format!("gather objects of `{}`", from.path().display()));
    let odb = to.odb().map_err(found())?;
    let has = |id| odb.exists(id);
    let builder = from.packbuilder().map_err(found())?;
    let mut load = Load { from, builder, seen: HashSet::new(), largest: 0, bytes: 0 };
    let mut commits = vec![want];
    while let Some(id) = commits.pop() {
        if has(id) || load.seen.contains(&id) {
            continue;
        }
        let commit = from.find_commit(id).map_err(found())?;
        commits.extend(commit.parent_ids());
        load.add_commit(id, commit.tree_id(), None, &has).map_err(found())?;
    }
    Ok(load)
}

/// What was gathered.
pub(super) struct Load<'a> {
    from: &'a Repository,
    builder: PackBuilder<'a>,
    seen: HashSet<Oid>,
    /// The size of the largest file.
    largest: usize,
    /// The size of all files.
    bytes: usize,
}

impl Load<'_> {
    /// Whether a pack of it would take more memory, or time, than is good: libgit2 takes each file whole.
    pub(super) fn is_large(&self) -> bool {
        self.largest > LARGE_FILE_BYTES || self.bytes > LARGE_LOAD_BYTES
    }

    /// Writes it into a repository, and answers how many objects those were.
    pub(super) fn pour(mut self, to: &Repository) -> Result<usize, GitFailure> {
        let count = self.builder.object_count();
        if count == 0 {
            return Ok(0);
        }
        // More threads than one take longer to start than they save.
        self.builder.set_threads(if count > 1000 { 0 } else { 1 });
        let what = format!("copy objects into `{}`", to.path().display());
        let odb = to.odb().map_err(cannot(&*what))?;
        let mut pack = odb.packwriter().map_err(cannot(&*what))?;
        let mut trouble: Option<git2::Error> = None;
        let gathered = self.builder.foreach(|piece| match pack.write_all(piece) {
            Ok(()) => true,
            Err(_) => {
                // The error of the writer does not say what is wrong; libgit2 does.
                trouble = Some(git2::Error::last_error(-1));
                false
            }
        });
        if let Some(err) = trouble {
            return Err(cannot(what)(err));
        }
        gathered.map_err(cannot(format!("gather objects of `{}`", self.from.path().display())))?;
        pack.commit().map_err(cannot(what))?;
        Ok(count)
    }

    /// Adds a commit and what its tree has that neither `base` nor the other side has.
    fn add_commit(
        &mut self,
        commit: Oid,
        tree: Oid,
        base: Option<Oid>,
        has: &dyn Fn(Oid) -> bool,
    ) -> Result<(), git2::Error> {
        let odb = self.from.odb()?;
        if self.seen.insert(commit) {
            self.builder.insert_object(commit, None)?;
        }
        let mut trees = if base == Some(tree) { Vec::new() } else { vec![(tree, base)] };
        while let Some((id, base)) = trees.pop() {
            if has(id) || !self.seen.insert(id) {
                continue;
            }
            self.builder.insert_object(id, None)?;
            let base = base.and_then(|it| self.from.find_tree(it).ok());
            for entry in self.from.find_tree(id)?.iter() {
                let before = base.as_ref().and_then(|it| it.get_name_bytes(entry.name_bytes()).map(|it| it.id()));
                if before == Some(entry.id()) {
                    continue;
                }
                match entry.kind() {
                    Some(ObjectType::Tree) => trees.push((entry.id(), before)),
                    Some(ObjectType::Blob) if !has(entry.id()) && self.seen.insert(entry.id()) => {
                        let size = odb.read_header(entry.id())?.0;
                        self.largest = self.largest.max(size);
                        self.bytes = self.bytes.saturating_add(size);
                        self.builder.insert_object(entry.id(), entry.name().ok())?;
                    }
                    // The commit of a submodule is in another repository.
                    Some(_) | None => (),
                }
            }
        }
        Ok(())
    }
}

/// Gives a repository the packs of another one that it does not have: as hard links, or as copies on another file
/// system. The one with `last` comes last.
///
/// For a while there are commits without their parents, so the caller makes no ref of them known before the end.
pub(super) fn link(from: &Repository, to: &Repository, last: Option<Oid>) -> Result<(), GitFailure> {
    let (from, to) = (pack_folder(from), pack_folder(to));
    let mut packs = Vec::new();
    for (stem, pack) in list(&from)? {
        let index = from.join(format!("{stem}.idx"));
        let ids = || ids_of(&index).map_err(cannot(format!("read `{}`", index.display())));
        let is_last = last.map_or(Ok(false), |it| ids().map(|ids| ids.contains(&it)))?;
        packs.push((is_last, pack));
    }
    packs.sort_by_key(|(is_last, _)| *is_last);
    for name in packs.iter().flat_map(|(_, pack)| &pack.files) {
        let (source, target) = (from.join(name), to.join(name));
        match fs::hard_link(&source, &target) {
            Ok(()) => (),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => (),
            Err(_) => copy(&source, &target).map_err(cannot(format!("write `{}`", target.display())))?,
        }
    }
    Ok(())
}

/// Copies a file, which has its name only once it is whole.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let part = target.with_extension("landfall-part");
    fs::copy(source, &part)?;
    fs::rename(part, target)
}

/// Makes the small packs one, if there are many packs. Nothing but packs made by libgit2 is touched: those of git
/// have companions, such as a reverse index, or a mark that keeps them.
pub(super) fn unite(repo: &Repository) -> Result<(), GitFailure> {
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
pub(super) fn are_whole(folder: &Path) -> io::Result<bool> {
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
pub(super) fn pack_folder(repo: &Repository) -> PathBuf {
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
