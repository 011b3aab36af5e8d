//! How much of a history is at hand, and what follows from that.
//!
//! Invariant: an answer that more of the history could change is not given before that is there.

/// How much of the history is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// More could be had.
    Part,
    /// All that the remote has.
    All,
}

/// An answer, if the history at hand gives one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told<T> {
    /// It does.
    Now(T),
    /// More of it can be had, and must be.
    WithMoreHistory,
}
