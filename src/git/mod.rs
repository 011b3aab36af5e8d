//! Git work: brings a commit from its remote into a mirror, and out of the mirror into a tree.
//!
//! Invariant: it is done by a child of the keeper, as the hook's user, one order per process. So it may block, and it
//! may be killed at any instruction: the next order finds its way from whatever is left.

mod order;

mod scope;

mod remote;

mod shell;

mod library;

mod https;

mod ssh;

mod known;

mod progress;

mod mirror;

mod packs;

mod fetch;

mod network;

mod ancestry;

mod filter;

mod present;

mod tree;

mod attributes;

mod listing;

mod config;

mod modules;

mod submodules;

mod lfs;

mod put;

mod blobs;

mod write;

mod fresh;

mod stage;

mod in_place;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use rustix::{fs::Mode, process::umask};
use thiserror::Error;

use crate::model::{
    deploy::{Clean, Dirty},
    job::Target,
    push::{CommitFacts, CommitId, RefName},
    run::FailureClass,
    secret::Secret,
};

pub use ancestry::{Against, Verdict};
pub use filter::Filter;
pub use known::{HostKey, host_key, judge_key};
pub use order::{decode_fetched, decode_staged, encode_order};
pub use scope::Scope;

/// The hidden subcommand: reads one order from standard input, does it, and writes one answer to standard output.
///
/// What people should read goes to standard error, line by line.
pub fn serve() -> ExitCode {
    // Trees are written with modes of their own; this keeps group and others from writing to them.
    umask(Mode::from_raw_mode(0o022));
    library::limit_memory();
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text).map_err(cannot("read the order"));
    let answer = match read.and_then(|_| order::decode(&text)) {
        Ok(Order::Fetch(order)) => order::encode_fetched(&fetch::fetch(&order)),
        Ok(Order::Stage(order)) => order::encode_staged(&stage::stage(&order)),
        Err(failure) => order::encode_failure(&failure),
    };
    let mut out = io::stdout();
    match out.write_all(answer.text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if answer.is_good => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

/// What a child is to do.
#[derive(Clone, Debug)]
pub enum Order {
    /// Bring a commit into the mirror.
    Fetch(Fetch),
    /// Bring a commit out of the mirror.
    Stage(Stage),
}

/// How long a remote may say nothing. Servers that pack for long send signs of life.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Bring a commit into the mirror.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The bare mirror of the remote; made when it is not there. Its lock is the file beside it.
    pub mirror: PathBuf,
    /// `https://`, `http://`, `ssh://`, scp-style, `file://` or an absolute path.
    pub remote: String,
    /// What we show at the remote's door.
    pub door: Door,
    /// Which commit.
    pub target: Target,
    /// What else is wanted of it.
    pub scope: Scope,
    /// What it is held against.
    pub against: Against,
    /// How long the remote may say nothing.
    pub silence: Duration,
}

/// What we show at the remote's door.
#[derive(Clone, Debug)]
pub enum Door {
    /// Nothing of ours; ssh finds its own way through the user's configuration.
    Open,
    /// Basic authentication over HTTPS.
    Token {
        /// The user name that goes with the token.
        username: String,
        /// The token.
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

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The commit itself, also where the target named an annotated tag.
    pub commit: CommitId,
    /// The branch or tag it was asked for by, if any.
    pub ref_name: Option<RefName>,
    /// Who wrote it, and what they say it does.
    pub facts: CommitFacts,
    /// Whether it may go live.
    pub verdict: Verdict,
}

/// Bring a commit out of the mirror.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The mirror a fetch has filled.
    pub mirror: PathBuf,
    /// Whose mirror that is. It becomes the `origin` of a working tree.
    pub remote: String,
    /// The commit that fetch found.
    pub commit: CommitId,
    /// Where its tree goes.
    pub place: Place,
    /// What is wanted of it.
    pub scope: Scope,
    /// What was live before; the list of changed files starts there.
    pub previous: Option<CommitId>,
    /// The file that the NUL-separated list of changed files is written to.
    pub changed_files: PathBuf,
}

/// Where a tree goes.
#[derive(Clone, Debug)]
pub enum Place {
    /// Into a new folder, without git's own data.
    Fresh {
        /// The folder; its parent is there.
        tree: PathBuf,
    },
    /// Into a working tree that stays, and that people may look at with git.
    InPlace {
        /// The working tree.
        path: PathBuf,
        /// The branch that is to be checked out, or the tag it is detached at.
        ref_name: Option<RefName>,
        /// What happens to local edits of tracked files.
        dirty: Dirty,
        /// What happens to files that git does not know.
        clean: Clean,
        /// Where local edits are saved; untracked files that were in the way go to the folder `<patch>.files`.
        patch: PathBuf,
    },
}

/// What a stage did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Where the list of changed files starts: what was live before, else what the working tree held before.
    pub previous: Option<CommitId>,
    /// Whether there were local edits, saved as a patch or as files beside it.
    pub patch_saved: bool,
    /// How many files differ from `previous`; 0 if there is none.
    pub changed: u64,
    /// How many commits `previous` did not have; `None` if there is no `previous` or the mirror does not know it.
    pub commit_count: Option<u64>,
}

/// Why git work failed, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct GitFailure {
    /// Whether trying again may help.
    pub class: FailureClass,
    /// One sentence for people, without a full stop and without credentials.
    pub reason: String,
}

impl GitFailure {
    /// The remote could not be reached, or broke off.
    fn fetch(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Fetch, reason: reason.into() }
    }

    /// Another try cannot end differently.
    fn permanent(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Permanent, reason: reason.into() }
    }

    /// Anything else.
    fn other(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Other, reason: reason.into() }
    }
}

/// `.map_err(cannot("read the index"))`: the failure of something of ours, on this machine.
fn cannot<E: Cause>(what: impl Into<String>) -> impl FnOnce(E) -> GitFailure {
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
