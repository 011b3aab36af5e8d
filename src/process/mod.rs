//! What children of a keeper are made of, the user they run as and the environment that user has; and how root works in
//! folders that are not root's alone.
//!
//! Invariant: it knows no run, no hook and no repository.

pub mod environment;
pub mod errand;
pub mod errand_child;
pub mod hidden;
pub mod open_files;
pub mod owned_file;
pub mod shell;
pub mod text_form;
pub mod user;

pub mod beneath;
pub mod clear;
pub mod way;
