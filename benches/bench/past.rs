//! A long past: finished runs of ten thousand hooks, each with a lane of its own, written by SQL into a store that
//! Landfall has made.
//!
//! All of it lies within the last ten weeks, so that retention has nothing to put away. Bodies of deliveries are left
//! out: they stand at the end of a table that is only ever read by number.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use landfall::{
    hooks::{self, Environment, Hooks},
    journal,
    model::{job::Target, push::CommitId, run::Outcome},
    route::by_hand,
    store::Store,
};
use rusqlite::{Connection, ToSql, params};

use crate::{accept::hook, daemon::SECRET};

/// Hooks, and lanes.
pub const LANES: i64 = 10_000;

/// All runs lie within this time.
const WITHIN_MILLIS: i64 = 70 * 24 * 3600 * 1000;

/// So many hooks for hooks.yaml, the first of those that have a past.
pub fn lines(hooks: i64) -> String {
    (1..=hooks).map(|number| format!("  site-{number}: {{{}, run: \"true\"}}\n", hook())).collect()
}

/// All of them, as Landfall reads them.
pub fn hooks(folder: &Path) -> Result<Arc<Hooks>> {
    let file = folder.join("many.yaml");
    fs::write(&file, format!("hooks:\n{}", lines(LANES)))?;
    let loaded = hooks::load(&file, &Environment::default().with("SECRET", SECRET));
    Ok(Arc::new(loaded.map_err(|refused| anyhow!("{refused}"))?.hooks))
}

/// Makes a store in a state folder, with so many finished runs in it.
pub fn fill(state: &Path, hooks: &Hooks, runs: i64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = Store::open(state)?;
    runtime.block_on(store.close());
    let mut database = Connection::open(state.join("landfall.db"))?;
    // Quick, and not safe: who stops the bench while it writes throws the folder away.
    database.execute_batch("PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA cache_size = -500000;")?;
    let writing = Writing { tx: database.transaction()?, runs, now: Timestamp::now().as_millisecond() };
    writing.hooks()?;
    writing.deliveries()?;
    writing.runs(hooks)?;
    Ok(writing.tx.commit()?)
}

struct Writing<'a> {
    tx: rusqlite::Transaction<'a>,
    runs: i64,
    now: i64,
}

impl Writing<'_> {
    fn hooks(&self) -> Result<()> {
        let (of_each, commit) = (self.runs / LANES, "5c".repeat(20));
        let hook = "hook (hook, name, runs, mood, live_commit, live_run)";
        self.rows(hook, LANES, "n, 'site-' || n, ?2, 'good', ?3, n", params![of_each, commit])?;
        self.rows("live (hook, ref, commit_id, run)", LANES, "n, 'refs/heads/main', ?2, n", params![commit])?;
        self.rows("lane (lane, name, next_seq, fence)", LANES, "n, 'site-' || n, ?2, ?2", params![of_each + 1])
    }

    fn deliveries(&self) -> Result<()> {
        let delivery = "delivery (delivery, path, forge, event, forge_id, received_at, result, message)";
        let (at, of) = (self.at(), Self::hook());
        let values = format!(
            "n, '/hooks/site-' || {of}, 'github', 'push', lower(hex(randomblob(16))), {at}, 'queued', \
             'queued for `site-' || {of} || '`'"
        );
        self.rows(delivery, self.runs, &values, params![])?;
        self.rows("delivery_run (delivery, run, hook)", self.runs, &format!("n, n, {of}"), params![])?;
        // Two for each, as GitHub's deliveries have: the id and the hash of the body.
        let of_either = "1 + n / 2 * ?2 / ?1";
        let values = format!("n, {of_either}, randomblob(33), 1 + n / 2, 1 + n / 2, ?3");
        self.rows("seen (seen, hook, key, delivery, run, at)", self.runs * 2, &values, params![LANES - 1, self.now])
    }

    fn runs(&self, hooks: &Hooks) -> Result<()> {
        let commit = CommitId::parse(&"5c".repeat(20)).context("a commit")?;
        let hook = hooks.hooks.values().next().context("a hook")?;
        let job = by_hand(hook, Target::Commit { commit, ref_name: None }, "ana").into_job();
        let (job, outcome) = (journal::job::encode(&job), journal::outcome::encode(&Outcome::Succeeded));
        let (at, of) = (self.at(), Self::hook());
        let run = "run (run, hook, lane, delivery, created_at, fence, started_at, finished_at, outcome, commit_id,
                        has_folder)";
        let values =
            format!("n, {of}, {of}, n, {at}, n / {LANES}, {at} + 5, {at} + 2000, ?2, lower(hex(randomblob(20))), 1");
        self.rows(run, self.runs, &values, params![outcome])?;
        self.rows("job (run, job)", self.runs, "n, ?2", params![job])
    }

    /// When a run was made.
    fn at(&self) -> String {
        format!("{} - ({} - n) * {}", self.now, self.runs, WITHIN_MILLIS / self.runs)
    }

    /// Whose run it was: the hooks take turns.
    fn hook() -> String {
        format!("(1 + n % {LANES})")
    }

    /// Rows with these values, for `n` from 1 to `count`, which is `?1` in them.
    fn rows(&self, table: &str, count: i64, values: &str, more: &[&dyn ToSql]) -> Result<()> {
        let numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)";
        let values = format!("INSERT INTO {table} {numbers} SELECT {values} FROM n");
        let parameters: Vec<&dyn ToSql> = [&count as &dyn ToSql].into_iter().chain(more.iter().copied()).collect();
        self.tx.execute(&values, parameters.as_slice()).with_context(|| format!("fill {table}"))?;
        Ok(())
    }
}
