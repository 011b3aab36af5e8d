//! The verbs of catch-up: what is known of a remote's refs, and queueing what was missed.
//!
//! Invariant: asking what is known makes no push wait; what was missed is queued in one transaction.

use jiff::Timestamp;

use crate::{
    model::{
        baseline::{Known, RemoteRef},
        job::Job,
        name::HookName,
        push::{CommitId, RefName, RepoName},
        run::RunId,
    },
    route,
    store::{
        Store, StoreError,
        bells::Rings,
        sqlite::{
            accepted,
            catch_up::{self, Finding},
            runs::Prepared,
        },
    },
};

/// What a look at the remote of a hook found.
#[derive(Clone, Debug)]
pub struct RemoteLook {
    /// The hook.
    pub hook: HookName,
    /// Its repository.
    pub repo: RepoName,
    /// Which refs were looked for, as a text of the caller's own: a look for others begins anew.
    pub looked_for: String,
    /// Where those refs are that only match a pattern.
    pub seen: Vec<(RefName, CommitId)>,
    /// The pushes that no delivery brought.
    pub missed: Vec<route::Missed>,
}

/// What became of a push that was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// It is queued.
    Queued {
        /// What was found.
        found: RemoteRef,
        /// As this run.
        run: RunId,
    },
    /// A push of the same ref was accepted since the remote was asked, so it has to be asked again.
    Overtaken {
        /// What was found.
        found: RemoteRef,
    },
    /// Its commit is on hold.
    Held {
        /// Why, as a sentence without a full stop.
        why: String,
    },
}

impl Store {
    /// What is known of the refs of a hook's repository, beside a look that is for these ones.
    pub async fn known_refs(&self, hook: &HookName, repo: &RepoName, looked_for: &str) -> Result<Known, StoreError> {
        let (hook, repo, looked_for) = (hook.clone(), repo.clone(), looked_for.to_owned());
        let (known, unnoted) = self.engine.read(move |tx| catch_up::known(tx, &hook, &repo, &looked_for)).await?;
        if let Some(unnoted) = unnoted {
            self.engine.write(Rings::NONE, move |tx| accepted::note(tx, &unnoted)).await?;
        }
        Ok(known)
    }

    /// Queues what was missed, unless it was overtaken meanwhile, and remembers what was seen.
    pub async fn catch_up(&self, look: RemoteLook, now: Timestamp) -> Result<Vec<CaughtUp>, StoreError> {
        let RemoteLook { hook, repo, looked_for, seen, missed } = look;
        let prepared = missed.into_iter().map(|it| catch_up::MissedJob {
            job: Prepared::new(it.ticket.into_job()),
            found: it.found,
            newest: it.newest,
        });
        let finding = Finding { hook, repo, looked_for, seen, missed: prepared.collect() };
        self.engine.write_at(Rings::ALL, now, move |tx| catch_up::catch_up(tx, &finding, now)).await
    }

    /// Notes the newest accepted pushes of all hooks, before retention takes the runs away that tell of them.
    pub async fn note_accepted(&self) -> Result<(), StoreError> {
        for hook in self.engine.read(accepted::hooks_to_note).await? {
            let unnoted = self.engine.read(move |tx| accepted::unnoted(tx, hook)).await?;
            self.engine.write(Rings::NONE, move |tx| accepted::note(tx, &unnoted)).await?;
        }
        Ok(())
    }

    /// Notes pushes that a lost store had accepted, by the jobs in the folders of their runs.
    pub async fn recall(&self, jobs: Vec<(RunId, Job)>) -> Result<(), StoreError> {
        self.engine.write(Rings::NONE, move |tx| accepted::recall(tx, &jobs)).await
    }
}
