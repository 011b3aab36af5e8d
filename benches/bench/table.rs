//! The table: each figure beside what it is measured against, their ratio, and the target.
//!
//! Invariant: a figure and what it is measured against come from the same run on the same machine.

use std::{fmt, time::Duration};

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub subject: String,
    /// The figure.
    pub figure: String,
    /// What it is measured against.
    pub against: String,
    /// The figure as a share of that.
    pub ratio: f64,
    /// What the ratio has to be.
    pub target: Target,
}

/// What a ratio has to be.
#[derive(Clone, Copy)]
pub enum Target {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
    /// It is there to be read.
    Shown,
}

impl Target {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
            Self::Shown => true,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(out, ">= {least}"),
            Self::AtMost(most) => write!(out, "<= {most}"),
            Self::Shown => Ok(()),
        }
    }
}

impl Row {
    /// Whether its target is met.
    pub fn is_met(&self) -> bool {
        self.target.is_met(self.ratio)
    }

    /// A duration against another.
    pub fn of_times(subject: impl Into<String>, time: Duration, than: (Duration, &str), target: Target) -> Self {
        Self {
            subject: subject.into(),
            figure: in_ms(time),
            against: format!("{} {}", in_ms(than.0), than.1).trim_end().to_owned(),
            ratio: time.as_secs_f64() / than.0.as_secs_f64(),
            target,
        }
    }

    /// Bytes against a limit.
    pub fn of_bytes(subject: impl Into<String>, bytes: u64, limit_mib: u64) -> Self {
        let mib = bytes as f64 / f64::from(1 << 20);
        Self {
            subject: subject.into(),
            figure: format!("{mib:.1} MiB"),
            against: format!("{limit_mib} MiB"),
            ratio: mib / limit_mib as f64,
            target: Target::AtMost(1.0),
        }
    }

    /// Occurrences per second against others.
    pub fn of_rates(subject: impl Into<String>, per_second: f64, than: (f64, &str), target: Target) -> Self {
        Self {
            subject: subject.into(),
            figure: format!("{per_second:.0}/s"),
            against: format!("{:.0}/s {}", than.0, than.1),
            ratio: per_second / than.0,
            target,
        }
    }
}

fn in_ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// The one in the middle, by which a single disturbed repetition changes nothing.
pub fn median<T: PartialOrd + Copy>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|left, right| left.partial_cmp(right).expect("figures can be compared"));
    sorted[sorted.len() / 2]
}

/// The table as Markdown, so that it can be put into a document as it is.
pub fn render(rows: &[Row]) -> String {
    let head = ["what", "measured", "against", "ratio", "target", ""].map(str::to_owned);
    let lines: Vec<[String; 6]> = rows.iter().map(cells).collect();
    let width = |column: usize| lines.iter().chain([&head]).map(|it| it[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |cells: &[String; 6]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} "));
        format!("|{}|\n", padded.collect::<Vec<_>>().join("|"))
    };
    let rule = widths.map(|width| "-".repeat(width));
    let body: String = lines.iter().map(line).collect();
    format!("{}{}{body}", line(&head), line(&rule))
}

fn cells(row: &Row) -> [String; 6] {
    let verdict = match row.target {
        Target::Shown => "",
        Target::AtLeast(_) | Target::AtMost(_) => {
            if row.is_met() {
                "met"
            } else {
                "MISSED"
            }
        }
    };
    let ratio = format!("{:.2}", row.ratio);
    [row.subject.clone(), row.figure.clone(), row.against.clone(), ratio, row.target.to_string(), verdict.to_owned()]
}
