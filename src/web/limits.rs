//! Counts what the public listener refuses, by address.
//!
//! Invariant: the counts are bounded themselves, whatever comes in.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::web::address::neighbourhood;

const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are watched at once. Beyond it new ones are not: they get their 401, which is what a 429 replaces.
const ADDRESSES_MAX: usize = 8192;
/// How many failures of one address in one window are worth a line of the log each.
const LOGGED_PER_WINDOW: u64 = 5;

/// What the public listener has refused since it began.
#[derive(Debug, Default)]
pub struct Tally {
    failed_proofs: AtomicU64,
}

impl Tally {
    /// Requests that did not prove their sender. They are not stored.
    pub fn failed_proofs(&self) -> u64 {
        self.failed_proofs.load(Ordering::Relaxed)
    }

    pub(super) fn count_failed_proof(&self) {
        self.failed_proofs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Failures of one kind in the last minute, by address.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Held for a few instructions and never across a wait; a task of its own would only add a queue in front of them.
    windows: Mutex<HashMap<Option<IpAddr>, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    failures: u64,
}

/// What one more failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The address has had its share; it may try again after this time.
    pub(super) retry_after: Option<Duration>,
    /// Whether a line of the log is due; `Last` should say that no more will come.
    pub(super) log: Log,
}

/// Whether a failure is worth a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    Line,
    Last,
    Nothing,
}

impl Failures {
    /// Notes one more, of which `limit` are allowed in a minute. What comes from no address is counted together.
    pub(super) fn note(&self, address: Option<IpAddr>, limit: u32, now: Instant) -> Verdict {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let key = address.map(neighbourhood);
        if windows.len() >= ADDRESSES_MAX && !windows.contains_key(&key) {
            windows.retain(|_, it| now.duration_since(it.began) < WINDOW);
            if windows.len() >= ADDRESSES_MAX {
                return Verdict { retry_after: None, log: Log::Nothing };
            }
        }
        let window = windows.entry(key).or_insert(Window { began: now, failures: 0 });
        if now.duration_since(window.began) >= WINDOW {
            *window = Window { began: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        let left = WINDOW.saturating_sub(now.duration_since(window.began));
        Verdict {
            retry_after: (window.failures > u64::from(limit)).then_some(left),
            log: match window.failures {
                failures if failures < LOGGED_PER_WINDOW => Log::Line,
                LOGGED_PER_WINDOW => Log::Last,
                _ => Log::Nothing,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use tokio::time::Instant;

    use super::{ADDRESSES_MAX, Failures, Log};

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_rest_of_its_minute() {
        let failures = Failures::default();
        let (address, begin) = ("192.0.2.1".parse().ok(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(failures.note(address, 2, at(0)).retry_after, None);
        assert_eq!(failures.note(address, 2, at(10)).retry_after, None);
        assert_eq!(failures.note(address, 2, at(20)).retry_after, Some(Duration::from_secs(40)));
        assert_eq!(failures.note("192.0.2.2".parse().ok(), 2, at(20)).retry_after, None);
        assert_eq!(failures.note(address, 2, at(60)).retry_after, None);
    }

    #[test]
    fn neighbours_of_one_ipv6_network_share_their_minute() {
        let failures = Failures::default();
        let now = Instant::now();
        assert_eq!(failures.note("2001:db8::1".parse().ok(), 1, now).retry_after, None);
        assert!(failures.note("2001:db8::2".parse().ok(), 1, now).retry_after.is_some());
        assert_eq!(failures.note("2001:db8:0:1::1".parse().ok(), 1, now).retry_after, None);
    }

    #[test]
    fn neither_memory_nor_log_grow_with_failures() {
        let failures = Failures::default();
        let now = Instant::now();
        for number in 0..20_000 {
            failures.note(Some(Ipv4Addr::from_bits(number).into()), 1, now);
        }
        assert_eq!(failures.windows.lock().unwrap().len(), ADDRESSES_MAX);
        let lines = (0..100).filter(|_| failures.note(Some(Ipv4Addr::from_bits(7).into()), 1, now).log != Log::Nothing);
        assert!(lines.count() <= 5);
        failures.note(Some(Ipv4Addr::from_bits(77_777).into()), 1, now + Duration::from_secs(61));
        assert_eq!(failures.windows.lock().unwrap().len(), 1);
    }
}
