//! Laws of lanes: one at a time, in order, under a rising fence.
//!
//! Invariant: who is alive is told by the lines that processes of a run write themselves, those that a script left
//! behind too; a run that was killed is alive as long as such lines come.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, FENCE, ORDER, OVERLAP, Violation, broken};
use crate::history::Event;

pub fn judge(case: &Case) -> Vec<Violation> {
    let mut found = Vec::new();
    for (lane, signs) in &lanes(case) {
        found.extend(overlaps(lane, signs));
        let begins: Vec<Sign> = signs.iter().filter(|it| it.is_begin).copied().collect();
        for pair in begins.windows(2) {
            found.extend(disorder(case, lane, pair[0], pair[1]));
        }
    }
    found
}

/// The first of these laws alone.
pub fn one_at_a_time(case: &Case) -> Vec<Violation> {
    lanes(case).iter().flat_map(|(lane, signs)| overlaps(lane, signs)).collect()
}

/// The signs of life in each lane.
fn lanes<'a>(case: &'a Case) -> BTreeMap<&'a str, Vec<Sign>> {
    let mut lanes: BTreeMap<&str, Vec<Sign>> = BTreeMap::new();
    for (at, event) in case.events() {
        if let Some((lane, run)) = sign_of_life(event) {
            let is_begin = matches!(event, Event::Begin { .. });
            lanes.entry(lane).or_default().push(Sign { at, run, is_begin });
        }
    }
    lanes
}

/// The lane and the run of which a process is alive that wrote this.
fn sign_of_life(event: &Event) -> Option<(&str, i64)> {
    if let Event::Begin { run, lane, .. }
    | Event::Beat { run, lane }
    | Event::Done { run, lane, .. }
    | Event::Finally { run, lane } = event
    {
        Some((lane, *run))
    } else {
        None
    }
}

/// A sign of life.
#[derive(Clone, Copy)]
struct Sign {
    at: usize,
    run: i64,
    is_begin: bool,
}

/// Of each run that lived on into the time of the next, the first such sign.
fn overlaps(lane: &str, signs: &[Sign]) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut over, mut reported) = (BTreeMap::new(), BTreeSet::new());
    let mut now: Option<Sign> = None;
    for sign in signs {
        if let Some(end) = over.get(&sign.run)
            && reported.insert(sign.run)
        {
            let what = format!("run {} is alive in lane {lane} though another has begun since", sign.run);
            found.push(broken(OVERLAP, what, &[*end, sign.at]));
        }
        if let Some(before) = now
            && before.run != sign.run
        {
            over.entry(before.run).or_insert(sign.at);
        }
        now = Some(*sign);
    }
    found
}

fn disorder(case: &Case, lane: &str, first: Sign, second: Sign) -> Vec<Violation> {
    let mut found = Vec::new();
    let shown = [first.at, second.at];
    let place = |it: Sign| (case.record.place(it.run), it.run);
    if place(first) >= place(second) {
        let what = format!("in lane {lane} run {} started before run {}", first.run, second.run);
        found.push(broken(ORDER, what, &shown));
    }
    let fence = |it: Sign| case.record.run(it.run).and_then(|it| it.fence);
    if fence(first).is_none() || fence(first) >= fence(second) {
        let (one, two) = (fence(first), fence(second));
        let what =
            format!("in lane {lane} run {} had fence {one:?}, and run {} after it {two:?}", first.run, second.run);
        found.push(broken(FENCE, what, &shown));
    }
    found
}
