//! Promises of the keeper: one run, whatever its scripts do, and whatever becomes of those around it.
//!
//! Invariant: each test is one promise.

mod bench;
pub mod cgroup;
mod code;
mod ends;
mod environment;
mod foreign;
mod foreign_submodules;
mod health;
mod hidden;
mod limits;
mod output;
mod releases;
pub mod root;
mod shared;
mod shop;
mod tidying;
mod trees;
