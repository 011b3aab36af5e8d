//! A long history: a million finished runs of ten thousand hooks, each with a lane of its own.
//!
//! The history is written by SQL, into a store that Landfall has made. It stands in memory for the cost of a claim:
//! there a flush costs nothing, so that what is left is what a claim costs beside it; ten thousand lanes have a
//! waiting job then. For the daemon's start and size a copy stands on the disk. Both have one hook in hooks.yaml.

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use landfall::{
    hooks::{self, Environment, Hooks},
    journal,
    model::{job::Target, push::CommitId, run::Outcome},
    route::by_hand,
    store::{Claimed, Store},
};
use rusqlite::{Connection, params};

use crate::{
    accept::hook,
    daemon::{Daemon, SECRET},
    place,
    table::{Row, Target as Wanted, median},
};

const RUNS: i64 = 1_000_000;
const LANES: i64 = 10_000;
const CLAIMS: usize = 1000;
const STARTS: usize = 5;
/// What a daemon does after its start is done by then.
const SETTLED: Duration = Duration::from_secs(2);

/// The rows of a claim.
pub fn claim_rows() -> Result<Vec<Row>> {
    let folder = place::in_memory()?;
    let hooks = many_hooks(folder.path())?;
    let filled = folder.path().join("filled");
    fill(&filled, &hooks)?;
    let empty = median(&claims(&folder.path().join("empty"), &hooks)?);
    let took = median(&claims(&filled, &hooks)?);
    let subject = "claim beside its fsync, 1 million finished runs and 10,000 lanes, p50";
    let limit = (Duration::from_millis(1), "");
    Ok(vec![
        Row::of_times(subject, took, limit, Wanted::AtMost(1.0)),
        Row::of_times("the same", took, (empty, "without a history"), Wanted::Shown),
    ])
}

/// The rows of the daemon's start.
pub fn idle_rows() -> Result<Vec<Row>> {
    let folder = place::on_disk()?;
    let hooks = many_hooks(folder.path())?;
    fill(&folder.path().join(".landfall"), &hooks)?;
    let one = format!("hooks:\n  site: {{{}, run: \"true\"}}\n", hook());
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let daemon = Daemon::start(folder.path(), "", &one)?;
        ready.push(daemon.ready_after);
        sleep(SETTLED);
        resident.push(daemon.resident_bytes()?);
    }
    let limit = (Duration::from_millis(50), "");
    Ok(vec![
        Row::of_bytes("daemon, idle, 1 million runs in history: resident", median(&resident), 16),
        Row::of_times("the same: from exec until it serves", median(&ready), limit, Wanted::AtMost(1.0)),
    ])
}

/// As many hooks as there are lanes, as Landfall reads them.
fn many_hooks(folder: &Path) -> Result<Arc<Hooks>> {
    let mut text = "hooks:\n".to_owned();
    for number in 1..=LANES {
        text.push_str(&format!("  site-{number}: {{{}, run: \"true\"}}\n", hook()));
    }
    let file = folder.join("many.yaml");
    fs::write(&file, text)?;
    let loaded = hooks::load(&file, &Environment::default().with("SECRET", SECRET));
    Ok(Arc::new(loaded.map_err(|refused| anyhow!("{refused}"))?.hooks))
}

/// Makes a store and writes the history into it.
fn fill(state: &Path, hooks: &Hooks) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = Store::open(state)?;
    runtime.block_on(store.close());
    let commit = CommitId::parse(&"5c".repeat(20)).context("a commit")?;
    let hook = hooks.hooks.values().next().context("a hook")?;
    let job = by_hand(hook, Target::Commit { commit, ref_name: None }, "ana").into_job();
    let (job, outcome) = (journal::job::encode(&job), journal::outcome::encode(&Outcome::Succeeded));
    let mut database = Connection::open(state.join("landfall.db"))?;
    let now = Timestamp::now().as_millisecond();
    let tx = database.transaction()?;
    let numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)";
    let fill = |table: &str, values: &str, count: i64, more: &[&dyn rusqlite::ToSql]| -> Result<()> {
        let counted: Vec<&dyn rusqlite::ToSql> =
            [&count as &dyn rusqlite::ToSql].into_iter().chain(more.iter().copied()).collect();
        tx.execute(&format!("INSERT INTO {table} {numbers} SELECT {values} FROM n"), counted.as_slice())?;
        Ok(())
    };
    let (each, span) = (RUNS / LANES, 60_000);
    fill(
        "hook (hook, name, runs, mood, live_commit, live_run)",
        "n, 'site-' || n, ?2, 'good', ?3, n",
        LANES,
        params![each, "5c"],
    )?;
    fill("lane (lane, name, next_seq, fence)", "n, 'site-' || n, ?2, ?2", LANES, params![each + 1])?;
    let at = "?2 - (?1 - n) * ?3";
    let of = format!("1 + n % {LANES}");
    fill(
        "delivery (delivery, path, forge, event, forge_id, received_at, result, message)",
        &format!(
            "n, '/hooks/site-' || ({of}), 'github', 'push', hex(randomblob(16)), {at}, 'queued', 'queued for `site`'"
        ),
        RUNS,
        params![now, span],
    )?;
    fill(
        "run (run, hook, lane, delivery, created_at, fence, started_at, finished_at, outcome, commit_id, has_folder)",
        &format!("n, {of}, {of}, n, {at}, n / {LANES}, {at} + 5, {at} + 2000, ?4, hex(randomblob(20)), 1"),
        RUNS,
        params![now, span, outcome],
    )?;
    fill("job (run, job)", "n, ?2", RUNS, params![job])?;
    fill("delivery_run (delivery, run, hook)", &format!("n, n, {of}"), RUNS, params![])?;
    fill("seen (seen, hook, key, run, at)", &format!("n, {of}, randomblob(33), n, {at}"), RUNS, params![now, span])?;
    tx.commit()?;
    let _: i64 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(())
}

/// Queues a job in each lane, and measures claims.
fn claims(state: &Path, hooks: &Hooks) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let store = Store::open(state)?;
    runtime.block_on(async {
        for hook in hooks.hooks.values() {
            store.enqueue(by_hand(hook, Target::DefaultBranch, "ana"), Timestamp::now()).await?;
        }
        let mut took = Vec::new();
        for _ in 0..CLAIMS {
            let begin = Instant::now();
            let claimed = store.claim(Timestamp::now()).await?;
            took.push(begin.elapsed());
            match claimed {
                // Nobody carries it out: its lane stays blocked, as that of a run under way.
                Claimed::Run(claim) => drop(claim),
                Claimed::NothingUntil(_) => bail!("there was no run to claim"),
            }
        }
        store.close().await;
        Ok(took)
    })
}
