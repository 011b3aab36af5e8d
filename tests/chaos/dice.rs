//! The one source of chance: everything that is drawn follows from the seed.
//!
//! Invariant: the same seed and the same questions give the same answers, on every machine.

use std::time::Duration;

/// A stream of numbers (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of a seed, for one of those who draw from it.
    pub fn of(seed: u64, drawer: &str) -> Self {
        let drawer = drawer
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, it| (hash ^ u64::from(it)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut dice = Self(seed ^ drawer);
        dice.draw();
        dice
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Whether something comes true that does so in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time from the first to the last of these, in milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    /// One of these, each as often as its weight says.
    pub fn weighted<'a, T>(&mut self, choices: &'a [T], weight: impl Fn(&T) -> u64) -> &'a T {
        let mut lot = self.below(choices.iter().map(&weight).sum());
        let found = choices.iter().find(|it| {
            let own = weight(it);
            let is_it = lot < own;
            lot = lot.wrapping_sub(own);
            is_it
        });
        found.expect("the lot is below the sum of the weights")
    }

    /// The id of a commit that nobody made.
    pub fn commit(&mut self) -> String {
        let digits = format!("{:016x}{:016x}{:016x}", self.draw(), self.draw(), self.draw());
        digits[..40].to_owned()
    }
}
