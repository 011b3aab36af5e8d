//! The verbs of those who look: history, pages, glances, and what puts away the old.
//!
//! Invariant: looking never waits for a writer, and costs no more the longer history is.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    model::{
        name::HookName,
        push::{CommitId, RefName},
        run::RunId,
    },
    store::{
        Belief, Counts, DeliveryFilter, DeliveryNo, DeliveryView, Hold, HookSummary, LetterView, ListedRun, Loss,
        Pruned, RunFilter, RunView, StoppedLane, Store, StoreError, TooOld,
        bells::Rings,
        sqlite::{belief, history, hold, lanes, live, loss, outbox, prune},
    },
};

impl Store {
    /// One run; one that cannot be read is an error.
    pub async fn run(&self, run: RunId) -> Result<Option<RunView>, StoreError> {
        match self.listed_run(run).await? {
            None => Ok(None),
            Some(ListedRun::Whole(view)) => Ok(Some(*view)),
            Some(ListedRun::Unreadable(run)) => Err(StoreError::Damaged(format!("run {}: {}", run.id, run.why))),
        }
    }

    /// One run, or what is left of it.
    pub async fn listed_run(&self, run: RunId) -> Result<Option<ListedRun>, StoreError> {
        self.engine.read(move |tx| history::run(tx, run)).await
    }

    /// A page of runs, newest first, without those that cannot be read.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunView>, StoreError> {
        Ok(self.listed_runs(filter).await?.into_iter().filter_map(ListedRun::whole).collect())
    }

    /// A page of runs, newest first.
    pub async fn listed_runs(&self, filter: RunFilter) -> Result<Vec<ListedRun>, StoreError> {
        self.engine.read(move |tx| history::runs(tx, &filter)).await
    }

    /// The newest runs that were about a commit with these first digits.
    pub async fn runs_of_commit(&self, digits: &str, limit: u32) -> Result<Vec<RunView>, StoreError> {
        let digits = digits.to_owned();
        let found = self.engine.read(move |tx| history::runs_of_commit(tx, &digits, limit)).await?;
        Ok(found.into_iter().filter_map(ListedRun::whole).collect())
    }

    /// One delivery.
    pub async fn delivery(&self, no: DeliveryNo) -> Result<Option<DeliveryView>, StoreError> {
        self.engine.read(move |tx| history::delivery(tx, no)).await
    }

    /// The newest deliveries that pushed a commit which begins with these digits, and made no run of it, newest first. As
    /// with runs, only so many of the newest are looked through.
    pub async fn deliveries_of_commit(&self, digits: &str, limit: u32) -> Result<Vec<DeliveryView>, StoreError> {
        let digits = digits.to_owned();
        self.engine.read(move |tx| history::deliveries_of_commit(tx, &digits, limit)).await
    }

    /// The newest delivery with this id of its sender.
    pub async fn delivery_by_id(&self, id: &str) -> Result<Option<DeliveryView>, StoreError> {
        let id = id.to_owned();
        self.engine.read(move |tx| history::delivery_by_id(tx, &id)).await
    }

    /// A page of deliveries, newest first.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        self.engine.read(move |tx| history::deliveries(tx, &filter)).await
    }

    /// The body of a delivery, while it is kept.
    pub async fn payload(&self, no: DeliveryNo) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.read(move |tx| history::payload(tx, no)).await
    }

    /// The letters about a run.
    pub async fn letters_of(&self, run: RunId) -> Result<Vec<LetterView>, StoreError> {
        self.engine.read(move |tx| outbox::letters_of(tx, run)).await
    }

    /// The last succeeded commit of a hook, or of a hook and a ref.
    pub async fn live(&self, hook: &HookName, ref_name: Option<&RefName>) -> Result<Option<CommitId>, StoreError> {
        let (hook, ref_name) = (hook.clone(), ref_name.cloned());
        self.engine.read(move |tx| live::live(tx, &hook, ref_name.as_ref())).await
    }

    /// The ref that what is live came from, if that is known.
    pub async fn ref_of_live(
        &self,
        hook: &HookName,
        ref_name: Option<&RefName>,
    ) -> Result<Option<RefName>, StoreError> {
        let (hook, ref_name) = (hook.clone(), ref_name.cloned());
        self.engine.read(move |tx| live::ref_of_live(tx, &hook, ref_name.as_ref())).await
    }

    /// Whether a run after the one that brought what is live may have changed that, and did not succeed.
    pub async fn is_disturbed(&self, hook: &HookName, ref_name: Option<&RefName>) -> Result<bool, StoreError> {
        let (hook, ref_name) = (hook.clone(), ref_name.cloned());
        self.engine.read(move |tx| live::is_disturbed(tx, &hook, ref_name.as_ref())).await
    }

    /// A hook at a glance.
    pub async fn hook_summary(&self, hook: &HookName) -> Result<HookSummary, StoreError> {
        let hook = hook.clone();
        self.engine.read(move |tx| history::hook_summary(tx, &hook)).await
    }

    /// The lanes from which nothing is claimed until a person opens them.
    pub async fn lanes_stopped(&self) -> Result<Vec<StoppedLane>, StoreError> {
        self.engine.read(lanes::stopped).await
    }

    /// What is on hold, longest first.
    pub async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.engine.read(hold::holds).await
    }

    /// Takes note of the folders of runs that are there. `Some`: the store does not know some of those runs, and no run
    /// gets one of their numbers. For the start of a daemon.
    pub async fn find_loss(&self, folders: Vec<RunId>, now: Timestamp) -> Result<Option<Loss>, StoreError> {
        self.engine.write(Rings::NONE, move |tx| loss::find(tx, &folders, now)).await
    }

    /// The last time that the store did not know runs of which there were folders.
    pub async fn last_loss(&self) -> Result<Option<Loss>, StoreError> {
        self.engine.read(loss::last).await
    }

    /// How much there is to do.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.engine.read(history::counts).await
    }

    /// Whether the clock of the machine is believed about what is old, where the daemon has run for this long since it
    /// asked last.
    pub async fn believe(&self, now: Timestamp, ran: Duration) -> Result<Belief, StoreError> {
        self.engine.write(Rings::NONE, move |tx| belief::judge(tx, now, ran)).await
    }

    /// One small step of retention; call again while there is [`Pruned::more`]. `old`: what is too old, if the clock is
    /// believed about that.
    pub async fn prune(&self, keep_runs: u64, old: Option<TooOld>, now: Timestamp) -> Result<Pruned, StoreError> {
        self.engine.write(Rings::NONE, move |tx| prune::prune(tx, keep_runs, old, now)).await
    }

    /// The folders of these runs are gone from disk.
    pub async fn folders_removed(&self, runs: Vec<RunId>) -> Result<(), StoreError> {
        self.engine.write(Rings::NONE, move |tx| prune::folders_removed(tx, &runs)).await
    }
}
