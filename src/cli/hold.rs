//! `hold` and `resume`: keeps jobs waiting while a person wants it.
//!
//! Invariant: a hold always has a reason and an author.

use std::time::Duration;

use anstream::eprintln;
use clap::Args;

use crate::{
    cli::{
        Exit, Reach,
        act::actor,
        client::{Client, Trouble},
        table::{clean, conclude},
    },
    hooks,
    web::views::{HoldRequest, ResumeRequest, Said},
};

/// Options of `hold`.
#[derive(Args)]
pub(super) struct HoldOptions {
    /// The hook's name
    #[arg(required_unless_present = "all")]
    hook: Option<String>,
    /// All hooks
    #[arg(long, conflicts_with = "hook")]
    all: bool,
    /// Why; it is shown in `status` and `why`
    #[arg(long)]
    reason: String,
    /// How long, like `2h` or `1h 30m` [default: until `landfall resume`]
    #[arg(long = "for", value_name = "DURATION")]
    span: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Options of `resume`.
#[derive(Args)]
pub(super) struct ResumeOptions {
    /// The hook's name
    #[arg(required_unless_present_any = ["all", "lane"])]
    hook: Option<String>,
    /// All hooks, where all were put on hold; holds of single hooks stay
    #[arg(long, conflicts_with_all = ["hook", "commit", "lane"])]
    all: bool,
    /// A commit of the hook that did not come up: let it be queued again
    #[arg(long, value_name = "SHA", requires = "hook")]
    commit: Option<String>,
    /// A lane that was stopped, since something of an interrupted run could not be ended
    #[arg(long, conflicts_with = "hook")]
    lane: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// `landfall hold`.
pub(super) fn hold(options: &HoldOptions) -> Exit {
    let span = options.span.as_deref().map(seconds).transpose();
    conclude(span.and_then(|seconds| {
        let (hook, reason) = (options.hook.clone(), options.reason.clone());
        say(&options.reach, "/v1/hold", &HoldRequest { hook, reason, actor: actor(), seconds })
    }))
}

/// `landfall resume`.
pub(super) fn resume(options: &ResumeOptions) -> Exit {
    let (hook, commit, lane) = (options.hook.clone(), options.commit.clone(), options.lane.clone());
    conclude(say(&options.reach, "/v1/resume", &ResumeRequest { hook, commit, lane, actor: actor() }))
}

fn say(reach: &Reach, path: &str, request: &impl serde::Serialize) -> Result<Exit, Trouble> {
    let said: Said = Client::find(reach)?.post(path, request)?;
    eprintln!("{}", clean(&said.message));
    Ok(Exit::Ok)
}

fn seconds(text: &str) -> Result<u64, Trouble> {
    let span = hooks::duration(text).map_err(|help| Trouble::new(Exit::Usage, format!("--for {text}: {help}")))?;
    // Part of a second is a whole one: a hold of no time at all would be none.
    Ok(span.as_secs() + u64::from(span > Duration::from_secs(span.as_secs())))
}
