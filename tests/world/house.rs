//! The real binary at work: a daemon with a hooks.yaml, and a person who asks it to deploy.
//!
//! Invariant: everything that runs for a house has `WORLD_HOUSE=<folder>` in its environment or works below its folder,
//! and ends with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::until;

/// Longer than this no deploy lasts, on any machine.
const SECONDS_MAX: &str = "300";

/// A running daemon.
pub struct House {
    folder: PathBuf,
    daemon: Child,
}

impl House {
    /// Starts a daemon whose hooks are these lines, indented by two.
    pub fn open(folder: &Path, hooks: &str) -> Self {
        let text = format!(
            "server: {{listen: '127.0.0.1:0', admin: off, state: '{}', workers: 4}}\n\
             defaults: {{timeout: 240s, retry: {{max: 2, on: [tempfail, fetch], backoff: 100ms}}}}\nhooks:\n{hooks}",
            folder.join("state").display()
        );
        fs::write(folder.join("hooks.yaml"), text).expect("written");
        let log = fs::File::create(folder.join("daemon.log")).expect("a log");
        let mut command = command_in(folder, &["serve", "--log-format", "human"]);
        let mut house = Self { folder: folder.to_owned(), daemon: command.stderr(log).spawn().expect("the daemon") };
        until("the daemon answers", || {
            let ended = house.daemon.try_wait().expect("a child");
            let log = || fs::read_to_string(house.folder.join("daemon.log")).unwrap_or_default();
            assert!(ended.is_none(), "the daemon ended {ended:?}: {}", log());
            let status = command_in(folder, &["status", "--json"]).output().expect("it runs");
            status.status.success().then_some(())
        });
        house
    }

    /// Where the daemon keeps mirrors and runs.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Begins to deploy what main is now, or just this commit.
    pub fn begin_deploy(&self, hook: &str, commit: Option<&str>) -> Child {
        let what = commit.map_or(["--ref", "main"], |it| ["--sha", it]);
        let arguments = ["deploy", hook, what[0], what[1], "--wait", "--timeout", SECONDS_MAX];
        let mut command = command_in(&self.folder, &arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command")
    }

    /// Deploys, or says why that did not succeed.
    pub fn deploy(&self, hook: &str, commit: Option<&str>) -> Result<(), String> {
        judged(&self.begin_deploy(hook, commit).wait_with_output().expect("it ends"))
    }

    /// Pushes a commit to main, signed as the forge does it, and waits until it has succeeded.
    pub fn push(&self, hook: &str, commit: &str) -> Result<(), String> {
        let ask = |arguments: &[&str]| -> Result<Value, String> {
            let output = command_in(&self.folder, arguments).output().expect("the command");
            judged(&output)?;
            serde_json::from_slice(&output.stdout).map_err(|err| err.to_string())
        };
        let sent = ask(&["send", hook, "--ref", "main", "--sha", commit, "--json"])?;
        let answer = &sent["answer"];
        let answer = answer.as_str().map_or_else(|| Ok(answer.clone()), serde_json::from_str);
        let answer: Value = answer.map_err(|err| format!("{err}: {sent}"))?;
        let Some(run) = answer["runs"][0]["id"].as_i64() else { return Err(format!("no run was queued: {sent}")) };
        let run = run.to_string();
        let view = until(&format!("run {run} of {hook} ends"), || {
            ask(&["show", &run, "--json"]).ok().filter(|it| it["state"] == "finished")
        });
        if view["outcome"] == "succeeded" { Ok(()) } else { Err(format!("{}: {}", view["outcome"], view["reason"])) }
    }

    /// The git child that is at work now, and the keeper that has started it.
    pub fn git_work(&self) -> Option<(Pid, Pid)> {
        let state = self.state();
        processes().into_iter().find_map(|process| {
            let is_at_home = || fs::read_link(process.path.join("cwd")).is_ok_and(|it| it.starts_with(&state));
            let is_git = process.cmdline().windows(8).any(|it| it == b"git-work");
            (is_git && is_at_home()).then(|| process.parent().map(|parent| (process.pid, parent)))?
        })
    }
}

/// What a `deploy --wait` has come to.
pub fn judged(output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout.as_slice(), &output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    let lines: Vec<&str> = words.lines().filter(|it| !it.trim().is_empty()).collect();
    Err(format!("{}: {}", output.status, lines.last().unwrap_or(&"no word")))
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // Keepers outlive their daemon by design; those of a world that failed must not outlive the world.
        let mark = format!("WORLD_HOUSE={}", self.folder.display()).into_bytes();
        for process in processes() {
            let environment = fs::read(process.path.join("environ")).unwrap_or_default();
            let is_ours = fs::read_link(process.path.join("cwd")).is_ok_and(|it| it.starts_with(&self.folder));
            if is_ours || environment.split(|it| *it == 0).any(|it| it == mark) {
                let _ = kill(process.pid, Signal::SIGKILL);
            }
        }
    }
}

fn command_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env_remove("LANDFALL_SOCKET").env_remove("STATE_DIRECTORY").env_remove("RUNTIME_DIRECTORY");
    command.env("SECRET", "a secret that nobody guesses").env("WORLD_HOUSE", folder);
    command
}

/// A process of this machine.
struct Process {
    pid: Pid,
    path: PathBuf,
}

impl Process {
    fn cmdline(&self) -> Vec<u8> {
        fs::read(self.path.join("cmdline")).unwrap_or_default()
    }

    fn parent(&self) -> Option<Pid> {
        let status = fs::read_to_string(self.path.join("status")).ok()?;
        let parent = status.lines().find_map(|it| it.strip_prefix("PPid:"))?;
        parent.trim().parse().ok().filter(|it| *it > 1).map(Pid::from_raw)
    }
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let numbered = entries.filter_map(|it| Some((it.file_name().to_str()?.parse().ok()?, it.path())));
    numbered.map(|(pid, path)| Process { pid: Pid::from_raw(pid), path }).collect()
}
