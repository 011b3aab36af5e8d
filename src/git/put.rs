//! What is written for each path of a tree.
//!
//! Invariant: a path has its blob's bytes, unless the attributes of its own tree say otherwise.

use std::path::PathBuf;

use super::{
    GitFailure,
    attributes::{Attributes, Conversion},
    lfs,
    mirror::Mirror,
    tree::{Change, Entry},
};
use crate::model::deploy::Lfs;

/// One thing to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Put<'a> {
    /// Relative to the folder.
    pub(super) path: &'a [u8],
    pub(super) entry: Entry,
    /// How the file differs from its blob.
    pub(super) conversion: Conversion,
    /// The file whose content it has, instead of that of its blob.
    pub(super) object: Option<PathBuf>,
}

/// What is there now of `changes`, whose paths begin at `prefix` within the tree that the attributes are from.
pub(super) fn prepare<'a>(
    mirror: &Mirror,
    attributes: &Attributes,
    prefix: &[u8],
    changes: &'a [Change],
    lfs: Lfs,
) -> Result<Vec<Put<'a>>, GitFailure> {
    let mut puts = Vec::with_capacity(changes.len());
    for Change { path, now } in changes {
        let Some(entry) = *now else { continue };
        let mut put = Put { path, entry, conversion: Conversion::default(), object: None };
        if attributes.matter() && entry.kind.is_file() {
            let whole = [prefix, path].concat();
            let settings = attributes.of(&whole, false);
            put.conversion = settings.conversion();
            if settings.is_lfs()
                && let Some(pointer) = lfs::pointer(mirror, &whole, entry)?
            {
                put.object = lfs::object(mirror, lfs, &whole, &pointer)?;
            }
        }
        puts.push(put);
    }
    Ok(puts)
}
