//! Brings a commit from its remote into the mirror.
//!
//! Invariant: a commit that is asked for by its id is that very commit, wherever its branch points by now.

use std::{cell::Cell, collections::BTreeMap, path::Path};

use git2::{Oid, Repository};

use super::{
    Cause, Door, Fetch, Fetched, GitFailure, Verdict,
    ancestry::{self, Told},
    cannot, filter, lfs,
    library::{Journey, travel},
    mirror::{self, Mirror},
    network::{self, Reach},
    packs, present,
    progress::{plain, say},
    remote::{self, Remote},
    submodules::{self, Depth},
};
use crate::model::{
    job::Target,
    push::{CommitFacts, CommitId, RefName},
};

/// Does the order: holds the commit against what is live, and brings what else it needs.
pub(super) fn fetch(order: &Fetch) -> Result<Fetched, GitFailure> {
    fetch_at(order, Depth::outermost(&Cell::new(0)))
}

/// Does an order that repositories above led to.
pub(super) fn fetch_at(order: &Fetch, depth: Depth<'_>) -> Result<Fetched, GitFailure> {
    let fetched = fetch_commit(order)?;
    match fetched.verdict {
        Verdict::GoAhead { .. } => submodules::fetch(order, &fetched.commit, depth)?,
        Verdict::Stale { .. } | Verdict::Skipped { .. } => (),
    }
    Ok(fetched)
}

fn fetch_commit(order: &Fetch) -> Result<Fetched, GitFailure> {
    match try_fetch(order) {
        // A mirror is only a copy.
        Err(failure) if mirror::is_noted_as_damaged(&order.mirror) => {
            say(&failure.reason);
            try_fetch(order)
        }
        result => result,
    }
}

fn try_fetch(order: &Fetch) -> Result<Fetched, GitFailure> {
    let remote = remote::parse(&order.remote)?;
    let shown = remote.shown();
    if order.target.commit().is_some_and(|it| it.as_str().len() != 40) {
        return Err(sha256(&shown));
    }
    let mut mirror = Mirror::for_fetch(&order.mirror, &shown)?;
    let (mut fetched, freshness) = bring(order, &remote, &mirror)?;
    let journey = Journey::new(order, &remote);
    // A repository of this machine may itself lack history; there is no more to be had of it.
    let mut reach = if mirror.repo.is_shallow() && !journey.remote.is_local() { Reach::Part } else { Reach::All };
    let mut times = 0;
    fetched.verdict = loop {
        mirror.reopen()?;
        match judge(order, &journey, &mirror, &fetched, (freshness, reach))? {
            Told::Now(verdict) => break verdict,
            Told::WithMoreHistory => {
                let ref_name = fetched.ref_name.as_ref();
                reach = travel(&journey, || network::deepen(&mirror.repo, &journey, ref_name, times))?;
                times += 1;
            }
        }
    };
    if matches!(fetched.verdict, Verdict::GoAhead { .. }) {
        lfs::pull(order, &journey, &mirror, &fetched.commit)?;
    }
    Ok(fetched)
}

fn judge(
    order: &Fetch,
    journey: &Journey,
    mirror: &Mirror,
    fetched: &Fetched,
    (freshness, reach): (Freshness, Reach),
) -> Result<Told<Verdict>, GitFailure> {
    let about = (&fetched.commit, fetched.ref_name.as_ref());
    let verdict = ancestry::judge((mirror, reach), &order.against, about, |ref_name| match freshness {
        Freshness::OfNow => Ok(present::commit_at(&mirror.repo, ref_name)),
        Freshness::OfBefore => present::points_at(&mirror.repo, journey, ref_name),
    })?;
    if !matches!(verdict, Told::Now(Verdict::GoAhead { .. })) {
        return Ok(verdict);
    }
    Ok(match filter::left_out(mirror, reach, &order.against, &fetched.commit)? {
        Told::Now(Some(reason)) => Told::Now(Verdict::Skipped { reason }),
        Told::Now(None) => verdict,
        Told::WithMoreHistory => Told::WithMoreHistory,
    })
}

/// How fresh the mirror's refs are.
#[derive(Clone, Copy)]
enum Freshness {
    /// The remote was asked for them just now.
    OfNow,
    /// They are what an earlier fetch found.
    OfBefore,
}

/// Brings the commit into the mirror, unless it is there.
fn bring(order: &Fetch, remote: &Remote, mirror: &Mirror) -> Result<(Fetched, Freshness), GitFailure> {
    let shown = remote.shown();
    if let Target::Commit { commit, ref_name } = &order.target
        && let Some(found) = find(&mirror.repo, commit)
    {
        say(&format!("{} is in the mirror already", commit.short()));
        return Ok((describe(mirror, found, ref_name.clone())?, Freshness::OfBefore));
    }
    say(&format!("fetching {shown}"));
    let plain_http = matches!(remote, Remote::Http { url, .. } if url.scheme() == "http");
    if plain_http && matches!(order.door, Door::Token { .. }) {
        say("warning: the token goes over plain http, where anyone on the way can read it");
    }
    let offered = match remote {
        Remote::Local(path) => from_folder(&mirror.repo, path, order.target.commit())?,
        Remote::Http { .. } | Remote::Ssh { .. } => {
            let journey = Journey::new(order, remote);
            travel(&journey, || network::fetch(&mirror.repo, &journey, &order.target, order.scope.depth))?
        }
    };
    mirror.unite_packs()?;
    let fetched = match &order.target {
        Target::Commit { commit, ref_name } => match find(&mirror.repo, commit) {
            Some(found) => describe(mirror, found, ref_name.clone()),
            None => Err(gone(commit)),
        },
        Target::Ref(ref_name) => match offered.refs.iter().find(|(name, _)| *name == ref_name.full()) {
            Some((_, id)) => describe(mirror, *id, Some(ref_name.clone())),
            None => {
                let kind = match ref_name {
                    RefName::Branch(_) => "branch",
                    RefName::Tag(_) => "tag",
                };
                Err(GitFailure::permanent(format!("{kind} `{}` is not on the remote {shown}", ref_name.short())))
            }
        },
        Target::DefaultBranch => match offered.head {
            Some((id, name)) => describe(mirror, id, name),
            None => Err(GitFailure::permanent(format!("the remote {shown} has no default branch, or is empty"))),
        },
        Target::Release { .. } | Target::Standing => Err(GitFailure::permanent("what stands already is not fetched")),
    };
    Ok((fetched?, Freshness::OfNow))
}

pub(super) fn gone(commit: &CommitId) -> GitFailure {
    let short = commit.short();
    GitFailure::permanent(format!(
        "commit {short} is no longer on the remote (was the branch force-pushed or deleted?)"
    ))
}

pub(super) fn sha256(shown: &str) -> GitFailure {
    GitFailure::permanent(format!(
        "{shown} is a SHA-256 repository, and the libgit2 of this build reads SHA-1 ones only"
    ))
}

/// What libgit2 says of such a repository, here and far away.
pub(super) fn speaks_of_sha256(err: &git2::Error) -> bool {
    err.message().contains("object format 'sha256'")
}

pub(super) fn find(repo: &Repository, commit: &CommitId) -> Option<Oid> {
    let id = Oid::from_str(commit.as_str()).ok()?;
    repo.odb().ok()?.exists(id).then_some(id)
}

/// The commit behind an id, which may be that of an annotated tag.
fn describe(mirror: &Mirror, id: Oid, ref_name: Option<RefName>) -> Result<Fetched, GitFailure> {
    let object = mirror.repo.find_object(id, None);
    let object = object.map_err(|err| mirror.folder.is_damaged(&format!("cannot read object {id}: {}", err.why())))?;
    let Ok(commit) = object.peel_to_commit() else {
        return Err(GitFailure::permanent(format!("object {id} is not a commit, and leads to none")));
    };
    let author = commit.author();
    let facts = CommitFacts {
        subject: plain(commit.summary_bytes().unwrap_or_default()),
        author: plain(author.name_bytes()),
        author_email: plain(author.email_bytes()),
    };
    let commit = CommitId::parse(&commit.id().to_string()).expect("libgit2 prints ids as 40 hex digits");
    say(&format!("{} {}", commit.short(), facts.subject));
    Ok(Fetched { commit, ref_name, facts, verdict: Verdict::GoAhead { remark: None } })
}

/// What a remote has: its branches and tags, and what its HEAD stands for.
pub(super) struct Offered {
    refs: Vec<(String, Oid)>,
    head: Option<(Oid, Option<RefName>)>,
}

impl Offered {
    pub(super) fn new(all: impl Iterator<Item = (String, Oid, Option<String>)>) -> Self {
        let mut offered = Self { refs: Vec::new(), head: None };
        for (name, id, symref) in all {
            if name == "HEAD" {
                offered.head = Some((id, symref.as_deref().and_then(RefName::parse)));
            } else if RefName::parse(&name).is_some() {
                offered.refs.push((name, id));
            }
        }
        offered
    }

    /// Where a branch or tag is, by its full name.
    pub(super) fn id_of(&self, name: &str) -> Option<Oid> {
        self.refs.iter().find(|(it, _)| it == name).map(|(_, id)| *id)
    }
}

/// libgit2's own local transport packs every tag again with each fetch, and cannot be asked for one commit.
fn from_folder(repo: &Repository, path: &Path, wanted: Option<&CommitId>) -> Result<Offered, GitFailure> {
    let shown = path.display();
    let source = open_source(path)?;
    // So that its packs are made within the mirror's limits.
    repo.config().and_then(|it| source.set_config(&it)).map_err(cannot("read the mirror's configuration"))?;
    let read = || cannot::<git2::Error>(format!("read the refs of `{shown}`"));
    let mut all = Vec::new();
    for reference in source.references().map_err(read())? {
        // A ref that leads nowhere is not offered, as in git.
        let reference = reference.map_err(read())?;
        if let (Ok(name), Some(id)) = (reference.name(), reference.resolve().ok().and_then(|it| it.target())) {
            all.push((name.to_owned(), id, None));
        }
    }
    if let Ok(head) = source.find_reference("HEAD")
        && let Some(id) = head.resolve().ok().and_then(|it| it.target())
    {
        let symref = head.symbolic_target().ok().flatten().map(str::to_owned);
        all.push(("HEAD".to_owned(), id, symref));
    }
    let offered = Offered::new(all.into_iter());
    let odb = repo.odb().map_err(cannot("open the mirror's objects"))?;
    let mut wants: Vec<Oid> = offered.refs.iter().map(|(_, id)| *id).collect();
    wants.extend(offered.head.iter().map(|(id, _)| *id));
    wants.extend(wanted.and_then(|it| find(&source, it)));
    wants.retain(|id| !odb.exists(*id));
    let has = known(repo)?;
    let count = match wants.is_empty() {
        true => 0,
        false => packs::gather(&source, &wants, &has)?.pour(repo)?,
    };
    say(&if count == 0 { "nothing new".to_owned() } else { format!("received {count} objects") });
    adopt_refs(repo, &offered)?;
    Ok(offered)
}

/// Opens a repository of this machine that is fetched from.
pub(super) fn open_source(path: &Path) -> Result<Repository, GitFailure> {
    let shown = path.display();
    Repository::open(remote::folder(path)).map_err(|err| {
        if speaks_of_sha256(&err) {
            return sha256(&shown.to_string());
        }
        GitFailure::permanent(format!("there is no git repository we can read at `{shown}`: {}", err.why()))
    })
}

/// What the mirror's refs point at.
fn known(repo: &Repository) -> Result<Vec<Oid>, GitFailure> {
    let read = || cannot::<git2::Error>("read the mirror's refs");
    let mut known = Vec::new();
    for reference in repo.references().map_err(read())? {
        known.extend(reference.map_err(read())?.target());
    }
    Ok(known)
}

/// Makes the mirror's branches and tags those of the remote, as far as they were fetched. What is gone goes first, as
/// `a` may have become `a/b`.
pub(super) fn adopt_refs(repo: &Repository, offered: &Offered) -> Result<(), GitFailure> {
    let write = || cannot::<git2::Error>("write the mirror's refs");
    let odb = repo.odb().map_err(write())?;
    let mut wanted: BTreeMap<&str, Oid> = offered.refs.iter().map(|(name, id)| (name.as_str(), *id)).collect();
    if repo.is_shallow() {
        wanted.retain(|_, id| odb.exists(*id));
    }
    let mut present = BTreeMap::new();
    for reference in repo.references().map_err(write())? {
        let mut reference = reference.map_err(write())?;
        let Ok(name) = reference.name().map(str::to_owned) else { continue };
        match wanted.get(name.as_str()) {
            Some(_) => {
                present.insert(name, reference.target());
            }
            None if name == network::WANTED => (),
            None => reference.delete().map_err(write())?,
        }
    }
    let changed: Vec<_> = wanted.iter().filter(|(name, id)| present.get(**name) != Some(&Some(**id))).collect();
    for (name, id) in &changed {
        repo.reference(name, **id, true, "fetch").map_err(write())?;
    }
    if changed.len() > 200 {
        repo.refdb().and_then(|it| it.compress()).map_err(write())?;
    }
    Ok(())
}
