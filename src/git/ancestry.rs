//! Holds a commit against what is live, so that an older one never overwrites a newer one by accident of order.
//!
//! Invariant: what was pushed goes on only if it comes after what is live, or if the remote has it now. History is
//! asked for that, never a clock.

use git2::Oid;
use serde::{Deserialize, Serialize};

use super::{
    Cause, Filter, GitFailure,
    history::{Reach, Told},
    mirror::{commits, repository::LocalRepo},
};
use crate::{
    model::{
        job::Asked,
        push::{CommitId, RefName},
    },
    process::text_form,
};

/// What a commit is held against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Against {
    /// What is live; `None`: nothing yet.
    #[serde(with = "text_form")]
    pub live: Option<CommitId>,
    /// Whether a run since then may have changed what is there, so that bringing `live` again would change something.
    pub is_disturbed: bool,
    /// How much of it a person asked for.
    #[serde(with = "text_form")]
    pub asked: Asked,
    /// What is left out.
    pub filter: Filter,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The run goes on.
    GoAhead {
        /// What people should know all the same, as a sentence without a full stop.
        remark: Option<String>,
    },
    /// Something newer is live, and the remote does not have this commit any more.
    Stale {
        /// How the two stand to one another, as a sentence without a full stop.
        reason: String,
    },
    /// Going on would change nothing.
    Skipped {
        /// The rule that says so, as a sentence without a full stop.
        reason: String,
    },
}

/// How a commit stands to what is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    Newer,
    Older,
    Diverged,
    /// What is live is not in the mirror any more, so nobody can tell.
    Unknown,
    /// The history at hand does not go back far enough to tell.
    OutOfReach,
}

/// Holds a commit against what is live. `now` is where the remote has its ref at this moment; it is asked only if that
/// decides.
pub(super) fn judge(
    (mirror, reach): (&LocalRepo, Reach),
    against: &Against,
    (commit, ref_name): (&CommitId, Option<&RefName>),
    now: impl Fn(&RefName) -> Result<Option<Oid>, GitFailure>,
) -> Result<Told<Verdict>, GitFailure> {
    let goes_ahead = Told::Now(Verdict::GoAhead { remark: None });
    let Some(live) = &against.live else { return Ok(goes_ahead) };
    let relation = relate(mirror, reach, commit, live)?;
    let stands = match relation {
        Relation::Newer => return Ok(goes_ahead),
        Relation::Same => return Ok(Told::Now(again(commit, against))),
        Relation::OutOfReach => {
            // Who asked for it, or what the remote has now, needs no history.
            let is_by_hand = matches!(against.asked, Asked::ByHand);
            // A branch is where its people want it. A tag may be a new one on an old commit.
            let is_there = || match ref_name {
                Some(branch @ RefName::Branch(_)) => {
                    Ok::<_, GitFailure>(now(branch)?.is_some_and(|it| it.to_string() == commit.as_str()))
                }
                Some(RefName::Tag(_)) | None => Ok(false),
            };
            return Ok(if is_by_hand || is_there()? { goes_ahead } else { Told::WithMoreHistory });
        }
        Relation::Older => format!("{} is older than {}, which is live", commit.short(), live.short()),
        Relation::Diverged => format!("{} does not come after {}, which is live", commit.short(), live.short()),
        Relation::Unknown => format!(
            "whether {} comes after {}, which is live, cannot be told, as that one is not to be had any more",
            commit.short(),
            live.short()
        ),
    };
    match against.asked {
        Asked::Push | Asked::Again => (),
        Asked::ByHand => {
            let remark = format!("{stands}; it is deployed all the same, as a person asked for it");
            return Ok(Told::Now(Verdict::GoAhead { remark: Some(remark) }));
        }
    }
    let Some(ref_name) = ref_name else { return Ok(Told::Now(Verdict::Stale { reason: stands })) };
    let kind = match ref_name {
        RefName::Branch(_) => "branch",
        RefName::Tag(_) => "tag",
    };
    let of_remote = format!("{kind} `{}` of the remote", ref_name.short());
    Ok(Told::Now(match now(ref_name)?.map(|it| it.to_string()) {
        Some(now) if now == commit.as_str() => {
            Verdict::GoAhead { remark: Some(format!("{stands}; but {of_remote} points at it now, so it is meant")) }
        }
        Some(now) => Verdict::Stale {
            reason: format!("{stands}, and {of_remote} is at {} by now", now.get(..7).unwrap_or(&now)),
        },
        None => Verdict::Stale { reason: format!("{stands}, and {of_remote} is gone") },
    }))
}

/// The verdict on the very commit that is live.
fn again(commit: &CommitId, against: &Against) -> Verdict {
    let short = commit.short();
    match (against.asked, against.is_disturbed) {
        (Asked::Push, false) => Verdict::Skipped { reason: format!("{short} is already live") },
        (Asked::Push, true) => Verdict::GoAhead {
            remark: Some(format!("{short} is live, but what is there may have been changed by a run since: once more")),
        },
        (Asked::Again | Asked::ByHand, _) => {
            Verdict::GoAhead { remark: Some(format!("{short} is already live: once more, as a person asked for it")) }
        }
    }
}

fn relate(mirror: &LocalRepo, reach: Reach, commit: &CommitId, live: &CommitId) -> Result<Relation, GitFailure> {
    let repo = &mirror.repo;
    if commit == live {
        return Ok(Relation::Same);
    }
    let find = |it: &CommitId| Oid::from_str(it.as_str()).and_then(|id| repo.find_commit(id)).map(|it| it.id());
    let damaged = |err: git2::Error| {
        mirror.folder.is_damaged(&format!("cannot compare the commit with what is live: {}", err.why()))
    };
    if commits::find(repo, live).is_none() {
        return Ok(match reach {
            Reach::Part => Relation::OutOfReach,
            Reach::All => Relation::Unknown,
        });
    }
    let live = find(live).map_err(damaged)?;
    let compare = || {
        let commit = find(commit)?;
        Ok((repo.graph_descendant_of(commit, live)?, repo.graph_descendant_of(live, commit)?))
    };
    Ok(match compare().map_err(damaged)? {
        (true, _) => Relation::Newer,
        (false, true) => Relation::Older,
        (false, false) if reach == Reach::Part => Relation::OutOfReach,
        (false, false) => Relation::Diverged,
    })
}
