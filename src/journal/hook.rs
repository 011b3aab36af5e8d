//! How a hook is written down within a job.
//!
//! Invariant: what was written reads back unchanged; a pattern is compiled anew from its text.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    journal::{
        deploy::StoredStrategy,
        job::known,
        letter::{StoredNotification, StoredSecretRef},
    },
    model::{
        deploy::{Deploy, Strategy},
        health::{Probe, Question},
        hook::{BranchFilter, Hook, On, Patterns, Poll, QueuePolicy, Retry, Step},
        limits::RunLimits,
        name::{HookName, LaneName, SourceName},
        push::RepoName,
        run::RetryClass,
        source::Forge,
    },
};

/// A [`Hook`] on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredHook {
    name: String,
    forge: String,
    source: String,
    repo: String,
    branches: StoredBranches,
    tags: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    skip_markers: Vec<String>,
    /// What an earlier release wrote has none.
    #[serde(default)]
    poll: StoredPoll,
    enabled: bool,
    strategy: StoredStrategy,
    min_free_bytes: u64,
    run: Vec<StoredStep>,
    activate: Vec<StoredStep>,
    health: Vec<StoredProbe>,
    on_failure: Vec<StoredStep>,
    finally: Vec<StoredStep>,
    env: BTreeMap<String, String>,
    pass_env: Vec<String>,
    secrets: BTreeMap<String, StoredSecretRef>,
    user: Option<String>,
    timeout: Duration,
    idle_timeout: Duration,
    kill_grace: Duration,
    /// Missing in what an earlier release wrote.
    #[serde(default)]
    limits: StoredLimits,
    retry_max: u32,
    retry_on: Vec<String>,
    retry_backoff: Duration,
    queue: String,
    lane: String,
    priority: i8,
    debounce: Duration,
    min_interval: Duration,
    notify: Vec<StoredNotification>,
    environment: String,
    url: Option<String>,
    max_log_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredBranches {
    Never,
    DefaultBranch,
    Matching(Vec<String>),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredPoll {
    Off,
    #[default]
    AtStart,
    Every(Duration),
}

#[derive(Serialize, Deserialize)]
struct StoredStep {
    name: String,
    script: String,
    shell: Vec<String>,
    timeout: Option<Duration>,
    env: BTreeMap<String, String>,
    user: Option<String>,
    cwd: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct StoredLimits {
    processes: u32,
    memory_bytes: Option<u64>,
    cpu_weight: Option<u16>,
}

impl Default for StoredLimits {
    fn default() -> Self {
        RunLimits::default().into()
    }
}

impl From<RunLimits> for StoredLimits {
    fn from(RunLimits { processes, memory_bytes, cpu_weight }: RunLimits) -> Self {
        Self { processes, memory_bytes, cpu_weight }
    }
}

impl From<StoredLimits> for RunLimits {
    fn from(StoredLimits { processes, memory_bytes, cpu_weight }: StoredLimits) -> Self {
        Self { processes, memory_bytes, cpu_weight }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredProbe {
    question: StoredQuestion,
    attempts: u32,
    interval: Duration,
    timeout: Duration,
    start_after: Duration,
    stable: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredQuestion {
    Http { url: String, from: u16, to: u16, body: Option<String> },
    Tcp { address: String },
    Command { script: String },
}

impl From<&Hook> for StoredHook {
    fn from(hook: &Hook) -> Self {
        let steps = |steps: &[Step]| steps.iter().map(StoredStep::from).collect();
        Self {
            name: hook.name.to_string(),
            forge: hook.forge.word().into(),
            source: hook.source.to_string(),
            repo: hook.repo.as_str().into(),
            branches: match &hook.on.push {
                BranchFilter::Never => StoredBranches::Never,
                BranchFilter::DefaultBranch => StoredBranches::DefaultBranch,
                BranchFilter::Matching(patterns) => StoredBranches::Matching(patterns.texts().to_vec()),
            },
            tags: hook.on.tag.as_ref().map(|it| it.texts().to_vec()),
            paths: hook.paths.as_ref().map(|it| it.texts().to_vec()),
            skip_markers: hook.skip_markers.clone(),
            poll: match hook.poll {
                Poll::Off => StoredPoll::Off,
                Poll::AtStart => StoredPoll::AtStart,
                Poll::Every(interval) => StoredPoll::Every(interval),
            },
            enabled: hook.enabled,
            strategy: StoredStrategy::from(&hook.deploy.strategy),
            min_free_bytes: hook.deploy.min_free_bytes,
            run: steps(&hook.run),
            activate: steps(&hook.activate),
            health: hook.health.iter().map(StoredProbe::from).collect(),
            on_failure: steps(&hook.on_failure),
            finally: steps(&hook.finally),
            env: hook.env.clone(),
            pass_env: hook.pass_env.clone(),
            secrets: hook.secrets.iter().map(|(name, it)| (name.clone(), it.into())).collect(),
            user: hook.user.clone(),
            timeout: hook.timeout,
            idle_timeout: hook.idle_timeout,
            kill_grace: hook.kill_grace,
            limits: hook.limits.into(),
            retry_max: hook.retry.max,
            retry_on: hook.retry.on.iter().map(|it| it.word().into()).collect(),
            retry_backoff: hook.retry.backoff,
            queue: hook.queue.word().into(),
            lane: hook.lane.to_string(),
            priority: hook.priority,
            debounce: hook.debounce,
            min_interval: hook.min_interval,
            notify: hook.notify.iter().map(StoredNotification::from).collect(),
            environment: hook.environment.clone(),
            url: hook.url.clone(),
            max_log_bytes: hook.max_log_bytes,
        }
    }
}

impl TryFrom<StoredHook> for Hook {
    type Error = String;

    fn try_from(it: StoredHook) -> Result<Self, String> {
        let steps = |steps: Vec<StoredStep>| steps.into_iter().map(Step::from).collect();
        Ok(Self {
            name: known(&it.name, HookName::parse)?,
            forge: known(&it.forge, Forge::parse)?,
            source: known(&it.source, SourceName::parse)?,
            repo: known(&it.repo, RepoName::parse)?,
            on: On {
                push: match it.branches {
                    StoredBranches::Never => BranchFilter::Never,
                    StoredBranches::DefaultBranch => BranchFilter::DefaultBranch,
                    StoredBranches::Matching(texts) => BranchFilter::Matching(Patterns::parse(&texts)?),
                },
                tag: it.tags.map(|texts| Patterns::parse(&texts)).transpose()?,
            },
            paths: it.paths.map(|texts| Patterns::of_files(&texts)).transpose()?,
            skip_markers: it.skip_markers,
            poll: match it.poll {
                StoredPoll::Off => Poll::Off,
                StoredPoll::AtStart => Poll::AtStart,
                StoredPoll::Every(interval) => Poll::Every(interval),
            },
            enabled: it.enabled,
            deploy: Deploy { strategy: Strategy::try_from(it.strategy)?, min_free_bytes: it.min_free_bytes },
            run: steps(it.run),
            activate: steps(it.activate),
            health: it.health.into_iter().map(Probe::from).collect(),
            on_failure: steps(it.on_failure),
            finally: steps(it.finally),
            env: it.env,
            pass_env: it.pass_env,
            secrets: it.secrets.into_iter().map(|(name, it)| (name, it.into())).collect(),
            user: it.user,
            timeout: it.timeout,
            idle_timeout: it.idle_timeout,
            kill_grace: it.kill_grace,
            limits: it.limits.into(),
            retry: Retry {
                max: it.retry_max,
                on: it.retry_on.iter().map(|it| known(it, RetryClass::parse)).collect::<Result<_, _>>()?,
                backoff: it.retry_backoff,
            },
            queue: known(&it.queue, QueuePolicy::parse)?,
            lane: known(&it.lane, LaneName::parse)?,
            priority: it.priority,
            debounce: it.debounce,
            min_interval: it.min_interval,
            notify: it.notify.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            environment: it.environment,
            url: it.url,
            max_log_bytes: it.max_log_bytes,
        })
    }
}

impl From<&Step> for StoredStep {
    fn from(step: &Step) -> Self {
        let Step { name, script, shell, timeout, env, user, cwd } = step.clone();
        Self { name, script, shell, timeout, env, user, cwd }
    }
}

impl From<StoredStep> for Step {
    fn from(stored: StoredStep) -> Self {
        let StoredStep { name, script, shell, timeout, env, user, cwd } = stored;
        Self { name, script, shell, timeout, env, user, cwd }
    }
}

impl From<&Probe> for StoredProbe {
    fn from(probe: &Probe) -> Self {
        let Probe { question, attempts, interval, timeout, start_after, stable } = probe.clone();
        let question = match question {
            Question::Http { url, expect, body } => {
                StoredQuestion::Http { url, from: *expect.start(), to: *expect.end(), body }
            }
            Question::Tcp { address } => StoredQuestion::Tcp { address },
            Question::Command { script } => StoredQuestion::Command { script },
        };
        Self { question, attempts, interval, timeout, start_after, stable }
    }
}

impl From<StoredProbe> for Probe {
    fn from(stored: StoredProbe) -> Self {
        let StoredProbe { question, attempts, interval, timeout, start_after, stable } = stored;
        let question = match question {
            StoredQuestion::Http { url, from, to, body } => Question::Http { url, expect: from..=to, body },
            StoredQuestion::Tcp { address } => Question::Tcp { address },
            StoredQuestion::Command { script } => Question::Command { script },
        };
        Self { question, attempts, interval, timeout, start_after, stable }
    }
}
