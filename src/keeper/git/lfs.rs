//! Files that are kept in Git LFS: the tree has only pointers to them.
//!
//! Invariant: a pointer never lands in place of its file unless the hook says so.

use super::{GitFailure, cannot, mirror::Mirror, progress::plain, tree::Entry};

/// The first line of every pointer (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
const VERSION: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// A pointer is small.
const POINTER_BYTES_MAX: usize = 1024;

/// What stands for a file that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer;

/// The pointer at a path that the attributes give to LFS; `None`: its blob is the file itself.
pub(super) fn pointer(mirror: &Mirror, path: &[u8], entry: Entry) -> Result<Option<Pointer>, GitFailure> {
    let what = || format!("read `{}` of the tree", plain(path));
    let odb = mirror.repo.odb().map_err(cannot("open the mirror's objects"))?;
    let (size, _) = odb.read_header(entry.id).map_err(cannot(what()))?;
    if size > POINTER_BYTES_MAX {
        return Ok(None);
    }
    let blob = odb.read(entry.id).map_err(cannot(what()))?;
    Ok(blob.data().starts_with(VERSION).then_some(Pointer))
}

pub(super) fn refusal(path: &[u8]) -> GitFailure {
    let path = plain(path);
    GitFailure::permanent(format!(
        "the tree needs Git LFS, which this version does not fetch: `{path}` is only a pointer"
    ))
}
