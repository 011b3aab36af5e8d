//! Bytes of bodies that may be in memory at once: over all connections, and of one address before its proof.
//!
//! Invariant: what is taken goes back, and whoever sends little is never put off because of an address that sends much.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::web::memory::Ceiling;

/// Bytes that all bodies share.
#[derive(Debug)]
pub(super) struct Budget {
    /// How many there are.
    all: u64,
    /// What the process may still take.
    ceiling: Ceiling,
    /// What the unproven bodies of one address may take.
    address_bytes_max: u64,
    /// Held for a few instructions and never across a wait.
    ledger: Mutex<Ledger>,
    /// Rung whenever bytes go back.
    freed: Notify,
}

#[derive(Debug)]
struct Ledger {
    free: u64,
    next_number: u64,
    unproven: HashMap<Option<IpAddr>, Unproven>,
}

/// What the unproven bodies of one address have taken.
#[derive(Debug, Default)]
struct Unproven {
    bytes: u64,
    /// Each of its bodies, the oldest first, and what tells its sender's task to give up.
    bodies: BTreeMap<u64, CancellationToken>,
}

/// Bytes taken out of the budget; they go back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    number: u64,
    holder: Option<IpAddr>,
    give_up: CancellationToken,
    taken: u64,
    is_proven: bool,
    /// What this body may still take without asking.
    free_of_charge: u64,
}

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

/// What came of asking for room.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Taken,
    /// Somebody has been told to give up.
    Coming,
    None,
}

impl Budget {
    /// Of every body this much is not counted: the cap on connections bounds it (1,024 × 64 KiB = 64 MiB), and so a few
    /// senders of large bodies cannot keep ordinary pushes, which are smaller, out.
    const FREE_OF_CHARGE_BYTES: u64 = 64 * 1024;

    /// Room for eight bodies of the largest size, and for no less than 256 MiB: enough that honest forges never meet
    /// the limit, and little enough for a small server, since a proven body is at most twice in memory. One address gets
    /// a quarter of it.
    pub(super) fn for_bodies_of(max_body_bytes: u64) -> Arc<Self> {
        let bytes = max_body_bytes.saturating_mul(8).max(256 * 1024 * 1024);
        let ledger = Mutex::new(Ledger { free: bytes, next_number: 0, unproven: HashMap::new() });
        let ceiling = Ceiling::of_this_process();
        Arc::new(Self { all: bytes, ceiling, address_bytes_max: bytes / 4, ledger, freed: Notify::new() })
    }

    /// The share of a body that has not begun, from this address; `None`: from whoever speaks for others. Nothing is
    /// taken for what a sender only announces. The token is cancelled when the body has to make room for another.
    pub(super) fn share(self: &Arc<Self>, holder: Option<IpAddr>, give_up: CancellationToken) -> Share {
        let mut ledger = self.lock();
        let number = ledger.next_number;
        ledger.next_number += 1;
        drop(ledger);
        let free_of_charge = Self::FREE_OF_CHARGE_BYTES;
        Share { budget: Arc::clone(self), number, holder, give_up, taken: 0, is_proven: false, free_of_charge }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn held_by(&self, holder: Option<IpAddr>) -> u64 {
        self.unproven.get(&holder).map_or(0, |it| it.bytes)
    }

    /// Tells the oldest body to give up of the address that holds most, if that is more than this one would.
    fn make_room(&self, holder: Option<IpAddr>, wanted: u64) -> Room {
        let own = self.held_by(holder) + wanted;
        let others = self.unproven.iter().filter(|(it, held)| **it != holder && held.bytes > own);
        let Some((_, heaviest)) = others.max_by_key(|(_, held)| held.bytes) else { return Room::None };
        // Those who have been told already are on their way out, and the room that they leave may do.
        if !heaviest.bodies.values().any(CancellationToken::is_cancelled)
            && let Some(oldest) = heaviest.bodies.values().next()
        {
            oldest.cancel();
        }
        Room::Coming
    }
}

impl Share {
    /// Takes room for bytes that have come in. Where there is none, and another address has more than its part, this waits
    /// for what that one gives back.
    pub(super) async fn take(&mut self, bytes: u64, deadline: Instant) -> Result<(), Exhausted> {
        let budget = Arc::clone(&self.budget);
        let gratis = bytes.min(self.free_of_charge);
        self.free_of_charge -= gratis;
        let wanted = bytes - gratis;
        if wanted == 0 {
            return Ok(());
        }
        loop {
            // Listen before looking: what goes back in between must ring this bell.
            let mut freed = std::pin::pin!(budget.freed.notified());
            freed.as_mut().enable();
            match self.try_take(wanted) {
                Room::Taken => return Ok(()),
                Room::None => return Err(Exhausted),
                Room::Coming if self.give_up.is_cancelled() => return Err(Exhausted),
                Room::Coming => timeout_at(deadline, freed).await.map_err(|_| Exhausted)?,
            }
        }
    }

    fn try_take(&mut self, wanted: u64) -> Room {
        let mut ledger = self.budget.lock();
        let held = ledger.held_by(self.holder);
        if self.holder.is_some() && held + wanted > self.budget.address_bytes_max {
            return Room::None;
        }
        if ledger.free < wanted {
            return ledger.make_room(self.holder, wanted);
        }
        let on_their_way = self.budget.all.saturating_sub(ledger.free).saturating_add(wanted);
        if !self.budget.ceiling.has_room_for(on_their_way) {
            return Room::None;
        }
        ledger.free -= wanted;
        let own = ledger.unproven.entry(self.holder).or_default();
        own.bytes += wanted;
        own.bodies.entry(self.number).or_insert_with(|| self.give_up.clone());
        drop(ledger);
        self.taken += wanted;
        Room::Taken
    }

    /// The body is proven: it counts to no address any more, and never has to make room.
    pub(super) fn prove(&mut self) {
        let mut ledger = self.budget.lock();
        self.leave_address(&mut ledger);
        drop(ledger);
        self.is_proven = true;
        // The share of its address has more room, and others may wait for that of all.
        self.budget.freed.notify_waiters();
    }

    fn leave_address(&self, ledger: &mut Ledger) {
        if self.is_proven || self.taken == 0 {
            return;
        }
        if let Some(own) = ledger.unproven.get_mut(&self.holder) {
            own.bytes -= self.taken;
            own.bodies.remove(&self.number);
            if own.bodies.is_empty() {
                ledger.unproven.remove(&self.holder);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut ledger = self.budget.lock();
        self.leave_address(&mut ledger);
        ledger.free += self.taken;
        drop(ledger);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc, time::Duration};

    use tokio::time::{Instant, timeout};
    use tokio_util::sync::CancellationToken;

    use super::{Budget, Exhausted, Share};

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    /// A body of the address 192.0.2.x; of nobody for 0.
    fn body(budget: &Arc<Budget>, number: u8) -> Share {
        budget.share((number > 0).then(|| IpAddr::from([192, 0, 2, number])), CancellationToken::new())
    }

    async fn take(share: &mut Share, bytes: u64) -> Result<(), Exhausted> {
        share.take(bytes, Instant::now() + Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn a_share_goes_back_and_small_bodies_always_fit() {
        let budget = Budget::for_bodies_of(1);
        let mut large = body(&budget, 0);
        take(&mut large, 256 * MIB + 64 * KIB).await.unwrap();
        assert!(take(&mut large, 1).await.is_err());
        take(&mut body(&budget, 0), 64 * KIB).await.unwrap();
        assert!(take(&mut body(&budget, 0), 64 * KIB + 1).await.is_err());
        drop(large);
        take(&mut body(&budget, 0), 64 * KIB + 1).await.unwrap();
        assert_eq!(budget.lock().free, 256 * MIB);
        assert!(budget.lock().unproven.is_empty());
    }

    #[tokio::test]
    async fn an_address_has_a_quarter_for_what_it_has_not_proven_and_all_for_what_it_has() {
        let budget = Budget::for_bodies_of(1);
        let mut first = body(&budget, 1);
        take(&mut first, 64 * MIB + 64 * KIB).await.unwrap();
        let mut second = body(&budget, 1);
        assert!(take(&mut second, 64 * KIB + 1).await.is_err());
        take(&mut body(&budget, 2), MIB).await.unwrap();
        first.prove();
        take(&mut body(&budget, 1), MIB).await.unwrap();
        drop(first);
        assert_eq!(budget.lock().free, 256 * MIB);
    }

    #[tokio::test]
    async fn where_all_is_taken_the_oldest_body_of_who_holds_most_makes_room() {
        let budget = Budget::for_bodies_of(1);
        let mut held = Vec::new();
        for number in 1..=4 {
            for _ in 0..2 {
                let mut share = body(&budget, number);
                take(&mut share, 32 * MIB + 64 * KIB).await.unwrap();
                held.push(share);
            }
        }
        let given_up = |held: &[Share]| held.iter().position(|it| it.give_up.is_cancelled());
        assert_eq!((budget.lock().free, given_up(&held)), (0, None));
        let mut newcomer = body(&budget, 5);
        let waiting = tokio::spawn(async move { take(&mut newcomer, 25 * MIB).await.map(|()| newcomer) });
        let told = async {
            while given_up(&held).is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), told).await.expect("somebody is told");
        let told = given_up(&held).expect("told");
        assert_eq!(told % 2, 0, "the older one of an address");
        assert_eq!(held.iter().filter(|it| it.give_up.is_cancelled()).count(), 1);
        held.swap_remove(told);
        let newcomer = waiting.await.expect("no panic").expect("the room that was left");
        assert!(take(&mut body(&budget, 0), 100 * MIB).await.is_err(), "whoever wants more than all others gets none");
        drop(newcomer);
    }
}
