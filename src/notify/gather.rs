//! Gathers the facts of a letter: from the store, from the run's folder, from hooks.yaml as it is now.
//!
//! Invariant: a fact that cannot be found is left out; only a run that is gone keeps a letter from being written.

use std::{path::Path, time::Duration};

use tokio::task::spawn_blocking;

use crate::{
    hooks::Hooks,
    journal::{
        folder::RunDir,
        log::{Kind, Reader},
    },
    model::{
        deploy::Strategy,
        job::Job,
        letter::{Address, Letter, Occasion},
        push::{CommitId, RefName},
        run::{Mood, Outcome},
    },
    notify::{
        foreign::{Line, Link},
        story::{Chapter, Commit, LogLine, Story, Streak, commit_page},
    },
    store::{RunFilter, RunStage, RunState, RunView, Store, StoreError},
};

/// Lines of output that a letter shows.
const TAIL_LINES: usize = 40;

/// Runs that are looked back at for how long a hook has been failing.
const STREAK_RUNS: u32 = 50;

/// No fact is longer in a letter.
const FACT_CHARACTERS: usize = 200;

/// No line of output is longer in a letter.
const LOG_CHARACTERS: usize = 400;

/// The story of a letter; `None` if its run is no longer known.
pub(super) async fn story(
    store: &Store,
    hooks: &Hooks,
    state: &Path,
    letter: &Letter,
) -> Result<Option<Story>, StoreError> {
    let Some(view) = store.run(letter.run).await? else { return Ok(None) };
    let folder = RunDir::of(state, view.id);
    let streak = streak(store, &view, letter.occasion).await?;
    let chapter = chapter(&view, letter.occasion);
    let wants_tail = says_why(&chapter);
    let (log_tail, previous) = spawn_blocking(move || from_folder(&folder, wants_tail)).await.unwrap_or_default();
    let previous = match previous {
        // A run that never got as far as a folder changed nothing of what is live.
        None if says_why(&chapter) => store.live(&view.hook, live_ref(&view.job)).await?,
        known => known,
    };
    let commit_count = commit_count(store, &view).await?;
    let job = &view.job;
    let push = job.push.as_ref();
    let fact = |text: &str| Line::of(text, FACT_CHARACTERS);
    let compare = push.and_then(|it| it.compare_url.as_deref()).and_then(Link::parse);
    Ok(Some(Story {
        letter: letter.id,
        address: letter.address.clone(),
        occasion: letter.occasion,
        run: view.id,
        chapter,
        hook: view.hook.clone(),
        repo: job.hook.repo.clone(),
        forge: job.hook.forge,
        environment: fact(&job.hook.environment),
        url: job.hook.url.as_deref().and_then(Link::parse),
        working_tree: working_tree(job),
        commit: commit(&view, compare.as_ref()),
        ref_name: job.target.ref_name().map(|it| fact(RefName::short(it))),
        previous,
        compare,
        commit_count,
        actor: fact(&job.actor),
        trigger: job.trigger,
        attempt: (job.attempt, job.hook.retry.max + 1),
        streak,
        fields: view.fields.iter().map(|(key, value)| (fact(key), fact(value))).collect(),
        log_tail,
        run_page: None,
        told_of: told_of(job, &letter.address),
        server: fact(host(&hooks.server.public_url)),
    }))
}

/// How many commits came with it, as the forge counts: with those of the runs whose place it took.
async fn commit_count(store: &Store, view: &RunView) -> Result<Option<u64>, StoreError> {
    let of = |job: &Job| job.push.as_ref().and_then(|it| it.commit_count);
    let mut count = of(&view.job);
    for run in &view.supersedes {
        let theirs = store.run(*run).await?.and_then(|it| of(&it.job));
        count = count.zip(theirs).map(|(ours, theirs)| ours.saturating_add(theirs));
    }
    Ok(count)
}

/// A letter about a start tells of the start, however late it is sent: the end has a letter of its own.
fn chapter(view: &RunView, occasion: Occasion) -> Chapter {
    match &view.state {
        RunState::Finished { started_at, .. } if occasion == Occasion::Start => {
            Chapter::Began { at: started_at.unwrap_or(view.created_at) }
        }
        RunState::Queued { .. } => Chapter::Began { at: view.created_at },
        RunState::Running { since, .. } => Chapter::Began { at: *since },
        RunState::Finished { started_at, at, outcome } => Chapter::Ended {
            at: *at,
            took: started_at.and_then(|since| Duration::try_from(at.duration_since(since)).ok()),
            outcome: outcome.clone(),
        },
    }
}

/// Whether the end of the log may say why it ended so: there is an end, and it is not a good one.
fn says_why(chapter: &Chapter) -> bool {
    match chapter {
        Chapter::Began { .. } => false,
        Chapter::Ended { outcome, .. } => outcome.mood() != Mood::Good,
    }
}

/// With fresh trees each ref goes its own way; anything else is one place.
fn live_ref(job: &Job) -> Option<&RefName> {
    match &job.hook.deploy.strategy {
        Strategy::Checkout { .. } => job.target.ref_name(),
        Strategy::InPlace { .. } | Strategy::Releases { .. } | Strategy::None { .. } => None,
    }
}

fn commit(view: &RunView, compare: Option<&Link>) -> Option<Commit> {
    let id = view.commit.clone()?;
    let job = &view.job;
    let head = job.push.as_ref().and_then(|it| it.head.as_ref());
    let fact = |text: &str| (!text.is_empty()).then(|| Line::of(text, FACT_CHARACTERS));
    let remote = job.hook.deploy.strategy.git().map(|git| git.remote.as_str());
    let page = commit_page(job.hook.forge, &job.hook.repo, &id, compare, remote);
    Some(Commit {
        subject: head.and_then(|it| fact(&it.subject)),
        author: head.and_then(|it| fact(&it.author)),
        page,
        id,
    })
}

fn working_tree(job: &Job) -> Option<Line> {
    match &job.hook.deploy.strategy {
        Strategy::InPlace { path, .. } => Some(Line::of(&path.display().to_string(), FACT_CHARACTERS)),
        Strategy::Checkout { .. } | Strategy::Releases { .. } | Strategy::None { .. } => None,
    }
}

/// What else this address hears of, from all rules that name it.
fn told_of(job: &Job, address: &Address) -> Vec<Occasion> {
    let rules = job.hook.notify.iter().filter(|it| it.channel.addresses().contains(address));
    let occasions: Vec<Occasion> = rules.flat_map(|it| it.on.iter().copied()).collect();
    Occasion::ALL.into_iter().filter(|it| occasions.contains(it)).collect()
}

/// What the run's folder tells: the end of the output, and what was live before.
fn from_folder(folder: &RunDir, wants_tail: bool) -> (Vec<LogLine>, Option<CommitId>) {
    let previous = folder.read_spec().ok().and_then(|spec| spec.live);
    let tail = if wants_tail { tail(folder).unwrap_or_default() } else { Vec::new() };
    (tail, previous)
}

fn tail(folder: &RunDir) -> std::io::Result<Vec<LogLine>> {
    let reader = Reader::new(folder);
    let last = reader.tail(TAIL_LINES)?;
    let Some(first) = last.first().map(|it| it.position) else { return Ok(Vec::new()) };
    let mut before = 0;
    for line in reader.lines(0) {
        if line?.position >= first {
            break;
        }
        before += 1;
    }
    let numbered = last.iter().zip(before + 1..);
    let is_output = |kind: Kind| match kind {
        Kind::Output | Kind::Piece | Kind::Cut => true,
        Kind::Remark => false,
    };
    let shown = numbered.filter(|(line, _)| is_output(line.kind));
    Ok(shown.map(|(line, number)| LogLine { number, text: Line::of_log(&line.text(), LOG_CHARACTERS) }).collect())
}

/// How long the hook has been failing: for a failure up to it, for a recovery up to what it ended.
async fn streak(store: &Store, view: &RunView, occasion: Occasion) -> Result<Option<Streak>, StoreError> {
    match occasion {
        Occasion::Failure | Occasion::Recovery => (),
        Occasion::Start | Occasion::Success | Occasion::Skipped => return Ok(None),
    }
    let filter = RunFilter {
        hook: Some(view.hook.clone()),
        stage: Some(RunStage::Finished),
        before: Some(view.id),
        limit: STREAK_RUNS,
    };
    let earlier = store.runs(filter).await?;
    let own = (occasion == Occasion::Failure).then_some(view);
    let mut streak: Option<Streak> = None;
    for run in own.into_iter().chain(&earlier) {
        let RunState::Finished { at, outcome, .. } = &run.state else { continue };
        match outcome.mood() {
            Mood::Good => break,
            Mood::Bad => {
                let failures = streak.as_ref().map_or(0, |it| it.failures) + u32::from(is_told(run, outcome));
                streak = Some(Streak { first: run.id, since: *at, failures });
            }
            Mood::Neither => (),
        }
    }
    Ok(streak)
}

/// Of several tries at the same, people are told of the last, and only that counts.
fn is_told(run: &RunView, outcome: &Outcome) -> bool {
    let retry = &run.job.hook.retry;
    let is_tried_again = run.job.attempt <= retry.max && outcome.wants_retry(&retry.on) && run.repeated_by.is_some();
    !is_tried_again
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
