//! What holders of runs may do, and those who hold them no longer may not.

use landfall::{model::run::Outcome, store::RunState};

use super::{Diary, Event, Law, survival::unchanged};
use crate::{
    acts::{Act, Answer},
    verbs::{Deed, Fate},
    view::Run,
};

/// Every claim of a lane is above all earlier ones.
pub const FENCES_RISE: Law =
    Law { name: "each claim of a lane has a higher fence than all before", judge: fences_rise };

/// What a restart has taken away is gone.
pub const VOID_CLAIMS_CHANGE_NOTHING: Law =
    Law { name: "a void claim is refused and changes nothing", judge: void_claims };

/// P7: what never began waits again, what began is never silently queued again.
pub const NOTHING_LEAVES_A_HAND_SILENTLY: Law = Law {
    name: "a run leaves a hand only when its holder says so, and goes back to its line only if it never began",
    judge: nothing_leaves_silently,
};

/// P7, P8.
pub const A_RUN_ENDS_ONCE: Law =
    Law { name: "a run is never forgotten, and has one outcome, which never changes", judge: a_run_ends_once };

fn fences_rise(diary: &Diary, event: &Event) -> Result<(), String> {
    let got = match &event.answer {
        Answer::Adopted(adopted) => adopted.iter().map(|(right, _)| right.clone()).collect(),
        _ => event.claimed().into_iter().collect::<Vec<_>>(),
    };
    for right in got {
        let highest = diary.fences.get(&right.lane).copied().unwrap_or_default();
        if right.fence <= highest {
            return Err(format!("lane {} had fence {highest}, and {right:?} came after it", right.lane));
        }
        let shown = event.after.facts.runs[&right.run].fence;
        if shown != Some(right.fence) {
            return Err(format!("{right:?} is held, and {shown:?} is shown"));
        }
    }
    Ok(())
}

fn void_claims(_: &Diary, event: &Event) -> Result<(), String> {
    let Act::Deed { right, deed, is_void: true } = &event.act else { return Ok(()) };
    if event.fate != Fate::Good {
        return Ok(());
    }
    unchanged(&event.before.facts, &event.after.facts)?;
    let run = &event.before.facts.runs[&right.run];
    match (&event.answer, deed) {
        (Answer::Fenced, _) => Ok(()),
        // It was told before what it tells again, and so is no news.
        (Answer::Finished(_), Deed::Finish(end)) if ended_so(run, right.fence, &end.outcome()) => Ok(()),
        (Answer::GivenBack(_), Deed::GiveBack(_)) if run.waits() => Ok(()),
        (answer, _) => Err(format!("it was answered {answer:?}")),
    }
}

/// Whether a run ended by this right and with what its holder told: one that was stopped may have made room.
fn ended_so(run: &Run, fence: i64, told: &Outcome) -> bool {
    let is_same = |outcome: &Outcome| {
        let made_room = matches!((told, outcome), (Outcome::Cancelled { .. }, Outcome::Superseded { .. }));
        outcome == told || made_room
    };
    run.fence == Some(fence) && run.outcome().is_some_and(is_same)
}

fn nothing_leaves_silently(_: &Diary, event: &Event) -> Result<(), String> {
    for (run, before, after) in event.old_runs().filter(|(_, before, _)| before.is_in_hand()) {
        let after = after.ok_or_else(|| format!("run {run} is gone"))?;
        let has_begun = matches!(before.state, RunState::Running { .. });
        let said = match &event.act {
            Act::Deed { right, deed, .. } if right.run == run && Some(right.fence) == before.fence => Some(deed),
            _ => None,
        };
        let is_fine = match (&after.state, said) {
            (RunState::Running { .. }, _) if has_begun => true,
            (RunState::Running { .. }, Some(Deed::Start)) => true,
            (RunState::Running { .. }, _) => false,
            (RunState::Queued { .. }, _) if has_begun => false,
            (RunState::Queued { .. }, Some(Deed::GiveBack(_))) => true,
            (RunState::Queued { .. }, _) => after.is_in_hand(),
            (RunState::Finished { .. }, Some(Deed::Finish(_))) => true,
            (RunState::Finished { .. }, Some(Deed::GiveBack(_))) => !has_begun,
            (RunState::Finished { .. }, _) => false,
        };
        if !is_fine {
            return Err(format!("run {run} was {:?} and is {:?}", before.state, after.state));
        }
    }
    if let Answer::Adopted(adopted) = &event.answer {
        let held = event.before.facts.runs.iter().filter(|(_, it)| it.is_in_hand());
        let held: Vec<_> = held.map(|(run, it)| (*run, matches!(it.state, RunState::Running { .. }))).collect();
        let taken: Vec<_> = adopted.iter().map(|(right, has_begun)| (right.run, *has_begun)).collect();
        if held != taken {
            return Err(format!("{held:?} were in hand, and {taken:?} were adopted"));
        }
    }
    Ok(())
}

fn a_run_ends_once(_: &Diary, event: &Event) -> Result<(), String> {
    for (run, before, after) in event.old_runs() {
        let after = after.ok_or_else(|| format!("run {run} is gone"))?;
        let is_same = (&before.state, &before.commit, &before.fields, before.fence)
            == (&after.state, &after.commit, &after.fields, after.fence);
        if before.outcome().is_some() && !is_same {
            return Err(format!("run {run} had ended as {before:?} and is {after:?}"));
        }
        let is_frozen = (&before.hook, &before.lane, before.attempt, before.created_at)
            == (&after.hook, &after.lane, after.attempt, after.created_at);
        if !is_frozen {
            return Err(format!("run {run} was {before:?} and is {after:?}"));
        }
    }
    Ok(())
}
