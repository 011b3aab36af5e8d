//! What a hook wants of a repository besides a commit.
//!
//! Invariant: a fetch and the stage that follows it get the same scope, so what one needs the other has brought.

use std::{num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    model::deploy::{Git, Lfs, Submodules},
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
    pub depth: Depth,
    /// Whether all tags are fetched into a working tree.
    pub tags: bool,
    /// For files and folders that are made.
    pub umask: u32,
    /// The only folder of the tree that is wanted.
    pub subdir: Option<PathBuf>,
}

impl Scope {
    /// What a hook says.
    pub fn of(git: &Git) -> Self {
        let depth = git.depth.map_or(Depth::Auto, Depth::Commits);
        Self { submodules: git.submodules, lfs: git.lfs, depth, tags: true, umask: 0o022, subdir: git.subdir.clone() }
    }
}

/// How much of the history is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// As little as the questions need for a fresh tree, all of it for a working tree.
    Auto,
    /// All of it.
    All,
    /// So many commits.
    Commits(NonZeroU32),
}
