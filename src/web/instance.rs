//! Notices that the GitLab which sends a push is another than the one that its hooks fetch from.
//!
//! Whoever moves to a GitLab of their own and leaves `deploy.remote` out goes on fetching from gitlab.com: the run fails,
//! or deploys what is there.
//!
//! Invariant: it is said, and changes nothing: the header is not signed, and both names may be of one machine.

use std::{
    collections::HashSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{model::name::HookName, route::Ticket};

/// So many differences are remembered. Whoever has the secret could name a new host in each request.
const TOLD_MAX: usize = 1000;

/// A GitLab that none of these hooks fetch from.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    /// Its host.
    host: String,
    /// The hooks, each with the host that it fetches from.
    hooks: Vec<(HookName, String)>,
}

/// Looks whether the push of an instance with this host starts jobs that fetch from another one.
pub(super) fn look(instance: Option<&str>, tickets: &[Ticket]) -> Option<Foreign> {
    let host = instance?;
    let fetches_from = |ticket: &Ticket| {
        let hook = &ticket.job().hook;
        let remote = hook.deploy.strategy.git()?.remote.parts().host()?;
        (remote != host).then(|| (hook.name.clone(), remote))
    };
    let hooks: Vec<_> = tickets.iter().filter_map(fetches_from).collect();
    (!hooks.is_empty()).then(|| Foreign { host: host.to_owned(), hooks })
}

impl fmt::Display for Foreign {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hooks: Vec<_> = self.hooks.iter().map(|(hook, remote)| format!("`{hook}` from `{remote}`")).collect();
        write!(
            out,
            "GitLab at `{}` has sent this, and code is fetched for hook {}: if that is another repository, set \
             `deploy.remote`",
            self.host,
            hooks.join(", ")
        )
    }
}

/// What the log has told already. Held for a look and an insertion only; each request has its own thread of control, and
/// none waits for the answer of another.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashSet<(HookName, String)>>);

impl Told {
    /// Whether any of it was not told before; from now on it was.
    pub(super) fn is_news(&self, foreign: &Foreign) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_news = false;
        for (hook, _) in &foreign.hooks {
            is_news |= told.len() < TOLD_MAX && told.insert((hook.clone(), foreign.host.clone()));
        }
        is_news
    }
}
