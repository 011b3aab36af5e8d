//! Puts hooks on hold, and lets what is held or stopped go on.
//!
//! Invariant: who did it, and why, is stored with a hold and stands in the log.

use std::time::Duration;

use axum::{Json, extract::State};
use jiff::Timestamp;
use tracing::info;

use crate::{
    model::{hook::Hook, name::LaneName, push::CommitId},
    store::Hold,
    web::{
        api::{Answer, Api, commit_id, find_hook},
        describe::time,
        reply::Refused,
        views::{HoldRequest, ResumeRequest, Said},
    },
};

/// Holds a hook, or all of them.
pub(super) async fn hold(State(api): State<Api>, Json(request): Json<HoldRequest>) -> Answer<Said> {
    let hook = request.hook.map(|name| find_hook(&api, &name)).transpose()?;
    if request.reason.trim().is_empty() {
        return Err(Refused::BadRequest("say why: whoever wonders later reads it in `landfall status`".into()));
    }
    let since = Timestamp::now();
    let until = request.seconds.map(|it| since.saturating_add(Duration::from_secs(it)).unwrap_or(Timestamp::MAX));
    let what = hook.as_ref().map_or_else(|| "everything".to_owned(), |it| format!("hook `{}`", it.name));
    let hold =
        Hold { hook: hook.map(|it| it.name.clone()), reason: request.reason, author: request.actor, since, until };
    info!("{what} is put on hold by {}: {}", hold.author, hold.reason);
    api.store.hold(hold).await?;
    let until = until.map_or_else(|| "it is resumed".to_owned(), time);
    Ok(Json(Said { message: format!("{what} is on hold until {until}: jobs wait, and what runs now goes on") }))
}

/// The commit on hold that begins so; a whole id stands for itself.
async fn bad_commit(api: &Api, hook: &Hook, digits: &str) -> Result<CommitId, Refused> {
    let known = api.store.hook_summary(&hook.name).await?.bad_commits;
    let digits = digits.to_ascii_lowercase();
    let mut fitting = known.iter().filter(|it| it.commit.as_str().starts_with(&digits));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) if digits.len() >= 4 => Ok(one.commit.clone()),
        (Some(_), Some(_)) => Err(Refused::BadRequest(format!("several commits on hold begin with `{digits}`"))),
        (Some(_) | None, None) | (None, Some(_)) => commit_id(&digits),
    }
}

/// Lets go on what was held, a lane that was stopped, or a commit that did not come up.
pub(super) async fn resume(State(api): State<Api>, Json(request): Json<ResumeRequest>) -> Answer<Said> {
    let hook = request.hook.map(|name| find_hook(&api, &name)).transpose()?;
    let (what, was_held) = match (hook, request.commit, request.lane) {
        (Some(hook), Some(commit), None) => {
            let commit = bad_commit(&api, &hook, &commit).await?;
            let was_bad = api.store.forgive(&hook.name, &commit).await?;
            (format!("commit {} of hook `{}`", commit.short(), hook.name), was_bad)
        }
        (None, None, Some(lane)) => {
            let name = LaneName::parse(&lane);
            let name = name.ok_or_else(|| Refused::BadRequest(format!("`{lane}` is not a lane's name")))?;
            (format!("lane `{lane}`"), api.store.open_lane(&name).await?)
        }
        (Some(hook), None, None) => {
            let was_held = api.store.resume(Some(&hook.name)).await?;
            if !was_held && api.store.holds().await?.iter().any(|it| it.hook.is_none()) {
                let why = "it waits, as everything is on hold: `landfall resume --all` ends that";
                return Err(Refused::Conflict(format!("hook `{}` is not on hold by itself; {why}", hook.name)));
            }
            (format!("hook `{}`", hook.name), was_held)
        }
        (None, None, None) => ("everything".to_owned(), api.store.resume(None).await?),
        (_, _, Some(_)) | (None, Some(_), None) => {
            return Err(Refused::BadRequest("a commit goes with its hook, and a lane with nothing else".into()));
        }
    };
    if !was_held {
        return Err(Refused::Conflict(format!("{what} is not on hold; `landfall status` shows what is")));
    }
    info!("{what} is resumed by {}", request.actor);
    Ok(Json(Said { message: format!("{what} goes on") }))
}
