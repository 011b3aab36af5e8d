//! Carries out one run, in a process of its own: fetch, stage, scripts, going live, and the outcome.
//!
//! A keeper depends on nobody: the daemon that started it may be killed, and what it has to say stays in the run's
//! folder. It holds the lane's lock until the last process of the run is gone.
//!
//! Invariant: `begin` is on the disk before the run changes anything, and whoever sees no keeper and no `ended` knows
//! that the run was interrupted.

pub mod release;

pub mod ground;

mod run;
mod staging;
mod steps;

mod going_live;
mod health;
mod releasing;

mod attend;
mod cgroup;
mod controllers;
mod home;

mod child;
mod family;
mod fork;
mod limits;

mod environment;
mod landing;
pub mod preflight;
pub mod premises;
mod workspace;

mod mask;
mod output;
mod records;

mod identity;
mod lane;
mod leftovers;
mod processes;

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
    rc::Rc,
};

use jiff::Timestamp;
use thiserror::Error;

use self::{
    cgroup::Cgroup,
    environment::Facts,
    family::Family,
    lane::LaneLock,
    limits::{Cancel, Limit},
    mask::{Mask, SHORT_BYTES},
    output::RunLog,
    preflight::Obstacle,
    records::Records,
    run::{Run, failed},
    workspace::Workspace,
};
pub use self::{
    cgroup::{discard_unbegun as discard_unbegun_cgroup, probe as probe_cgroup, probe_limits as probe_unheld_limits},
    identity::{ask_to_cancel, is_alive, is_of_this_boot},
    leftovers::{Leftover, end_leftovers},
};
use crate::{
    journal::{
        Unreadable,
        entries::{Entry, Journal},
        folder::RunDir,
        log::Writer,
        secrets,
        spec::Spec,
    },
    model::limits::RunLimits,
    model::run::{FailureClass, Mood, Outcome, RunStep},
    process::user::Account,
};

/// The longest message of secrets.
const SECRETS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The exit code of a keeper that has not started its run: the run may be given to another.
pub const NOT_STARTED: u8 = 3;

/// Why a keeper has not started its run. No `begin` was written, and nothing has been changed.
#[derive(Debug, Error)]
enum NotStarted {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("this run has started before: its journal is there")]
    BegunBefore,
    #[error("cannot {what}: {err}")]
    Impossible { what: &'static str, err: io::Error },
}

/// Serves one run and returns when it has ended: the hidden subcommand `landfall keeper RUN_DIR`.
///
/// Standard input is the message of secrets, standard output a bell (a line for each journal entry), descriptor 3 the
/// lane's lock. TERM cancels the run. Of the keeper's own environment only what the hook passes on gets to scripts.
pub fn serve(run_dir: &Path) -> ExitCode {
    // First of all, before anything is opened.
    let lock = LaneLock::inherit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| NotStarted::Impossible { what: "start the runtime", err });
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut run = start(&RunDir::at(run_dir))?;
            Ok(carry_out(&mut run, lock.as_ref()).await)
        })
    });
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(err)) => {
            complain(&format!("cannot write down how the run ended: {err}"));
            ExitCode::FAILURE
        }
        Err(err) => {
            complain(&err.to_string());
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Says what went wrong, for `work`. `eprintln!` panics where the disk is full.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Everything up to and with `begin`.
fn start(dir: &RunDir) -> Result<Run, NotStarted> {
    let impossible = |what| move |err: io::Error| NotStarted::Impossible { what, err };
    // A session of its own, unless `work` has seen to that.
    let _ = rustix::process::setsid();
    let own_pid = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own_pid)).map_err(|err| impossible("adopt orphans")(err.into()))?;
    let spec = dir.read_spec()?;
    let mut message = Vec::new();
    io::stdin().take(SECRETS_BYTES_MAX).read_to_end(&mut message).map_err(impossible("read the secrets"))?;
    let secrets = secrets::decode(&message)?;
    let mask = Mask::new(secrets.values()).map_err(|why| impossible("mask the secrets")(io::Error::other(why)))?;
    let writer = Writer::open(dir, spec.job.hook.max_log_bytes).map_err(impossible("open the log"))?;
    let cancel = Cancel::listen(dir).map_err(impossible("listen for a cancel"))?;
    let journal = Journal::create(dir).map_err(|err| match err.kind() {
        io::ErrorKind::AlreadyExists => NotStarted::BegunBefore,
        _ => impossible("open the journal")(err),
    })?;
    let mut records = Records::new(journal);
    let (group, unheld) = begin(&mut records, &spec).map_err(impossible("write down the begin"))?;
    let payload = spec.has_payload.then(|| dir.payload());
    let workspace = Workspace::new(&spec.state, spec.run, payload);
    let (facts, whole) = (Facts::of(&spec), Limit::from_now(spec.job.hook.timeout));
    let log = RefCell::new(RunLog::new(mask, writer));
    let (crew, scene, met) = (None, None, None);
    let run =
        Run { dir: dir.clone(), spec, secrets, records, log, cancel, workspace, facts, crew, scene, whole, group, met };
    // What nobody has asked for is `doctor`'s to say, and not each run's.
    if run.spec.job.hook.limits != RunLimits::default() {
        unheld.iter().for_each(|it| run.remark(it));
    }
    Ok(run)
}

/// Makes the run's control group, where there can be one, and writes down that the run has begun. Gives the sentences that
/// say which limits do not hold. What a keeper leaves behind that is killed between the two is `work`'s to take away.
fn begin(records: &mut Records, spec: &Spec) -> io::Result<(Option<Rc<Cgroup>>, Vec<String>)> {
    let (group, unheld) = match Cgroup::make(&spec.token, spec.job.hook.limits) {
        Ok((group, unheld)) => (Some(group), unheld),
        Err(why) => (None, vec![format!("`limits` do not hold: {why}")]),
    };
    let folder = group.as_ref().map(|it| it.folder().to_owned());
    fail::fail_point!("keeper-before-begin", |_| std::process::abort());
    let written = identity::begin(Timestamp::now(), &spec.token, folder).and_then(|it| records.add(&Entry::Begin(it)));
    if let (Err(_), Some(group)) = (&written, &group) {
        // Nobody is in it yet.
        let _ = group.remove();
    }
    written.map(|()| (group.map(Rc::new), unheld))
}

async fn carry_out(run: &mut Run, lock: Result<&LaneLock, &String>) -> io::Result<()> {
    warn_of_short_secrets(run);
    let held = run.step(RunStep::Lock, |_| {
        let held = lock.map_err(Clone::clone).and_then(LaneLock::hold);
        held.map_err(|why| failed(RunStep::Lock, FailureClass::Other, why))
    });
    let outcome = match held {
        // The lane is not ours, so nothing at all may be run in it.
        Err(outcome) => outcome,
        Ok(()) => {
            let outcome = advance(run).await.err().unwrap_or(Outcome::Succeeded);
            let hook = run.spec.job.hook.clone();
            if outcome.mood() == Mood::Bad {
                steps::run_last(run, RunStep::OnFailure, &hook.on_failure).await;
            }
            steps::run_last(run, RunStep::Finally, &hook.finally).await;
            going_live::put_away(run).await;
            outcome
        }
    };
    // Nobody should be left; but a child that could not be watched would be, and the lane must not move on.
    let family = Family::of(0, run.group.clone());
    if family.reap() {
        family.end(run.spec.job.hook.kill_grace, |_| ()).await;
    }
    if let Some(group) = run.group.take()
        && !matches!(group.remove(), Ok(true))
    {
        run.remark(&format!("the control group `{}` cannot be removed", group.folder().display()));
    }
    let outcome = seen_to_its_end(run, outcome);
    run.ended(&outcome)
}

/// A run whose log could not be kept did not fail by what it did: it was interrupted, as by a full disk.
fn seen_to_its_end(run: &Run, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(failure) if run.log.borrow().trouble().is_some() => {
            Outcome::Interrupted { step: Some(failure.step), reason: failure.reason }
        }
        outcome => outcome,
    }
}

/// The way to a success, left at the first step that ends otherwise.
async fn advance(run: &mut Run) -> Result<(), Outcome> {
    run.step(RunStep::Preflight, preflight)?;
    releasing::look(run).await?;
    let hook = run.spec.job.hook.clone();
    let git = hook.deploy.strategy.git().filter(|_| run.spec.job.target.is_fetched());
    if let (Some(git), Some(crew)) = (git, run.crew.clone()) {
        staging::fetch(run, &crew, git).await?;
        staging::stage(run, &crew, git).await?;
    }
    if let Some(scene) = run.scene.clone() {
        return going_live::release(run, &scene).await;
    }
    steps::run_all(run, RunStep::Run, &hook.run).await?;
    going_live::come_up(run).await
}

fn preflight(run: &mut Run) -> Result<(), Outcome> {
    let obstacle = |obstacle| match obstacle {
        Obstacle::ForGood(reason) => failed(RunStep::Preflight, FailureClass::Permanent, reason),
        Obstacle::ForNow(reason) => failed(RunStep::Preflight, FailureClass::Tempfail, reason),
    };
    let hook = run.spec.job.hook.clone();
    preflight::place(&hook).map_err(obstacle)?;
    let own = Account::find(None).map_err(|why| failed(RunStep::Preflight, FailureClass::Other, why))?;
    let crew = preflight::crew(&hook, &own).map_err(obstacle)?;
    if let Some(path) = hook.deploy.strategy.path() {
        let (name, shown) = (&crew.landing.name, path.display());
        let umask = hook.deploy.strategy.git().map_or(0o022, |it| it.umask);
        landing::make(path, &crew.landing, umask)
            .map_err(|err| failed(RunStep::Preflight, FailureClass::Other, format!("cannot make `{shown}`: {err}")))?;
        if crew.is_owner {
            let is_all = crew.steps.uid == crew.landing.uid;
            let what = if is_all { "git work and steps run as" } else { "git work runs as" };
            run.remark(&format!("`{shown}` belongs to `{name}`: {what} that user"));
        }
    }
    run.crew = Some(crew);
    // A way back takes no room worth the name, and a full disk may be the reason for it.
    if run.spec.job.target.is_fetched() { preflight::room(&hook, &run.spec.state).map_err(obstacle) } else { Ok(()) }
}

fn warn_of_short_secrets(run: &Run) {
    let is_short = |value: &str| value.trim().len() < SHORT_BYTES;
    for (name, _) in run.secrets.env.iter().filter(|(_, value)| is_short(value.expose())) {
        run.remark(&format!("secret `{name}` is shorter than {SHORT_BYTES} bytes: it is masked wherever it occurs, also inside other words"));
    }
}
