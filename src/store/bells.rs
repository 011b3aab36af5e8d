//! Bells: who waits for work is woken when there may be some.
//!
//! Invariant: a bell rings after the commit it announces. It may ring in vain, and a missed one costs no more than
//! the wait until the listener looks again by itself.

use tokio::sync::{Notify, futures::Notified};

/// Which bells a verb rings once it is committed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rings {
    /// A run may be claimable.
    pub(super) queue: bool,
    /// A letter may be due.
    pub(super) letters: bool,
    /// A person may have asked for a stop.
    pub(super) cancels: bool,
}

impl Rings {
    /// None at all.
    pub(super) const NONE: Self = Self { queue: false, letters: false, cancels: false };
    /// A run may be claimable.
    pub(super) const QUEUE: Self = Self { queue: true, ..Self::NONE };
    /// A letter may be due.
    pub(super) const LETTERS: Self = Self { letters: true, ..Self::NONE };
    /// An ended run may leave a lane free and letters to be sent.
    pub(super) const ENDED: Self = Self { queue: true, letters: true, cancels: false };
    /// Everything: a stop may end a waiting run, or ask a running one.
    pub(super) const ALL: Self = Self { queue: true, letters: true, cancels: true };

    /// These and those.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            queue: self.queue || other.queue,
            letters: self.letters || other.letters,
            cancels: self.cancels || other.cancels,
        }
    }
}

/// The bells of one store.
#[derive(Debug, Default)]
pub(super) struct Bells {
    queue: Notify,
    letters: Notify,
    cancels: Notify,
}

impl Bells {
    /// Wakes all that listen.
    pub(super) fn ring(&self, rings: Rings) {
        for (is_rung, bell) in
            [(rings.queue, &self.queue), (rings.letters, &self.letters), (rings.cancels, &self.cancels)]
        {
            if is_rung {
                bell.notify_waiters();
            }
        }
    }

    /// Rings when a run may be claimable.
    pub(super) fn queue(&self) -> Notified<'_> {
        self.queue.notified()
    }

    /// Rings when a letter may be due.
    pub(super) fn letters(&self) -> Notified<'_> {
        self.letters.notified()
    }

    /// Rings when a person may have asked for a stop.
    pub(super) fn cancels(&self) -> Notified<'_> {
        self.cancels.notified()
    }
}
