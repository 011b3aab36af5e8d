//! How long a letter waits before it is tried again, and when trying ends.
//!
//! Invariant: the waits grow from seconds to an hour, differ from letter to letter, and sum up to about three days.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);
/// With the waits below, about three days.
const ATTEMPTS_MAX: u32 = 80;

/// The wait after an answer that followed so many earlier ones. `None`: it was the last.
pub fn wait_after(refusals: u32) -> Option<Duration> {
    let waits = ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_factor(2.0)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build();
    if refusals + 1 >= ATTEMPTS_MAX {
        return None;
    }
    // Jitter adds up to the wait itself.
    waits.into_iter().nth(refusals as usize).map(|it| it.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait_after;

    #[test]
    fn waits_grow_from_seconds_to_an_hour_and_end_after_about_three_days() {
        let waits: Vec<_> = (0..).map_while(wait_after).collect();
        assert!((5..=10).contains(&waits[0].as_secs()), "{:?}", waits[0]);
        assert!(waits.iter().all(|it| *it <= Duration::from_secs(3600)));
        let days = waits.iter().sum::<Duration>().as_secs_f64() / 86_400.0;
        assert!((2.5..3.5).contains(&days), "{days}");
    }
}
