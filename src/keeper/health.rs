//! Asks what must answer well once the code is live.
//!
//! Invariant: a probe ends well only after as many good answers in a row as it wants, and it ends in bounded time.

mod http;

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    net::TcpStream,
    select,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    journal::entries::StepExit,
    keeper::{
        attend::End,
        limits::{Stop, spell},
        run::{Run, failed},
        steps,
    },
    model::{
        health::{Probe, Question},
        hook::Step,
        run::{FailureClass, Outcome, RunStep},
    },
};

/// One answer, as a clause for people.
enum Answer {
    Good(String),
    Bad {
        /// What it was.
        what: String,
        /// What of it may help to see why; for the log alone.
        excerpt: Option<String>,
    },
}

impl Answer {
    fn bad(what: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), excerpt: None }
    }
}

/// Asks all of them, one after the other.
pub async fn ask_all(run: &mut Run, probes: &[Probe]) -> Result<(), Outcome> {
    for probe in probes {
        let name = probe.question.name();
        let log_from = run.begin((RunStep::Health, Some(&name)))?;
        run.remark(&format!("health: {name}"));
        let result = ask_until_sure(run, probe, &name).await;
        let exit = match &result {
            Ok(()) => StepExit::Good,
            Err(outcome) => StepExit::Stopped(run.log.borrow().masked(&outcome.reason().unwrap_or_default())),
        };
        run.end((RunStep::Health, Some(&name)), log_from, exit).and(result)?;
    }
    Ok(())
}

async fn ask_until_sure(run: &mut Run, probe: &Probe, name: &str) -> Result<(), Outcome> {
    let began = Instant::now();
    pause(run, probe.start_after, name).await?;
    let (mut good, mut last) = (0, String::new());
    for attempt in 1..=probe.attempts {
        if attempt > 1 {
            pause(run, probe.interval, name).await?;
        }
        match ask(run, probe, name).await? {
            Answer::Good(what) => {
                good += 1;
                if good >= probe.stable {
                    run.remark(&format!("health: {what}"));
                    return Ok(());
                }
                last = what;
            }
            Answer::Bad { what, excerpt } => {
                good = 0;
                // The same answer again and again is said once.
                if what != last {
                    run.remark(&format!("health: {what}"));
                    if let Some(excerpt) = excerpt {
                        run.remark(&format!("health: {excerpt}"));
                    }
                }
                last = what;
            }
        }
    }
    let (attempts, took) = (probe.attempts, spell(Duration::from_secs(began.elapsed().as_secs())));
    let times = if attempts == 1 { "once".to_owned() } else { format!("{attempts} times in {took}") };
    let wanted = if probe.stable == 1 { String::new() } else { format!(" {} times in a row", probe.stable) };
    let reason = format!("health: `{name}` was asked {times} and did not answer well{wanted}; the last time it {last}");
    Err(failed(RunStep::Health, FailureClass::Other, reason))
}

async fn ask(run: &mut Run, probe: &Probe, name: &str) -> Result<Answer, Outcome> {
    match &probe.question {
        Question::Http { url, expect, body } => {
            let wanted = http::Wanted { expect, body: body.as_deref(), within: probe.timeout };
            unless_stopped(run, name, http::ask(url, wanted)).await
        }
        Question::Tcp { address } => unless_stopped(run, name, connect(address, probe.timeout)).await,
        Question::Command { script } => command(run, script, name, probe.timeout).await,
    }
}

async fn connect(address: &str, within: Duration) -> Answer {
    match timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Good("took the connection".into()),
        Ok(Err(err)) => Answer::bad(format!("took no connection: {err}")),
        Err(_) => Answer::bad(format!("took no connection within {}", spell(within))),
    }
}

async fn command(run: &mut Run, script: &str, name: &str, within: Duration) -> Result<Answer, Outcome> {
    let step = Step {
        name: name.to_owned(),
        script: script.to_owned(),
        shell: vec!["/bin/sh".into(), "-e".into()],
        timeout: Some(within),
        env: BTreeMap::new(),
        user: None,
        cwd: None,
    };
    Ok(match steps::try_out(run, RunStep::Health, &step).await? {
        End::Exited(exit) => match steps::exit_clause(exit) {
            None => Answer::Good("ended with exit code 0".into()),
            Some(clause) => Answer::bad(clause),
        },
        End::Stopped(Stop::StepTime(_) | Stop::Silence(_)) => {
            Answer::bad(format!("took longer than its `timeout` of {}", spell(within)))
        }
        End::Stopped(stop @ (Stop::Cancelled | Stop::WholeTime(_) | Stop::Trouble(_))) => {
            return Err(run.stopped(RunStep::Health, &format!("`{name}`"), stop));
        }
    })
}

async fn pause(run: &mut Run, span: Duration, name: &str) -> Result<(), Outcome> {
    if span.is_zero() { Ok(()) } else { unless_stopped(run, name, sleep(span)).await }
}

/// Waits for something that ends by itself, unless a person or the run's time ends it.
async fn unless_stopped<T>(run: &mut Run, name: &str, wait: impl Future<Output = T>) -> Result<T, Outcome> {
    let stop = select! {
        biased;
        () = run.cancel.asked() => Stop::Cancelled,
        () = sleep_until(run.whole.at) => Stop::WholeTime(run.whole.span),
        done = wait => return Ok(done),
    };
    Err(run.stopped(RunStep::Health, &format!("`{name}`"), stop))
}
