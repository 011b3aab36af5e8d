//! Laws of letters: what is owed is written, what is written arrives, and arrives once.
//!
//! Invariant: what is owed is worked out here from runs and rules; the letters of the store are compared with it.

use std::collections::BTreeMap;

use super::{ARRIVED, COPY, Case, NO_FOREIGN_LETTER, OWED, Violation, broken, named};
use crate::{
    history::{Event, Line, Sink},
    record::{Letter, Run},
    rules::Told,
};

pub fn judge(case: &Case) -> Vec<Violation> {
    let mut arrivals = arrivals(case);
    let mut found = Vec::new();
    for run in &case.record.runs {
        found.extend(owed(case, run));
        for letter in &run.letters {
            let Some(identity) = identity(case, run, letter) else { continue };
            let copies = arrivals.remove(&identity).unwrap_or_default();
            if letter.state != "sent" || copies.is_empty() {
                let what = format!(
                    "letter {} ({}) about {} is `{}` and arrived {} times",
                    letter.id,
                    letter.occasion,
                    named(run),
                    letter.state,
                    copies.len()
                );
                found.push(broken(ARRIVED, what, &copies));
            }
            found.extend(copies_without_a_kill(case, run, &copies));
        }
    }
    let foreign = arrivals.into_iter();
    found.extend(
        foreign.map(|(identity, at)| broken(NO_FOREIGN_LETTER, format!("{identity:?} is owed to nobody"), &at)),
    );
    found
}

/// By what a letter is known at its sink: the way there, and what no other letter has.
type Identity = (Sink, String);

fn identity(case: &Case, run: &Run, letter: &Letter) -> Option<Identity> {
    match case.rule(&run.hook)?.told {
        Told::Mail => Some((Sink::Mail, format!("<run.{}.{}.{}@localhost>", run.id, letter.occasion, letter.id))),
        Told::Slack => Some((Sink::Slack, slack_identity(&run.hook, run.id, letter.occasion == "start"))),
        Told::Nobody => None,
    }
}

fn slack_identity(hook: &str, run: i64, is_start: bool) -> String {
    format!("{hook}: {} of run {run}", if is_start { "start" } else { "end" })
}

/// The lines in which each letter arrived.
fn arrivals(case: &Case) -> BTreeMap<Identity, Vec<usize>> {
    let mut arrivals: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
    for (at, event) in case.events() {
        let Event::Arrived { sink, to, key, .. } = event else { continue };
        let key = match sink {
            Sink::Mail => key.clone(),
            Sink::Slack => {
                let run = key.split("(run ").nth(1).and_then(|it| it.split(')').next()?.parse().ok());
                slack_identity(to, run.unwrap_or_default(), key.contains(" has begun (run "))
            }
        };
        arrivals.entry((*sink, key)).or_default().push(at);
    }
    arrivals
}

/// A run that began is told of once, at its first attempt; one that ended for good is told of once.
fn owed(case: &Case, run: &Run) -> Option<Violation> {
    let rule = case.rule(&run.hook)?;
    let is_told = rule.told != Told::Nobody;
    // One that waits again is no other attempt.
    let is_next_attempt = |it: &Run| it.retry_of == Some(run.id) && it.attempt > run.attempt;
    let is_final = run.outcome.is_some() && !case.record.runs.iter().any(is_next_attempt);
    let starts = usize::from(is_told && run.started_at.is_some() && run.attempt == 1);
    // Who gave way before it began leaves nothing to tell.
    let has_given_way = run.ended("superseded") && run.started_at.is_none();
    let ends = usize::from(is_told && is_final && !has_given_way);
    let count = |is_start: bool| run.letters.iter().filter(|it| (it.occasion == "start") == is_start).count();
    if (count(true), count(false)) == (starts, ends) {
        return None;
    }
    let what = format!(
        "{} owes {starts} letters of its start and {ends} of its end, and {} and {} are written",
        named(run),
        count(true),
        count(false)
    );
    Some(broken(OWED, what, &case.begins(run.id)))
}

/// Two copies are fine where the daemon was killed between them: after the far side's yes, before our commit.
fn copies_without_a_kill(case: &Case, run: &Run, copies: &[usize]) -> Vec<Violation> {
    let mut found = Vec::new();
    for pair in copies.windows(2) {
        // The line of an arrival may come late, and another daemon be up by then. The call is of the one that sent it.
        let sent = called(case, pair[0]);
        let before_next_life = case.lines[sent..pair[1]].iter().position(|it| it.event == Event::DaemonUp);
        // What was sent before a kill may arrive after it, so the whole life of that daemon counts.
        let since = case.lines[..sent].iter().rposition(|it| it.event == Event::DaemonUp).unwrap_or(0);
        let is_killed = case.lines[since..pair[1]].iter().any(|it| it.event == Event::KillDaemon);
        if before_next_life.is_none() || !is_killed {
            found.push(broken(COPY, format!("a letter about {} arrived twice", named(run)), pair));
        }
    }
    found
}

/// The line of the call in which a letter arrived.
fn called(case: &Case, arrived: usize) -> usize {
    let Event::Arrived { call, .. } = &case.lines[arrived].event else { return arrived };
    let is_it = |it: &Line| it.event == Event::Called { call: *call };
    case.lines[..arrived].iter().rposition(is_it).unwrap_or(arrived)
}
