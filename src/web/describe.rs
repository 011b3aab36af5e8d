//! Turns what the store knows into what the API tells.
//!
//! Invariant: words that people and programs see are made here and nowhere else.

use jiff::{SignedDuration, Timestamp};

use crate::{
    hooks::Hooks,
    journal::log::{Kind, Line, Page},
    model::{
        deploy::Strategy,
        hook::Hook,
        job::{AsOf, Job, Target},
        push::{CommitId, RefName, RepoName},
    },
    store::{
        BadCommit, Counts, DeliveryView, Disturbed, Hold, HookSummary, LetterState, LetterView, ListedRun, Loss,
        RunStage, RunState, RunView, Stop, StoppedLane, UnreadableRun,
    },
    web::{
        api::Api,
        listeners::Local,
        reply::{self, Refused},
        views::{self, Delivery, Holding, HookStatus, Letter, LogLine, LogPiece, Run, Status},
    },
};

/// A run of a list, as the API tells it.
pub(super) fn listed_run(run: &ListedRun) -> Run {
    match run {
        ListedRun::Whole(view) => self::run(view),
        ListedRun::Unreadable(left) => unreadable_run(left),
    }
}

/// What there is of the log of a run, in a word; `is_there`: whether there is a file.
pub(super) fn log_word(run: &ListedRun, is_there: bool) -> &'static str {
    let (has_begun, is_kept) = match run {
        ListedRun::Unreadable(left) => (left.stage != RunStage::Queued, true),
        ListedRun::Whole(view) => match &view.state {
            RunState::Queued { .. } => (false, true),
            RunState::Running { .. } => (true, true),
            RunState::Finished { started_at, .. } => (started_at.is_some(), view.has_folder),
        },
    };
    match (is_there, has_begun, is_kept) {
        (true, _, _) => "kept",
        (false, false, _) => "none",
        (false, true, true) => "missing",
        (false, true, false) => "put_away",
    }
}

/// The outcome of a run that cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";

fn unreadable_run(left: &UnreadableRun) -> Run {
    Run {
        id: left.id.0,
        hook: left.hook.clone(),
        lane: left.lane.clone(),
        state: left.stage.word().into(),
        outcome: Some(UNREADABLE.into()),
        reason: Some(why_unreadable(left)),
        created_at: left.created_at.map(time).unwrap_or_default(),
        attempt: 1,
        trigger: "-".into(),
        actor: "-".into(),
        ..Run::default()
    }
}

/// What is to be done about a run that cannot be read.
pub(super) fn why_unreadable(left: &UnreadableRun) -> String {
    let UnreadableRun { id, hook, why, .. } = left;
    format!(
        "what the database holds of it cannot be read: {why}; its log is kept (`landfall log {id}`), `landfall deploy {hook}` \
         deploys what the branch has, and `landfall doctor` looks at the whole database"
    )
}

/// A run, as the API tells it.
pub(super) fn run(view: &RunView) -> Run {
    let push = view.job.push.as_ref();
    let (release, because) = match &view.job.target {
        Target::Release { name, reason, .. } => (Some(name.to_string()), reason.clone()),
        Target::Commit { .. } | Target::Ref(_) | Target::DefaultBranch | Target::Standing => (None, None),
    };
    let (outcome, started_at, finished_at) = match &view.state {
        RunState::Queued { .. } => (None, None, None),
        RunState::Running { since, .. } => (None, Some(*since), None),
        RunState::Finished { started_at, at, outcome } => (Some(outcome), *started_at, Some(*at)),
    };
    Run {
        id: view.id.0,
        hook: view.hook.to_string(),
        lane: view.lane.to_string(),
        state: view.state.stage().word().into(),
        outcome: outcome.map(|it| it.word().into()),
        step: match &view.state {
            RunState::Queued { .. } => None,
            RunState::Running { step, .. } => Some(step.word().into()),
            RunState::Finished { outcome, .. } => outcome.step().map(|it| it.word().into()),
        },
        exit_code: outcome.and_then(|it| it.exit_code()),
        sha: view.commit.as_ref().map(CommitId::to_string),
        ref_name: view.job.target.ref_name().map(RefName::full),
        trigger: view.job.trigger.word().into(),
        actor: view.job.actor.clone(),
        reason: reason(view).or_else(|| of_repeating(&view.job)),
        created_at: time(view.created_at),
        started_at: started_at.map(time),
        finished_at: finished_at.map(time),
        attempt: view.job.attempt,
        retry_of: view.job.retry_of.map(|it| it.0),
        repeated_by: view.repeated_by.map(|it| it.0),
        supersedes: view.supersedes.iter().map(|it| it.0).collect(),
        repo: view.job.hook.repo.to_string(),
        environment: view.job.hook.environment.clone(),
        subject: push.and_then(|it| it.head.as_ref()).map(|it| it.subject.clone()),
        compare_url: push.and_then(|it| it.compare_url.clone()),
        delivery: view.delivery.map(|it| it.0),
        fence: view.fence,
        fields: view.fields.iter().cloned().collect(),
        release,
        because,
    }
}

fn reason(view: &RunView) -> Option<String> {
    match &view.state {
        RunState::Queued { hold: Some(why), .. } => Some(format!("is on hold: {why}")),
        RunState::Queued { not_before: Some(due), hold: None, trouble: Some(trouble) } => {
            Some(format!("is tried at {}, since it could not be started: {trouble}", time(*due)))
        }
        RunState::Queued { not_before: Some(due), hold: None, trouble: None } => {
            let what = if view.job.attempt > 1 { "is tried again at" } else { "waits until" };
            Some(format!("{what} {}", time(*due)))
        }
        RunState::Running { stop: Some(Stop::Cancel(_)), .. } => Some("is being cancelled".into()),
        RunState::Running { stop: Some(Stop::Yield { to }), .. } => {
            Some(format!("makes room for run {to}, unless it is going live already"))
        }
        RunState::Queued { not_before: None, hold: None, .. } | RunState::Running { stop: None, .. } => None,
        RunState::Finished { outcome, .. } => outcome.reason(),
    }
}

/// That a person had a run repeated with another hook than it had, as a clause about the new one.
pub(super) fn of_repeating(job: &Job) -> Option<String> {
    let repeated = job.retry_of?;
    match job.hook_as_of {
        AsOf::Acceptance => None,
        AsOf::Retry => {
            Some(format!("repeats run {repeated} with the hook as hooks.yaml had it when that was asked for"))
        }
    }
}

/// A letter, as the API tells it.
pub(super) fn letter(view: &LetterView) -> Letter {
    let (state, at, trouble) = match &view.state {
        LetterState::Owed { due, why } => ("waiting", *due, why.clone()),
        LetterState::Sent { at } => ("sent", Some(*at), None),
        LetterState::GivenUp { at, why } => ("given_up", Some(*at), Some(why.clone())),
    };
    Letter {
        id: view.id.0,
        to: view.address.to_string(),
        occasion: view.occasion.word().into(),
        state: state.into(),
        attempts: view.attempts,
        trouble,
        at: at.map(time),
    }
}

/// A delivery, as the API tells it.
pub(super) fn delivery(view: &DeliveryView) -> Delivery {
    Delivery {
        id: view.id.0,
        path: view.path.to_string(),
        delivery_id: view.delivery_id.clone(),
        event: view.event.clone(),
        status: reply::status_of(&view.result),
        result: view.result.clone(),
        message: view.message.clone(),
        runs: view.runs.iter().map(|(run, _)| run.0).collect(),
        received_at: time(view.received_at),
    }
}

/// A hook as it stands.
pub(super) fn hook(
    hooks: &Hooks,
    local: &Local,
    hook: &Hook,
    (summary, ground): (&HookSummary, Option<&CommitId>),
    (stopped, holds): (&[StoppedLane], &[Hold]),
) -> HookStatus {
    HookStatus {
        hook: hook.name.to_string(),
        repo: hook.repo.to_string(),
        lane: hook.lane.to_string(),
        enabled: hook.enabled,
        payload_url: payload_url(hooks, local, hook),
        live_sha: summary.live.as_ref().or(ground).map(CommitId::to_string),
        live_note: live_note(hook, summary, ground),
        waiting: summary.waiting,
        running: summary.active.as_ref().map(listed_run),
        last: summary.last.as_ref().map(listed_run),
        lane_stopped: stopped.iter().find(|it| it.lane == hook.lane).map(|it| it.reason.clone()),
        hold: holds.iter().find(|it| it.hook.as_ref() == Some(&hook.name)).map(hold),
        bad_commits: summary.bad_commits.iter().map(bad_commit).collect(),
        renamed_to: new_name(hook, summary).map(ToString::to_string),
        remote_trouble: None,
    }
}

/// What people should know of what is live, as a sentence without a full stop: that it stands there and no run on record has
/// brought it (`ground`), or that a run since then has left its own files there.
pub(super) fn live_note(hook: &Hook, summary: &HookSummary, ground: Option<&CommitId>) -> Option<String> {
    let path = hook.deploy.strategy.path()?.display();
    let Some(live) = &summary.live else {
        let short = ground?.short();
        return Some(format!("{short} stands in `{path}`, and no run on record has deployed it"));
    };
    match &hook.deploy.strategy {
        Strategy::InPlace { .. } if summary.active.is_none() => (),
        Strategy::InPlace { .. } | Strategy::Releases { .. } | Strategy::Checkout { .. } | Strategy::None { .. } => {
            return None;
        }
    }
    let Disturbed { run, commit } = summary.disturbed.as_ref()?;
    let commit = commit.as_ref().filter(|it| *it != live)?;
    let (short, live) = (commit.short(), live.short());
    Some(format!(
        "run {run} of {short} ended badly after it had begun to write into `{path}`, so files of {short} may be there; \
         {live} is the last commit that was deployed with success"
    ))
}

/// So long people are told that the store did not know runs of which there were folders.
const LOSS_IS_TOLD_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The new name of a hook's repository, as long as hooks.yaml has another one.
pub(super) fn new_name<'a>(hook: &Hook, summary: &'a HookSummary) -> Option<&'a RepoName> {
    summary.renamed_to.as_ref().filter(|it| **it != hook.repo)
}

/// A hold, as the API tells it.
pub(super) fn hold(hold: &Hold) -> views::Hold {
    let (reason, author) = (hold.reason.clone(), hold.author.clone());
    views::Hold { reason, author, since: time(hold.since), until: hold.until.map(time) }
}

fn bad_commit(bad: &BadCommit) -> views::BadCommit {
    views::BadCommit { sha: bad.commit.to_string(), run: bad.run.0 }
}

/// The URL to enter at the forge. Where nobody said how the forge reaches us, the address that was really bound stands
/// for it: the one of hooks.yaml may leave the port to the system.
fn payload_url(hooks: &Hooks, local: &Local, hook: &Hook) -> String {
    let base = hooks.server.public_url.trim_end_matches('/');
    let is_default = base == hooks.server.listen.default_url();
    let path = hooks.path_of(hook);
    match local {
        Local::At(address) if is_default => format!("http://{address}{path}"),
        Local::At(_) | Local::Unix(_) => format!("{base}{path}"),
    }
}

/// The daemon and its hooks.
pub(super) fn status(api: &Api, counts: Counts, holds: &[Hold], loss: Option<&Loss>, hooks: Vec<HookStatus>) -> Status {
    let is_told = |it: &&Loss| Timestamp::now().duration_since(it.at) < LOSS_IS_TOLD_FOR;
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at: time(api.daemon.started_at),
        config: api.daemon.file.display().to_string(),
        config_trouble: api.daemon.trouble.borrow().clone(),
        damage: api.store.damage(),
        loss: loss.filter(is_told).map(|it| views::Loss { at: time(it.at), message: it.to_string() }),
        listen: api.daemon.local.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        state: api.daemon.state.display().to_string(),
        holding: Holding {
            cgroup: api.daemon.cgroup.as_ref().ok().map(|it| it.display().to_string()),
            why_none: api.daemon.cgroup.as_ref().err().cloned(),
            unheld_limits: api.daemon.unheld_limits.clone(),
        },
        hold: holds.iter().find(|it| it.hook.is_none()).map(hold),
        letters_waiting: counts.letters,
        unauthenticated: api.daemon.tally.failed_proofs(),
        hooks,
    }
}

/// A piece of a log.
pub(super) fn log_piece(page: &Page, is_over: bool) -> LogPiece {
    let line = |it: &Line| LogLine { at: time(it.at), is_remark: is_remark(it.kind), text: it.text().into_owned() };
    LogPiece { next: page.next, lines: page.lines.iter().map(line).collect(), is_over }
}

fn is_remark(kind: Kind) -> bool {
    match kind {
        Kind::Output | Kind::Piece => false,
        Kind::Remark | Kind::Cut => true,
    }
}

/// The stage of a word.
pub(super) fn stage(word: &str) -> Result<RunStage, Refused> {
    RunStage::parse(word)
        .ok_or_else(|| Refused::BadRequest(format!("`{word}` is not a state: queued, running or finished")))
}

/// A time for programs, to the millisecond.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}
