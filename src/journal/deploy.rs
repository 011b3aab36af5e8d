//! How the way a hook deploys is written down within a job.
//!
//! Invariant: what was written reads back unchanged, and a secret is written as the place it is found at.

use std::{num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    journal::{job::known, letter::StoredSecretRef},
    model::deploy::{Clean, Credentials, Dirty, Git, Keeping, Lfs, Rollback, SharedPath, Strategy, Submodules},
};

/// A [`Strategy`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredStrategy {
    Checkout { git: StoredGit },
    InPlace { git: StoredGit, path: PathBuf, dirty: String, clean: String },
    Releases { git: StoredGit, path: PathBuf, keeping: StoredKeeping },
    None { folder: PathBuf },
}

/// A [`Git`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredGit {
    remote: String,
    credentials: StoredCredentials,
    submodules: String,
    lfs: String,
    depth: Option<NonZeroU32>,
    subdir: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredCredentials {
    Ambient,
    Token { username: String, token: StoredSecretRef },
    SshKey { key: PathBuf, known_hosts: Option<PathBuf> },
}

/// A [`Keeping`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredKeeping {
    good: u32,
    failed: u32,
    shared: Vec<StoredSharedPath>,
    rollback: String,
}

#[derive(Serialize, Deserialize)]
struct StoredSharedPath {
    path: PathBuf,
    required: bool,
    seed: Option<PathBuf>,
    mode: Option<u32>,
}

impl From<&Strategy> for StoredStrategy {
    fn from(strategy: &Strategy) -> Self {
        match strategy {
            Strategy::Checkout { git } => Self::Checkout { git: git.into() },
            Strategy::InPlace { git, path, dirty, clean } => Self::InPlace {
                git: git.into(),
                path: path.clone(),
                dirty: dirty.word().into(),
                clean: clean.word().into(),
            },
            Strategy::Releases { git, path, keeping } => {
                Self::Releases { git: git.into(), path: path.clone(), keeping: keeping.into() }
            }
            Strategy::None { folder } => Self::None { folder: folder.clone() },
        }
    }
}

impl TryFrom<StoredStrategy> for Strategy {
    type Error = String;

    fn try_from(stored: StoredStrategy) -> Result<Self, String> {
        Ok(match stored {
            StoredStrategy::Checkout { git } => Self::Checkout { git: git.try_into()? },
            StoredStrategy::InPlace { git, path, dirty, clean } => Self::InPlace {
                git: git.try_into()?,
                path,
                dirty: known(&dirty, Dirty::parse)?,
                clean: known(&clean, Clean::parse)?,
            },
            StoredStrategy::Releases { git, path, keeping } => {
                Self::Releases { git: git.try_into()?, path, keeping: keeping.try_into()? }
            }
            StoredStrategy::None { folder } => Self::None { folder },
        })
    }
}

impl From<&Git> for StoredGit {
    fn from(git: &Git) -> Self {
        let credentials = match &git.credentials {
            Credentials::Ambient => StoredCredentials::Ambient,
            Credentials::Token { username, token } => {
                StoredCredentials::Token { username: username.clone(), token: token.into() }
            }
            Credentials::SshKey { key, known_hosts } => {
                StoredCredentials::SshKey { key: key.clone(), known_hosts: known_hosts.clone() }
            }
        };
        Self {
            remote: git.remote.clone(),
            credentials,
            submodules: git.submodules.word().into(),
            lfs: git.lfs.word().into(),
            depth: git.depth,
            subdir: git.subdir.clone(),
        }
    }
}

impl TryFrom<StoredGit> for Git {
    type Error = String;

    fn try_from(stored: StoredGit) -> Result<Self, String> {
        let credentials = match stored.credentials {
            StoredCredentials::Ambient => Credentials::Ambient,
            StoredCredentials::Token { username, token } => Credentials::Token { username, token: token.into() },
            StoredCredentials::SshKey { key, known_hosts } => Credentials::SshKey { key, known_hosts },
        };
        Ok(Self {
            remote: stored.remote,
            credentials,
            submodules: known(&stored.submodules, Submodules::parse)?,
            lfs: known(&stored.lfs, Lfs::parse)?,
            depth: stored.depth,
            subdir: stored.subdir,
        })
    }
}

impl From<&Keeping> for StoredKeeping {
    fn from(keeping: &Keeping) -> Self {
        let shared = keeping.shared.iter().cloned();
        let shared =
            shared.map(|SharedPath { path, required, seed, mode }| StoredSharedPath { path, required, seed, mode });
        Self {
            good: keeping.good,
            failed: keeping.failed,
            shared: shared.collect(),
            rollback: keeping.rollback.word().into(),
        }
    }
}

impl TryFrom<StoredKeeping> for Keeping {
    type Error = String;

    fn try_from(stored: StoredKeeping) -> Result<Self, String> {
        let shared = stored.shared.into_iter();
        let shared =
            shared.map(|StoredSharedPath { path, required, seed, mode }| SharedPath { path, required, seed, mode });
        Ok(Self {
            good: stored.good,
            failed: stored.failed,
            shared: shared.collect(),
            rollback: known(&stored.rollback, Rollback::parse)?,
        })
    }
}
