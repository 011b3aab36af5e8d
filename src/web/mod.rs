//! The faces that speak HTTP: the public listener takes deliveries and answers a load balancer's question, the Unix
//! socket lets the command line look and act.
//!
//! Invariant: a delivery is answered after its commit and never before, and nothing that comes in from outside makes
//! memory, connections or log lines grow without bound.

mod public;

mod receive;

mod reply;

mod address;

mod seats;

mod budget;

mod limits;

mod instance;
mod memory;

pub mod listeners;

pub mod socket;

pub mod api;

mod describe;

mod explain;

mod hold;

mod rehearse;
mod releases;

pub mod outgoing;

pub mod views;

pub use limits::Tally;
pub use public::serve_public;
