//! Laws of deliveries: acknowledged is stored, and the same push makes the same run.
//!
//! Invariant: a delivery of which nobody knows what became may be stored or not, but never twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, INVENTED, ONE_RUN, SAME_ANSWER, STORED, TAKEN, Violation, broken, named, runs::line_of};
use crate::{history::Event, record::Run};

/// One request of a sender.
struct Request<'a> {
    at: usize,
    id: &'a str,
    path: &'a str,
    repo: &'a str,
    sha: &'a str,
}

pub fn judge(case: &Case) -> Vec<Violation> {
    let requests = requests(case);
    let mut found = answers(case, &requests);
    found.extend(one_run_each(case, &requests));
    found
}

fn requests<'a>(case: &'a Case) -> BTreeMap<u64, Request<'a>> {
    let request = |(at, event): (usize, &'a Event)| {
        let Event::Sent { turn, id, path, repo, sha, .. } = event else { return None };
        Some((*turn, Request { at, id, path, repo, sha }))
    };
    case.events().filter_map(request).collect()
}

fn answers(case: &Case, requests: &BTreeMap<u64, Request>) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut made, mut stored) = (BTreeMap::new(), BTreeSet::new());
    for delivery in &case.record.deliveries {
        let id = delivery.delivery_id.as_deref().unwrap_or_default();
        stored.insert((id, delivery.path.as_str(), &delivery.result, BTreeSet::from_iter(&delivery.runs)));
    }
    for (at, event) in case.events() {
        let Event::Answered { turn, status, result, runs } = event else { continue };
        let request = &requests[turn];
        let shown = [request.at, at];
        match (status, result.as_str()) {
            (202, "queued") | (200, "duplicate") => (),
            (503, _) => continue,
            _ => {
                found.push(broken(TAKEN, format!("delivery {} was answered {status} {result}", request.id), &shown));
                continue;
            }
        }
        if !stored.contains(&(request.id, request.path, result, BTreeSet::from_iter(runs))) {
            let what = format!("delivery {} was answered {status} {result}, and is not stored as such", request.id);
            found.push(broken(STORED, what, &shown));
        }
        for run in runs {
            found.extend(answered_run(case, request, (*run, result == "duplicate"), &shown));
            if result == "queued"
                && let Some(earlier) = made.insert(*run, request.at)
            {
                let what = format!("run {run} was told to two senders as newly queued");
                found.push(broken(ONE_RUN, what, &[earlier, request.at, at]));
            }
        }
        for rule in case.rules.iter().filter(|it| it.is_started_by(request.path, request.repo)) {
            if made_by(case, rule.name, request.sha).is_empty() {
                let what =
                    format!("delivery {} was answered {status}, and hook {} has no run of it", request.id, rule.name);
                found.push(broken(STORED, what, &shown));
            }
        }
    }
    found
}

/// A run that a sender was told of is there, and is of its push.
fn answered_run(
    case: &Case,
    request: &Request,
    (run, is_duplicate): (i64, bool),
    shown: &[usize],
) -> Option<Violation> {
    let Some(view) = case.record.run(run) else {
        return Some(broken(STORED, format!("run {run} was told to a sender and is not there"), shown));
    };
    let is_hooks = case.rule(&view.hook).is_some_and(|it| it.is_started_by(request.path, request.repo));
    let is_pushs = view.sha.as_deref() == Some(request.sha) || is_duplicate && stands_in(case, request, view);
    let law = if is_duplicate { SAME_ANSWER } else { STORED };
    let what = || format!("delivery {} of {} was answered with {}", request.id, request.sha, named(view));
    (!is_hooks || !is_pushs).then(|| broken(law, what(), shown))
}

/// Whether a run is of a newer push of the line, in whose favour a redelivery is left out.
fn stands_in(case: &Case, request: &Request, view: &Run) -> bool {
    let Some(rule) = case.rule(&view.hook) else { return false };
    let line = line_of(rule, view);
    let is_older = |it: &&Run| case.record.origin(it.id) < case.record.origin(view.id) && line_of(rule, it) == line;
    line.is_some() && made_by(case, rule.name, request.sha).iter().any(is_older)
}

/// The runs that deliveries of a push made of a hook, oldest first; retries are not among them.
fn made_by<'a>(case: &'a Case, hook: &str, sha: &str) -> Vec<&'a Run> {
    let is_made = |it: &&Run| it.retry_of.is_none() && it.hook == hook && it.sha.as_deref() == Some(sha);
    case.record.runs.iter().filter(is_made).collect()
}

fn one_run_each(case: &Case, requests: &BTreeMap<u64, Request>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut pushes: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for request in requests.values() {
        for rule in case.rules.iter().filter(|it| it.is_started_by(request.path, request.repo)) {
            pushes.entry((rule.name, request.sha)).or_default().push(request.at);
        }
    }
    for run in &case.record.runs {
        if !pushes.contains_key(&(run.hook.as_str(), run.sha.as_deref().unwrap_or_default())) {
            found.push(broken(INVENTED, format!("{} is of no push that was sent", named(run)), &case.begins(run.id)));
        }
    }
    for ((hook, sha), sent) in pushes {
        for pair in made_by(case, hook, sha).windows(2) {
            let last = *case.record.attempts(pair[0].id).last().expect("the run itself");
            let is_over_before = last.finished_at.as_ref().is_some_and(|it| *it <= pair[1].created_at);
            // Once another push of the ref was taken, what a remote offers is deployed again, and so is a late delivery of
            // what a remote had offered: nobody can tell it from a push back.
            let is_between = |it: &Run| it.hook == hook && pair[0].id < it.id && it.id < pair[1].id;
            let is_caught_up = pair.iter().any(|it| it.is_caught_up());
            let is_offered_again = is_caught_up && case.record.runs.iter().any(is_between);
            if (!last.was_in_vain() || !is_over_before) && !is_offered_again {
                let what = format!("{} and {} are of the same push {sha}", named(last), named(pair[1]));
                found.push(broken(ONE_RUN, what, &sent));
            }
        }
    }
    found
}
