//! What of a commit is deployed, and what its attributes ask for.
//!
//! Invariant: nothing is read but the commit itself.

pub(super) mod attributes;

pub(super) mod listing;
