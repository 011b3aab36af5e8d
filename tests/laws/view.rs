//! All that a store shows of itself, at one moment, in a form that can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use jiff::Timestamp;
use landfall::{
    model::{job::Job, name::HookName, run::RunId},
    store::{Counts, DeliveryFilter, Hold, LetterState, RunFilter, RunState, Stop, Store},
};

use crate::cast::HOOKS;

/// More than a script makes of anything.
const PAGE: u32 = 10_000;

/// What a store shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What can be compared.
    pub facts: Facts,
    /// The jobs of the runs, which never change.
    pub jobs: BTreeMap<i64, Job>,
}

/// The part of it that says everything but the jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub runs: BTreeMap<i64, Run>,
    pub letters: BTreeMap<i64, Letter>,
    pub deliveries: BTreeMap<i64, Received>,
    pub hooks: BTreeMap<String, Glance>,
    /// By hook; `None`: of everything.
    pub holds: BTreeMap<Option<String>, Hold>,
    /// Why each stopped lane is, and since when.
    pub stopped: BTreeMap<String, (String, Timestamp)>,
    pub stops: BTreeMap<i64, Stop>,
    pub counts: Counts,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub hook: String,
    pub lane: String,
    pub state: RunState,
    pub commit: Option<String>,
    pub delivery: Option<i64>,
    pub attempt: u32,
    pub retry_of: Option<i64>,
    pub repeated_by: Option<i64>,
    pub fence: Option<i64>,
    pub supersedes: Vec<i64>,
    pub fields: Vec<(String, String)>,
    pub has_folder: bool,
    pub created_at: Timestamp,
}

impl Run {
    /// Whether somebody has it in hand.
    pub fn is_in_hand(&self) -> bool {
        match self.state {
            RunState::Queued { .. } => self.fence.is_some(),
            RunState::Running { .. } => true,
            RunState::Finished { .. } => false,
        }
    }

    /// Whether it is in the line.
    pub fn waits(&self) -> bool {
        match self.state {
            RunState::Queued { .. } => self.fence.is_none(),
            RunState::Running { .. } | RunState::Finished { .. } => false,
        }
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&landfall::model::run::Outcome> {
        match &self.state {
            RunState::Finished { outcome, .. } => Some(outcome),
            RunState::Queued { .. } | RunState::Running { .. } => None,
        }
    }
}

/// A letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub run: i64,
    pub occasion: &'static str,
    pub address: String,
    pub attempts: u32,
    pub state: LetterState,
}

/// A delivery, as it was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub event: String,
    pub received_at: Timestamp,
    pub word: String,
    /// The sentence; a model has none.
    pub message: String,
    pub body: String,
    pub runs: Vec<i64>,
}

/// A hook at a glance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glance {
    pub live: Option<String>,
    pub last: Option<i64>,
    pub active: Option<i64>,
    pub waiting: u64,
    /// The run that found out, by commit.
    pub bad_commits: BTreeMap<String, i64>,
}

impl View {
    /// Looks at everything. Of runs that are as they were in `known`, letters and glances are taken from there, unless
    /// they are `touched`: reads are what takes the time of this suite.
    pub async fn of(store: &Store, known: Option<&View>, touched: &[i64]) -> Self {
        let mut view = Self::default();
        let (facts, mut changed) = (&mut view.facts, BTreeSet::new());
        let all = RunFilter { hook: None, stage: None, before: None, limit: PAGE };
        for run in store.runs(all).await.expect("runs") {
            let id = run.id.0;
            let shown = Run {
                hook: run.hook.to_string(),
                lane: run.lane.to_string(),
                state: run.state,
                commit: run.commit.map(|it| it.to_string()),
                delivery: run.delivery.map(|it| it.0),
                attempt: run.job.attempt,
                retry_of: run.job.retry_of.map(|it| it.0),
                repeated_by: run.repeated_by.map(|it| it.0),
                fence: run.fence,
                supersedes: run.supersedes.iter().map(|it| it.0).collect(),
                fields: run.fields,
                has_folder: run.has_folder,
                created_at: run.created_at,
            };
            let is_as_known = |it: &&View| !touched.contains(&id) && it.facts.runs.get(&id) == Some(&shown);
            match known.filter(is_as_known) {
                Some(known) => {
                    let letters = known.facts.letters.iter().filter(|(_, it)| it.run == id);
                    facts.letters.extend(letters.map(|(letter, it)| (*letter, it.clone())));
                }
                None => {
                    changed.insert(shown.hook.clone());
                    facts.letters.extend(letters_of(store, run.id).await);
                }
            }
            facts.runs.insert(id, shown);
            view.jobs.insert(id, run.job);
        }
        facts.deliveries = deliveries(store, known).await;
        for name in HOOKS {
            let as_known = known.filter(|_| !changed.contains(name)).and_then(|it| it.facts.hooks.get(name).cloned());
            let glance = match as_known {
                Some(glance) => glance,
                None => glance(store, name).await,
            };
            facts.hooks.insert(name.into(), glance);
        }
        let holds = store.holds().await.expect("holds");
        facts.holds = holds.into_iter().map(|it| (it.hook.as_ref().map(HookName::to_string), it)).collect();
        let stopped = store.lanes_stopped().await.expect("lanes");
        facts.stopped = stopped.into_iter().map(|it| (it.lane.to_string(), (it.reason, it.since))).collect();
        let stops = store.stops_asked().await.expect("stops");
        facts.stops = stops.into_iter().map(|(run, stop)| (run.0, stop)).collect();
        facts.counts = store.counts().await.expect("counts");
        view
    }
}

impl Facts {
    /// The same, with what is over by now left out: a time that has come is no wait.
    pub fn as_of(&self, now: Timestamp) -> Self {
        let mut facts = self.clone();
        for run in facts.runs.values_mut() {
            if let RunState::Queued { not_before, .. } = &mut run.state {
                *not_before = not_before.filter(|it| *it > now);
            }
        }
        facts
    }

    /// The same without the sentences about deliveries, which a model does not write.
    pub fn without_messages(&self) -> Self {
        let mut facts = self.clone();
        facts.deliveries.values_mut().for_each(|it| it.message.clear());
        facts
    }

    /// What differs, a line each: what it is, here, and there.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare("run", &self.runs, &other.runs, &mut found);
        compare("letter", &self.letters, &other.letters, &mut found);
        compare("delivery", &self.deliveries, &other.deliveries, &mut found);
        compare("hook", &self.hooks, &other.hooks, &mut found);
        compare("hold", &self.holds, &other.holds, &mut found);
        compare("stopped lane", &self.stopped, &other.stopped, &mut found);
        compare("stop of run", &self.stops, &other.stops, &mut found);
        if self.counts != other.counts {
            found.push(format!("counts: {:?}\n     and not {:?}", self.counts, other.counts));
        }
        found
    }
}

fn compare<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    here: &BTreeMap<K, V>,
    there: &BTreeMap<K, V>,
    found: &mut Vec<String>,
) {
    let keys: BTreeSet<_> = here.keys().chain(there.keys()).collect();
    for key in keys {
        let (one, other) = (here.get(key), there.get(key));
        if one != other {
            let text = |it: Option<&V>| it.map_or("nothing".to_owned(), |it| format!("{it:?}"));
            found.push(format!("{what} {key:?}: {}\n     and not {}", text(one), text(other)));
        }
    }
}

async fn letters_of(store: &Store, run: RunId) -> Vec<(i64, Letter)> {
    let letters = store.letters_of(run).await.expect("letters").into_iter().map(|it| {
        let letter = Letter {
            run: run.0,
            occasion: it.occasion.word(),
            address: it.address.to_string(),
            attempts: it.attempts,
            state: it.state,
        };
        (it.id.0, letter)
    });
    letters.collect()
}

/// A delivery never changes; its body is read once.
async fn deliveries(store: &Store, known: Option<&View>) -> BTreeMap<i64, Received> {
    let all = DeliveryFilter { path: None, before: None, limit: PAGE };
    let mut deliveries = BTreeMap::new();
    for it in store.deliveries(all).await.expect("deliveries") {
        let body = match known.and_then(|known| known.facts.deliveries.get(&it.id.0)) {
            Some(known) => known.body.clone(),
            None => {
                let body = store.payload(it.id).await.expect("a body").unwrap_or_default();
                String::from_utf8_lossy(&body).into_owned()
            }
        };
        let received = Received {
            event: it.event.unwrap_or_default(),
            received_at: it.received_at,
            word: it.result,
            message: it.message,
            body,
            runs: it.runs.iter().map(|(run, _)| run.0).collect(),
        };
        deliveries.insert(it.id.0, received);
    }
    deliveries
}

async fn glance(store: &Store, name: &str) -> Glance {
    let name = HookName::parse(name).expect("a name");
    let summary = store.hook_summary(&name).await.expect("a summary");
    Glance {
        live: summary.live.map(|it| it.to_string()),
        last: summary.last.map(|it| it.id().0),
        active: summary.active.map(|it| it.id().0),
        waiting: summary.waiting,
        bad_commits: summary.bad_commits.iter().map(|it| (it.commit.to_string(), it.run.0)).collect(),
    }
}
