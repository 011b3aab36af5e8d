//! A daemon that has nothing to do, with a million runs in its history: how soon it serves, and what it keeps in memory.
//!
//! The history stands on the disk, as that of any daemon does. The clock runs from just before the process is made
//! until `/healthz` has answered.

use std::{thread::sleep, time::Duration};

use anyhow::Result;

use crate::{
    daemon::Daemon,
    past, place,
    table::{Row, Target, median},
};

const RUNS: i64 = 1_000_000;
const STARTS: usize = 7;
/// What a daemon does after its start is done by then.
const SETTLED: Duration = Duration::from_secs(2);

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::on_disk()?;
    let hooks = past::hooks(folder.path())?;
    past::fill(&folder.path().join(".landfall"), &hooks, RUNS)?;
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let daemon = Daemon::start(folder.path(), "", &format!("hooks:\n{}", past::lines(1)))?;
        ready.push(daemon.ready_after);
        sleep(SETTLED);
        resident.push(daemon.resident_bytes()?);
    }
    let limit = (Duration::from_millis(50), "");
    Ok(vec![
        Row::of_bytes("daemon, idle, 1 million runs in history: resident", median(&resident), 16),
        Row::of_times("the same: from exec until it serves, p50", median(&ready), limit, Target::AtMost(1.0)),
    ])
}
