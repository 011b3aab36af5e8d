//! Brings a commit from its remote into the mirror.
//!
//! Invariant: a commit that is asked for by its id is that very commit, wherever its branch points by now.

use std::path::PathBuf;

use git2::Oid;

use super::{
    Against, Fetch, Fetched, GitFailure, LoginProof, Verdict, ancestry, filter,
    history::{Reach, Told},
    in_place, lfs, locks,
    mirror::{
        commits::{describe, find, gone, sha256},
        network, present,
        refs::Offered,
        repository::{self as mirror, Kind, LocalRepo},
    },
    progress::{plain, say},
    remote::{self, Remote},
    shell::word,
    transport::{
        journey::{Journey, NamedBy},
        library::travel,
        private_network,
    },
};
use crate::model::{
    job::Target,
    push::{CommitId, RefName},
};

/// Where an order's commit is brought to.
pub(super) enum Home {
    /// A bare mirror.
    Mirror(PathBuf),
    /// The repository of a working tree, by the tree's folder.
    WorkTree(PathBuf),
    /// The repository of a submodule within a working tree.
    Module {
        /// Its own folder.
        git_dir: PathBuf,
        /// The folder of its files.
        folder: PathBuf,
        /// That of the outermost working tree.
        top: PathBuf,
    },
}

/// Brings the commit of an order, without those of the repositories within it. Answers with the repository's folder.
///
/// `named_by` says who names the order's remote.
pub(super) fn fetch_one(order: &Fetch, home: &Home, named_by: NamedBy) -> Result<(Fetched, PathBuf), GitFailure> {
    let remote = remote::parse(&order.remote)?;
    let is_vouched_for = private_network::judge(&remote, &named_by)?;
    let journey = Journey::new(&order.logins, order.silence, &remote, (named_by, is_vouched_for));
    match try_fetch(order, journey.clone(), home) {
        // A mirror is only a copy.
        Err(failure) if matches!(home, Home::Mirror(path) if mirror::is_noted_as_damaged(path)) => {
            say(&failure.reason);
            try_fetch(order, journey, home)
        }
        result => result,
    }
}

fn try_fetch(order: &Fetch, mut journey: Journey, home: &Home) -> Result<(Fetched, PathBuf), GitFailure> {
    let shown = journey.remote.shown();
    if order.target.commit().is_some_and(|it| it.as_str().len() != 40) {
        return Err(sha256(&shown));
    }
    let mut mirror = match home {
        Home::Mirror(path) => LocalRepo::for_fetch(path, &shown)?,
        Home::WorkTree(path) => in_place::open_to_fetch(path, &journey.remote, order.target.ref_name())?,
        Home::Module { git_dir, .. } => LocalRepo::of_clone(git_dir, Some("origin".to_owned()))?,
    };
    let _mark = match home {
        Home::Mirror(_) => None,
        Home::WorkTree(_) | Home::Module { .. } => Some(locks::Mark::set(mirror.folder.path(), locks::FETCHING)?),
    };
    journey.indexed_into = Some(mirror.folder.path().to_owned());
    let (mut fetched, freshness) = bring(order, &journey, &mirror, home)?;
    let mut reach = if mirror.repo.is_shallow() { Reach::Part } else { Reach::All };
    let mut times = 0;
    fetched.verdict = loop {
        mirror.reopen()?;
        match judge((order, home), &journey, &mirror, &fetched, (&freshness, reach))? {
            Told::Now(verdict) => break verdict,
            Told::WithMoreHistory => {
                let ref_name = fetched.ref_name.as_ref();
                reach = travel(&journey, || network::deepen(&mirror, &journey, ref_name, times))?;
                times += 1;
            }
        }
    };
    if matches!(fetched.verdict, Verdict::GoAhead { .. }) {
        lfs::pull(order, &journey, &mirror, &fetched.commit)?;
    }
    mirror.tidy_packs()?;
    Ok((fetched, mirror.folder.path().to_owned()))
}

fn judge(
    (order, home): (&Fetch, &Home),
    journey: &Journey,
    mirror: &LocalRepo,
    fetched: &Fetched,
    (freshness, reach): (&Freshness, Reach),
) -> Result<Told<Verdict>, GitFailure> {
    let about = (&fetched.commit, fetched.ref_name.as_ref());
    let against = match home {
        Home::WorkTree(_) if order.against.live.is_none() => &on_the_ground(&order.against, mirror),
        Home::WorkTree(_) | Home::Mirror(_) | Home::Module { .. } => &order.against,
    };
    let verdict = ancestry::judge((mirror, reach), against, about, |ref_name| match freshness {
        Freshness::OfNow(offered) => Ok(offered.commit_of(&ref_name.full())),
        Freshness::OfBefore => present::points_at(mirror, journey, ref_name),
    })?;
    if !matches!(verdict, Told::Now(Verdict::GoAhead { .. })) {
        return Ok(verdict);
    }
    Ok(match filter::left_out(mirror, reach, &order.against, about)? {
        Told::Now(Some(reason)) => Told::Now(Verdict::Skipped { reason }),
        Told::Now(None) => verdict,
        Told::WithMoreHistory => Told::WithMoreHistory,
    })
}

/// What a commit is held against where no run on record has succeeded: what is checked out in the clone, so that a push that
/// comes late does not lead it back. No run has left it there as far as is known, so the same commit is deployed.
fn on_the_ground(against: &Against, mirror: &LocalRepo) -> Against {
    let head = mirror.repo.head().and_then(|it| it.peel_to_commit()).ok();
    let live = head.and_then(|it| CommitId::parse(&it.id().to_string()));
    Against { is_disturbed: against.is_disturbed || live.is_some(), live, ..against.clone() }
}

/// How fresh the repository's refs are.
enum Freshness {
    /// The remote has just said what it has.
    OfNow(Offered),
    /// They are what an earlier fetch found.
    OfBefore,
}

/// Brings the commit, unless it is there.
fn bring(
    order: &Fetch,
    journey: &Journey,
    mirror: &LocalRepo,
    home: &Home,
) -> Result<(Fetched, Freshness), GitFailure> {
    let shown = journey.remote.shown();
    if let Target::Commit { commit, ref_name } = &order.target
        && let Some(found) = find(&mirror.repo, commit)
        && is_settled(mirror, home, found, ref_name.as_ref())
    {
        say(&format!("{} is here already", commit.short()));
        return Ok((describe(mirror, found, ref_name.clone())?, Freshness::OfBefore));
    }
    say(&format!("fetching {shown}"));
    let is_plain_http = matches!(&journey.remote, Remote::Http { url, .. } if url.scheme() == "http");
    if is_plain_http && matches!(journey.proof, Some(LoginProof::Token { .. })) {
        say("warning: the token goes over plain http, where anyone on the way can read it");
    }
    let settle = |offered: &Offered| match home {
        Home::Mirror(_) | Home::Module { .. } => Ok(()),
        Home::WorkTree(path) => in_place::settle(path, mirror, &journey.remote, order.target.ref_name(), offered),
    };
    let offered = travel(journey, || network::fetch(mirror, journey, &order.target, &order.scope, settle))?;
    let fetched = match &order.target {
        Target::Commit { commit, ref_name } => match find(&mirror.repo, commit) {
            Some(found) => describe(mirror, found, ref_name.clone()),
            None => Err(gone(commit, journey)),
        },
        Target::Ref(ref_name) => match offered.id_of(&ref_name.full()) {
            Some(id) => describe(mirror, id, Some(ref_name.clone())),
            None => Err(absent(ref_name, &offered, &shown)),
        },
        Target::DefaultBranch => match offered.head() {
            Some((id, name)) => describe(mirror, *id, name.clone()),
            None if offered.names().next().is_none() => Err(is_empty(&shown)),
            None => {
                Err(GitFailure::permanent(format!("the remote {shown} has no default branch: its HEAD leads nowhere")))
            }
        },
        Target::Release { .. } | Target::Standing => Err(GitFailure::permanent("what stands already is not fetched")),
    };
    Ok((fetched?, Freshness::OfNow(offered)))
}

fn is_empty(shown: &str) -> GitFailure {
    GitFailure::permanent(format!("the remote {shown} is empty"))
}

/// The failure of a branch or tag that the remote does not have, and what else may have been meant.
fn absent(ref_name: &RefName, offered: &Offered, shown: &str) -> GitFailure {
    if offered.names().next().is_none() {
        return is_empty(shown);
    }
    let (kind, other_kind, other) = match ref_name {
        RefName::Branch(name) => ("branch", "tag", RefName::Tag(name.clone())),
        RefName::Tag(name) => ("tag", "branch", RefName::Branch(name.clone())),
    };
    let (name, other) = (plain(ref_name.short().as_bytes()), other.full());
    let hint = match offered.head() {
        _ if offered.id_of(&other).is_some() => format!("; there is a {other_kind}: `--ref {}`", word(&other)),
        Some((_, Some(branch))) => format!("; its default branch is `{}`", plain(branch.short().as_bytes())),
        Some((_, None)) | None => String::new(),
    };
    GitFailure::permanent(format!("{kind} `{name}` is not on the remote {shown}{hint}"))
}

/// Whether nothing has to be asked of the remote. In a working tree, the refs that people see have to be right, too.
fn is_settled(mirror: &LocalRepo, home: &Home, commit: Oid, ref_name: Option<&RefName>) -> bool {
    match (home, &mirror.folder.kind) {
        (Home::Mirror(_) | Home::Module { .. }, _) => true,
        (Home::WorkTree(_), Kind::Clone { remote_name: None } | Kind::Bare) => false,
        (Home::WorkTree(_), Kind::Clone { remote_name: Some(_) }) => {
            ref_name.is_none_or(|it| mirror.commit_at(&it.full()) == Some(commit))
        }
    }
}
