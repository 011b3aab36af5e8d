//! `doctor`: looks at what an operator has set up, and says what is in order and what to do about the rest.
//!
//! Invariant: exit code 2 means that hooks.yaml would not be taken, 1 that something else does not work, 0 neither.

use std::path::{Path, PathBuf};

use anstream::eprintln;
use anstyle::Style;
use clap::Args;
use serde::Serialize;

use crate::{
    checkup::{self, Checkup, Daemon, Finding, Unit, Verdict},
    cli::{
        Exit, Reach,
        client::{Client, Trouble, config_of},
        out::println,
        table::{BOLD, DIM, clean, colour, complain, print_json},
    },
    hooks::{self, Environment},
    web::views::Status,
};

/// Options of `doctor`.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// Print what was found as a JSON array
    #[arg(long)]
    json: bool,
}

/// What programs read of a finding.
#[derive(Serialize)]
struct Written<'f> {
    verdict: &'static str,
    subject: &'f str,
    message: &'f str,
    help: Option<&'f str>,
}

/// `landfall doctor`.
pub(super) fn doctor(options: &Options) -> Exit {
    let Some(file) = config_of(options.reach.config.as_deref()) else {
        let message = "there is no hooks.yaml here nor in /etc/landfall; name one with --config";
        return complain(&Trouble::new(Exit::Usage, message));
    };
    let mut daemon = ask(Client::find(&options.reach));
    let pid = match &daemon {
        Daemon::Answers(status) => Some(status.pid),
        Daemon::Silent(_) => None,
    };
    let unit = Unit::find(pid);
    let mut environment = Environment::of_process();
    if let Some(state) = unit.as_ref().and_then(|it| it.state_of(&file)) {
        environment = environment.with("STATE_DIRECTORY", &state.to_string_lossy());
        if let (Daemon::Silent(_), None) = (&daemon, &options.reach.socket) {
            daemon = ask(Client::at(vec![state.join("landfall.sock")]));
        }
    }
    let state = state_of(&daemon, &file, &environment);
    let checkup = checkup::look(&file, &environment, state.as_deref(), &daemon, unit.as_ref());
    if options.json {
        let written = checkup.findings.iter().map(|it| Written {
            verdict: it.verdict.word(),
            subject: &it.subject,
            message: &it.message,
            help: it.help.as_deref(),
        });
        print_json(&written.collect::<Vec<_>>());
    } else {
        print(&checkup.findings);
    }
    exit_of(&checkup)
}

fn ask(client: Result<Client, Trouble>) -> Daemon {
    match client.and_then(|it| it.get::<Status>("/v1/status")) {
        Ok(status) => Daemon::Answers(Box::new(status)),
        // The rest of it says how to start one.
        Err(trouble) => Daemon::Silent(trouble.message.lines().next().unwrap_or_default().to_owned()),
    }
}

/// Where the daemon keeps its state: by its own word, else by hooks.yaml.
fn state_of(daemon: &Daemon, file: &Path, environment: &Environment) -> Option<PathBuf> {
    match daemon {
        Daemon::Answers(status) => Some(PathBuf::from(&status.state)),
        Daemon::Silent(_) => hooks::state_folder(file, environment).ok(),
    }
}

fn exit_of(checkup: &Checkup) -> Exit {
    let is_bad = checkup.findings.iter().any(|it| it.verdict == Verdict::Fail);
    match (checkup.is_config_good, is_bad) {
        (false, _) => Exit::Usage,
        (true, true) => Exit::Failed,
        (true, false) => Exit::Ok,
    }
}

fn print(findings: &[Finding]) {
    let width = findings.iter().map(|it| it.subject.chars().count()).max().unwrap_or_default();
    for finding in findings {
        let style = style_of(finding.verdict);
        let gap = " ".repeat(width - finding.subject.chars().count());
        let help = finding.help.as_ref().map(|it| format!("{DIM} → {DIM:#}{}", clean(it))).unwrap_or_default();
        let (word, subject) = (finding.verdict.word(), clean(&finding.subject));
        println!("{style}{word:<4}{style:#}  {BOLD}{subject}{BOLD:#}{gap}  {}{help}", clean(&finding.message));
    }
    let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let (failures, warnings) = (count(Verdict::Fail), count(Verdict::Warn));
    let some = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let parts: Vec<String> = [some(failures, "failure"), some(warnings, "warning")].into_iter().flatten().collect();
    match parts.is_empty() {
        true => eprintln!("everything is in order"),
        false => eprintln!("{}", parts.join(", ")),
    }
}

fn style_of(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Ok => colour("succeeded"),
        Verdict::Warn => colour("queued_up"),
        Verdict::Fail => colour("failed").bold(),
    }
}
