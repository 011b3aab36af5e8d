//! The faces that speak HTTP. The public listener takes deliveries and answers a load balancer's question.
//!
//! Invariant: a delivery is answered after its commit and never before, and nothing that comes in from outside makes
//! memory, connections or log lines grow without bound.

mod public;

mod receive;

mod reply;

mod address;

mod limits;

pub use limits::Tally;
pub use public::serve_public;
