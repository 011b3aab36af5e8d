//! `demo`: the whole journey of a push on this machine, with a repository, a daemon and listeners of its own.
//!
//! Invariant: everything shown has really happened; each fact is looked up where a person would look.

mod sinks;
mod site;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anstream::{eprintln, println};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{
    cli::{
        Exit, Reach,
        client::{Client, Trouble},
        log,
        show::fetch_run,
        table::{BOLD, DIM, colour, complain},
    },
    web::views::{Run, Status},
};

/// Each thing that the demo waits for comes within this time, or it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `demo`.
#[derive(Args)]
pub(super) struct Options {
    /// End after the first deploy: exit code 0 only if everything was seen
    #[arg(long)]
    once: bool,
}

/// `landfall demo`.
pub(super) fn demo(options: &Options) -> Exit {
    match journey(options) {
        Ok(()) => Exit::Ok,
        Err(err) => complain(&Trouble::new(Exit::Failed, format!("the demo failed: {err:#}"))),
    }
}

fn journey(options: &Options) -> Result<()> {
    let folder = Folder::make()?;
    let sinks = sinks::open()?;
    let site = site::make(&folder.0, &sinks)?;
    seen(&format!("a git repository with one commit: {}", site.remote.display()));

    let mut daemon = Daemon::start(&site)?;
    let client = daemon.client(&site)?;
    let status: Status = client.get("/v1/status").map_err(said)?;
    seen(&format!("the daemon receives at http://{} and follows {}", status.listen, site.hooks_file.display()));

    let commit = site.push_a_commit("Landfall was here")?;
    seen(&format!("a commit was pushed for real: {} \"Landfall was here\"", &commit[..7]));
    let (code, answer) = site.deliver(&status.listen, &commit)?;
    ensure!(code == 202, "the delivery was answered {code}: {answer}");
    let run = answer["runs"][0]["id"].as_i64().context("the answer names no run")?;
    seen(&format!("the signed delivery was answered {code}: {answer}"));

    println!("{DIM}  ┌ landfall log -f {run}{DIM:#}");
    let ended = follow(&client, run)?;
    println!("{DIM}  └{DIM:#}");
    ensure!(ended.outcome.as_deref() == Some("succeeded"), "run {run} ended {:?}: {:?}", ended.outcome, ended.reason);
    seen(&format!("run {run} succeeded"));

    let live = site.live.join("index.html");
    let page = std::fs::read_to_string(&live).with_context(|| format!("cannot read {}", live.display()))?;
    ensure!(page.contains("Landfall was here"), "{} is not the pushed one: {page}", live.display());
    seen(&format!("the deployed file {} says: {}", live.display(), page.trim()));
    let (duplicate, answer) = site.deliver(&status.listen, &commit)?;
    ensure!(duplicate == 200 && answer["result"] == "duplicate", "the same delivery again was answered {answer}");
    seen("the same delivery again was answered `duplicate`, and started nothing");

    let mail = sinks.mail(PATIENCE).context("no mail came")?;
    seen(&format!("a mail was received: {}", header(&mail, "Subject").unwrap_or_default()));
    let slack = sinks.slack(PATIENCE).context("no Slack message came")?;
    seen(&format!("a Slack message was received: {}", slack["text"].as_str().unwrap_or_default()));
    if options.once {
        daemon.end()?;
        seen("the daemon stopped when asked to");
        return Ok(());
    }
    stay(&site, &status, &mut daemon)
}

/// Says where to look, and waits for Ctrl-C.
fn stay(site: &site::Site, status: &Status, daemon: &mut Daemon) -> Result<()> {
    let program = std::env::current_exe()?;
    let command = format!("{} {{}} --config {}", program.display(), site.hooks_file.display());
    println!("\n{BOLD}The daemon stays up until Ctrl-C. Look around:{BOLD:#}");
    for (verb, about) in [
        ("status", "the daemon and its hook"),
        ("runs", "what ran"),
        ("show 1", "one run, and who was told"),
        ("log 1", "its output"),
        ("deliveries", "what came in"),
        ("why website", "why it is as it is"),
        ("deploy website --wait", "deploy again, by hand"),
    ] {
        println!("  {:<60} {DIM}# {about}{DIM:#}", command.replace("{}", verb));
    }
    println!(
        "  {DIM}receives at http://{}; the repository to push to is {}{DIM:#}",
        status.listen,
        site.remote.display()
    );
    daemon.child.wait().context("cannot wait for the daemon")?;
    Ok(())
}

fn follow(client: &Client, run: i64) -> Result<Run> {
    let began = Instant::now();
    let mut next = 0;
    loop {
        next = log::follow(client, run, next, true, None).map_err(said)?;
        let run = fetch_run(client, run).map_err(said)?;
        if run.state == "finished" {
            log::follow(client, run.id, next, true, None).map_err(said)?;
            return Ok(run);
        }
        ensure!(began.elapsed() < PATIENCE, "run {} did not end within {} s", run.id, PATIENCE.as_secs());
    }
}

fn seen(fact: &str) {
    let green = colour("succeeded");
    println!("{green}✔{green:#} {fact}");
}

fn said(trouble: Trouble) -> anyhow::Error {
    anyhow::Error::msg(trouble.message)
}

/// A header of a mail, its folded lines joined (RFC 5322, 2.2.3).
fn header(mail: &str, name: &str) -> Option<String> {
    let mut lines = mail.lines().take_while(|line| !line.is_empty());
    let first = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
    Some(lines.take_while(|line| line.starts_with(' ')).fold(first.to_owned(), |text, line| text + line))
}

/// A folder that is removed when the demo is over.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("landfall-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {err}", self.0.display());
        }
    }
}

/// The daemon of the demo: this very program, ended when the demo is over.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(site: &site::Site) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--config").arg(&site.hooks_file).arg("--log").arg("warn");
        command.envs(site.environment.iter().cloned()).env_remove("LANDFALL_SOCKET").env_remove("RUNTIME_DIRECTORY");
        command.env_remove("STATE_DIRECTORY").stdin(Stdio::null());
        Ok(Self { child: command.spawn().context("cannot start the daemon")? })
    }

    /// A client, as soon as the daemon answers.
    fn client(&mut self, site: &site::Site) -> Result<Client> {
        let began = Instant::now();
        let reach = Reach { config: Some(site.hooks_file.clone()), socket: Some(site.state.join("landfall.sock")) };
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended at once: {status}");
            }
            let client = Client::find(&reach).map_err(said)?;
            if client.get::<Status>("/v1/status").is_ok() {
                return Ok(client);
            }
            ensure!(began.elapsed() < PATIENCE, "the daemon does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to stop, and waits until it has.
    fn end(&mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).context("cannot stop the daemon")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let is_running = matches!(self.child.try_wait(), Ok(None));
        if is_running && self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
