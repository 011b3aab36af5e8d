//! Who holds what: claims that are good, claims that a restart has made void, letters.

use landfall::store::{Claim, LetterClaim};

use crate::acts::Right;

/// So many void claims are kept for those who will not believe it.
const VOID_MAX: usize = 8;

/// Everything in somebody's hands.
#[derive(Default)]
pub struct Hands {
    good: Vec<Claim>,
    void: Vec<Claim>,
    letters: Vec<LetterClaim>,
}

impl Hands {
    /// The rights that are held, in the order in which they were got.
    pub fn rights(&self, is_void: bool) -> Vec<Right> {
        let claims = if is_void { &self.void } else { &self.good };
        claims.iter().map(right).collect()
    }

    /// The letters that are held, each with how often it had been tried before.
    pub fn letters(&self) -> Vec<(i64, u32)> {
        self.letters.iter().map(|it| (it.letter().id.0, it.letter().attempts)).collect()
    }

    /// A new daemon knows nothing of what the old one held.
    pub fn make_void(&mut self) {
        self.void.append(&mut self.good);
        let surplus = self.void.len().saturating_sub(VOID_MAX);
        self.void.drain(..surplus);
    }

    pub fn take_claim(&mut self, wanted: &Right) -> Option<(Claim, bool)> {
        for (claims, is_void) in [(&mut self.good, false), (&mut self.void, true)] {
            if let Some(index) = claims.iter().position(|it| right(it) == *wanted) {
                return Some((claims.remove(index), is_void));
            }
        }
        None
    }

    pub fn keep_claim(&mut self, claim: Claim, is_void: bool) {
        if is_void { self.void.push(claim) } else { self.good.push(claim) }
    }

    pub fn take_letter(&mut self, letter: i64, attempts: u32) -> Option<LetterClaim> {
        let is_it = |it: &LetterClaim| (it.letter().id.0, it.letter().attempts) == (letter, attempts);
        let index = self.letters.iter().position(is_it)?;
        Some(self.letters.remove(index))
    }

    pub fn keep_letter(&mut self, letter: LetterClaim) {
        self.letters.push(letter);
    }
}

/// What a claim gives a right to.
pub fn right(claim: &Claim) -> Right {
    Right { run: claim.run().0, lane: claim.lane().to_string(), fence: claim.fence() }
}
