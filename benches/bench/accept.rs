//! Durable accepts: how many signed pushes a second are answered after their commit is on the disk, against the same
//! daemon answering without its store.
//!
//! What it is measured against is `storeless`: a process of the daemon's own parts that proves, reads and routes the
//! same pushes, logs a line about each, and answers them without storing anything. Not part of it, and so counted as
//! the store's cost, are compressing the body and writing the job down.
//!
//! A second line measures against the daemon itself refusing the same pushes signed with a wrong key, which leaves out
//! all but HTTP and the signature: nothing is read, routed or logged. It has no target, and shows what a promise to
//! lose nothing costs in all.
//!
//! The daemon's only worker is held by a run that does not end, so that no keeper takes the processor from it; what
//! carrying out a run costs is measured elsewhere. Each push replaces one that waits, as is the default.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use landfall::model::run::RunId;

use crate::{
    daemon::{Blocker, Daemon},
    load::{Load, press, push_once},
    place,
    pushes::{Pushes, REPO, Signer},
    table::{Row, Target, median},
};

const REPETITIONS: usize = 3;
const SPAN: Duration = Duration::from_millis(1200);
const HOOKS: usize = 64;

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::on_disk()?;
    let fifo = folder.path().join("held");
    let mut hooks = format!("hooks:\n  held: {{{}, run: \"{}\"}}\n", hook(), Blocker::step(&fifo)?);
    for number in 0..HOOKS {
        hooks.push_str(&format!("  site-{number}: {{{}, run: \"true\"}}\n", hook()));
    }
    let daemon = Daemon::start(folder.path(), "workers: 1, rate_limit: 1000000", &hooks)?;
    push_once(daemon.address, &Pushes::new(Signer::Forge, vec!["/hooks/held".into()])?)?;
    let held = Blocker::hold(&fifo, &folder.path().join(".landfall"), RunId(1))?;
    let paths: Vec<_> = (0..HOOKS).map(|it| format!("/hooks/site-{it}")).collect();
    let known = Arc::new(Pushes::new(Signer::Forge, paths.clone())?);
    let unknown = Arc::new(Pushes::new(Signer::Stranger, paths)?);
    let bare_folder = place::on_disk()?;
    let bare = Daemon::start_storeless(bare_folder.path(), "", &hooks)?;
    let mut rows = Vec::new();
    for (connections, target) in [(1, Target::Shown), (8, Target::Shown), (64, Target::AtLeast(0.25))] {
        let (mut with, mut without, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..REPETITIONS {
            without.push(press(bare.address, connections, SPAN, &known, "202")?);
            with.push(press(daemon.address, connections, SPAN, &known, "202")?);
            // `rate_limit` lets that many failed proofs pass in a minute.
            refused.push(press(daemon.address, connections, SPAN, &unknown, "401")?);
        }
        let subject = format!("durable accepts of a signed 8 KB push, {connections} connections");
        let rates = |loads: &[Load]| median(&loads.iter().map(|it| it.per_second).collect::<Vec<_>>());
        rows.push(Row::of_rates(&subject, rates(&with), (rates(&without), "without a store"), target));
        if connections == 64 {
            let bare = (rates(&refused), "refused for their signature");
            rows.push(Row::of_rates("the same", rates(&with), bare, Target::Shown));
            rows.push(spread(with));
        }
    }
    let resident = daemon.resident_bytes()?;
    rows.push(Row { target: Target::Shown, ..Row::of_bytes("resident after that load", resident, 16) });
    drop(daemon);
    drop(held);
    Ok(rows)
}

fn spread(loads: Vec<Load>) -> Row {
    let mut latencies: Vec<_> = loads.into_iter().flat_map(|it| it.latencies).collect();
    latencies.sort();
    let (p50, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    Row::of_times("p99 of these with 64 connections", p99, (p50, "p50"), Target::AtMost(10.0))
}

/// What is the same in each hook.
pub fn hook() -> String {
    format!("github: {REPO}, secret: {{env: SECRET}}, on: {{push: \"*\"}}, deploy: {{strategy: none}}")
}
