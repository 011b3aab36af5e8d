//! From the push of one changed file among 20,000 until the new tree is live.
//!
//! The clock runs from just before the request is written until the first command of `activate` has written into a
//! pipe: the whole way of a deploy beside its scripts, with the fetch, the ancestry guard, the tree and the switch.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, bail};
use landfall::model::run::RunId;

use crate::{
    daemon::{Daemon, Fifo, wait_for_end},
    forest::{FIRST_FILE, Forest},
    load::push_commit,
    place,
    pushes::{Pushes, REPO, Signer},
    table::{Row, Target, median},
};

const PUSHES: i64 = 7;

const LIMIT: Duration = Duration::from_secs(1);

/// The rows, in memory and on the disk.
pub fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (strategy, shown) in [("in-place", "in place"), ("releases", "as a new release")] {
        let in_memory = measure(place::in_memory()?.path(), strategy)?;
        let subject = |where_: &str| format!("push of 1 file in 20,000 to live {shown}, {where_}, p50");
        rows.push(Row::of_times(subject("in memory"), in_memory, (LIMIT, ""), Target::AtMost(1.0)));
        let on_disk = measure(place::on_disk()?.path(), strategy)?;
        rows.push(Row::of_times(subject("on disk"), on_disk, (LIMIT, ""), Target::Shown));
    }
    Ok(rows)
}

fn measure(folder: &Path, strategy: &str) -> Result<Duration> {
    let (mut forest, first) = Forest::plant(folder)?;
    let fifo = Fifo::to_read(folder.join("heard"))?;
    let hooks = format!(
        "hooks:\n  site:\n    github: {REPO}\n    secret: {{env: SECRET}}\n    on: {{push: \"*\"}}\n    \
         deploy: {{strategy: {strategy}, path: {}, remote: \"{}\"}}\n    activate: \"echo > {}\"\n",
        folder.join("live").display(),
        forest.remote(),
        fifo.path.display(),
    );
    let daemon = Daemon::start(folder, "", &hooks)?;
    let pushes = Pushes::new(Signer::Forge, vec!["/hooks/site".into()])?;
    let mut took = Vec::new();
    for run in 0..=PUSHES {
        // The first fills the mirror and the tree.
        let commit = if run == 0 { first.clone() } else { forest.commit(1)? };
        let sent_at = push_commit(daemon.address, &pushes, &commit)?;
        let heard_at = fifo.heard()?;
        wait_for_end(&folder.join(".landfall"), RunId(run + 1))?;
        if run > 0 {
            took.push(heard_at.duration_since(sent_at));
        }
        let tree = if strategy == "releases" { "live/current" } else { "live" };
        if fs::read(folder.join(tree).join(FIRST_FILE))? != forest.shown(&commit, FIRST_FILE)? {
            bail!("what is live is not {commit}");
        }
    }
    Ok(median(&took))
}
