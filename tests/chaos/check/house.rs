//! Laws of the house: daemons stay up, nothing is left behind, and there is an end to everything.
//!
//! Invariant: what the harness noticed about processes is judged here and nowhere else.

use super::{CALM, Case, NOTHING_LEFT, UP, Violation, broken};
use crate::history::Event;

pub fn judge(case: &Case) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut is_full, mut is_bad, mut is_asked) = (false, false, false);
    // Whether there was a reason since the daemon came up.
    let mut has_reason = false;
    for (at, event) in case.events() {
        is_full = (is_full || *event == Event::DiskFull) && *event != Event::DiskFreed;
        is_bad = (is_bad || *event == Event::Spoilt) && *event != Event::Mended;
        is_asked = (is_asked || *event == Event::RestartDaemon) && *event != Event::DaemonUp;
        has_reason &= *event != Event::DaemonUp;
        if let Event::DaemonEnded { code, said } = event {
            // Asked before it listens for signals, it is ended by the signal itself.
            let is_well = is_asked && matches!(code, Some(0) | None);
            if !is_well && !has_reason {
                found.push(broken(UP, format!("the daemon ended with {code:?}: {said}"), &[at]));
            }
        } else if let Event::Left { process } = event {
            found.push(broken(NOTHING_LEFT, format!("still there: {process}"), &lines_of(case, process)));
        } else if let Event::Stuck { what } = event {
            found.push(broken(CALM, what.clone(), &[]));
        }
        has_reason |= is_full || is_bad;
    }
    found
}

/// The lines of the run whose keeper or script this is, as far as its command line tells.
fn lines_of(case: &Case, process: &str) -> Vec<usize> {
    let run = process.rsplit('/').next().and_then(|it| it.trim().parse().ok());
    run.map(|run| case.begins(run)).unwrap_or_default()
}
