//! A real daemon of the real binary, with a state folder, a hooks.yaml and a repository of its own.

use std::{
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use landfall::{
    forge::rehearsal::Rehearsal,
    journal::{folder::RunDir, progress},
    keeper,
    model::{
        name::HookName,
        run::RunId,
        secret::{FoundSecret, Secret, SecretRef},
        source::{Proof, Source, SourcePath},
    },
    web::outgoing,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{inbox::SlackSink, repo::Repo, until};

/// The secret that the house shares with its forge.
pub const SECRET: &str = "a secret that nobody guesses";

/// How the daemon is started.
const SERVE: [&str; 3] = ["serve", "--log-format", "human"];

/// What a service manager does with a socket, which the shell gets as its standard input.
pub const HAND_OVER: &str = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=landfall.socket";

/// A daemon that can be killed and started again.
pub struct House {
    pub folder: TempDir,
    pub repo: Repo,
    pub variables: Vec<(String, String)>,
    /// The binary that it starts.
    pub program: PathBuf,
    daemon: Option<Child>,
}

impl House {
    /// A house whose hook `site` has these further lines; it is not started yet. `{live}`, `{remote}` and `{folder}`
    /// stand for paths.
    pub fn with_hook(lines: &str) -> Self {
        Self::with("", lines)
    }

    /// The same, with further top-level lines, and lines below `server`.
    pub fn with(top: &str, hook: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let repo = Repo::make(folder.path());
        let variables = vec![("SECRET".into(), SECRET.into())];
        let house = Self { folder, repo, variables, program: env!("CARGO_BIN_EXE_landfall").into(), daemon: None };
        house.write_hooks(top, hook);
        house
    }

    /// A house that tells this sink, where its hook names the variable `SLACK`.
    pub fn that_tells(sink: &SlackSink, hook: &str) -> Self {
        let mut house = Self::with_hook(hook);
        house.variables.push(("SLACK".into(), sink.url()));
        house
    }

    /// Writes hooks.yaml anew.
    pub fn write_hooks(&self, top: &str, hook: &str) {
        let indented = |text: &str, by: &str| text.lines().map(|it| format!("{by}{it}\n")).collect::<String>();
        let server = if top.contains("server:") { "" } else { "server: {listen: \"127.0.0.1:0\"}\n" };
        let text = format!(
            "{server}{top}\nhooks:\n  site:\n    github: acme/site\n    secret: {{env: SECRET}}\n{}",
            indented(hook, "    ")
        );
        let text = text
            .replace("{live}", self.live().to_str().expect("plain"))
            .replace("{remote}", self.repo.bare.to_str().expect("plain"))
            .replace("{folder}", self.folder.path().to_str().expect("plain"));
        // By rename, as careful editors do it.
        let draft = self.folder.path().join("hooks.yaml.new");
        fs::write(&draft, text).expect("written");
        fs::rename(draft, self.hooks_file()).expect("renamed");
    }

    pub fn hooks_file(&self) -> PathBuf {
        self.folder.path().join("hooks.yaml")
    }

    pub fn live(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join(".landfall")
    }

    /// Starts the daemon, and waits until it answers.
    pub fn start(&mut self) -> &mut Self {
        self.start_as(self.command(&SERVE))
    }

    /// Starts the daemon out of a shell, after these commands, and waits until it answers.
    pub fn start_after(&mut self, commands: &str) -> &mut Self {
        self.start_as(self.in_shell(commands))
    }

    /// Starts the daemon with this socket, as a service manager hands it over, and waits until it answers.
    pub fn start_handed(&mut self, socket: impl Into<OwnedFd>) -> &mut Self {
        let mut shell = self.in_shell(HAND_OVER);
        shell.stdin(socket.into());
        self.start_as(shell)
    }

    /// The daemon, started out of a shell after these commands.
    pub fn in_shell(&self, commands: &str) -> Command {
        let daemon = self.command(&SERVE);
        let mut shell = Command::new("/bin/sh");
        shell.arg("-ec").arg(format!("{commands}\nexec \"$0\" \"$@\"")).arg(daemon.get_program());
        shell.args(daemon.get_args()).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, value) in daemon.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }

    fn start_as(&mut self, mut command: Command) -> &mut Self {
        let log = fs::File::options().create(true).append(true).open(self.log_file()).expect("a log");
        self.daemon = Some(command.stderr(log).spawn().expect("the daemon"));
        until("the daemon answers", || {
            let ended = self.daemon.as_mut().and_then(|it| it.try_wait().expect("a child"));
            assert!(ended.is_none(), "the daemon ended {ended:?}: {}", self.log());
            self.landfall(&["status", "--json"]).status.success().then_some(())
        });
        self
    }

    /// Ends the daemon as the kernel would: at once, in the middle of anything.
    pub fn kill(&mut self) -> &mut Self {
        let mut daemon = self.daemon.take().expect("a daemon");
        daemon.kill().expect("killed");
        daemon.wait().expect("reaped");
        self
    }

    /// Waits until the daemon has ended by itself, and not well.
    pub fn crashed(&mut self) -> &mut Self {
        let status = self.end_of_daemon();
        assert!(!status.success(), "the daemon ended with {status}");
        self
    }

    /// Waits until the daemon has stopped, asked by somebody else.
    pub fn stopped(&mut self) -> &mut Self {
        let status = self.end_of_daemon();
        assert!(status.success(), "the daemon ended with {status}: {}", self.log());
        self
    }

    fn end_of_daemon(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon");
        until("the daemon ends", || daemon.try_wait().expect("a child"))
    }

    /// Asks the daemon to stop.
    pub fn ask_to_stop(&self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("signalled");
    }

    /// Asks the daemon to stop, and waits until it has.
    pub fn stop(&mut self) -> &mut Self {
        self.ask_to_stop();
        let status = self.daemon.take().expect("a daemon").wait().expect("reaped");
        assert!(status.success(), "the daemon ended with {status}: {}", self.log());
        self
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").id()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A command of the same binary, with the house's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command.env_remove("LANDFALL_SOCKET").env_remove("STATE_DIRECTORY").env_remove("RUNTIME_DIRECTORY");
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Runs a command to its end.
    pub fn landfall(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    /// The JSON that a command prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.landfall(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "landfall {arguments:?}: {said}\n{}", self.log());
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Where deliveries are received.
    pub fn listen(&self) -> String {
        self.json(&["status"])["listen"].as_str().expect("an address").to_owned()
    }

    /// The body of a push of `commit` to `ref_name`, as GitHub sends it.
    pub fn push_of(&self, commit: &str, ref_name: &str) -> String {
        json!({
            "ref": ref_name, "before": "0".repeat(40), "after": commit,
            "created": false, "deleted": commit.bytes().all(|it| it == b'0'), "forced": false, "commits": [],
            "head_commit": {"id": commit, "message": "a commit", "author": {"name": "Ana", "email": "ana@example.org"}},
            "pusher": {"name": "ana"}, "sender": {"login": "ana"},
            "repository": {"full_name": "acme/site", "default_branch": "main"},
        })
        .to_string()
    }

    /// Delivers a push of `commit` to main, signed; gives the status and the answer.
    pub fn deliver(&self, commit: &str) -> (u16, Value) {
        self.post("/hooks/site", signed(self.push_of(commit, "refs/heads/main")))
    }

    /// The number of the daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").id()
    }

    /// Delivers a push of `commit` that must be queued; gives the run.
    pub fn queue(&self, commit: &str) -> i64 {
        let (status, answer) = self.deliver(commit);
        assert_eq!(status, 202, "{answer}\n{}", self.log());
        answer["runs"][0]["id"].as_i64().expect("a run")
    }

    /// Delivers a push of `commit` to main to this address, also where the daemon can tell nothing of itself.
    pub fn post_to(&self, listen: &str, commit: &str) -> (u16, Value) {
        post(listen, "/hooks/site", signed(self.push_of(commit, "refs/heads/main")))
    }

    /// The same for any signed body.
    pub fn post_body_to(&self, listen: &str, body: String) -> (u16, Value) {
        post(listen, "/hooks/site", signed(body))
    }

    /// Posts a request to the public listener.
    pub fn post(&self, path: &str, rehearsal: Rehearsal) -> (u16, Value) {
        post(&self.listen(), path, rehearsal)
    }

    /// A run, as `show` tells it.
    pub fn run(&self, run: i64) -> Value {
        self.json(&["show", &run.to_string()])
    }

    /// A run, once it is in this state.
    pub fn run_once(&self, run: i64, state: &str) -> Value {
        until(&format!("run {run} is {state}: {}", self.log()), || {
            let view = self.run(run);
            (view["state"] == state).then_some(view)
        })
    }

    /// A run, once it has ended.
    pub fn ended(&self, run: i64) -> Value {
        self.run_once(run, "finished")
    }

    /// The lines that scripts have printed so far: what comes after the remark that the first of them runs.
    pub fn output(&self, run: i64) -> Vec<String> {
        let lines = self.json(&["log", &run.to_string()]);
        let is_remark = |it: &&Value| it["is_remark"] == true;
        let begins = |it: &&Value| is_remark(it) && it["text"].as_str().is_some_and(|it| it.starts_with("run"));
        let lines = lines.as_array().expect("an array").iter().skip_while(|it| !begins(it));
        let lines = lines.filter(|it| !is_remark(it));
        lines.map(|it| it["text"].as_str().expect("a text").to_owned()).collect()
    }

    /// All lines of a log, Landfall's own remarks too.
    pub fn whole_log(&self, run: i64) -> String {
        let lines = self.json(&["log", &run.to_string()]);
        let lines = lines.as_array().expect("an array").iter().map(|it| it["text"].as_str().expect("a text"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The folder of a run.
    pub fn run_dir(&self, run: i64) -> RunDir {
        RunDir::of(&self.state(), RunId(run))
    }

    /// A file that the scripts of a run have written below the house's folder.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Keepers outlive their daemon by design; those of a test that failed must not outlive the test.
        for entry in fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten() {
            end_keeper(&entry.path());
        }
    }
}

fn end_keeper(folder: &Path) {
    let folder = RunDir::at(folder);
    if let Ok(progress) = progress::read(&folder)
        && let (Some(begin), None) = (progress.begin, progress.end)
        && keeper::is_alive(&begin)
    {
        let _ = kill(Pid::from_raw(begin.pid), Signal::SIGKILL);
        if let Ok(spec) = folder.read_spec() {
            let _ = keeper::end_leftovers(&spec.token, &begin, Duration::ZERO);
        }
    }
}

/// Posts a request to this address.
pub fn post(listen: &str, path: &str, rehearsal: Rehearsal) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address: SocketAddr = listen.parse().expect("an address");
    runtime.block_on(outgoing::post(address, path, rehearsal)).expect("an answer")
}

/// A body, signed as GitHub signs it, with a delivery id of its own.
pub fn signed(body: String) -> Rehearsal {
    let value = Secret::new(SECRET.into()).expect("not empty");
    let secrets = vec![FoundSecret { origin: SecretRef::Env("SECRET".into()), value }];
    let path = SourcePath::Hook(HookName::parse("site").expect("a name"));
    let source = Source { path, proof: Proof::GitHub { secrets }, allow_from: Vec::new() };
    Rehearsal::of_body(&source, body, None, jiff::Timestamp::now())
}
