//! Repositories of this machine that commits are fetched into.
//!
//! Invariant: what a ref of theirs leads to is there, whenever a fetch is interrupted.

pub(super) mod packs;

pub(super) mod repository;

pub(super) mod commits;

pub(super) mod refs;

pub(super) mod network;

pub(super) mod present;
