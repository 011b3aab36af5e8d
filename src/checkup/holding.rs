//! How the processes of a run are held together, so that all of them can be ended.
//!
//! Invariant: it is the daemon's own word where there is one: another process may stand in another control group.

use super::{Daemon, Finding};
use crate::keeper;

const SUBJECT: &str = "processes";

/// Says how, and why so.
pub(super) fn look(daemon: &Daemon) -> Finding {
    match daemon {
        Daemon::Answers(status) => judge(status.holding.cgroup.as_deref(), status.holding.why_none.as_deref(), ""),
        Daemon::Silent(_) => {
            let (own, why) = match keeper::probe_cgroup() {
                Ok(own) => (Some(own.display().to_string()), None),
                Err(why) => (None, Some(why)),
            };
            judge(own.as_deref(), why.as_deref(), " (as seen from this shell; a service may see it otherwise)")
        }
    }
}

fn judge(own: Option<&str>, why: Option<&str>, seen: &str) -> Finding {
    match own {
        Some(own) => Finding::ok(
            SUBJECT,
            format!("each run has a control group of its own (cgroup v2) below {own}, and ends with it{seen}"),
        ),
        None => Finding::warn(
            SUBJECT,
            format!(
                "a run is held together by its session and its keeper, since {}{seen}",
                why.unwrap_or("there is no control group")
            ),
            "after a kill of a keeper, a process that empties its environment may be missed: run Landfall by systemd with `Delegate=yes`",
        ),
    }
}
