//! Asks a remote where one of its refs points at this moment.
//!
//! Invariant: the answer is the remote's own, never what the mirror remembers, and an annotated tag stands for its
//! commit.

use git2::{Direction, Oid, Repository};

use super::{
    GitFailure,
    fetch::open_source,
    library::{Journey, travel},
    network::{address, failure},
    progress::say,
    remote::Remote,
};
use crate::model::push::RefName;

/// Where the remote has this ref now; `None`: it has no such ref.
pub(super) fn points_at(repo: &Repository, journey: &Journey, ref_name: &RefName) -> Result<Option<Oid>, GitFailure> {
    say(&format!("asking {} for `{}`", journey.remote.shown(), ref_name.short()));
    match &journey.remote {
        Remote::Local(path) => Ok(commit_at(&open_source(path)?, ref_name)),
        Remote::Http { .. } | Remote::Ssh { .. } => {
            travel(journey, || listed(repo, journey, ref_name)).map_err(|err| failure(&err, journey))
        }
    }
}

/// Where a repository on this machine has this ref.
pub(super) fn commit_at(repo: &Repository, ref_name: &RefName) -> Option<Oid> {
    repo.find_reference(&ref_name.full()).and_then(|it| it.peel_to_commit()).map(|it| it.id()).ok()
}

fn listed(repo: &Repository, journey: &Journey, ref_name: &RefName) -> Result<Option<Oid>, git2::Error> {
    let mut remote = repo.remote_anonymous(&address(journey))?;
    let connection = remote.connect_auth(Direction::Fetch, None, None)?;
    let heads = connection.list()?;
    let find = |name: &str| heads.iter().find(|it| it.name() == name).map(|it| it.oid());
    // A server offers an annotated tag twice: itself, and what it leads to.
    Ok(find(&format!("{}^{{}}", ref_name.full())).or_else(|| find(&ref_name.full())))
}
