//! Where and how the code of a hook lands.
//!
//! Invariant: a strategy carries exactly the settings that mean something for it.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use crate::model::{
    remote::{Remote, WrittenRemote},
    run::RunStep,
    secret::SecretRef,
    word::words,
};

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

/// Where a commit comes from, how we prove ourselves there, and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// Where it is fetched from.
    pub remote: WrittenRemote,
    /// How we prove ourselves, at most once for each protocol and host. None at all is the ssh configuration of the
    /// hook's user, and nothing over HTTPS.
    pub credentials: Vec<Credential>,
    /// What is done about repositories within the repository.
    pub submodules: Submodules,
    /// What is done about files that are kept in Git LFS.
    pub lfs: Lfs,
    /// How much history is fetched.
    pub depth: Depth,
    /// Whether tags are fetched into a working tree, so that `git describe` is right there.
    pub tags: bool,
    /// Whether fresh trees leave out what is marked `export-ignore`, and expand what is marked `export-subst`.
    pub export_ignore: bool,
    /// What is done about files with a `filter=` other than LFS.
    pub filters: UnknownFilters,
    /// The bits that files and folders are made without.
    pub umask: u32,
    /// The only folder of the tree that is deployed; relative, without `..`. `None` is the whole tree.
    pub subdir: Option<PathBuf>,
}

/// What files and folders are made without where nobody says otherwise: others and the group may not write.
pub const UMASK_DEFAULT: u32 = 0o022;

impl Git {
    /// A remote of which everything is taken as it is where hooks.yaml says nothing else, without credentials.
    pub fn plain(remote: WrittenRemote) -> Self {
        Self {
            remote,
            credentials: Vec::new(),
            submodules: Submodules::Off,
            lfs: Lfs::Fail,
            depth: Depth::Auto,
            tags: true,
            export_ignore: false,
            filters: UnknownFilters::Fail,
            umask: UMASK_DEFAULT,
            subdir: None,
        }
    }

    /// What is shown at this place: the remote itself, or one of its submodules.
    pub fn credential_for(&self, there: &Remote) -> Option<&Credential> {
        self.credentials.iter().find(|it| it.opens(there, self.remote.parts()))
    }

    /// What is shown at the remote itself.
    pub fn own_credential(&self) -> Option<&Credential> {
        self.credential_for(self.remote.parts())
    }
}

/// How much history is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As little as the questions need for a fresh tree, all of it for a working tree.
    Auto,
    /// All of it.
    All,
    /// So many commits, and more where a question needs them.
    Commits(NonZeroU32),
}

words! {
    /// What is done about files with a `filter=` of git that is not LFS.
    UnknownFilters {
        /// The run fails before it changes anything.
        Fail = "fail",
        /// They are deployed as they are in the repository.
        Ignore = "ignore",
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

/// A way to prove ourselves, and the place where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The only host that sees it, as [`Remote::host`] has it. `None`: it is for the remote itself, and for what has
    /// the same protocol, host and port.
    pub host: Option<String>,
    /// What is shown there.
    pub proof: RemoteProof,
}

impl Credential {
    /// Whether it is shown at `there` by a hook that fetches from `home`: a token over HTTP and a key over ssh.
    pub fn opens(&self, there: &Remote, home: &Remote) -> bool {
        let is_its_host = match &self.host {
            Some(host) => there.host().as_ref() == Some(host),
            None => there.has_door_of(home),
        };
        is_its_host && self.proof.suits(there)
    }
}

/// How we prove ourselves to a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteProof {
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

impl RemoteProof {
    /// Whether it can be shown over the protocol of this remote.
    pub fn suits(&self, remote: &Remote) -> bool {
        match (self, remote) {
            (Self::Token { .. }, Remote::Http { .. }) | (Self::SshKey { .. }, Remote::Ssh { .. }) => true,
            (Self::Token { .. }, Remote::Ssh { .. } | Remote::Local(_))
            | (Self::SshKey { .. }, Remote::Http { .. } | Remote::Local(_)) => false,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{Credential, Git, RemoteProof};
    use crate::model::{
        remote::{Remote, WrittenRemote},
        secret::SecretRef,
    };

    #[test]
    fn a_credential_is_shown_over_its_protocol_to_its_host_alone() {
        let token = |host: Option<&str>, name: &str| Credential {
            host: host.map(str::to_owned),
            proof: RemoteProof::Token { username: "x".into(), token: SecretRef::Env(name.into()) },
        };
        let key = Credential {
            host: Some("git.example.org".into()),
            proof: RemoteProof::SshKey { key: "/k".into(), known_hosts: None },
        };
        let home = WrittenRemote::parse("https://github.com/acme/site.git").expect("a remote");
        let git = Git {
            credentials: vec![token(None, "OWN"), token(Some("git.example.org"), "OTHER"), key.clone()],
            ..Git::plain(home)
        };
        let shown = |there: &str| git.credential_for(&Remote::parse(there).expect(there)).cloned();
        assert_eq!(git.own_credential(), Some(&git.credentials[0]));
        assert_eq!(shown("https://GitHub.com/acme/theme"), Some(token(None, "OWN")));
        assert_eq!(shown("https://git.example.org/theme"), Some(token(Some("git.example.org"), "OTHER")));
        assert_eq!(shown("git@git.example.org:theme"), Some(key));
        for stranger in
            ["http://github.com/acme/x", "https://github.com:8443/x", "git@github.com:x", "https://a/x", "/x"]
        {
            assert_eq!(shown(stranger), None, "{stranger}");
        }
    }
}
