//! Carries out one run.
//!
//! Invariant: only `keeper/git` knows libgit2.

pub mod git;
