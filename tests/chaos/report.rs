//! What a storm has shown, for people: one table, and each violation with the history around it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    history::{Event, Line, Sink},
    storm::Aftermath,
};

/// Violations that are shown in full; of more, only the number.
const SHOWN_MAX: usize = 15;

/// Lines of history shown before and after a line that matters.
const AROUND: usize = 4;

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub sent: usize,
    pub answered: usize,
    /// Those that made runs.
    pub accepted: usize,
    pub duplicates: usize,
    /// Answered, but neither taken nor known: the disk was full.
    pub put_off: usize,
    pub unknown: usize,
    pub unsent: usize,
    pub kills_of_daemon: usize,
    pub kills_of_keepers: usize,
    pub stops_of_daemon: usize,
    pub stops_of_keepers: usize,
    pub restarts: usize,
    pub full_disks: usize,
    pub sinks_down: usize,
    pub reloads: usize,
    pub bad_files: usize,
    pub cancels: usize,
    pub clocks: usize,
    pub put_back: usize,
    pub letters: usize,
    pub copies: usize,
}

pub fn figures(aftermath: &Aftermath) -> Figures {
    let mut figures = Figures::default();
    for line in &aftermath.lines {
        let counter = match &line.event {
            Event::Sent { .. } => &mut figures.sent,
            Event::Answered { result, .. } => {
                figures.answered += 1;
                match result.as_str() {
                    "queued" => &mut figures.accepted,
                    "duplicate" => &mut figures.duplicates,
                    _ => &mut figures.put_off,
                }
            }
            Event::Unknown { .. } => &mut figures.unknown,
            Event::Unsent { .. } => &mut figures.unsent,
            Event::KillDaemon => &mut figures.kills_of_daemon,
            Event::KillKeeper { .. } => &mut figures.kills_of_keepers,
            Event::StopDaemon => &mut figures.stops_of_daemon,
            Event::StopKeeper { .. } => &mut figures.stops_of_keepers,
            Event::RestartDaemon => &mut figures.restarts,
            Event::DiskFull => &mut figures.full_disks,
            Event::SinkDown { .. } => &mut figures.sinks_down,
            Event::Reloaded => &mut figures.reloads,
            Event::Spoilt => &mut figures.bad_files,
            Event::Cancelled { .. } => &mut figures.cancels,
            Event::ClockSet { .. } => &mut figures.clocks,
            Event::PutBack => &mut figures.put_back,
            Event::Begin { .. }
            | Event::Beat { .. }
            | Event::Done { .. }
            | Event::Finally { .. }
            | Event::Seen { .. }
            | Event::Called { .. }
            | Event::Arrived { .. }
            | Event::DaemonUp
            | Event::Copied
            | Event::DaemonEnded { .. }
            | Event::ContinueDaemon
            | Event::ContinueKeepers
            | Event::DiskFreed
            | Event::SinkUp { .. }
            | Event::Mended
            | Event::Calm
            | Event::Left { .. }
            | Event::Stuck { .. } => continue,
        };
        *counter += 1;
    }
    let arrivals = aftermath.lines.iter().filter_map(|line| {
        let Event::Arrived { sink, to, key, .. } = &line.event else { return None };
        Some((*sink, to, key))
    });
    let arrivals: Vec<(Sink, &String, &String)> = arrivals.collect();
    figures.letters = aftermath.record.runs.iter().flat_map(|it| &it.letters).filter(|it| it.state == "sent").count();
    figures.copies = arrivals.len() - arrivals.iter().collect::<BTreeSet<_>>().len();
    figures
}

/// The table.
pub fn table(aftermath: &Aftermath, figures: &Figures) -> String {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &aftermath.record.runs {
        *outcomes.entry(run.outcome.as_deref().unwrap_or(&run.state)).or_default() += 1;
    }
    let outcomes: Vec<String> = outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let Figures { sent, answered, accepted, duplicates, put_off, unknown, unsent, .. } = figures;
    let full = match &aftermath.no_full_disk {
        None => format!("{} periods", figures.full_disks),
        Some(why) => format!("not done: {why}"),
    };
    let seconds = |it: f64| format!("{it:.0} s");
    let rows = [
        ("storm", format!("{} s, seed {}", aftermath.order.seconds, aftermath.order.seed)),
        ("calm after", seconds(aftermath.calm.as_secs_f64())),
        ("pushes sent", format!("{sent}: {answered} answered, {unknown} unknown, {unsent} while nobody was there")),
        ("answered", format!("{accepted} accepted, {duplicates} duplicates, {put_off} put off")),
        ("runs", format!("{}: {}", aftermath.record.runs.len(), outcomes.join(", "))),
        ("kill -9", format!("{} daemon, {} keepers", figures.kills_of_daemon, figures.kills_of_keepers)),
        ("SIGSTOP", format!("{} daemon, {} keepers", figures.stops_of_daemon, figures.stops_of_keepers)),
        ("restarts, cancels", format!("{}, {}", figures.restarts, figures.cancels)),
        ("disk full", full),
        ("sinks down", format!("{} periods", figures.sinks_down)),
        ("hooks.yaml", format!("{} reloads, {} bad files", figures.reloads, figures.bad_files)),
        ("clock, database", format!("set {} times, put back {} times", figures.clocks - 1, figures.put_back)),
        ("letters", format!("{} sent, {} second copies after a kill", figures.letters, figures.copies)),
        ("violations", aftermath.violations.len().to_string()),
    ];
    let rows: Vec<String> = rows.iter().map(|(name, value)| format!("  {name:<18} {value}")).collect();
    rows.join("\n")
}

/// What is wrong, and how to see it again.
pub fn violations(aftermath: &Aftermath) -> String {
    let mut text = String::new();
    for violation in aftermath.violations.iter().take(SHOWN_MAX) {
        text.push_str(&format!("\nVIOLATION  {}\n  {}\n", violation.law, violation.what));
        text.push_str(&around(&aftermath.lines, &violation.lines));
    }
    let (count, order) = (aftermath.violations.len(), &aftermath.order);
    if count > SHOWN_MAX {
        text.push_str(&format!("\nand {} more\n", count - SHOWN_MAX));
    }
    text.push_str(&format!("\n{count} violations; ./scripts/chaos --seconds {} --seed {}", order.seconds, order.seed));
    if aftermath.is_kept {
        text.push_str(&format!("; history, log and state stay in {}", aftermath.folder.display()));
    }
    text
}

/// The lines that matter, marked, with those around them.
fn around(lines: &[Line], marked: &[usize]) -> String {
    let near =
        marked.iter().flat_map(|at| at.saturating_sub(AROUND)..=(at + AROUND).min(lines.len().saturating_sub(1)));
    let mut text = String::new();
    let mut last = None;
    for at in near.collect::<BTreeSet<_>>() {
        if last.is_some_and(|it| it + 1 < at) {
            text.push_str("      ...\n");
        }
        last = Some(at);
        let mark = if marked.contains(&at) { ">" } else { " " };
        text.push_str(&format!("    {mark} {:>6} {:>9.2} {:?}\n", at + 1, lines[at].up, lines[at].event));
    }
    text
}
