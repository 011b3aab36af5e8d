//! What is promised of speed and size, measured on this machine in one run: `scripts/bench [ROW...]`.
//!
//! Invariant: each figure stands beside what it is measured against, both from this run and taken in turns; the
//! program ends with 1 if a target is missed.

mod table;

mod daemon;
mod place;

mod load;
mod pushes;

mod accept;
mod storeless;

mod first_line;

mod past;

mod history;
mod idle;

mod hooks;

mod output;

mod clone;
mod forest;
#[path = "../../tests/world/front.rs"]
mod front;
mod git;
mod many;
mod order;

mod live;

use std::{path::Path, process::ExitCode};

use anyhow::{Result, bail};

use table::Row;

/// Measures a subject.
type Measure = fn() -> Result<Vec<Row>>;

/// Each subject, by the word that chooses it.
const SUBJECTS: &[(&str, Measure)] = &[
    ("accept", accept::rows),
    ("first-line", first_line::rows),
    ("history", history::rows),
    ("idle", idle::rows),
    ("hooks", hooks::rows),
    ("output", output::rows),
    ("git", git::rows),
    ("clone", clone::rows),
    ("many", many::rows),
    ("live", live::rows),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, folder] = arguments.as_slice()
        && option == "--storeless"
    {
        return end(storeless::serve(Path::new(folder)).map(|()| Vec::new()));
    }
    end(measure(&arguments))
}

fn end(measured: Result<Vec<Row>>) -> ExitCode {
    match measured {
        Ok(rows) => {
            print!("{}", table::render(&rows));
            if rows.iter().all(Row::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(err) => {
            eprintln!("{err:#}");
            ExitCode::from(2)
        }
    }
}

fn measure(arguments: &[String]) -> Result<Vec<Row>> {
    // `cargo bench` adds an option of its own.
    let chosen: Vec<&String> = arguments.iter().filter(|it| *it != "--bench").collect();
    let known = || SUBJECTS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = chosen.iter().find(|it| SUBJECTS.iter().all(|(word, _)| word != *it)) {
        bail!("there is no row `{unknown}`: choose of {}", known());
    }
    let mut rows = Vec::new();
    for (word, measure) in SUBJECTS.iter().filter(|(word, _)| chosen.is_empty() || chosen.iter().any(|it| *it == word))
    {
        eprintln!("measuring {word}");
        rows.extend(measure()?);
    }
    Ok(rows)
}
