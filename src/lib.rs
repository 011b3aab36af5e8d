//! Landfall turns a verified push into a finished deploy, on your own server, and never loses one.
//!
//! ```text
//!             hooks.yaml ──▶ hooks ──Hooks──┐
//!                                           ▼
//! HTTP ─▶ web ─Delivery─▶ forge ─VerifiedPush─▶ route ─Ticket─▶ store ─Claim─▶ work ─▶ keeper
//!         ▲                                                      │ ▲             │
//!         └──────── history, log ◀───────────────────────────────┤ └─Outcome─────┘
//!                                                                └─Letter─▶ notify ─▶ e-mail, Slack
//! ```
//!
//! The modules stand in reading order. A module may use those of a lower layer only; `tests/it/architecture.rs`
//! holds the table.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the `failpoints` feature places crashes and is for tests: build without it for release");

pub mod model;

pub mod forge;
pub mod hooks;
pub mod journal;
pub mod process;

pub mod git;

pub mod route;

pub mod store;

pub mod keeper;

pub mod catch_up;
pub mod notify;
pub mod web;
pub mod work;

pub mod daemon;

pub mod checkup;

pub mod cli;
