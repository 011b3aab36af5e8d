//! What the command line may ask of the daemon, as JSON over HTTP.
//!
//! Invariant: a handler reads or changes the store through its verbs alone, so a client can do nothing that a loop
//! could not have seen.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    hooks::Hooks,
    journal::{
        folder::RunDir,
        log::{Page, Reader},
    },
    keeper::ground,
    model::{
        hook::{BranchFilter, Hook},
        job::Target,
        name::HookName,
        push::{CommitId, RefName},
        run::RunId,
    },
    route,
    store::{
        Cancelled, DeliveryFilter, DeliveryNo, HookSummary, ListedRun, RunFilter, RunStage, RunState, RunView, Store,
    },
    web::{
        Tally, describe, explain, hold,
        listeners::Local,
        rehearse, releases,
        reply::Refused,
        views::{
            self, ActRequest, DeployRequest, Done, Explanation, HookStatus, LogPiece, RetryRequest, RunInFull,
            SendRequest, Sent, Status,
        },
    },
};

/// A request of a client is never larger, but for the payload of a test delivery.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Runs or deliveries in one answer.
const PAGE_MAX: u32 = 1000;

/// How long a client that follows a log waits for news in one request.
const NEWS_WITHIN: Duration = Duration::from_secs(10);

/// How often the log of a run under way is looked at for a client that waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the handlers know.
#[derive(Clone)]
pub struct Api {
    /// What survives a restart.
    pub store: Store,
    /// The hooks of now.
    pub hooks: watch::Receiver<Arc<Hooks>>,
    /// Facts about the daemon itself.
    pub daemon: Daemon,
    /// Ends waits for news.
    pub stop: CancellationToken,
}

/// Facts about the daemon itself.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The hooks.yaml it follows.
    pub file: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// Where deliveries are received, with the ports that were really bound; there is one at least.
    pub local: Vec<Local>,
    /// The control group below which each run gets its own, or why there is none.
    pub cgroup: Result<PathBuf, String>,
    /// The `limits` that do not hold, each as a sentence with its reason.
    pub unheld_limits: Vec<String>,
    /// Since when it serves.
    pub started_at: Timestamp,
    /// Why the file as it is now was not taken.
    pub trouble: watch::Receiver<Option<String>>,
    /// The hooks whose remote cannot be asked for pushes that were missed, each with the reason.
    pub remotes: watch::Receiver<BTreeMap<HookName, String>>,
    /// What has been counted since the start.
    pub tally: Arc<Tally>,
}

impl Api {
    /// Why the remote of a hook cannot be asked for pushes that were missed.
    pub(super) fn remote_trouble(&self, hook: &HookName) -> Option<String> {
        self.daemon.remotes.borrow().get(hook).cloned()
    }
}

impl Daemon {
    /// Where this machine posts to: an address if there is one.
    pub(super) fn entrance(&self) -> &Local {
        let at = self.local.iter().find(|it| matches!(it, Local::At(_)));
        at.or(self.local.first()).expect("deliveries are received somewhere")
    }
}

/// What a handler answers.
pub(super) type Answer<T> = Result<Json<T>, Refused>;

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{run}", get(run))
        .route("/v1/runs/{run}/log", get(log_piece))
        .route("/v1/runs/{run}/cancel", post(cancel))
        .route("/v1/runs/{run}/retry", post(retry))
        .route("/v1/hooks/{hook}/deploy", post(deploy))
        .route("/v1/hooks/{hook}/send", post(send))
        .route("/v1/hold", post(hold::hold))
        .route("/v1/resume", post(hold::resume))
        .route("/v1/hooks/{hook}/releases", get(releases::list))
        .route("/v1/hooks/{hook}/rollback", post(releases::rollback))
        .route("/v1/hooks/{hook}/adopt", post(releases::adopt))
        .route("/v1/deliveries", get(deliveries))
        .route("/v1/why", get(why))
        .fallback(|| async { Refused::NotFound("there is no such request; is the client of another version?".into()) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

async fn status(State(api): State<Api>) -> Answer<Status> {
    let hooks = api.hooks.borrow().clone();
    let (stopped, holds) = (api.store.lanes_stopped().await?, api.store.holds().await?);
    let mut summaries = Vec::new();
    for hook in hooks.hooks.values() {
        summaries.push((hook, api.store.hook_summary(&hook.name).await?));
    }
    let unknown: Vec<_> =
        summaries.iter().filter(|(_, it)| it.live.is_none()).map(|(hook, _)| Arc::clone(hook)).collect();
    let ground = ground::look(&unknown).await;
    let of_hook = |(hook, summary): &(&Arc<Hook>, HookSummary)| {
        let ground = ground.get(hook.name.as_str());
        let status = describe::hook(&hooks, api.daemon.entrance(), hook, (summary, ground), (&stopped, &holds));
        HookStatus { remote_trouble: api.remote_trouble(&hook.name), ..status }
    };
    let list = summaries.iter().map(of_hook).collect();
    let loss = api.store.last_loss().await?;
    Ok(Json(describe::status(&api, api.store.counts().await?, &holds, loss.as_ref(), list)))
}

#[derive(Deserialize)]
struct RunsQuery {
    hook: Option<String>,
    state: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

async fn runs(State(api): State<Api>, Query(query): Query<RunsQuery>) -> Answer<Vec<views::Run>> {
    let hook = query.hook.map(|name| hook_name(&name)).transpose()?;
    let filter = RunFilter {
        hook,
        stage: query.state.map(|word| describe::stage(&word)).transpose()?,
        before: query.before.map(RunId),
        limit: query.limit.unwrap_or(20).clamp(1, PAGE_MAX),
    };
    let asked_for = filter.hook.clone().filter(|_| filter.stage.is_none() && filter.before.is_none());
    let found = api.store.listed_runs(filter).await?;
    if let Some(name) = asked_for.filter(|_| found.is_empty()) {
        // One that is gone from hooks.yaml may still have runs; a misspelt one never has.
        find_hook(&api, name.as_str())?;
    }
    Ok(Json(found.iter().map(describe::listed_run).collect()))
}

async fn run(State(api): State<Api>, Path(run): Path<i64>) -> Answer<RunInFull> {
    let listed = listed(&api, RunId(run)).await?;
    let letters = api.store.letters_of(listed.id()).await?;
    let mut run = describe::listed_run(&listed);
    if let ListedRun::Whole(view) = &listed
        && run.reason.is_none()
        && matches!(view.state, RunState::Queued { .. })
    {
        run.reason = explain::what_is_ahead(&api, view).await?.map(|it| format!("waits: {it}"));
    }
    let folder = RunDir::of(&api.daemon.state, listed.id());
    let log = describe::log_word(&listed, folder.log().exists()).to_owned();
    Ok(Json(RunInFull {
        run,
        letters: letters.iter().map(describe::letter).collect(),
        folder: folder.path().display().to_string(),
        log,
    }))
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    wait: bool,
    /// Milliseconds that news are waited for at most.
    within: Option<u64>,
}

async fn log_piece(State(api): State<Api>, Path(run): Path<i64>, Query(query): Query<LogQuery>) -> Answer<LogPiece> {
    let within = query.within.map_or(NEWS_WITHIN, |it| Duration::from_millis(it).min(NEWS_WITHIN));
    let give_up_at = Instant::now() + within;
    loop {
        // The end is looked up before the lines: what was written before it is then sure to be seen.
        let is_over = listed(&api, RunId(run)).await?.stage() == RunStage::Finished;
        let folder = RunDir::of(&api.daemon.state, RunId(run));
        let read = spawn_blocking(move || Reader::new(&folder).read(query.from)).await;
        let read = read.map_err(|_| Refused::Failed("reading the log panicked".into()))?;
        let page = match read {
            Ok(page) => page,
            // The run has not begun, or its log is no longer kept.
            Err(err) if err.kind() == io::ErrorKind::NotFound => Page { lines: Vec::new(), next: query.from },
            Err(err) => return Err(Refused::Failed(format!("cannot read the log of run {run}: {err}"))),
        };
        let is_news = !page.lines.is_empty() || is_over || !query.wait;
        if is_news || Instant::now() >= give_up_at || api.stop.is_cancelled() {
            return Ok(Json(describe::log_piece(&page, is_over)));
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => (),
            () = api.stop.cancelled() => (),
        }
    }
}

async fn cancel(State(api): State<Api>, Path(run): Path<i64>, Json(request): Json<ActRequest>) -> Answer<Done> {
    let why = request.reason.map(|it| format!(": {it}")).unwrap_or_default();
    let reason = format!("cancelled by {}{why}", request.actor);
    let message = match api.store.cancel(RunId(run), &reason, Timestamp::now()).await? {
        Cancelled::Ended => format!("run {run} was waiting and is cancelled"),
        Cancelled::Asked => format!("run {run} is being cancelled: what it started is ended first"),
        Cancelled::AlreadyFinished => return Err(Refused::Conflict(format!("run {run} has ended already"))),
        Cancelled::Unknown => return Err(no_run(run)),
    };
    info!(run.id = run, "run {run}: {reason}");
    Ok(Json(Done { run, message }))
}

async fn retry(State(api): State<Api>, Path(run): Path<i64>, Json(request): Json<RetryRequest>) -> Answer<Done> {
    let view = found(&api, RunId(run)).await?;
    match view.state {
        RunState::Finished { .. } => (),
        RunState::Queued { .. } | RunState::Running { .. } => {
            return Err(Refused::Conflict(format!("run {run} has not ended yet; `landfall cancel {run}` ends it")));
        }
    }
    let (hook, actor) = (&view.hook, &request.actor);
    let (ticket, as_of) = if request.as_it_was {
        (route::again(&view.job, view.id, 1, Some(actor)), format!("it was in run {run}"))
    } else {
        let now = api.hooks.borrow().hook(hook).cloned();
        let gone = || {
            Refused::Conflict(format!(
                "hook `{hook}` is not in hooks.yaml any more; `landfall retry {run} --as-it-was` repeats run {run} with \
                 the hook as it was"
            ))
        };
        (route::again_with(&now.ok_or_else(gone)?, &view.job, view.id, actor), "hooks.yaml has it now".to_owned())
    };
    let first = explain::what_comes_first(&api, hook).await?;
    let new = api.store.enqueue(ticket, Timestamp::now()).await?;
    let what = format!("repeats run {run} with hook `{hook}` as {as_of}");
    info!(run.id = %new, "run {new} {what}, asked by {actor}");
    Ok(Json(Done { run: new.0, message: format!("run {new} is queued and {what}{first}") }))
}

async fn deploy(State(api): State<Api>, Path(name): Path<String>, Json(request): Json<DeployRequest>) -> Answer<Done> {
    let hook = find_hook(&api, &name)?;
    let target = match (&request.sha, &request.ref_name) {
        (Some(_), Some(_)) => return Err(Refused::BadRequest("give a commit or a ref, not both".into())),
        (Some(sha), None) => Target::Commit { commit: commit_id(sha)?, ref_name: None },
        (None, Some(ref_name)) => Target::Ref(full_ref(ref_name)?),
        (None, None) => match own_branch(&hook) {
            Some(branch) => Target::Ref(RefName::Branch(branch.to_owned())),
            None => Target::DefaultBranch,
        },
    };
    let first = explain::what_comes_first(&api, &hook.name).await?;
    let run = api.store.enqueue(route::by_hand(&hook, target, &request.actor), Timestamp::now()).await?;
    info!(run.id = %run, hook.name = %name, "run {run} of {name} was asked for by {}", request.actor);
    Ok(Json(Done { run: run.0, message: format!("run {run} of {name} is queued{first}") }))
}

async fn send(State(api): State<Api>, Path(name): Path<String>, Json(request): Json<SendRequest>) -> Answer<Sent> {
    let hook = find_hook(&api, &name)?;
    rehearse::send(&api, &hook, request).await.map(Json)
}

async fn deliveries(State(api): State<Api>, Query(query): Query<RunsQuery>) -> Answer<Vec<views::Delivery>> {
    let limit = query.limit.unwrap_or(20).clamp(1, PAGE_MAX);
    let filter = DeliveryFilter { path: None, before: query.before.map(DeliveryNo), limit };
    let deliveries = api.store.deliveries(filter).await?;
    Ok(Json(deliveries.iter().map(describe::delivery).collect()))
}

#[derive(Deserialize)]
struct WhyQuery {
    about: String,
}

async fn why(State(api): State<Api>, Query(query): Query<WhyQuery>) -> Answer<Explanation> {
    explain::explain(&api, &query.about).await.map(Json)
}

/// The run of that number; one that cannot be read is refused with the next step.
pub(super) async fn found(api: &Api, run: RunId) -> Result<RunView, Refused> {
    match listed(api, run).await? {
        ListedRun::Whole(view) => Ok(*view),
        ListedRun::Unreadable(left) => Err(Refused::Failed(format!("run {run}: {}", describe::why_unreadable(&left)))),
    }
}

async fn listed(api: &Api, run: RunId) -> Result<ListedRun, Refused> {
    api.store.listed_run(run).await?.ok_or_else(|| no_run(run.0))
}

fn no_run(run: i64) -> Refused {
    Refused::NotFound(format!("there is no run {run}; `landfall runs` lists them"))
}

fn hook_name(name: &str) -> Result<HookName, Refused> {
    HookName::parse(name).ok_or_else(|| Refused::BadRequest(format!("`{name}` is not a hook's name")))
}

/// The hook of that name.
pub(super) fn find_hook(api: &Api, name: &str) -> Result<Arc<Hook>, Refused> {
    let hooks = api.hooks.borrow();
    let known = || hooks.hooks.keys().map(HookName::as_str).collect::<Vec<_>>().join(", ");
    let hook = HookName::parse(name).and_then(|name| hooks.hook(&name).cloned());
    hook.ok_or_else(|| Refused::NotFound(format!("there is no hook `{name}`; there are: {}", known())))
}

/// A commit a person named: only all of its digits are exact enough to deploy.
pub(super) fn commit_id(text: &str) -> Result<CommitId, Refused> {
    CommitId::parse(text).ok_or_else(|| {
        Refused::BadRequest(format!(
            "`{text}` is not a whole commit id: give all 40 (or 64) digits, as `git rev-parse` prints them"
        ))
    })
}

/// A ref a person named: in full, or a branch's short name.
pub(super) fn full_ref(text: &str) -> Result<RefName, Refused> {
    let full = if text.starts_with("refs/") { text.to_owned() } else { format!("refs/heads/{text}") };
    RefName::parse(&full).ok_or_else(|| {
        Refused::BadRequest(format!("`{text}` is not a branch or a full ref (refs/heads/..., refs/tags/...)"))
    })
}

/// The branch a hook is about, if it is about just one.
pub(super) fn own_branch(hook: &Hook) -> Option<&str> {
    match &hook.on.push {
        BranchFilter::Matching(patterns) => patterns.single_name(),
        BranchFilter::DefaultBranch | BranchFilter::Never => None,
    }
}
