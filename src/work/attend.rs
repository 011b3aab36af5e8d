//! Attends to one run, from its keeper's launch, or its taking up after a restart, to its stored outcome.
//!
//! Invariant: a run that has begun ends with exactly one outcome: the one its keeper wrote, or `interrupted`; a run
//! that has not begun is queued again.

use std::{fs, pin::pin, time::Duration};

use jiff::Timestamp;
use tokio::{io::AsyncReadExt, process::Child, task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

use crate::{
    journal::{
        entries::{Begin, LiveLink},
        folder::RunDir,
        progress::{self, Progress},
        site::{Left, Site},
    },
    keeper,
    model::{
        deploy::Strategy,
        run::{Failure, FailureClass, Outcome, RunFacts, RunStep},
    },
    store::{Adopted, Claim, Kept, StoreError},
    work::{
        Workplace,
        lane::{self, LaneLock},
        launch::{LaunchError, Launched, launch},
    },
};

/// How often a keeper that is not our child is looked at, and a lane that is still locked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The wait between two tries to store something while the store cannot commit.
const STORE_AGAIN: Duration = Duration::from_secs(2);

/// Starts a claimed run and stays with it.
pub(super) async fn carry_out(place: Workplace, claim: Claim) {
    let lock = lock_lane(&place, &claim).await;
    let id = claim.run();
    match launch(&place, &claim, lock).await {
        Ok(launched) => {
            info!(run.id = %id, hook.name = %claim.job().hook.name, "run {id} of {} started", claim.job().hook.name);
            attend(&place, claim, Some(launched)).await;
        }
        Err(LaunchError::RunCannot(reason)) => {
            let failure = Failure { step: RunStep::Preflight, exit_code: None, class: FailureClass::Permanent, reason };
            store_end(&place, claim, Outcome::Failed(failure), RunFacts::default()).await;
        }
        Err(LaunchError::WeCannot(reason)) => {
            error!(run.id = %id, "run {id}: {reason}");
            let failure = Failure { step: RunStep::Lock, exit_code: None, class: FailureClass::Other, reason };
            store_end(&place, claim, Outcome::Failed(failure), RunFacts::default()).await;
        }
    }
}

/// Takes up a run that was under way when the daemon before us ended.
pub(super) async fn take_up(place: Workplace, adopted: Adopted) {
    let id = adopted.claim.run();
    info!(run.id = %id, "run {id} was under way when the last daemon ended: taken up again");
    attend(&place, adopted.claim, None).await;
}

/// Waits until nobody holds the lane: a keeper that the store knows nothing of may still be at work there.
async fn lock_lane(place: &Workplace, claim: &Claim) -> LaneLock {
    let mut is_told = false;
    loop {
        let trouble = match lane::try_lock(&place.state, claim.lane()) {
            Ok(Some(lock)) => return lock,
            Ok(None) => "another keeper holds its lock".to_owned(),
            Err(err) => err.to_string(),
        };
        if !is_told {
            is_told = true;
            warn!(run.id = %claim.run(), "run {} waits for lane {}: {trouble}", claim.run(), claim.lane());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What has been noticed of a run so far.
#[derive(Default)]
struct Noticed {
    begin: Option<Begin>,
    step: Option<RunStep>,
    is_cancel_passed_on: bool,
}

/// Follows the run's journal until its keeper has ended, then stores the end.
async fn attend(place: &Workplace, claim: Claim, launched: Option<Launched>) {
    let folder = RunDir::of(&place.state, claim.run());
    let is_ours = launched.is_some();
    let (mut keeper, mut bell) = launched.map_or((None, None), |it| (Some(it.keeper), Some(it.bell)));
    let mut noticed = Noticed::default();
    let lock = loop {
        // Listen before looking: a cancel asked in between must ring this bell.
        let mut cancel_bell = pin!(place.store.cancel_bell());
        cancel_bell.as_mut().enable();
        notice(place, &claim, &folder, &mut noticed).await;
        pass_on_cancel(place, &claim, &folder, &mut noticed).await;
        match lane::try_lock(&place.state, claim.lane()) {
            Ok(Some(lock)) => break lock,
            Ok(None) => (),
            Err(err) => warn!("cannot look at the lock of lane {}: {err}", claim.lane()),
        }
        let mut rung = [0; 64];
        tokio::select! {
            read = async { bell.as_mut().expect("guarded").read(&mut rung).await }, if bell.is_some() => {
                if !matches!(read, Ok(1..)) {
                    bell = None;
                }
            }
            () = gone(&mut keeper), if keeper.is_some() && bell.is_none() => keeper = None,
            () = cancel_bell => (),
            () = sleep(LOOK_EVERY) => (),
        }
    };
    conclude(place, claim, &folder, &lock, is_ours).await;
}

async fn gone(keeper: &mut Option<Child>) {
    if let Some(keeper) = keeper
        && let Err(err) = keeper.wait().await
    {
        warn!("cannot wait for a keeper: {err}");
    }
}

/// Takes over into the store what the journal says has begun.
async fn notice(place: &Workplace, claim: &Claim, folder: &RunDir, noticed: &mut Noticed) {
    let progress = match progress::read(folder) {
        Ok(progress) => progress,
        Err(err) => return warn!(run.id = %claim.run(), "cannot read the journal of run {}: {err}", claim.run()),
    };
    if noticed.begin.is_none()
        && let Some(begin) = progress.begin
    {
        // Without a stored start the run could be taken for one that never began.
        insist("note the start of a run", || place.store.start(claim, Timestamp::now())).await;
        noticed.begin = Some(begin);
    }
    if let Some(step) = progress.step
        && noticed.step != Some(step)
    {
        noticed.step = Some(step);
        if let Err(err) = place.store.note_step(claim, step).await {
            warn!(run.id = %claim.run(), "cannot note that run {} is at step {step}: {err}", claim.run());
        }
    }
}

/// Tells the keeper, once it has begun, that its run is to be cancelled.
async fn pass_on_cancel(place: &Workplace, claim: &Claim, folder: &RunDir, noticed: &mut Noticed) {
    let (Some(begin), false) = (&noticed.begin, noticed.is_cancel_passed_on) else {
        return;
    };
    let asked = match place.store.cancels_asked().await {
        Ok(asked) => asked,
        Err(err) => return warn!("cannot look for runs to cancel: {err}"),
    };
    let Some((_, reason)) = asked.into_iter().find(|(run, _)| *run == claim.run()) else {
        return;
    };
    noticed.is_cancel_passed_on = true;
    if let Err(err) = folder.write_cancel(&reason) {
        warn!(run.id = %claim.run(), "cannot write down why run {} is cancelled: {err}", claim.run());
    }
    if !keeper::ask_to_cancel(begin) {
        info!(run.id = %claim.run(), "run {} ended before it could be cancelled", claim.run());
    }
}

/// Stores how a run ended whose keeper is gone: its lane's lock is ours now.
async fn conclude(place: &Workplace, claim: Claim, folder: &RunDir, _lock: &LaneLock, is_ours: bool) {
    let progress = match progress::read(folder) {
        Ok(progress) => progress,
        Err(err) => {
            warn!(run.id = %claim.run(), "cannot read the journal of run {}: {err}", claim.run());
            Progress::default()
        }
    };
    match progress {
        Progress { end: Some((outcome, facts)), .. } => store_end(place, claim, outcome, facts).await,
        Progress { begin: Some(begin), step, switches, .. } => {
            interrupted(place, claim, folder, begin, (step, switches)).await;
        }
        Progress { begin: None, .. } if is_ours => {
            let said = fs::read_to_string(folder.keeper_trouble()).unwrap_or_default();
            let said = said.lines().last().unwrap_or("it said nothing").to_owned();
            let reason = format!("the keeper ended before it began: {said}");
            error!(run.id = %claim.run(), "run {}: {reason}", claim.run());
            let failure = Failure { step: RunStep::Lock, exit_code: None, class: FailureClass::Other, reason };
            store_end(place, claim, Outcome::Failed(failure), RunFacts::default()).await;
        }
        Progress { begin: None, .. } => {
            info!(run.id = %claim.run(), "run {} had not begun: queued again", claim.run());
            if let Err(kept) = place.store.release(claim, Timestamp::now()).await {
                error!("cannot queue a run again before the next start: {}", kept.error);
            }
        }
    }
}

/// Ends what the keeper left behind; only then may the lane move on.
async fn interrupted(
    place: &Workplace,
    claim: Claim,
    folder: &RunDir,
    begin: Begin,
    (step, switches): (Option<RunStep>, Vec<LiveLink>),
) {
    let grace = claim.job().hook.kill_grace;
    let token = folder.read_spec().map(|spec| spec.token);
    let searched = match token {
        Ok(token) => {
            spawn_blocking(move || keeper::end_leftovers(&token, &begin, grace).map_err(|err| err.to_string())).await
        }
        Err(err) => Ok(Err(format!("its spec cannot be read: {err}"))),
    };
    match searched.unwrap_or_else(|err| Err(format!("the search for its processes panicked: {err}"))) {
        Ok(ended) => {
            let at = step.map(|it| format!(" at step {it}")).unwrap_or_default();
            let left = if ended.is_empty() {
                String::new()
            } else {
                format!("; ended what it left behind: {}", ended.join(", "))
            };
            let live = left_live(&claim, &switches);
            let reason = format!("its keeper died{at}{}{left}", what_is_live(&live));
            let facts = RunFacts { live: live.commit().cloned(), ..RunFacts::default() };
            store_end(place, claim, Outcome::Interrupted { step, reason }, facts).await;
        }
        Err(why) => {
            let reason = format!("the keeper of run {} died and not all it started could be ended: {why}", claim.run());
            error!(run.id = %claim.run(), "lane {} is stopped: {reason}", claim.lane());
            insist("stop a lane", || place.store.stop_lane(&claim, &reason, Timestamp::now())).await;
        }
    }
}

/// What a run that was interrupted has left live. Looked at only when nothing of it goes on.
fn left_live(claim: &Claim, switches: &[LiveLink]) -> Left {
    match &claim.job().hook.deploy.strategy {
        Strategy::Releases { path, .. } => Site::at(path).left_by(switches),
        Strategy::Checkout { .. } | Strategy::InPlace { .. } | Strategy::None { .. } => {
            Left::Unknown { why: "what it had done by then is not known".into() }
        }
    }
}

/// The same as a clause.
fn what_is_live(left: &Left) -> String {
    match left {
        Left::Untouched => ", before it had switched anything: what was live before still is".into(),
        Left::Before { link } => format!(", and what was live before still is: {link}"),
        Left::Switched(to) => format!(", and {} is live, to which it had switched", to.link),
        Left::Unknown { why } => format!(": {why}"),
    }
}

/// Stores an outcome, however long the store cannot commit.
async fn store_end(place: &Workplace, mut claim: Claim, outcome: Outcome, facts: RunFacts) {
    let (id, hook) = (claim.run(), claim.hook().clone());
    let word = outcome.word();
    let why = outcome.reason().map(|it| format!(": {it}")).unwrap_or_default();
    let finished = loop {
        match place.store.finish(claim, outcome.clone(), facts.clone(), Timestamp::now()).await {
            Ok(finished) => break finished,
            Err(Kept { error: StoreError::Fenced(_), .. }) => {
                return warn!(run.id = %id, "run {id} is in other hands; its outcome here ({word}) was not stored");
            }
            Err(kept) => {
                error!(run.id = %id, "cannot store the outcome of run {id}, will try again: {}", kept.error);
                claim = kept.claim;
            }
        }
        sleep(STORE_AGAIN).await;
    };
    info!(run.id = %id, hook.name = %hook, run.outcome = word, "run {id} of {hook} {word}{why}");
    if let Some(retry) = finished.retry {
        info!(run.id = %retry, "run {retry} will try again what run {id} could not");
    }
}

/// Does something in the store until it is done; `None` if the claim is no longer ours.
async fn insist<T, F>(what: &str, mut verb: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match verb().await {
            Ok(done) => return Some(done),
            Err(StoreError::Fenced(_)) => return None,
            Err(err) => error!("cannot {what}, will try again: {err}"),
        }
        sleep(STORE_AGAIN).await;
    }
}
