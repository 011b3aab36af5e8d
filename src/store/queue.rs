//! The verbs of those who carry out runs: claim, start, finish, and what comes between.
//!
//! Invariant: a run is in at most one pair of hands, and an old pair is refused.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::error;

use crate::{
    model::{
        name::{HookName, LaneName},
        push::CommitId,
        run::{Outcome, RunFacts, RunId, RunStep},
    },
    store::{
        Adopted, Cancelled, Claim, Claimed, Finished, GivenBack, Hold, Kept, Stop, Store, StoreError,
        bells::Rings,
        sqlite::{
            finish, hold, lanes,
            queue::{self, Head, Taken},
        },
    },
};

impl Store {
    /// Takes the oldest waiting run whose lane is free and whose time has come.
    ///
    /// A run whose job cannot be read is ended as `interrupted`, so that the lane behind it goes on.
    pub async fn claim(&self, now: Timestamp) -> Result<Claimed, StoreError> {
        loop {
            match self.engine.look_at(now, move |tx| queue::claim(tx, now)).await? {
                Head::NothingUntil(due) => return Ok(Claimed::NothingUntil(due)),
                Head::Taken(taken) => {
                    if let Some(claim) = self.read(taken, now).await? {
                        return Ok(Claimed::Run(claim));
                    }
                }
            }
        }
    }

    /// Takes over every run that was in somebody's hands; earlier claims are void. For the start of a daemon.
    pub async fn adopt(&self, now: Timestamp) -> Result<Vec<Adopted>, StoreError> {
        let mut adopted = Vec::new();
        for taken in self.engine.write(Rings::NONE, queue::adopt).await? {
            let started = taken.started();
            if let Some(claim) = self.read(taken, now).await? {
                adopted.push(Adopted { claim, started });
            }
        }
        Ok(adopted)
    }

    async fn read(&self, taken: Taken, now: Timestamp) -> Result<Option<Claim>, StoreError> {
        let right = taken.right();
        match taken.read() {
            Ok(claim) => Ok(Some(claim)),
            Err(why) => {
                error!(run.id = %right.run, "run {} cannot be carried out: {why}", right.run);
                let outcome = Outcome::Interrupted { step: None, reason: why.to_string() };
                self.engine.write_at(Rings::ENDED, now, move |tx| finish::condemn(tx, right, &outcome, now)).await?;
                Ok(None)
            }
        }
    }

    /// The run has begun. People who want to hear of starts are told.
    pub async fn start(&self, claim: &Claim, now: Timestamp) -> Result<(), StoreError> {
        let (right, job) = (claim.right(), Arc::clone(claim.job()));
        self.engine.write_at(Rings::LETTERS, now, move |tx| queue::start(tx, right, &job, now)).await
    }

    /// Notes where a run that has begun is.
    pub async fn note_step(&self, claim: &Claim, step: RunStep) -> Result<(), StoreError> {
        let right = claim.right();
        self.engine.write(Rings::NONE, move |tx| queue::note_step(tx, right, step)).await
    }

    /// Stores how a run ended, with the letters it causes and the retry it leads to. Asked again, it says the same.
    pub async fn finish(
        &self,
        claim: Claim,
        outcome: Outcome,
        facts: RunFacts,
        now: Timestamp,
    ) -> Result<Finished, Kept<Claim>> {
        let (right, job) = (claim.right(), Arc::clone(claim.job()));
        let ended =
            self.engine.write_at(Rings::ENDED, now, move |tx| finish::finish(tx, right, &job, (&outcome, &facts), now));
        ended.await.map_err(|error| Kept { claim, error })
    }

    /// Queues a run again that never began, in its place. `why` says what kept it from being started, if anything
    /// did: then it waits, longer each time, and is given up as `failed` after several tries.
    pub async fn give_back(&self, claim: Claim, why: Option<&str>, now: Timestamp) -> Result<GivenBack, Kept<Claim>> {
        let (right, job, why) = (claim.right(), Arc::clone(claim.job()), why.map(str::to_owned));
        let given =
            self.engine.write_at(Rings::ENDED, now, move |tx| finish::give_back(tx, right, &job, why.as_deref(), now));
        given.await.map_err(|error| Kept { claim, error })
    }

    /// Ends a waiting run, or asks those who carry it out to end it.
    pub async fn cancel(&self, run: RunId, reason: &str, now: Timestamp) -> Result<Cancelled, StoreError> {
        let reason = reason.to_owned();
        self.engine.write_at(Rings::ALL, now, move |tx| finish::cancel(tx, run, &reason, now)).await
    }

    /// The runs that are to be stopped, and why.
    pub async fn stops_asked(&self) -> Result<Vec<(RunId, Stop)>, StoreError> {
        self.engine.read(queue::stops_asked).await
    }

    /// Puts a hook, or everything, on hold: jobs wait, and newer ones take their places as ever.
    pub async fn hold(&self, hold: Hold) -> Result<(), StoreError> {
        self.engine.write_at(Rings::QUEUE, hold.since, move |tx| hold::hold(tx, &hold)).await
    }

    /// Ends a hold; whether there was one. `None`: that of everything.
    pub async fn resume(&self, hook: Option<&HookName>) -> Result<bool, StoreError> {
        let hook = hook.cloned();
        self.engine.write(Rings::QUEUE, move |tx| hold::resume(tx, hook.as_ref())).await
    }

    /// Lets pushes of a commit be queued again that did not come up; whether they were not.
    pub async fn forgive(&self, hook: &HookName, commit: &CommitId) -> Result<bool, StoreError> {
        let (hook, commit) = (hook.clone(), commit.clone());
        self.engine.write(Rings::NONE, move |tx| hold::forgive(tx, &hook, &commit)).await
    }

    /// Claims nothing more from the lane of this run, until [`Store::open_lane`]. The run itself stays as it is, and is
    /// still to be finished.
    pub async fn stop_lane(&self, claim: &Claim, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        let (right, reason) = (claim.right(), reason.to_owned());
        self.engine.write_at(Rings::NONE, now, move |tx| lanes::stop(tx, right, &reason, now)).await
    }

    /// Claims from a stopped lane again; whether it was stopped.
    pub async fn open_lane(&self, lane: &LaneName) -> Result<bool, StoreError> {
        let lane = lane.clone();
        self.engine.write(Rings::QUEUE, move |tx| lanes::open(tx, &lane)).await
    }
}
