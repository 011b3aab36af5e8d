//! How addresses, notification rules and places of secrets are written down.
//!
//! Invariant: a stored secret says where the secret is, never what it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    journal::Unreadable,
    model::{
        letter::{Address, Channel, Notification, Occasion},
        secret::SecretRef,
    },
};

/// An address as JSON, for the outbox.
pub fn encode_address(address: &Address) -> String {
    let stored = match address {
        Address::Email { to } => StoredAddress::Email { to: to.clone() },
        Address::Slack { webhook } => StoredAddress::Slack { webhook: webhook.into() },
    };
    serde_json::to_string(&stored).expect("an address is strings")
}

/// The address that [`encode_address`] wrote.
pub fn decode_address(text: &str) -> Result<Address, Unreadable> {
    let stored = serde_json::from_str(text).map_err(|err| Unreadable::new("address", err))?;
    Ok(match stored {
        StoredAddress::Email { to } => Address::Email { to },
        StoredAddress::Slack { webhook } => Address::Slack { webhook: webhook.into() },
    })
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredAddress {
    Email { to: String },
    Slack { webhook: StoredSecretRef },
}

/// A [`SecretRef`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredSecretRef {
    Env(String),
    File(PathBuf),
    Credential(String),
    Written(String),
}

impl From<&SecretRef> for StoredSecretRef {
    fn from(secret: &SecretRef) -> Self {
        match secret.clone() {
            SecretRef::Env(name) => Self::Env(name),
            SecretRef::File(path) => Self::File(path),
            SecretRef::Credential(name) => Self::Credential(name),
            SecretRef::Written(key) => Self::Written(key),
        }
    }
}

impl From<StoredSecretRef> for SecretRef {
    fn from(stored: StoredSecretRef) -> Self {
        match stored {
            StoredSecretRef::Env(name) => Self::Env(name),
            StoredSecretRef::File(path) => Self::File(path),
            StoredSecretRef::Credential(name) => Self::Credential(name),
            StoredSecretRef::Written(key) => Self::Written(key),
        }
    }
}

/// A [`Notification`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredNotification {
    channel: StoredChannel,
    on: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredChannel {
    Email { to: Vec<String> },
    Slack { webhook: StoredSecretRef },
}

impl From<&Notification> for StoredNotification {
    fn from(notification: &Notification) -> Self {
        let channel = match &notification.channel {
            Channel::Email { to } => StoredChannel::Email { to: to.clone() },
            Channel::Slack { webhook } => StoredChannel::Slack { webhook: webhook.into() },
        };
        Self { channel, on: notification.on.iter().map(|it| it.word().into()).collect() }
    }
}

impl TryFrom<StoredNotification> for Notification {
    type Error = String;

    fn try_from(stored: StoredNotification) -> Result<Self, String> {
        let occasion = |word: &String| Occasion::parse(word).ok_or_else(|| format!("`{word}` is not an occasion"));
        Ok(Self {
            channel: match stored.channel {
                StoredChannel::Email { to } => Channel::Email { to },
                StoredChannel::Slack { webhook } => Channel::Slack { webhook: webhook.into() },
            },
            on: stored.on.iter().map(occasion).collect::<Result<_, _>>()?,
        })
    }
}
