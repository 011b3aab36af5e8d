//! What a forge, and whoever pretends to be one, can rely on at the public listener.

mod answers;
mod bodies;
mod durable;
mod shares;
mod stopping;
mod strangers;
