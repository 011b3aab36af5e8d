//! One run on its way: what it knows, and the bracket around each of its steps.
//!
//! Invariant: each step is a pair of journal entries, and its log lies between them.

use std::{cell::RefCell, rc::Rc, time::Duration};

use jiff::Timestamp;

use crate::{
    journal::{
        entries::{Entry, StepExit},
        folder::RunDir,
        secrets::RunSecrets,
        spec::Spec,
    },
    keeper::{
        attend::{Attended, End, attend},
        cgroup::Cgroup,
        child::{self, Plan},
        environment::Facts,
        family::Exit,
        limits::{Cancel, Limit, Limits, Stop},
        output::RunLog,
        preflight::Crew,
        records::{Records, Subject},
        releasing::Scene,
        workspace::Workspace,
    },
    model::run::{Failure, FailureClass, Outcome, RunFacts, RunStep},
};

/// One run on its way.
#[derive(Debug)]
pub struct Run {
    /// Its folder.
    pub dir: RunDir,
    /// What it has to do.
    pub spec: Spec,
    /// Its secrets.
    pub secrets: RunSecrets,
    /// What was done.
    pub records: Records,
    /// What is printed. The parts of one task share it, and none holds it across a wait.
    pub log: RefCell<RunLog>,
    /// Whether a person wants it to end.
    pub cancel: Cancel,
    /// Its folders that the hook's user can reach.
    pub workspace: Workspace,
    /// What became known.
    pub facts: Facts,
    /// Who works for it, once that is known.
    pub crew: Option<Crew>,
    /// The folder of releases it works in, once that has been looked at.
    pub scene: Option<Scene>,
    /// When its time is over.
    pub whole: Limit,
    /// The control group of all it starts, where there can be one.
    pub group: Option<Rc<Cgroup>>,
    /// What the last child met of the run's limits, as a clause with the next step.
    pub met: Option<String>,
}

impl Run {
    /// A remark for people in the log.
    pub fn remark(&self, text: &str) {
        self.log.borrow_mut().remark(Timestamp::now(), text);
    }

    /// A note in the journal, for those who ask later why the run went as it did.
    pub fn note(&mut self, step: RunStep, text: &str) -> Result<(), Outcome> {
        let text = self.log.borrow().masked(text);
        self.records.note(text).map_err(|err| unwritable(step, &err))
    }

    /// Where the log is now.
    pub fn log_position(&self) -> u64 {
        self.log.borrow().position()
    }

    /// Does a step that needs no child, between its two entries.
    pub fn step(&mut self, step: RunStep, act: impl FnOnce(&mut Self) -> Result<(), Outcome>) -> Result<(), Outcome> {
        let log_from = self.begin((step, None))?;
        let result = act(self);
        let exit = match &result {
            Ok(()) => StepExit::Good,
            Err(outcome) => {
                let reason = self.log.borrow().masked(&outcome.reason().unwrap_or_default());
                self.remark(&format!("{step}: {reason}"));
                StepExit::Stopped(reason)
            }
        };
        self.end((step, None), log_from, exit).and(result)
    }

    /// Does a step that is a child, between its two entries. What the child's end means is the caller's to say.
    pub async fn attend(
        &mut self,
        subject: Subject<'_>,
        plan: Plan<'_>,
        limits: Limits,
    ) -> Result<(End, Vec<u8>), Outcome> {
        let log_from = self.begin(subject)?;
        let (end, answer) = self.stay_with(subject.0, plan, limits).await?;
        let exit = match &end {
            End::Exited(Exit::Code(0)) => StepExit::Good,
            End::Exited(Exit::Code(code)) => StepExit::Code(*code),
            End::Exited(Exit::Signal(number)) => StepExit::Signal(*number),
            End::Stopped(stop) => StepExit::Stopped(self.log.borrow().masked(&stop.to_string())),
        };
        self.end(subject, log_from, exit)?;
        Ok((end, answer))
    }

    /// Stays with a child until it has ended, as a part of a step that has begun.
    pub async fn stay_with(
        &mut self,
        step: RunStep,
        plan: Plan<'_>,
        limits: Limits,
    ) -> Result<(End, Vec<u8>), Outcome> {
        self.met = None;
        let before = self.group.as_ref().map(|it| it.met());
        let attended = match child::start(plan, self.group.as_ref()) {
            Ok(child) => attend(child, &self.log, limits, &mut self.cancel).await,
            Err(why) => {
                self.remark(&why);
                Attended { end: End::Stopped(Stop::Trouble(why)), answer: Vec::new(), notes: Vec::new(), met: None }
            }
        };
        if let (Some(group), Some(before), Some(met)) = (&self.group, before, attended.met)
            && let Some(met) = met.since(&before, group.limits())
        {
            self.remark(&met);
            self.note(step, &met)?;
            self.met = Some(met);
        }
        if let Some(to) = self.cancel.take_turned_down() {
            self.remark(&format!("run {to} is to take the place of this one, which is going live already and goes on"));
        }
        for note in attended.notes {
            let note = self.log.borrow().masked(&note);
            self.records.note(note).map_err(|err| unwritable(step, &err))?;
        }
        Ok((attended.end, attended.answer))
    }

    /// The limits of a step, which may have a time of its own.
    pub fn limits(&self, whole: Limit, step: Option<Duration>) -> Limits {
        let hook = &self.spec.job.hook;
        let step = step.map(Limit::from_now);
        Limits { whole, step, silence: hook.idle_timeout, grace: hook.kill_grace }
    }

    /// The outcome of a step that ended badly, with what it met of its limits: that may be the reason, and is no secret.
    pub fn with_what_it_met(&self, outcome: Outcome) -> Outcome {
        let Some(met) = &self.met else { return outcome };
        let explained = |failure: Failure| Failure { reason: format!("{}: {met}", failure.reason), ..failure };
        match outcome {
            Outcome::Failed(failure) => Outcome::Failed(explained(failure)),
            Outcome::TimedOut(failure) => Outcome::TimedOut(explained(failure)),
            outcome @ (Outcome::Succeeded
            | Outcome::Cancelled { .. }
            | Outcome::RolledBack(_)
            | Outcome::RollbackFailed { .. }
            | Outcome::Superseded { .. }
            | Outcome::Stale { .. }
            | Outcome::Skipped { .. }
            | Outcome::Interrupted { .. }) => outcome,
        }
    }

    /// The outcome when a step was ended before it ended by itself.
    pub fn stopped(&self, step: RunStep, what: &str, stop: Stop) -> Outcome {
        let failure = |reason| Failure { step, exit_code: None, class: FailureClass::Other, reason };
        match stop {
            Stop::Cancelled => {
                let room_for = || self.dir.read_yield().map(|to| format!("made room for run {to} (`queue: cancel`)"));
                let reason = self.dir.read_cancel().or_else(room_for).unwrap_or_else(|| "cancelled".into());
                Outcome::Cancelled { step: Some(step), reason }
            }
            Stop::WholeTime(_) | Stop::StepTime(_) | Stop::Silence(_) => {
                Outcome::TimedOut(failure(format!("{what} was ended: {stop}")))
            }
            Stop::Trouble(why) => Outcome::Failed(failure(format!("{what}: {why}"))),
        }
    }

    /// Writes down how the run ended; nothing comes after it.
    pub fn ended(&mut self, outcome: &Outcome) -> std::io::Result<()> {
        let (fields, problems) = self.workspace.fields();
        for problem in problems {
            self.remark(&problem);
        }
        if let Err(err) = self.clean_up() {
            let text = format!("cleanup: something of the run stays in the state folder: {err}");
            self.remark(&text);
            // The outcome stands, whatever stays behind.
            let _ = self.records.note(text);
        }
        let log = self.log.borrow();
        let fields = fields.into_iter().map(|(name, value)| (log.masked(&name), log.masked(&value))).collect();
        let outcome = masked(outcome, &log);
        drop(log);
        let reason = outcome.reason().map(|it| format!(": {it}")).unwrap_or_default();
        self.remark(&format!("{}{reason}", outcome.word()));
        let facts = RunFacts { commit: self.facts.commit.clone(), fields, live: self.facts.live.clone() };
        self.records.add(&Entry::Ended { at: Timestamp::now(), outcome, facts })
    }

    fn clean_up(&mut self) -> std::io::Result<()> {
        let position = self.log_position();
        self.records.begin((RunStep::Cleanup, None), position)?;
        let result = self.workspace.remove();
        let exit = result.as_ref().map_or_else(|err| StepExit::Stopped(err.to_string()), |()| StepExit::Good);
        let log = position..self.log_position();
        self.records.end((RunStep::Cleanup, None), log, exit)?;
        result
    }

    /// Writes down that a step, or a part of one, begins; gives where its log does.
    pub fn begin(&mut self, subject: Subject<'_>) -> Result<u64, Outcome> {
        if let Some(trouble) = self.log.borrow().trouble() {
            return Err(failed(subject.0, FailureClass::Other, trouble.to_owned()));
        }
        if subject.0 >= self.spec.job.hook.deploy.strategy.goes_live_at() {
            self.cancel.go_live();
        }
        let position = self.log_position();
        self.records.begin(subject, position).map_err(|err| unwritable(subject.0, &err))?;
        Ok(position)
    }

    /// Writes down that a step, or a part of one, has ended.
    pub fn end(&mut self, subject: Subject<'_>, log_from: u64, exit: StepExit) -> Result<(), Outcome> {
        let log = log_from..self.log_position();
        self.records.end(subject, log, exit).map_err(|err| unwritable(subject.0, &err))
    }
}

/// A failure of ours, or of the machine.
pub fn failed(step: RunStep, class: FailureClass, reason: String) -> Outcome {
    Outcome::Failed(Failure { step, exit_code: None, class, reason })
}

/// The failure to write something down about a step.
pub fn unwritable(step: RunStep, err: &std::io::Error) -> Outcome {
    failed(step, FailureClass::Other, format!("cannot write the run's journal: {err}"))
}

/// The outcome with nothing secret in its sentence: it goes to the store and into letters.
fn masked(outcome: &Outcome, log: &RunLog) -> Outcome {
    let failure = |it: &Failure| Failure { reason: log.masked(&it.reason), ..it.clone() };
    match outcome {
        Outcome::Succeeded => Outcome::Succeeded,
        Outcome::Failed(it) => Outcome::Failed(failure(it)),
        Outcome::TimedOut(it) => Outcome::TimedOut(failure(it)),
        Outcome::Cancelled { step, reason } => Outcome::Cancelled { step: *step, reason: log.masked(reason) },
        Outcome::RolledBack(it) => Outcome::RolledBack(failure(it)),
        Outcome::RollbackFailed { failure: it, why } => {
            Outcome::RollbackFailed { failure: failure(it), why: log.masked(why) }
        }
        Outcome::Superseded { by } => Outcome::Superseded { by: *by },
        Outcome::Stale { reason } => Outcome::Stale { reason: log.masked(reason) },
        Outcome::Skipped { step, reason } => Outcome::Skipped { step: *step, reason: log.masked(reason) },
        Outcome::Interrupted { step, reason } => Outcome::Interrupted { step: *step, reason: log.masked(reason) },
    }
}
