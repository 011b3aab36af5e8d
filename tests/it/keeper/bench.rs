//! The one place of these promises that knows how a keeper is started and read.
//!
//! Invariant: nothing here sleeps; waits are for a state, and under one deadline.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use landfall::{
    journal::{
        entries::{self, Begin, Entry},
        folder::RunDir,
        log::{Line, Reader},
        secrets::{self, RunSecrets},
        spec::{RunToken, Spec},
    },
    model::{
        deploy::{Deploy, Strategy},
        hook::{BranchFilter, Hook, On, Poll, QueuePolicy, Retry, Step},
        job::{AsOf, Asked, Job, Target, Trigger},
        limits::RunLimits,
        name::HookName,
        push::{CommitId, RefName, RepoName},
        run::{Outcome, RunFacts, RunId},
        secret::{Secret, SecretRef},
        source::Forge,
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

/// Nothing here may take longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A run that is not started yet.
pub struct Bench {
    pub state: Arc<tempfile::TempDir>,
    pub dir: RunDir,
    pub run: RunId,
    pub hook: Hook,
    pub secrets: BTreeMap<String, String>,
    pub job: Box<dyn Fn(&mut Job)>,
    pub payload: Option<Vec<u8>>,
    pub token: RunToken,
    /// Added to the keeper's own environment.
    pub daemon_env: Vec<(&'static str, String)>,
}

/// A script of this name and text.
pub fn script(name: &str, text: &str) -> Step {
    let shell = vec!["/bin/sh".to_owned(), "-e".to_owned()];
    Step { name: name.into(), script: text.into(), shell, timeout: None, env: BTreeMap::new(), user: None, cwd: None }
}

/// A run with this one script, `build`.
pub fn running(text: &str) -> Bench {
    let state = tempfile::tempdir().expect("temporary folder");
    fs::set_permissions(state.path(), Permissions::from_mode(0o700)).expect("closed");
    let dir = RunDir::of(state.path(), RunId(7));
    dir.create().expect("run folder");
    let name = HookName::parse("website").expect("a name");
    let hook = Hook {
        forge: Forge::GitHub,
        source: name.own_source(),
        repo: RepoName::parse("acme/website").expect("a repository"),
        on: On { push: BranchFilter::DefaultBranch, tag: None },
        paths: None,
        skip_markers: Vec::new(),
        poll: Poll::AtStart,
        enabled: true,
        deploy: Deploy { strategy: Strategy::None { folder: state.path().to_owned() }, min_free_bytes: 0 },
        run: vec![script("build", text)],
        activate: Vec::new(),
        health: Vec::new(),
        on_failure: Vec::new(),
        finally: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        secrets: BTreeMap::new(),
        user: None,
        timeout: DEADLINE,
        idle_timeout: DEADLINE,
        kill_grace: Duration::from_millis(300),
        limits: RunLimits::default(),
        retry: Retry { max: 0, on: Vec::new(), backoff: Duration::ZERO },
        queue: QueuePolicy::Latest,
        lane: name.own_lane(),
        priority: 0,
        debounce: Duration::ZERO,
        min_interval: Duration::ZERO,
        notify: Vec::new(),
        environment: "production".into(),
        url: None,
        max_log_bytes: 256 << 20,
        name,
    };
    let token = RunToken::random().expect("random");
    let (secrets, payload, daemon_env) = (BTreeMap::new(), None, Vec::new());
    let state = Arc::new(state);
    Bench { state, dir, run: RunId(7), hook, secrets, job: Box::new(|_| ()), payload, token, daemon_env }
}

impl Bench {
    /// With a secret of this name and value.
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.insert(name.into(), value.into());
        self.hook.secrets.insert(name.into(), SecretRef::Env(name.into()));
        self
    }

    /// With this changed about the hook.
    pub fn hook(mut self, change: impl FnOnce(&mut Hook)) -> Self {
        change(&mut self.hook);
        self
    }

    /// Another run in the same state folder.
    pub fn again(mut self, run: i64) -> Self {
        self.run = RunId(run);
        self.dir = RunDir::of(self.state.path(), self.run);
        self.dir.create().expect("run folder");
        self
    }

    /// Where files of the test may be put.
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Starts the keeper.
    pub fn start(self) -> Keeper {
        let secret = |value: &String| Secret::new(value.clone()).expect("not empty");
        let env = self.secrets.iter().map(|(name, value)| (name.clone(), secret(value))).collect();
        let message = secrets::encode(&RunSecrets { env, git_tokens: Vec::new() });
        self.start_with(&message)
    }

    /// Starts the keeper with this on its standard input.
    pub fn start_with(self, message: &str) -> Keeper {
        let ref_name = RefName::parse("refs/heads/main");
        let commit = CommitId::parse(&"a1".repeat(20)).expect("a commit");
        let mut job = Job {
            hook: Arc::new(self.hook.clone()),
            hook_as_of: AsOf::Acceptance,
            trigger: Trigger::Push,
            asked: Asked::Push,
            actor: "octocat".into(),
            target: Target::Commit { commit, ref_name },
            push: None,
            attempt: 1,
            retry_of: None,
        };
        (self.job)(&mut job);
        let spec = Spec {
            run: self.run,
            token: self.token.clone(),
            job,
            state: self.state.path().to_owned(),
            run_url: "http://127.0.0.1:9001/runs/7".into(),
            live: CommitId::parse(&"b2".repeat(20)),
            live_ref: None,
            is_disturbed: false,
            has_payload: self.payload.is_some(),
        };
        self.dir.write_spec(&spec).expect("spec");
        if let Some(payload) = &self.payload {
            self.dir.write_payload(payload).expect("payload");
        }
        // The shell opens the lane's lock as descriptor 3, as `work` does, and one more that nobody asked for.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$0\" keeper \"$1\" 3>>\"$2\" 7</dev/null", env!("CARGO_BIN_EXE_landfall")]);
        command.arg(self.dir.path()).arg(self.path("lane.lock")).envs(self.daemon_env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("keeper");
        child.stdin.take().expect("standard input").write_all(message.as_bytes()).expect("secrets");
        Keeper { child, bench: self, since: Instant::now() }
    }

    /// Starts the keeper and waits for its end.
    pub fn finish(self) -> Ended {
        self.start().finish()
    }
}

/// A keeper that was started.
pub struct Keeper {
    pub child: Child,
    pub bench: Bench,
    since: Instant,
}

impl Keeper {
    /// Sends the keeper a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signalled");
    }

    /// Waits for a state of the run, looking again and again.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Bench) -> bool) -> &mut Self {
        while !is_so(&self.bench) {
            assert!(self.since.elapsed() < DEADLINE, "in time: {what}");
            assert!(!self.has_ended_within(Duration::from_millis(5)) || is_so(&self.bench), "while it runs: {what}");
        }
        self
    }

    /// Waits until this is a line of the log.
    pub fn until_line(&mut self, text: &str) -> &mut Self {
        self.until(text, |bench| log(&bench.dir).iter().any(|it| it.text() == text))
    }

    /// Waits for the end of the keeper.
    pub fn finish(mut self) -> Ended {
        let rest = DEADLINE.saturating_sub(self.since.elapsed());
        assert!(self.has_ended_within(rest), "the keeper ends in time; its log: {:#?}", log(&self.bench.dir));
        let code = self.child.wait().expect("waited").code();
        Ended { code, took: self.since.elapsed(), bench: self.bench }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn has_ended_within(&self, span: Duration) -> bool {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("pidfd");
        let span = Timespec::try_from(span).expect("a span");
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&span)).expect("polled") > 0
    }
}

/// A keeper that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub took: Duration,
    pub bench: Bench,
}

impl Ended {
    pub fn entries(&self) -> Vec<Entry> {
        entries::read(&self.bench.dir).expect("journal")
    }

    pub fn begin(&self) -> Begin {
        begin(&self.bench.dir)
    }

    pub fn outcome(&self) -> Outcome {
        self.ended().0
    }

    pub fn facts(&self) -> RunFacts {
        self.ended().1
    }

    /// The word and the reason of the outcome.
    pub fn said(&self) -> (&'static str, String) {
        let outcome = self.outcome();
        (outcome.word(), outcome.reason().unwrap_or_default())
    }

    /// What scripts printed, without Landfall's remarks.
    pub fn output(&self) -> Vec<String> {
        use landfall::journal::log::Kind;
        let lines = log(&self.bench.dir).into_iter().filter(|it| it.kind != Kind::Remark);
        lines.map(|it| it.text().into_owned()).collect()
    }

    /// What the hook's own scripts printed, without git and Landfall.
    pub fn printed(&self) -> Vec<String> {
        use landfall::journal::log::Kind;
        let is_script =
            |it: &str| ["run: ", "activate: ", "health: ", "on_failure: "].iter().any(|word| it.starts_with(word));
        let (mut printed, mut is_of_script) = (Vec::new(), false);
        for line in log(&self.bench.dir) {
            match line.kind {
                Kind::Remark => is_of_script = is_script(&line.text()),
                Kind::Output | Kind::Piece | Kind::Cut if is_of_script => printed.push(line.text().into_owned()),
                Kind::Output | Kind::Piece | Kind::Cut => (),
            }
        }
        printed
    }

    /// Every line, remarks too.
    pub fn whole_log(&self) -> Vec<String> {
        log(&self.bench.dir).iter().map(|it| it.text().into_owned()).collect()
    }

    pub fn has_remark(&self, text: &str) -> bool {
        log(&self.bench.dir).iter().any(|it| it.text().contains(text))
    }

    fn ended(&self) -> (Outcome, RunFacts) {
        match self.entries().pop() {
            Some(Entry::Ended { outcome, facts, .. }) => (outcome, facts),
            other => panic!("the last entry is the outcome, not {other:?}"),
        }
    }
}

pub fn begin(dir: &RunDir) -> Begin {
    match entries::read(dir).expect("journal").first() {
        Some(Entry::Begin(begin)) => begin.clone(),
        other => panic!("the first entry is the begin, not {other:?}"),
    }
}

pub fn log(dir: &RunDir) -> Vec<Line> {
    Reader::new(dir).lines(0).collect::<Result<_, _>>().expect("log")
}

/// The process number that a script wrote into a file.
pub fn pid_in(path: &PathBuf) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a process of that number is alive.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|it| !it.is_empty() && !it.starts_with(" Z"))
}
