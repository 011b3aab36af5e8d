//! What a hook wants of a repository besides a commit.
//!
//! Invariant: a fetch and the stage that follows it get the same scope, so what one needs the other has brought.

use std::{num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::order::word;
use crate::model::deploy::{Git, Lfs, Submodules, UnknownFilters};

/// What a hook wants of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What is done about repositories within the repository.
    pub submodules: Submodules,
    /// What is done about files that are kept in Git LFS.
    pub lfs: Lfs,
    /// How many commits of history are fetched; `None` is all.
    pub depth: Option<NonZeroU32>,
    /// The only folder of the tree that is wanted.
    pub subdir: Option<PathBuf>,
    /// Whether a fresh tree is what `git archive` makes of it: without what is marked `export-ignore`, and with
    /// `export-subst` expanded.
    pub export_ignore: bool,
    /// What is done about files that a filter would change, other than Git LFS.
    pub filters: UnknownFilters,
}

impl Scope {
    /// What a hook says.
    pub fn of(git: &Git) -> Self {
        Self {
            submodules: git.submodules,
            lfs: git.lfs,
            depth: git.depth,
            subdir: git.subdir.clone(),
            export_ignore: false,
            filters: UnknownFilters::Fail,
        }
    }
}

/// [`Scope`] on its way to the child.
#[derive(Serialize, Deserialize)]
pub(super) struct PipedScope {
    submodules: String,
    lfs: String,
    depth: Option<NonZeroU32>,
    subdir: Option<PathBuf>,
    export_ignore: bool,
    filters: String,
}

impl From<&Scope> for PipedScope {
    fn from(scope: &Scope) -> Self {
        Self {
            submodules: scope.submodules.word().into(),
            lfs: scope.lfs.word().into(),
            depth: scope.depth,
            subdir: scope.subdir.clone(),
            export_ignore: scope.export_ignore,
            filters: scope.filters.word().into(),
        }
    }
}

impl TryFrom<PipedScope> for Scope {
    type Error = String;

    fn try_from(piped: PipedScope) -> Result<Self, String> {
        Ok(Self {
            submodules: word(&piped.submodules, Submodules::parse)?,
            lfs: word(&piped.lfs, Lfs::parse)?,
            depth: piped.depth,
            subdir: piped.subdir,
            export_ignore: piped.export_ignore,
            filters: word(&piped.filters, UnknownFilters::parse)?,
        })
    }
}
