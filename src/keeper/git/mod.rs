//! Git work, done in a child of the keeper that has dropped to the hook's user.
//!
//! Invariant: an order goes in as JSON, an answer comes out as JSON; nothing of git runs in the keeper itself.

use std::{path::PathBuf, process::ExitCode};

use crate::model::{
    deploy::{Clean, Dirty},
    job::Target,
    push::{CommitFacts, CommitId, RefName},
    run::FailureClass,
    secret::Secret,
};

/// What the child is to do.
#[derive(Clone, Debug)]
pub enum Order {
    /// Bring the commit into the mirror.
    Fetch(Fetch),
    /// Write the tree.
    Stage(Stage),
}

/// Bring the commit into the mirror.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The bare mirror; made if there is none.
    pub mirror: PathBuf,
    /// Where the commit comes from.
    pub remote: String,
    /// What is shown there.
    pub door: Door,
    /// Which commit.
    pub target: Target,
}

/// What is shown at the remote's door, secrets and all.
#[derive(Clone, Debug)]
pub enum Door {
    /// Nothing of ours.
    Open,
    /// Basic authentication over HTTPS.
    Token {
        /// User name that goes with the token.
        username: String,
        /// The token.
        token: Secret,
    },
    /// A key of its own for ssh.
    SshKey {
        /// The private key's file.
        key: PathBuf,
        /// The file of known host keys.
        known_hosts: Option<PathBuf>,
    },
}

/// What a fetch found.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The commit to deploy.
    pub commit: CommitId,
    /// The ref it was found at.
    pub ref_name: Option<RefName>,
    /// What the commit says of itself.
    pub facts: CommitFacts,
}

/// Write the tree.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The mirror that has the commit.
    pub mirror: PathBuf,
    /// The commit.
    pub commit: CommitId,
    /// Where its tree goes.
    pub place: Place,
    /// What was live before.
    pub previous: Option<CommitId>,
    /// Where the NUL-separated list of changed files goes.
    pub changed_files: PathBuf,
}

/// Where a tree goes.
#[derive(Clone, Debug)]
pub enum Place {
    /// Into a folder of its own.
    Fresh {
        /// That folder.
        tree: PathBuf,
    },
    /// Over a working tree at a fixed path.
    InPlace {
        /// That path.
        path: PathBuf,
        /// Its remote.
        remote: String,
        /// The branch people see there.
        ref_name: Option<RefName>,
        /// What happens to local edits.
        dirty: Dirty,
        /// What happens to unknown files.
        clean: Clean,
        /// Where saved local edits go.
        patch: PathBuf,
    },
}

/// What staging found.
#[derive(Clone, Debug)]
pub struct Staged {
    /// What the working tree held before.
    pub previous: Option<CommitId>,
    /// Whether local edits were saved.
    pub patch_saved: bool,
    /// How many files changed.
    pub changed: u64,
    /// How many commits lie between, where that can be said.
    pub commit_count: Option<u64>,
}

/// Why git work failed.
#[derive(Clone, Debug)]
pub struct GitFailure {
    /// Whether trying again may help.
    pub class: FailureClass,
    /// One sentence for people.
    pub reason: String,
}

/// The order as JSON.
pub fn encode_order(order: &Order) -> String {
    format!("{order:?}")
}

/// The answer to [`Order::Fetch`].
pub fn decode_fetched(_answer: &[u8]) -> Result<Fetched, GitFailure> {
    Err(GitFailure { class: FailureClass::Permanent, reason: "this build has no git".into() })
}

/// The answer to [`Order::Stage`].
pub fn decode_staged(_answer: &[u8]) -> Result<Staged, GitFailure> {
    Err(GitFailure { class: FailureClass::Permanent, reason: "this build has no git".into() })
}

/// The hidden subcommand.
pub fn serve() -> ExitCode {
    ExitCode::FAILURE
}
