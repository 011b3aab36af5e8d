//! The outbox as it is meant.

use std::time::Duration;

use jiff::Timestamp;
use landfall::model::letter::{Occasion, addresses_owed};

use super::{Letter, Model, Post, later};
use crate::{
    acts::{Answer, Handed},
    verbs::Posting,
};

/// Why a letter could not be sent.
pub const POST_TROUBLE: &str = "the mail server is away";

impl Model {
    pub(super) fn owe(&mut self, run: i64, occasion: Occasion) {
        let notify = self.run(run).job.hook.notify.clone();
        for address in addresses_owed(&notify, occasion) {
            let letter = Letter {
                run,
                occasion: occasion.word(),
                address: address.to_string(),
                attempts: 0,
                is_in_hand: false,
                why: None,
                state: Post::Due(None),
            };
            self.letters.insert(i64::try_from(self.letters.len()).expect("few") + 1, letter);
        }
    }

    /// The one that has been due longest; never tried ones first.
    pub(super) fn next_letter(&mut self, now: Timestamp) -> Answer {
        let owed = self.letters.iter_mut().filter(|(_, it)| !it.is_in_hand).filter_map(|(number, it)| match it.state {
            Post::Due(at) => Some((at, *number, it)),
            Post::Sent(_) | Post::GivenUp(_) => None,
        });
        match owed.min_by_key(|(at, number, _)| (*at, *number)) {
            None => Answer::NoLetter(None),
            Some((Some(at), ..)) if at > now => Answer::NoLetter(Some(at)),
            Some((_, letter, found)) => {
                let attempts = found.attempts;
                found.attempts += 1;
                found.is_in_hand = true;
                Answer::Letter(Handed { letter, run: found.run, attempts })
            }
        }
    }

    /// What its sender says of a letter. That it should wait counts only from the one who took it last.
    pub(super) fn post(&mut self, letter: i64, attempts: u32, posting: Posting, now: Timestamp) -> Answer {
        let letter = self.letters.get_mut(&letter).expect("a letter of the model");
        if matches!(letter.state, Post::Due(_)) {
            match posting {
                Posting::Sent => letter.state = Post::Sent(now),
                Posting::GiveUp => {
                    letter.state = Post::GivenUp(now);
                    letter.why = Some(POST_TROUBLE.into());
                }
                Posting::TryLater(_) if letter.attempts != attempts + 1 => return Answer::Done,
                Posting::TryLater(seconds) => {
                    letter.state = Post::Due(Some(later(now, Duration::from_secs(seconds.into()))));
                    letter.why = Some(POST_TROUBLE.into());
                }
            }
            letter.is_in_hand = false;
        }
        Answer::Done
    }

    /// At the start nobody is sending.
    pub(super) fn take_letters_back(&mut self) {
        for letter in self.letters.values_mut().filter(|it| it.is_in_hand) {
            letter.is_in_hand = false;
            letter.state = Post::Due(None);
        }
    }
}
