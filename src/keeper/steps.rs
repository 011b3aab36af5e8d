//! Runs the scripts of a hook, and says what their ends mean.
//!
//! Invariant: scripts stop at the first that fails, and its name is in the reason.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::{
    keeper::{
        attend::End,
        child::Plan,
        environment,
        family::Exit,
        limits::Limit,
        run::{Run, failed},
        workspace::DeskPaths,
    },
    model::{
        deploy::Strategy,
        hook::Step,
        run::{Failure, FailureClass, Outcome, RunStep},
    },
    process::user::Account,
};

/// "Try again later", after sysexits.h's EX_TEMPFAIL.
const TRY_LATER: i32 = 75;

/// "Nothing to do", after sysexits.h's EX_CONFIG, which no deploy script uses for its own ends.
const NOTHING_TO_DO: i32 = 78;

/// The longest time that the steps after the outcome get.
const LAST_TIME_MAX: Duration = Duration::from_secs(600);

/// Runs these scripts, one after the other.
pub async fn run_all(run: &mut Run, step: RunStep, scripts: &[Step]) -> Result<(), Outcome> {
    for script in scripts {
        run_one(run, step, script, run.whole).await?;
    }
    Ok(())
}

/// Runs the scripts that come after the outcome, which they cannot change. They have a time of their own.
pub async fn run_last(run: &mut Run, step: RunStep, scripts: &[Step]) {
    let limit = Limit::from_now(run.spec.job.hook.timeout.min(LAST_TIME_MAX));
    for script in scripts {
        if let Err(outcome) = run_one(run, step, script, limit).await {
            let reason = outcome.reason().unwrap_or_default();
            run.remark(&format!("{reason}; this does not change how the run ended"));
            return;
        }
    }
}

async fn run_one(run: &mut Run, step: RunStep, script: &Step, whole: Limit) -> Result<(), Outcome> {
    let what = format!("step `{}` of `{step}`", script.name);
    let ready = ready(run, step, script)?;
    run.remark(&format!("{step}: {}", script.name));
    let limits = run.limits(whole, script.timeout);
    let (end, _) = run.attend((step, Some(&script.name)), plan(run, step, script, &ready), limits).await?;
    let judged = match end {
        End::Exited(exit) => judge(run, step, &what, exit),
        End::Stopped(stop) => Err(run.stopped(step, &what, stop)),
    };
    judged.map_err(|outcome| run.with_what_it_met(outcome))
}

/// Runs one script as a part of a step that has begun; what its end means is the caller's to say.
pub async fn try_out(run: &mut Run, step: RunStep, script: &Step) -> Result<End, Outcome> {
    let ready = ready(run, step, script)?;
    let limits = run.limits(run.whole, script.timeout);
    let (end, _) = run.stay_with(step, plan(run, step, script, &ready), limits).await?;
    Ok(end)
}

fn plan<'a>(run: &Run, step: RunStep, script: &Step, ready: &'a Ready) -> Plan<'a> {
    let Ready { account, desk, cwd } = ready;
    let env = environment::of_script(&run.spec, &run.facts, &run.secrets, (step, script), account, desk);
    let mut argv: Vec<OsString> = script.shell.iter().map(OsString::from).collect();
    argv.extend(["-c".into(), without_nul(&script.script)]);
    Plan { argv, cwd, env, account, order: None }
}

/// What a script needs before it can be started.
struct Ready {
    account: Account,
    desk: DeskPaths,
    cwd: PathBuf,
}

fn ready(run: &mut Run, step: RunStep, script: &Step) -> Result<Ready, Outcome> {
    let what = || format!("step `{}` of `{step}`", script.name);
    make_ready(run, script).map_err(|why| failed(step, FailureClass::Other, format!("{}: {why}", what())))
}

fn make_ready(run: &mut Run, script: &Step) -> Result<Ready, String> {
    let account = match (&script.user, &run.crew) {
        (Some(user), _) => Account::find(Some(user))?,
        (None, Some(crew)) => crew.steps.clone(),
        (None, None) => return Err("its user is not known".into()),
    };
    let desk = run.workspace.desk(&account).map_err(|err| format!("cannot make its folder: {err}"))?;
    // After a fetch that failed there is no tree yet.
    let tree = match &run.spec.job.hook.deploy.strategy {
        Strategy::None { folder } => folder.clone(),
        Strategy::Checkout { .. } | Strategy::InPlace { .. } | Strategy::Releases { .. } => {
            run.facts.tree.clone().unwrap_or_else(|| desk.folder.clone())
        }
    };
    let cwd = script.cwd.as_ref().map_or(tree.clone(), |cwd| tree.join(cwd));
    Ok(Ready { account, desk, cwd })
}

/// What the exit of a script means.
fn judge(run: &Run, step: RunStep, what: &str, exit: Exit) -> Result<(), Outcome> {
    let failure =
        |exit_code, class, reason| Err(Outcome::Failed(Failure { step, exit_code: Some(exit_code), class, reason }));
    let Some(clause) = exit_clause(exit) else { return Ok(()) };
    match exit {
        Exit::Code(TRY_LATER) => failure(
            TRY_LATER,
            FailureClass::Tempfail,
            format!("{what} asked to be tried again later (exit code {TRY_LATER})"),
        ),
        Exit::Code(NOTHING_TO_DO) if step == RunStep::Run => {
            let (fields, _) = run.workspace.fields();
            let said = fields.into_iter().rev().find(|(key, value)| key == "reason" && !value.is_empty());
            let reason = said.map_or_else(|| format!("{what} found nothing to do"), |(_, value)| value);
            Err(Outcome::Skipped { step, reason })
        }
        Exit::Code(code) => failure(code, FailureClass::Other, format!("{what} {clause}")),
        Exit::Signal(number) => failure(128 + number, FailureClass::Other, format!("{what} {clause}")),
    }
}

/// How a script ended that did not end well.
pub fn exit_clause(exit: Exit) -> Option<String> {
    match exit {
        Exit::Code(0) => None,
        Exit::Code(code) => Some(format!("ended with exit code {code}")),
        Exit::Signal(number) => Some(format!("was killed by {}", signal_name(number))),
    }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |it| it.as_str().to_owned())
}

/// An argument cannot hold a NUL byte, and YAML can write one.
fn without_nul(script: &str) -> OsString {
    script.replace('\0', "").into()
}
