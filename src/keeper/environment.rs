//! The environment of scripts and of git work: a clean one, made from what is known and what the hook names.
//!
//! Invariant: text from a payload gets here as values only, never as names, and nothing of the daemon's own
//! environment gets through but what the hook passes on.

use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf};

use crate::{
    journal::{
        secrets::RunSecrets,
        site::Site,
        spec::{RunToken, Spec},
    },
    keeper::workspace::DeskPaths,
    model::{
        deploy::Strategy,
        hook::Step,
        push::{CommitFacts, CommitId, RefName},
        run::RunStep,
    },
    process::{
        environment::{of_git_work, of_user, put},
        user::Account,
    },
};

/// The longest value of a fact. The kernel allows 128 KiB for one, and a payload may hold far more.
const FACT_BYTES_MAX: usize = 8 * 1024;

/// What is known of a run beyond its spec; it grows on the way.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The commit.
    pub commit: Option<CommitId>,
    /// The branch or tag.
    pub ref_name: Option<RefName>,
    /// What the commit says of itself.
    pub head: Option<CommitFacts>,
    /// What was live before.
    pub previous: Option<CommitId>,
    /// How many commits come with it.
    pub commit_count: Option<u64>,
    /// The list of changed files.
    pub changed_files: Option<PathBuf>,
    /// The tree.
    pub tree: Option<PathBuf>,
    /// The tree of the release that was live before.
    pub previous_release: Option<PathBuf>,
    /// Whether this is a way back.
    pub is_rollback: bool,
    /// The commit that went live by this run, as long as it is.
    pub live: Option<CommitId>,
}

impl Facts {
    /// What the spec says already.
    pub fn of(spec: &Spec) -> Self {
        let (target, push) = (&spec.job.target, spec.job.push.as_ref());
        Self {
            commit: target.commit().cloned(),
            ref_name: target.ref_name().cloned(),
            head: push.and_then(|it| it.head.clone()),
            previous: spec.live.clone(),
            commit_count: push.and_then(|it| it.commit_count),
            ..Self::default()
        }
    }
}

/// The environment of one script.
pub fn of_script(
    spec: &Spec,
    facts: &Facts,
    secrets: &RunSecrets,
    (step, script): (RunStep, &Step),
    account: &Account,
    desk: &DeskPaths,
) -> BTreeMap<OsString, OsString> {
    let hook = &spec.job.hook;
    let mut env = of_user(account);
    env.extend(of_run(spec, facts));
    put(&mut env, "DEPLOY_STEP", step.word());
    put(&mut env, "DEPLOY_OUTPUT", &desk.output);
    if let Some(payload) = &desk.payload {
        put(&mut env, "DEPLOY_PAYLOAD", payload);
    }
    for name in &hook.pass_env {
        if let Some(value) = env::var_os(name) {
            put(&mut env, name, value);
        }
    }
    for (name, value) in hook.env.iter().chain(&script.env) {
        put(&mut env, name, value);
    }
    for (name, value) in &secrets.env {
        put(&mut env, name, value.expose());
    }
    put(&mut env, RunToken::VARIABLE, spec.token.as_str());
    env
}

/// The environment of git work.
pub fn of_git(spec: &Spec, account: &Account) -> BTreeMap<OsString, OsString> {
    let mut env = of_git_work(account);
    put(&mut env, RunToken::VARIABLE, spec.token.as_str());
    env
}

fn of_run(spec: &Spec, facts: &Facts) -> BTreeMap<OsString, OsString> {
    let (job, hook, push) = (&spec.job, &spec.job.hook, spec.job.push.as_ref());
    let mut env = BTreeMap::new();
    put(&mut env, "CI", "true");
    put(&mut env, "DEPLOY_RUN_ID", spec.run.to_string());
    put(&mut env, "DEPLOY_RUN_URL", &spec.run_url);
    put(&mut env, "DEPLOY_ATTEMPT", job.attempt.to_string());
    put(&mut env, "DEPLOY_HOOK", hook.name.as_str());
    put(&mut env, "DEPLOY_REPO", hook.repo.as_str());
    put(&mut env, "DEPLOY_FORGE", hook.forge.word());
    put(&mut env, "DEPLOY_ACTOR", fact(&job.actor));
    put(&mut env, "DEPLOY_TRIGGER", job.trigger.word());
    match &facts.ref_name {
        None => (),
        Some(ref_name) => {
            put(&mut env, "DEPLOY_REF", ref_name.full());
            let name = match ref_name {
                RefName::Branch(_) => "DEPLOY_BRANCH",
                RefName::Tag(_) => "DEPLOY_TAG",
            };
            put(&mut env, name, ref_name.short());
        }
    }
    if let Some(commit) = &facts.commit {
        put(&mut env, "DEPLOY_SHA", commit.as_str());
        put(&mut env, "DEPLOY_SHORT_SHA", commit.short());
    }
    if let Some(head) = &facts.head {
        put(&mut env, "DEPLOY_COMMIT_SUBJECT", fact(&head.subject));
        put(&mut env, "DEPLOY_COMMIT_AUTHOR", fact(&head.author));
        put(&mut env, "DEPLOY_COMMIT_AUTHOR_EMAIL", fact(&head.author_email));
    }
    let known = [
        ("DEPLOY_PREVIOUS_SHA", facts.previous.as_ref().map(CommitId::to_string)),
        ("DEPLOY_BEFORE_SHA", push.and_then(|it| it.before.as_ref()).map(CommitId::to_string)),
        ("DEPLOY_COMPARE_URL", push.and_then(|it| it.compare_url.as_deref()).map(|it| fact(it).to_owned())),
        ("DEPLOY_COMMIT_COUNT", facts.commit_count.map(|it| it.to_string())),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            put(&mut env, name, value);
        }
    }
    let paths = [
        ("DEPLOY_CHANGED_FILES", &facts.changed_files),
        ("DEPLOY_PATH", &facts.tree),
        ("DEPLOY_PREVIOUS_RELEASE", &facts.previous_release),
    ];
    for (name, path) in paths {
        if let Some(path) = path {
            put(&mut env, name, path);
        }
    }
    match &hook.deploy.strategy {
        Strategy::Releases { path, .. } => {
            put(&mut env, "DEPLOY_CURRENT_PATH", Site::at(path).current());
            put(&mut env, "DEPLOY_SHARED_PATH", Site::at(path).shared());
        }
        Strategy::Checkout { .. } | Strategy::InPlace { .. } | Strategy::None { .. } => (),
    }
    if facts.is_rollback {
        put(&mut env, "DEPLOY_ROLLBACK", "1");
    }
    env
}

/// A text from outside, shortened so that it cannot keep a script from starting.
fn fact(text: &str) -> &str {
    shortened(text, FACT_BYTES_MAX)
}

/// The beginning of a text, at most this many bytes, without breaking a character.
pub fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
