//! Ends what runs left behind whose keepers died, before their lanes move on.
//!
//! A run that the store knows is seen to when it is taken up. One that it has forgotten, because an older database was put
//! back, is known by its lane alone, whose lock says which run had it last.
//!
//! Invariant: a run begins in its lane only once nothing is left of the one before it, as far as that can be found.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Workplace, lane::LaneLock};
use crate::{
    journal::{entries::Begin, folder::RunDir, progress},
    keeper,
    model::run::RunId,
    store::{Claim, ListedRun, RunState},
};

/// Ends what is left of the run of this folder, and gives the names of those it ended. The error is a clause for people.
pub(super) async fn end(folder: &RunDir, begin: Begin, grace: Duration) -> Result<Vec<String>, String> {
    // The spec may be lost where the machine went down: only the begin is flushed.
    let token = begin.token.clone().map_or_else(|| folder.read_spec().map(|it| it.token), Ok);
    let token = token.map_err(|err| format!("its spec cannot be read: {err}"))?;
    let ended = spawn_blocking(move || keeper::end_leftovers(&token, &begin, grace).map_err(|err| err.to_string()));
    ended.await.unwrap_or_else(|err| Err(format!("the search for its processes panicked: {err}")))
}

/// Sees to the run that had the lane before this one, if the store does not know how it ended. The error is a sentence.
pub(super) async fn end_of_forgotten(place: &Workplace, claim: &Claim, lock: &LaneLock) -> Result<(), String> {
    let Some(earlier) = lock.holder().filter(|it| *it != claim.run()) else { return Ok(()) };
    let known = place.store.listed_run(earlier).await;
    let known = known.map_err(|err| format!("cannot look up run {earlier}, which had the lane before: {err}"))?;
    if known.is_some_and(|it| has_ended(&it)) {
        return Ok(());
    }
    let cannot = |why: String| format!("run {earlier}, which the store does not know, had the lane before, and {why}");
    let folder = RunDir::of(&place.state, earlier);
    // Without a folder nothing is known of it.
    let progress = match progress::read(&folder) {
        Ok(progress) if progress.end.is_none() => progress,
        Ok(_) => return Ok(()),
        Err(_) if !folder.path().exists() => return Ok(()),
        Err(err) => return Err(cannot(format!("how it went is not known: {err}"))),
    };
    let Some(begin) = progress.begin else { return Ok(()) };
    if keeper::is_alive(&begin) {
        return Err(cannot("its keeper is still at work".into()));
    }
    let grace = claim.job().hook.kill_grace;
    let ended =
        end(&folder, begin, grace).await.map_err(|why| cannot(format!("something it started may go on: {why}")))?;
    tell(earlier, &ended);
    Ok(())
}

fn has_ended(run: &ListedRun) -> bool {
    match run {
        ListedRun::Whole(run) => matches!(run.state, RunState::Finished { .. }),
        // It is seen to by whoever takes it up.
        ListedRun::Unreadable(_) => true,
    }
}

fn tell(run: RunId, ended: &[String]) {
    let what = format!("run {run}, which the store does not know, was not seen to its end by its keeper");
    if ended.is_empty() {
        info!(run.id = %run, "{what}; nothing is left of it");
    } else {
        warn!(run.id = %run, "{what}; ended what it left behind: {}", ended.join(", "));
    }
}
