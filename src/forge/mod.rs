//! Turns an untrusted request into a [`VerifiedPush`], or says why not.
//!
//! Invariant: no byte of a body is parsed before its signature has been checked.

use std::time::Duration;

/// A mark by which a delivery is known again. The same mark at the same path is the same delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DedupeKey {
    /// The sender's own id of the delivery.
    Id(String),
    /// SHA-256 of the body, for senders whose signature covers the body but not the id.
    Body([u8; 32]),
    /// SHA-256 of the body, for senders without an id: the same only if it comes again within this time.
    BodyWithin([u8; 32], Duration),
}
