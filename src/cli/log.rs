//! `log`: the output of a run, whole or as it comes.
//!
//! Invariant: lines are printed as they were stored, so the output can be piped; but a terminal gets nothing of them that
//! acts, other than colours. Remarks of Landfall are told apart.

use std::{
    io::{self, IsTerminal, Write},
    time::Instant,
};

use anstream::{eprintln, stdout};
use clap::Args;

use crate::{
    cli::{
        Exit, Reach,
        client::{Client, Trouble},
        out::must,
        show::{path_of_run, state_word},
        table::{DIM, clean, conclude, local_time, print_json},
    },
    model::text,
    web::views::{LogLine, LogPiece, RunInFull},
};

/// Options of `log`.
#[derive(Args)]
pub(super) struct Options {
    /// The run's number
    run: i64,
    /// Go on printing until the run has ended
    #[arg(short, long)]
    follow: bool,
    /// Print the time of each line
    #[arg(short, long)]
    times: bool,
    /// Let everything through to a terminal, also what clears it, names it, or writes to the clipboard
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON: an array of lines
    #[arg(long, conflicts_with = "follow")]
    json: bool,
}

/// `landfall log`.
pub(super) fn log(options: &Options) -> Exit {
    let client = match Client::find(&options.reach) {
        Ok(client) => client,
        Err(trouble) => return conclude(Err(trouble)),
    };
    if options.json {
        return conclude(whole(&client, options.run).map(|lines| print_json(&lines)));
    }
    conclude(print_log(&client, options).map(|()| Exit::Ok))
}

fn print_log(client: &Client, options: &Options) -> Result<(), Trouble> {
    let mut next = 0;
    loop {
        let path = path_of(options.run, next, options.follow);
        // Only who follows has a reason to wait for a daemon that is away, and only one that was there.
        let is_patient = options.follow && next > 0;
        let piece: LogPiece = if is_patient { client.get_patiently(&path, None) } else { client.get(&path) }?;
        must(print_lines(&piece.lines, options.times, options.raw));
        let is_empty = next == 0 && piece.lines.is_empty();
        next = piece.next;
        if piece.lines.is_empty() && (piece.is_over || !options.follow) {
            return if is_empty { say_why_empty(client, options.run) } else { Ok(()) };
        }
    }
}

fn say_why_empty(client: &Client, run: i64) -> Result<(), Trouble> {
    let RunInFull { run, folder, log, .. } = client.get(&path_of_run(run))?;
    let why = match (log.as_str(), run.state.as_str()) {
        ("put_away", _) => "its log is no longer kept (`server.keep_logs`)".to_owned(),
        ("missing", _) => format!("something other than Landfall has removed it from {}", clean(&folder)),
        ("none", "finished") => "it never began".to_owned(),
        _ => "nothing has been printed yet".to_owned(),
    };
    let reason = run.reason.as_ref().map(|it| format!(": {}", clean(it))).unwrap_or_default();
    eprintln!("run {} has no log, as {why}; it is {}{reason}", run.id, state_word(&run));
    Ok(())
}

fn whole(client: &Client, run: i64) -> Result<Vec<LogLine>, Trouble> {
    let (mut lines, mut next) = (Vec::new(), 0);
    loop {
        let piece: LogPiece = client.get(&path_of(run, next, false))?;
        if piece.lines.is_empty() {
            return Ok(lines);
        }
        lines.extend(piece.lines);
        next = piece.next;
    }
}

/// Prints what has come since `next`, waiting a little for something to come; gives where the next piece begins.
/// Where the daemon is away it is waited for. It returns at this moment at the latest, if one is given.
pub(super) fn follow(
    client: &Client,
    run: i64,
    mut next: u64,
    is_shown: bool,
    until: Option<Instant>,
) -> Result<u64, Trouble> {
    loop {
        let left = until.map(|it| it.saturating_duration_since(Instant::now()));
        let within = left.map(|it| format!("&within={}", it.as_millis())).unwrap_or_default();
        let piece: LogPiece = client.get_patiently(&(path_of(run, next, true) + &within), until)?;
        next = piece.next;
        if is_shown {
            // A reader that has gone must not end the wait for the run.
            let _ = print_lines(&piece.lines, false, false);
        }
        if piece.lines.is_empty() || left.is_some_and(|it| it.is_zero()) {
            return Ok(next);
        }
    }
}

fn path_of(run: i64, from: u64, is_waiting: bool) -> String {
    format!("/v1/runs/{run}/log?from={from}&wait={is_waiting}")
}

fn print_lines(lines: &[LogLine], with_times: bool, is_raw: bool) -> io::Result<()> {
    let is_cleaned = !is_raw && io::stdout().is_terminal();
    let mut out = stdout().lock();
    for line in lines {
        if with_times {
            write!(out, "{DIM}{}{DIM:#} ", local_time(&line.at))?;
        }
        if line.is_remark {
            // Those that an earlier release wrote may quote anything.
            writeln!(
                out,
                "{DIM}── {}{DIM:#}",
                if is_cleaned { text::shown(&line.text) } else { line.text.as_str().into() }
            )?;
        } else {
            writeln!(out, "{}", if is_cleaned { text::coloured_line(&line.text) } else { line.text.as_str().into() })?;
        }
    }
    out.flush()
}
