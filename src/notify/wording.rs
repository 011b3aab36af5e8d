//! Says what happened, in words that are the same in every medium: the subject, the sentences, the plain text.
//!
//! Invariant: the order is always the same. What happened; the state of the site now; what was deployed; why it
//! ended so; what to do next; why the reader gets this.

use std::{fmt::Write, time::Duration};

use crate::{
    model::{
        job::Trigger,
        letter::{Address, Occasion},
        run::{Failure, Mood, Outcome, RunStep},
    },
    notify::{
        foreign::{Line, Link, shorten},
        story::{Chapter, Story},
    },
};

/// How a letter looks: the colour of the news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Under way.
    Busy,
    /// It works.
    Good,
    /// It ended badly.
    Bad,
    /// Nothing changed.
    Quiet,
}

/// One fact about what was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the fact is about, in one word.
    pub label: String,
    /// The fact.
    pub value: String,
    /// A page that tells more.
    pub link: Option<Link>,
}

/// A command to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// As it is typed.
    pub line: String,
    /// What it does, in a few words.
    pub purpose: &'static str,
}

/// The colour of the news.
pub fn look(story: &Story) -> Look {
    match story.outcome().map(Outcome::mood) {
        None => Look::Busy,
        Some(Mood::Good) => Look::Good,
        Some(Mood::Bad) => Look::Bad,
        Some(Mood::Neither) => Look::Quiet,
    }
}

/// The news in a word; what needs a person stands in capitals.
pub fn word(story: &Story) -> &'static str {
    match story.outcome() {
        None => "deploying",
        Some(Outcome::Succeeded) if story.occasion == Occasion::Recovery => "RECOVERED",
        Some(Outcome::Succeeded) => "deployed",
        Some(Outcome::Failed(_)) => "FAILED",
        Some(Outcome::TimedOut(_)) => "TIMED OUT",
        Some(Outcome::RolledBack(_)) => "ROLLED BACK",
        Some(Outcome::RollbackFailed { .. }) => "ROLLBACK FAILED",
        Some(Outcome::Interrupted { .. }) => "INTERRUPTED",
        Some(Outcome::Cancelled { .. }) => "cancelled",
        Some(Outcome::Superseded { .. }) => "superseded",
        Some(Outcome::Stale { .. }) => "stale",
        Some(Outcome::Skipped { .. }) => "skipped",
    }
}

/// The subject of a mail. Its own words are ASCII, so that only a foreign text makes it an encoded word.
pub fn subject(story: &Story) -> String {
    let about = match story.commit.as_ref().and_then(|it| it.subject.as_ref()) {
        Some(subject) => format!("{} {}", story.subject_matter(), shorten(subject.as_str(), 72)),
        None => story.subject_matter(),
    };
    let (repo, environment) = (shorten(story.repo.as_str(), 100), shorten(story.environment.as_str(), 40));
    format!("[{repo}] {} {environment}: {about} (run {})", word(story), story.run)
}

/// What happened, in one sentence.
pub fn sentence(story: &Story) -> String {
    let (what, repo, place, run) = (story.subject_matter(), &story.repo, &story.environment, story.run);
    let (took, outcome) = match &story.chapter {
        Chapter::Began { .. } => return format!("Deploying {what} of {repo} to {place} has begun (run {run})."),
        Chapter::Ended { took, outcome, .. } => (took.map(lasting), outcome),
    };
    let after = took.as_deref().map(|it| format!(" after {it}")).unwrap_or_default();
    let at = |failure: &Failure| match failure.exit_code {
        Some(code) => format!(" in step `{}` with exit code {code}", failure.step),
        None => format!(" in step `{}`", failure.step),
    };
    let in_step = |step: &Option<RunStep>| step.map(|it| format!(" in step `{it}`"));
    let news = match outcome {
        Outcome::Succeeded => {
            let took = took.map(|it| format!(" in {it}")).unwrap_or_default();
            let again = match (&story.streak, story.occasion) {
                (Some(streak), _) => {
                    format!(", the first success after {}", counted(streak.failures.into(), "failure"))
                }
                (None, Occasion::Recovery) => ", the first success after a failure".to_owned(),
                (None, Occasion::Start | Occasion::Success | Occasion::Failure | Occasion::Skipped) => String::new(),
            };
            return format!("{what} of {repo} was deployed to {place}{took}{again} (run {run}).");
        }
        Outcome::Failed(failure) => format!("failed{}{after}", at(failure)),
        Outcome::TimedOut(failure) => format!("ran out of time{}{after}", at(failure)),
        Outcome::RolledBack(failure) => format!("failed{}{after} and was rolled back", at(failure)),
        Outcome::RollbackFailed { failure, .. } => format!("failed{}{after}, and so did rolling back", at(failure)),
        Outcome::Interrupted { step, .. } => format!("was interrupted{}", in_step(step).unwrap_or_default()),
        Outcome::Cancelled { step, .. } => {
            format!("was cancelled{}", in_step(step).unwrap_or_else(|| " before it began".to_owned()))
        }
        Outcome::Superseded { .. } => "was left to a newer push".to_owned(),
        Outcome::Stale { .. } => "was left out, since something newer is live".to_owned(),
        Outcome::Skipped { step, .. } => format!("was skipped in step `{step}`"),
    };
    format!("Deploying {what} of {repo} to {place} {news} (run {run}).")
}

/// The state of the site now: what a reader has to know before anything else.
pub fn site_now(story: &Story) -> String {
    let good = match &story.previous {
        Some(commit) => format!("the last good deploy is {}", commit.short()),
        None => "no deploy of this hook has gone well so far".to_owned(),
    };
    let untouched = || format!("Nothing was changed; {good}.");
    let touched = |step: RunStep| match (step, &story.working_tree) {
        (RunStep::Lock | RunStep::Preflight | RunStep::Fetch, _) | (RunStep::Stage, None) => untouched(),
        (RunStep::Stage, Some(tree)) => format!("{tree} may be half way to {}; {good}.", story.subject_matter()),
        (
            RunStep::Shared
            | RunStep::Run
            | RunStep::Seal
            | RunStep::Switch
            | RunStep::Activate
            | RunStep::Health
            | RunStep::Rollback
            | RunStep::OnFailure
            | RunStep::Finally
            | RunStep::Cleanup,
            tree,
        ) => match tree {
            Some(tree) => {
                format!("{tree} holds {}, but not every step was carried out; {good}.", story.subject_matter())
            }
            None => format!("What the steps had done by then stands; {good}."),
        },
    };
    let mut now = match story.outcome() {
        None => match &story.previous {
            Some(_) => format!("Until it ends, {good}."),
            None => "No deploy of this hook has gone well so far.".to_owned(),
        },
        Some(Outcome::Succeeded) => match &story.url {
            Some(url) => format!("{} is live: {url}", story.subject_matter()),
            None => format!("{} is live.", story.subject_matter()),
        },
        Some(Outcome::Failed(failure) | Outcome::TimedOut(failure)) => touched(failure.step),
        Some(Outcome::Cancelled { step, .. }) => step.map_or_else(untouched, touched),
        Some(Outcome::Interrupted { step: Some(step), .. } | Outcome::Skipped { step, .. }) => touched(*step),
        Some(Outcome::Interrupted { step: None, .. }) => {
            format!("What the run had done by then is not known; {good}.")
        }
        Some(Outcome::RolledBack(_)) => format!("What was live before is live again; {good}."),
        Some(Outcome::RollbackFailed { .. }) => format!("It needs a look: what is live may be broken; {good}."),
        Some(Outcome::Superseded { .. } | Outcome::Stale { .. }) => untouched(),
    };
    if let (Look::Bad, Some(streak)) = (look(story), story.streak.as_ref().filter(|it| it.failures > 1)) {
        let since = streak.since.strftime("%Y-%m-%d %H:%M UTC");
        let _ = write!(now, " This is failure {} in a row, since run {} ({since}).", streak.failures, streak.first);
    }
    now
}

/// What was deployed, fact by fact.
pub fn rows(story: &Story) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |label: &str, value: String, link: &Option<Link>| {
        rows.push(Row { label: label.to_owned(), value, link: link.clone() });
    };
    if let Some(commit) = &story.commit {
        let subject = commit.subject.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
        add("Commit", format!("{}{subject}", commit.id.short()), &commit.page);
        if let Some(author) = &commit.author {
            add("Author", author.to_string(), &None);
        }
    }
    let on = story.ref_name.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
    add(cause(story.trigger), format!("by {}{on}", story.actor), &None);
    if story.compare.is_some() {
        let count = story.commit_count.map_or("compare".to_owned(), |it| counted(it, "commit"));
        add("Changes", count, &story.compare);
    }
    if story.attempt.0 > 1 {
        add("Try", format!("{} of {}", story.attempt.0, story.attempt.1.max(story.attempt.0)), &None);
    }
    for (key, value) in &story.fields {
        add(key.as_str(), value.to_string(), &None);
    }
    rows
}

/// Why it ended so.
pub fn why(story: &Story) -> Option<String> {
    let reason = story.outcome()?.reason()?;
    Some(Line::of(&reason, 500).to_string())
}

/// What to type next.
pub fn commands(story: &Story) -> Vec<Command> {
    let run = story.run;
    let log = Command { line: format!("landfall log {run}"), purpose: "read the whole log" };
    let follow = Command { line: format!("landfall log {run} -f"), purpose: "follow the log" };
    let retry = Command { line: format!("landfall retry {run}"), purpose: "deploy the same again" };
    let show = Command { line: format!("landfall show {run}"), purpose: "see how it went" };
    match look(story) {
        Look::Busy => vec![follow],
        Look::Good => vec![show],
        Look::Bad => vec![log, retry],
        Look::Quiet => vec![show, retry],
    }
}

/// Why the reader gets this.
pub fn because(story: &Story) -> String {
    let reader = match &story.address {
        Address::Email { to } => to.as_str(),
        Address::Slack { .. } => "this channel",
    };
    let occasions: Vec<_> = story.told_of.iter().map(|it| it.word()).collect();
    let of = if occasions.is_empty() { story.occasion.word().to_owned() } else { occasions.join(", ") };
    format!(
        "You get this because hook `{}` on {} tells {reader} of: {of} (`notify` in hooks.yaml).",
        story.hook, story.server
    )
}

/// The whole letter as plain text.
pub fn text(story: &Story) -> String {
    let mut text = format!("{}\n\nNOW\n  {}\n\nWHAT\n", sentence(story), site_now(story));
    let rows = rows(story);
    let width = rows.iter().map(|it| it.label.chars().count()).max().unwrap_or(0);
    for Row { label, value, link } in &rows {
        let _ = writeln!(text, "  {label:<width$}  {value}");
        if let Some(link) = link {
            let _ = writeln!(text, "  {:width$}  {link}", "");
        }
    }
    if let Some(why) = why(story) {
        let _ = writeln!(text, "\nWHY\n  {why}");
    }
    if let (Some(first), Some(last)) = (story.log_tail.first(), story.log_tail.last()) {
        let _ = writeln!(text, "\nLOG, lines {} to {}", first.number, last.number);
        let width = last.number.to_string().len();
        for line in &story.log_tail {
            let _ = writeln!(text, "{}", format!("  {:>width$} | {}", line.number, line.text).trim_end());
        }
    }
    text.push_str("\nNEXT\n");
    let commands = commands(story);
    let width = commands.iter().map(|it| it.line.len()).max().unwrap_or(0);
    for Command { line, purpose } in &commands {
        let _ = writeln!(text, "  {line:<width$}  {purpose}");
    }
    if let Some(page) = &story.run_page {
        let _ = writeln!(text, "  {page}");
    }
    let _ = writeln!(text, "\n-- \n{}", because(story));
    text
}

/// `1 failure`, `3 failures`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn cause(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Push => "Pushed",
        Trigger::Tag => "Tagged",
        Trigger::Manual => "Started",
        Trigger::Retry => "Retried",
        Trigger::Rollback => "Rolled back",
        Trigger::CatchUp => "Caught up",
    }
}

/// A length of time as people say it.
fn lasting(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0 => "less than a second".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
