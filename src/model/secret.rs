//! Secrets: where one is to be found, and the value once it has been.
//!
//! Invariant: a value never prints. What is stored about a secret says where it is, not what it is.

use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// Where a secret is to be found. This may be stored and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable of the daemon.
    Env(String),
    /// A file; one trailing newline is not part of the secret.
    File(PathBuf),
    /// A file in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// Written in hooks.yaml itself, at this path of keys (`hooks.website.secrets.TOKEN`).
    Written(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(out, "environment variable `{name}`"),
            Self::File(path) => write!(out, "file `{}`", path.display()),
            Self::Credential(name) => write!(out, "systemd credential `{name}`"),
            Self::Written(key) => write!(out, "`{key}` of hooks.yaml"),
        }
    }
}

/// The value of a secret. Its `Debug` shows nothing, and it is wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a value; an empty one is no secret.
    pub fn new(value: String) -> Option<Self> {
        (!value.is_empty()).then(|| Self(SecretString::from(value)))
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// A secret together with the place it came from, so that logs can say which of several fitted.
#[derive(Clone, Debug)]
pub struct FoundSecret {
    /// Where it was found.
    pub origin: SecretRef,
    /// What it is.
    pub value: Secret,
}
