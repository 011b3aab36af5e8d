//! Repositories of a kind that libgit2 does not read, or reads in another way than git: they are refused, with the
//! command that makes them usual.
//!
//! Invariant: what is refused is refused before anything in it changes.

use std::fs;

use git2::{Error, Repository};

use super::sound;
use crate::git::{
    GitFailure,
    config::{Setting, settings},
    shell::path_word,
};

/// Fails where the repository is of a kind that would not be done right.
pub(super) fn refuse(repo: &Repository) -> Result<(), GitFailure> {
    let refused = |what: &str, mend: &str| {
        let folder = path_word(repo.workdir().unwrap_or(repo.path()));
        let shown = repo.path().display();
        Err(GitFailure::permanent(format!("the repository `{shown}` {what}: run `cd {folder} && {mend}`")))
    };
    let config = settings(&fs::read(repo.commondir().join("config")).unwrap_or_default());
    let is_partial = |it: &Setting| {
        it.section == b"extensions" && it.key == b"partialclone"
            || it.section == b"remote" && it.key == b"promisor" && it.value != b"false"
    };
    if let Some(setting) = config.iter().find(|it| is_partial(it)) {
        let remote = match setting.section == b"remote" {
            true => String::from_utf8_lossy(&setting.subsection).into_owned(),
            false => String::from_utf8_lossy(&setting.value).into_owned(),
        };
        return refused(
            "is a partial clone, which lacks objects",
            &format!(
                "git fetch --refetch --no-filter {remote} && git config --unset-all extensions.partialClone; git config \
                 --unset-all remote.{remote}.promisor; git config --unset-all remote.{remote}.partialCloneFilter"
            ),
        );
    }
    let grafts = fs::read(repo.commondir().join("info/grafts")).unwrap_or_default();
    if grafts.split(|it| *it == b'\n').any(|line| !line.is_empty() && !line.starts_with(b"#")) {
        return refused("has grafts, which make history another one", "git replace --convert-graft-file");
    }
    sound::refuse(repo)?;
    match repo.index() {
        Ok(_) => Ok(()),
        Err(err) => match advice(&err) {
            Some(what) => refused(what, mend(&err)),
            // A spoilt index is told where it is read.
            None => Ok(()),
        },
    }
}

/// What an error of libgit2 says of the kind of a repository, if it does.
pub(super) fn advice(err: &Error) -> Option<&'static str> {
    let message = err.message();
    if message.contains("extension: 'link'") {
        Some("has a split index")
    } else if message.contains("extension: 'sdir'") {
        Some("has a sparse index")
    } else if message.contains("extensions.refstorage") {
        Some("keeps its refs in a reftable: `git refs migrate --ref-format=files` makes them files")
    } else {
        None
    }
}

fn mend(err: &Error) -> &'static str {
    match err.message().contains("'link'") {
        true => "git config core.splitIndex false && git update-index --no-split-index",
        false => "git sparse-checkout reapply --no-sparse-index",
    }
}

/// Fails where a person has put something else in the place of what is to be deployed (git-replace(1)).
pub(super) fn refuse_replaced(repo: &Repository, commit: git2::Oid) -> Result<(), GitFailure> {
    let tree = repo.find_commit(commit).map(|it| it.tree_id());
    for id in [Some(commit), tree.ok()].into_iter().flatten() {
        if repo.refname_to_id(&format!("refs/replace/{id}")).is_ok() {
            let folder = path_word(repo.workdir().unwrap_or(repo.path()));
            return Err(GitFailure::permanent(format!(
                "`refs/replace/{id}` puts something else in the place of what was pushed: run `cd {folder} && git \
                 replace -d {id}`"
            )));
        }
    }
    Ok(())
}
