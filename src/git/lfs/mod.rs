//! Files that are kept in Git LFS: the tree has only pointers to them.
//!
//! Invariant: a pointer never lands in place of its file unless the hook says so, and what lands has the size and the
//! SHA-256 that the pointer names.

mod pointer;

mod store;

mod endpoint;

mod stranger;

mod download;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use git2::Oid;

use crate::git::{
    Fetch, GitFailure, cannot,
    config::settings,
    entries::{self as tree, Entry},
    mirror::repository::LocalRepo,
    progress::{plain, say},
    transport::journey::Journey,
    tree::listing::{Listing, tree_of},
};
use crate::model::{deploy::Lfs, push::CommitId, size::Size};

pub(super) use pointer::{Pointer, pointer_of_file};

/// The file in which a tree may say where its files are.
const CONFIG_FILE: &str = ".lfsconfig";

/// The content of a file without any. As with git-lfs, no server is asked for it.
const NOTHING: &str = "/dev/null";

/// What is wanted of the store: each object once, with the first path that points to it.
type Wanted = BTreeMap<Pointer, Vec<u8>>;

/// Brings the files that a commit's pointers stand for into the mirror's store, if the hook says so.
pub(super) fn pull(order: &Fetch, journey: &Journey, mirror: &LocalRepo, commit: &CommitId) -> Result<(), GitFailure> {
    match order.scope.lfs {
        Lfs::Fail | Lfs::Ignore => return Ok(()),
        Lfs::Pull => (),
    }
    let id = Oid::from_str(commit.as_str()).map_err(cannot("read the commit's id"))?;
    let wanted = wanted(mirror, id, order.scope.subdir.as_deref())?;
    if wanted.is_empty() {
        return Ok(());
    }
    let store = store::Store::open(&mirror.folder)?;
    let missing = store.missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let bytes = missing.keys().fold(0_u64, |sum, it| sum.saturating_add(it.size));
    let files = if missing.len() == 1 { "file" } else { "files" };
    say(&format!("fetching {} {files} from Git LFS, {}", missing.len(), Size(bytes)));
    let source = endpoint::find(journey, configured_url(mirror, id)?.as_deref())?;
    download::all(&source, &store, &missing)
}

/// Where the tree itself says that its files are.
fn configured_url(mirror: &LocalRepo, commit: Oid) -> Result<Option<String>, GitFailure> {
    let tree = tree_of(mirror, commit)?;
    let Some(entry) = tree::entry_at(&tree, CONFIG_FILE.as_bytes()).filter(|it| it.kind.is_file()) else {
        return Ok(None);
    };
    let text = tree::small_file(&mirror.repo, entry.id, CONFIG_FILE)?;
    let mut settings = settings(&text).into_iter();
    let url = settings.rfind(|it| it.section == b"lfs" && it.subsection.is_empty() && it.key == b"url");
    Ok(url.and_then(|it| String::from_utf8(it.value).ok()))
}

fn wanted(mirror: &LocalRepo, commit: Oid, subdir: Option<&Path>) -> Result<Wanted, GitFailure> {
    let tree = tree_of(mirror, commit)?;
    let mut listing = Listing::of(mirror, &tree, subdir)?;
    let mut wanted = Wanted::new();
    if !listing.attributes.has_lfs {
        return Ok(wanted);
    }
    listing.leave_out_export_ignored();
    for change in &listing.files {
        let Some(entry) = change.now.filter(|it| it.kind.is_file()) else { continue };
        let path = [&listing.prefix[..], &change.path].concat();
        if listing.attributes.of(&path, false).is_lfs()
            && let Some(pointer) = pointer(mirror, &path, entry)?.filter(|it| !it.is_of_nothing())
        {
            wanted.entry(pointer).or_insert(path);
        }
    }
    Ok(wanted)
}

/// The pointer at a path that the attributes give to LFS; `None`: its blob is the file itself.
pub(super) fn pointer(mirror: &LocalRepo, path: &[u8], entry: Entry) -> Result<Option<Pointer>, GitFailure> {
    let what = || format!("read `{}` of the tree", plain(path));
    let odb = mirror.repo.odb().map_err(cannot("open the mirror's objects"))?;
    let (size, _) = odb.read_header(entry.id).map_err(cannot(what()))?;
    if size > pointer::BYTES_MAX {
        return Ok(None);
    }
    let blob = odb.read(entry.id).map_err(cannot(what()))?;
    Ok(Pointer::parse(blob.data()))
}

/// The file that stands for a pointer at a path; `None`: the pointer itself.
pub(super) fn object(
    mirror: &LocalRepo,
    lfs: Lfs,
    path: &[u8],
    pointer: &Pointer,
) -> Result<Option<PathBuf>, GitFailure> {
    match lfs {
        Lfs::Ignore => Ok(None),
        Lfs::Pull if pointer.is_of_nothing() => Ok(Some(NOTHING.into())),
        Lfs::Pull => store::Store::open(&mirror.folder)?.file(path, pointer).map(Some),
        Lfs::Fail => Err(GitFailure::permanent(format!(
            "the tree needs Git LFS: `{}` is only a pointer. Set `deploy.lfs` to `pull` to have such files fetched, or \
             to `ignore` to deploy the pointers",
            plain(path)
        ))),
    }
}
