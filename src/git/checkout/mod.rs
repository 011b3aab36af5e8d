//! How files come out of a repository into a folder.
//!
//! Invariant: a file has the bytes that git would check out.

pub(super) mod put;

pub(super) mod blobs;

pub(super) mod write;

pub(super) mod fresh;
