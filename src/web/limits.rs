//! Keeps the public listener within bounds: failed proofs by address, and bytes of bodies that are on their way.
//!
//! Invariant: both are bounded themselves, whatever comes in.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::web::memory::Ceiling;

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
    windows: Mutex<HashMap<IpAddr, Window>>,
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
    /// Notes one more, of which `limit` are allowed in a minute.
    pub(super) fn note(&self, address: IpAddr, limit: u32, now: Instant) -> Verdict {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let key = neighbourhood(address);
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

/// Whoever has one IPv6 address has its /64.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(it) => IpAddr::V6((it.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// Bytes of bodies that may be in memory at once, over all connections.
#[derive(Debug)]
pub(super) struct Budget {
    all: u64,
    free: AtomicU64,
    ceiling: Ceiling,
}

/// Bytes taken out of the budget; they go back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    taken: u64,
    /// What this body may still take without asking.
    free_of_charge: u64,
}

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Budget {
    /// Of every body this much is not counted: the cap on connections bounds it (512 × 64 KiB = 32 MiB), and so a few
    /// senders of large bodies cannot keep ordinary pushes, which are smaller, out.
    const FREE_OF_CHARGE_BYTES: u64 = 64 * 1024;

    /// Room for eight bodies of the largest size, and for no less than 256 MiB: enough that honest forges never meet
    /// the limit, and little enough for a small server, since a proven body is at most twice in memory.
    pub(super) fn for_bodies_of(max_body_bytes: u64) -> Arc<Self> {
        let bytes = max_body_bytes.saturating_mul(8).max(256 * 1024 * 1024);
        Arc::new(Self { all: bytes, free: AtomicU64::new(bytes), ceiling: Ceiling::of_this_process() })
    }

    /// The share of a body that has not begun. Nothing is taken for what a sender only announces.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), taken: 0, free_of_charge: Self::FREE_OF_CHARGE_BYTES }
    }
}

impl Share {
    /// Takes room for bytes that have come in.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Exhausted> {
        let gratis = bytes.min(self.free_of_charge);
        self.free_of_charge -= gratis;
        let Some(wanted) = NonZeroU64::new(bytes - gratis) else { return Ok(()) };
        let take = |free: u64| free.checked_sub(wanted.get());
        let free = self.budget.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| Exhausted)?;
        // From here on it goes back with the share.
        self.taken += wanted.get();
        let on_their_way = self.budget.all.saturating_sub(free).saturating_add(wanted.get());
        if self.budget.ceiling.has_room_for(on_their_way) { Ok(()) } else { Err(Exhausted) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use tokio::time::Instant;

    use super::{ADDRESSES_MAX, Budget, Failures, Log};

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_rest_of_its_minute() {
        let failures = Failures::default();
        let (address, begin) = ("192.0.2.1".parse().unwrap(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(failures.note(address, 2, at(0)).retry_after, None);
        assert_eq!(failures.note(address, 2, at(10)).retry_after, None);
        assert_eq!(failures.note(address, 2, at(20)).retry_after, Some(Duration::from_secs(40)));
        assert_eq!(failures.note("192.0.2.2".parse().unwrap(), 2, at(20)).retry_after, None);
        assert_eq!(failures.note(address, 2, at(60)).retry_after, None);
    }

    #[test]
    fn neighbours_of_one_ipv6_network_share_their_minute() {
        let failures = Failures::default();
        let now = Instant::now();
        assert_eq!(failures.note("2001:db8::1".parse().unwrap(), 1, now).retry_after, None);
        assert!(failures.note("2001:db8::2".parse().unwrap(), 1, now).retry_after.is_some());
        assert_eq!(failures.note("2001:db8:0:1::1".parse().unwrap(), 1, now).retry_after, None);
    }

    #[test]
    fn neither_memory_nor_log_grow_with_failures() {
        let failures = Failures::default();
        let now = Instant::now();
        for number in 0..20_000 {
            failures.note(Ipv4Addr::from_bits(number).into(), 1, now);
        }
        assert_eq!(failures.windows.lock().unwrap().len(), ADDRESSES_MAX);
        let lines = (0..100).filter(|_| failures.note(Ipv4Addr::from_bits(7).into(), 1, now).log != Log::Nothing);
        assert!(lines.count() <= 5);
        failures.note(Ipv4Addr::from_bits(77_777).into(), 1, now + Duration::from_secs(61));
        assert_eq!(failures.windows.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_share_goes_back_and_small_bodies_always_fit() {
        let budget = Budget::for_bodies_of(1);
        let mut large = budget.share();
        large.take(256 * 1024 * 1024 + 64 * 1024).unwrap();
        assert!(large.take(1).is_err());
        budget.share().take(64 * 1024).unwrap();
        assert!(budget.share().take(64 * 1024 + 1).is_err());
        drop(large);
        budget.share().take(64 * 1024 + 1).unwrap();
    }
}
