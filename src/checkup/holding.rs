//! How the processes of a run are held together, so that all of them can be ended, and whether they are held to `limits`.
//!
//! Invariant: it is the daemon's own word where there is one: another process may stand in another control group.

use super::{Daemon, Finding};
use crate::keeper;

const SUBJECT: &str = "processes";

/// Says how, and why so.
pub(super) fn look(daemon: &Daemon) -> Vec<Finding> {
    match daemon {
        Daemon::Answers(status) => {
            let held = &status.holding;
            judge(held.cgroup.as_deref(), held.why_none.as_deref(), &held.unheld_limits, "")
        }
        Daemon::Silent(_) => {
            let (own, why) = match keeper::probe_cgroup() {
                Ok(own) => (Some(own.display().to_string()), None),
                Err(why) => (None, Some(why)),
            };
            let seen = " (as seen from this shell; a service may see it otherwise)";
            judge(own.as_deref(), why.as_deref(), &keeper::probe_unheld_limits(), seen)
        }
    }
}

fn judge(own: Option<&str>, why: Option<&str>, unheld: &[String], seen: &str) -> Vec<Finding> {
    let Some(own) = own else {
        let why = why.unwrap_or("there is no control group");
        return vec![Finding::warn(
            SUBJECT,
            format!(
                "a run is held together by its session and its keeper, and to none of its `limits`, since {why}{seen}"
            ),
            "after a kill of a keeper, a process that empties its environment may be missed: run Landfall by systemd with `Delegate=yes`",
        )];
    };
    let apart = Finding::ok(
        SUBJECT,
        format!("each run has a control group of its own (cgroup v2) below {own}, and ends with it{seen}"),
    );
    let limits = match unheld {
        [] => Finding::ok("limits", format!("each run is held to its `limits`{seen}")),
        unheld => Finding::warn(
            "limits",
            format!("{}{seen}", unheld.join("; ")),
            "take the packaged unit, systemd 254 or newer, and cgroup v2; until then only `timeout` ends a run that takes too much",
        ),
    };
    vec![apart, limits]
}
