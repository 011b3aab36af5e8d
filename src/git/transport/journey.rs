//! Where a fetch goes, what is shown there, and what went wrong on the way.
//!
//! Invariant: what is shown is for the protocol and the host of the remote that sees it, and for no other.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::git::{GitFailure, Login, LoginProof, progress::Meter, remote::Remote};
use crate::model::{secret::Secret, size::Size};

/// Who names a remote.
#[derive(Clone, Debug)]
pub(in crate::git) enum NamedBy {
    /// The hook, or a person.
    Hook,
    /// The `.gitmodules` of another repository, which the hook's remote led to.
    Gitmodules {
        /// The remote that the hook names.
        hooks_remote: Remote,
    },
}

/// Where a fetch goes, for the transports that libgit2 makes on the way.
#[derive(Clone)]
pub(in crate::git) struct Journey {
    pub(in crate::git) remote: Remote,
    /// What is shown there; `None`: nothing of ours, and ssh goes by the user's configuration.
    pub(in crate::git) proof: Option<LoginProof>,
    pub(in crate::git) named_by: NamedBy,
    /// Whether the hook names it, or it is where what the hook names is; another one may not be in a private network.
    pub(in crate::git) is_vouched_for: bool,
    /// How long the far side may say nothing.
    pub(in crate::git) silence: Duration,
    pub(in crate::git) trouble: Trouble,
    /// The repository whose objects git's own `index-pack` adds to; `None` leaves that to libgit2.
    pub(in crate::git) indexed_into: Option<PathBuf>,
    /// What has come in.
    pub(in crate::git) meter: Meter,
}

impl Journey {
    /// The way to a remote, with what may be shown there, and for how long that may say nothing.
    pub(in crate::git) fn new(
        logins: &[Login],
        silence: Duration,
        remote: &Remote,
        (named_by, is_vouched_for): (NamedBy, bool),
    ) -> Self {
        Self {
            remote: remote.clone(),
            proof: choose(logins, None, remote),
            named_by,
            is_vouched_for,
            silence,
            trouble: Trouble::default(),
            indexed_into: None,
            meter: Meter::new(),
        }
    }
}

/// What is shown to a remote. `outer` is the repository that named it, if it is not the hook that did.
pub(in crate::git) fn choose(logins: &[Login], outer: Option<&Remote>, remote: &Remote) -> Option<LoginProof> {
    let is_own = |login: &&Login| match &login.host {
        Some(host) => remote.host().as_ref() == Some(host) && outer.is_none_or(|_| !remote.is_in_the_clear()),
        None => outer.is_none_or(|it| it.has_door_of(remote)),
    };
    let is_fitting = |login: &&Login| match login.proof {
        LoginProof::Token { .. } => matches!(remote, Remote::Http { .. }),
        LoginProof::SshKey { .. } => matches!(remote, Remote::Ssh { .. }),
    };
    let mut fitting = logins.iter().filter(is_fitting);
    // What names the host says more than what names none.
    let named = fitting.clone().find(|it| it.host.is_some() && is_own(it));
    if let Some(login) = named.or_else(|| fitting.find(is_own)) {
        return Some(login.proof.clone());
    }
    // User and password that are written into the outer remote open the same door for what is within.
    let (username, password) = outer.filter(|it| remote.login().is_none() && it.has_door_of(remote))?.login()?;
    let token = Secret::new(password.clone())?;
    Some(LoginProof::Token { username: username.clone(), token })
}

/// A proof as the only credentials for its remote.
pub(in crate::git) fn as_own(proof: Option<LoginProof>) -> Option<Login> {
    proof.map(|proof| Login { host: None, proof })
}

/// What went wrong on the way. libgit2 carries an error's text only, and often replaces it.
#[derive(Clone, Default)]
pub(in crate::git) struct Trouble {
    // A transport is made and called by libgit2, which hands nothing of ours back, so the two ends share this cell.
    // It is never contended: fetch and transport are on one thread.
    first: Arc<Mutex<Option<GitFailure>>>,
}

impl Trouble {
    /// Notes a failure; the first one is the cause of all others.
    pub(in crate::git) fn note(&self, failure: &GitFailure) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| failure.clone());
    }

    pub(in crate::git) fn is_noted(&self) -> bool {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(in crate::git) fn take(&self) -> Option<GitFailure> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a remote may say of its refs, about a million of them: libgit2 keeps them all.
const REFS_BYTES_MAX: usize = 128 << 20;

/// Counts what a remote says of its refs.
pub(in crate::git) struct Advertised(usize);

impl Advertised {
    pub(in crate::git) fn new() -> Self {
        Self(0)
    }

    /// Counts so many bytes more, and fails at the limit.
    pub(in crate::git) fn add(&mut self, length: usize, journey: &Journey) -> io::Result<()> {
        self.0 = self.0.saturating_add(length);
        if self.0 <= REFS_BYTES_MAX {
            return Ok(());
        }
        let limit = Size(REFS_BYTES_MAX as u64);
        let failure =
            GitFailure::permanent(format!("`{}` has more refs than fit into {limit}", journey.remote.shown()));
        journey.trouble.note(&failure);
        Err(io::Error::other(failure.reason))
    }
}
