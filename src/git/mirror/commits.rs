//! Commits that are looked for in a repository, and what they say of themselves.
//!
//! Invariant: a commit is known by its id, and what is shown of it is one harmless line.

use git2::{Oid, Repository};

use super::repository::LocalRepo;
use crate::git::{
    Cause, Fetched, GitFailure, Verdict,
    progress::{plain, say},
    transport::journey::{Journey, NamedBy},
};
use crate::model::push::{CommitFacts, CommitId, RefName};

/// A commit that the remote does not have.
pub(in crate::git) fn gone(commit: &CommitId, journey: &Journey) -> GitFailure {
    let short = commit.short();
    GitFailure::permanent(match &journey.named_by {
        NamedBy::Hook => {
            format!("commit {short} is no longer on the remote (was the branch force-pushed or deleted?)")
        }
        NamedBy::Gitmodules { .. } => format!(
            "commit {short}, which the commit around it wants, is not on the remote {}: most likely it was never pushed \
             there (`git push --recurse-submodules=on-demand` pushes both), or its branch was force-pushed or deleted",
            journey.remote.shown()
        ),
    })
}

/// A repository whose ids are longer than libgit2 takes.
pub(in crate::git) fn sha256(shown: &str) -> GitFailure {
    GitFailure::permanent(format!(
        "{shown} is a SHA-256 repository, and the libgit2 of this build reads SHA-1 ones only"
    ))
}

/// What libgit2 says of such a repository, here and far away.
pub(in crate::git) fn speaks_of_sha256(err: &git2::Error) -> bool {
    err.message().contains("object format 'sha256'")
}

/// The commit, if it is there.
pub(in crate::git) fn find(repo: &Repository, commit: &CommitId) -> Option<Oid> {
    let id = Oid::from_str(commit.as_str()).ok()?;
    repo.odb().ok()?.exists(id).then_some(id)
}

/// The commit behind an id, which may be that of an annotated tag.
pub(in crate::git) fn describe(mirror: &LocalRepo, id: Oid, ref_name: Option<RefName>) -> Result<Fetched, GitFailure> {
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
