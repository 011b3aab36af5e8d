//! Attends to one run, from its keeper's launch, or its taking up after a restart, to its stored outcome.
//!
//! Invariant: a run that has begun ends with exactly one outcome: the one its keeper wrote, or `interrupted`; a run
//! that has not begun is queued again.

use std::{fs, pin::pin, time::Duration};

use jiff::Timestamp;
use tokio::{io::AsyncReadExt, process::Child, time::sleep};
use tracing::{error, info, warn};

use crate::{
    journal::{
        Unreadable,
        entries::{self, Begin, LiveLink},
        folder::{RunDir, Whose},
        progress::{Follower, Progress},
        site::{Left, Site},
    },
    keeper,
    model::{
        deploy::Strategy,
        run::{Failure, FailureClass, Outcome, RunFacts, RunStep},
        text,
    },
    store::{Adopted, Claim, GivenBack, Kept, Stop, StoreError},
    work::{
        Workplace,
        lane::{self, LaneLock},
        launch::{LaunchError, Launched, launch, set_aside},
        leftovers,
    },
};

/// How often a keeper that is not our child is looked at, and a lane that is still locked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often our own keeper is looked at unasked: its bell tells of whatever it does.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often a journal is read that cannot be read, before its lane is stopped.
const LOOKS_MAX: u32 = 3;

/// The wait between two tries to store something while the store cannot commit.
const STORE_AGAIN: Duration = Duration::from_secs(2);

/// Starts a claimed run and stays with it; one whose commit was put on hold since it was accepted ends at once.
pub(super) async fn carry_out(place: Workplace, claim: Claim) {
    if let Some(reason) = claim.hold() {
        let outcome = Outcome::Skipped { step: RunStep::Lock, reason: reason.to_owned() };
        return store_end(&place, claim, outcome, RunFacts::default()).await;
    }
    let lock = match lock_lane(&place, &claim).await {
        Ok(Locked::Ours(lock)) => lock,
        Ok(Locked::Unwanted) => return give_back(&place, claim, None).await,
        Err(why) => return give_back(&place, claim, Some(why)).await,
    };
    if let Err(why) = leftovers::end_of_forgotten(&place, &claim, &lock).await {
        return give_back(&place, claim, Some(why)).await;
    }
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
        Err(LaunchError::WeCannot(why)) => give_back(&place, claim, Some(why)).await,
        Err(LaunchError::HasBegun) => attend(&place, claim, None).await,
    }
}

/// Takes up a run that was under way when the daemon before us ended.
pub(super) async fn take_up(place: Workplace, adopted: Adopted) {
    let id = adopted.claim.run();
    info!(run.id = %id, "run {id} was under way when the last daemon ended: taken up again");
    let folder = RunDir::of(&place.state, id);
    if folder.whose(adopted.claim.token()) == Whose::Anothers
        && let Err(why) = set_aside(&folder, &adopted.claim)
    {
        return stop_lane(&place, adopted.claim, None, why).await;
    }
    attend(&place, adopted.claim, None).await;
}

/// What came of waiting for a lane.
enum Locked {
    /// The lane is ours.
    Ours(LaneLock),
    /// Meanwhile the run is to be stopped.
    Unwanted,
}

/// Waits until nobody holds the lane: a keeper that the store knows nothing of may still be at work there. The error
/// is a sentence.
async fn lock_lane(place: &Workplace, claim: &Claim) -> Result<Locked, String> {
    let mut is_told = false;
    loop {
        // Listen before looking: a cancel asked in between must ring this bell.
        let mut cancel_bell = pin!(place.store.cancel_bell());
        cancel_bell.as_mut().enable();
        match lane::try_lock(&place.state, claim.lane()) {
            Ok(Some(lock)) => return Ok(Locked::Ours(lock)),
            Ok(None) => (),
            Err(err) => return Err(format!("cannot lock lane {}: {err}", claim.lane())),
        }
        if !is_told {
            is_told = true;
            warn!(run.id = %claim.run(), "run {} waits: another keeper holds lane {}", claim.run(), claim.lane());
        }
        if wish_to_stop(place, claim).await.is_some() {
            return Ok(Locked::Unwanted);
        }
        tokio::select! {
            () = cancel_bell => (),
            () = sleep(LOOK_EVERY) => (),
        }
    }
}

/// What has been noticed of a run so far.
#[derive(Default)]
struct Noticed {
    begin: Option<Begin>,
    step: Option<RunStep>,
    /// The wish to stop that its keeper has been told.
    passed_on: Option<Stop>,
    /// What was last warned of, so that it is said once.
    trouble: Option<String>,
}

impl Noticed {
    fn warn(&mut self, claim: &Claim, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            warn!(run.id = %claim.run(), "{trouble}");
            self.trouble = Some(trouble);
        }
    }
}

/// Follows the run's journal until its keeper has ended, then stores the end.
async fn attend(place: &Workplace, claim: Claim, launched: Option<Launched>) {
    let mut journal = Follower::of(RunDir::of(&place.state, claim.run()));
    let is_ours = launched.is_some();
    let (mut keeper, mut bell) = launched.map_or((None, None), |it| (Some(it.keeper), Some(it.bell)));
    let mut noticed = Noticed::default();
    let lock = loop {
        // Listen before looking: a cancel asked in between must ring this bell.
        let mut cancel_bell = pin!(place.store.cancel_bell());
        cancel_bell.as_mut().enable();
        notice(place, &claim, &mut journal, &mut noticed).await;
        pass_on_stop(place, &claim, journal.folder(), &mut noticed).await;
        let is_alive = is_at_work(keeper.as_ref(), noticed.begin.as_ref());
        match lane::try_lock(&place.state, claim.lane()) {
            Ok(Some(lock)) if !is_alive => break lock,
            Ok(_) => (),
            Err(err) => noticed.warn(&claim, format!("cannot look at the lock of lane {}: {err}", claim.lane())),
        }
        let nap = if keeper.is_some() { LOOK_AGAIN } else { LOOK_EVERY };
        let mut rung = [0; 64];
        tokio::select! {
            read = async { bell.as_mut().expect("guarded").read(&mut rung).await }, if bell.is_some() => {
                if !matches!(read, Ok(1..)) {
                    bell = None;
                }
            }
            () = gone(&mut keeper), if keeper.is_some() && bell.is_none() => keeper = None,
            () = cancel_bell => (),
            () = sleep(nap) => (),
        }
    };
    conclude(place, claim, journal, &lock, is_ours).await;
}

/// Whether the keeper lives. A lock that can be had says nothing as long as it does: somebody may have removed the file
/// it holds.
fn is_at_work(keeper: Option<&Child>, begin: Option<&Begin>) -> bool {
    fail::fail_point!("lane-unlocked", |_| false);
    keeper.is_some() || begin.is_some_and(keeper::is_alive)
}

async fn gone(keeper: &mut Option<Child>) {
    if let Some(keeper) = keeper
        && let Err(err) = keeper.wait().await
    {
        warn!("cannot wait for a keeper: {err}");
    }
}

/// Takes over into the store what the journal says has begun.
async fn notice(place: &Workplace, claim: &Claim, journal: &mut Follower, noticed: &mut Noticed) {
    let progress = match journal.look() {
        Ok(progress) => progress.clone(),
        Err(err) => return noticed.warn(claim, format!("cannot read the journal of run {}: {err}", claim.run())),
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

/// Tells the keeper, once it has begun, that its run is to be stopped. A person's wish is passed on even where that of
/// a newer push was before: the keeper may have turned the push down.
async fn pass_on_stop(place: &Workplace, claim: &Claim, folder: &RunDir, noticed: &mut Noticed) {
    let Some(begin) = &noticed.begin else { return };
    let asked = wish_to_stop(place, claim).await;
    let Some(stop) = asked.filter(|it| is_news(noticed.passed_on.as_ref(), it)) else { return };
    let written = match &stop {
        Stop::Cancel(reason) => folder.write_cancel(reason),
        Stop::Yield { to } => folder.write_yield(*to),
    };
    if let Err(err) = written {
        warn!(run.id = %claim.run(), "cannot write down why run {} is to stop: {err}", claim.run());
    }
    if !keeper::ask_to_cancel(begin) {
        info!(run.id = %claim.run(), "run {} ended before it could be stopped", claim.run());
    }
    noticed.passed_on = Some(stop);
}

/// Whether a wish is worth another signal. Of several newer pushes one is enough: the next would only cut short what
/// the keeper does about the first.
fn is_news(passed_on: Option<&Stop>, stop: &Stop) -> bool {
    match (passed_on, stop) {
        (Some(Stop::Yield { .. }), Stop::Yield { .. }) => false,
        (passed_on, stop) => passed_on != Some(stop),
    }
}

/// Why the run is to be stopped, if it is.
async fn wish_to_stop(place: &Workplace, claim: &Claim) -> Option<Stop> {
    match place.store.stops_asked().await {
        Ok(asked) => asked.into_iter().find(|(run, _)| *run == claim.run()).map(|(_, stop)| stop),
        Err(err) => {
            warn!("cannot look for runs to stop: {err}");
            None
        }
    }
}

/// Stores how a run ended whose keeper is gone: its lane's lock is ours now.
async fn conclude(place: &Workplace, claim: Claim, mut journal: Follower, _lock: &LaneLock, is_ours: bool) {
    let progress = match look_patiently(&mut journal).await {
        Ok(progress) => progress,
        // It may say that the run has begun, so nothing can be started in its stead.
        Err(why) => {
            let why = format!("how run {} went is not known, and something it started may go on: {why}", claim.run());
            return stop_lane(place, claim, None, why).await;
        }
    };
    let folder = journal.folder();
    entries::give_room_back(folder);
    if let Some(damage) = &progress.damage {
        warn!(run.id = %claim.run(), "the journal of run {} is damaged, and tells how it ended: {damage}", claim.run());
    }
    match progress {
        Progress { end: Some((outcome, facts)), .. } => store_end(place, claim, outcome, facts).await,
        Progress { begin: Some(begin), step, switches, .. } => {
            interrupted(place, claim, folder, begin, (step, switches)).await;
        }
        Progress { begin: None, .. } if is_ours => {
            discard_group(folder);
            let said = last_word(folder).unwrap_or_else(|| "it said nothing".into());
            give_back(place, claim, Some(format!("its keeper ended before it began: {said}"))).await;
        }
        Progress { begin: None, .. } => {
            discard_group(folder);
            give_back(place, claim, None).await;
        }
    }
}

/// What a keeper said last that could not write its journal.
fn last_word(folder: &RunDir) -> Option<String> {
    let said = fs::read_to_string(folder.keeper_trouble()).unwrap_or_default();
    said.lines().last().map(text::one_line).filter(|it| !it.is_empty())
}

/// A group that is left by a keeper which died before it began. The next one makes its own.
fn discard_group(folder: &RunDir) {
    if let Ok(spec) = folder.read_spec() {
        keeper::discard_unbegun_cgroup(&spec.token);
    }
}

/// Reads the journal, more than once if need be: a machine that is short of descriptors may have some in a moment.
async fn look_patiently(journal: &mut Follower) -> Result<Progress, Unreadable> {
    let mut looks = 1;
    loop {
        match journal.look() {
            Ok(progress) => return Ok(progress.clone()),
            Err(why) if looks == LOOKS_MAX => return Err(why),
            Err(why) => warn!("will read again: {why}"),
        }
        looks += 1;
        sleep(STORE_AGAIN).await;
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
    let end = match (keeper::is_of_this_boot(&begin), last_word(folder)) {
        (false, _) => "the machine was restarted".to_owned(),
        (true, None) => "its keeper died".to_owned(),
        (true, Some(word)) => format!("its keeper died ({word})"),
    };
    match leftovers::end(folder, begin, claim.job().hook.kill_grace).await {
        Ok(ended) => {
            let at = step.map(|it| format!(" at step {it}")).unwrap_or_default();
            let left = if ended.is_empty() {
                String::new()
            } else {
                format!("; ended what it left behind: {}", ended.join(", "))
            };
            let live = left_live(&claim, &switches);
            let reason = format!("{end}{at}{}{left}", what_is_live(&live));
            let facts = RunFacts { live: live.commit().cloned(), ..RunFacts::default() };
            store_end(place, claim, Outcome::Interrupted { step, reason }, facts).await;
        }
        Err(why) => {
            let reason = format!("the keeper of run {} died and something it started may go on: {why}", claim.run());
            stop_lane(place, claim, step, reason).await;
        }
    }
}

/// The keeper is gone and what it started may not be: nothing else may be started in the lane until a person has
/// looked, and people are told.
async fn stop_lane(place: &Workplace, claim: Claim, step: Option<RunStep>, reason: String) {
    error!(run.id = %claim.run(), "lane {} is stopped: {reason}", claim.lane());
    if insist("stop a lane", || place.store.stop_lane(&claim, &reason, Timestamp::now())).await.is_some() {
        let reason = format!("{reason}; its lane is stopped until a person has looked");
        store_end(place, claim, Outcome::Interrupted { step, reason }, RunFacts::default()).await;
    }
}

/// Queues a run again that has not begun, however long the store cannot commit; `why` says what kept it from it.
async fn give_back(place: &Workplace, mut claim: Claim, why: Option<String>) {
    let id = claim.run();
    let given = loop {
        match place.store.give_back(claim, why.as_deref(), Timestamp::now()).await {
            Ok(given) => break given,
            Err(Kept { error: StoreError::Fenced(_), .. }) => return warn!(run.id = %id, "run {id} is in other hands"),
            Err(Kept { error: StoreError::Started(_), claim }) => {
                let reason = format!("run {id} has begun, its journal is gone, and something it started may go on");
                return stop_lane(place, claim, None, reason).await;
            }
            Err(kept) => {
                error!(run.id = %id, "cannot queue run {id} again, will try again: {}", kept.error);
                claim = kept.claim;
            }
        }
        sleep(STORE_AGAIN).await;
    };
    let why = why.map_or_else(|| "it had not begun".into(), |why| format!("it could not be started: {why}"));
    match given {
        GivenBack::Waits { not_before: None } => info!(run.id = %id, "run {id} is queued again: {why}"),
        GivenBack::Waits { not_before: Some(due) } => error!(run.id = %id, "run {id} is tried again at {due}: {why}"),
        GivenBack::Ended(outcome) => {
            let reason = outcome.reason().unwrap_or_default();
            error!(run.id = %id, run.outcome = outcome.word(), "run {id} {}: {reason}", outcome.word());
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
    fail::fail_point!("work-before-storing-an-end", |_| std::process::abort());
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
    fail::fail_point!("work-after-storing-an-end", |_| std::process::abort());
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
