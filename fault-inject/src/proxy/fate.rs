//! What becomes of each datagram of one way: drawn from the seed, without a clock and without a socket. The same seed,
//! dials and sequence of datagrams give the same decisions. Each kind of fault has its own stream of chance, so that a
//! dial that is turned does not shift what the others hit.

use std::time::Duration;

use rand::Rng;
use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use super::counts::{Counters, Kind};
use super::dials::{Direction, Way};
use super::hostile;
use crate::rng::{self, Odds};

/// Bytes that padding adds at most, and a datagram carries at most.
const PADDING_BYTES_MAX: usize = 1500;

/// What is to be sent, and how long it is held before it goes on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) hold: Duration,
    /// What it is beside the datagram itself, if it is: counted when it is really sent.
    pub(super) extra: Option<Kind>,
}

/// Losses or corruptions in runs: after a run at least one datagram passes.
#[derive(Debug)]
struct Runs {
    rng: ChaCha8Rng,
    left: u32,
    is_after_run: bool,
}

impl Runs {
    fn strikes(&mut self, odds: Odds, burst: u32) -> bool {
        if burst <= 1 || odds == Odds::NEVER || odds == Odds::ALWAYS {
            return odds.draw(&mut self.rng);
        }
        if self.left > 0 {
            self.left -= 1;
            self.is_after_run = self.left == 0;
            return true;
        }
        if std::mem::take(&mut self.is_after_run) {
            return false;
        }
        // The share of time in runs is the odds: a start has to be as much rarer as runs are longer.
        let share = f64::from(odds.millionths()) / 1e6;
        let start = share / (f64::from(burst + 1) / 2.0 * (1.0 - share));
        if !self.rng.random_bool(start.min(1.0)) {
            return false;
        }
        self.left = self.rng.random_range(1..=burst) - 1;
        self.is_after_run = self.left == 0;
        true
    }
}

/// The decisions about one way.
#[derive(Debug)]
pub(super) struct Fate {
    direction: Direction,
    drops: Runs,
    corruptions: Runs,
    bits: ChaCha8Rng,
    sizes: ChaCha8Rng,
    garbage: ChaCha8Rng,
    garbage_kind: usize,
    copies: ChaCha8Rng,
    replays: ChaCha8Rng,
    order: ChaCha8Rng,
    jitter: ChaCha8Rng,
}

impl Fate {
    pub(super) fn new(seed: u64, direction: Direction) -> Fate {
        let stream = |label: &str| rng::stream(seed, &format!("proxy {} {label}", direction.word()));
        let runs = |label: &str| Runs { rng: stream(label), left: 0, is_after_run: false };
        Fate {
            direction,
            drops: runs("drop"),
            corruptions: runs("corrupt"),
            bits: stream("bits"),
            sizes: stream("sizes"),
            garbage: stream("garbage"),
            garbage_kind: 0,
            copies: stream("duplicate"),
            replays: stream("replay"),
            order: stream("reorder"),
            jitter: stream("jitter"),
        }
    }

    /// Decides about the datagram with that number in its flow (from 1). What is to be sent goes to `out`.
    pub(super) fn judge(&mut self, way: &Way, number: u64, datagram: &[u8], counters: &Counters, out: &mut Vec<Piece>) {
        let count = |kind: Kind| counters.add(self.direction, kind);
        if way.garbage.draw(&mut self.garbage) {
            let bytes = hostile::make(self.garbage_kind, datagram, &mut self.garbage);
            self.garbage_kind += 1;
            out.push(Piece { bytes, hold: Duration::ZERO, extra: Some(Kind::Garbage) });
        }
        if way.mtu_bytes.is_some_and(|most| datagram.len() > most) {
            return count(Kind::TooLarge);
        }
        if way.drop_list.iter().any(|(first, last)| (*first..=*last).contains(&number)) {
            return count(Kind::Listed);
        }
        let is_lost = self.drops.strikes(way.drop, way.burst);
        let is_corrupted = self.corruptions.strikes(way.corrupt, way.burst) && !datagram.is_empty();
        if is_lost {
            return count(Kind::Dropped);
        }
        let mut bytes = datagram.to_vec();
        if is_corrupted {
            self.flip(&mut bytes, way.corrupt_bits);
            counters.add(self.direction, Kind::Corrupted);
        }
        self.resize(way, &mut bytes, counters);
        let hold = self.hold(way);
        if way.duplicate.draw(&mut self.copies) {
            out.push(Piece { bytes: bytes.clone(), hold: hold + self.jitter(way), extra: Some(Kind::Duplicated) });
        }
        if way.replay.draw(&mut self.replays) {
            let late = fraction(&mut self.replays, way.replay_late);
            out.push(Piece { bytes: bytes.clone(), hold: way.delay + late, extra: Some(Kind::Replayed) });
        }
        out.push(Piece { bytes, hold, extra: None });
    }

    fn hold(&mut self, way: &Way) -> Duration {
        let held_back = if way.reorder.draw(&mut self.order) { way.reorder_hold } else { Duration::ZERO };
        way.delay + self.jitter(way) + held_back
    }

    fn jitter(&mut self, way: &Way) -> Duration {
        if way.jitter.is_zero() { Duration::ZERO } else { fraction(&mut self.jitter, way.jitter) }
    }

    /// Flips one to `most` different bits.
    fn flip(&mut self, bytes: &mut [u8], most: u32) {
        let wanted = self.bits.random_range(1..=most.max(1)) as usize;
        let mut flipped = Vec::new();
        while flipped.len() < wanted.min(bytes.len() * 8) {
            let bit = self.bits.random_range(0..bytes.len() * 8);
            if !flipped.contains(&bit) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                flipped.push(bit);
            }
        }
    }

    fn resize(&mut self, way: &Way, bytes: &mut Vec<u8>, counters: &Counters) {
        if way.truncate.draw(&mut self.sizes) && !bytes.is_empty() {
            let len = self.sizes.random_range(0..bytes.len());
            bytes.truncate(len);
            counters.add(self.direction, Kind::Truncated);
        }
        if way.pad.draw(&mut self.sizes) {
            let from = bytes.len();
            let room = hostile::LARGEST_BYTES.saturating_sub(from).min(PADDING_BYTES_MAX);
            let added = if room == 0 { 0 } else { self.sizes.random_range(1..=room) };
            bytes.resize(from + added, 0);
            self.sizes.fill_bytes(&mut bytes[from..]);
            counters.add_many(self.direction, Kind::Padded, u64::from(added > 0));
        }
    }
}

/// A random part of a time.
fn fraction(rng: &mut ChaCha8Rng, whole: Duration) -> Duration {
    whole.mul_f64(rng.random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seed: u64, way: &Way, count: u64) -> (Vec<Vec<Piece>>, super::super::counts::Counts) {
        let mut fate = Fate::new(seed, Direction::ToListener);
        let counters = Counters::default();
        let all = (1..=count).map(|number| {
            let mut out = Vec::new();
            fate.judge(way, number, &[number.to_le_bytes(); 8].concat(), &counters, &mut out);
            out
        });
        (all.collect(), counters.snapshot())
    }

    fn percent(percent: u32) -> Odds {
        Odds::per_million(percent * 10_000)
    }

    /// Lengths of the runs in which nothing passes.
    fn runs(all: &[Vec<Piece>]) -> Vec<usize> {
        let lost: Vec<bool> = all.iter().map(Vec::is_empty).collect();
        lost.split(|is_lost| !is_lost).map(<[bool]>::len).filter(|len| *len > 0).collect()
    }

    #[test]
    fn losses_hold_their_rate_and_their_longest_run() {
        for (percents, burst) in [(2, 3), (30, 3), (30, 0), (2, 8)] {
            let way = Way { drop: percent(percents), burst, ..Way::default() };
            let (all, counts) = judged(1, &way, 200_000);
            let share = counts.of(Kind::Dropped) as f64 / 200_000.0 * 100.0;
            let wanted = f64::from(percents);
            assert!((share - wanted).abs() < 0.05 * wanted, "{share} % of {wanted} % with runs of {burst}");
            let longest = runs(&all).into_iter().max().unwrap_or_default();
            assert!(burst == 0 || longest == burst as usize, "{longest} in a row, {burst} are allowed");
            assert!(burst > 0 || longest > 3, "independent losses have no longest run");
        }
    }

    #[test]
    fn corruption_flips_as_many_bits_as_it_may_and_runs_too() {
        let way = Way { corrupt: percent(30), burst: 3, corrupt_bits: 4, ..Way::default() };
        let (all, counts) = judged(2, &way, 10_000);
        let mut seen = [0u64; 5];
        for (pieces, number) in all.iter().zip(1u64..) {
            let real = [number.to_le_bytes(); 8].concat();
            let bits: u32 = pieces[0].bytes.iter().zip(&real).map(|(a, b)| (a ^ b).count_ones()).sum();
            seen[bits as usize] += 1;
        }
        assert_eq!(seen[1..].iter().sum::<u64>(), counts.of(Kind::Corrupted));
        assert!(seen[1..].iter().all(|count| *count > 500) && (2_800..3_200).contains(&counts.of(Kind::Corrupted)));
    }

    #[test]
    fn the_same_seed_decides_the_same_and_another_does_not() {
        let way = Way {
            drop: percent(10),
            corrupt: percent(10),
            truncate: percent(10),
            pad: percent(10),
            garbage: percent(10),
            duplicate: percent(10),
            replay: percent(10),
            reorder: percent(10),
            jitter: Duration::from_millis(5),
            ..Way::default()
        };
        assert_eq!(judged(3, &way, 2000), judged(3, &way, 2000));
        assert_ne!(judged(3, &way, 2000).0, judged(4, &way, 2000).0);
    }

    #[test]
    fn a_dial_does_not_shift_what_another_hits() {
        let way = Way { drop: percent(20), burst: 3, ..Way::default() };
        let busy = Way { duplicate: percent(50), corrupt: percent(50), garbage: Odds::NEVER, ..way.clone() };
        let lost = |way: &Way| judged(5, way, 5000).0.iter().map(Vec::is_empty).collect::<Vec<_>>();
        assert_eq!(lost(&way), lost(&busy));
    }

    #[test]
    fn lists_sizes_and_copies_do_what_they_say() {
        let way = Way { drop_list: vec![(2, 7), (9, 9)], ..Way::default() };
        let lost: Vec<bool> = judged(6, &way, 10).0.iter().map(Vec::is_empty).collect();
        assert_eq!(lost, [false, true, true, true, true, true, true, false, true, false]);
        let small = Way { mtu_bytes: Some(63), ..Way::default() };
        assert_eq!(judged(6, &small, 10).1.of(Kind::TooLarge), 10);
        let fits = Way { mtu_bytes: Some(64), ..Way::default() };
        assert_eq!(judged(6, &fits, 10).1.of(Kind::TooLarge), 0);
        let late = Way { replay: Odds::ALWAYS, replay_late: Duration::from_secs(60), ..Way::default() };
        let holds: Vec<Duration> = judged(6, &late, 1000).0.iter().map(|pieces| pieces[0].hold).collect();
        assert!(holds.iter().all(|hold| *hold < Duration::from_secs(60)));
        assert!(holds.iter().any(|hold| *hold > Duration::from_secs(55)));
    }
}
