//! Finds secrets: those that senders prove themselves with when the file is loaded, the others when they are needed.
//!
//! Invariant: a secret that is unset, missing or empty is an error, never an empty key; no message shows a value.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    hooks::{
        environment::Environment,
        keys,
        read::{Check, Field},
        yaml::Value,
    },
    model::secret::{FoundSecret, Secret, SecretRef},
    process::owned_file::{self, NotRead},
};

/// A value shorter than this cannot be masked in a log without making the log unreadable, and is easily guessed.
const LENGTH_GOOD: usize = 6;
/// No key, token or password is longer.
const BYTES_MAX: u64 = 64 << 10;

/// Secrets that stand in hooks.yaml itself, by their path of keys.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenSecrets(BTreeMap<String, Secret>);

/// A secret that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// The path of keys at which it is named.
    pub key: String,
    /// Where it is to be found.
    pub origin: SecretRef,
}

/// Why a secret cannot be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("environment variable `{0}` is not set")]
    Unset(String),
    /// It is there, and there is nothing in it.
    #[error("{0} is empty")]
    Empty(SecretRef),
    /// Its file cannot be read.
    #[error("{origin} cannot be read: {why}")]
    Unreadable {
        /// What names the file.
        origin: SecretRef,
        /// What the system says.
        why: NotRead,
    },
    /// Systemd gave this process no credentials.
    #[error("systemd credential `{0}` cannot be found: $CREDENTIALS_DIRECTORY is not set")]
    NoCredentials(String),
    /// It stood in hooks.yaml once and does no longer.
    #[error("`{0}` is no longer in hooks.yaml")]
    NotWritten(String),
}

impl SecretError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unset(_) => "unset-variable",
            Self::Empty(_) => "empty-secret",
            Self::Unreadable { .. } => "unreadable-secret",
            Self::NoCredentials(_) => "no-credentials",
            Self::NotWritten(_) => "not-written",
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Unset(_) => "set it where the daemon starts; to check with the daemon's, use `--env-file FILE`",
            Self::Empty(_) => "an empty key would let anybody in: put the secret there",
            Self::Unreadable { .. } => "it must be a file of UTF-8 text up to 64KiB that this user may read",
            Self::NoCredentials(_) => "name it in the unit by `LoadCredential=`, and start the daemon by systemd",
            Self::NotWritten(_) => "write it again, or name an environment variable or a file",
        }
    }
}

impl WrittenSecrets {
    /// Looks a secret up where its reference points.
    pub(super) fn find(&self, secret: &SecretRef, environment: &Environment) -> Result<Secret, SecretError> {
        let value = match secret {
            SecretRef::Env(name) => {
                environment.variable(name).ok_or_else(|| SecretError::Unset(name.clone()))?.to_owned()
            }
            SecretRef::File(path) => read_file(path, secret)?,
            SecretRef::Credential(name) => {
                let folder = environment.credentials_directory();
                let folder = folder.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                read_file(&folder.join(name), secret)?
            }
            SecretRef::Written(key) => {
                return self.0.get(key).cloned().ok_or_else(|| SecretError::NotWritten(key.clone()));
            }
        };
        Secret::new(value).ok_or_else(|| SecretError::Empty(secret.clone()))
    }
}

fn read_file(path: &Path, origin: &SecretRef) -> Result<String, SecretError> {
    let read = owned_file::read_text(path, BYTES_MAX);
    let text = read.map_err(|why| SecretError::Unreadable { origin: origin.clone(), why })?;
    let trimmed = text.strip_suffix('\n').map(|it| it.strip_suffix('\r').unwrap_or(it));
    Ok(trimmed.unwrap_or(&text).to_owned())
}

/// One secret, looked up, so that a missing one is known at the start.
pub(super) fn one(field: &Field, check: &mut Check) -> Option<FoundSecret> {
    find(field, check, false)
}

/// One secret. `is_for_later`: it is looked up again when it is needed; so where another user says what is in its file,
/// that user can keep a run from it, and not the whole file from being taken.
fn find(field: &Field, check: &mut Check, is_for_later: bool) -> Option<FoundSecret> {
    let origin = match &field.node.value {
        Value::Text(text) => written(field, text, check)?,
        Value::Map(_) => reference(field, check)?,
        Value::Null | Value::List(_) => {
            let help = "write `{env: NAME}`, `{file: path}` or `{credential: name}`";
            field.refuse(check, "no-secret", "names no secret", help);
            return None;
        }
    };
    let named = NamedSecret { key: field.path.clone(), origin: origin.clone() };
    if !check.named.contains(&named) {
        check.named.push(named);
    }
    if !check.looks_up_secrets {
        let value = Secret::new("not looked up".into())?;
        return Some(FoundSecret { origin, value });
    }
    match check.written.find(&origin, check.environment) {
        Ok(value) => {
            if value.expose().len() < LENGTH_GOOD {
                let message = format!("the secret of `{}` is shorter than {LENGTH_GOOD} bytes", field.path);
                check.warn(field.place(), "short-secret", message, "make one with `openssl rand -hex 32`");
            }
            Some(FoundSecret { origin, value })
        }
        Err(err @ SecretError::Unreadable { why: NotRead::Anothers { .. }, .. }) if is_for_later => {
            check.warn(field.place(), err.code(), format_args!("`{}`: {err}", field.path), err.help());
            Secret::new("not looked up".into()).map(|value| FoundSecret { origin, value })
        }
        Err(err) => {
            check.error(field.place(), err.code(), format_args!("`{}`: {err}", field.path), err.help());
            None
        }
    }
}

/// Whether a secret is as it must be. One that was not looked up is taken to be.
pub(super) fn fits(found: &FoundSecret, check: &Check, is_good: impl FnOnce(&str) -> bool) -> bool {
    !check.looks_up_secrets || is_good(found.value.expose())
}

/// The reference to one secret that has been looked up.
pub(super) fn one_reference(field: &Field, check: &mut Check) -> Option<SecretRef> {
    find(field, check, true).map(|it| it.origin)
}

/// One or more secrets, any of which will do: rotation.
pub(super) fn several(field: &Field, check: &mut Check) -> Option<Vec<FoundSecret>> {
    let items = match &field.node.value {
        Value::Null => return one(field, check).map(|it| vec![it]),
        Value::Text(_) | Value::List(_) | Value::Map(_) => field.items(check)?,
    };
    if items.is_empty() {
        field.refuse(check, "empty-secret", "is an empty list of secrets", "name at least one");
        return None;
    }
    let found: Vec<FoundSecret> = items.iter().filter_map(|it| one(it, check)).collect();
    (found.len() == items.len()).then_some(found)
}

/// A secret that stands in hooks.yaml itself: allowed, and worth a warning.
fn written(field: &Field, text: &str, check: &mut Check) -> Option<SecretRef> {
    check.hide(field.place());
    let Some(secret) = Secret::new(text.to_owned()) else {
        field.refuse(check, "empty-secret", "is empty", "an empty key would let anybody in: put the secret there");
        return None;
    };
    let help = "name an environment variable or a file instead: `{env: NAME}`, `{file: path}`";
    check.warn(field.place(), "plain-secret", format_args!("`{}` is written in plain text", field.path), help);
    // One warning about the file's mode is enough, however many secrets are in it.
    if std::mem::take(&mut check.readable_by_others) {
        let message = "others than its owner may read this file, and a secret stands in it";
        check.warn(field.place(), "readable-secret", message, "run `chmod 600` on it");
    }
    check.written.0.insert(field.path.clone(), secret);
    Some(SecretRef::Written(field.path.clone()))
}

fn reference(field: &Field, check: &mut Check) -> Option<SecretRef> {
    let section = field.section(check, keys::SECRET)?;
    let [only] = section.fields.as_slice() else {
        let help = "write exactly one of `env`, `file`, `credential`; several secrets are a list";
        field.refuse(check, "no-secret", "must name one place", help);
        return None;
    };
    match only.key {
        "env" => Some(SecretRef::Env(only.text(check)?.to_owned())),
        "file" => only.path(check).map(SecretRef::File),
        "credential" => {
            let name = only.text(check)?;
            if PathBuf::from(name).file_name() != Some(name.as_ref()) {
                only.refuse(
                    check,
                    "bad-name",
                    "must be a name without `/`",
                    "the name that `LoadCredential=` gives it",
                );
                return None;
            }
            Some(SecretRef::Credential(name.to_owned()))
        }
        // Already reported as unknown.
        _ => None,
    }
}
