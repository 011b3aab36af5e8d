//! What a clock that is set back means for all that waits: nothing.

use std::time::Duration;

use jiff::Timestamp;

use super::{Model, NotBefore, Place, Post, Stage};

/// Less is no jump.
const SLACK: Duration = Duration::from_secs(2);

impl Model {
    /// Hears the time. Where it is earlier than the last one, everything that has a time is earlier by as much.
    pub(super) fn hear_the_time(&mut self, now: Timestamp) {
        let back = Duration::try_from(self.latest.duration_since(now)).unwrap_or_default();
        if back < SLACK {
            self.latest = self.latest.max(now);
            return;
        }
        self.latest = now;
        let earlier = |time: &mut Timestamp| *time = time.saturating_sub(back).expect("a time");
        let earlier_place = |place: &mut Place| {
            earlier(&mut place.since);
            place.rank -= i64::try_from(back.as_millis()).expect("a short time");
        };
        for run in self.runs.values_mut() {
            match &mut run.stage {
                Stage::Waits { place, not_before } => {
                    earlier_place(place);
                    match not_before {
                        NotBefore::Now => (),
                        NotBefore::At(at) => earlier(at),
                        NotBefore::Within(from, to) => [from, to].into_iter().for_each(earlier),
                    }
                }
                Stage::InHand { place, .. } => earlier_place(place),
                Stage::Ended { .. } => (),
            }
        }
        self.hooks.values_mut().filter_map(|it| it.began_at.as_mut()).for_each(earlier);
        for hold in self.holds.values_mut() {
            earlier(&mut hold.since);
            hold.until.iter_mut().for_each(earlier);
        }
        for letter in self.letters.values_mut() {
            match &mut letter.state {
                Post::Due(Some(at)) => earlier(at),
                Post::Due(None) | Post::Sent(_) | Post::GivenUp(_) => (),
            }
        }
    }
}
