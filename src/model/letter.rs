//! Letters: who is told of what.
//!
//! Invariant: whether a letter is owed follows from a hook's rules and two outcomes alone.

use std::fmt;

use crate::model::{
    run::{Mood, Outcome, RunId},
    secret::SecretRef,
};

/// The number of a letter; it names the letter for ever, so a second copy can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub i64);

impl fmt::Display for LetterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One entry of `notify`: a way to tell people, and what they want to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The way.
    pub channel: Channel,
    /// What they want to hear.
    pub on: Vec<Occasion>,
}

/// A way to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// E-mail; each address gets a letter of its own, so that one bad address harms no other.
    Email {
        /// The addresses; at least one.
        to: Vec<String>,
    },
    /// A Slack incoming webhook; its URL is the secret.
    Slack {
        /// Where that URL is to be found.
        webhook: SecretRef,
    },
}

/// Where one letter goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// To one mailbox.
    Email {
        /// Its address.
        to: String,
    },
    /// To a Slack incoming webhook.
    Slack {
        /// Where its URL is to be found.
        webhook: SecretRef,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email { to } => write!(out, "e-mail to {to}"),
            Self::Slack { webhook } => write!(out, "Slack webhook of {webhook}"),
        }
    }
}

impl Channel {
    /// The addresses behind it, one letter each.
    pub fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Email { to } => to.iter().map(|to| Address::Email { to: to.clone() }).collect(),
            Self::Slack { webhook } => vec![Address::Slack { webhook: webhook.clone() }],
        }
    }
}

/// What people may want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A run began.
    Start,
    /// A run succeeded.
    Success,
    /// A run ended badly.
    Failure,
    /// The first success after a failure.
    Recovery,
    /// A run ended without having deployed, and nothing is wrong.
    Skipped,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Start, Self::Success, Self::Failure, Self::Recovery, Self::Skipped];

    /// The word of hooks.yaml and SQL.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Skipped => "skipped",
        }
    }

    /// The occasion of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }

    /// What an outcome is an occasion for, given the hook's last one that people could believe in.
    pub fn of(outcome: &Outcome, before: Mood) -> Self {
        match (outcome.mood(), before) {
            (Mood::Good, Mood::Bad) => Self::Recovery,
            (Mood::Good, Mood::Good | Mood::Neither) => Self::Success,
            (Mood::Bad, _) => Self::Failure,
            (Mood::Neither, _) => Self::Skipped,
        }
    }
}

impl Notification {
    /// Whether its people want to hear of this. A recovery is a success too.
    pub fn wants(&self, occasion: Occasion) -> bool {
        self.on.contains(&occasion) || (occasion == Occasion::Recovery && self.on.contains(&Occasion::Success))
    }
}

/// The addresses that are owed a letter on this occasion, each once.
pub fn addresses_owed(notify: &[Notification], occasion: Occasion) -> Vec<Address> {
    let mut owed = Vec::new();
    for address in notify.iter().filter(|it| it.wants(occasion)).flat_map(|it| it.channel.addresses()) {
        if !owed.contains(&address) {
            owed.push(address);
        }
    }
    owed
}

/// One message to send.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its number.
    pub id: LetterId,
    /// The run it tells of.
    pub run: RunId,
    /// What of that run.
    pub occasion: Occasion,
    /// To whom.
    pub address: Address,
    /// How many times it was handed out before.
    pub attempts: u32,
    /// How many of these its far side has answered, and asked for later.
    pub refusals: u32,
}

#[cfg(test)]
mod tests {
    use super::{Channel, Notification, Occasion, addresses_owed};
    use crate::model::run::{Mood, Outcome};

    fn people(on: &[Occasion], to: &str) -> Notification {
        Notification { channel: Channel::Email { to: vec![to.into()] }, on: on.to_vec() }
    }

    #[test]
    fn only_a_success_after_a_failure_is_a_recovery() {
        assert_eq!(Occasion::of(&Outcome::Succeeded, Mood::Bad), Occasion::Recovery);
        assert_eq!(Occasion::of(&Outcome::Succeeded, Mood::Good), Occasion::Success);
        assert_eq!(Occasion::of(&Outcome::Succeeded, Mood::Neither), Occasion::Success);
    }

    #[test]
    fn who_wants_every_success_hears_of_a_recovery_once() {
        let notify =
            [people(&[Occasion::Success, Occasion::Recovery], "a@x.org"), people(&[Occasion::Failure], "b@x.org")];
        assert_eq!(addresses_owed(&notify, Occasion::Recovery).len(), 1);
        assert_eq!(addresses_owed(&notify, Occasion::Success).len(), 1);
        assert_eq!(addresses_owed(&notify, Occasion::Start).len(), 0);
    }
}
