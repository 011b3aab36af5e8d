//! What people who want to hear of deploys can rely on.

mod covered;
mod house;
mod mail;
mod slack;
