//! How a job is written down: in the store's `job` column and in a run's `spec.json`, with a version.
//!
//! Invariant: what `encode` wrote, `decode` of the same or a newer version reads back unchanged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    journal::{Unreadable, hook::StoredHook},
    model::{
        hook::Hook,
        job::{AsOf, Asked, Job, Target, Trigger},
        push::{CommitFacts, CommitId, Push, RefChange, RefName, RepoName},
        release::ReleaseName,
        run::RunId,
        source::Forge,
    },
};

/// Raised when a reader of the old form would misunderstand the new one. Version 2 says more about how code is fetched
/// and written: a reader that does not know it would fetch and write it otherwise.
const VERSION: u32 = 2;

/// A job as JSON.
pub fn encode(job: &Job) -> String {
    let stored = Stored { version: VERSION, job: StoredJob::from(job) };
    // Most are smaller; one that has to be moved while it grows costs more than the room.
    let mut text = Vec::with_capacity(2048);
    serde_json::to_writer(&mut text, &stored).expect("a job is strings, numbers and maps with string keys");
    String::from_utf8(text).expect("JSON is UTF-8")
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
    /// Missing in what an earlier release wrote.
    #[serde(default = "as_of_acceptance")]
    hook_as_of: String,
    trigger: String,
    asked: String,
    actor: String,
    target: StoredTarget,
    push: Option<StoredPush>,
    attempt: u32,
    retry_of: Option<i64>,
}

fn as_of_acceptance() -> String {
    AsOf::Acceptance.word().into()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredTarget {
    Commit { commit: String, ref_name: Option<String> },
    Ref(String),
    DefaultBranch,
    Release { release: String, commit: Option<String>, reason: Option<String> },
    Standing,
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

impl From<&Job> for StoredJob {
    fn from(job: &Job) -> Self {
        Self {
            hook: StoredHook::from(job.hook.as_ref()),
            hook_as_of: job.hook_as_of.word().into(),
            trigger: job.trigger.word().into(),
            asked: job.asked.word().into(),
            actor: job.actor.clone(),
            target: match &job.target {
                Target::Commit { commit, ref_name } => {
                    StoredTarget::Commit { commit: commit.to_string(), ref_name: ref_name.as_ref().map(RefName::full) }
                }
                Target::Ref(ref_name) => StoredTarget::Ref(ref_name.full()),
                Target::DefaultBranch => StoredTarget::DefaultBranch,
                Target::Release { name, commit, reason } => StoredTarget::Release {
                    release: name.to_string(),
                    commit: commit.as_ref().map(CommitId::to_string),
                    reason: reason.clone(),
                },
                Target::Standing => StoredTarget::Standing,
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
            hook_as_of: known(&it.hook_as_of, AsOf::parse)?,
            trigger: known(&it.trigger, Trigger::parse)?,
            asked: known(&it.asked, Asked::parse)?,
            actor: it.actor,
            target: match it.target {
                StoredTarget::Commit { commit, ref_name } => Target::Commit {
                    commit: known(&commit, CommitId::parse)?,
                    ref_name: ref_name.map(|it| known(&it, RefName::parse)).transpose()?,
                },
                StoredTarget::Ref(ref_name) => Target::Ref(known(&ref_name, RefName::parse)?),
                StoredTarget::DefaultBranch => Target::DefaultBranch,
                StoredTarget::Release { release, commit, reason } => Target::Release {
                    name: known(&release, ReleaseName::parse)?,
                    commit: commit.map(|it| known(&it, CommitId::parse)).transpose()?,
                    reason,
                },
                StoredTarget::Standing => Target::Standing,
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

/// The value behind a stored word, or a sentence that quotes it.
pub(super) fn known<T>(word: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    parse(word).ok_or_else(|| format!("`{word}` is not a {}", std::any::type_name::<T>()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

    use super::{VERSION, decode, encode};
    use crate::{
        journal::Unreadable,
        model::{
            deploy::{
                Credential, Deploy, Depth, Git, Keeping, Lfs, RemoteProof, Rollback, SharedPath, Strategy, Submodules,
                UnknownFilters,
            },
            health::{Probe, Question},
            hook::{BranchFilter, Hook, On, Patterns, Poll, QueuePolicy, Retry, Step},
            job::{AsOf, Asked, Job, Target, Trigger},
            letter::{Channel, Notification, Occasion},
            limits::RunLimits,
            name::HookName,
            push::{CommitId, Push, RefChange, RefName, RepoName},
            release::ReleaseName,
            remote::WrittenRemote,
            run::{RetryClass, RunId},
            secret::SecretRef,
            source::Forge,
        },
    };

    /// Every setting differs from its default.
    fn hook() -> Hook {
        let name = HookName::parse("site").expect("a name");
        let patterns = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|it| (*it).to_owned()).collect();
            Patterns::parse(&texts).expect("good globs")
        };
        let token = RemoteProof::Token { username: "x".into(), token: SecretRef::Env("G".into()) };
        let git = Git {
            remote: WrittenRemote::parse("git+ssh://git@Example.org/a/b").expect("a remote"),
            credentials: vec![
                Credential { host: None, proof: RemoteProof::SshKey { key: "/k".into(), known_hosts: None } },
                Credential { host: Some("git.example.org".into()), proof: token },
            ],
            submodules: Submodules::Recursive,
            lfs: Lfs::Pull,
            depth: Depth::Commits(NonZeroU32::new(7).expect("more than none")),
            tags: false,
            export_ignore: true,
            filters: UnknownFilters::Ignore,
            umask: 0o027,
            subdir: Some("web".into()),
        };
        let path = PathBuf::from(".env");
        let shared = vec![SharedPath { path, required: true, seed: Some(".env.example".into()), mode: Some(0o640) }];
        let keeping = Keeping { good: 9, failed: 0, shared, rollback: Rollback::Off };
        let question = Question::Http { url: "http://x/".into(), expect: 200..=299, body: Some("ok".into()) };
        let (attempts, stable, second) = (3, 2, Duration::from_secs(1));
        let step = Step {
            name: "build".into(),
            script: "make".into(),
            shell: vec!["/bin/sh".into()],
            timeout: Some(second),
            env: BTreeMap::from([("A".into(), "1".into())]),
            user: Some("www".into()),
            cwd: Some("sub".into()),
        };
        Hook {
            forge: Forge::GitLab,
            source: name.own_source(),
            repo: RepoName::parse("a/b").expect("a name"),
            on: On { push: BranchFilter::Matching(patterns(&["main", "!dev"])), tag: Some(patterns(&["v*"])) },
            paths: Some(patterns(&["web/**"])),
            skip_markers: vec!["[no]".into()],
            poll: Poll::Every(second * 8),
            enabled: false,
            deploy: Deploy { strategy: Strategy::Releases { git, path: "/srv/x".into(), keeping }, min_free_bytes: 7 },
            run: vec![step.clone()],
            activate: vec![step.clone()],
            health: vec![Probe { question, attempts, interval: second, timeout: second, start_after: second, stable }],
            on_failure: vec![step.clone()],
            finally: vec![step],
            env: BTreeMap::from([("B".into(), "2".into())]),
            pass_env: vec!["C".into()],
            secrets: BTreeMap::from([("T".into(), SecretRef::File("/t".into()))]),
            user: Some("www".into()),
            timeout: second,
            idle_timeout: second * 2,
            kill_grace: second * 3,
            limits: RunLimits { processes: 64, memory_bytes: Some(1 << 30), cpu_weight: Some(50) },
            retry: Retry { max: 5, on: RetryClass::ALL.to_vec(), backoff: second * 4 },
            queue: QueuePolicy::Cancel,
            lane: name.own_lane(),
            priority: -7,
            debounce: second * 5,
            min_interval: second * 6,
            notify: vec![Notification {
                channel: Channel::Slack { webhook: SecretRef::Env("S".into()) },
                on: vec![Occasion::Start],
            }],
            environment: "staging".into(),
            url: Some("https://x.example.org".into()),
            max_log_bytes: 9,
            name,
        }
    }

    #[test]
    fn a_job_of_a_newer_version_is_refused_as_such() {
        let err = decode(&format!(r#"{{"version": {}}}"#, VERSION + 1)).expect_err("newer");
        assert!(matches!(err, Unreadable::Newer { known: VERSION, .. }), "{err}");
    }

    #[test]
    fn a_stored_push_says_whether_its_tag_is_new_also_where_an_earlier_release_wrote_it() {
        let commit = CommitId::parse(&"a1".repeat(20)).expect("an id");
        let push = |ref_name: &RefName, before: Option<&CommitId>| Push {
            forge: Forge::GitHub,
            repo: RepoName::parse("a/b").expect("a name"),
            default_branch: None,
            ref_name: ref_name.clone(),
            change: RefChange::Moved(commit.clone()),
            before: before.cloned(),
            actor: "ana".into(),
            compare_url: None,
            commit_count: None,
            head: None,
        };
        let (hook, tag, branch) = (Arc::new(hook()), RefName::Tag("v1".into()), RefName::Branch("main".into()));
        let cases = [(&tag, None, true), (&tag, Some(&commit), false), (&branch, None, false)];
        for (ref_name, before, is_new) in cases {
            let job = Job {
                hook: Arc::clone(&hook),
                hook_as_of: AsOf::Acceptance,
                trigger: Trigger::Tag,
                asked: Asked::Push,
                actor: "ana".into(),
                target: Target::Commit { commit: commit.clone(), ref_name: Some(ref_name.clone()) },
                push: Some(push(ref_name, before)),
                attempt: 1,
                retry_of: None,
            };
            let text = encode(&job);
            // So it has been written since the first release.
            assert_eq!(text.contains(r#""before":null"#), before.is_none());
            assert_eq!(decode(&text).expect("readable").brings_new_tag(), is_new, "{ref_name:?} {before:?}");
        }
        let by_hand = Target::Ref(tag.clone());
        let text = encode(&Job {
            hook,
            hook_as_of: AsOf::Acceptance,
            trigger: Trigger::Manual,
            asked: Asked::ByHand,
            actor: "ana".into(),
            target: by_hand,
            push: None,
            attempt: 1,
            retry_of: None,
        });
        assert!(!decode(&text).expect("readable").brings_new_tag(), "nobody pushed it");
    }

    #[test]
    fn a_job_reads_back_as_it_was_written() {
        let commit = CommitId::parse(&"a1".repeat(20)).expect("an id");
        let name = ReleaseName::of("20261123T081642Z", RunId(6), Some(&commit)).expect("a name");
        let hook = Arc::new(hook());
        for target in [
            Target::Commit { commit: commit.clone(), ref_name: RefName::parse("refs/heads/main") },
            Target::Ref(RefName::Tag("v1".into())),
            Target::DefaultBranch,
            Target::Release { name, commit: Some(commit), reason: Some("it was slow".into()) },
            Target::Standing,
        ] {
            let job = Job {
                hook: Arc::clone(&hook),
                hook_as_of: AsOf::Retry,
                trigger: Trigger::Rollback,
                asked: Asked::Again,
                actor: "ana".into(),
                target,
                push: None,
                attempt: 2,
                retry_of: Some(RunId(6)),
            };
            let read = decode(&encode(&job)).expect("readable");
            // A hook holds compiled globs, which know no equality; all of it prints.
            assert_eq!(format!("{read:?}"), format!("{job:?}"));
            let earlier = encode(&job).replacen(r#""hook_as_of":"retry","#, "", 1);
            assert_eq!(decode(&earlier).expect("as an earlier release wrote it").hook_as_of, AsOf::Acceptance);
        }
    }
}
