//! The end of a storm, which all who take part wait for while they pause.
//!
//! Invariant: nobody pauses on after the end.

use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

/// Says when to stop.
#[derive(Debug, Default)]
pub struct Ending {
    /// Whether the end has come; a condition needs its lock.
    is_here: Mutex<bool>,
    bell: Condvar,
}

impl Ending {
    /// Waits for that long, or until the end; whether it has come.
    pub fn comes_within(&self, time: Duration) -> bool {
        self.comes_until(Instant::now() + time)
    }

    /// Waits until then, or until the end; whether it has come.
    pub fn comes_until(&self, then: Instant) -> bool {
        let mut is_here = self.is_here.lock().expect("no panic");
        while !*is_here {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            is_here = self.bell.wait_timeout(is_here, left).expect("no panic").0;
        }
        *is_here
    }

    /// The end is here.
    pub fn ring(&self) {
        *self.is_here.lock().expect("no panic") = true;
        self.bell.notify_all();
    }
}
