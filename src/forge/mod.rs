//! Turns an untrusted request into a [`VerifiedPush`], or says why not.
//!
//! Invariant: no byte of a body is parsed before its signature has been checked. [`admit`] takes a [`Proven`] body,
//! and only a [`Check`] that has seen every byte of it makes one.

mod signature;

mod headers;

mod media;

mod payload;

mod facts;

mod form;

mod github;

mod gitlab;

pub mod rehearsal;

#[cfg(test)]
mod tests;

pub use media::{Media, Unreadable};
pub use signature::{Check, Proven, Unauthenticated};

use std::time::Duration;

use hyper::HeaderMap;
use thiserror::Error;

use crate::model::{
    push::{Push, RepoName},
    source::Forge,
};

/// Says what a proven request is about: as much of its envelope as can be read, and whether it is a push.
pub fn admit(proven: &Proven, headers: &HeaderMap) -> (Envelope, Result<Admitted, Rejection>) {
    match proven.forge() {
        Forge::GitHub => github::admit(proven, headers),
        Forge::GitLab => gitlab::admit(proven, headers),
    }
}

/// A push whose sender knew the secret. Only [`admit`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedPush {
    push: Box<Push>,
    repository: Option<u64>,
    instance: Option<String>,
}

impl VerifiedPush {
    /// What was pushed.
    pub fn push(&self) -> &Push {
        &self.push
    }

    /// The forge's own number of the repository, which stays when that is renamed or transferred; `None`: it said none.
    pub fn repository(&self) -> Option<u64> {
        self.repository
    }

    /// The host of the GitLab that says it has sent it; `None`: it said none. No proof covers it.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }
}

/// What a proven request turned out to be.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// A branch or a tag moved, appeared or went away.
    Push(VerifiedPush),
    /// The forge tries out the address.
    Ping(Ping),
    /// Something true that deploys nothing.
    Other {
        /// The rule, as a sentence without a full stop.
        reason: String,
    },
}

/// What a forge says of the webhook whose address it tries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The repository that it is of; `None`: it is an organisation's, or that was not said.
    pub repo: Option<RepoName>,
    /// The events that it sends; `*` is all of them. `None`: that was not said.
    pub events: Option<Vec<String>>,
}

impl Ping {
    /// Whether it is known that pushes are not among what it sends.
    pub fn sends_no_pushes(&self) -> bool {
        self.events.as_ref().is_some_and(|it| !it.iter().any(|it| it == "push" || it == "*"))
    }
}

/// What is written on the outside of a delivery, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The forge's name of the event; `None`: missing, repeated or malformed.
    pub event: Option<String>,
    /// The forge's id of the delivery; `None`: missing, repeated or malformed.
    pub delivery_id: Option<String>,
    /// By what the delivery is known again.
    pub dedupe: Vec<DedupeKey>,
}

/// A mark by which a delivery is known again. The same mark at the same path is the same delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DedupeKey {
    /// The sender's own id of the delivery, which its proof covers.
    Id(String),
    /// An id that the proof does not cover. People find the delivery by it, and it makes nothing a duplicate: whoever
    /// recorded a signed body could send that under the id of a delivery that is still to come.
    Named(String),
    /// SHA-256 of the body, for senders whose signature covers the body but not the id.
    Body([u8; 32]),
    /// SHA-256 of the body, for senders without an id: the same only if it comes again within this time, and no other
    /// push of its ref came in between.
    BodyWithin([u8; 32], Duration),
}

/// Why a request of a proven sender is not what that sender sends. The texts are for the sender too.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// A header we need is not there.
    #[error("header `{0}` is missing")]
    MissingHeader(&'static str),
    /// A header that must be unambiguous is there twice.
    #[error("header `{0}` is repeated")]
    DuplicateHeader(&'static str),
    /// The event's name is not one.
    #[error("header `{0}` is not 1 to 64 letters, digits, spaces and underscores")]
    BadEvent(&'static str),
    /// The delivery's id is not one.
    #[error("header `{0}` is not 1 to 256 visible ASCII characters")]
    BadDeliveryId(&'static str),
    /// The body is not JSON in UTF-8.
    #[error("the body is not JSON: {0}")]
    BadJson(String),
    /// The body is JSON, but lacks or garbles what a push needs.
    #[error("{0}")]
    BadPayload(String),
    /// The header names one event and the body tells of another.
    #[error("{0}")]
    EventMismatch(String),
}

impl Rejection {
    /// The word of JSON answers and of the store.
    pub fn word(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::DuplicateHeader(_) => "duplicate_header",
            Self::BadEvent(_) => "bad_event",
            Self::BadDeliveryId(_) => "bad_delivery_id",
            Self::BadJson(_) => "bad_json",
            Self::BadPayload(_) => "bad_payload",
            Self::EventMismatch(_) => "event_mismatch",
        }
    }
}
