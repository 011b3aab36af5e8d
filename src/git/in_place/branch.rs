//! The branch that a working tree is on, and its HEAD.
//!
//! Invariant: a ref is moved only when the files are in place, and that it can be moved is known before one changes.

use std::{collections::BTreeSet, fs, path::Path};

use git2::{Oid, Repository};

use super::{adopt::Home, save, writable};
use crate::{
    git::{
        GitFailure, cannot,
        mirror::refs::DEPLOYED,
        progress::{plain, say},
        shell::{path_word, word},
    },
    model::push::RefName,
};

/// Looks whether the branch can be written. Where `a` has become `a/b`, a branch that followed the remote's `a` gives
/// way; answers with the commits that only such a branch has.
pub(super) fn judge(home: &Home, ref_name: Option<&RefName>) -> Result<BTreeSet<Oid>, GitFailure> {
    let mut lost = BTreeSet::new();
    judge_rights(home, "HEAD")?;
    if let Some(branch @ RefName::Branch(_)) = ref_name {
        judge_linked(home, &branch.full())?;
        judge_rights(home, &branch.full())?;
    }
    for name in in_the_way(home, ref_name)? {
        judge_linked(home, &name)?;
        let branch = name.strip_prefix("refs/heads/").unwrap_or(&name);
        let config = home.repo.config().and_then(|mut it| it.snapshot());
        let follows = config.is_ok_and(|it| it.get_string(&format!("branch.{branch}.remote")).ok() == home.origin);
        if !follows && branch_of_head(&home.repo).as_deref() != Some(name.as_str()) {
            let (path, shown) = (path_word(&home.path), plain(branch.as_bytes()));
            let (from, to) = (word(branch), word(&format!("{}-old", branch.replace('/', "-"))));
            return Err(GitFailure::permanent(format!(
                "branch `{}` cannot be made beside the local branch `{shown}`, as git keeps them in files and folders: \
                 run `cd {path} && git branch -m {from} {to}`",
                ref_name.map_or("", RefName::short)
            )));
        }
        let tip = home.repo.refname_to_id(&name).ok();
        lost.extend(tip.filter(|it| save::is_lost(home, *it)));
    }
    Ok(lost)
}

/// Fails where a ref that is to be moved, or its log, cannot be written.
fn judge_rights(home: &Home, full: &str) -> Result<(), GitFailure> {
    let git_dir = home.repo.path();
    // A ref is replaced in its folder, and its log is added to.
    writable::judge_file(git_dir.join(full).parent().unwrap_or(git_dir))?;
    writable::judge_file(&git_dir.join("logs").join(full))
}

/// Fails where another working tree of the same repository is on a branch (git-worktree(1)): it may not move under that.
fn judge_linked(home: &Home, full: &str) -> Result<(), GitFailure> {
    let Ok(linked) = fs::read_dir(home.repo.commondir().join("worktrees")) else { return Ok(()) };
    for own in linked.flatten().map(|it| it.path()) {
        let read = |name: &str| fs::read_to_string(own.join(name)).unwrap_or_default().trim_end().to_owned();
        if read("HEAD").strip_prefix("ref: ") != Some(full) {
            continue;
        }
        let gitdir = read("gitdir");
        let place = Path::new(&gitdir).parent().unwrap_or(Path::new(""));
        let command = match place.exists() {
            true => format!("git worktree remove {}", path_word(place)),
            false => "git worktree prune".to_owned(),
        };
        return Err(GitFailure::permanent(format!(
            "branch `{}` is checked out in the linked working tree `{}`, and cannot be moved under it: run `cd {} && \
             {command}`",
            plain(full.trim_start_matches("refs/heads/").as_bytes()),
            place.display(),
            path_word(&home.path)
        )));
    }
    Ok(())
}

/// Local branches whose names leave no room for the one that is wanted.
fn in_the_way(home: &Home, ref_name: Option<&RefName>) -> Result<Vec<String>, GitFailure> {
    let Some(full) = ref_name.filter(|it| matches!(it, RefName::Branch(_))).map(RefName::full) else {
        return Ok(Vec::new());
    };
    let what = || cannot::<git2::Error>(format!("read the refs of `{}`", home.path.display()));
    let mut names = Vec::new();
    for reference in home.repo.references_glob("refs/heads/*").map_err(what())? {
        let reference = reference.map_err(what())?;
        let Ok(name) = reference.name() else { continue };
        if full.starts_with(&format!("{name}/")) || name.starts_with(&format!("{full}/")) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Moves the branch and HEAD to the commit, and ends a merge or a rebase that a person left.
pub(super) fn move_refs(home: &Home, commit: Oid, ref_name: Option<&RefName>) -> Result<(), GitFailure> {
    let repo = &home.repo;
    let what = || cannot::<git2::Error>(format!("move the refs of `{}`", home.path.display()));
    match ref_name {
        Some(full @ RefName::Branch(name)) => {
            for old in in_the_way(home, ref_name)? {
                if branch_of_head(repo).as_deref() == Some(old.as_str()) {
                    repo.set_head_detached(commit).map_err(what())?;
                }
                repo.find_reference(&old).and_then(|mut it| it.delete()).map_err(what())?;
                say(&format!("branch `{}` gave way to `{}`", plain(old.as_bytes()), plain(full.full().as_bytes())));
            }
            if let Some(origin) = &home.origin {
                follow(home, origin, name).map_err(what())?;
            }
            if repo.refname_to_id(&full.full()).ok() != Some(commit) {
                repo.reference(&full.full(), commit, true, "landfall: deploy").map_err(what())?;
            }
            if branch_of_head(repo) != Some(full.full()) {
                repo.set_head(&full.full()).map_err(what())?;
            }
        }
        Some(RefName::Tag(_)) => repo.set_head_detached(commit).map_err(what())?,
        // A commit that was asked for by itself moves the branch that the tree is on; a new tree is on none.
        None => match branch_of_head(repo).filter(|it| repo.refname_to_id(it).is_ok()) {
            Some(branch) => drop(repo.reference(&branch, commit, true, "landfall: deploy").map_err(what())?),
            None => repo.set_head_detached(commit).map_err(what())?,
        },
    }
    // What we brought is nobody's own work, wherever the remote's branches go from here.
    repo.reference(DEPLOYED, commit, true, "landfall: deploy").map_err(what())?;
    repo.cleanup_state().map_err(what())
}

/// The full name of the branch that HEAD is on; `None`: it is detached.
fn branch_of_head(repo: &Repository) -> Option<String> {
    repo.find_reference("HEAD").ok()?.symbolic_target().ok()?.map(str::to_owned)
}

/// Makes `git pull` work for a person, unless they have set the branch up themselves.
fn follow(home: &Home, origin: &str, branch: &str) -> Result<(), git2::Error> {
    let mut config = home.repo.config()?;
    let key = format!("branch.{branch}.remote");
    if config.get_string(&key).is_ok() {
        return Ok(());
    }
    config.set_str(&key, origin)?;
    config.set_str(&format!("branch.{branch}.merge"), &format!("refs/heads/{branch}"))
}
