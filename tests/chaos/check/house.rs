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
        match event {
            Event::DiskFull => is_full = true,
            Event::DiskFreed => is_full = false,
            Event::Spoilt => is_bad = true,
            Event::Mended => is_bad = false,
            Event::RestartDaemon => is_asked = true,
            Event::DaemonUp => {
                has_reason = false;
                is_asked = false;
            }
            Event::DaemonEnded { code } => {
                let is_fine = if is_asked { *code == Some(0) || has_reason } else { has_reason };
                if !is_fine {
                    found.push(broken(UP, format!("the daemon ended with {code:?}"), &[at]));
                }
            }
            Event::Left { process } => {
                found.push(broken(NOTHING_LEFT, format!("still there: {process}"), &lines_of(case, process)));
            }
            Event::Stuck { what } => found.push(broken(CALM, what.clone(), &[])),
            _ => (),
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
