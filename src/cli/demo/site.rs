//! The demo's website: a bare repository, a clone to push from, and the hooks.yaml that deploys it.
//!
//! Invariant: git itself makes the commits and pushes them; nothing is written into the repository by us.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    cli::demo::sinks::Sinks,
    forge::rehearsal::Rehearsal,
    model::{
        name::HookName,
        secret::{FoundSecret, Secret, SecretRef},
        source::{Proof, Source, SourcePath},
    },
    web::outgoing,
};

const DEPLOY_SH: &str = r#"#!/bin/sh
# Runs in the freshly updated tree, with the facts of the push in its environment.
set -eu
echo "deploying $DEPLOY_SHORT_SHA of $DEPLOY_BRANCH, pushed by $DEPLOY_ACTOR"
echo "the page says: $(cat index.html)"
echo "a secret in the output is masked: $DEMO_TOKEN"
"#;

/// The demo's website.
pub(super) struct Site {
    /// The bare repository.
    pub(super) remote: PathBuf,
    /// Where it is deployed.
    pub(super) live: PathBuf,
    /// The hooks.yaml.
    pub(super) hooks_file: PathBuf,
    /// The state folder.
    pub(super) state: PathBuf,
    /// What the daemon needs in its environment.
    pub(super) environment: Vec<(&'static str, String)>,
    work: PathBuf,
    secret: String,
}

/// Makes the repository with a first commit, and the hooks.yaml.
pub(super) fn make(folder: &Path, sinks: &Sinks) -> Result<Site> {
    let site = Site {
        remote: folder.join("website.git"),
        live: folder.join("live"),
        hooks_file: folder.join("hooks.yaml"),
        state: folder.join("state"),
        environment: Vec::new(),
        work: folder.join("work"),
        secret: random_word()?,
    };
    git(folder, &["init", "--quiet", "--bare", "--initial-branch=main", "website.git"])?;
    git(folder, &["clone", "--quiet", "website.git", "work"])?;
    fs::write(site.work.join("deploy.sh"), DEPLOY_SH)?;
    fs::set_permissions(site.work.join("deploy.sh"), fs::Permissions::from_mode(0o755))?;
    site.commit("first page")?;
    let yaml = format!(
        r#"# Made by `landfall demo`.
server:
  listen: 127.0.0.1:0
  state: {state}
smtp: {{host: 127.0.0.1, port: {smtp}, tls: none, from: "Landfall demo <demo@localhost>"}}
hooks:
  website:
    github: demo/website
    secret: {{env: DEMO_SECRET}}
    on: {{push: main}}
    deploy: {{path: {live}, remote: {remote}}}
    run: ./deploy.sh
    secrets: {{DEMO_TOKEN: {{env: DEMO_TOKEN}}}}
    notify:
      - email: you@localhost
        on: [success, failure]
      - slack: {{env: DEMO_SLACK}}
        on: [success, failure]
"#,
        state = site.state.display(),
        smtp = sinks.smtp.port(),
        live = site.live.display(),
        remote = site.remote.display(),
    );
    fs::write(&site.hooks_file, yaml)?;
    let environment = vec![
        ("DEMO_SECRET", site.secret.clone()),
        ("DEMO_TOKEN", random_word()?),
        ("DEMO_SLACK", format!("http://{}/services/demo", sinks.http)),
    ];
    Ok(Site { environment, ..site })
}

impl Site {
    /// Changes the page, commits and pushes; gives the commit's id.
    pub(super) fn push_a_commit(&self, subject: &str) -> Result<String> {
        self.commit(subject)
    }

    fn commit(&self, subject: &str) -> Result<String> {
        fs::write(self.work.join("index.html"), format!("<h1>{subject}</h1>\n"))?;
        git(&self.work, &["add", "--all"])?;
        let identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"];
        git(&self.work, &[&identity[..], &["commit", "--quiet", "-m", subject]].concat())?;
        git(&self.work, &["push", "--quiet", "origin", "HEAD:main"])?;
        Ok(git(&self.work, &["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Delivers the push of `commit` as GitHub would; gives the status and the answer.
    pub(super) fn deliver(&self, listener: &str, commit: &str) -> Result<(u16, Value)> {
        let subject = git(&self.work, &["show", "--no-patch", "--format=%s", commit])?;
        let before = git(&self.work, &["rev-parse", &format!("{commit}^")])?;
        let body = json!({
            "ref": "refs/heads/main", "before": before.trim(), "after": commit,
            "created": false, "deleted": false, "forced": false,
            "head_commit": {"id": commit, "message": subject.trim(), "author": {"name": "demo", "email": "demo@localhost"}},
            "commits": [{"id": commit, "message": subject.trim()}],
            "pusher": {"name": "you"}, "sender": {"login": "you"},
            "repository": {"full_name": "demo/website", "default_branch": "main"},
        });
        let rehearsal = Rehearsal::of_body(&self.source()?, body.to_string(), None, Timestamp::now());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let posted =
            runtime.block_on(outgoing::post(listener.parse::<std::net::SocketAddr>()?, "/hooks/website", rehearsal));
        posted.map_err(|err| anyhow::Error::msg(err.to_string()))
    }

    fn source(&self) -> Result<Source> {
        let value = Secret::new(self.secret.clone()).context("the demo's secret is empty")?;
        let secrets = vec![FoundSecret { origin: SecretRef::Env("DEMO_SECRET".into()), value }];
        let name = HookName::parse("website").context("not a name")?;
        Ok(Source { path: SourcePath::Hook(name), proof: Proof::GitHub { secrets }, allow_from: Vec::new() })
    }
}

fn random_word() -> Result<String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|err| anyhow::Error::msg(err.to_string()))?;
    Ok(hex::encode(bytes))
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").current_dir(folder).args(arguments).output();
    let output = output.context("cannot run git; install it with `apt-get install git`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {} failed: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
