//! What crashes may take away: nothing that was acknowledged, and everything that was not committed.

use std::collections::BTreeSet;

use landfall::store::LetterState;

use super::{Diary, Event, Law};
use crate::{
    acts::{Act, Answer},
    verbs::{Deed, Fate},
    view::Facts,
};

/// P2, for good.
pub const ACKNOWLEDGED_IS_STORED: Law =
    Law { name: "what was acknowledged is stored, with its body and its runs", judge: acknowledged_is_stored };

/// A verb is one transaction.
pub const UNCOMMITTED_LEAVES_NOTHING: Law =
    Law { name: "what was not committed is not acknowledged, and nothing of it is there", judge: uncommitted };

/// The other half of it.
pub const COMMITTED_IS_THERE: Law =
    Law { name: "what was committed is there, even if nobody was told", judge: committed };

/// Why callers may ask again.
pub const AGAIN_CHANGES_NOTHING: Law =
    Law { name: "who asks again after a crash hears the same and changes nothing", judge: again };

fn acknowledged_is_stored(diary: &Diary, event: &Event) -> Result<(), String> {
    let now = match (&event.act, &event.answer) {
        (Act::Receive(deliveries), Answer::Received(answers)) => deliveries.iter().zip(answers).collect(),
        _ => Vec::new(),
    };
    let now = now.into_iter().filter_map(|(delivery, answer)| match answer {
        Answer::Receipt(receipt) => Some((delivery, receipt)),
        _ => None,
    });
    let facts = &event.after.facts;
    for (delivery, receipt) in now.chain(diary.receipts.iter().map(|(sent, receipt)| (&diary.sent[sent], receipt))) {
        let number = receipt.delivery;
        let stored = facts.deliveries.get(&number).ok_or_else(|| format!("delivery {number} is gone"))?;
        let is_same = (&stored.word, &stored.message) == (&receipt.word, &receipt.message)
            && stored.runs.iter().collect::<BTreeSet<_>>() == receipt.runs.iter().collect();
        if !is_same || stored.event != delivery.event || stored.body.as_bytes() != delivery.body {
            return Err(format!("delivery {number} was acknowledged as {receipt:?} and is stored as {stored:?}"));
        }
        if let Some(run) = receipt.runs.iter().find(|it| !facts.runs.contains_key(it)) {
            return Err(format!("run {run} of delivery {number} is gone"));
        }
    }
    Ok(())
}

fn uncommitted(diary: &Diary, event: &Event) -> Result<(), String> {
    if !matches!(event.fate, Fate::Refused | Fate::CrashBefore) {
        return Ok(());
    }
    if event.answer.is_good() {
        return Err(format!("it was answered {:?}", event.answer));
    }
    unchanged(&at_rest(diary, event, &event.before.facts), &at_rest(diary, event, &event.after.facts))
}

fn committed(_: &Diary, event: &Event) -> Result<(), String> {
    if event.fate != Fate::CrashAfter {
        return Ok(());
    }
    match &event.act {
        Act::Receive(_) if event.stored().next().is_none() => Err("no delivery is stored".into()),
        // A void claim was refused, and so was one that gives back what has begun.
        Act::Deed { right, deed: Deed::Finish(_), is_void: false } => match &event.after.facts.runs[&right.run] {
            run if run.outcome().is_some() => Ok(()),
            run => Err(format!("run {} has not ended: {:?}", right.run, run.state)),
        },
        _ => Ok(()),
    }
}

fn again(diary: &Diary, event: &Event) -> Result<(), String> {
    if !event.is_repeat {
        return Ok(());
    }
    let (mut before, mut after) = (event.before.facts.clone(), event.after.facts.clone());
    match (&event.act, &event.answer) {
        (Act::Receive(deliveries), Answer::Received(answers)) => {
            // Those behind which the crash came are there for the first time.
            let is_new = |it: &Answer| matches!(it, Answer::Receipt(receipt) if receipt.word == "queued");
            if deliveries.len() > 1 {
                return Ok(());
            }
            if answers.iter().any(is_new) {
                return Err(format!("it was queued twice: {answers:?}"));
            }
            before.deliveries.clear();
            after.deliveries.clear();
        }
        (Act::Deed { deed: Deed::Finish(_), is_void: false, .. }, Answer::Finished(_)) => (),
        (Act::Deed { deed: Deed::Finish(_), is_void: false, .. }, answer) => {
            return Err(format!("the outcome was stored, and asking again gives {answer:?}"));
        }
        _ => (),
    }
    unchanged(&at_rest(diary, event, &before), &at_rest(diary, event, &after))
}

/// As it is when nobody has a letter in hand: a new daemon takes them all back.
fn at_rest(diary: &Diary, event: &Event, facts: &Facts) -> Facts {
    let mut facts = facts.as_of(event.at);
    if event.is_new_daemon() {
        for letter in &diary.letters_in_hand {
            if let Some(LetterState::Owed { due, .. }) = facts.letters.get_mut(letter).map(|it| &mut it.state) {
                *due = None;
            }
        }
    }
    facts
}

/// That two looks are the same.
pub(super) fn unchanged(before: &Facts, after: &Facts) -> Result<(), String> {
    let differences = after.differences(before);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n  ")) }
}
