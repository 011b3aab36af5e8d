//! Leaves out what the hook does not want deployed: changes to other files, and commits that say so themselves.
//!
//! Both are about branches: a tag is put on a commit to have just that one deployed. GitHub's path filters are not
//! evaluated for tags either
//! (<https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#onpushpathspaths-ignore>).
//!
//! Invariant: files and messages are those of git's history since what is live, never the lists of a payload, which
//! forges cut short.

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::{
    Against, GitFailure, cannot,
    history::{Reach, Told},
    mirror::repository::LocalRepo,
};
use crate::model::{
    hook::Patterns,
    job::Asked,
    push::{CommitId, RefName},
};

/// What a hook wants to be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Globs of which one must fit a changed file; none: any file will do.
    pub paths: Vec<String>,
    /// Words of which every new commit must carry one to be left out.
    pub skip_markers: Vec<String>,
}

/// The rule by which the commit is left out, if there is one. A person who asks for it is not held to these rules.
pub(super) fn left_out(
    mirror: &LocalRepo,
    reach: Reach,
    against: &Against,
    (commit, ref_name): (&CommitId, Option<&RefName>),
) -> Result<Told<Option<String>>, GitFailure> {
    match (against.asked, ref_name) {
        (Asked::Push, Some(RefName::Branch(_)) | None) => (),
        (Asked::Push, Some(RefName::Tag(_))) | (Asked::Again | Asked::ByHand | Asked::Event, _) => {
            return Ok(Told::Now(None));
        }
    }
    let repo = &mirror.repo;
    let find = |it: &CommitId| Oid::from_str(it.as_str()).and_then(|id| repo.find_commit(id));
    let commit = find(commit).map_err(cannot("find the commit in the mirror"))?;
    let live = against.live.as_ref().and_then(|it| find(it).ok());
    let marked = marked(repo, commit.id(), live.as_ref().map(|it| it.id()), &against.filter.skip_markers);
    if let Some(rule) = marked.map_err(cannot("read the messages of the new commits"))? {
        // A commit without a marker may lie beyond what is at hand.
        let is_all = live.as_ref().is_some_and(|it| repo.graph_descendant_of(commit.id(), it.id()).unwrap_or(false));
        return Ok(if is_all || reach == Reach::All { Told::Now(Some(rule)) } else { Told::WithMoreHistory });
    }
    if live.is_none() && against.live.is_some() && !against.filter.paths.is_empty() && reach == Reach::Part {
        return Ok(Told::WithMoreHistory);
    }
    // Of what was changed half-way the difference to what is live says nothing.
    match live.filter(|_| !against.is_disturbed && !against.filter.paths.is_empty()) {
        Some(live) => elsewhere(mirror, (live.tree_id(), commit.tree_id()), &against.filter.paths).map(Told::Now),
        None => Ok(Told::Now(None)),
    }
}

/// Whether each commit since `live` says of itself that it is not to be deployed. Where nothing is live, or nobody has
/// that any more, all of history is new.
fn marked(
    repo: &Repository,
    commit: Oid,
    live: Option<Oid>,
    markers: &[String],
) -> Result<Option<String>, git2::Error> {
    if markers.is_empty() {
        return Ok(None);
    }
    let mut walk = repo.revwalk()?;
    walk.push(commit)?;
    live.map_or(Ok(()), |it| walk.hide(it))?;
    let mut found: Vec<&str> = Vec::new();
    let mut count = 0_u64;
    for id in walk {
        let commit = repo.find_commit(id?)?;
        let message = commit.message_raw_bytes();
        let has = |marker: &str| message.windows(marker.len()).any(|it| it == marker.as_bytes());
        let Some(marker) = markers.iter().find(|it| has(it)) else { return Ok(None) };
        if !found.contains(&marker.as_str()) {
            found.push(marker);
        }
        count += 1;
    }
    let found = found.join("` or `");
    Ok(match count {
        // The branch was moved back.
        0 => None,
        1 => Some(format!("`skip_markers`: the message of the new commit has `{found}`")),
        more => Some(format!("`skip_markers`: the message of each of the {more} new commits has `{found}`")),
    })
}

/// Whether all that differs between the two trees is outside of these paths.
fn elsewhere(mirror: &LocalRepo, (live, new): (Oid, Oid), paths: &[String]) -> Result<Option<String>, GitFailure> {
    let patterns = Patterns::of_files(paths).map_err(|why| GitFailure::other(format!("cannot read `paths`: {why}")))?;
    let changes = mirror.changes(Some(live), new)?;
    let fits = |path: &[u8]| patterns.match_name(&String::from_utf8_lossy(path));
    if changes.iter().any(|it| fits(&it.path)) {
        return Ok(None);
    }
    let what = match changes.len() {
        0 => "no file differs from what is live".to_owned(),
        1 => "the one file that differs from what is live is not".to_owned(),
        more => format!("none of the {more} files that differ from what is live is"),
    };
    Ok(Some(match changes.len() {
        0 => format!("`paths`: {what}"),
        _ => format!("`paths`: {what} in {}", patterns.shown()),
    }))
}
