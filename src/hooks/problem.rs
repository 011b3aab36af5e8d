//! What is wrong with a hooks.yaml, where, and what to do about it; for people and for scripts.
//!
//! Invariant: a rendered problem shows no secret that stands in the file, and no character that a terminal obeys.

use std::{fmt, path::PathBuf};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::model::text;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file it is in, as it was named.
    pub file: PathBuf,
    /// Its line; the first is 1.
    pub line: usize,
    /// Its column in characters; the first is 1.
    pub column: usize,
    /// The first column after it, on the same line.
    pub end_column: usize,
    /// A stable word for scripts, such as `unknown-key`.
    pub code: &'static str,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

/// Whether a file with this problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and somebody should look.
    Warning,
}

impl Severity {
    /// The word of JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl fmt::Display for Problem {
    /// One line, for logs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        write!(out, "{}[{}]: {}", self.severity.word(), self.code, self.message)?;
        match &self.help {
            Some(help) => write!(out, " ({help})"),
            None => Ok(()),
        }
    }
}

/// The problems as a compiler would show them, each with its line of `source` and a caret.
pub fn render(problems: &[Problem], source: &str, colour: bool) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let mut page = String::new();
    for problem in problems {
        let line = problem.line.checked_sub(1).and_then(|it| lines.get(it)).copied();
        page.push_str(&render_one(problem, line, Colours::chosen(colour)));
        page.push('\n');
    }
    page
}

struct Colours {
    error: Style,
    warning: Style,
    frame: Style,
    strong: Style,
}

impl Colours {
    fn chosen(colour: bool) -> Self {
        if !colour {
            let plain = Style::new();
            return Self { error: plain, warning: plain, frame: plain, strong: plain };
        }
        Self {
            error: AnsiColor::Red.on_default().bold(),
            warning: AnsiColor::Yellow.on_default().bold(),
            frame: AnsiColor::Blue.on_default().bold(),
            strong: Style::new().bold(),
        }
    }
}

fn render_one(problem: &Problem, line: Option<&str>, colours: Colours) -> String {
    let Colours { error, warning, frame, strong } = colours;
    let alarm = match problem.severity {
        Severity::Error => error,
        Severity::Warning => warning,
    };
    let number = problem.line.to_string();
    let gutter = " ".repeat(number.len());
    let (word, code, message) = (problem.severity.word(), problem.code, visible(&problem.message));
    let (file, column) = (problem.file.display(), problem.column);
    let mut text = format!("{alarm}{word}[{code}]{alarm:#}{strong}: {message}{strong:#}\n");
    text.push_str(&format!("{gutter}{frame}-->{frame:#} {file}:{number}:{column}\n"));
    if let Some(line) = line {
        let before: String = line.chars().take(problem.column.saturating_sub(1)).collect();
        let width = problem.end_column.saturating_sub(problem.column);
        let marked: String = line.chars().skip(problem.column.saturating_sub(1)).take(width).collect();
        let indent = " ".repeat(visible(&before).chars().count());
        let carets = "^".repeat(visible(&marked).chars().count().max(1));
        text.push_str(&format!("{gutter} {frame}|{frame:#}\n"));
        text.push_str(&format!("{frame}{number} |{frame:#} {}\n", visible(line)));
        text.push_str(&format!("{gutter} {frame}|{frame:#} {indent}{alarm}{carets}{alarm:#}\n"));
    }
    if let Some(help) = &problem.help {
        text.push_str(&format!("{gutter} {frame}={frame:#} help: {}\n", visible(help)));
    }
    text
}

/// The text with tabs widened and control characters made harmless.
fn visible(foreign: &str) -> String {
    let mut shown = String::with_capacity(foreign.len());
    for character in foreign.chars() {
        match character {
            '\t' => shown.push_str("    "),
            it => shown.push_str(&text::shown(it.encode_utf8(&mut [0; 4]))),
        }
    }
    shown
}

#[derive(Serialize)]
struct Written<'p> {
    file: String,
    line: usize,
    column: usize,
    code: &'p str,
    severity: &'p str,
    message: &'p str,
    help: Option<&'p str>,
}

/// The problems as a JSON array.
pub fn to_json(problems: &[Problem]) -> String {
    let written: Vec<Written<'_>> = problems
        .iter()
        .map(|it| Written {
            file: it.file.display().to_string(),
            line: it.line,
            column: it.column,
            code: it.code,
            severity: it.severity.word(),
            message: &it.message,
            help: it.help.as_deref(),
        })
        .collect();
    let json = serde_json::to_string(&written).expect("strings and numbers are JSON");
    text::json(&json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Problem, Severity, render, to_json};

    fn problem(line: usize, column: usize, end_column: usize) -> Problem {
        Problem {
            file: "hooks.yaml".into(),
            line,
            column,
            end_column,
            code: "unknown-key",
            severity: Severity::Error,
            message: "unknown key `brnch`".into(),
            help: Some("did you mean `branch`?".into()),
        }
    }

    #[test]
    fn a_problem_is_shown_under_its_line_with_a_caret() {
        let page = render(&[problem(2, 3, 8)], "hooks:\n  brnch: x\n", false);
        let expect = "error[unknown-key]: unknown key `brnch`\n --> hooks.yaml:2:3\n  |\n2 |   brnch: x\n  |   ^^^^^\n  \
                      = help: did you mean `branch`?\n\n";
        assert_eq!(page, expect);
    }

    #[test]
    fn carets_stand_right_after_a_tab_and_no_control_character_reaches_the_terminal() {
        let page = render(&[problem(1, 2, 4)], "\tab\u{1b}[31m\n", false);
        assert!(page.contains("|     ab\u{fffd}[31m\n  |     ^^\n"), "{page}");
        let beyond = render(&[problem(9, 1, 1)], "one line\n", false);
        assert!(!beyond.contains('^') && beyond.contains("hooks.yaml:9:1"), "{beyond}");
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        assert!(render(&[problem(1, 1, 2)], "x\n", true).contains("\u{1b}["));
    }

    #[test]
    fn json_has_the_fields_that_scripts_rely_on() {
        let expect = r#"[{"file":"hooks.yaml","line":2,"column":3,"code":"unknown-key","severity":"error","message":"unknown key `brnch`","help":"did you mean `branch`?"}]"#;
        assert_eq!(to_json(&[problem(2, 3, 8)]), expect);
    }
}
