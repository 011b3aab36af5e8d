//! The command line: the same binary serves, checks, and talks to a daemon over its Unix socket.
//!
//! Invariant: data goes to stdout, talk to stderr, and every failure ends with what to try next.

mod act;
mod check;
mod client;
mod demo;
mod doctor;
mod hold;
mod log;
mod out;
mod releases;
mod serve;
mod show;
mod table;
mod why;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::keeper;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked.
    Ok = 0,
    /// It could not.
    Failed = 1,
    /// The command line or hooks.yaml is wrong.
    Usage = 2,
    /// The run was cancelled or superseded.
    Cancelled = 3,
    /// The daemon does not let us.
    NotAllowed = 4,
    /// The run ended without success.
    RunFailed = 5,
    /// There is no such thing.
    NotFound = 6,
    /// No daemon answers.
    Unreachable = 7,
    /// The time given to wait ran out.
    TimedOut = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// From push to deployed, on your own server, and never lose one.
#[derive(Parser)]
#[command(name = "landfall", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon: receive pushes, carry out runs, tell people
    Serve(serve::Options),
    /// Check hooks.yaml and report every problem at once
    Check(check::Options),
    /// Look at everything that was set up here, and say what to do about what is not in order
    Doctor(doctor::Options),
    /// Show the whole journey of a push on this machine, with a daemon and repository of its own
    Demo(demo::Options),
    /// Show the daemon, its hooks, what is live and what waits
    Status(show::StatusOptions),
    /// List runs, newest first
    Runs(show::RunsOptions),
    /// Show one run: what, why, how it ended, and who was told
    Show(show::ShowOptions),
    /// Print the log of a run
    Log(log::Options),
    /// Deploy by hand: a commit, a ref, or what the hook's branch points at now
    Deploy(act::DeployOptions),
    /// Cancel a waiting or running run
    Cancel(act::CancelOptions),
    /// Run the job of a finished run again
    Retry(act::RetryOptions),
    /// Put a hook, or everything, on hold: jobs wait until it is resumed
    Hold(hold::HoldOptions),
    /// Let a hook, a stopped lane, or a commit that did not come up go on
    Resume(hold::ResumeOptions),
    /// List the releases of a hook: what was live when, what is, and what did not come up
    Releases(releases::ReleasesOptions),
    /// Go back to an earlier release, at once and without a network
    Rollback(releases::RollbackOptions),
    /// Make the first release of a folder that stands where the link to the live one belongs
    Adopt(releases::AdoptOptions),
    /// Let the daemon sign a test delivery as the forge would and post it to its own public listener
    Send(act::SendOptions),
    /// List deliveries with what became of each, newest first
    Deliveries(show::DeliveriesOptions),
    /// Say in sentences why something was deployed, or was not
    Why(why::Options),
    /// Carry out one run; started by the daemon only
    #[command(hide = true)]
    Keeper {
        /// The run's folder.
        folder: PathBuf,
    },
    /// Do one order of git work; started by a keeper only
    #[command(hide = true)]
    GitWork {
        /// A mark of the run.
        run: Option<String>,
    },
    /// Look what stands where hooks deploy to; started by the daemon only
    #[command(hide = true)]
    GroundWork,
    /// Do one errand in a folder of releases; started by a keeper only
    #[command(hide = true)]
    ReleaseWork {
        /// A mark of the run.
        run: Option<String>,
    },
}

/// Where the daemon is to be found; the same for every command that talks to it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// hooks.yaml of the daemon [default: ./hooks.yaml, then /etc/landfall/hooks.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's Unix socket
    #[arg(long, value_name = "PATH", env = "LANDFALL_SOCKET")]
    socket: Option<PathBuf>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    match Cli::parse().command {
        Command::Serve(options) => serve::serve(options).into(),
        Command::Check(options) => check::check(&options).into(),
        Command::Doctor(options) => doctor::doctor(&options).into(),
        Command::Demo(options) => demo::demo(&options).into(),
        Command::Status(options) => show::status(&options).into(),
        Command::Runs(options) => show::runs(&options).into(),
        Command::Show(options) => show::show(&options).into(),
        Command::Log(options) => log::log(&options).into(),
        Command::Deploy(options) => act::deploy(&options).into(),
        Command::Cancel(options) => act::cancel(&options).into(),
        Command::Retry(options) => act::retry(&options).into(),
        Command::Hold(options) => hold::hold(&options).into(),
        Command::Resume(options) => hold::resume(&options).into(),
        Command::Releases(options) => releases::releases(&options).into(),
        Command::Rollback(options) => releases::rollback(&options).into(),
        Command::Adopt(options) => releases::adopt(&options).into(),
        Command::Send(options) => act::send(&options).into(),
        Command::Deliveries(options) => show::deliveries(&options).into(),
        Command::Why(options) => why::why(&options).into(),
        Command::Keeper { folder } => keeper::serve(&folder),
        Command::GroundWork => keeper::ground::serve(),
        Command::GitWork { run: _ } => crate::git::serve(),
        Command::ReleaseWork { run: _ } => keeper::release::serve(),
    }
}
