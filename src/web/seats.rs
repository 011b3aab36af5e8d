//! Who holds the connections of the public listener, and who has to go when there are too many.
//!
//! A seat belongs to the address that it counts to, or to nobody: connections of loopback, Unix sockets and proxies, which
//! speak for others, belong to nobody until a request has said for whom. Where one address has its share, its longest idle
//! connection goes. Where all seats are taken, the longest idle one goes of the address that holds most of them, so
//! whoever holds a few is never the one to go because of somebody who holds many.
//!
//! Idle is whatever has no proven delivery: a request that is still being sent may be meant never to end.
//!
//! Invariant: a connection whose delivery is proven is never the one to go, and the counts are those of the seats that
//! there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::hooks::Connections;

/// Connections that have been asked to go and still say why: so many may be open beyond the cap.
const LEAVING_MAX: usize = 64;

/// Whom a seat counts to.
type Holder = Option<IpAddr>;

/// A seat among the idle, the longest idle first.
type Place = (Instant, u64);

/// All seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    /// Held for a few instructions and never across a wait.
    table: Mutex<Table>,
    /// Rung whenever a seat becomes free or idle.
    room: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next_number: u64,
    /// Every connection, those that are leaving too.
    open: usize,
    /// Every connection that is not leaving, by its number.
    seated: HashMap<u64, Sitting>,
    groups: HashMap<Holder, Group>,
    /// The groups with somebody idle: by how many, then by how long.
    by_weight: BTreeSet<(usize, Reverse<Place>, Holder)>,
}

/// The seats of one holder.
#[derive(Debug, Default)]
struct Group {
    seated: usize,
    idle: BTreeMap<Place, CancellationToken>,
}

/// One connection's right to be there. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: CancellationToken,
    /// To whom it counts between requests.
    home: Holder,
}

#[derive(Clone, Copy, Debug)]
struct Sitting {
    holder: Holder,
    since: Instant,
    is_proven: bool,
}

/// There is no seat, and nobody who could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The address has its share.
    Address,
    /// All seats are taken.
    All,
}

impl Seats {
    /// A seat for a new connection. The second is why another had to go for it.
    pub(super) fn take(
        self: &Arc<Self>,
        holder: Holder,
        limits: Connections,
        now: Instant,
    ) -> Result<(Seat, Option<Full>), Full> {
        let mut table = self.lock();
        let gone = table.make_room(holder, limits)?;
        let (number, leave) = (table.next_number, CancellationToken::new());
        table.next_number += 1;
        table.open += 1;
        table.sit(number, Sitting { holder, since: now, is_proven: false }, &leave);
        Ok((Seat { seats: Arc::clone(self), number, leave, home: holder }, gone))
    }

    /// Whether a new connection has a chance.
    pub(super) fn has_room(&self, limits: Connections) -> bool {
        let table = self.lock();
        let is_seat_free = table.seated.len() < limits.all || !table.by_weight.is_empty();
        is_seat_free && table.open < limits.all.saturating_add(LEAVING_MAX)
    }

    /// Rings when there may be room again. Ask for the bell before [`Self::has_room`].
    pub(super) fn room_bell(&self) -> Notified<'_> {
        self.room.notified()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Sends away who has to go for one seat more of this holder.
    fn make_room(&mut self, holder: Holder, limits: Connections) -> Result<Option<Full>, Full> {
        let held = self.groups.get(&holder).map_or(0, |it| it.seated);
        if holder.is_some() && held >= limits.address {
            return if self.send_away(holder) { Ok(Some(Full::Address)) } else { Err(Full::Address) };
        }
        if self.seated.len() < limits.all {
            return Ok(None);
        }
        let heaviest = self.by_weight.last().map(|(_, _, holder)| *holder).ok_or(Full::All)?;
        self.send_away(heaviest);
        Ok(Some(Full::All))
    }

    /// Asks the longest idle one of a holder to go.
    fn send_away(&mut self, holder: Holder) -> bool {
        let longest = self.groups.get(&holder).and_then(|it| it.idle.first_key_value());
        let Some((number, leave)) = longest.map(|((_, number), leave)| (*number, leave.clone())) else { return false };
        self.stand_up(number);
        leave.cancel();
        true
    }

    fn sit(&mut self, number: u64, sitting: Sitting, leave: &CancellationToken) {
        self.seated.insert(number, sitting);
        self.change(sitting.holder, |group| {
            group.seated += 1;
            if !sitting.is_proven {
                group.idle.insert((sitting.since, number), leave.clone());
            }
        });
    }

    /// Takes a seat out of the counts; `None`: it is leaving already.
    fn stand_up(&mut self, number: u64) -> Option<Sitting> {
        let sitting = self.seated.remove(&number)?;
        self.change(sitting.holder, |group| {
            group.seated -= 1;
            group.idle.remove(&(sitting.since, number));
        });
        Some(sitting)
    }

    fn change(&mut self, holder: Holder, change: impl FnOnce(&mut Group)) {
        let group = self.groups.entry(holder).or_default();
        if let Some(weight) = weight(holder, group) {
            self.by_weight.remove(&weight);
        }
        change(group);
        if let Some(weight) = weight(holder, group) {
            self.by_weight.insert(weight);
        }
        if group.seated == 0 {
            self.groups.remove(&holder);
        }
    }
}

fn weight(holder: Holder, group: &Group) -> Option<(usize, Reverse<Place>, Holder)> {
    group.idle.first_key_value().map(|(place, _)| (group.idle.len(), Reverse(*place), holder))
}

impl Seat {
    /// Waits until the connection has to go.
    pub(super) async fn left(&self) {
        self.leave.cancelled().await;
    }

    /// What tells that the connection has to go.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.leave
    }

    /// Whether requests of others come by this connection. Whoever passes them on should be told why they are put off: to a
    /// proxy, a connection that breaks may mean that nobody is here.
    pub(super) fn speaks_for_others(&self) -> bool {
        self.home.is_none()
    }

    /// A request has come by the connection, and counts to this address from now on.
    pub(super) fn begin_request(&self, holder: Holder, limits: Connections, now: Instant) -> Result<(), Full> {
        let mut table = self.seats.lock();
        let Some(sitting) = table.seated.get(&self.number).copied() else { return Ok(()) };
        if sitting.holder == holder {
            return Ok(());
        }
        // It leaves its old place first: it takes no seat that it does not have.
        table.stand_up(self.number);
        let found = table.make_room(holder, limits);
        let new = if found.is_ok() { Sitting { holder, since: now, is_proven: false } } else { sitting };
        table.sit(self.number, new, &self.leave);
        found.map(drop)
    }

    /// The delivery that came by the connection is proven: it stays.
    pub(super) fn prove(&self) {
        let mut table = self.seats.lock();
        if let Some(sitting) = table.stand_up(self.number) {
            table.sit(self.number, Sitting { is_proven: true, ..sitting }, &self.leave);
        }
    }

    /// The request is answered. A connection that brought a proven delivery has been idle since now, and so has one that
    /// speaks for others. Any other has been idle since it was made, whatever it asked for.
    pub(super) fn end_request(&self, now: Instant) {
        let mut table = self.seats.lock();
        let Some(sitting) = table.stand_up(self.number) else { return };
        let since = if sitting.is_proven || self.home.is_none() { now } else { sitting.since };
        table.sit(self.number, Sitting { holder: self.home, since, is_proven: false }, &self.leave);
        drop(table);
        self.seats.room.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.lock();
        table.stand_up(self.number);
        table.open -= 1;
        drop(table);
        self.seats.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{Full, Holder, LEAVING_MAX, Seat, Seats};
    use crate::hooks::Connections;

    const LIMITS: Connections = Connections { all: 6, address: 3 };

    /// The address 192.0.2.x.
    fn at(number: u8) -> Holder {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    struct Hall {
        seats: Arc<Seats>,
        began: Instant,
        seconds: u64,
    }

    impl Hall {
        fn open() -> Self {
            Self { seats: Arc::default(), began: Instant::now(), seconds: 0 }
        }

        fn now(&mut self) -> Instant {
            self.seconds += 1;
            self.began + Duration::from_secs(self.seconds)
        }

        fn enter(&mut self, holder: Holder) -> Seat {
            let now = self.now();
            self.seats.take(holder, LIMITS, now).expect("a seat").0
        }
    }

    fn stays(seat: &Seat) -> bool {
        !seat.leave.is_cancelled()
    }

    #[test]
    fn of_an_address_that_has_its_share_the_longest_idle_goes() {
        let mut hall = Hall::open();
        let stranger = hall.enter(at(9));
        let held: Vec<Seat> = (0..4).map(|_| hall.enter(at(1))).collect();
        assert_eq!(held.iter().map(stays).collect::<Vec<_>>(), [false, true, true, true]);
        assert!(stays(&stranger));
    }

    #[test]
    fn where_all_are_taken_the_longest_idle_goes_of_who_holds_most() {
        let mut hall = Hall::open();
        let few = hall.enter(at(9));
        let (one, two): (Vec<Seat>, Vec<Seat>) = (0..2).map(|_| (hall.enter(at(1)), hall.enter(at(2)))).unzip();
        let third = hall.enter(at(2));
        let newcomer = hall.enter(at(3));
        assert!(!stays(&two[0]), "of the three of an address");
        assert!(stays(&few) && stays(&newcomer) && stays(&third) && one.iter().all(stays));
        let next = hall.enter(at(4));
        assert!(!stays(&one[0]), "of two addresses with two each, the one that has been idle longer");
        assert!(stays(&next) && stays(&few));
    }

    #[test]
    fn a_proven_delivery_never_goes_and_its_connection_has_been_idle_only_since_its_end() {
        let mut hall = Hall::open();
        let proven: Vec<Seat> = (0..3).map(|_| hall.enter(at(1))).collect();
        proven.iter().for_each(Seat::prove);
        let now = hall.now();
        assert_eq!(hall.seats.take(at(1), LIMITS, now).expect_err("no seat"), Full::Address);
        let now = hall.now();
        proven[0].end_request(now);
        let next = hall.enter(at(1));
        assert!(!stays(&proven[0]) && stays(&proven[1]) && stays(&next));
        proven[1].end_request(hall.now());
        let _last = hall.enter(at(1));
        assert!(!stays(&next), "it has been idle longer than the one that has delivered");
    }

    #[test]
    fn where_all_deliver_a_newcomer_waits_for_room() {
        let mut hall = Hall::open();
        let all: Vec<Seat> = (0..6).map(|it| hall.enter(at(it))).collect();
        assert!(hall.seats.has_room(LIMITS));
        all.iter().for_each(Seat::prove);
        assert!(!hall.seats.has_room(LIMITS));
        all[0].end_request(hall.now());
        assert!(hall.seats.has_room(LIMITS));
    }

    #[test]
    fn those_who_are_leaving_are_bounded_too() {
        let mut hall = Hall::open();
        let mut all = Vec::new();
        while hall.seats.has_room(LIMITS) {
            all.push(hall.enter(None));
        }
        assert_eq!(all.len(), LIMITS.all + LEAVING_MAX);
        drop(all);
        assert!(hall.seats.has_room(LIMITS));
    }

    #[test]
    fn a_request_behind_a_proxy_counts_to_its_sender_and_the_connection_to_nobody() {
        let mut hall = Hall::open();
        let proxied: Vec<Seat> = (0..5).map(|_| hall.enter(None)).collect();
        for seat in &proxied[..4] {
            seat.begin_request(at(1), LIMITS, hall.now()).expect("a seat");
        }
        assert_eq!(proxied.iter().map(stays).collect::<Vec<_>>(), [false, true, true, true, true]);
        proxied[1].end_request(hall.now());
        proxied[4].begin_request(at(1), LIMITS, hall.now()).expect("a seat");
        assert!(proxied[1..].iter().all(stays), "a share that was given back is free");
        proxied[2..].iter().for_each(Seat::prove);
        assert_eq!(proxied[1].begin_request(at(1), LIMITS, hall.now()), Err(Full::Address));
        proxied[1].begin_request(at(2), LIMITS, hall.now()).expect("another sender's share");
    }

    proptest! {
        /// Whatever comes, the counts are those of the seats that there are, and nobody who delivers has gone.
        #[test]
        fn the_counts_are_right_after_anything(acts in prop::collection::vec((0_u8..6, 0_u8..4, 0_usize..12), 1..200)) {
            let mut hall = Hall::open();
            let mut held: Vec<(Seat, bool)> = Vec::new();
            for (act, who, which) in acts {
                let (holder, now) = (if who == 0 { None } else { at(who) }, hall.now());
                let index = which % held.len().max(1);
                match (act, held.get_mut(index)) {
                    (0 | 1, _) => held.extend(hall.seats.take(holder, LIMITS, now).ok().map(|it| (it.0, false))),
                    (2, Some((seat, is_proven))) => {
                        let moved = seat.begin_request(holder, LIMITS, now).is_ok();
                        *is_proven &= !moved || hall.seats.lock().seated.get(&seat.number).is_some_and(|it| it.is_proven);
                    }
                    (3, Some((seat, is_proven))) => {
                        seat.prove();
                        *is_proven = stays(seat);
                    }
                    (4, Some((seat, is_proven))) => {
                        seat.end_request(now);
                        *is_proven = false;
                    }
                    (5, Some(_)) => drop(held.swap_remove(index)),
                    (_, _) => (),
                }
                let table = hall.seats.lock();
                prop_assert_eq!(table.open, held.len());
                prop_assert_eq!(table.seated.len(), held.iter().filter(|it| stays(&it.0)).count());
                prop_assert!(table.seated.len() <= LIMITS.all);
                let mut counted: BTreeMap<Holder, (usize, usize)> = BTreeMap::new();
                for sitting in table.seated.values() {
                    let count = counted.entry(sitting.holder).or_default();
                    *count = (count.0 + 1, count.1 + usize::from(!sitting.is_proven));
                }
                let kept = table.groups.iter().map(|(holder, group)| (*holder, (group.seated, group.idle.len())));
                prop_assert_eq!(counted, kept.collect::<BTreeMap<_, _>>());
                let idle = table.groups.values().filter(|it| !it.idle.is_empty()).count();
                prop_assert_eq!(table.by_weight.len(), idle);
                prop_assert!(held.iter().all(|(seat, is_proven)| !is_proven || stays(seat)));
            }
        }
    }
}
