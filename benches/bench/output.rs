//! A script that prints a gibibyte: what that costs the daemon in memory, and the script in time.
//!
//! The script tells through a pipe when it begins and when it has ended. It is measured against the same commands
//! whose output goes to a file, both in memory so that the disk stays out. The log's cap is the default, as is
//! everything else.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, bail};
use landfall::model::run::RunId;

use crate::{
    accept::hook,
    daemon::{Daemon, Fifo, wait_for_end},
    load::push_once,
    place,
    pushes::{Pushes, Signer},
    table::{Row, Target, median},
};

const REPETITIONS: i64 = 3;
/// A line of 64 bytes, again and again.
const PRINT: &str = "yes 'one more line of the sixty-four that a build prints per second' | head -c 1073741824";

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::in_memory()?;
    let fifo = Fifo::to_read(folder.path().join("heard"))?;
    let script = format!("echo > {0}; {PRINT}; echo > {0}", fifo.path.display());
    let hooks = format!("hooks:\n  site: {{{}, run: \"{script}\"}}\n", hook());
    let daemon = Daemon::start(folder.path(), "", &hooks)?;
    let pushes = Pushes::new(Signer::Forge, vec!["/hooks/site".into()])?;
    let (mut kept, mut plain, mut growth) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=REPETITIONS {
        plain.push(to_file(&script, &fifo, folder.path())?);
        let before = daemon.resident_bytes()?;
        daemon.forget_peak()?;
        push_once(daemon.address, &pushes)?;
        let begin = fifo.heard()?;
        kept.push(fifo.heard()?.duration_since(begin));
        wait_for_end(&folder.path().join(".landfall"), RunId(run))?;
        growth.push(daemon.peak_bytes()?.saturating_sub(before));
    }
    let than = (median(&plain), "to a file");
    Ok(vec![
        Row::of_bytes("script printing 1 GiB: growth of the daemon", growth.into_iter().max().unwrap_or(0), 8),
        Row::of_times("the same: its time", median(&kept), than, Target::AtMost(1.3)),
    ])
}

fn to_file(script: &str, fifo: &Fifo, folder: &Path) -> Result<Duration> {
    let path = folder.join("printed");
    let file = File::create(&path)?;
    let mut shell = Command::new("/bin/sh");
    let mut shell = shell.args(["-e", "-c", script]).stdin(Stdio::null()).stdout(file).spawn()?;
    let begin = fifo.heard()?;
    let took = fifo.heard()?.duration_since(begin);
    if !shell.wait()?.success() {
        bail!("the script failed without Landfall");
    }
    std::fs::remove_file(path)?;
    Ok(took)
}
