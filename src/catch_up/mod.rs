//! Finds pushes that no delivery brought: asks remotes at the start of the daemon, and as often as hooks say.
//!
//! A forge sends a delivery once, or a few times within minutes. What it sent while nobody listened is lost but for the
//! remote itself, which still has the commit.
//!
//! Invariant: what is queued here is what a remote had after the newest accepted push of its ref had been looked up, and no
//! later push of it was accepted meanwhile.

mod ask;

mod group;

mod timetable;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::{
    group::Group,
    timetable::{Ended, Timetable},
};
use crate::{
    hooks::{Environment, Hooks},
    model::{baseline::Known, hook::Hook, name::HookName, push::RefName},
    route::{self, Comparison},
    store::{CaughtUp, RemoteLook, Store, StoreError},
};

/// Remotes that are asked at once.
const AT_ONCE: usize = 4;

/// So often a remote is asked again at once, because a push was accepted while it answered.
const TRIES: u32 = 3;

/// The wait before that.
const AFTER_A_PUSH: Duration = Duration::from_secs(1);

/// The wait where nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Why the remotes of hooks cannot be asked, for those who look.
pub type Troubles = BTreeMap<HookName, String>;

/// What looking needs to know of the house.
#[derive(Clone)]
pub struct Lookout {
    /// What survives a restart.
    pub store: Store,
    /// The hooks of now.
    pub hooks: watch::Receiver<Arc<Hooks>>,
    /// Where secrets are found.
    pub environment: Arc<Environment>,
    /// What cannot be asked is shown here.
    pub troubles: watch::Sender<Troubles>,
}

/// Looks until `stop`.
pub async fn serve(lookout: Lookout, stop: CancellationToken) {
    let (ends, mut ended) = mpsc::channel(64);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let (mut under_way, mut timetable) = (JoinSet::new(), Timetable::default());
    let mut hooks = lookout.hooks.clone();
    while !stop.is_cancelled() {
        let now = Instant::now();
        let current = hooks.borrow_and_update().clone();
        timetable.follow(&current, now);
        forget_others(&lookout.troubles, &current);
        let due: Vec<Arc<Hook>> = timetable.take_due(now).iter().filter_map(|it| current.hook(it)).cloned().collect();
        if !due.is_empty() {
            under_way.spawn(look_at_all(lookout.clone(), permits.clone(), due, ends.clone()));
        }
        let next = timetable.next().unwrap_or(now + IDLE);
        tokio::select! {
            Some(it) = ended.recv() => note(&lookout, &mut timetable, it),
            Some(done) = under_way.join_next() => if let Err(err) = done {
                error!("looking at remotes panicked: {err}");
                timetable.free_all(Instant::now());
            },
            changed = hooks.changed() => if changed.is_err() { break },
            () = sleep_until(next) => (),
            () = stop.cancelled() => (),
        }
    }
    under_way.shutdown().await;
}

/// What cannot be asked is told once per streak, and again when it can.
fn note(lookout: &Lookout, timetable: &mut Timetable, ended: Ended) {
    let names: Vec<String> = ended.hooks.iter().map(|it| format!("`{it}`")).collect();
    let names = names.join(", ");
    let is_news = timetable.ended(&ended, Instant::now());
    match (&ended.trouble, is_news) {
        (Some(why), true) => warn!("cannot see whether {names} missed pushes, will try again: {why}"),
        (Some(why), false) => debug!("cannot see whether {names} missed pushes: {why}"),
        (None, true) => info!("the remote of {names} can be asked again"),
        (None, false) => (),
    }
    lookout.troubles.send_if_modified(|troubles| {
        let before = troubles.clone();
        for hook in ended.hooks {
            match &ended.trouble {
                Some(why) => drop(troubles.insert(hook, why.clone())),
                None => drop(troubles.remove(&hook)),
            }
        }
        *troubles != before
    });
}

/// Hooks that are gone have no trouble.
fn forget_others(troubles: &watch::Sender<Troubles>, hooks: &Hooks) {
    troubles.send_if_modified(|troubles| {
        let before = troubles.len();
        troubles.retain(|name, _| hooks.hook(name).is_some());
        troubles.len() != before
    });
}

/// Looks at the remotes of these hooks, each once.
async fn look_at_all(lookout: Lookout, permits: Arc<Semaphore>, hooks: Vec<Arc<Hook>>, ends: mpsc::Sender<Ended>) {
    // Whose folders these are is asked of the disk.
    let grouped = spawn_blocking(move || group::of(hooks)).await;
    let (groups, refused) = grouped.unwrap_or_default();
    let mut under_way = JoinSet::new();
    for group in groups {
        let (lookout, permits, ends) = (lookout.clone(), permits.clone(), ends.clone());
        under_way.spawn(async move {
            let looked = look_at(&lookout, &permits, &group).await;
            let (is_settled, trouble) = (looked == Ok(true), looked.err());
            let hooks = group.hooks.iter().map(|it| it.name.clone()).collect();
            // Nobody hears it while the daemon stops.
            let _ = ends.send(Ended { hooks, trouble, is_settled }).await;
        });
    }
    for (hook, why) in refused {
        let _ = ends.send(Ended { hooks: vec![hook], trouble: Some(why), is_settled: false }).await;
    }
    while under_way.join_next().await.is_some() {}
}

/// Looks at one remote for all of its hooks. Whether nothing is left to be decided; the error is a clause for people.
async fn look_at(lookout: &Lookout, permits: &Semaphore, group: &Group) -> Result<bool, String> {
    for _ in 0..TRIES {
        let mut known = Vec::new();
        for hook in &group.hooks {
            let found = lookout.store.known_refs(&hook.name, &hook.repo, &group::looked_for(hook)).await;
            known.push((hook, found.map_err(|err| unknown(&err))?));
        }
        // What was never pushed to is not caught up with, so nobody need ask for it.
        known.retain(|(hook, known)| !known.accepted.is_empty() || hook.is_open());
        if known.is_empty() {
            return Ok(true);
        }
        let there = {
            let _permit = permits.acquire().await.map_err(|err| err.to_string())?;
            ask::ask(lookout, group, known.iter().map(|(hook, _)| *hook)).await?
        };
        let (mut is_overtaken, mut is_settled) = (false, true);
        for (hook, known) in known {
            let comparison = route::compare(hook, &there, &known);
            is_settled &= !comparison.is_undecided;
            is_overtaken |= catch_up(lookout, hook, comparison, &known).await.map_err(|err| unknown(&err))?;
        }
        if !is_overtaken {
            return Ok(is_settled);
        }
        sleep(AFTER_A_PUSH).await;
    }
    // Pushes come in all the time.
    Ok(false)
}

fn unknown(err: &StoreError) -> String {
    format!("what was accepted cannot be looked up: {err}")
}

/// Queues what a hook has missed. Whether a push came in between, so that the remote has to be asked again.
async fn catch_up(
    lookout: &Lookout,
    hook: &Arc<Hook>,
    comparison: Comparison,
    known: &Known,
) -> Result<bool, StoreError> {
    let Comparison { missed, seen, is_undecided: _ } = comparison;
    let before: Vec<_> = missed.iter().map(|it| known.accepted.get(&it.found.name).cloned()).collect();
    let looked_for = group::looked_for(hook);
    let look = RemoteLook { hook: hook.name.clone(), repo: hook.repo.clone(), looked_for, seen, missed };
    let done = lookout.store.catch_up(look, Timestamp::now()).await?;
    let mut is_overtaken = false;
    for (it, before) in done.into_iter().zip(before) {
        match it {
            CaughtUp::Queued { found, run } => {
                let newest = match before {
                    Some(it) => {
                        format!("the newest push that was accepted, as run {}, brought {}", it.run, it.commit.short())
                    }
                    None => "no push of it was ever accepted".to_owned(),
                };
                info!(run.id = %run, hook.name = %hook.name,
                    "run {run} of {} catches up: its remote has {} {} at {}, and {newest}",
                    hook.name, kind(&found.name), found.name.short(), found.commit.short());
            }
            CaughtUp::Overtaken { .. } => is_overtaken = true,
            CaughtUp::Held { why } => debug!(hook.name = %hook.name, "{}: {why}", hook.name),
        }
    }
    Ok(is_overtaken)
}

fn kind(name: &RefName) -> &'static str {
    match name {
        RefName::Branch(_) => "branch",
        RefName::Tag(_) => "tag",
    }
}
