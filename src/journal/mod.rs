//! What outlives a process: how a job, an outcome and an address are written down, a run's own folder (spec, journal,
//! log), in which `work` and a keeper meet, and the record beside a hook's releases.
//!
//! Invariant: every form on disk carries a version or can be read without one, and a torn last line of a journal
//! is no line.

mod deploy;
mod hook;
pub mod job;
pub mod letter;
pub mod outcome;

pub mod entries;
pub mod folder;
pub mod log;
pub mod progress;
pub mod releases;
pub mod secrets;
pub mod site;
pub mod spec;

use std::fmt;

use thiserror::Error;

/// Something on disk that this version cannot read.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// It was written by a newer Landfall.
    #[error("this {what} is of version {version}, and this Landfall knows up to {known}: run the newer one again")]
    Newer {
        /// What it is.
        what: &'static str,
        /// Its version.
        version: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// It is damaged.
    #[error("this {what} cannot be read: {why}")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Unreadable {
    pub(crate) fn new(what: &'static str, why: impl fmt::Display) -> Self {
        Self::Damaged { what, why: why.to_string() }
    }
}

/// What a disk says at a failpoint: that it is full, or that it is broken.
#[cfg(feature = "failpoints")]
fn faulty_disk(code: Option<String>) -> std::io::Error {
    use rustix::io::Errno;
    if code.is_some_and(|it| it == "ENOSPC") { Errno::NOSPC.into() } else { Errno::IO.into() }
}
