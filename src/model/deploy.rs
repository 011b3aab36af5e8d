//! Where and how the code of a hook lands.
//!
//! Invariant: a strategy carries exactly the settings that mean something for it.

use std::path::PathBuf;

use crate::model::secret::SecretRef;

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
            Self::None { .. } => "none",
        }
    }

    /// Where the commit comes from, if one is fetched at all.
    pub fn git(&self) -> Option<&Git> {
        match self {
            Self::Checkout { git } | Self::InPlace { git, .. } => Some(git),
            Self::None { .. } => None,
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

/// What happens to local edits of tracked files in a working tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// They are saved as a patch in the run's folder, then overwritten.
    Save,
    /// The run fails and changes nothing.
    Fail,
    /// They are overwritten.
    Overwrite,
}

/// What happens to files in a working tree that git does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clean {
    /// They stay.
    None,
    /// They are removed, unless they are ignored.
    Untracked,
}
