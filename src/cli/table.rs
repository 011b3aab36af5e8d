//! Tables and texts for people: columns that line up, colours only where they help, times they can read.
//!
//! Invariant: what comes from a repository or a forge reaches the terminal without control characters.

use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    cli::{Exit, client::Trouble, out::println},
    model::text,
};

/// Bold, for headings.
pub(super) const BOLD: Style = Style::new().bold();
/// Dim, for what is beside the point.
pub(super) const DIM: Style = Style::new().dimmed();

/// The colour of a state or an outcome.
pub(super) fn colour(word: &str) -> Style {
    let colour = match word {
        "succeeded" | "sent" | "queued" | "pong" => AnsiColor::Green,
        "failed" | "timed_out" | "interrupted" | "given_up" => AnsiColor::Red,
        "running" => AnsiColor::Cyan,
        _ => AnsiColor::Yellow,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A cell and how it is painted.
pub(super) struct Cell {
    text: String,
    style: Style,
}

/// A plain cell.
pub(super) fn cell(text: impl AsRef<str>) -> Cell {
    painted(text, Style::new())
}

/// A painted cell.
pub(super) fn painted(text: impl AsRef<str>, style: Style) -> Cell {
    Cell { text: clean(text.as_ref()), style }
}

/// Prints rows under headings, each column as wide as its widest cell.
pub(super) fn print(headings: &[&str], rows: &[Vec<Cell>]) {
    let mut widths: Vec<usize> = headings.iter().map(|it| it.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let heading: Vec<Cell> = headings.iter().map(|it| painted(it, BOLD)).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if index + 1 == row.len() { 0 } else { width + 2 - cell.text.chars().count() };
            line.push_str(&format!("{}{}{:#}{}", cell.style, cell.text, cell.style, " ".repeat(gap)));
        }
        println!("{}", line.trim_end());
    }
}

/// Prints a value as JSON, as `--json` promises.
pub(super) fn print_json(value: &impl Serialize) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(json) => {
            println!("{}", text::json(&json));
            Exit::Ok
        }
        Err(err) => complain(&Trouble::new(Exit::Failed, format!("cannot write JSON: {err}"))),
    }
}

/// Says on stderr what went wrong; gives the exit code it means.
pub(super) fn complain(trouble: &Trouble) -> Exit {
    let red = colour("failed").bold();
    // It may be an answer of somebody who is no daemon of ours.
    let lines: Vec<_> = trouble.message.lines().map(text::coloured_line).collect();
    eprintln!("{red}landfall:{red:#} {}", lines.join("\n"));
    trouble.exit
}

/// The exit code of a command that is done or has met with trouble.
pub(super) fn conclude(result: Result<Exit, Trouble>) -> Exit {
    result.unwrap_or_else(|trouble| complain(&trouble))
}

/// A time of the API in the reader's own zone, to the second.
pub(super) fn local_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// How long something took, or has been going on.
pub(super) fn duration(from: Option<&str>, to: Option<&str>) -> String {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    let (Some(from), to) = (from.and_then(parse), to.and_then(parse).unwrap_or_else(Timestamp::now)) else {
        return "-".to_owned();
    };
    let seconds = to.duration_since(from).as_secs_f64().max(0.0);
    match seconds {
        short if short < 10.0 => format!("{short:.1}s"),
        middle if middle < 120.0 => format!("{middle:.0}s"),
        long => format!("{:.0}m{:02.0}s", (long / 60.0).floor(), long % 60.0),
    }
}

/// The text of others in one line, of which nothing acts.
pub(super) fn clean(foreign: &str) -> String {
    text::shown(foreign).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{clean, duration};

    #[test]
    fn a_commit_subject_cannot_drive_the_terminal() {
        assert_eq!(clean("fix\u{1b}[2J\r\nx\u{202e}"), "fix\u{fffd}[2J\u{fffd}\u{fffd}x\u{fffd}");
    }

    #[test]
    fn durations_read_well() {
        let took = |to| duration(Some("2026-11-23T08:00:00Z"), Some(to));
        assert_eq!(took("2026-11-23T08:00:01.25Z"), "1.2s");
        assert_eq!(took("2026-11-23T08:00:59Z"), "59s");
        assert_eq!(took("2026-11-23T08:02:05Z"), "2m05s");
        assert_eq!(duration(None, None), "-");
    }
}
