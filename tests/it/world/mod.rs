//! The world the tests run in: a real daemon, real repositories, real listeners.

pub mod disk;
pub mod forge;
pub mod house;
pub mod inbox;
pub mod mailroom;
pub mod network;
pub mod reception;
pub mod repo;
pub mod sender;

use std::{
    thread,
    time::{Duration, Instant},
};

/// Everything that is waited for comes within this time, on any machine, or the test fails.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}
