//! Files that a filter of the repository would change, such as those of git-crypt.
//!
//! Invariant: no filter of a repository is ever run, so a file that needs one is refused, or knowingly deployed as it is
//! stored.

use super::Attributes;
use crate::git::{GitFailure, entries::Change, progress::plain};

/// The refusal of the first file among `changes` that has such a filter. The paths begin at `prefix` within the tree
/// that the attributes are from. A pattern that no file fits is nobody's trouble.
pub(in crate::git) fn filter_refusal(attributes: &Attributes, prefix: &[u8], changes: &[Change]) -> Option<GitFailure> {
    if !attributes.has_foreign_filters {
        return None;
    }
    let files = changes.iter().filter(|it| it.now.is_some_and(|now| now.kind.is_file()));
    files.into_iter().find_map(|Change { path, .. }| {
        let whole = [prefix, path].concat();
        let settings = attributes.of(&whole, false);
        let filter = plain(settings.foreign_filter()?);
        Some(GitFailure::permanent(format!(
            "`{}` is to be changed by the filter `{filter}` when it is checked out, and no filter of a repository is \
             run: set `deploy.filters` to `ignore` to deploy such files as they are stored, or decrypt in a step of \
             `run`",
            plain(&whole)
        )))
    })
}
