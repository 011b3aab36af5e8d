//! What becomes of a delivery: one run of each hook that wants it, and a reason for each that runs nothing.

use landfall::{
    forge::DedupeKey,
    model::{
        job::Job,
        run::{Mood, Outcome},
    },
};

use super::{Diary, Event, Law, lanes::takes_place_of};
use crate::{
    acts::{Delivery, OLD_WINDOW},
    view::Run,
};

/// P3.
pub const ONE_RUN_OF_A_DELIVERY: Law =
    Law { name: "a hook runs a delivery once, unless what came of it ended badly", judge: one_run };

/// The other half of it: nothing is taken for a duplicate that is none.
pub const EVERY_HOOK_HAS_ITS_RUN_OR_ITS_REASON: Law = Law {
    name: "of a delivery each hook that wants it has a new run, an earlier one, one of a newer push, or a commit that is held",
    judge: every_hook,
};

/// P15.
pub const REASONS_ARE_STORED: Law =
    Law { name: "what deploys nothing has its reason stored, by hook", judge: reasons_are_stored };

fn one_run(diary: &Diary, event: &Event) -> Result<(), String> {
    for (number, delivery) in event.stored() {
        for (run, hook) in runs_made(event, number) {
            if let Some(earlier) = standing(diary, event, number, delivery, hook).into_iter().find(|it| *it != run) {
                return Err(format!("delivery {number} made run {run} of {hook}, and run {earlier} stands for it"));
            }
        }
    }
    Ok(())
}

fn every_hook(diary: &Diary, event: &Event) -> Result<(), String> {
    for (number, delivery) in event.stored() {
        let made: Vec<_> = runs_made(event, number).collect();
        for job in delivery.jobs() {
            let hook = job.hook.name.as_str();
            let own: Vec<_> = made.iter().filter(|(_, of)| *of == hook).map(|(run, _)| *run).collect();
            let commit = job.target.commit().map(ToString::to_string).unwrap_or_default();
            let is_held = event.before.facts.hooks[hook].bad_commits.contains_key(&commit);
            match own.as_slice() {
                [run] if event.after.facts.runs[run].commit.as_deref() == Some(&commit) => (),
                [] if is_held || !standing(diary, event, number, delivery, hook).is_empty() => (),
                [] if is_needless(diary, event, number, delivery, job) => (),
                other => return Err(format!("delivery {number} made {other:?} of {hook}, which wants {commit}")),
            }
        }
        let wanted: Vec<_> = delivery.jobs().map(|it| it.hook.name.to_string()).collect();
        if let Some((run, hook)) = made.iter().find(|(_, hook)| !wanted.iter().any(|it| it == hook)) {
            return Err(format!("delivery {number} made run {run} of {hook}, which does not want it"));
        }
    }
    Ok(())
}

fn reasons_are_stored(_: &Diary, event: &Event) -> Result<(), String> {
    for (number, delivery) in event.stored() {
        let stored = &event.after.facts.deliveries[&number];
        let made: Vec<_> = runs_made(event, number).map(|(_, hook)| hook).collect();
        let idle = delivery.jobs().map(|it| &it.hook.name).filter(|it| !made.contains(&it.as_str()));
        let mut idle = idle.chain(delivery.refused.iter().map(|(hook, _)| hook));
        if stored.message.trim().is_empty() {
            return Err(format!("delivery {number} has no reason"));
        }
        if let Some(hook) = idle.find(|it| !stored.message.contains(it.as_str())) {
            return Err(format!("delivery {number} says nothing of {hook}: {}", stored.message));
        }
    }
    for (run, _, after) in event.ended() {
        let outcome = after.outcome().expect("the outcome of a run that ended");
        let says_why = outcome.reason().is_some_and(|it| !it.trim().is_empty());
        if *outcome != Outcome::Succeeded && !says_why {
            return Err(format!("run {run} ended as {outcome:?}"));
        }
    }
    Ok(())
}

fn runs_made(event: &Event, delivery: i64) -> impl Iterator<Item = (i64, &str)> {
    event.new_runs().filter(move |(_, it)| it.delivery == Some(delivery)).map(|(run, it)| (run, it.hook.as_str()))
}

/// The runs of a hook that stand for a delivery by what earlier ones with a key of it made.
fn standing(diary: &Diary, event: &Event, number: i64, delivery: &Delivery, hook: &str) -> Vec<i64> {
    let (facts, received_at) = (&event.after.facts, event.at);
    let mut standing = Vec::new();
    let earlier = facts.deliveries.range(..number).filter(|(_, it)| it.word == "queued");
    for (earlier, stored) in earlier {
        let same_act = event.stored().find(|(number, _)| number == earlier).map(|(_, it)| it);
        let Some(sent) = diary.sent.get(&stored.event).or(same_act) else { continue };
        let age = received_at.duration_since(stored.received_at);
        let is_recent =
            age.unsigned_abs() <= OLD_WINDOW && !is_overtaken(diary, event, (*earlier, number), delivery, hook);
        if !is_same(&sent.keys, &delivery.keys, is_recent) {
            continue;
        }
        let made = stored.runs.iter().filter(|it| facts.runs[it].hook == hook);
        standing.extend(made.filter_map(|run| newest(event, *run, number)));
    }
    standing
}

/// Whether between two deliveries another one of that ref, known by its body alone, was queued for the hook.
fn is_overtaken(diary: &Diary, event: &Event, (earlier, number): (i64, i64), delivery: &Delivery, hook: &str) -> bool {
    let facts = &event.after.facts;
    let ref_of = |job: &Job| job.target.ref_name().cloned();
    let wanted = delivery.jobs().find(|it| it.hook.name.as_str() == hook).and_then(ref_of);
    let between = facts.deliveries.range(earlier + 1..number).filter(|(_, it)| it.word == "queued");
    let mut between = between.filter(|(between, it)| {
        let same_act = event.stored().find(|(number, _)| number == *between).map(|(_, it)| it);
        let sent = diary.sent.get(&it.event).or(same_act);
        sent.is_some_and(|it| it.keys.iter().any(|key| matches!(key, DedupeKey::BodyWithin(..))))
    });
    between.any(|(between, it)| {
        let made = it.runs.iter().filter(|run| facts.runs[run].hook == hook);
        made.into_iter()
            .any(|run| facts.runs[run].delivery == Some(*between) && ref_of(&event.after.jobs[run]) == wanted)
    })
}

/// Whether a delivery that came before, and in vain, is not queued again: it was four times, or a run of a newer push
/// that takes its place has not ended.
fn is_needless(diary: &Diary, event: &Event, number: i64, delivery: &Delivery, job: &Job) -> bool {
    let (facts, hook) = (&event.after.facts, job.hook.name.as_str());
    let earlier = facts.deliveries.range(..number).filter(|(_, it)| it.word == "queued");
    let made: Vec<i64> = earlier
        .filter(|(_, it)| diary.sent.get(&it.event).is_some_and(|sent| is_same(&sent.keys, &delivery.keys, true)))
        .flat_map(|(_, it)| it.runs.iter().copied().filter(|run| facts.runs[run].hook == hook))
        .collect();
    let Some(first) = made.iter().map(|it| diary.origin(*it)).min() else { return false };
    let unfinished = facts.runs.iter().filter(|(_, it)| it.outcome().is_none());
    let mut newer = unfinished.filter(|(run, _)| diary.origin(**run) > first);
    made.len() >= 4 || newer.any(|(run, _)| takes_place_of(event, *run, job))
}

fn is_same(one: &[DedupeKey], other: &[DedupeKey], is_recent: bool) -> bool {
    one.iter().any(|key| match key {
        DedupeKey::Id(_) | DedupeKey::Body(_) => other.contains(key),
        DedupeKey::Named(_) => false,
        DedupeKey::BodyWithin(..) => is_recent && other.contains(key),
    })
}

/// The last of those that repeat a run, the new ones of a delivery left out, unless it ended badly.
fn newest(event: &Event, run: i64, delivery: i64) -> Option<i64> {
    let runs = &event.after.facts.runs;
    let is_older = |it: &Run| it.delivery != Some(delivery);
    let mut newest = run;
    while let Some(next) = runs[&newest].repeated_by.filter(|it| is_older(&runs[it])) {
        newest = next;
    }
    let is_in_vain = |it: &Outcome| it.mood() == Mood::Bad || matches!(it, Outcome::Cancelled { .. });
    (!runs[&newest].outcome().is_some_and(is_in_vain)).then_some(newest)
}
