//! What a hook wants of a repository besides a commit.
//!
//! Invariant: a fetch and the stage that follows it get the same scope, so what one needs the other has brought.

use std::{num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::order::word;
use crate::model::deploy::{Depth, Git, Lfs, Submodules};

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
}

impl Scope {
    /// What a hook says.
    pub fn of(git: &Git) -> Self {
        let depth = if let Depth::Commits(number) = git.depth { Some(number) } else { None };
        Self { submodules: git.submodules, lfs: git.lfs, depth, subdir: git.subdir.clone() }
    }
}

/// [`Scope`] on its way to the child.
#[derive(Serialize, Deserialize)]
pub(super) struct PipedScope {
    submodules: String,
    lfs: String,
    depth: Option<NonZeroU32>,
    subdir: Option<PathBuf>,
}

impl From<&Scope> for PipedScope {
    fn from(scope: &Scope) -> Self {
        Self {
            submodules: scope.submodules.word().into(),
            lfs: scope.lfs.word().into(),
            depth: scope.depth,
            subdir: scope.subdir.clone(),
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
        })
    }
}
