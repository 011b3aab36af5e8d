//! Carries out one run.
//!
//! Invariant: a keeper serves one run and then exits.

pub mod git;

mod mask;
mod output;
mod user;
