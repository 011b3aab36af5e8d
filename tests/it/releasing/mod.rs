//! Promises about releases as an operator sees them: through pushes, commands, crashes and a web server.

#[cfg(feature = "failpoints")]
mod crash;

mod journey;

mod accidents;

mod held;

mod serving;
