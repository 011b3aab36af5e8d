//! How long things wait, whatever the clock of the machine does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use landfall::store::{LetterState, RunState};

use super::{Diary, Event, Law};
use crate::{
    acts::Act,
    view::{Facts, View},
};

/// P21.
pub const NO_WAIT_IS_LONGER: Law =
    Law { name: "nothing waits longer than its configured length, however the clock jumps", judge: no_wait_is_longer };

/// The longest that a script asks a letter to wait.
const POSTING_MAX: Duration = Duration::from_secs(8000);

/// The longest wait of what could not be started.
const VAIN_START_MAX: Duration = Duration::from_secs(128);

fn no_wait_is_longer(diary: &Diary, event: &Event) -> Result<(), String> {
    let waits = waits(&event.after.facts);
    for (what, due) in &waits {
        let (left, longest) = (due.duration_since(event.at), longest(&event.after, what));
        if left > SignedDuration::try_from(longest).expect("a short time") {
            return Err(format!("{what:?} waits until {due}, which is {left:#} and not {longest:?} at most"));
        }
    }
    // Where only time has passed, or the clock has jumped, nothing has more to wait for than it had.
    let (Act::TellTime, Some(then)) = (&event.act, diary.latest) else { return Ok(()) };
    let before = self::waits(&event.before.facts);
    for (what, due) in waits {
        let had = before.iter().find(|(it, _)| *it == what).map(|(_, due)| due.duration_since(then));
        let left = due.duration_since(event.at);
        if had.is_none_or(|had| left > had) {
            return Err(format!("{what:?} had to wait for {had:?} and now has to for {left:#}"));
        }
    }
    Ok(())
}

/// What waits for a time.
#[derive(Debug, PartialEq)]
enum Waiting {
    Run(i64),
    Letter(i64),
    Hold(Option<String>),
}

fn waits(facts: &Facts) -> Vec<(Waiting, Timestamp)> {
    let runs = facts.runs.iter().filter_map(|(run, it)| match it.state {
        RunState::Queued { not_before: Some(due), .. } => Some((Waiting::Run(*run), due)),
        RunState::Queued { not_before: None, .. } | RunState::Running { .. } | RunState::Finished { .. } => None,
    });
    let letters = facts.letters.iter().filter_map(|(letter, it)| match it.state {
        LetterState::Owed { due: Some(due), .. } => Some((Waiting::Letter(*letter), due)),
        LetterState::Owed { due: None, .. } | LetterState::Sent { .. } | LetterState::GivenUp { .. } => None,
    });
    let holds = facts.holds.iter().filter_map(|(hook, it)| it.until.map(|until| (Waiting::Hold(hook.clone()), until)));
    runs.chain(letters).chain(holds).collect()
}

/// How long such a thing may wait.
fn longest(view: &View, what: &Waiting) -> Duration {
    match what {
        Waiting::Run(run) => {
            let job = &view.jobs[run];
            let doubled = 2_u32.pow(job.attempt.saturating_sub(2));
            let backoff = if job.attempt > 1 { job.hook.retry.backoff * doubled } else { Duration::ZERO };
            // Another push of the hook may have made it wait for its own time of quiet.
            let of_hook = view.jobs.values().filter(|it| it.hook.name == job.hook.name);
            let debounce = of_hook.map(|it| it.hook.debounce).max().unwrap_or_default();
            let vain_start = match &view.facts.runs[run].state {
                RunState::Queued { trouble: Some(_), .. } => VAIN_START_MAX,
                RunState::Queued { trouble: None, .. } | RunState::Running { .. } | RunState::Finished { .. } => {
                    Duration::ZERO
                }
            };
            let waits = [backoff + backoff / 10, debounce, job.hook.min_interval, vain_start];
            waits.into_iter().max().unwrap_or_default()
        }
        Waiting::Letter(_) => POSTING_MAX,
        Waiting::Hold(hook) => {
            let hold = &view.facts.holds[hook];
            hold.until.map_or(Duration::ZERO, |until| until.duration_since(hold.since).unsigned_abs())
        }
    }
}
