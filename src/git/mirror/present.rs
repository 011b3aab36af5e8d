//! Asks a remote where one of its refs points at this moment.
//!
//! Invariant: the answer is the remote's own, never what an earlier fetch remembers, and an annotated tag stands for its
//! commit.

use git2::Oid;

use super::{network::Session, repository::LocalRepo};
use crate::git::{
    GitFailure,
    progress::say,
    transport::{journey::Journey, library::travel},
};
use crate::model::push::RefName;

/// Where the remote has this ref now; `None`: it has no such ref.
pub(in crate::git) fn points_at(
    mirror: &LocalRepo,
    journey: &Journey,
    ref_name: &RefName,
) -> Result<Option<Oid>, GitFailure> {
    say(&format!("asking {} for `{}`", journey.remote.shown(), ref_name.short()));
    let offered = travel(journey, || Session::open(mirror, journey)?.offered())?;
    Ok(offered.commit_of(&ref_name.full()))
}
