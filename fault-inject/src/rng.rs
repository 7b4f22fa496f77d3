//! Chance, from one 64-bit seed: a labelled sub-stream for each use, so that a new draw in one place never shifts
//! the draws of another. Owns no policy: who draws what is up to the callers.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is certain, in the unit of [`Odds`].
const CERTAIN_PER_MILLION: u32 = 1_000_000;

/// A probability in millionths: exact, comparable, printable in a reproduction line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Odds(u32);

impl Odds {
    /// Never happens, and draws nothing.
    pub const NEVER: Odds = Odds(0);
    /// Always happens, and draws nothing.
    pub const ALWAYS: Odds = Odds(CERTAIN_PER_MILLION);

    /// That many times in a million; more than a million is certainty.
    pub const fn per_million(times: u32) -> Odds {
        Odds(if times > CERTAIN_PER_MILLION { CERTAIN_PER_MILLION } else { times })
    }

    /// The number of millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Draws once from a stream.
    pub fn draw(self, stream: &mut ChaCha8Rng) -> bool {
        match self.0 {
            0 => false,
            CERTAIN_PER_MILLION => true,
            odds => stream.random_range(0..CERTAIN_PER_MILLION) < odds,
        }
    }
}

/// The sub-stream of a seed that belongs to a label.
pub fn stream(seed: u64, label: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("landfall fault-inject stream v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(label.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// All sub-streams of one seed, made when they are first used.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    streams: BTreeMap<String, ChaCha8Rng>,
}

impl Dice {
    /// Dice of that seed.
    pub fn new(seed: u64) -> Dice {
        Dice { seed, streams: BTreeMap::new() }
    }

    /// The seed they came from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream of a label.
    pub fn stream(&mut self, label: &str) -> &mut ChaCha8Rng {
        if !self.streams.contains_key(label) {
            self.streams.insert(label.to_owned(), stream(self.seed, label));
        }
        self.streams.get_mut(label).expect("it was inserted just above")
    }

    /// Draws once from the stream of a label; draws nothing when the answer is certain.
    pub fn roll(&mut self, label: &str, odds: Odds) -> bool {
        match odds {
            Odds::NEVER => false,
            Odds::ALWAYS => true,
            odds => odds.draw(self.stream(label)),
        }
    }

    /// A number below `bound`, which is not 0, from the stream of a label.
    pub fn below(&mut self, label: &str, bound: usize) -> usize {
        self.stream(label).random_range(0..bound)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn a_draw_in_one_stream_does_not_shift_another() {
        let mut quiet = Dice::new(7);
        let mut busy = Dice::new(7);
        for _ in 0..100 {
            busy.roll("other", Odds::per_million(500_000));
        }
        assert_eq!(quiet.stream("one").next_u64(), busy.stream("one").next_u64());
        assert_ne!(stream(7, "one").next_u64(), stream(7, "two").next_u64());
        assert_ne!(stream(7, "one").next_u64(), stream(8, "one").next_u64());
    }

    #[test]
    fn odds_hold_what_they_say() {
        let mut dice = Dice::new(1);
        let hits = (0..100_000).filter(|_| dice.roll("x", Odds::per_million(250_000))).count();
        assert!((24_000..26_000).contains(&hits), "{hits} of 100,000 at a quarter");
        assert!(!dice.roll("x", Odds::NEVER) && dice.roll("x", Odds::ALWAYS));
        assert_eq!(Odds::per_million(2_000_000), Odds::ALWAYS);
    }
}
