//! The nouns of Landfall and the rules that hold for them everywhere.
//!
//! Invariant: nothing here does IO, reads a clock, waits, or knows how it is written down.

pub mod baseline;
pub mod deploy;
pub mod health;
pub mod hook;
pub mod job;
pub mod letter;
pub mod limits;
pub mod name;
pub mod push;
pub mod release;
pub mod remote;
pub mod run;
pub mod secret;
pub mod size;
pub mod source;
pub mod text;
mod word;
