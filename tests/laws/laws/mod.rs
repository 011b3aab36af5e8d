//! What must hold after every verb, told from what the store shows and answers alone: no law knows the model.

mod deliveries;
mod displaced;
mod hands;
mod lanes;
mod letters;
mod survival;
mod time;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
};

use jiff::Timestamp;
use landfall::model::{
    hook::Hook,
    run::{Mood, RunStep},
};

pub use self::{
    deliveries::{EVERY_HOOK_HAS_ITS_RUN_OR_ITS_REASON, ONE_RUN_OF_A_DELIVERY, REASONS_ARE_STORED},
    displaced::NOBODY_GIVES_WAY_IN_VAIN,
    hands::{A_RUN_ENDS_ONCE, FENCES_RISE, NOTHING_LEAVES_A_HAND_SILENTLY, VOID_CLAIMS_CHANGE_NOTHING},
    lanes::{HOLDS_HOLD, IN_ORDER, NOBODY_IS_PASSED_OVER, ONE_IN_HAND, SUPERSEDED_BY_NEWER},
    letters::{LETTERS_COME_WITH_THEIR_CAUSE, LETTERS_STAY_UNTIL_ACKNOWLEDGED},
    survival::{ACKNOWLEDGED_IS_STORED, AGAIN_CHANGES_NOTHING, COMMITTED_IS_THERE, UNCOMMITTED_LEAVES_NOTHING},
    time::NO_WAIT_IS_LONGER,
};

use crate::{
    acts::{Act, Answer, Delivery, Receipt, Right},
    verbs::{Deed, Fate, Posting},
    view::{Run, View},
};

/// A law.
#[derive(Clone, Copy)]
pub struct Law {
    /// As it is called where it is broken.
    pub name: &'static str,
    /// Says how something breaks it, after what had been before.
    pub judge: fn(&Diary, &Event) -> Result<(), String>,
}

/// All of them.
pub const ALL: [Law; 20] = [
    ACKNOWLEDGED_IS_STORED,
    UNCOMMITTED_LEAVES_NOTHING,
    COMMITTED_IS_THERE,
    AGAIN_CHANGES_NOTHING,
    ONE_RUN_OF_A_DELIVERY,
    EVERY_HOOK_HAS_ITS_RUN_OR_ITS_REASON,
    REASONS_ARE_STORED,
    ONE_IN_HAND,
    IN_ORDER,
    SUPERSEDED_BY_NEWER,
    NOBODY_GIVES_WAY_IN_VAIN,
    HOLDS_HOLD,
    NOBODY_IS_PASSED_OVER,
    FENCES_RISE,
    VOID_CLAIMS_CHANGE_NOTHING,
    NOTHING_LEAVES_A_HAND_SILENTLY,
    A_RUN_ENDS_ONCE,
    LETTERS_COME_WITH_THEIR_CAUSE,
    LETTERS_STAY_UNTIL_ACKNOWLEDGED,
    NO_WAIT_IS_LONGER,
];

/// Something that was asked of the store, what it answered, and what it shows.
#[derive(Debug)]
pub struct Event {
    pub act: Act,
    pub fate: Fate,
    pub answer: Answer,
    /// Asked again, since nobody had heard the answer.
    pub is_repeat: bool,
    pub at: Timestamp,
    pub before: Rc<View>,
    /// After a crash: as the next daemon finds it.
    pub after: Rc<View>,
}

/// What a law may remember.
#[derive(Debug, Default)]
pub struct Diary {
    /// Every delivery that was sent, by the event it names.
    pub sent: BTreeMap<String, Delivery>,
    /// How many were.
    pub deliveries_sent: usize,
    /// The receipts, with the event each is for.
    pub receipts: Vec<(String, Receipt)>,
    /// The highest fence of each lane.
    pub fences: BTreeMap<String, i64>,
    /// How long each run, or those whose place it has, have been waited for.
    pub turns: BTreeMap<i64, Turn>,
    /// The letters in somebody's hands.
    pub letters_in_hand: BTreeSet<i64>,
    /// What people last heard of each hook.
    pub moods: BTreeMap<String, Mood>,
    /// The latest time by the clock of the machine, since it was last set back.
    pub latest: Option<Timestamp>,
    last_answer: Option<Answer>,
    /// By run, where it is not that of its own number.
    places: BTreeMap<i64, i64>,
    /// The same.
    origins: BTreeMap<i64, i64>,
    /// The runs of which a step was noted that comes after staging.
    staged: BTreeSet<i64>,
}

/// How long a run has been waited for, and how urgent it is.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Moved back with the clock.
    pub since: Timestamp,
    /// Its priority; the lowest and the highest, where a reload has changed it.
    pub priority: (i8, i8),
}

impl Event {
    /// The runs that are there now and were not before.
    pub fn new_runs(&self) -> impl Iterator<Item = (i64, &Run)> {
        let before = &self.before.facts.runs;
        self.after.facts.runs.iter().filter(|(run, _)| !before.contains_key(run)).map(|(run, it)| (*run, it))
    }

    /// The runs that were there before, as they were and as they are.
    pub fn old_runs(&self) -> impl Iterator<Item = (i64, &Run, Option<&Run>)> {
        let after = &self.after.facts.runs;
        self.before.facts.runs.iter().map(|(run, it)| (*run, it, after.get(run)))
    }

    /// The runs that have ended by it.
    pub fn ended(&self) -> impl Iterator<Item = (i64, &Run, &Run)> {
        self.old_runs().filter_map(|(run, before, after)| {
            let after = after.filter(|it| it.outcome().is_some() && before.outcome().is_none())?;
            Some((run, before, after))
        })
    }

    /// The run that somebody got hold of by a claim, and the fence, whether they were told or not.
    pub fn claimed(&self) -> Option<Right> {
        if !matches!(self.act, Act::Claim) {
            return None;
        }
        let taken = self.old_runs().find_map(|(run, before, after)| {
            let after = after.filter(|it| it.is_in_hand() && !before.is_in_hand())?;
            Some(Right { run, lane: after.lane.clone(), fence: after.fence? })
        });
        match &self.answer {
            Answer::Claimed(right) => Some(right.clone()),
            _ => taken,
        }
    }

    /// The deliveries that are stored now and were not before, each with its number.
    pub fn stored(&self) -> impl Iterator<Item = (i64, &Delivery)> {
        let deliveries = match &self.act {
            Act::Receive(deliveries) => deliveries.as_slice(),
            _ => &[],
        };
        deliveries.iter().filter_map(|it| {
            let mut stored = self.after.facts.deliveries.iter();
            stored.find(|(_, stored)| stored.event == it.event).map(|(number, _)| (*number, it))
        })
    }

    /// The hook of a run, as it was when its job was queued.
    pub fn hook(&self, run: i64) -> &Hook {
        &self.after.jobs[&run].hook
    }

    /// The run that ended by it, if its holder said so or a person did.
    fn ended_run(&self) -> Option<i64> {
        match &self.act {
            Act::Deed { right, .. } => Some(right.run),
            Act::Cancel(run) => Some(*run),
            _ => None,
        }
    }

    /// Whether a new daemon is looking.
    pub fn is_new_daemon(&self) -> bool {
        matches!(self.act, Act::Open) || matches!(self.fate, Fate::CrashBefore | Fate::CrashAfter)
    }
}

impl Diary {
    /// Where a run stands in its line: with the run that it tries again, or that had taken its place in vain.
    pub fn place(&self, run: i64) -> i64 {
        self.places.get(&run).copied().unwrap_or(run)
    }

    /// The run by which its push was accepted.
    pub fn origin(&self, run: i64) -> i64 {
        self.origins.get(&run).copied().unwrap_or(run)
    }

    /// Remembers where the runs stand that the store made by itself. Laws lean on it while they judge the event.
    pub fn note_places(&mut self, event: &Event) {
        if matches!(event.act, Act::Receive(_)) {
            // What a redelivery queues is of the push that was accepted first.
            for (earlier, before, after) in event.old_runs() {
                let Some(next) = after.and_then(|it| it.repeated_by).filter(|_| before.repeated_by.is_none()) else {
                    continue;
                };
                let origin = self.origin(next).min(self.origin(earlier));
                self.origins.insert(next, origin);
            }
        }
        let Some(ended) = event.ended_run() else { return };
        let lane = event.after.facts.runs.get(&ended).map(|it| &it.lane);
        let mut is_free = true;
        for (run, shown) in event.new_runs() {
            let Some(repeated) = shown.retry_of else { continue };
            self.origins.insert(run, self.origin(repeated));
            if is_free && lane == Some(&shown.lane) {
                self.places.insert(run, self.place(ended));
                is_free = false;
            }
        }
    }

    /// What the last act was answered with.
    pub fn last_answer(&self) -> Option<&Answer> {
        self.last_answer.as_ref()
    }

    /// Remembers it.
    pub fn note(&mut self, event: &Event) {
        self.note_time(event);
        self.note_turns(event);
        if let Act::Receive(deliveries) = &event.act {
            self.deliveries_sent += deliveries.len();
            self.sent.extend(deliveries.iter().map(|it| (it.event.clone(), it.clone())));
            if let Answer::Received(answers) = &event.answer {
                let receipts = deliveries.iter().zip(answers).filter_map(|(delivery, answer)| match answer {
                    Answer::Receipt(receipt) => Some((delivery.event.clone(), receipt.clone())),
                    _ => None,
                });
                self.receipts.extend(receipts);
            }
        }
        for run in event.after.facts.runs.values().filter(|it| it.is_in_hand()) {
            let highest = self.fences.entry(run.lane.clone()).or_default();
            *highest = (*highest).max(run.fence.unwrap_or_default());
        }
        for (run, _, after) in event.ended().filter(|(run, ..)| letters::are_people_told(event, *run)) {
            let mood = after.outcome().map_or(Mood::Neither, landfall::model::run::Outcome::mood);
            if mood != Mood::Neither {
                self.moods.insert(event.hook(run).name.to_string(), mood);
            }
        }
        if let Act::Deed { right, deed: Deed::NoteStep(step), .. } = &event.act
            && *step >= RunStep::Stage
        {
            self.staged.insert(right.run);
        }
        self.note_letters(event);
        self.last_answer = Some(event.answer.clone());
    }

    /// Where the clock was set back, what had been waited for until then is moved back with it.
    fn note_time(&mut self, event: &Event) {
        let latest = self.latest.replace(event.at).filter(|it| *it > event.at);
        let Some(back) = latest.map(|it| it.duration_since(event.at)) else { return };
        for turn in self.turns.values_mut() {
            turn.since = turn.since.saturating_sub(back).expect("a time");
        }
    }

    fn note_turns(&mut self, event: &Event) {
        for (run, shown) in event.new_runs() {
            let own = event.hook(run).priority;
            let mut turn = Turn { since: event.at, priority: (own, own) };
            // What the store makes by itself is as urgent as the run by whose end it was made.
            let ended = event.ended_run().filter(|_| shown.retry_of.is_some());
            let waited = |it: &&i64| event.before.facts.runs.get(it).is_none_or(Run::waits);
            let replaced = shown.supersedes.iter().filter(waited);
            for earlier in replaced.chain(ended.as_ref()).filter_map(|it| self.turns.get(it)) {
                let (low, high) = earlier.priority;
                turn.since = turn.since.min(earlier.since);
                turn.priority = (turn.priority.0.min(low), turn.priority.1.max(high));
            }
            self.turns.insert(run, turn);
        }
    }

    fn note_letters(&mut self, event: &Event) {
        match (&event.act, &event.answer) {
            (Act::NextLetter, Answer::Letter(handed)) => {
                self.letters_in_hand.insert(handed.letter);
            }
            (Act::Post { letter, attempts, posting }, Answer::Done) => {
                // Another may have taken it since; then it is that one's to say when it is due.
                let is_last = event.before.facts.letters[letter].attempts == attempts + 1;
                if is_last || !matches!(posting, Posting::TryLater(_)) {
                    self.letters_in_hand.remove(letter);
                }
            }
            _ => (),
        }
        if event.is_new_daemon() {
            self.letters_in_hand.clear();
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::Good => "",
            Fate::Refused => "  ! the commit fails",
            Fate::CrashBefore => "  ! a crash before the commit",
            Fate::CrashAfter => "  ! a crash after the commit",
        };
        let again = if self.is_repeat { "again: " } else { "" };
        write!(out, "{} {again}{}{fate}  ->  {}", self.at.strftime("%H:%M:%S"), self.act, self.answer)
    }
}
