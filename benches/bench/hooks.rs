//! Ten thousand hooks: what it takes to check them, and to find the one that a push is for.
//!
//! All of them share one source, as the webhook of an organisation does, so that the repository's name alone tells
//! which hook is meant. The pushes are for the same hook in both daemons: what differs is how many others there are.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use landfall::model::run::RunId;

use crate::{
    daemon::{Blocker, Daemon, PROGRAM, SECRET},
    load::{press, push_once},
    place,
    pushes::{Pushes, REPO, Signer},
    table::{Row, Target, median},
};

const HOOKS: usize = 10_000;
const FEW: usize = 10;
const CHECKS: usize = 5;
const REPETITIONS: usize = 5;
const SPAN: Duration = Duration::from_millis(700);
const CONNECTIONS: usize = 64;

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let (few, many) = (place::on_disk()?, place::on_disk()?);
    let server = "workers: 1";
    let fifo = |folder: &tempfile::TempDir| folder.path().join("held");
    let few_daemon = Daemon::start(few.path(), server, &text(FEW - 1, &Blocker::step(&fifo(&few))?))?;
    let many_daemon = Daemon::start(many.path(), server, &text(HOOKS - 1, &Blocker::step(&fifo(&many))?))?;
    let mut checks = Vec::new();
    for _ in 0..CHECKS {
        let begin = Instant::now();
        let mut check = Command::new(PROGRAM);
        check.arg("check").current_dir(many.path()).env("SECRET", SECRET).stdout(Stdio::null()).stderr(Stdio::null());
        if !check.status()?.success() {
            bail!("`landfall check` does not like {HOOKS} hooks");
        }
        checks.push(begin.elapsed());
    }
    let pushes = Arc::new(Pushes::new(Signer::Forge, vec!["/sources/acme".into()])?);
    push_once(few_daemon.address, &pushes)?;
    let few_held = Blocker::hold(&fifo(&few), &few.path().join(".landfall"), RunId(1))?;
    push_once(many_daemon.address, &pushes)?;
    let many_held = Blocker::hold(&fifo(&many), &many.path().join(".landfall"), RunId(1))?;
    let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        of_few.push(press(few_daemon.address, CONNECTIONS, SPAN, &pushes, "202")?.per_second);
        of_many.push(press(many_daemon.address, CONNECTIONS, SPAN, &pushes, "202")?.per_second);
    }
    drop((few_daemon, many_daemon));
    drop((few_held, many_held));
    let limit = (Duration::from_secs(1), "");
    let than = (median(&of_few), "with ten");
    Ok(vec![
        Row::of_times("`landfall check` of 10,000 hooks", median(&checks), limit, Target::AtMost(1.0)),
        Row::of_rates("durable accepts with 10,000 hooks", median(&of_many), than, Target::AtLeast(0.9)),
    ])
}

/// The hook of [`REPO`], and so many others.
fn text(others: usize, step: &str) -> String {
    let hook = |name: String, repo: &str, run: &str| {
        format!(
            "  {name}: {{source: acme, repo: {repo}, on: {{push: \"*\"}}, deploy: {{strategy: none}}, run: \"{run}\"}}\n"
        )
    };
    let mut text = "sources:\n  acme: {forge: github, secret: {env: SECRET}}\nhooks:\n".to_owned();
    for number in 0..others {
        text.push_str(&hook(format!("other-{number}"), &format!("acme/other-{number}"), "true"));
    }
    text.push_str(&hook("site".into(), REPO, step));
    text
}
