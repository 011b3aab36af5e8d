//! Going live: the switch, what has to be done and to answer well after it, and the way back.
//!
//! Invariant: a run goes back only over a switch of its own, and only to what was live when it began.

use std::time::Duration;

use crate::{
    journal::{releases::Release, site::Site},
    keeper::{
        health,
        limits::Limit,
        releasing::{self, Before, Scene},
        run::{Run, failed},
        steps,
    },
    model::{
        deploy::Rollback,
        job::Target,
        push::CommitId,
        release::{ReleaseName, Verdict},
        run::{Failure, FailureClass, Outcome, RunStep},
    },
};

/// The longest time that the way back gets, and that tidying gets.
const TIME_MAX: Duration = Duration::from_secs(600);

/// From a staged tree, or a release that stands already, to a live one.
pub async fn release(run: &mut Run, scene: &Scene) -> Result<(), Outcome> {
    let hook = run.spec.job.hook.clone();
    let (name, commit) = match run.spec.job.target.clone() {
        Target::Standing => return adopt(run, scene).await,
        Target::Release { name, commit, .. } => (name, commit),
        Target::Commit { .. } | Target::Ref(_) | Target::DefaultBranch => {
            let Some(commit) = run.facts.commit.clone() else {
                return Err(failed(RunStep::Shared, FailureClass::Permanent, "no commit was fetched".into()));
            };
            releasing::furnish(run, scene, &commit).await?;
            steps::run_all(run, RunStep::Run, &hook.run).await?;
            (releasing::seal(run, scene, &commit).await?.name, Some(commit))
        }
    };
    releasing::switch(run, (RunStep::Switch, &scene.site), &Site::link_to(&name), commit.as_ref()).await?;
    run.facts.live.clone_from(&commit);
    run.remark(&format!("{name} is live"));
    match come_up(run).await {
        Ok(()) => {
            releasing::judge(run, &scene.site, &name, Verdict::Good, None).await;
            note_left(run, scene).await;
            Ok(())
        }
        Err(outcome) => Err(fall_back(run, scene, (&name, commit.as_ref()), outcome).await),
    }
}

async fn adopt(run: &mut Run, scene: &Scene) -> Result<(), Outcome> {
    let Release { name, commit, .. } = releasing::adopt(run, scene).await?;
    run.facts.commit = commit.clone();
    run.facts.live = commit;
    run.facts.tree = Some(scene.site.release(&name));
    Ok(())
}

/// Whatever has to go well once the code is live.
pub async fn come_up(run: &mut Run) -> Result<(), Outcome> {
    let hook = run.spec.job.hook.clone();
    steps::run_all(run, RunStep::Activate, &hook.activate).await?;
    health::ask_all(run, &hook.health).await
}

/// Of a release that a person left, it is noted who did, and why; it stays as good as it was.
async fn note_left(run: &mut Run, scene: &Scene) {
    let Target::Release { reason, .. } = &run.spec.job.target else { return };
    let Some(Release { name, verdict, .. }) = scene.before.as_ref().and_then(|it| it.release.clone()) else { return };
    // It was live before and is so again.
    if run.facts.tree == Some(scene.site.release(&name)) {
        return;
    }
    let why = reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    let note = format!("left by {} in run {}{why}", run.spec.job.actor, run.spec.run);
    releasing::judge(run, &scene.site, &name, verdict, Some(note)).await;
}

/// It is live and did not come up. Gives the outcome.
async fn fall_back(
    run: &mut Run,
    scene: &Scene,
    (name, commit): (&ReleaseName, Option<&CommitId>),
    outcome: Outcome,
) -> Outcome {
    let Some((failure, kind)) = what_went_wrong(&outcome) else { return outcome };
    // The way back has a time of its own: the run's may be what ran out.
    run.whole = Limit::from_now(run.spec.job.hook.timeout.min(TIME_MAX));
    let result = match (scene.keeping.rollback, &scene.before) {
        (Rollback::Off, _) => Err(format!("`rollback: off` leaves {name} live")),
        (Rollback::Auto, None) => Err(format!("there is nothing to go back to, so {name} stays live")),
        (Rollback::Auto, Some(before)) if before.is_bad() => {
            Err(format!("{}, which was live before, did not come up either, so {name} stays live", before.name()))
        }
        (Rollback::Auto, Some(before)) => Ok(go_back(run, scene, before, (name, commit)).await),
    };
    mark_bad(run, scene, name, &failure).await;
    match result {
        Err(why) => {
            run.remark(&why);
            let failure = Failure { reason: format!("{}; {why}", failure.reason), ..failure };
            match kind {
                Wrong::Failed => Outcome::Failed(failure),
                Wrong::TimedOut => Outcome::TimedOut(failure),
                Wrong::Cancelled => cancelled(failure),
            }
        }
        Ok(Ok(back)) => match kind {
            Wrong::Failed | Wrong::TimedOut => Outcome::RolledBack(failure),
            Wrong::Cancelled => {
                cancelled(Failure { reason: format!("{}; {back} is live again", failure.reason), ..failure })
            }
        },
        Ok(Err(why)) => Outcome::RollbackFailed { failure, why },
    }
}

/// How something went wrong after the switch.
enum Wrong {
    Failed,
    TimedOut,
    /// A person wished it.
    Cancelled,
}

/// What went wrong after the switch, and how.
fn what_went_wrong(outcome: &Outcome) -> Option<(Failure, Wrong)> {
    match outcome {
        Outcome::Failed(failure) => Some((failure.clone(), Wrong::Failed)),
        Outcome::TimedOut(failure) => Some((failure.clone(), Wrong::TimedOut)),
        Outcome::Cancelled { step, reason } => {
            let step = step.unwrap_or(RunStep::Switch);
            let failure = Failure { step, exit_code: None, class: FailureClass::Other, reason: reason.clone() };
            Some((failure, Wrong::Cancelled))
        }
        Outcome::Succeeded
        | Outcome::RolledBack(_)
        | Outcome::RollbackFailed { .. }
        | Outcome::Superseded { .. }
        | Outcome::Stale { .. }
        | Outcome::Skipped { .. }
        | Outcome::Interrupted { .. } => None,
    }
}

fn cancelled(failure: Failure) -> Outcome {
    Outcome::Cancelled { step: Some(failure.step), reason: failure.reason }
}

/// Lets what was live when the run began be live again; gives its name, or why it is not, or not well.
async fn go_back(
    run: &mut Run,
    scene: &Scene,
    before: &Before,
    (name, commit): (&ReleaseName, Option<&CommitId>),
) -> Result<String, String> {
    let back = before.name();
    run.remark(&format!("going back to {back}"));
    let sentence = |outcome: Outcome| outcome.reason().unwrap_or_else(|| outcome.word().to_owned());
    let switched = releasing::switch(run, (RunStep::Rollback, &scene.site), &before.link, before.commit()).await;
    switched.map_err(|it| format!("{name} stays live: {}", sentence(it)))?;
    // What scripts see is the release they run in, and the one that is left. Afterwards it is again what the run is of.
    let facts = run.facts.clone();
    run.facts.tree = Some(scene.site.root().join(&before.link));
    run.facts.previous_release = Some(scene.site.release(name));
    run.facts.previous = commit.cloned();
    run.facts.commit = before.commit().cloned();
    run.facts.head = None;
    run.facts.changed_files = None;
    run.facts.commit_count = None;
    run.facts.is_rollback = true;
    let came_up = come_up(run).await;
    run.facts = facts;
    // Nothing has changed about what is live.
    run.facts.live = None;
    came_up.map(|()| back.clone()).map_err(|it| format!("{back} is live again, and did not come up: {}", sentence(it)))
}

/// A release that a person went back to was good before, and is not at fault alone if it is not now.
async fn mark_bad(run: &mut Run, scene: &Scene, name: &ReleaseName, failure: &Failure) {
    match &run.spec.job.target {
        Target::Release { .. } | Target::Standing => (),
        Target::Commit { .. } | Target::Ref(_) | Target::DefaultBranch => {
            let note = Some(failure.reason.clone());
            releasing::judge(run, &scene.site, name, Verdict::Bad, note).await;
        }
    }
}

/// Puts away what is not kept, in a time of its own.
pub async fn put_away(run: &mut Run) {
    run.whole = Limit::from_now(TIME_MAX);
    releasing::put_away(run).await;
}
