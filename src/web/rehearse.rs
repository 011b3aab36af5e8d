//! Test deliveries: the daemon signs a made-up push with the hook's own secret and posts it to its own public
//! listener, as the forge would.
//!
//! Invariant: a rehearsed delivery takes the whole way of a real one; nothing is let past a check.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use tracing::info;

use crate::{
    forge::rehearsal::{self, Rehearsal},
    model::{
        hook::Hook,
        push::{CommitId, RefName},
    },
    store::{RunFilter, RunView},
    web::{
        api::{Api, commit_id, full_ref, own_branch},
        listeners::Local,
        outgoing,
        reply::Refused,
        views::{SendRequest, Sent},
    },
};

/// A listener that has not answered by then will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signs and posts a test delivery for `hook`.
pub(super) async fn send(api: &Api, hook: &Hook, request: SendRequest) -> Result<Sent, Refused> {
    let hooks = api.hooks.borrow().clone();
    let path = hooks.path_of(hook);
    let source = hooks.sources.get(&path).ok_or_else(|| Refused::Failed(format!("{path} has no sender")))?;
    let now = Timestamp::now();
    let rehearsal = match request.payload {
        Some(body) => Rehearsal::of_body(source, body, request.event.as_deref(), now),
        None => {
            let ref_name = match &request.ref_name {
                Some(text) => full_ref(text)?,
                None => RefName::Branch(own_branch(hook).unwrap_or("main").to_owned()),
            };
            let commit = match &request.sha {
                Some(text) => commit_id(text)?,
                None => newest_known(api, hook, &ref_name).await?,
            };
            Rehearsal::of_push(source, &rehearsal::push_body(hook, &ref_name, &commit, now), now)
        }
    };
    let to = api.daemon.entrance().reachable();
    let url = match &to {
        Local::At(address) => format!("http://{address}{path}"),
        Local::Unix(_) => format!("{to} {path}"),
    };
    info!(hook.name = %hook.name, "posting a test delivery for {} to {url}", hook.name);
    let posted = timeout(PATIENCE, outgoing::post(to, &path.to_string(), rehearsal)).await;
    match posted {
        Ok(Ok((status, answer))) => Ok(Sent { url, status, answer }),
        Ok(Err(err)) => Err(Refused::Failed(format!("cannot post to {url}: {err}"))),
        Err(_) => Err(Refused::Failed(format!("no answer from {url} within {} s", PATIENCE.as_secs()))),
    }
}

/// The newest commit of that ref that a run of the hook was about.
async fn newest_known(api: &Api, hook: &Hook, ref_name: &RefName) -> Result<CommitId, Refused> {
    let filter = RunFilter { hook: Some(hook.name.clone()), stage: None, before: None, limit: 100 };
    let runs = api.store.runs(filter).await?;
    let is_of_ref = |it: &&RunView| it.job.target.ref_name() == Some(ref_name);
    runs.iter().find(is_of_ref).and_then(|it| it.commit.clone()).ok_or_else(|| {
        let remote = hook.deploy.strategy.git().map_or("REMOTE", |git| git.remote.as_str());
        Refused::BadRequest(format!(
            "no commit of `{}` is known yet: name one with --sha (`git ls-remote {remote} {}` prints it)",
            ref_name.short(),
            ref_name.full()
        ))
    })
}
