//! What a hook wants of a repository besides a commit.
//!
//! Invariant: a fetch and the stage that follows it get the same scope, so what one needs the other has brought.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    model::deploy::{Depth, Git, Lfs, Submodules, UnknownFilters},
    process::text_form,
};

/// What a hook wants of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// What is done about repositories within the repository.
    #[serde(with = "text_form")]
    pub submodules: Submodules,
    /// What is done about files that are kept in Git LFS.
    #[serde(with = "text_form")]
    pub lfs: Lfs,
    /// How much of the history is fetched.
    #[serde(with = "text_form")]
    pub depth: Depth,
    /// Whether all tags are fetched into a working tree.
    pub tags: bool,
    /// For files and folders that are made.
    pub umask: u32,
    /// The only folder of the tree that is wanted.
    pub subdir: Option<PathBuf>,
    /// Whether a fresh tree is what `git archive` makes of it: without what is marked `export-ignore`, and with
    /// `export-subst` expanded.
    pub export_ignore: bool,
    /// What is done about files that a filter would change, other than Git LFS.
    #[serde(with = "text_form")]
    pub filters: UnknownFilters,
    /// Whether files and folders of a working tree that belong to another user than who works there are left alone, and
    /// a commit that changes one is refused.
    pub spares_others: bool,
}

impl Scope {
    /// What a hook says.
    pub fn of(git: &Git) -> Self {
        Self {
            submodules: git.submodules,
            lfs: git.lfs,
            depth: git.depth,
            tags: git.tags,
            umask: git.umask,
            subdir: git.subdir.clone(),
            export_ignore: git.export_ignore,
            filters: git.filters,
            spares_others: false,
        }
    }
}
