//! What three million finished runs cost those who come after them: accepts, first pages and claims, against a store
//! without a past.
//!
//! Both stand in memory, where a flush costs nothing, so that what is left is what the work itself costs. Accepts and
//! pages are asked of two daemons, in turns; claims of the two stores, with a waiting job in each of ten thousand lanes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use jiff::Timestamp;
use landfall::{
    hooks::Hooks,
    model::{job::Target, run::RunId},
    route::by_hand,
    store::{Claimed, Store},
};
use tokio::runtime::Runtime;

use crate::{
    accept::hook,
    daemon::{Blocker, Daemon},
    load::{press, push_once},
    past, place,
    pushes::{Pushes, Signer},
    table::{Row, Target as Wanted, median},
};

const RUNS: i64 = 3_000_000;
const REPETITIONS: usize = 5;
const SPAN: Duration = Duration::from_millis(500);
const PAGES: usize = 200;
const CLAIMS: usize = 1000;
/// Claims of one store before it is the other's turn.
const CLAIMS_IN_A_ROW: usize = 50;
/// Hooks of the daemons; all lanes are in the store.
const HOOKS: i64 = 64;
/// A tree of three million rows is a level or two deeper than one of a few thousand, and in no cache of the processor.
const NO_GROWTH: Wanted = Wanted::AtMost(1.5);

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::in_memory()?;
    let hooks = past::hooks(folder.path())?;
    let (long, none) = (folder.path().join("long"), folder.path().join("none"));
    past::fill(&state(&long), &hooks, RUNS)?;
    std::fs::create_dir(&none)?;
    let mut rows = of_daemons(&long, &none)?;
    rows.extend(of_claims(&long, &none, &hooks)?);
    Ok(rows)
}

fn state(folder: &Path) -> PathBuf {
    folder.join(".landfall")
}

/// A daemon whose only worker is held, so that no run takes the processor from it.
struct Side {
    daemon: Daemon,
    /// Let go when the daemon has ended.
    _held: Blocker,
}

impl Side {
    fn start(folder: &Path, finished: i64) -> Result<Self> {
        let fifo = folder.join("held");
        let held = format!("  held: {{{}, run: \"{}\"}}\n", hook(), Blocker::step(&fifo)?);
        let daemon = Daemon::start(folder, "workers: 1", &format!("hooks:\n{held}{}", past::lines(HOOKS)))?;
        push_once(daemon.address, &Pushes::new(Signer::Forge, vec!["/hooks/held".into()])?)?;
        let held = Blocker::hold(&fifo, &state(folder), RunId(finished + 1))?;
        Ok(Self { daemon, _held: held })
    }
}

fn of_daemons(long: &Path, none: &Path) -> Result<Vec<Row>> {
    let (long, none) = (Side::start(long, RUNS)?, Side::start(none, 0)?);
    let paths = (1..=HOOKS).map(|it| format!("/hooks/site-{it}")).collect();
    let pushes = Arc::new(Pushes::new(Signer::Forge, paths)?);
    let (mut after_many, mut after_none) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        after_none.extend(press(none.daemon.address, 1, SPAN, &pushes, "202")?.latencies);
        after_many.extend(press(long.daemon.address, 1, SPAN, &pushes, "202")?.latencies);
    }
    let than = |time| (time, "without a past");
    let accept = "durable accept after 3 million runs, beside its fsync, p50";
    let mut rows = vec![Row::of_times(accept, median(&after_many), than(median(&after_none)), NO_GROWTH)];
    for (page, path) in [("runs", "/v1/runs?limit=20"), ("deliveries", "/v1/deliveries?limit=20")] {
        let (mut after_many, mut after_none) = (Vec::new(), Vec::new());
        for _ in 0..PAGES {
            after_none.push(none.daemon.ask(path)?);
            after_many.push(long.daemon.ask(path)?);
        }
        let page = format!("first page of {page} after 3 million runs, p50");
        rows.push(Row::of_times(page, median(&after_many), than(median(&after_none)), NO_GROWTH));
    }
    Ok(rows)
}

fn of_claims(long: &Path, none: &Path, hooks: &Hooks) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let (long, none) = (Store::open(&state(long))?, Store::open(&state(none))?);
    let (mut after_many, mut after_none) = (Vec::new(), Vec::new());
    for store in [&long, &none] {
        runtime.block_on(queue_everywhere(store, hooks))?;
    }
    for _ in 0..CLAIMS / CLAIMS_IN_A_ROW {
        claim(&runtime, &none, &mut after_none)?;
        claim(&runtime, &long, &mut after_many)?;
    }
    runtime.block_on(async { tokio::join!(long.close(), none.close()) });
    let (took, took_before) = (median(&after_many), median(&after_none));
    let subject = "claim after 3 million runs with 10,000 lanes, beside its fsync, p50";
    Ok(vec![
        Row::of_times(subject, took, (Duration::from_millis(1), ""), Wanted::AtMost(1.0)),
        Row::of_times("the same", took, (took_before, "without a past"), NO_GROWTH),
    ])
}

async fn queue_everywhere(store: &Store, hooks: &Hooks) -> Result<()> {
    for hook in hooks.hooks.values() {
        store.enqueue(by_hand(hook, Target::DefaultBranch, "ana"), Timestamp::now()).await?;
    }
    Ok(())
}

fn claim(runtime: &Runtime, store: &Store, took: &mut Vec<Duration>) -> Result<()> {
    runtime.block_on(async {
        for _ in 0..CLAIMS_IN_A_ROW {
            let begin = Instant::now();
            let claimed = store.claim(Timestamp::now()).await?;
            took.push(begin.elapsed());
            match claimed {
                // Nobody carries it out: its lane stays blocked, as that of a run under way.
                Claimed::Run(claim) => drop(claim),
                Claimed::NothingUntil(_) => bail!("there was no run to claim"),
            }
        }
        Ok(())
    })
}
