//! A 64-bit fingerprint of a state, in which moments count only by their distance from now: two states that differ
//! in the time of day alone are one. It relies on how the standard library hashes an `Instant` (seconds as `i64`,
//! then nanoseconds as `u32`), and [`is_sound`] proves that before each search.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// What lies further back than this many milliseconds is simply past: the longest time that a machine looks back.
const PAST_MS: i64 = 1000;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xa076_1d64_78bd_642f;

/// See the module.
pub(super) struct Fingerprint {
    state: u64,
    now_ms: i64,
    seconds: Option<i64>,
}

/// What the standard library feeds of an `Instant`.
#[derive(Default)]
struct Probe {
    seconds: Option<i64>,
    nanos: Option<u32>,
    others: u32,
}

impl Hasher for Probe {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[u8]) {
        self.others += 1;
    }

    fn write_i64(&mut self, seconds: i64) {
        self.seconds = Some(seconds);
    }

    fn write_u32(&mut self, nanos: u32) {
        self.nanos = Some(nanos);
    }
}

/// Milliseconds of an instant on the standard library's own scale; `None` if it hashes otherwise than is relied upon.
fn milliseconds(at: Instant) -> Option<i64> {
    let mut probe = Probe::default();
    at.hash(&mut probe);
    if probe.others > 0 {
        return None;
    }
    Some(probe.seconds? * 1000 + i64::from(probe.nanos?) / 1_000_000)
}

/// Whether instants hash as the fingerprint relies upon: shifted with their now they are equal, else different.
pub(super) fn is_sound() -> bool {
    let (early, hour) = (Instant::now(), Duration::from_secs(3600));
    let of = |at: Instant, now: Instant| {
        let mut hasher = Fingerprint::at(now)?;
        Some(at).hash(&mut hasher);
        Some(hasher.finish())
    };
    let due = Duration::from_millis(500);
    let (here, later) = (of(early + due, early), of(early + due + hour, early + hour));
    here.is_some() && here == later && here != of(early, early) && here != of(early + 2 * due, early)
}

impl Fingerprint {
    /// A hasher for a state at a time. `None` where instants hash otherwise than is relied upon.
    pub(super) fn at(now: Instant) -> Option<Fingerprint> {
        Some(Fingerprint { state: SECOND, now_ms: milliseconds(now)?, seconds: None })
    }

    #[allow(clippy::cast_possible_truncation, reason = "both halves of a product are taken")]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(MULTIPLIER);
        self.state = (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(SECOND);
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        let mut last = Fingerprint { state: self.state, now_ms: 0, seconds: None };
        last.mix(MULTIPLIER);
        last.mix(SECOND);
        last.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        match self.seconds.take() {
            Some(seconds) => {
                let at_ms = seconds * 1000 + i64::from(value) / 1_000_000;
                self.mix((at_ms - self.now_ms).max(-PAST_MS).cast_unsigned());
            }
            None => self.mix(u64::from(value)),
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_i64(&mut self, seconds: i64) {
        self.seconds = Some(seconds);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value.cast_unsigned() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_distance_from_now_counts() {
        assert!(is_sound());
    }

    #[test]
    fn a_million_neighbours_have_a_million_fingerprints() {
        let now = Instant::now();
        let of = |value: (u32, u8)| {
            let mut hasher = Fingerprint::at(now).expect("the self-check holds");
            value.hash(&mut hasher);
            hasher.finish()
        };
        let all: std::collections::HashSet<u64> =
            (0..4000_u32).flat_map(|first| (0..250_u8).map(move |second| of((first, second)))).collect();
        assert_eq!(all.len(), 1_000_000);
    }
}
