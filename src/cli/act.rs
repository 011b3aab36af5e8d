//! `deploy`, `cancel`, `retry` and `send`: what people ask the daemon to do.
//!
//! Invariant: who asked is written into the run they caused.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anstream::eprintln;
use clap::Args;
use nix::unistd::{Uid, User};

use crate::{
    cli::{
        Exit, Reach,
        client::{Client, Trouble},
        log::follow,
        out::println,
        show::{escape, fetch_run, path_of_run, state_word},
        table::{clean, conclude, print_json},
    },
    web::views::{ActRequest, DeployRequest, Done, RetryRequest, Run, RunInFull, SendRequest, Sent},
};

/// Options of `deploy`.
#[derive(Args)]
pub(super) struct DeployOptions {
    /// The hook's name
    hook: String,
    /// Exactly this commit
    #[arg(long, conflicts_with = "ref_name")]
    sha: Option<String>,
    /// Where this branch or full ref points when the run begins [default: the hook's branch]
    #[arg(long = "ref", value_name = "REF")]
    ref_name: Option<String>,
    /// Print the log until the run has ended, and take its outcome as exit code
    #[arg(long)]
    wait: bool,
    /// With --wait: how many seconds at most
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
    #[command(flatten)]
    reach: Reach,
    /// Print the run as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `cancel`.
#[derive(Args)]
pub(super) struct CancelOptions {
    /// The run's number
    run: i64,
    /// Why; it is kept with the run
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Options of `retry`.
#[derive(Args)]
pub(super) struct RetryOptions {
    /// The run's number
    run: i64,
    /// With the hook as it was in that run [default: as hooks.yaml has it now]
    #[arg(long)]
    as_it_was: bool,
    /// Print the log until the new run has ended, and take its outcome as exit code
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Options of `send`.
#[derive(Args)]
pub(super) struct SendOptions {
    /// The hook's name
    hook: String,
    /// The branch or full ref of the made-up push [default: the hook's branch]
    #[arg(long = "ref", value_name = "REF", conflicts_with = "payload")]
    ref_name: Option<String>,
    /// The commit of the made-up push [default: the newest one known of that ref]
    #[arg(long, conflicts_with = "payload")]
    sha: Option<String>,
    /// A body to send as it is
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// The event's name that goes with --payload [default: a push]
    #[arg(long, requires = "payload")]
    event: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// `landfall deploy`.
pub(super) fn deploy(options: &DeployOptions) -> Exit {
    let request = DeployRequest { sha: options.sha.clone(), ref_name: options.ref_name.clone(), actor: actor() };
    let result = Client::find(&options.reach).and_then(|client| {
        let done: Done = client.post(&format!("/v1/hooks/{}/deploy", escape(&options.hook)), &request)?;
        eprintln!("{}", clean(&done.message));
        let exit = if options.wait {
            wait_for(&client, done.run, options.timeout.map(Duration::from_secs), !options.json)?
        } else {
            Exit::Ok
        };
        if options.json {
            print_json(&fetch_run(&client, done.run)?);
        } else if !options.wait {
            println!("{}", done.run);
        }
        Ok(exit)
    });
    conclude(result)
}

/// `landfall cancel`.
pub(super) fn cancel(options: &CancelOptions) -> Exit {
    let request = ActRequest { actor: actor(), reason: options.reason.clone() };
    conclude(Client::find(&options.reach).and_then(|client| {
        let done: Done = client.post(&format!("/v1/runs/{}/cancel", options.run), &request)?;
        eprintln!("{}", clean(&done.message));
        Ok(Exit::Ok)
    }))
}

/// `landfall retry`.
pub(super) fn retry(options: &RetryOptions) -> Exit {
    let request = RetryRequest { actor: actor(), as_it_was: options.as_it_was };
    conclude(Client::find(&options.reach).and_then(|client| {
        let done: Done = client.post(&format!("/v1/runs/{}/retry", options.run), &request)?;
        eprintln!("{}", clean(&done.message));
        if options.wait {
            return wait_for(&client, done.run, None, true);
        }
        println!("{}", done.run);
        Ok(Exit::Ok)
    }))
}

/// `landfall send`.
pub(super) fn send(options: &SendOptions) -> Exit {
    let payload = options.payload.as_ref().map(|file| {
        let unreadable = |err| Trouble::new(Exit::Usage, format!("cannot read {}: {err}", file.display()));
        fs::read_to_string(file).map_err(unreadable)
    });
    let result = payload.transpose().and_then(|payload| {
        let request = SendRequest {
            ref_name: options.ref_name.clone(),
            sha: options.sha.clone(),
            payload,
            event: options.event.clone(),
        };
        let client = Client::find(&options.reach)?;
        let sent: Sent = client.post(&format!("/v1/hooks/{}/send", escape(&options.hook)), &request)?;
        if options.json {
            print_json(&sent);
        } else {
            eprintln!("posted to {}", sent.url);
            println!("{} {}", sent.status, sent.answer);
        }
        Ok(if (200..300).contains(&sent.status) { Exit::Ok } else { Exit::Failed })
    });
    conclude(result)
}

/// Waits for a run's end, and for that of those that repeat it, printing the log meanwhile; the exit code tells the
/// outcome.
pub(super) fn wait_for(
    client: &Client,
    mut run: i64,
    limit: Option<Duration>,
    with_log: bool,
) -> Result<Exit, Trouble> {
    let until = limit.map(|limit| Instant::now() + limit);
    let is_out_of_time = || until.is_some_and(|until| until <= Instant::now());
    let mut printed = 0;
    let ended = loop {
        printed = follow(client, run, printed, with_log, until)?;
        let now = client.get_patiently::<RunInFull>(&path_of_run(run), until)?.run;
        if now.state == "finished" {
            follow(client, run, printed, with_log, until)?;
            let Some(next) = now.repeated_by else { break now };
            tell(&now);
            eprintln!("run {next} tries it again");
            (run, printed) = (next, 0);
        } else if is_out_of_time() {
            return Err(Trouble::new(
                Exit::TimedOut,
                format!("run {} is still {}; `landfall log -f {0}` follows it", now.id, now.state),
            ));
        }
    };
    tell(&ended);
    Ok(exit_of(&ended))
}

fn tell(run: &Run) {
    let reason = run.reason.as_ref().map(|it| format!(": {}", clean(it))).unwrap_or_default();
    eprintln!("run {} {}{reason}", run.id, state_word(run));
}

/// The exit code that a finished run means for a command that waited for it.
fn exit_of(run: &Run) -> Exit {
    match run.outcome.as_deref() {
        Some("succeeded" | "skipped") => Exit::Ok,
        Some("cancelled" | "superseded") => Exit::Cancelled,
        Some(_) | None => Exit::RunFailed,
    }
}

/// The person at this terminal, as the system knows them.
pub(super) fn actor() -> String {
    let uid = Uid::current();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}
