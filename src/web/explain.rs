//! Says why something was deployed, or was not, in sentences out of stored reasons.
//!
//! Invariant: nothing is guessed here; a sentence that has no stored fact behind it is not said.

use std::collections::BTreeSet;

use crate::{
    keeper::ground,
    model::{
        job::{Asked, Job, Target, Trigger},
        name::HookName,
        run::{Outcome, RunId},
    },
    store::{BadCommit, DeliveryFilter, DeliveryNo, DeliveryView, ListedRun, RunFilter, RunStage, RunState, RunView},
    web::{
        api::Api,
        describe::{self, time},
        reply::Refused,
        views::Explanation,
    },
};

/// The newest runs or deliveries that are worth a sentence.
const RECENT: u32 = 5;

/// Runs under way, or waiting, that are looked through.
const NEIGHBOURS_MAX: u32 = 1000;

fn neighbours(hook: Option<&HookName>, stage: RunStage) -> RunFilter {
    RunFilter { hook: hook.cloned(), stage: Some(stage), before: None, limit: NEIGHBOURS_MAX }
}

/// Explains a hook, a run, a commit or a delivery, whichever `about` names.
pub(super) async fn explain(api: &Api, about: &str) -> Result<Explanation, Refused> {
    let hook = HookName::parse(about).filter(|name| api.hooks.borrow().hook(name).is_some());
    if let Some(hook) = hook {
        return explain_hook(api, &hook).await;
    }
    if let Ok(number) = about.parse::<i64>()
        && about.len() < 16
    {
        // Else it may be a commit or a delivery that happens to be written in digits alone.
        if let Some(run) = api.store.listed_run(RunId(number)).await? {
            return Ok(Explanation { about: format!("run {number}"), sentences: of_listed(api, &run).await? });
        }
    }
    let number = about.strip_prefix("delivery:").and_then(|it| it.parse().ok());
    if let Some(number) = number
        && let Some(delivery) = api.store.delivery(DeliveryNo(number)).await?
    {
        return explain_delivery(api, about, &delivery).await;
    }
    if (7..=64).contains(&about.len()) && about.bytes().all(|it| it.is_ascii_hexdigit()) {
        let digits = about.to_ascii_lowercase();
        let runs = api.store.runs_of_commit(&digits, RECENT).await?;
        let in_vain = api.store.deliveries_of_commit(&digits, RECENT).await?;
        if !runs.is_empty() || !in_vain.is_empty() {
            let mut sentences: Vec<String> = in_vain.iter().rev().map(of_delivery).collect();
            for view in runs.iter().rev() {
                sentences.extend(of_run(api, view).await?);
            }
            let hooks: BTreeSet<&HookName> = runs.iter().map(|it| &it.hook).collect();
            for hook in hooks {
                let summary = api.store.hook_summary(hook).await?;
                let bad = summary
                    .bad_commits
                    .iter()
                    .filter(|it| runs.iter().any(|run| run.commit.as_ref() == Some(&it.commit)));
                sentences.extend(bad.map(|it| of_bad_commit(hook, it)));
            }
            return Ok(Explanation { about: format!("commit {about}"), sentences });
        }
    }
    match api.store.delivery_by_id(about).await? {
        Some(delivery) => explain_delivery(api, &format!("delivery {about}"), &delivery).await,
        None => Err(Refused::NotFound(format!(
            "`{about}` is no hook, run, pushed commit or delivery here; `landfall deliveries` shows what has come in, \
             and what never came in is shown only by the forge (its webhook's recent deliveries)"
        ))),
    }
}

async fn explain_delivery(api: &Api, about: &str, delivery: &DeliveryView) -> Result<Explanation, Refused> {
    let mut sentences = vec![of_delivery(delivery)];
    for (run, hook) in &delivery.runs {
        match api.store.listed_run(*run).await? {
            Some(run) => sentences.extend(of_listed(api, &run).await?),
            None => sentences.push(format!("run {run} of hook {hook} is no longer kept")),
        }
    }
    Ok(Explanation { about: about.to_owned(), sentences })
}

async fn explain_hook(api: &Api, name: &HookName) -> Result<Explanation, Refused> {
    let summary = api.store.hook_summary(name).await?;
    let mut sentences = obstacles(api, name).await?;
    let hooks = api.hooks.borrow().clone();
    if let Some(hook) = hooks.hook(name)
        && let Some(new) = describe::new_name(hook, &summary)
    {
        let (forge, old) = (hook.forge, &hook.repo);
        sentences.push(format!(
            "{forge} now calls its repository `{new}`, and hooks.yaml `{old}`: its pushes start nothing"
        ));
    }
    sentences.extend(
        api.remote_trouble(name)
            .map(|why| format!("its remote cannot be asked for pushes that no delivery brought: {why}")),
    );
    let hook = hooks.hook(name).cloned();
    let ground = match (&hook, &summary.live) {
        (Some(hook), None) => ground::look(std::slice::from_ref(hook)).await.remove(name.as_str()),
        (None, _) | (_, Some(_)) => None,
    };
    let note = hook.and_then(|it| describe::live_note(&it, &summary, ground.as_ref()));
    match &summary.live {
        Some(commit) => sentences.push(format!("commit {} is live, as far as Landfall recorded", commit.short())),
        None if note.is_none() => sentences.push("nothing has been deployed yet".into()),
        None => (),
    }
    sentences.extend(note);
    sentences.extend(summary.bad_commits.iter().map(|it| of_bad_commit(name, it)));
    if let Some(run) = &summary.active {
        sentences.extend(of_listed(api, run).await?);
    }
    let waiting = neighbours(Some(name), RunStage::Queued);
    let first = api.store.runs(waiting).await?.pop();
    match (summary.waiting, first) {
        (0, _) | (_, None) => (),
        (1, Some(first)) => sentences.extend(of_run(api, &first).await?),
        (more, Some(first)) => {
            sentences.extend(of_run(api, &first).await?);
            sentences.push(format!("{} more wait behind it", more - 1));
        }
    }
    if let Some(run) = &summary.last {
        sentences.extend(of_listed(api, run).await?);
    }
    if let Some(hook) = hooks.hook(name) {
        let filter = DeliveryFilter { path: Some(hooks.path_of(hook)), before: None, limit: RECENT };
        let newest = api.store.deliveries(filter).await?;
        let untold: Vec<String> = newest.iter().map(of_delivery).filter(|it| !sentences.contains(it)).collect();
        sentences.extend(untold);
    }
    Ok(Explanation { about: format!("hook {name}"), sentences })
}

/// What keeps the jobs of a hook from running, whatever they are.
async fn obstacles(api: &Api, name: &HookName) -> Result<Vec<String>, Refused> {
    let mut sentences = Vec::new();
    let is_off = api.hooks.borrow().hook(name).is_some_and(|it| !it.enabled);
    if is_off {
        sentences.push("the hook is not enabled: deliveries are stored and nothing runs".into());
    }
    sentences.extend(waits(api, name).await?);
    Ok(sentences)
}

/// What the jobs of a hook wait for until a person has acted, whoever asked for them.
pub(super) async fn waits(api: &Api, name: &HookName) -> Result<Vec<String>, Refused> {
    let mut sentences = Vec::new();
    let hook = api.hooks.borrow().hook(name).cloned();
    let holds = api.store.holds().await?;
    for hold in holds.iter().filter(|it| it.hook.as_ref().is_none_or(|it| it == name)) {
        let what = if hold.hook.is_some() { "the hook is" } else { "all hooks are" };
        let until = hold.until.map(|it| format!(" until {}", time(it))).unwrap_or_default();
        sentences.push(format!("{what} on hold since {}{until} by {}: {}", time(hold.since), hold.author, hold.reason));
    }
    let stopped = api.store.lanes_stopped().await?;
    for lane in stopped.iter().filter(|it| hook.as_ref().is_some_and(|hook| hook.lane == it.lane)) {
        sentences.push(format!(
            "its lane is stopped since {}: {}; see to it, then `landfall resume --lane {}`",
            time(lane.since),
            lane.reason,
            lane.lane
        ));
    }
    Ok(sentences)
}

fn of_bad_commit(hook: &HookName, bad: &BadCommit) -> String {
    format!(
        "commit {} did not come up in run {} at {}: it is not queued again for hook {hook} until `landfall resume {hook} \
         --commit {}`",
        bad.commit.short(),
        bad.run,
        time(bad.since),
        bad.commit
    )
}

/// Why a new run of a hook does not begin at once, for people in a hurry; the end of a sentence.
pub(super) async fn what_comes_first(api: &Api, name: &HookName) -> Result<String, Refused> {
    let mut clauses = waits(api, name).await?;
    if let Some(active) = api.store.hook_summary(name).await?.active {
        clauses.push(format!("run {} is under way and ends first", active.id()));
    }
    Ok(if clauses.is_empty() { String::new() } else { format!("; it waits: {}", clauses.join("; ")) })
}

/// What keeps a run from being claimed that may be claimed as far as it goes itself, if anything does; a clause.
pub(super) async fn what_is_ahead(api: &Api, view: &RunView) -> Result<Option<String>, Refused> {
    let stopped = api.store.lanes_stopped().await?;
    if let Some(lane) = stopped.iter().find(|it| it.lane == view.lane) {
        let clause = format!("lane {} is stopped: {}; `landfall resume --lane {0}` opens it", lane.lane, lane.reason);
        return Ok(Some(clause));
    }
    let running = api.store.runs(neighbours(None, RunStage::Running)).await?;
    if let Some(ahead) = running.iter().find(|it| it.lane == view.lane) {
        return Ok(Some(format!("run {} of hook {} is under way in lane {}", ahead.id, ahead.hook, view.lane)));
    }
    let workers = api.hooks.borrow().server.workers;
    let is_busy = running.len() >= workers;
    Ok(is_busy.then(|| format!("all {workers} `workers` are busy with other lanes")))
}

async fn of_listed(api: &Api, run: &ListedRun) -> Result<Vec<String>, Refused> {
    match run {
        ListedRun::Whole(view) => of_run(api, view).await,
        ListedRun::Unreadable(left) => Ok(vec![format!("run {}: {}", left.id, describe::why_unreadable(left))]),
    }
}

async fn of_run(api: &Api, view: &RunView) -> Result<Vec<String>, Refused> {
    let mut sentences = Vec::new();
    if let Some(number) = view.delivery
        && let Some(delivery) = api.store.delivery(number).await?
    {
        sentences.push(of_delivery(&delivery));
    }
    let job = &view.job;
    let commit = view.commit.as_ref().map_or("a commit not yet known", |it| it.short());
    let what = match &job.target {
        Target::Commit { .. } | Target::Ref(_) | Target::DefaultBranch => format!("deploy {commit}"),
        Target::Release { name, reason, .. } => {
            let why = reason.as_ref().map(|it| format!(" because \"{it}\"")).unwrap_or_default();
            format!("go back to release {name}{why}")
        }
        Target::Standing => "adopt the folder that stands at `current`".to_owned(),
    };
    let place = job.target.ref_name().map(|it| format!(" of `{}`", it.short())).unwrap_or_default();
    let repeats = job.retry_of.map(|it| format!(", repeating run {it}")).unwrap_or_default();
    sentences.push(format!(
        "run {} is to {what}{place} by hook {}: {} by {}, attempt {}{repeats}, queued at {}",
        view.id,
        view.hook,
        job.trigger,
        job.actor,
        job.attempt,
        time(view.created_at)
    ));
    if !view.supersedes.is_empty() {
        let runs: Vec<_> = view.supersedes.iter().map(|it| format!("run {it}")).collect();
        sentences.push(format!("run {} took the place of {}", view.id, runs.join(" and ")));
    }
    sentences.extend(of_catching_up(view));
    let remarks = [of_asking(job), describe::of_repeating(job)];
    sentences.extend(remarks.into_iter().flatten().map(|it| format!("run {} {it}", view.id)));
    sentences.push(match &view.state {
        RunState::Queued { hold: Some(why), .. } => format!("run {} waits, since it is on hold: {why}", view.id),
        RunState::Queued { not_before: Some(due), hold: None, trouble: Some(trouble) } => {
            let due = time(*due);
            format!("run {} waits until {due} to be tried again, since it could not be started: {trouble}", view.id)
        }
        RunState::Queued { not_before: Some(due), hold: None, trouble: None } if job.attempt > 1 => {
            format!("run {} waits until {} to be tried again", view.id, time(*due))
        }
        RunState::Queued { not_before: Some(due), hold: None, trouble: None } => {
            format!("run {} waits until {}, as `debounce` or `min_interval` ask for", view.id, time(*due))
        }
        RunState::Queued { not_before: None, hold: None, .. } => {
            let ahead = what_is_ahead(api, view).await?.map(|it| format!(": {it}")).unwrap_or_default();
            format!("run {} waits in lane {} for its turn{ahead}", view.id, view.lane)
        }
        RunState::Running { since, step, .. } => {
            format!("run {} has been running since {} and is at step {step}", view.id, time(*since))
        }
        RunState::Finished { at, outcome, .. } => of_end(view, &time(*at), outcome),
    });
    Ok(sentences)
}

/// Why a run is there that no delivery brought and nobody asked for.
fn of_catching_up(view: &RunView) -> Option<String> {
    let push = view.job.push.as_ref().filter(|_| view.job.trigger == Trigger::CatchUp)?;
    let before = match &push.before {
        Some(before) => format!("{} was the last that was known of it", before.short()),
        None => "nothing was known of it".to_owned(),
    };
    let name = push.ref_name.short();
    Some(format!(
        "no delivery brought run {}: the remote was asked, and has another commit at `{name}`; {before}",
        view.id
    ))
}

/// What a person's word changes about how a commit is held against what is live.
fn of_asking(job: &Job) -> Option<String> {
    job.hook.deploy.strategy.git()?;
    match job.asked {
        Asked::Push => None,
        Asked::Again => Some("is a push that a person wants once more, so nothing of it is skipped as needless".into()),
        Asked::Event => Some("came with no push, so its commit is not held against what is live".into()),
        Asked::ByHand => Some("was asked for by hand, so its commit is not held against what is live".into()),
    }
}

fn of_end(view: &RunView, at: &str, outcome: &Outcome) -> String {
    let word = outcome.word();
    let end = match outcome.reason() {
        Some(why) if why.starts_with(word) => why,
        Some(why) => format!("{word}: {why}"),
        None => word.to_owned(),
    };
    let next = view.repeated_by.map(|it| format!("; run {it} repeats it")).unwrap_or_default();
    format!("run {} ended at {at}: {end}{next}", view.id)
}

fn of_delivery(delivery: &DeliveryView) -> String {
    let event = delivery.event.as_ref().map(|it| format!(" of event `{it}`")).unwrap_or_default();
    let id = delivery.delivery_id.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
    format!(
        "delivery{id}{event} was received at {} at {} and answered `{}`: {}",
        time(delivery.received_at),
        delivery.path,
        delivery.result,
        delivery.message
    )
}
