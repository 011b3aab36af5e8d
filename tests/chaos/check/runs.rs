//! Laws of runs: each is carried out once at most, ends once, and ends as its script did.
//!
//! Invariant: a run whose script was killed may end in several ways, but only in one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Case, ENDED, LAST_PUSH, NEWEST, ONE_OUTCOME, RIGHT_TREE, STARTED_ONCE, SUCCESSOR, TRUE_OUTCOME, Violation, broken,
    named,
};
use crate::{
    history::Event,
    record::Run,
    rules::{Queue, Rule},
};

/// What the scripts of a run wrote.
#[derive(Default)]
struct Script<'a> {
    begins: Vec<usize>,
    tree: &'a str,
    done: Option<(usize, i32)>,
}

pub fn judge(case: &Case) -> Vec<Violation> {
    let scripts = scripts(case);
    let none = Script::default();
    let mut found = seen(case);
    for run in &case.record.runs {
        let script = scripts.get(&run.id).unwrap_or(&none);
        if run.state != "finished" || run.outcome.is_none() {
            found.push(broken(ENDED, format!("{} has not ended", named(run)), &script.begins));
        }
        if !script.begins.is_empty() && run.started_at.is_none() {
            let what = format!("{} is told to have never started, and its script ran", named(run));
            found.push(broken(TRUE_OUTCOME, what, &script.begins));
        }
        found.extend(as_the_script_did(case, run, script));
        found.extend(superseded(case, run));
    }
    for run in scripts.keys().filter(|it| case.record.run(**it).is_none()) {
        found.push(broken(
            TRUE_OUTCOME,
            format!("a script of run {run} ran, which is not there"),
            &scripts[run].begins,
        ));
    }
    found.extend(begun_once(case));
    found.extend(last_pushes(case));
    found.extend(newest_pushes(case, &scripts));
    found
}

/// A number is that of one run, which begins once, whatever the store remembers.
pub fn begun_once(case: &Case) -> Vec<Violation> {
    let again = scripts(case).into_iter().filter(|(_, it)| it.begins.len() > 1);
    again.map(|(run, it)| broken(STARTED_ONCE, format!("run {run} began again"), &it.begins)).collect()
}

fn scripts<'a>(case: &'a Case) -> BTreeMap<i64, Script<'a>> {
    let mut scripts: BTreeMap<i64, Script> = BTreeMap::new();
    for (at, event) in case.events() {
        if let Event::Begin { run, tree, .. } = event {
            let script = scripts.entry(*run).or_default();
            script.begins.push(at);
            script.tree = tree;
        } else if let Event::Done { run, code, .. } = event {
            scripts.entry(*run).or_default().done = Some((at, *code));
        }
    }
    scripts
}

/// An outcome that somebody was told stays.
fn seen(case: &Case) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, event) in case.events() {
        let Event::Seen { run, outcome } = event else { continue };
        let now = case.record.run(*run).and_then(|it| it.outcome.as_deref());
        if now != Some(outcome) {
            let what = format!("run {run} was seen as {outcome}, and is {} in the end", now.unwrap_or("nothing"));
            found.push(broken(ONE_OUTCOME, what, &[at]));
        }
    }
    found
}

fn as_the_script_did(case: &Case, run: &Run, script: &Script) -> Option<Violation> {
    let code = script.done.map(|it| it.1);
    let shown: Vec<usize> = script.begins.iter().copied().chain(script.done.map(|it| it.0)).collect();
    let is_true = match run.outcome.as_deref() {
        Some("succeeded") => code == Some(0),
        // A script that failed for itself says so; one that was ended has no code.
        Some("failed") if run.exit_code.is_some() => code == run.exit_code,
        // Only where a running one makes room may its script have begun.
        Some("superseded") => script.begins.is_empty() || is_cancelled_for_newer(case, run),
        _ => true,
    };
    if !is_true {
        let what = format!("{} has exit code {:?}, its script said {code:?}", named(run), run.exit_code);
        return Some(broken(TRUE_OUTCOME, what, &shown));
    }
    let rule = case.rule(&run.hook).filter(|it| it.has_tree && !script.begins.is_empty())?;
    let pushed = tree_of(case, rule, run.sha.as_deref()?)?;
    let what = || format!("{} saw the tree `{}`, and `{pushed}` was pushed", named(run), script.tree);
    (pushed != script.tree).then(|| broken(RIGHT_TREE, what(), &shown))
}

fn is_cancelled_for_newer(case: &Case, run: &Run) -> bool {
    case.rule(&run.hook).is_some_and(|it| it.queue == Queue::CancelOfRef)
}

fn tree_of<'a>(case: &'a Case, rule: &Rule, pushed: &str) -> Option<&'a str> {
    case.lines.iter().find_map(|line| {
        let Event::Sent { sha, repo, tree, .. } = &line.event else { return None };
        (sha == pushed && repo == rule.repo).then_some(tree.as_str())
    })
}

/// Whose place a run takes that takes this one's.
pub(super) fn line_of<'a>(rule: &Rule, run: &'a Run) -> Option<&'a str> {
    match rule.queue {
        Queue::All => None,
        Queue::LatestOfRef | Queue::CancelOfRef => run.ref_name.as_deref(),
        Queue::LatestOfHook => Some(""),
    }
}

fn superseded(case: &Case, run: &Run) -> Option<Violation> {
    if !run.ended("superseded") {
        return None;
    }
    let rule = case.rule(&run.hook)?;
    let by = run.reason.as_deref().and_then(|it| it.strip_prefix("superseded by run ")?.parse().ok());
    let by = by.and_then(|it: i64| case.record.run(it));
    let is_later = |it: &Run| case.record.place(it.id) > case.record.place(run.id);
    let is_successor = |it: &Run| it.hook == run.hook && is_later(it) && line_of(rule, it) == line_of(rule, run);
    if line_of(rule, run).is_some() && by.is_some_and(is_successor) {
        return None;
    }
    let by = by.map_or("nobody".to_owned(), named);
    Some(broken(SUCCESSOR, format!("{} gave way to {by}: {:?}", named(run), run.reason), &[]))
}

fn last_pushes(case: &Case) -> Vec<Violation> {
    let mut last: BTreeMap<(&str, &str), &Run> = BTreeMap::new();
    for run in &case.record.runs {
        let Some(rule) = case.rule(&run.hook) else { continue };
        let newest = last.entry((rule.name, line_of(rule, run).unwrap_or_default())).or_insert(run);
        if case.record.place(run.id) >= case.record.place(newest.id) {
            *newest = run;
        }
    }
    let superseded = last.into_values().filter(|it| it.ended("superseded"));
    superseded.map(|it| broken(LAST_PUSH, format!("{} is the last of its line", named(it)), &[])).collect()
}

/// Of each line the push that was accepted last, by its first run: a redelivery makes no push newer, a remote that offers
/// it does.
fn newest_pushes(case: &Case, scripts: &BTreeMap<i64, Script>) -> Vec<Violation> {
    let mut newest: BTreeMap<(&str, &str), &Run> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for run in case.record.runs.iter().filter(|it| it.retry_of.is_none()) {
        let Some(rule) = case.rule(&run.hook) else { continue };
        if seen.insert((rule.name, run.sha.as_deref())) || run.is_caught_up() {
            let line = line_of(rule, run).or(run.ref_name.as_deref()).unwrap_or_default();
            newest.insert((rule.name, line), run);
        }
    }
    let lost = |first: &Run| {
        let of_push = |it: &&Run| it.hook == first.hook && it.sha == first.sha;
        let runs: Vec<&Run> = case.record.runs.iter().filter(of_push).collect();
        let has_run = runs.iter().any(|it| scripts.get(&it.id).is_some_and(|it| !it.begins.is_empty()));
        let last = runs.last().filter(|it| it.ended("superseded") && !has_run)?;
        Some(broken(NEWEST, format!("{} is the newest push of its line", named(last)), &[]))
    };
    newest.into_values().filter_map(lost).collect()
}
