//! A verb as it is carried out: on this run, by this claim, with this answer.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use landfall::{
    forge::DedupeKey,
    model::{
        job::Job,
        name::HookName,
        push::CommitId,
        run::{Failure, FailureClass, Outcome, RunStep},
        source::{Forge, SourcePath},
    },
    route::{Ticket, by_hand, each_rule},
    store::{Arrival, Cancelled, GivenBack, Hold, Verdict},
};

use crate::{
    cast::{Cast, target},
    verbs::{Deed, End, Posting, Push, Sender},
    view::Facts,
};

/// What is asked of the store.
#[derive(Clone, Debug)]
pub enum Act {
    /// Deliveries come; more than one comes at once.
    Receive(Vec<Delivery>),
    Ask(Box<Ticket>),
    Claim,
    /// The daemon has started, and takes over what was under way.
    Adopt,
    /// The store is told the time.
    TellTime,
    /// The store is closed, or its writer has died, and it is opened again.
    Open,
    Deed {
        right: Right,
        deed: Deed,
        is_void: bool,
    },
    Cancel(i64),
    OpenLane(String),
    Hold(Hold),
    Resume(Option<HookName>),
    Forgive(HookName, CommitId),
    NextLetter,
    Post {
        letter: i64,
        attempts: u32,
        posting: Posting,
    },
}

impl Act {
    /// Whether who did not hear the answer asks again. A claim or a letter comes back by itself; a person who is told
    /// that nothing is known looks before they ask for another deploy.
    pub fn may_be_asked_again(&self) -> bool {
        match self {
            Self::Receive(_)
            | Self::Deed { .. }
            | Self::Cancel(_)
            | Self::OpenLane(_)
            | Self::Hold(_)
            | Self::Resume(_)
            | Self::Forgive(..)
            | Self::Post { .. } => true,
            Self::Ask(_) | Self::Claim | Self::Adopt | Self::TellTime | Self::Open | Self::NextLetter => false,
        }
    }

    /// The same, sent once more: deliveries have their serials anew.
    pub fn sent_again(&self, serials: std::ops::RangeFrom<usize>) -> Self {
        match self {
            Self::Receive(deliveries) => {
                let again =
                    |(delivery, serial): (&Delivery, usize)| Delivery { event: event(serial), ..delivery.clone() };
                Self::Receive(deliveries.iter().zip(serials).map(again).collect())
            }
            other => other.clone(),
        }
    }

    /// The same with the deliveries only that are stored, in the order in which they are: those that came at once may
    /// have been taken in any order, and a crash may have come between them.
    pub fn as_stored(&self, facts: &Facts) -> Self {
        match self {
            Self::Receive(deliveries) => {
                let number = |it: &Delivery| {
                    facts.deliveries.iter().find(|(_, stored)| stored.event == it.event).map(|(number, _)| *number)
                };
                let mut stored: Vec<_> = deliveries.iter().filter(|it| number(it).is_some()).cloned().collect();
                stored.sort_by_key(number);
                Self::Receive(stored)
            }
            other => other.clone(),
        }
    }
}

/// A claim, without the right that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    pub run: i64,
    pub lane: String,
    pub fence: i64,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One for each delivery, in the order of the act.
    Received(Vec<Answer>),
    Receipt(Receipt),
    Queued(i64),
    Claimed(Right),
    Idle(Option<Timestamp>),
    /// Each with whether it had begun.
    Adopted(Vec<(Right, bool)>),
    Done,
    Was(bool),
    Finished(Option<i64>),
    GivenBack(GivenBack),
    Cancelled(Cancelled),
    Letter(Handed),
    NoLetter(Option<Timestamp>),
    /// The claim is void.
    Fenced,
    /// The run has begun, so it cannot be queued again.
    Started,
    /// It did not work out, and nobody knows whether anything was stored.
    Lost(String),
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub delivery: i64,
    pub word: String,
    pub runs: Vec<i64>,
    pub message: String,
}

/// A letter that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    pub letter: i64,
    pub run: i64,
    pub attempts: u32,
}

impl Answer {
    /// Receipts in the order of their numbers, and without their sentences.
    pub fn in_order_of_storing(&self) -> Self {
        match self {
            Self::Received(answers) => {
                let mut answers: Vec<_> = answers.iter().map(Self::in_order_of_storing).collect();
                answers.sort_by_key(|it| match it {
                    Self::Receipt(receipt) => receipt.delivery,
                    _ => 0,
                });
                Self::Received(answers)
            }
            Self::Receipt(receipt) => Self::Receipt(Receipt { message: String::new(), ..receipt.clone() }),
            other => other.clone(),
        }
    }

    /// Whether somebody was told that it was done.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Received(answers) => answers.iter().any(Self::is_good),
            Self::Fenced | Self::Started | Self::Lost(_) => false,
            Self::Receipt(_)
            | Self::Queued(_)
            | Self::Claimed(_)
            | Self::Idle(_)
            | Self::Adopted(_)
            | Self::Done
            | Self::Was(_)
            | Self::Finished(_)
            | Self::GivenBack(_)
            | Self::Cancelled(_)
            | Self::Letter(_)
            | Self::NoLetter(_) => true,
        }
    }
}

/// A delivery on its way in.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub sender: Sender,
    /// Its own name: the event it claims to be, by which it is found among the stored ones.
    pub event: String,
    pub id: Option<String>,
    pub keys: Vec<DedupeKey>,
    pub body: Bytes,
    pub tickets: Vec<Ticket>,
    pub refused: Vec<(HookName, String)>,
}

impl Delivery {
    /// The delivery of a push. `serial` is its own, even where it is sent twice.
    pub fn of(push: &Push, cast: &Cast, serial: usize) -> Self {
        let body = format!("body {}", push.body);
        let mut hash = [0; 32];
        hash[..body.len()].copy_from_slice(body.as_bytes());
        let id = format!("id-{}", push.id);
        let keys = match push.sender {
            Sender::GitHub => vec![DedupeKey::Named(id.clone()), DedupeKey::Body(hash)],
            Sender::GitLab => vec![DedupeKey::Id(id.clone())],
            Sender::OldGitLab => vec![DedupeKey::BodyWithin(hash, OLD_WINDOW)],
        };
        let ticket =
            |hook: &u8| by_hand(cast.hook(*hook, push.after_reload), target(push.ref_name, push.commit), "ana");
        let name = |hook: &u8| cast.hook(*hook, push.after_reload).name.clone();
        Self {
            sender: push.sender,
            event: event(serial),
            id: (push.sender != Sender::OldGitLab).then_some(id),
            keys,
            body: Bytes::from(body),
            tickets: push.wanted.iter().map(ticket).collect(),
            refused: push.refused.iter().map(|it| (name(it), "its branch is another one".to_owned())).collect(),
        }
    }

    /// As the store takes it.
    pub fn arrival(&self) -> Arrival {
        let forge = match self.sender {
            Sender::GitHub => Forge::GitHub,
            Sender::GitLab | Sender::OldGitLab => Forge::GitLab,
        };
        Arrival {
            path: SourcePath::Hook(HookName::parse("site").expect("a name")),
            forge,
            event: Some(self.event.clone()),
            delivery_id: self.id.clone(),
            dedupe: self.keys.clone(),
            body: self.body.clone(),
            commit: None,
            repository: None,
            verdict: match self.tickets.is_empty() {
                true => Verdict::Aside { result: "ignored", message: self.why_ignored() },
                false => Verdict::Queue { tickets: self.tickets.clone(), refused: self.refused.clone() },
            },
        }
    }

    /// The jobs it is to make.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.tickets.iter().map(Ticket::job)
    }

    fn why_ignored(&self) -> String {
        if self.refused.is_empty() { "no hook deploys this".into() } else { each_rule(&self.refused) }
    }
}

fn event(serial: usize) -> String {
    format!("push {serial}")
}

/// How long a body alone counts as the same delivery.
pub const OLD_WINDOW: std::time::Duration = std::time::Duration::from_secs(3600);

impl End {
    /// As the store takes it.
    pub fn outcome(self) -> Outcome {
        let failure_at = |step, class| {
            let reason = "the script said no".to_owned();
            Failure { step, exit_code: Some(1), class, reason }
        };
        let failure = |class| failure_at(RunStep::Run, class);
        let step = Some(RunStep::Run);
        match self {
            Self::Succeeded => Outcome::Succeeded,
            Self::Tempfail => Outcome::Failed(failure(FailureClass::Tempfail)),
            Self::Failed => Outcome::Failed(failure(FailureClass::Other)),
            Self::Permanent => Outcome::Failed(failure(FailureClass::Permanent)),
            Self::TimedOut => Outcome::TimedOut(failure(FailureClass::Other)),
            Self::RolledBack => Outcome::RolledBack(failure(FailureClass::Other)),
            Self::RollbackFailed => {
                Outcome::RollbackFailed { failure: failure(FailureClass::Other), why: "the disk is full".into() }
            }
            Self::Cancelled => Outcome::Cancelled { step, reason: "it was asked to stop".into() },
            Self::Stale => Outcome::Stale { reason: "something newer is live".into() },
            Self::Skipped => Outcome::Skipped { step: RunStep::Run, reason: "nothing to do".into() },
            Self::Interrupted => Outcome::Interrupted { step, reason: "its keeper died".into() },
            Self::FetchFailed => Outcome::Failed(failure_at(RunStep::Fetch, FailureClass::Permanent)),
            Self::LeftOut => Outcome::Skipped { step: RunStep::Fetch, reason: "no file of it is wanted".into() },
            Self::CancelledAnywhere => Outcome::Cancelled { step: None, reason: "it was asked to stop".into() },
            Self::InterruptedAnywhere => Outcome::Interrupted { step: None, reason: "its keeper died".into() },
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receive(deliveries) => {
                let events: Vec<_> = deliveries.iter().map(|it| it.event.as_str()).collect();
                write!(out, "receive {}", events.join(" and "))
            }
            Self::Ask(ticket) => write!(out, "queue a job of {} by hand", ticket.job().hook.name),
            Self::Claim => out.write_str("claim"),
            Self::Adopt => out.write_str("adopt"),
            Self::TellTime => out.write_str("tell the time"),
            Self::Open => out.write_str("open the store again"),
            Self::Deed { right, deed, .. } => write!(out, "{deed:?} run {} under fence {}", right.run, right.fence),
            Self::Cancel(run) => write!(out, "cancel run {run}"),
            Self::OpenLane(lane) => write!(out, "open lane {lane}"),
            Self::Hold(hold) => write!(out, "hold {:?}", hold.hook.as_ref().map(HookName::as_str)),
            Self::Resume(hook) => write!(out, "resume {:?}", hook.as_ref().map(HookName::as_str)),
            Self::Forgive(hook, commit) => write!(out, "forgive {hook} {}", commit.short()),
            Self::NextLetter => out.write_str("take a letter"),
            Self::Post { letter, posting, .. } => write!(out, "{posting:?} letter {letter}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(answers) => {
                let answers: Vec<_> = answers.iter().map(Self::to_string).collect();
                out.write_str(&answers.join(" and "))
            }
            Self::Receipt(it) => write!(out, "delivery {} {} {:?}", it.delivery, it.word, it.runs),
            Self::Claimed(right) => write!(out, "run {} of lane {}, fence {}", right.run, right.lane, right.fence),
            Self::Idle(None) | Self::NoLetter(None) => out.write_str("nothing"),
            Self::Idle(Some(due)) | Self::NoLetter(Some(due)) => {
                write!(out, "nothing until {}", due.strftime("%H:%M:%S%.f"))
            }
            Self::Lost(why) => write!(out, "no answer: {why}"),
            Self::Queued(_)
            | Self::Adopted(_)
            | Self::Done
            | Self::Was(_)
            | Self::Finished(_)
            | Self::GivenBack(_)
            | Self::Cancelled(_)
            | Self::Letter(_)
            | Self::Fenced
            | Self::Started => write!(out, "{self:?}"),
        }
    }
}
