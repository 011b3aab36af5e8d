//! Writes the tree of a commit that was brought: into a new folder, or into a working tree.
//!
//! Invariant: afterwards the folder holds exactly the commit's tree, or the order failed.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use git2::{Commit, Oid, Repository};

use super::{
    GitFailure, Place, Stage, Staged, cannot,
    checkout::fresh,
    in_place::{self, InPlace},
    mirror::repository::LocalRepo,
};
use crate::model::push::CommitId;

/// Does the order.
pub(super) fn stage(order: &Stage) -> Result<Staged, GitFailure> {
    let id = Oid::from_str(order.commit.as_str()).map_err(cannot("read the commit's id"))?;
    let (mirror, before, patch_saved) = match &order.place {
        Place::Fresh { mirror, tree, ref_name } => {
            let mirror = LocalRepo::for_reading(mirror)?;
            fresh::write(&mirror, &order.remote, (id, ref_name.as_ref()), &order.scope, tree)?;
            (mirror, None, false)
        }
        Place::InPlace { path, ref_name, dirty, clean, patch } => {
            let ref_name = ref_name.as_ref();
            let (remote, scope) = (&order.remote, &order.scope);
            let place = InPlace { path, remote, ref_name, dirty: *dirty, clean: *clean, patch, scope };
            let brought = in_place::bring(id, &place)?;
            let before = brought.before.and_then(|id| CommitId::parse(&id.to_string()));
            (LocalRepo::of_clone(&path.join(".git"), None)?, before, brought.patch_saved)
        }
    };
    let commit = mirror.repo.find_commit(id);
    let commit = commit.map_err(cannot(format!("find commit {} in the repository", order.commit.short())))?;
    let previous = order.previous.clone().or(before);
    let (changed, commit_count) = compare(&mirror, &commit, previous.as_ref(), &order.changed_files)?;
    Ok(Staged { previous, patch_saved, changed, commit_count })
}

/// Writes the list of files that differ from `previous`, and counts them and the commits between.
fn compare(
    mirror: &LocalRepo,
    commit: &Commit<'_>,
    previous: Option<&CommitId>,
    list: &Path,
) -> Result<(u64, Option<u64>), GitFailure> {
    let repo = &mirror.repo;
    let known = previous.and_then(|it| Oid::from_str(it.as_str()).ok()).and_then(|it| repo.find_commit(it).ok());
    let mut names = Vec::new();
    let mut counts = (0, None);
    if let Some(previous) = known {
        for change in mirror.changes(Some(previous.tree_id()), commit.tree_id())? {
            names.extend_from_slice(&change.path);
            names.push(0);
            counts.0 += 1;
        }
        counts.1 = count_new(repo, commit.id(), previous.id()).map_err(cannot("count the new commits"))?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(list);
    let written = file.and_then(|mut file| file.write_all(&names));
    written.map_err(cannot(format!("write `{}`", list.display())))?;
    Ok(counts)
}

/// How many commits lead to `commit` and not to `previous`; `None` where the history at hand does not tell: it was cut
/// short, and a commit without parents in it may belong to what lies beyond the cut.
fn count_new(repo: &Repository, commit: Oid, previous: Oid) -> Result<Option<u64>, git2::Error> {
    let is_shallow = repo.is_shallow();
    let mut walk = repo.revwalk()?;
    walk.push(commit)?;
    walk.hide(previous)?;
    let mut count = 0;
    for id in walk {
        if is_shallow && repo.find_commit(id?)?.parent_count() == 0 {
            return Ok(None);
        }
        count += 1;
    }
    Ok(Some(count))
}
