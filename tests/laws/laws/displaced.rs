//! Whose place was taken waits again where that was in vain.

use landfall::model::run::{Outcome, RunStep};

use super::{Diary, Event, Law};

/// P4.
pub const NOBODY_GIVES_WAY_IN_VAIN: Law = Law {
    name: "a run whose place was taken is repeated, or one stands in its place that has not ended or has staged something",
    judge: nobody_in_vain,
};

fn nobody_in_vain(diary: &Diary, event: &Event) -> Result<(), String> {
    let runs = &event.after.facts.runs;
    let superseded = |run: &i64| matches!(runs[run].outcome(), Some(Outcome::Superseded { .. }));
    for run in runs.keys().filter(|it| superseded(it) && runs[it].repeated_by.is_none()) {
        let mut takers = runs.iter().filter(|(_, it)| it.supersedes.contains(run)).map(|(taker, _)| *taker);
        let Some(taker) = takers.find(|it| stands(diary, event, *it)) else {
            return Err(format!("run {run} gave way, and nothing stands in its place"));
        };
        if taker < *run {
            return Err(format!("run {run} gave way to run {taker}, which is older"));
        }
    }
    Ok(())
}

/// Whether a run, or what repeats it, has not ended or may have staged something.
fn stands(diary: &Diary, event: &Event, run: i64) -> bool {
    let shown = &event.after.facts.runs[&run];
    let is_past = |it: &RunStep| *it >= RunStep::Stage;
    let has_staged = match shown.outcome() {
        None => true,
        Some(Outcome::Succeeded | Outcome::RolledBack(_) | Outcome::RollbackFailed { .. }) => true,
        Some(Outcome::Stale { .. }) => false,
        Some(outcome) => outcome.step().as_ref().is_some_and(is_past) || diary.staged.contains(&run),
    };
    has_staged || shown.repeated_by.is_some_and(|next| stands(diary, event, next))
}
