//! What a fault does to bytes: the four sizes in which storage really corrupts. Knows nothing of files.

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

/// The unit in which a drive writes, and so the smallest that tears.
pub const SECTOR_BYTES: usize = 512;
/// The unit of the page cache.
pub const PAGE_BYTES: usize = 4096;
/// The unit in which CERN's study found most of what storage corrupts (Panzer-Steindel, "Data integrity", 2007).
pub const RUN_BYTES: usize = 64 << 10;

/// Size of one piece of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// One bit flips.
    Bit,
    /// One aligned run of 512 bytes becomes noise.
    Sector,
    /// One aligned run of 4 KiB becomes noise.
    Page,
    /// One aligned run of 64 KiB becomes noise.
    Run,
}

impl Damage {
    /// All of them, the smallest first.
    pub const ALL: [Damage; 4] = [Damage::Bit, Damage::Sector, Damage::Page, Damage::Run];

    /// Its name on the command line and in a plan.
    pub fn word(self) -> &'static str {
        match self {
            Damage::Bit => "bit",
            Damage::Sector => "512",
            Damage::Page => "4k",
            Damage::Run => "64k",
        }
    }

    /// The size of that name.
    pub fn of_word(word: &str) -> Option<Damage> {
        Damage::ALL.into_iter().find(|damage| damage.word() == word)
    }

    /// Draws a size in the proportion 1:1:8 in which field studies find them.
    pub fn drawn(stream: &mut ChaCha8Rng) -> Damage {
        match stream.random_range(0..10) {
            0 => Damage::Bit,
            1 => Damage::Sector,
            _ => Damage::Page,
        }
    }

    /// Damages bytes somewhere. The result always differs unless there are no bytes.
    pub fn apply(self, bytes: &mut [u8], stream: &mut ChaCha8Rng) {
        if bytes.is_empty() {
            return;
        }
        let at = stream.random_range(0..bytes.len());
        self.apply_at(bytes, at, stream);
    }

    /// Damages the unit that holds the byte `at`, which must lie within.
    pub fn apply_at(self, bytes: &mut [u8], at: usize, stream: &mut ChaCha8Rng) {
        let unit = match self {
            Damage::Bit => {
                bytes[at] ^= 1 << stream.random_range(0..8);
                return;
            }
            Damage::Sector => SECTOR_BYTES,
            Damage::Page => PAGE_BYTES,
            Damage::Run => RUN_BYTES,
        };
        let start = at - at % unit;
        let end = bytes.len().min(start + unit);
        let before = bytes[at];
        stream.fill_bytes(&mut bytes[start..end]);
        if bytes[at] == before {
            bytes[at] = !before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn damage_changes_exactly_its_unit() {
        for seed in 0..100 {
            let units = [1, SECTOR_BYTES, PAGE_BYTES, RUN_BYTES];
            for (damage, unit) in Damage::ALL.into_iter().zip(units) {
                let mut bytes = vec![0; 200_000];
                damage.apply(&mut bytes, &mut stream(seed, "damage"));
                let first = bytes.iter().position(|&byte| byte != 0);
                let last = bytes.iter().rposition(|&byte| byte != 0);
                let (Some(first), Some(last)) = (first, last) else { panic!("seed {seed}: nothing changed") };
                assert_eq!(first / unit, last / unit, "seed {seed}: {damage:?} reached beyond its unit");
            }
        }
        Damage::Page.apply(&mut [], &mut stream(0, "damage"));
    }
}
