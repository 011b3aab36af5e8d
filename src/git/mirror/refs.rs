//! The refs that a fetch moves: what the remote offers, and what this repository makes of it.
//!
//! Invariant: a ref is written only once what it leads to is there, and one that cannot be written is no reason to fail
//! but where the order is about it.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Oid, Repository};

use super::repository::{Kind, LocalRepo};
use crate::git::{
    Cause, GitFailure, cannot, locks,
    progress::{plain, say},
    shell::{path_word, word},
};
use crate::model::push::{CommitId, RefName};

/// Where a commit stays that is on no ref that is fetched, so that the next fetch builds on it.
pub(in crate::git) const WANTED: &str = "refs/landfall/wanted";

/// The commit that a working tree was brought to last.
pub(in crate::git) const DEPLOYED: &str = "refs/landfall/deployed";

/// Below it is where a branch of the remote was before somebody forced or deleted it: what was there was the remote's, and
/// is no work of a person's in the working tree.
const REPLACED: &str = "refs/landfall/replaced";

/// More refs than this are packed into one file.
const LOOSE_MAX: usize = 200;

/// What a remote has: its branches and tags, and what its HEAD stands for.
pub(in crate::git) struct Offered {
    refs: BTreeMap<String, Oid>,
    /// Those of another kind, such as of a pull request, by what they lead to.
    others: BTreeMap<Oid, String>,
    /// What annotated tags lead to.
    peeled: BTreeMap<String, Oid>,
    head: Option<(Oid, Option<RefName>)>,
}

impl Offered {
    pub(in crate::git) fn new(all: impl Iterator<Item = (String, Oid, Option<String>)>) -> Self {
        let (refs, others, peeled) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut offered = Self { refs, others, peeled, head: None };
        for (name, id, symref) in all {
            if name == "HEAD" {
                offered.head = Some((id, symref.as_deref().and_then(RefName::parse)));
            } else if let Some(tag) = name.strip_suffix("^{}") {
                offered.peeled.insert(tag.to_owned(), id);
            } else if RefName::parse(&name).is_some() {
                offered.refs.insert(name, id);
            } else {
                offered.others.insert(id, name);
            }
        }
        offered
    }

    /// Where a branch or tag is, by its full name.
    pub(in crate::git) fn id_of(&self, name: &str) -> Option<Oid> {
        self.refs.get(name).copied()
    }

    /// The commit of a branch or tag, by its full name.
    pub(in crate::git) fn commit_of(&self, name: &str) -> Option<Oid> {
        self.peeled.get(name).or_else(|| self.refs.get(name)).copied()
    }

    /// The full name of a ref that is neither branch nor tag, and leads to this commit.
    pub(in crate::git) fn other_name_of(&self, commit: &CommitId) -> Option<&str> {
        let id = Oid::from_str(commit.as_str()).ok()?;
        self.others.get(&id).map(String::as_str)
    }

    /// What HEAD stands for, and the branch it is on.
    pub(in crate::git) fn head(&self) -> Option<&(Oid, Option<RefName>)> {
        self.head.as_ref()
    }

    /// The full names of all of them.
    pub(in crate::git) fn names(&self) -> impl Iterator<Item = &String> {
        self.refs.keys()
    }

    /// Whether one of them leads to this commit.
    pub(in crate::git) fn has(&self, commit: Oid) -> bool {
        let mut all = self.refs.values().chain(self.peeled.values()).chain(self.head.iter().map(|(id, _)| id));
        all.any(|it| *it == commit)
    }

    /// Tags that lead into what is there, and are not there themselves.
    pub(in crate::git) fn tags_into(&self, repo: &Repository) -> Result<Vec<String>, GitFailure> {
        let odb = repo.odb().map_err(cannot("open the objects"))?;
        let tags = self.refs.iter().filter(|(name, _)| name.starts_with("refs/tags/"));
        let into = tags.filter(|(name, id)| {
            let target = self.peeled.get(*name).unwrap_or(id);
            odb.exists(*target) && repo.refname_to_id(name).ok() != Some(**id)
        });
        Ok(into.map(|(name, _)| name.clone()).collect())
    }
}

/// Moves the refs of these names to where the remote has them, and drops those that it does not have any more. What is
/// gone goes first, as `a` may have become `a/b`.
pub(in crate::git) fn adopt(
    mirror: &LocalRepo,
    offered: &Offered,
    fetched: &BTreeSet<String>,
    target: Option<&RefName>,
) -> Result<(), GitFailure> {
    let repo = &mirror.repo;
    let what = || cannot::<git2::Error>(format!("write the refs of `{}`", repo.path().display()));
    wait_for_others(mirror, "packed-refs")?;
    drop_gone(mirror, offered).map_err(what())?;
    let odb = repo.odb().map_err(what())?;
    let mut changed = 0;
    for (name, id) in &offered.refs {
        let Some(local) = mirror.folder.kind.local_name(name).filter(|_| fetched.contains(name)) else { continue };
        if !odb.exists(*id) || repo.refname_to_id(&local).ok() == Some(*id) {
            continue;
        }
        changed += 1;
        wait_for_others(mirror, &local)?;
        remember(mirror, &local, Some(*id));
        if let Err(err) = repo.reference(&local, *id, true, "landfall: fetch") {
            if target.is_some_and(|it| it.full() == *name) {
                return Err(in_the_way(mirror, &local).unwrap_or_else(|| what()(err)));
            }
            say(&format!("warning: cannot write `{}`: {}", plain(local.as_bytes()), err.why()));
        }
    }
    if changed > LOOSE_MAX && mirror.folder.kind == Kind::Bare {
        repo.refdb().and_then(|it| it.compress()).map_err(what())?;
    }
    Ok(())
}

/// Drops the refs that stand for branches, and in a mirror for tags, which the remote does not have.
fn drop_gone(mirror: &LocalRepo, offered: &Offered) -> Result<(), git2::Error> {
    let glob = match &mirror.folder.kind {
        Kind::Bare => "refs/*".to_owned(),
        Kind::Clone { remote_name: Some(name) } => format!("refs/remotes/{name}/*"),
        Kind::Clone { remote_name: None } => return Ok(()),
    };
    let kind = &mirror.folder.kind;
    let kept: BTreeSet<String> = offered.names().filter_map(|it| kind.local_name(it)).collect();
    for reference in mirror.repo.references_glob(&glob)? {
        let mut reference = reference?;
        let Ok(name) = reference.name().map(str::to_owned) else { continue };
        // Which branch is the default one is noted in a ref of its own.
        let is_head = name.starts_with("refs/remotes/") && name.ends_with("/HEAD");
        if name != WANTED && !is_head && !kept.contains(&name) {
            remember(mirror, &name, None);
            reference.delete()?;
        }
    }
    Ok(())
}

/// Keeps in mind where a branch was, if that does not lead to where it goes.
fn remember(mirror: &LocalRepo, local: &str, new: Option<Oid>) {
    let Some(branch) = local.strip_prefix("refs/remotes/") else { return };
    let Ok(old) = mirror.repo.refname_to_id(local) else { return };
    if new.is_some_and(|it| mirror.repo.graph_descendant_of(it, old).unwrap_or(false)) {
        return;
    }
    let name = format!("{REPLACED}/{}", branch.replace('/', "%"));
    // Without it a commit is saved once too often.
    let _ = mirror.repo.reference(&name, old, true, "landfall: fetch");
}

/// A person's git may hold a lock for a moment. Nobody else's is left in a mirror.
fn wait_for_others(mirror: &LocalRepo, name: &str) -> Result<(), GitFailure> {
    match mirror.folder.kind {
        Kind::Bare => Ok(()),
        Kind::Clone { .. } => locks::wait_until_free(&mirror.folder.path().join(format!("{name}.lock"))),
    }
}

/// What to do about a tag whose name leaves no room for another one: git keeps refs in files and folders, and never drops a
/// tag by itself.
fn in_the_way(mirror: &LocalRepo, local: &str) -> Option<GitFailure> {
    let references = mirror.repo.references_glob("refs/tags/*").ok()?;
    let names: Vec<String> = references.flatten().filter_map(|it| it.name().ok().map(str::to_owned)).collect();
    let is_obstacle = |it: &&String| local.starts_with(&format!("{it}/")) || it.starts_with(&format!("{local}/"));
    let tag = names.iter().find(is_obstacle)?.strip_prefix("refs/tags/")?;
    Some(GitFailure::permanent(format!(
        "tag `{}` cannot be made beside tag `{}`, which the remote may not have any more: run `git --git-dir={} tag -d {}`",
        plain(local.trim_start_matches("refs/tags/").as_bytes()),
        plain(tag.as_bytes()),
        path_word(mirror.folder.path()),
        word(tag)
    )))
}
