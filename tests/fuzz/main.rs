//! What strangers write may be anything: readers are played with mutated samples, and held against an oracle.
//!
//! `scripts/fuzz --seconds 600 [target]` plays for long; without it each target plays a few seconds of fixed inputs.
//!
//! Invariant: each test is one promise about one reader.

mod mutator;
mod play;

mod forge;
mod git;
mod hooks;
mod journal;
mod streams;
