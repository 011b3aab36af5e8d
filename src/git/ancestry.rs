//! Holds a commit against what is live, so that an older one never overwrites a newer one by accident of order.
//!
//! Invariant: what was pushed goes on only if it comes after what is live, or if the remote has it now. A new tag on
//! an older commit never does. History is asked for that, never a clock.

use git2::Oid;
use serde::{Deserialize, Serialize};

use super::{
    Cause, Filter, GitFailure,
    history::{Reach, Told},
    mirror::{commits, repository::LocalRepo},
    shell,
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
    /// The ref that `live` came from; `None`: that is not known.
    #[serde(with = "text_form")]
    pub live_ref: Option<RefName>,
    /// Whether the commit comes with a tag that was not there before.
    pub is_new_tag: bool,
    /// Whether a run since then may have changed what is there, so that bringing `live` again would change something.
    pub is_disturbed: bool,
    /// How much of it a person asked for.
    #[serde(with = "text_form")]
    pub asked: Asked,
    /// What is left out.
    pub filter: Filter,
}

impl Against {
    /// Nothing is live, and nothing is left out.
    pub fn nothing(asked: Asked) -> Self {
        Self { live: None, live_ref: None, is_new_tag: false, is_disturbed: false, asked, filter: Filter::default() }
    }
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
        /// The options with which `landfall deploy` deploys it all the same.
        options: String,
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
        Relation::Same => return Ok(Told::Now(again(commit, ref_name, against))),
        Relation::OutOfReach => {
            // Who asked for it, or what the remote has now, needs no history.
            let is_wanted = matches!(against.asked, Asked::ByHand | Asked::Event);
            // A branch is where its people want it. A tag may be a new one on an old commit.
            let is_there = || match ref_name {
                Some(branch @ RefName::Branch(_)) => {
                    Ok::<_, GitFailure>(now(branch)?.is_some_and(|it| it.to_string() == commit.as_str()))
                }
                Some(RefName::Tag(_)) | None => Ok(false),
            };
            return Ok(if is_wanted || is_there()? { goes_ahead } else { Told::WithMoreHistory });
        }
        Relation::Older => format!("{} is older than {}, which is live", commit.short(), live.short()),
        Relation::Diverged => format!("{} does not come after {}, which is live", commit.short(), live.short()),
        Relation::Unknown => format!(
            "whether {} comes after {}, which is live, cannot be told, as that one is not to be had any more",
            commit.short(),
            live.short()
        ),
    };
    let why = match against.asked {
        Asked::Push | Asked::Again => None,
        Asked::ByHand => Some("as a person asked for it"),
        Asked::Event => Some("as what changed is outside of the repository"),
    };
    if let Some(why) = why {
        let remark = format!("{stands}; it is deployed all the same, {why}");
        return Ok(Told::Now(Verdict::GoAhead { remark: Some(remark) }));
    }
    let by_commit = || format!("--sha {commit}");
    let Some(ref_name) = ref_name else {
        return Ok(Told::Now(Verdict::Stale { reason: stands, options: by_commit() }));
    };
    // Who puts a tag on an old commit gives it a name, and does not ask for a way back.
    if let (RefName::Tag(tag), Relation::Older, true) = (ref_name, relation, against.is_new_tag) {
        let options = format!("--ref {}", shell::word(&ref_name.full()));
        return Ok(Told::Now(Verdict::Stale { reason: format!("tag `{tag}` is new, and {stands}"), options }));
    }
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
            options: by_commit(),
        },
        None => Verdict::Stale { reason: format!("{stands}, and {of_remote} is gone"), options: by_commit() },
    }))
}

/// The verdict on the very commit that is live. From another ref it is another deploy: scripts see the name of the ref.
fn again(commit: &CommitId, ref_name: Option<&RefName>, against: &Against) -> Verdict {
    let short = commit.short();
    let remark = match (against.asked, other_ref(against, ref_name)) {
        (Asked::Push, None) if !against.is_disturbed => {
            return Verdict::Skipped { reason: format!("{short} is already live") };
        }
        (Asked::Push, None) => {
            format!("{short} is live, but what is there may not be as a run on record has left it: once more")
        }
        (Asked::Push, Some(from)) => format!("{short} is live{from}: once more, as this is another ref"),
        (Asked::Again | Asked::ByHand, _) => format!("{short} is already live: once more, as a person asked for it"),
        (Asked::Event, _) => {
            format!("{short} is already live: once more, as what changed is outside of the repository")
        }
    };
    Verdict::GoAhead { remark: Some(remark) }
}

/// If what is live came from another ref than this one: from which, as far as that is known. No tag is taken for a ref
/// that is not known, so that a tag is never passed over.
fn other_ref(against: &Against, ref_name: Option<&RefName>) -> Option<String> {
    match (ref_name, &against.live_ref) {
        (Some(this), Some(live)) if this != live => Some(format!(" from `{}`", live.short())),
        (Some(RefName::Tag(_)), None) => Some(String::new()),
        (Some(RefName::Branch(_)), None) | (Some(_), Some(_)) | (None, _) => None,
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
