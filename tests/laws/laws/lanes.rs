//! How lanes go on: one at a time, in order, past no one, and not while they are on hold.

use landfall::{
    model::{deploy::Strategy, hook::QueuePolicy, job::Job, push::RefName, run::Outcome},
    store::RunState,
};

use super::{Diary, Event, Law};
use crate::{
    acts::{Act, Answer},
    view::{Facts, Run},
};

/// P4.
pub const ONE_IN_HAND: Law = Law { name: "of a lane at most one run is in hand", judge: one_in_hand };

/// P4.
pub const IN_ORDER: Law =
    Law { name: "a lane goes in the order of acceptance, past nobody but jobs on hold", judge: in_order };

/// P4.
pub const SUPERSEDED_BY_NEWER: Law =
    Law { name: "a run gives way only to a newer one of its hook, which names it", judge: superseded_by_newer };

/// A hold holds, and does nothing else.
pub const HOLDS_HOLD: Law = Law { name: "a hold keeps jobs waiting and changes nothing else", judge: holds_hold };

/// What priorities are worth.
pub const NOBODY_IS_PASSED_OVER: Law = Law {
    name: "a free lane is passed over only by one that has waited longer, a minute for a point of priority",
    judge: nobody_is_passed_over,
};

fn one_in_hand(_: &Diary, event: &Event) -> Result<(), String> {
    let in_hand: Vec<_> = event.after.facts.runs.iter().filter(|(_, it)| it.is_in_hand()).collect();
    for (index, (run, one)) in in_hand.iter().enumerate() {
        if let Some((other, _)) = in_hand[index + 1..].iter().find(|(_, it)| it.lane == one.lane) {
            return Err(format!("runs {run} and {other} of lane {} are", one.lane));
        }
    }
    Ok(())
}

fn in_order(diary: &Diary, event: &Event) -> Result<(), String> {
    let Some(right) = event.claimed() else { return Ok(()) };
    let claimed = &event.before.facts.runs[&right.run];
    if !claimed.waits() || claimed.lane != right.lane || event.before.facts.stopped.contains_key(&right.lane) {
        return Err(format!("run {} of lane {} was claimed as {claimed:?}", right.run, right.lane));
    }
    if let RunState::Queued { not_before: Some(at), .. } = &claimed.state
        && *at > event.at
    {
        return Err(format!("run {} was to wait until {at}", right.run));
    }
    let own = diary.place(right.run);
    let earlier = line(event, &right.lane).find(|(run, _)| diary.place(*run) < own);
    earlier.map_or(Ok(()), |(run, _)| Err(format!("run {} was claimed before run {run}", right.run)))
}

fn superseded_by_newer(diary: &Diary, event: &Event) -> Result<(), String> {
    for (run, before, after) in event.ended() {
        let Some(Outcome::Superseded { by }) = after.outcome() else { continue };
        let newer =
            event.after.facts.runs.get(&by.0).ok_or_else(|| format!("run {run} names run {by}, and it is not"))?;
        if by.0 <= run || newer.hook != after.hook || !newer.supersedes.contains(&run) {
            return Err(format!("run {run} gave way to run {by}: {newer:?}"));
        }
        if before.waits() && (event.before.facts.runs.contains_key(&by.0) || !takes_place(event, by.0, run)) {
            return Err(format!("run {run} waited, and run {by} does not take its place"));
        }
    }
    // And whose place is taken is not left waiting.
    let waiting: Vec<_> = event.after.facts.runs.iter().filter(|(_, it)| it.waits()).map(|(run, _)| *run).collect();
    for newer in &waiting {
        let older = |it: &&i64| diary.origin(**it) < diary.origin(*newer) && takes_place(event, *newer, **it);
        if let Some(older) = waiting.iter().find(older) {
            return Err(format!("runs {older} and {newer} both wait"));
        }
    }
    Ok(())
}

fn holds_hold(_: &Diary, event: &Event) -> Result<(), String> {
    if let Some(right) = event.claimed() {
        let hook = event.after.facts.runs[&right.run].hook.clone();
        let holds = event.before.facts.holds.iter().filter(|(of, _)| of.as_ref().is_none_or(|it| *it == hook));
        if let Some((_, hold)) = holds.into_iter().find(|(_, it)| it.until.is_none_or(|until| until > event.at)) {
            return Err(format!("run {} was claimed against {hold:?}", right.run));
        }
    }
    if matches!(event.act, Act::Hold(_) | Act::Resume(_)) {
        let bare = |facts: &Facts| {
            let mut runs = facts.runs.clone();
            for run in runs.values_mut() {
                if let RunState::Queued { not_before, hold, .. } = &mut run.state {
                    (*not_before, *hold) = (None, None);
                }
            }
            Facts { runs, holds: Default::default(), ..facts.clone() }
        };
        if !event.is_new_daemon() {
            return super::survival::unchanged(&bare(&event.before.facts), &bare(&event.after.facts));
        }
    }
    Ok(())
}

fn nobody_is_passed_over(diary: &Diary, event: &Event) -> Result<(), String> {
    let facts = &event.before.facts;
    let is_idle = matches!(event.answer, Answer::Idle(_));
    let claimed = event.claimed();
    if claimed.is_none() && !is_idle {
        return Ok(());
    }
    let everything = facts.holds.get(&None).is_some_and(|it| it.until.is_none_or(|until| until > event.at));
    let lanes: std::collections::BTreeSet<_> = facts.runs.values().map(|it| it.lane.as_str()).collect();
    for lane in lanes.into_iter().filter(|it| is_free(facts, it)) {
        let Some(head) = line(event, lane).min_by_key(|(run, _)| diary.place(*run)) else { continue };
        if everything || !may_go(head.1, event) {
            continue;
        }
        let Some(right) = &claimed else { return Err(format!("run {} could have been claimed", head.0)) };
        let (ours, theirs) = (urgency(diary, event, &right.lane).0, urgency(diary, event, lane).1);
        if ours > theirs {
            return Err(format!("run {} was claimed, and lane {lane} should have been served first", right.run));
        }
    }
    Ok(())
}

/// The waiting runs of a lane that are not on hold.
fn line<'a>(event: &'a Event, lane: &str) -> impl Iterator<Item = (i64, &'a Run)> {
    let (facts, at, lane) = (&event.before.facts, event.at, lane.to_owned());
    let is_held = move |run: &Run| {
        let hold = facts.holds.get(&Some(run.hook.clone()));
        hold.is_some_and(|it| it.until.is_none_or(|until| until > at))
    };
    let waiting = facts.runs.iter().filter(move |(_, it)| it.lane == lane && it.waits());
    waiting.filter(move |(_, it)| !is_held(it)).map(|(run, it)| (*run, it))
}

fn is_free(facts: &Facts, lane: &str) -> bool {
    !facts.stopped.contains_key(lane) && !facts.runs.values().any(|it| it.lane == lane && it.is_in_hand())
}

/// Whether a head does not wait for a time. Behind a hold that has just run out nobody shows how long it waits.
fn may_go(head: &Run, event: &Event) -> bool {
    let interval =
        event.before.jobs.values().any(|it| it.hook.lane.as_str() == head.lane && !it.hook.min_interval.is_zero());
    match &head.state {
        RunState::Queued { not_before, hold, .. } => {
            not_before.is_none_or(|it| it <= event.at) && !(interval && hold.is_some())
        }
        RunState::Running { .. } | RunState::Finished { .. } => false,
    }
}

/// Since when the most urgent job of a lane counts as waiting, in milliseconds: at the earliest, and at the latest.
fn urgency(diary: &Diary, event: &Event, lane: &str) -> (i64, i64) {
    let of_run = |(run, _): (i64, &Run)| {
        let turn = diary.turns[&run];
        let counted = |points: i8| turn.since.as_millisecond() - i64::from(points) * 60_000;
        (counted(turn.priority.1), counted(turn.priority.0))
    };
    let all: Vec<_> = line(event, lane).map(of_run).collect();
    let earliest = |it: fn(&(i64, i64)) -> i64| all.iter().map(it).min().unwrap_or(i64::MAX);
    (earliest(|it| it.0), earliest(|it| it.1))
}

fn is_tag(ref_name: Option<&RefName>) -> bool {
    matches!(ref_name, Some(RefName::Tag(_)))
}

/// Whether a run takes the place of an older one of its hook that waits.
fn takes_place(event: &Event, newer: i64, older: i64) -> bool {
    takes_place_of(event, newer, &event.after.jobs[&older])
}

/// Whether a run takes the place of an older one with this job.
pub(super) fn takes_place_of(event: &Event, newer: i64, older: &Job) -> bool {
    let is_push = event.after.facts.runs[&newer].delivery.is_some();
    let newer = &event.after.jobs[&newer];
    let has_one_path = match newer.hook.deploy.strategy {
        Strategy::InPlace { .. } | Strategy::Releases { .. } => true,
        Strategy::Checkout { .. } | Strategy::None { .. } => false,
    };
    is_push
        && newer.hook.name == older.hook.name
        && newer.hook.queue != QueuePolicy::All
        && (newer.target.ref_name() == older.target.ref_name()
            || has_one_path && !is_tag(newer.target.ref_name()) && !is_tag(older.target.ref_name()))
}
