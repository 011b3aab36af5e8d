//! `releases`, `rollback` and `adopt`: what has been live, and the way back to it.
//!
//! Invariant: who asked, and why, is written into the run they caused.

use std::time::Duration;

use anstream::eprintln;
use clap::Args;

use crate::{
    cli::{
        Exit, Reach,
        act::{actor, wait_for},
        client::{Client, Trouble},
        out::println,
        show::{escape, short},
        table::{BOLD, Cell, DIM, cell, clean, colour, conclude, local_time, painted, print, print_json},
    },
    model::size::Size,
    web::views::{ActRequest, Done, Release, Releases, RollbackRequest},
};

/// Options of `releases`.
#[derive(Args)]
pub(super) struct ReleasesOptions {
    /// The hook's name
    hook: String,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `rollback`.
#[derive(Args)]
pub(super) struct RollbackOptions {
    /// The hook's name
    hook: String,
    /// A release, a commit's first digits, or -N for the N-th good one before the live one [default: -1]
    #[arg(long, value_name = "RELEASE|SHA|-N", allow_hyphen_values = true)]
    to: Option<String>,
    /// Why; it is kept with the run and the release that is left
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    reach: Reach,
}

/// Options of `adopt`.
#[derive(Args)]
pub(super) struct AdoptOptions {
    /// The hook's name
    hook: String,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    reach: Reach,
}

/// Whether to wait for the run, and how long.
#[derive(Args)]
struct Waiting {
    /// Print the log until the run has ended, and take its outcome as exit code
    #[arg(long)]
    wait: bool,
    /// With --wait: how many seconds at most
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
}

/// `landfall releases`.
pub(super) fn releases(options: &ReleasesOptions) -> Exit {
    let path = format!("/v1/hooks/{}/releases", escape(&options.hook));
    conclude(Client::find(&options.reach).and_then(|client| client.get::<Releases>(&path)).map(|found| {
        let Releases { releases, remarks } = found;
        remarks.iter().for_each(|it| eprintln!("{}", clean(it)));
        if options.json {
            return print_json(&releases);
        }
        if releases.is_empty() {
            eprintln!("no releases yet; the next deploy makes one");
        } else {
            let headings = ["DATE", "RELEASE", "STATE", "COMMIT", "BY", "SIZE", "WHAT"];
            print(&headings, &releases.iter().map(row).collect::<Vec<_>>());
        }
        Exit::Ok
    }))
}

/// `landfall rollback`.
pub(super) fn rollback(options: &RollbackOptions) -> Exit {
    let request = RollbackRequest { to: options.to.clone(), reason: options.reason.clone(), actor: actor() };
    let result = Client::find(&options.reach).and_then(|client| {
        let done: Done = client.post(&format!("/v1/hooks/{}/rollback", escape(&options.hook)), &request)?;
        follow(&client, &done, &options.waiting)
    });
    conclude(result)
}

/// `landfall adopt`.
pub(super) fn adopt(options: &AdoptOptions) -> Exit {
    let request = ActRequest { actor: actor(), reason: None };
    let result = Client::find(&options.reach).and_then(|client| {
        let done: Done = client.post(&format!("/v1/hooks/{}/adopt", escape(&options.hook)), &request)?;
        follow(&client, &done, &options.waiting)
    });
    conclude(result)
}

fn follow(client: &Client, done: &Done, waiting: &Waiting) -> Result<Exit, Trouble> {
    eprintln!("{}", clean(&done.message));
    if waiting.wait {
        return wait_for(client, done.run, waiting.timeout.map(Duration::from_secs), true);
    }
    println!("{}", done.run);
    Ok(Exit::Ok)
}

fn row(release: &Release) -> Vec<Cell> {
    let (state, style) = match (release.is_live, release.verdict.as_str()) {
        (true, "bad") => ("live, bad", colour("failed")),
        (true, _) => ("live", colour("succeeded")),
        (false, "bad") => ("bad", colour("failed")),
        (false, "good") => ("good", DIM),
        (false, _) => ("not known", colour("skipped")),
    };
    let what = match &release.note {
        Some(note) => format!("{} ({note})", release.subject),
        None => release.subject.clone(),
    };
    vec![
        painted(local_time(&release.at), DIM),
        painted(&release.release, BOLD),
        painted(state, style),
        cell(short(release.sha.as_deref())),
        cell(&release.author),
        cell(Size(release.size_bytes).to_string()),
        cell(what),
    ]
}
