//! What people are told: with its cause or not at all, and until somebody says that they were.

use std::collections::BTreeMap;

use landfall::{
    model::{
        letter::{Occasion, addresses_owed},
        run::{Mood, Outcome},
    },
    store::{LetterState, RunState},
};

use super::{Diary, Event, Law};
use crate::{
    acts::{Act, Answer},
    verbs::Deed,
    view::Letter,
};

/// P10: one transaction.
pub const LETTERS_COME_WITH_THEIR_CAUSE: Law =
    Law { name: "a start or an outcome and its letters are there together", judge: with_their_cause };

/// P10: at least once.
pub const LETTERS_STAY_UNTIL_ACKNOWLEDGED: Law = Law {
    name: "a letter is handed out, to one at a time, until somebody says what became of it",
    judge: until_acknowledged,
};

fn with_their_cause(diary: &Diary, event: &Event) -> Result<(), String> {
    for (run, before, after) in event.old_runs() {
        let Some(after) = after else { continue };
        let mut owed = Vec::new();
        let notify = &event.hook(run).notify;
        let begins =
            matches!(after.state, RunState::Running { .. }) && !matches!(before.state, RunState::Running { .. });
        if begins && after.attempt == 1 {
            owed.extend(addresses_owed(notify, Occasion::Start));
        }
        if let (None, Some(outcome)) = (before.outcome(), after.outcome())
            && are_people_told(event, run)
        {
            let mood = diary.moods.get(&after.hook).copied().unwrap_or(Mood::Neither);
            owed.extend(addresses_owed(notify, Occasion::of(outcome, mood)));
        }
        let owed: Vec<_> = owed.iter().map(ToString::to_string).collect();
        let new: Vec<_> = written(event, run).map(|it| it.address.clone()).collect();
        if new != owed {
            return Err(format!("of run {run} letters to {owed:?} are owed, and to {new:?} were written"));
        }
    }
    let early = event.new_runs().find(|(run, _)| written(event, *run).next().is_some());
    early.map_or(Ok(()), |(run, _)| Err(format!("run {run} has letters before it began")))
}

/// Whether the end of a run is told: not of one that another takes the place of before anybody heard of it, nor of one
/// that is tried again.
pub(super) fn are_people_told(event: &Event, run: i64) -> bool {
    let after = &event.after.facts.runs[&run];
    let was_finished = matches!(event.act, Act::Deed { deed: Deed::Finish(_), .. });
    let is_superseded = matches!(after.outcome(), Some(Outcome::Superseded { .. }));
    let mut new = event.new_runs();
    let is_retried = new.any(|(_, it)| it.retry_of == Some(run) && it.attempt > after.attempt);
    !is_retried && (was_finished || !is_superseded)
}

fn written(event: &Event, run: i64) -> impl Iterator<Item = &Letter> {
    let (before, after) = (&event.before.facts.letters, &event.after.facts.letters);
    after.iter().filter(move |(letter, it)| it.run == run && !before.contains_key(letter)).map(|(_, it)| it)
}

fn until_acknowledged(diary: &Diary, event: &Event) -> Result<(), String> {
    let after = &event.after.facts.letters;
    for (letter, before) in &event.before.facts.letters {
        let now = after.get(letter).ok_or_else(|| format!("letter {letter} is gone"))?;
        let posted = matches!(&event.act, Act::Post { letter: it, .. } if it == letter);
        let is_fine = match (&before.state, &now.state) {
            (LetterState::Owed { .. }, LetterState::Owed { .. }) => true,
            (LetterState::Owed { .. }, LetterState::Sent { .. } | LetterState::GivenUp { .. }) => posted,
            (before, now) => before == now,
        };
        if !is_fine || now.attempts < before.attempts {
            return Err(format!("letter {letter} was {before:?} and is {now:?}"));
        }
    }
    let mut in_hand = diary.letters_in_hand.clone();
    if event.is_new_daemon() {
        in_hand.clear();
        // What its last holder said right before the crash counts.
        let said = |letter: i64| matches!(&event.act, Act::Post { letter: it, .. } if *it == letter);
        let waits = |letter: i64| due(letter, &after[&letter]).is_some_and(|(_, at)| at.is_some());
        if let Some(letter) = diary.letters_in_hand.iter().find(|it| waits(**it) && !said(**it)) {
            return Err(format!("letter {letter} was in the hands of who is gone: {:?}", after[letter]));
        }
    }
    let free = event.before.facts.letters.iter().filter(|(letter, _)| !in_hand.contains(letter));
    let due: BTreeMap<i64, _> = free.filter_map(|(letter, it)| due(*letter, it)).collect();
    match &event.answer {
        Answer::Letter(handed) => {
            let Some(at) = due.get(&handed.letter) else {
                return Err(format!("{handed:?} is not owed, or in the hands of another"));
            };
            if at.is_some_and(|it| it > event.at) {
                return Err(format!("{handed:?} was not to be handed out before {at:?}"));
            }
        }
        Answer::NoLetter(until) => {
            let first = due.values().min().copied();
            if first.is_some() && (first.flatten() != *until || until.is_none_or(|it| it <= event.at)) {
                return Err(format!("nothing is due until {until:?}, and the first letter is at {first:?}"));
            }
        }
        _ => (),
    }
    Ok(())
}

/// When a letter that is owed is due.
fn due(letter: i64, shown: &Letter) -> Option<(i64, Option<jiff::Timestamp>)> {
    match &shown.state {
        LetterState::Owed { due, .. } => Some((letter, *due)),
        LetterState::Sent { .. } | LetterState::GivenUp { .. } => None,
    }
}
