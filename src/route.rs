//! Decides which hooks a verified push starts, and hands out the tickets for their jobs.
//!
//! Invariant: only what is in this file makes a [`Ticket`]: a verified push, a named person, or a run that is
//! repeated. Nothing here does IO or reads a clock.

use std::sync::Arc;

use crate::model::{
    hook::Hook,
    job::{Job, Target, Trigger},
    run::RunId,
};

/// Permission to queue one job. Only `route` makes one.
#[derive(Clone, Debug)]
pub struct Ticket(Job);

impl Ticket {
    /// The job.
    pub fn job(&self) -> &Job {
        &self.0
    }

    /// The job, for the one who queues it.
    pub fn into_job(self) -> Job {
        self.0
    }
}

/// A ticket for a job that a person asked for.
pub fn by_hand(hook: &Arc<Hook>, target: Target, actor: &str) -> Ticket {
    Ticket(Job {
        hook: Arc::clone(hook),
        trigger: Trigger::Manual,
        actor: actor.to_owned(),
        target,
        push: None,
        attempt: 1,
        retry_of: None,
    })
}

/// A ticket that repeats `run` as its `attempt`-th execution; `actor` is the person who asked for it, if one did.
///
/// The hook stays as it was in the job: a retry repeats what was, and a reload changes nothing about it.
pub fn again(job: &Job, run: RunId, attempt: u32, actor: Option<&str>) -> Ticket {
    Ticket(Job {
        trigger: Trigger::Retry,
        actor: actor.unwrap_or(&job.actor).to_owned(),
        attempt,
        retry_of: Some(run),
        ..job.clone()
    })
}
