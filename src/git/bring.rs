//! Brings a commit, and those of the repositories within it, from their remotes.
//!
//! Invariant: when it is done, everything that writing the commit's tree needs is on this machine.

use std::{cell::Cell, path::Path};

use super::{
    Against, Fetch, Fetched, GitFailure, Into, Scope, Verdict, cannot,
    entries::as_path,
    fetch::{Home, fetch_one},
    in_place,
    mirror::{repository as mirror, repository::LocalRepo},
    progress::{plain, say},
    remote::{self, Remote},
    submodules::{self, Depth, Within},
    transport::journey::{self, NamedBy},
};
use crate::model::{
    deploy::Submodules,
    job::{Asked, Target},
    push::CommitId,
};

/// Does the order: holds the commit against what is live, and brings what else it needs.
pub(super) fn fetch(order: &Fetch) -> Result<Fetched, GitFailure> {
    let home = match &order.into {
        Into::Mirror(path) => Home::Mirror(path.clone()),
        Into::WorkTree(path) => Home::WorkTree(path.clone()),
    };
    if let Home::Mirror(path) = &home {
        mirror::mark_used(path);
    }
    mirror::remove_unused(&order.mirrors);
    let count = Cell::new(0);
    let hooks_remote = remote::parse(&order.remote)?;
    let fetched = fetch_all(order, &home, &hooks_remote, Depth::outermost(&count))?;
    if let Home::WorkTree(path) = &home {
        in_place::complete(path)?;
    }
    Ok(fetched)
}

fn fetch_all(order: &Fetch, home: &Home, hooks_remote: &Remote, depth: Depth<'_>) -> Result<Fetched, GitFailure> {
    let named_by = match depth.is_outermost() {
        true => NamedBy::Hook,
        false => NamedBy::Gitmodules { hooks_remote: hooks_remote.clone() },
    };
    let (fetched, git_dir) = fetch_one(order, home, named_by)?;
    match fetched.verdict {
        Verdict::GoAhead { .. } => fetch_within(order, home, &git_dir, (&fetched.commit, hooks_remote), depth)?,
        Verdict::Stale { .. } | Verdict::Skipped { .. } => (),
    }
    Ok(fetched)
}

/// Brings the commits of the repositories within one.
fn fetch_within(
    order: &Fetch,
    home: &Home,
    git_dir: &Path,
    (commit, hooks_remote): (&CommitId, &Remote),
    depth: Depth<'_>,
) -> Result<(), GitFailure> {
    if order.scope.submodules == Submodules::Off {
        return Ok(());
    }
    let outer = remote::parse(&order.remote)?;
    let all = named_by(order, home, git_dir, commit)?;
    for within in &all {
        let Within { path, commit, remote, .. } = within;
        let outer_path = [depth.path, path].map(<[u8]>::to_vec);
        let whole_path = outer_path.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(&b'/');
        let depth = depth.within(&whole_path)?;
        let commit = CommitId::parse(&commit.to_string()).expect("libgit2 prints ids as 40 hex digits");
        say(&format!("submodule `{}` is at {}", plain(&whole_path), commit.short()));
        let inner_remote = remote::parse(remote).map_err(|failure| submodules::failed(path, failure))?;
        let proof = journey::choose(&order.logins, Some(&outer), &inner_remote);
        let inner = Fetch {
            into: order.into.clone(),
            mirrors: order.mirrors.clone(),
            remote: remote.clone(),
            logins: order.logins.iter().filter(|it| it.host.is_some()).cloned().chain(journey::as_own(proof)).collect(),
            target: Target::Commit { commit, ref_name: None },
            scope: submodules::scope_within(&order.scope),
            silence: order.silence,
            // That the outer commit has it is all that counts.
            against: Against::nothing(Asked::ByHand),
        };
        let brought = inner_home(home, git_dir, (within, &all), &order.scope)
            .and_then(|home| fetch_all(&inner, &home, hooks_remote, depth));
        brought.map_err(|failure| submodules::failed(path, failure))?;
    }
    Ok(())
}

fn named_by(order: &Fetch, home: &Home, git_dir: &Path, commit: &CommitId) -> Result<Vec<Within>, GitFailure> {
    // Closed again before the next one is opened: two runs must not wait for each other.
    let mirror = match home {
        Home::Mirror(path) => LocalRepo::for_reading(path)?,
        Home::WorkTree(_) | Home::Module { .. } => LocalRepo::of_clone(git_dir, None)?,
    };
    submodules::named_by(&mirror, commit, order.scope.subdir.as_deref(), &order.remote)
}

/// Where the commit of a repository within is brought to.
fn inner_home(
    home: &Home,
    git_dir: &Path,
    (within, all): (&Within, &[Within]),
    scope: &Scope,
) -> Result<Home, GitFailure> {
    let (folder, top) = match home {
        Home::Mirror(path) => return Ok(Home::Mirror(submodules::mirror_beside(path, &within.remote))),
        Home::WorkTree(folder) => {
            // The links on the way to it are settled; none beneath it is followed.
            let top = folder.canonicalize().map_err(cannot(format!("open the working tree `{}`", folder.display())))?;
            (top.clone(), top)
        }
        Home::Module { folder, top, .. } => (folder.clone(), top.clone()),
    };
    let folder = folder.join(as_path(&within.path));
    let module = in_place::module(git_dir, (&top, &folder), (within, all), scope.spares_others)?;
    in_place::register(git_dir, within)?;
    Ok(Home::Module { git_dir: module, folder, top })
}
