//! From a push to the first line of its script.
//!
//! The clock runs from just before the request is written until the script's first command has written into a pipe:
//! so with the sender's part, the commit, the keeper's start, and the shell's. The time a flush to the disk takes is
//! measured between the pushes, on the same file system.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use landfall::model::run::RunId;

use crate::{
    accept::hook,
    daemon::{Daemon, Fifo, wait_for_end},
    load::push_once,
    place,
    pushes::{Pushes, Signer},
    table::{Row, Target, median},
};

const PUSHES: i64 = 40;
const FLUSHES: usize = 5;
/// The daemon stores the end of the last run, and is idle.
const PAUSE: Duration = Duration::from_millis(30);

/// The row.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::on_disk()?;
    let fifo = Fifo::to_read(folder.path().join("heard"))?;
    let hooks = format!("hooks:\n  site: {{{}, run: \"echo > {}\"}}\n", hook(), fifo.path.display());
    let daemon = Daemon::start(folder.path(), "", &hooks)?;
    let pushes = Pushes::new(Signer::Forge, vec!["/hooks/site".into()])?;
    let (mut took, mut flushes) = (Vec::new(), Vec::new());
    for run in 1..=PUSHES {
        let sent_at = push_once(daemon.address, &pushes)?;
        took.push(fifo.heard()?.duration_since(sent_at));
        wait_for_end(&folder.path().join(".landfall"), RunId(run))?;
        sleep(PAUSE);
        flushes.extend(place::flush(folder.path(), FLUSHES)?);
    }
    let flush = median(&flushes);
    let limit = flush * 3 + Duration::from_millis(15);
    let than = format!("= 3 fsyncs of {:.2} ms + 15 ms", flush.as_secs_f64() * 1e3);
    let subject = "push received to first line of its script, p50";
    Ok(vec![Row::of_times(subject, median(&took), (limit, &than), Target::AtMost(1.0))])
}
