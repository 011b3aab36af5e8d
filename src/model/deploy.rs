//! Where and how the code of a hook lands.
//!
//! Invariant: a strategy carries exactly the settings that mean something for it.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use crate::model::{run::RunStep, secret::SecretRef, word::words};

/// Where and how the code lands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deploy {
    /// What is done with the commit.
    pub strategy: Strategy,
    /// Bytes that must be free, where the code lands and where Landfall keeps its state, before a run begins.
    pub min_free_bytes: u64,
}

/// What is done with the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// A fresh tree for each run; the scripts do the rest.
    Checkout {
        /// Where the commit comes from.
        git: Git,
    },
    /// A working tree at a fixed path is brought to exactly the commit.
    InPlace {
        /// Where the commit comes from.
        git: Git,
        /// The working tree; absolute.
        path: PathBuf,
        /// What happens to local edits of tracked files.
        dirty: Dirty,
        /// What happens to files that git does not know.
        clean: Clean,
    },
    /// A complete tree is built beside the live one, then a link is switched to it.
    Releases {
        /// Where the commit comes from.
        git: Git,
        /// The folder of `releases/`, `current` and `shared/`; absolute.
        path: PathBuf,
        /// How many are kept, what they share, and what becomes of a bad one.
        keeping: Keeping,
    },
    /// No git at all.
    None {
        /// Where the steps run: the folder of hooks.yaml; absolute.
        folder: PathBuf,
    },
}

impl Strategy {
    /// The word of hooks.yaml.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Checkout { .. } => "checkout",
            Self::InPlace { .. } => "in-place",
            Self::Releases { .. } => "releases",
            Self::None { .. } => "none",
        }
    }

    /// Where the commit comes from, if one is fetched at all.
    pub fn git(&self) -> Option<&Git> {
        match self {
            Self::Checkout { git } | Self::InPlace { git, .. } | Self::Releases { git, .. } => Some(git),
            Self::None { .. } => None,
        }
    }

    /// The step with which it begins to change what is live.
    pub fn goes_live_at(&self) -> RunStep {
        match self {
            Self::InPlace { .. } => RunStep::Stage,
            Self::Releases { .. } => RunStep::Switch,
            Self::Checkout { .. } | Self::None { .. } => RunStep::Activate,
        }
    }

    /// The fixed folder that is deployed into, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::InPlace { path, .. } | Self::Releases { path, .. } => Some(path),
            Self::Checkout { .. } | Self::None { .. } => None,
        }
    }
}

/// Where a commit comes from, and how we prove ourselves there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// `https://`, `http://`, `ssh://`, scp-style, `file://` or an absolute path.
    pub remote: String,
    /// What we show at the door.
    pub credentials: Credentials,
    /// What is done about repositories within the repository.
    pub submodules: Submodules,
    /// What is done about files that are kept in Git LFS.
    pub lfs: Lfs,
    /// How many commits of history are fetched; `None` is all.
    pub depth: Option<NonZeroU32>,
    /// The only folder of the tree that is deployed; relative, without `..`. `None` is the whole tree.
    pub subdir: Option<PathBuf>,
}

impl Git {
    /// A remote of which all history and the whole tree are taken, and nothing beside.
    pub fn plain(remote: impl Into<String>, credentials: Credentials) -> Self {
        let (submodules, lfs) = (Submodules::Off, Lfs::Fail);
        Self { remote: remote.into(), credentials, submodules, lfs, depth: None, subdir: None }
    }
}

words! {
    /// What is done about repositories within the repository.
    Submodules {
        /// Their folders stay empty.
        Off = "off",
        /// They are fetched.
        On = "on",
        /// They are fetched, and theirs too.
        Recursive = "recursive",
    }
}

words! {
    /// What is done about files that are kept in Git LFS.
    Lfs {
        /// A tree that has some is refused.
        Fail = "fail",
        /// They are fetched.
        Pull = "pull",
        /// Their pointers are deployed as they are.
        Ignore = "ignore",
    }
}

words! {
    /// What is done about files that a filter of the repository would change, other than Git LFS.
    UnknownFilters {
        /// A tree that has some is refused.
        Fail = "fail",
        /// They are deployed as they are stored.
        Ignore = "ignore",
    }
}

/// How releases are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// How many successful releases stay, the live one among them.
    pub good: u32,
    /// How many broken trees stay, for a look.
    pub failed: u32,
    /// What all releases share, by links into `shared/`.
    pub shared: Vec<SharedPath>,
    /// What becomes of a release that does not come up.
    pub rollback: Rollback,
}

/// What holds where nobody says otherwise.
impl Default for Keeping {
    fn default() -> Self {
        Self { good: 5, failed: 1, shared: Vec::new(), rollback: Rollback::Auto }
    }
}

/// A path that all releases share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPath {
    /// Within the tree; relative, without `..`.
    pub path: PathBuf,
    /// Whether it is an error that `shared/` does not have it.
    pub required: bool,
    /// A path of the tree that is copied to `shared/` when it is not there yet.
    pub seed: Option<PathBuf>,
    /// The mode it gets when it is made.
    pub mode: Option<u32>,
}

words! {
    /// What becomes of a release whose `activate` or `health` failed.
    Rollback {
        /// What was live before goes live again.
        Auto = "auto",
        /// It stays, and people see to it.
        Off = "off",
    }
}

/// What we show at the remote's door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing of ours: the ssh configuration of the hook's user, or no credentials over HTTPS.
    Ambient,
    /// Basic authentication over HTTPS.
    Token {
        /// User name that goes with the token.
        username: String,
        /// The token.
        token: SecretRef,
    },
    /// A key of its own for ssh.
    SshKey {
        /// The private key's file.
        key: PathBuf,
        /// The file of known host keys; `None` leaves it to the user's ssh configuration.
        known_hosts: Option<PathBuf>,
    },
}

words! {
    /// What happens to local edits of tracked files in a working tree.
    Dirty {
        /// They are saved as a patch in the run's folder, then overwritten.
        Save = "save",
        /// The run fails and changes nothing.
        Fail = "fail",
        /// They are overwritten.
        Overwrite = "overwrite",
    }
}

words! {
    /// What happens to files in a working tree that git does not know.
    Clean {
        /// They stay.
        None = "none",
        /// They are removed, unless they are ignored.
        Untracked = "untracked",
    }
}
