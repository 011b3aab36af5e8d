//! What the command line may ask about releases: which there are, going back to one, adopting a folder.
//!
//! Invariant: nothing is changed here; whatever is to happen becomes a run in its lane.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tracing::info;

use crate::{
    journal::{
        releases::{self, History},
        site::{Site, Standing},
    },
    model::{deploy::Strategy, hook::Hook, job::Target, push::CommitId, release::ReleaseName, run::Outcome},
    route,
    store::{ListedRun, RunFilter, RunStage, RunState, RunView},
    web::{
        api::{Answer, Api, find_hook},
        describe::time,
        explain,
        reply::Refused,
        views::{ActRequest, Done, Release, Releases, RollbackRequest},
    },
};

/// How many releases are named in a sentence.
const NAMED_MAX: usize = 5;

/// The digits of a commit that name it, as with git.
const DIGITS_MIN: usize = 4;

/// How many runs back an earlier success is looked for, where there are no releases.
const LOOK_BACK_RUNS: u32 = 1000;

/// `GET /v1/hooks/{hook}/releases`: those whose trees are there, newest first.
pub(super) async fn list(State(api): State<Api>, Path(name): Path<String>) -> Answer<Releases> {
    let hook = find_hook(&api, &name)?;
    let history = history(&hook).await?;
    let there = history.releases.iter().rev().filter(|it| history.is_there(&it.name));
    let releases: Vec<_> = there.map(|it| describe(&history, it)).collect();
    let mut remarks: Vec<_> = history.damage().into_iter().collect();
    if releases.iter().all(|it| !it.is_live) {
        remarks.extend(what_stands(&site(&hook)?));
    }
    Ok(Json(Releases { releases, remarks }))
}

/// What stands at `current`, where that is no release on record; a sentence.
fn what_stands(site: &Site) -> Option<String> {
    let current = site.current();
    let what = match site.standing().ok()? {
        Standing::Nothing => return None,
        Standing::Link(to) if current.is_dir() => format!("leads to `{}`, which is no release on record", to.display()),
        Standing::Link(to) => format!("leads to `{}`, which is not there", to.display()),
        Standing::Folder => "is a folder and no link to a release".to_owned(),
        Standing::Other => "is neither a link nor a folder".to_owned(),
    };
    Some(format!("none of the releases is live: `{}` {what}", current.display()))
}

/// `POST /v1/hooks/{hook}/rollback`.
pub(super) async fn rollback(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(request): Json<RollbackRequest>,
) -> Answer<Done> {
    let hook = find_hook(&api, &name)?;
    let wish = Wish::parse(request.to.as_deref())?;
    let (target, what) = match &hook.deploy.strategy {
        Strategy::Releases { .. } => back_to_release(&history(&hook).await?, &wish, request.reason)?,
        Strategy::InPlace { .. } | Strategy::Checkout { .. } => back_to_commit(&api, &hook, &wish).await?,
        Strategy::None { .. } => {
            return Err(Refused::Conflict(format!("hook {name} deploys no code, so there is nothing to go back to")));
        }
    };
    let first = explain::what_comes_first(&api, &hook.name).await?;
    let run = api.store.enqueue(route::back(&hook, target, &request.actor), Timestamp::now()).await?;
    info!(run.id = %run, hook.name = %name, "run {run} of {name} {what}, asked by {}", request.actor);
    Ok(Json(Done { run: run.0, message: format!("run {run} of {name} {what}{first}") }))
}

/// `POST /v1/hooks/{hook}/adopt`.
pub(super) async fn adopt(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(request): Json<ActRequest>,
) -> Answer<Done> {
    let hook = find_hook(&api, &name)?;
    let current = site(&hook)?.current();
    let run = api.store.enqueue(route::by_hand(&hook, Target::Standing, &request.actor), Timestamp::now()).await?;
    info!(run.id = %run, hook.name = %name, "run {run} of {name} adopts a folder, asked by {}", request.actor);
    let message = format!("run {run} of {name} makes `{}` its first release", current.display());
    Ok(Json(Done { run: run.0, message }))
}

fn site(hook: &Hook) -> Result<Site, Refused> {
    match &hook.deploy.strategy {
        Strategy::Releases { path, .. } => Ok(Site::at(path)),
        other @ (Strategy::InPlace { .. } | Strategy::Checkout { .. } | Strategy::None { .. }) => {
            Err(Refused::Conflict(format!(
                "hook {} has no releases: its strategy is `{}`; `deploy: {{strategy: releases, path: ...}}` makes them",
                hook.name,
                other.word()
            )))
        }
    }
}

async fn history(hook: &Hook) -> Result<History, Refused> {
    let site = site(hook)?;
    let read = spawn_blocking(move || History::read(&site)).await;
    let read = read.map_err(|_| Refused::Failed("reading the record of releases panicked".into()))?;
    read.map_err(|err| Refused::Failed(err.to_string()))
}

fn describe(history: &History, release: &releases::Release) -> Release {
    let is_live = history.live.as_ref() == Some(&release.name);
    Release {
        release: release.name.to_string(),
        run: release.run.0,
        at: time(release.at),
        sha: release.commit.as_ref().map(CommitId::to_string),
        subject: release.subject.clone(),
        author: release.author.clone(),
        verdict: release.verdict.word().into(),
        is_live,
        is_candidate: history.obstacle(release).is_none(),
        size_bytes: release.size_bytes,
        note: release.note.clone(),
    }
}

/// What a person wants to go back to.
enum Wish {
    /// So many before what is live.
    Back(usize),
    /// A release of this name, or a commit with these first digits.
    Named(String),
}

impl Wish {
    fn parse(to: Option<&str>) -> Result<Self, Refused> {
        let Some(to) = to else { return Ok(Self::Back(1)) };
        match to.strip_prefix('-').map(str::parse::<usize>) {
            Some(Ok(count @ 1..)) => Ok(Self::Back(count)),
            Some(_) => {
                Err(Refused::BadRequest(format!("`{to}` is not a way back: write -1 for the one before, -2, ...")))
            }
            None => Ok(Self::Named(to.to_owned())),
        }
    }

    /// The releases of this name, or of a commit with these digits, newest first.
    fn named<'a>(&self, name: &str, history: &'a History) -> impl Iterator<Item = &'a releases::Release> {
        let (name, digits) = (ReleaseName::parse(name), self.digits());
        history.releases.iter().rev().filter(move |it| {
            let is_of = |digits: &String| it.commit.as_ref().is_some_and(|it| it.as_str().starts_with(digits));
            Some(&it.name) == name.as_ref() || digits.as_ref().is_some_and(is_of)
        })
    }

    /// The digits of a commit, if that is what was named. Fewer are too easily a number that means something else.
    fn digits(&self) -> Option<String> {
        match self {
            Self::Named(name) if name.len() >= DIGITS_MIN && name.bytes().all(|it| it.is_ascii_hexdigit()) => {
                Some(name.to_ascii_lowercase())
            }
            Self::Named(_) | Self::Back(_) => None,
        }
    }
}

/// The release that is meant, from the record of what was live and good.
fn back_to_release(history: &History, wish: &Wish, reason: Option<String>) -> Result<(Target, String), Refused> {
    let found = match wish {
        Wish::Back(count) => history.way_back().nth(count - 1),
        Wish::Named(name) => {
            let named: Vec<_> = wish.named(name, history).collect();
            let commits: BTreeSet<&str> = named.iter().filter_map(|it| Some(it.commit.as_ref()?.as_str())).collect();
            if commits.len() > 1 {
                let commits = commits.into_iter().collect::<Vec<_>>().join(", ");
                return Err(Refused::BadRequest(format!("`{name}` is the beginning of several commits: {commits}")));
            }
            let good = named.iter().find(|it| history.obstacle(it).is_none());
            good.or(named.first()).copied()
        }
    };
    let Some(release) = found else { return Err(no_way_back(history, wish, None)) };
    if let Some(why) = history.obstacle(release) {
        return Err(no_way_back(history, wish, Some(format!("release {} {why}", release.name))));
    }
    let (name, commit) = (release.name.clone(), release.commit.clone());
    let what = format!("goes back to release {name}: {}", release.subject);
    Ok((Target::Release { name, commit, reason }, what.trim_end_matches([':', ' ']).to_owned()))
}

fn no_way_back(history: &History, wish: &Wish, obstacle: Option<String>) -> Refused {
    let candidates: Vec<_> = history.candidates().map(|it| it.name.as_str()).collect();
    let there = there_are(&candidates);
    let why = obstacle.unwrap_or_else(|| match wish {
        Wish::Back(1) => "there is no good release before the live one".to_owned(),
        Wish::Back(count) => format!("there are not {count} good releases before the live one"),
        Wish::Named(name) => format!(
            "no release on record is `{name}`, and none is of a commit that begins so (with at least {DIGITS_MIN} \
             digits)"
        ),
    });
    Refused::NotFound(format!("{why}; {there}"))
}

/// What can be gone back to, newest first; a clause.
fn there_are(names: &[&str]) -> String {
    match names.split_at_checked(NAMED_MAX) {
        Some((newest, more @ [_, ..])) => {
            let newest = newest.join(", ");
            format!("there are: {newest}, and {} more, which `landfall releases` lists", more.len())
        }
        Some(_) | None if names.is_empty() => "there is none to go back to".to_owned(),
        Some(_) | None => format!("there are: {}", names.join(", ")),
    }
}

/// Where there are no releases: the commit of an earlier success, which is deployed again. It is counted from what
/// stands there now.
async fn back_to_commit(api: &Api, hook: &Arc<Hook>, wish: &Wish) -> Result<(Target, String), Refused> {
    let active = api.store.hook_summary(&hook.name).await?.active.and_then(ListedRun::whole);
    let filter = RunFilter {
        hook: Some(hook.name.clone()),
        stage: Some(RunStage::Finished),
        before: None,
        limit: LOOK_BACK_RUNS,
    };
    let runs = api.store.runs(filter).await?;
    let standing = standing(active.as_ref(), &runs);
    let mut seen: Vec<(CommitId, &RunView)> = Vec::new();
    for view in runs.iter().filter(|it| is_good(it)) {
        if let Some(commit) = &view.commit
            && Some(commit) != standing
            && seen.iter().all(|(known, _)| known != commit)
        {
            seen.push((commit.clone(), view));
        }
    }
    let found = match (wish, wish.digits()) {
        (Wish::Back(count), _) => seen.get(count - 1),
        (Wish::Named(_), Some(digits)) => seen.iter().find(|(it, _)| it.as_str().starts_with(&digits)),
        (Wish::Named(_), None) => None,
    };
    let Some((commit, view)) = found else {
        return Err(Refused::NotFound(format!(
            "no other commit that hook {} deployed with success fits; `landfall runs --hook {0}` lists what there was",
            hook.name
        )));
    };
    let what = format!("deploys commit {} again, as run {} did: this hook has no releases", commit.short(), view.id);
    Ok((Target::Commit { commit: commit.clone(), ref_name: view.job.target.ref_name().cloned() }, what))
}

/// The commit that stands where a hook without releases deploys to, as far as is known: that of the run under way, once it
/// changes what is there, or else of the last one that did. A run that went wrong half-way has left its own commit there.
fn standing<'r>(active: Option<&'r RunView>, ended: &'r [RunView]) -> Option<&'r CommitId> {
    let changes = |view: &&RunView| match &view.state {
        RunState::Queued { .. } => false,
        RunState::Running { step, .. } => *step >= view.job.hook.deploy.strategy.goes_live_at(),
        RunState::Finished { started_at, outcome, .. } => started_at.is_some() && outcome.may_have_changed(),
    };
    active.into_iter().chain(ended).find(changes).and_then(|it| it.commit.as_ref())
}

fn is_good(view: &RunView) -> bool {
    match &view.state {
        RunState::Finished { outcome, .. } => *outcome == Outcome::Succeeded,
        RunState::Queued { .. } | RunState::Running { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::there_are;

    #[test]
    fn of_many_releases_only_the_newest_are_named() {
        assert_eq!(there_are(&[]), "there is none to go back to");
        assert_eq!(there_are(&["b", "a"]), "there are: b, a");
        assert_eq!(there_are(&["e", "d", "c", "b", "a"]), "there are: e, d, c, b, a");
        let many = there_are(&["g", "f", "e", "d", "c", "b", "a"]);
        assert_eq!(many, "there are: g, f, e, d, c, and 2 more, which `landfall releases` lists");
    }
}
