//! The ways to a remote, and the pack that comes from there.
//!
//! Invariant: what is shown to a remote is for that remote alone, and what comes from it is bounded.

pub(super) mod private_network;

pub(super) mod journey;

pub(super) mod index_pack;

pub(super) mod pack_stream;
mod packets;
pub(super) mod ref_stream;

pub(super) mod https;

pub(super) mod child_stream;

pub(super) mod ssh;

pub(super) mod local;

pub(super) mod library;
