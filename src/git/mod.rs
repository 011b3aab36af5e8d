//! Git work: brings a commit from its remote into a mirror, and out of the mirror into a tree.
//!
//! Invariant: it is done by a child of the keeper, as the hook's user, one order per process. So it may block, and it
//! may be killed at any instruction: the next order finds its way from whatever is left.

mod scope;

mod remote;

mod owner;

mod pack_drafts;

mod locks;

mod git_program;

mod progress;

mod transport;

mod known;

mod config;

mod entries;

mod mirror;

mod history;

mod ancestry;

mod filter;

mod tree;

mod modules;

mod submodules;

mod lfs;

mod checkout;

mod in_place;

mod fetch;

mod bring;

mod look;

mod stage;

pub mod reading;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use rustix::{fs::Mode, process::umask};
use serde::{Deserialize, Serialize};

pub use self::{
    ancestry::{Against, Verdict},
    filter::Filter,
    known::{HostKey, host_key, judge_key},
    scope::Scope,
};
pub use crate::process::errand::ErrandFailure as GitFailure;
use crate::{
    model::{
        deploy::{Clean, Credential, Dirty, RemoteProof},
        job::Target,
        push::{CommitFacts, CommitId, RefName},
        secret::{Secret, SecretRef},
    },
    process::{errand, shell, text_form},
};

/// The hidden subcommand: carries out one [`Order`], as an errand.
pub fn serve() -> ExitCode {
    transport::library::limit_memory();
    errand::serve(|order| {
        match &order {
            Order::Fetch(Fetch { scope, .. }) | Order::Stage(Stage { scope, .. }) => {
                umask(Mode::from_raw_mode(scope.umask));
            }
            Order::Look(_) => (),
        }
        match order {
            Order::Fetch(order) => bring::fetch(&order).map(Answer::Fetched),
            Order::Stage(order) => stage::stage(&order).map(Answer::Staged),
            Order::Look(order) => look::look(&order).map(Answer::Looked),
        }
    })
}

/// Settles what has to be settled before [`standing`] is asked, on whichever thread.
pub fn prepare_to_look() -> Result<(), GitFailure> {
    transport::library::limit_memory();
    transport::library::settle()
}

/// The commit that is checked out in a working tree, if that is a clone of this remote. It is for a child that does
/// nothing else: libgit2 reads what another user may have written.
pub fn standing(path: &Path, remote: &str) -> Option<CommitId> {
    in_place::standing_commit(path, &remote::parse(remote).ok()?)
}

/// What a child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Bring a commit from its remote.
    Fetch(Fetch),
    /// Write a commit that was brought.
    Stage(Stage),
    /// Ask a remote for its refs.
    Look(Look),
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// What a fetch found.
    Fetched(Fetched),
    /// What a stage did.
    Staged(Staged),
    /// What a look found.
    Looked(Looked),
}

impl Answer {
    /// What a fetch found.
    pub fn fetched(self) -> Result<Fetched, GitFailure> {
        match self {
            Self::Fetched(fetched) => Ok(fetched),
            Self::Staged(_) | Self::Looked(_) => Err(another_order()),
        }
    }

    /// What a stage did.
    pub fn staged(self) -> Result<Staged, GitFailure> {
        match self {
            Self::Staged(staged) => Ok(staged),
            Self::Fetched(_) | Self::Looked(_) => Err(another_order()),
        }
    }

    /// What a look found.
    pub fn looked(self) -> Result<Looked, GitFailure> {
        match self {
            Self::Looked(looked) => Ok(looked),
            Self::Fetched(_) | Self::Staged(_) => Err(another_order()),
        }
    }
}

fn another_order() -> GitFailure {
    GitFailure::other("the git process answered another order")
}

/// How long a remote may say nothing. Servers that pack for long send signs of life.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Bring a commit from its remote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// Where it is brought to.
    pub into: Into,
    /// The folder of the user's mirrors: those that no fetch used for long are removed.
    pub mirrors: PathBuf,
    /// Any way that `model::remote::Remote` knows.
    pub remote: String,
    /// Credentials, each for its protocol and host.
    pub logins: Vec<Login>,
    /// Which commit.
    #[serde(with = "text_form::target")]
    pub target: Target,
    /// What else is wanted of it.
    pub scope: Scope,
    /// What it is held against.
    pub against: Against,
    /// How long the remote may say nothing.
    #[serde(with = "text_form")]
    pub silence: Duration,
}

/// The repository that a commit is brought into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Into {
    /// A bare mirror of the remote; made when it is not there. Its lock is the file beside it.
    Mirror(PathBuf),
    /// The repository of the working tree in this folder; made when the folder is empty.
    WorkTree(PathBuf),
}

/// Credentials for one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    /// The host; `None` is the remote's own.
    pub host: Option<String>,
    /// What is shown there.
    pub proof: LoginProof,
}

/// What is shown to a remote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LoginProof {
    /// Basic authentication over HTTPS.
    Token {
        /// The user name that goes with the token.
        username: String,
        /// The token.
        #[serde(with = "text_form")]
        token: Secret,
    },
    /// A key of its own for ssh.
    SshKey {
        /// The private key's file.
        key: PathBuf,
        /// The file of known host keys; `None` leaves it to the user's ssh configuration.
        known_hosts: Option<PathBuf>,
    },
}

/// The credentials of a hook in its order, each with what is shown; `value` looks a token up.
pub fn logins<E>(
    credentials: &[Credential],
    mut value: impl FnMut(&SecretRef) -> Result<Secret, E>,
) -> Result<Vec<Login>, E> {
    let login = |credential: &Credential| {
        let proof = match &credential.proof {
            RemoteProof::Token { username, token } => {
                LoginProof::Token { username: username.clone(), token: value(token)? }
            }
            RemoteProof::SshKey { key, known_hosts } => {
                LoginProof::SshKey { key: key.clone(), known_hosts: known_hosts.clone() }
            }
        };
        Ok(Login { host: credential.host.clone(), proof })
    };
    credentials.iter().map(login).collect()
}

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The commit itself, also where the target named an annotated tag.
    #[serde(with = "text_form")]
    pub commit: CommitId,
    /// The branch or tag it was asked for by, if any.
    #[serde(with = "text_form")]
    pub ref_name: Option<RefName>,
    /// Who wrote it, and what they say it does.
    #[serde(with = "text_form::commit_facts")]
    pub facts: CommitFacts,
    /// Whether it may go live.
    pub verdict: Verdict,
}

/// Write a commit that was brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Where it came from.
    pub remote: String,
    /// The commit that the fetch found.
    #[serde(with = "text_form")]
    pub commit: CommitId,
    /// Where its tree goes.
    pub place: Place,
    /// What is wanted of it.
    pub scope: Scope,
    /// What was live before; the list of changed files starts there.
    #[serde(with = "text_form")]
    pub previous: Option<CommitId>,
    /// The file that the NUL-separated list of changed files is written to.
    pub changed_files: PathBuf,
}

/// Where a tree goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    /// Into a new folder, without git's own data.
    Fresh {
        /// The mirror that the fetch filled.
        mirror: PathBuf,
        /// The folder; its parent is there.
        tree: PathBuf,
        /// The branch or tag that is deployed.
        #[serde(with = "text_form")]
        ref_name: Option<RefName>,
    },
    /// Into a working tree that stays, and that people may look at with git.
    InPlace {
        /// The working tree, whose own repository the fetch filled.
        path: PathBuf,
        /// The branch that is to be checked out, or the tag it is detached at.
        #[serde(with = "text_form")]
        ref_name: Option<RefName>,
        /// What happens to local edits of tracked files.
        #[serde(with = "text_form")]
        dirty: Dirty,
        /// What happens to files that git does not know.
        #[serde(with = "text_form")]
        clean: Clean,
        /// Where local edits are saved; untracked files that were in the way go to the folder `<patch>.files`.
        patch: PathBuf,
    },
}

/// What a stage did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Where the list of changed files starts: what was live before, else what the working tree held before.
    #[serde(with = "text_form")]
    pub previous: Option<CommitId>,
    /// Whether there were local edits, saved as a patch or as files beside it.
    pub patch_saved: bool,
    /// How many files differ from `previous`; 0 if there is none.
    pub changed: u64,
    /// How many commits `previous` did not have; `None` if there is no `previous` or its history is not at hand.
    pub commit_count: Option<u64>,
}

/// Ask a remote for its refs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    /// Any way that `model::remote::Remote` knows.
    pub remote: String,
    /// Credentials, each for its protocol and host.
    pub logins: Vec<Login>,
    /// Which of its branches and tags are wanted: those that one of these takes.
    pub wanted: Vec<WantedRefs>,
    /// How long the remote may say nothing.
    #[serde(with = "text_form")]
    pub silence: Duration,
}

/// Refs that are wanted of a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WantedRefs {
    /// Branches that match these patterns.
    Branches(Vec<String>),
    /// Tags that match these patterns.
    Tags(Vec<String>),
    /// The branch that HEAD stands for.
    DefaultBranch,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The refs that are wanted.
    pub refs: Vec<LookedRef>,
    /// The branch that HEAD stands for, if the remote says so.
    pub default_branch: Option<String>,
}

/// A ref of a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedRef {
    /// Its name.
    #[serde(with = "text_form")]
    pub name: RefName,
    /// The commit it leads to.
    #[serde(with = "text_form")]
    pub commit: CommitId,
    /// The object of an annotated tag.
    #[serde(with = "text_form")]
    pub tag: Option<CommitId>,
}

/// `.map_err(cannot("read the index"))`: the failure of something of ours, on this machine.
fn cannot<E: Cause>(what: impl std::convert::Into<String>) -> impl FnOnce(E) -> GitFailure {
    let what = what.into();
    move |err| GitFailure::other(format!("cannot {what}: {}", err.why()))
}

/// An error of a library, as a clause for people.
trait Cause {
    /// What went wrong, without the library's own decoration.
    fn why(&self) -> String;
}

impl Cause for git2::Error {
    fn why(&self) -> String {
        progress::plain(self.message().as_bytes())
    }
}

impl Cause for io::Error {
    fn why(&self) -> String {
        self.to_string()
    }
}

impl Cause for rustix::io::Errno {
    fn why(&self) -> String {
        io::Error::from(*self).to_string()
    }
}
