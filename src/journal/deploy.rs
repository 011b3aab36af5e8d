//! How the way a hook deploys is written down within a job.
//!
//! Invariant: what was written reads back unchanged, what an earlier version wrote means what it meant then, and a
//! secret is written as the place it is found at.

use std::{num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    journal::{job::known, letter::StoredSecretRef},
    model::{
        deploy::{
            Clean, Credential, Depth, Dirty, Git, Keeping, Lfs, RemoteProof, Rollback, SharedPath, Strategy,
            Submodules, UMASK_DEFAULT, UnknownFilters,
        },
        remote::WrittenRemote,
    },
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

/// A [`Git`] on disk. Version 1 of a job had no more than remote, one way to prove ourselves, `submodules`, `lfs`,
/// `depth` and `subdir`.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredGit {
    remote: String,
    credentials: StoredCredentials,
    submodules: String,
    lfs: String,
    depth: Option<StoredDepth>,
    #[serde(default = "StoredGit::tags")]
    tags: bool,
    #[serde(default)]
    export_ignore: bool,
    #[serde(default = "StoredGit::filters")]
    filters: String,
    #[serde(default = "StoredGit::umask")]
    umask: u32,
    subdir: Option<PathBuf>,
}

/// What held before it could be said.
impl StoredGit {
    fn tags() -> bool {
        true
    }

    fn filters() -> String {
        UnknownFilters::Fail.word().to_owned()
    }

    fn umask() -> u32 {
        UMASK_DEFAULT
    }
}

/// A [`Depth`] on disk. Version 1 wrote a number, or nothing for all.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredDepth {
    Commits(NonZeroU32),
    Word(String),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredCredentials {
    List(Vec<StoredCredential>),
    /// Of version 1.
    One(StoredOneCredential),
}

#[derive(Serialize, Deserialize)]
struct StoredCredential {
    host: Option<String>,
    proof: StoredProof,
}

/// A [`RemoteProof`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredProof {
    Token { username: String, token: StoredSecretRef },
    SshKey { key: PathBuf, known_hosts: Option<PathBuf> },
}

/// How version 1 wrote what a hook proved itself by, always for its own remote.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredOneCredential {
    Ambient,
    #[serde(untagged)]
    Proof(StoredProof),
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
        Self {
            remote: git.remote.as_str().to_owned(),
            credentials: StoredCredentials::List(git.credentials.iter().map(StoredCredential::from).collect()),
            submodules: git.submodules.word().into(),
            lfs: git.lfs.word().into(),
            depth: Some(git.depth.into()),
            tags: git.tags,
            export_ignore: git.export_ignore,
            filters: git.filters.word().into(),
            umask: git.umask,
            subdir: git.subdir.clone(),
        }
    }
}

impl TryFrom<StoredGit> for Git {
    type Error = String;

    fn try_from(stored: StoredGit) -> Result<Self, String> {
        let credentials = match stored.credentials {
            StoredCredentials::List(list) => list.into_iter().map(Credential::from).collect(),
            StoredCredentials::One(StoredOneCredential::Ambient) => Vec::new(),
            StoredCredentials::One(StoredOneCredential::Proof(proof)) => {
                vec![Credential { host: None, proof: proof.into() }]
            }
        };
        // The text is not quoted, as it may hold a password.
        let remote = WrittenRemote::parse(stored.remote);
        Ok(Self {
            remote: remote.map_err(|why| format!("its `remote` cannot be fetched from: {why}"))?,
            credentials,
            submodules: known(&stored.submodules, Submodules::parse)?,
            lfs: known(&stored.lfs, Lfs::parse)?,
            depth: stored.depth.map_or(Ok(Depth::All), Depth::try_from)?,
            tags: stored.tags,
            export_ignore: stored.export_ignore,
            filters: known(&stored.filters, UnknownFilters::parse)?,
            umask: stored.umask,
            subdir: stored.subdir,
        })
    }
}

impl From<Depth> for StoredDepth {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Auto => Self::Word("auto".to_owned()),
            Depth::All => Self::Word("all".to_owned()),
            Depth::Commits(number) => Self::Commits(number),
        }
    }
}

impl TryFrom<StoredDepth> for Depth {
    type Error = String;

    fn try_from(stored: StoredDepth) -> Result<Self, String> {
        let of_word = |word: &str| match word {
            "auto" => Some(Self::Auto),
            "all" => Some(Self::All),
            _ => None,
        };
        match stored {
            StoredDepth::Commits(number) => Ok(Self::Commits(number)),
            StoredDepth::Word(word) => known(&word, of_word),
        }
    }
}

impl From<&Credential> for StoredCredential {
    fn from(credential: &Credential) -> Self {
        let proof = match &credential.proof {
            RemoteProof::Token { username, token } => {
                StoredProof::Token { username: username.clone(), token: token.into() }
            }
            RemoteProof::SshKey { key, known_hosts } => {
                StoredProof::SshKey { key: key.clone(), known_hosts: known_hosts.clone() }
            }
        };
        Self { host: credential.host.clone(), proof }
    }
}

impl From<StoredCredential> for Credential {
    fn from(stored: StoredCredential) -> Self {
        Self { host: stored.host, proof: stored.proof.into() }
    }
}

impl From<StoredProof> for RemoteProof {
    fn from(stored: StoredProof) -> Self {
        match stored {
            StoredProof::Token { username, token } => Self::Token { username, token: token.into() },
            StoredProof::SshKey { key, known_hosts } => Self::SshKey { key, known_hosts },
        }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{StoredGit, StoredStrategy};
    use crate::model::{
        deploy::{Credential, Depth, Git, RemoteProof, Strategy, UnknownFilters},
        secret::SecretRef,
    };

    /// A strategy as version 1 of a job had it.
    fn old(remote: &str, credentials: &Value, depth: &Value) -> Result<Git, String> {
        let git = json!({
            "remote": remote, "credentials": credentials, "submodules": "on", "lfs": "pull", "depth": depth,
            "subdir": null,
        });
        let stored: StoredStrategy =
            serde_json::from_value(json!({ "checkout": { "git": git } })).expect("the old form");
        Strategy::try_from(stored).map(|it| it.git().expect("git").clone())
    }

    const SSH: &str = "git@example.org:a/b";

    #[test]
    fn a_strategy_of_an_earlier_version_means_what_it_meant() {
        let git = old(SSH, &json!("ambient"), &json!(null)).expect("readable");
        assert_eq!((git.remote.as_str(), git.depth, git.credentials.len()), (SSH, Depth::All, 0));
        assert_eq!((git.tags, git.export_ignore, git.filters, git.umask), (true, false, UnknownFilters::Fail, 0o022));
        let depth = old(SSH, &json!("ambient"), &json!(7)).expect("readable").depth;
        assert!(matches!(depth, Depth::Commits(number) if number.get() == 7), "{depth:?}");
    }

    #[test]
    fn the_one_credential_of_an_earlier_version_is_for_its_remote() {
        let one = |remote: &str, stored: &Value| old(remote, stored, &json!(null)).expect("readable");
        let git = one("https://example.org/a", &json!({"token": {"username": "x", "token": {"env": "T"}}}));
        let proof = RemoteProof::Token { username: "x".into(), token: SecretRef::Env("T".into()) };
        assert_eq!(git.credentials, [Credential { host: None, proof }]);
        assert_eq!(git.own_credential(), git.credentials.first());
        let git = one(SSH, &json!({"ssh_key": {"key": "/k", "known_hosts": "/h"}}));
        let proof = RemoteProof::SshKey { key: "/k".into(), known_hosts: Some("/h".into()) };
        assert_eq!(git.credentials, [Credential { host: None, proof }]);
    }

    #[test]
    fn every_depth_reads_back_as_it_was_written() {
        for depth in [Depth::Auto, Depth::All, Depth::Commits(std::num::NonZeroU32::MIN)] {
            let git = Git { depth, ..old(SSH, &json!("ambient"), &json!(null)).expect("readable") };
            let text = serde_json::to_string(&StoredGit::from(&git)).expect("JSON");
            let read: StoredGit = serde_json::from_str(&text).expect("readable");
            assert_eq!(Git::try_from(read), Ok(git));
        }
    }

    #[test]
    fn a_remote_that_cannot_be_fetched_from_is_unreadable_and_not_shown() {
        let err = old("ext::sh -c hunter2", &json!("ambient"), &json!(null)).expect_err("no remote");
        assert!(err.contains("only https, http, ssh and local") && !err.contains("hunter2"), "{err}");
    }
}
