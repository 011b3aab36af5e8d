//! How a job is written down: in the store's `job` column and in a run's `spec.json`, with a version.
//!
//! Invariant: what `encode` wrote, `decode` of the same or a newer version reads back unchanged.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    journal::{
        Unreadable,
        letter::{StoredNotification, StoredSecretRef},
    },
    model::{
        deploy::{Clean, Credentials, Deploy, Dirty, Git, Strategy},
        hook::{BranchFilter, Hook, On, Patterns, QueuePolicy, Retry, Step},
        job::{Job, Target, Trigger},
        name::{HookName, LaneName, SourceName},
        push::{CommitFacts, CommitId, Push, RefChange, RefName, RepoName},
        run::{RetryClass, RunId},
        source::Forge,
    },
};

/// Raised when a reader of the old form would misunderstand the new one.
const VERSION: u32 = 1;

/// A job as JSON.
pub fn encode(job: &Job) -> String {
    let stored = Stored { version: VERSION, job: StoredJob::from(job) };
    serde_json::to_string(&stored).expect("a job is strings, numbers and maps with string keys")
}

/// The job that [`encode`] wrote.
pub fn decode(text: &str) -> Result<Job, Unreadable> {
    let version = serde_json::from_str::<Version>(text).map_err(|err| Unreadable::new("job", err))?.version;
    if version > VERSION {
        return Err(Unreadable::Newer { what: "job", version, known: VERSION });
    }
    let stored = serde_json::from_str::<Stored>(text).map_err(|err| Unreadable::new("job", err))?;
    Job::try_from(stored.job).map_err(|what| Unreadable::new("job", what))
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    job: StoredJob,
}

#[derive(Serialize, Deserialize)]
struct StoredJob {
    hook: StoredHook,
    trigger: String,
    actor: String,
    target: StoredTarget,
    push: Option<StoredPush>,
    attempt: u32,
    retry_of: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredTarget {
    Commit { commit: String, ref_name: Option<String> },
    Ref(String),
    DefaultBranch,
}

#[derive(Serialize, Deserialize)]
struct StoredPush {
    forge: String,
    repo: String,
    default_branch: Option<String>,
    ref_name: String,
    commit: Option<String>,
    before: Option<String>,
    actor: String,
    compare_url: Option<String>,
    commit_count: Option<u64>,
    head: Option<StoredCommitFacts>,
}

#[derive(Serialize, Deserialize)]
struct StoredCommitFacts {
    subject: String,
    author: String,
    author_email: String,
}

#[derive(Serialize, Deserialize)]
struct StoredHook {
    name: String,
    forge: String,
    source: String,
    repo: String,
    branches: StoredBranches,
    tags: Option<Vec<String>>,
    enabled: bool,
    strategy: StoredStrategy,
    min_free_bytes: u64,
    run: Vec<StoredStep>,
    activate: Vec<StoredStep>,
    on_failure: Vec<StoredStep>,
    finally: Vec<StoredStep>,
    env: BTreeMap<String, String>,
    pass_env: Vec<String>,
    secrets: BTreeMap<String, StoredSecretRef>,
    user: Option<String>,
    timeout: Duration,
    idle_timeout: Duration,
    kill_grace: Duration,
    retry_max: u32,
    retry_on: Vec<String>,
    retry_backoff: Duration,
    queue: StoredQueue,
    lane: String,
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredQueue {
    Latest,
    All,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredStrategy {
    Checkout { git: StoredGit },
    InPlace { git: StoredGit, path: PathBuf, dirty: StoredDirty, clean: StoredClean },
    None { folder: PathBuf },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredDirty {
    Save,
    Fail,
    Overwrite,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredClean {
    None,
    Untracked,
}

#[derive(Serialize, Deserialize)]
struct StoredGit {
    remote: String,
    credentials: StoredCredentials,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredCredentials {
    Ambient,
    Token { username: String, token: StoredSecretRef },
    SshKey { key: PathBuf, known_hosts: Option<PathBuf> },
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

impl From<&Job> for StoredJob {
    fn from(job: &Job) -> Self {
        Self {
            hook: StoredHook::from(job.hook.as_ref()),
            trigger: job.trigger.word().into(),
            actor: job.actor.clone(),
            target: match &job.target {
                Target::Commit { commit, ref_name } => {
                    StoredTarget::Commit { commit: commit.to_string(), ref_name: ref_name.as_ref().map(RefName::full) }
                }
                Target::Ref(ref_name) => StoredTarget::Ref(ref_name.full()),
                Target::DefaultBranch => StoredTarget::DefaultBranch,
            },
            push: job.push.as_ref().map(StoredPush::from),
            attempt: job.attempt,
            retry_of: job.retry_of.map(|it| it.0),
        }
    }
}

impl TryFrom<StoredJob> for Job {
    type Error = String;

    fn try_from(it: StoredJob) -> Result<Self, String> {
        Ok(Self {
            hook: Arc::new(Hook::try_from(it.hook)?),
            trigger: known(&it.trigger, Trigger::parse)?,
            actor: it.actor,
            target: match it.target {
                StoredTarget::Commit { commit, ref_name } => Target::Commit {
                    commit: known(&commit, CommitId::parse)?,
                    ref_name: ref_name.map(|it| known(&it, RefName::parse)).transpose()?,
                },
                StoredTarget::Ref(ref_name) => Target::Ref(known(&ref_name, RefName::parse)?),
                StoredTarget::DefaultBranch => Target::DefaultBranch,
            },
            push: it.push.map(Push::try_from).transpose()?,
            attempt: it.attempt,
            retry_of: it.retry_of.map(RunId),
        })
    }
}

impl From<&Push> for StoredPush {
    fn from(push: &Push) -> Self {
        Self {
            forge: push.forge.word().into(),
            repo: push.repo.as_str().into(),
            default_branch: push.default_branch.clone(),
            ref_name: push.ref_name.full(),
            commit: match &push.change {
                RefChange::Moved(commit) => Some(commit.to_string()),
                RefChange::Deleted => None,
            },
            before: push.before.as_ref().map(CommitId::to_string),
            actor: push.actor.clone(),
            compare_url: push.compare_url.clone(),
            commit_count: push.commit_count,
            head: push.head.as_ref().map(|it| StoredCommitFacts {
                subject: it.subject.clone(),
                author: it.author.clone(),
                author_email: it.author_email.clone(),
            }),
        }
    }
}

impl TryFrom<StoredPush> for Push {
    type Error = String;

    fn try_from(it: StoredPush) -> Result<Self, String> {
        let commit = it.commit.map(|it| known(&it, CommitId::parse)).transpose()?;
        Ok(Self {
            forge: known(&it.forge, Forge::parse)?,
            repo: known(&it.repo, RepoName::parse)?,
            default_branch: it.default_branch,
            ref_name: known(&it.ref_name, RefName::parse)?,
            change: commit.map_or(RefChange::Deleted, RefChange::Moved),
            before: it.before.map(|it| known(&it, CommitId::parse)).transpose()?,
            actor: it.actor,
            compare_url: it.compare_url,
            commit_count: it.commit_count,
            head: it.head.map(|it| CommitFacts {
                subject: it.subject,
                author: it.author,
                author_email: it.author_email,
            }),
        })
    }
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
            enabled: hook.enabled,
            strategy: StoredStrategy::from(&hook.deploy.strategy),
            min_free_bytes: hook.deploy.min_free_bytes,
            run: steps(&hook.run),
            activate: steps(&hook.activate),
            on_failure: steps(&hook.on_failure),
            finally: steps(&hook.finally),
            env: hook.env.clone(),
            pass_env: hook.pass_env.clone(),
            secrets: hook.secrets.iter().map(|(name, it)| (name.clone(), it.into())).collect(),
            user: hook.user.clone(),
            timeout: hook.timeout,
            idle_timeout: hook.idle_timeout,
            kill_grace: hook.kill_grace,
            retry_max: hook.retry.max,
            retry_on: hook.retry.on.iter().map(|it| it.word().into()).collect(),
            retry_backoff: hook.retry.backoff,
            queue: match hook.queue {
                QueuePolicy::Latest => StoredQueue::Latest,
                QueuePolicy::All => StoredQueue::All,
            },
            lane: hook.lane.to_string(),
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
            enabled: it.enabled,
            deploy: Deploy { strategy: Strategy::from(it.strategy), min_free_bytes: it.min_free_bytes },
            run: steps(it.run),
            activate: steps(it.activate),
            on_failure: steps(it.on_failure),
            finally: steps(it.finally),
            env: it.env,
            pass_env: it.pass_env,
            secrets: it.secrets.into_iter().map(|(name, it)| (name, it.into())).collect(),
            user: it.user,
            timeout: it.timeout,
            idle_timeout: it.idle_timeout,
            kill_grace: it.kill_grace,
            retry: Retry {
                max: it.retry_max,
                on: it.retry_on.iter().map(|it| known(it, RetryClass::parse)).collect::<Result<_, _>>()?,
                backoff: it.retry_backoff,
            },
            queue: match it.queue {
                StoredQueue::Latest => QueuePolicy::Latest,
                StoredQueue::All => QueuePolicy::All,
            },
            lane: known(&it.lane, LaneName::parse)?,
            notify: it.notify.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            environment: it.environment,
            url: it.url,
            max_log_bytes: it.max_log_bytes,
        })
    }
}

impl From<&Strategy> for StoredStrategy {
    fn from(strategy: &Strategy) -> Self {
        match strategy {
            Strategy::Checkout { git } => Self::Checkout { git: git.into() },
            Strategy::InPlace { git, path, dirty, clean } => Self::InPlace {
                git: git.into(),
                path: path.clone(),
                dirty: match dirty {
                    Dirty::Save => StoredDirty::Save,
                    Dirty::Fail => StoredDirty::Fail,
                    Dirty::Overwrite => StoredDirty::Overwrite,
                },
                clean: match clean {
                    Clean::None => StoredClean::None,
                    Clean::Untracked => StoredClean::Untracked,
                },
            },
            Strategy::None { folder } => Self::None { folder: folder.clone() },
        }
    }
}

impl From<StoredStrategy> for Strategy {
    fn from(stored: StoredStrategy) -> Self {
        match stored {
            StoredStrategy::Checkout { git } => Self::Checkout { git: git.into() },
            StoredStrategy::InPlace { git, path, dirty, clean } => Self::InPlace {
                git: git.into(),
                path,
                dirty: match dirty {
                    StoredDirty::Save => Dirty::Save,
                    StoredDirty::Fail => Dirty::Fail,
                    StoredDirty::Overwrite => Dirty::Overwrite,
                },
                clean: match clean {
                    StoredClean::None => Clean::None,
                    StoredClean::Untracked => Clean::Untracked,
                },
            },
            StoredStrategy::None { folder } => Self::None { folder },
        }
    }
}

impl From<&Git> for StoredGit {
    fn from(git: &Git) -> Self {
        let credentials = match &git.credentials {
            Credentials::Ambient => StoredCredentials::Ambient,
            Credentials::Token { username, token } => {
                StoredCredentials::Token { username: username.clone(), token: token.into() }
            }
            Credentials::SshKey { key, known_hosts } => {
                StoredCredentials::SshKey { key: key.clone(), known_hosts: known_hosts.clone() }
            }
        };
        Self { remote: git.remote.clone(), credentials }
    }
}

impl From<StoredGit> for Git {
    fn from(stored: StoredGit) -> Self {
        let credentials = match stored.credentials {
            StoredCredentials::Ambient => Credentials::Ambient,
            StoredCredentials::Token { username, token } => Credentials::Token { username, token: token.into() },
            StoredCredentials::SshKey { key, known_hosts } => Credentials::SshKey { key, known_hosts },
        };
        Self { remote: stored.remote, credentials }
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

/// The value behind a stored word, or a sentence that quotes it.
fn known<T>(word: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    parse(word).ok_or_else(|| format!("`{word}` is not a {}", std::any::type_name::<T>()))
}
