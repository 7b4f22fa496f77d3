//! What the proxy did, counted for each kind and way. A run of faults that counts nothing here is vacuous.

use std::sync::atomic::{AtomicU64, Ordering};

use super::dials::{BOTH, Direction};

/// One thing that is done to a datagram, or that happens to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sent on.
    Passed,
    /// Lost by chance.
    Dropped,
    /// Lost because the list names it.
    Listed,
    /// Bits were flipped.
    Corrupted,
    /// Cut short.
    Truncated,
    /// Followed by random bytes.
    Padded,
    /// A hostile one was made up.
    Garbage,
    /// Sent twice.
    Duplicated,
    /// Sent again later.
    Replayed,
    /// Overtaken by one that came after it.
    Reordered,
    /// Lost because the queue was full.
    Queued,
    /// Lost because it was larger than the path allows.
    TooLarge,
    /// Lost in an outage.
    BlackedOut,
    /// The dialler got another port.
    Rebound,
    /// Outages that began.
    Outages,
    /// The proxy's own socket refused it: not a fault that was asked for.
    Unsent,
}

/// All kinds, in the order in which they are shown.
pub const KINDS: [Kind; 16] = [
    Kind::Passed,
    Kind::Dropped,
    Kind::Listed,
    Kind::Corrupted,
    Kind::Truncated,
    Kind::Padded,
    Kind::Garbage,
    Kind::Duplicated,
    Kind::Replayed,
    Kind::Reordered,
    Kind::Queued,
    Kind::TooLarge,
    Kind::BlackedOut,
    Kind::Rebound,
    Kind::Outages,
    Kind::Unsent,
];

impl Kind {
    /// Its name in lines and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Passed => "passed",
            Kind::Dropped => "dropped",
            Kind::Listed => "dropped-by-list",
            Kind::Corrupted => "corrupted",
            Kind::Truncated => "truncated",
            Kind::Padded => "padded",
            Kind::Garbage => "garbage",
            Kind::Duplicated => "duplicated",
            Kind::Replayed => "replayed",
            Kind::Reordered => "reordered",
            Kind::Queued => "queue-full",
            Kind::TooLarge => "too-large",
            Kind::BlackedOut => "blacked-out",
            Kind::Rebound => "rebound",
            Kind::Outages => "outages",
            Kind::Unsent => "unsent",
        }
    }
}

/// The counters of a running proxy.
#[derive(Debug, Default)]
pub(super) struct Counters {
    ways: [[AtomicU64; KINDS.len()]; 2],
    arrived_bytes: [AtomicU64; 2],
    passed_bytes: [AtomicU64; 2],
}

impl Counters {
    pub(super) fn add(&self, direction: Direction, kind: Kind) {
        self.add_many(direction, kind, 1);
    }

    pub(super) fn add_many(&self, direction: Direction, kind: Kind, times: u64) {
        self.ways[direction.index()][kind as usize].fetch_add(times, Ordering::Relaxed);
    }

    pub(super) fn arrived(&self, direction: Direction, bytes: usize) {
        self.arrived_bytes[direction.index()].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn passed(&self, direction: Direction, bytes: usize) {
        self.add(direction, Kind::Passed);
        self.passed_bytes[direction.index()].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn arrived_bytes(&self, direction: Direction) -> u64 {
        self.arrived_bytes[direction.index()].load(Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self) -> Counts {
        let read = |numbers: &[AtomicU64; KINDS.len()]| std::array::from_fn(|at| numbers[at].load(Ordering::Relaxed));
        let pair = |numbers: &[AtomicU64; 2]| std::array::from_fn(|at| numbers[at].load(Ordering::Relaxed));
        Counts {
            ways: std::array::from_fn(|at| read(&self.ways[at])),
            arrived_bytes: pair(&self.arrived_bytes),
            passed_bytes: pair(&self.passed_bytes),
        }
    }
}

/// What was counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    ways: [[u64; KINDS.len()]; 2],
    arrived_bytes: [u64; 2],
    passed_bytes: [u64; 2],
}

impl Counts {
    /// How often something was done on one way.
    pub fn on(&self, direction: Direction, kind: Kind) -> u64 {
        self.ways[direction.index()][kind as usize]
    }

    /// How often on both.
    pub fn of(&self, kind: Kind) -> u64 {
        BOTH.iter().map(|direction| self.on(*direction, kind)).sum()
    }

    /// Payload bytes that arrived at the proxy while the line was not silent.
    pub fn arrived_bytes(&self, direction: Direction) -> u64 {
        self.arrived_bytes[direction.index()]
    }

    /// Payload bytes that were sent on, with copies and what was made up.
    pub fn passed_bytes(&self, direction: Direction) -> u64 {
        self.passed_bytes[direction.index()]
    }

    /// Everything that is not 0, as `to-listener: passed 12 dropped 3`.
    pub fn line(&self) -> String {
        let of = |direction: Direction| {
            let words = KINDS.iter().filter(|kind| self.on(direction, **kind) > 0);
            let words: Vec<String> =
                words.map(|kind| format!("{} {}", kind.word(), self.on(direction, *kind))).collect();
            format!("{}: {} bytes {}", direction.word(), self.passed_bytes(direction), words.join(" "))
        };
        BOTH.map(of).join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_counter_and_word() {
        let counters = Counters::default();
        KINDS.iter().enumerate().for_each(|(at, kind)| {
            assert_eq!(*kind as usize, at);
            counters.add_many(Direction::ToDialler, *kind, at as u64 + 1);
        });
        let counts = counters.snapshot();
        KINDS.iter().enumerate().for_each(|(at, kind)| assert_eq!(counts.of(*kind), at as u64 + 1));
        let words: std::collections::HashSet<&str> = KINDS.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), KINDS.len());
    }
}
