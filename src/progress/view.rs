//! What is known about a running transfer at one moment: the last snapshot, how fast it got there, and what follows
//! (percent, time to go). It keeps no clock: every snapshot comes with its time.

use std::time::{Duration, Instant};

use crate::event::{Snapshot, WaitsFor};
use crate::identity::Role;
use crate::wire::Phase;

/// Over this long the rate is averaged: long enough to hide that bytes are verified in batches.
const RATE_SECONDS: f64 = 10.0;
/// A rate below this many bytes per second predicts nothing.
const RATE_BYTES_MIN: f64 = 1.0;

/// That nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// For how long.
    pub since: Duration,
    /// Who waits for whom.
    pub words: &'static str,
    /// What is waited for, for a narrow screen.
    pub word: &'static str,
}

/// One transfer, as a screen needs it.
#[derive(Clone, Debug)]
pub struct View {
    role: Role,
    snapshot: Snapshot,
    seen: Instant,
    rate: Option<f64>,
    has_moved: bool,
}

impl View {
    /// Before the first snapshot.
    pub fn new(role: Role, now: Instant) -> View {
        View { role, snapshot: Snapshot::default(), seen: now, rate: None, has_moved: false }
    }

    /// Takes the next snapshot.
    pub fn update(&mut self, now: Instant, snapshot: Snapshot) {
        let elapsed = now.saturating_duration_since(self.seen).as_secs_f64();
        let moved = snapshot.verified_bytes.saturating_sub(self.snapshot.verified_bytes);
        // What was verified before the first snapshot is the work of an earlier run, and says nothing of the rate.
        if self.has_moved && elapsed > 0.0 {
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let current = moved as f64 / elapsed;
            let weight = (-elapsed / RATE_SECONDS).exp();
            self.rate = Some(self.rate.map_or(current, |rate| rate * weight + current * (1.0 - weight)));
        }
        self.has_moved |= !matches!(snapshot.phase, Phase::Connecting | Phase::Consent);
        self.seen = now;
        self.snapshot = snapshot;
    }

    /// What this side does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The last snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether everything that the manifest holds is verified and under its name.
    pub fn is_all_verified(&self) -> bool {
        let now = &self.snapshot;
        now.phase == Phase::Done
            || now.is_total && now.verified_bytes >= now.known_bytes && now.sealed_files >= now.known_files
    }

    /// Percent of the bytes that are verified; `None` while the total is unknown, 100 only when all is verified.
    pub fn percent(&self) -> Option<u8> {
        let now = &self.snapshot;
        if !now.is_total {
            return None;
        }
        if self.is_all_verified() {
            return Some(100);
        }
        let (part, whole) = if now.known_bytes > 0 {
            (now.verified_bytes, now.known_bytes)
        } else {
            (now.sealed_files, now.known_files)
        };
        let percent = u128::from(part) * 100 / u128::from(whole.max(1));
        Some(u8::try_from(percent.min(99)).expect("at most ninety-nine"))
    }

    /// Verified bytes per second, averaged over the last seconds.
    pub fn bytes_per_second(&self) -> Option<u64> {
        let rate = self.rate.filter(|rate| *rate >= RATE_BYTES_MIN)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people, checked above")]
        Some(rate as u64)
    }

    /// How long it will take at the present rate.
    pub fn to_go(&self) -> Option<Duration> {
        let rest = self.snapshot.known_bytes.saturating_sub(self.snapshot.verified_bytes);
        if !self.snapshot.is_total || self.is_all_verified() {
            return None;
        }
        self.bytes_per_second().map(|rate| Duration::from_secs(rest.div_ceil(rate)))
    }

    /// That nothing moves, and who waits for whom.
    pub fn stall(&self) -> Option<Stall> {
        let (since, waits_for) = self.snapshot.stalled?;
        let (words, word) = match (waits_for, self.role) {
            (WaitsFor::Nothing, _) => return None,
            (WaitsFor::Peer, Role::Sender) => ("waiting for a receiver to take the ticket", "taker"),
            (WaitsFor::Peer, Role::Receiver) => ("waiting for a sender to take the ticket", "taker"),
            (WaitsFor::Link, Role::Sender) => ("waiting for the link to the receiver", "link"),
            (WaitsFor::Link, Role::Receiver) => ("waiting for the link to the sender", "link"),
            (WaitsFor::SenderDisk, Role::Sender) => ("the receiver waits for this side's disk", "this disk"),
            (WaitsFor::SenderDisk, Role::Receiver) => ("waiting for the sender's disk", "its disk"),
            (WaitsFor::ReceiverDisk, Role::Sender) => ("waiting for the receiver's disk", "its disk"),
            (WaitsFor::ReceiverDisk, Role::Receiver) => ("the sender waits for this side's disk", "this disk"),
            (WaitsFor::Network, _) => ("both sides wait for the network", "network"),
            (WaitsFor::Consent, Role::Sender) => ("waiting for the receiver's user to answer", "answer"),
            (WaitsFor::Consent, Role::Receiver) => ("the sender waits for your answer", "you"),
            (WaitsFor::Space, Role::Sender) => ("waiting for space on the receiver's disk", "space"),
            (WaitsFor::Space, Role::Receiver) => ("waiting for space on this disk", "space"),
            (WaitsFor::Acknowledgement, Role::Sender) => ("waiting for the receiver", "receiver"),
            (WaitsFor::Acknowledgement, Role::Receiver) => ("waiting for the sender to confirm the receipt", "sender"),
        };
        Some(Stall { since, words, word })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn snapshot(verified_bytes: u64) -> Snapshot {
        Snapshot {
            phase: Phase::Transferring,
            known_bytes: 1000,
            known_files: 2,
            is_total: true,
            verified_bytes,
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_hundred_percent_means_verified_and_under_its_name() {
        let start = Instant::now();
        let mut view = View::new(Role::Sender, start);
        let mut percent = |snapshot: Snapshot| {
            view.update(start, snapshot);
            view.percent()
        };
        assert_eq!(percent(Snapshot { is_total: false, ..snapshot(500) }), None);
        assert_eq!(percent(snapshot(0)), Some(0));
        assert_eq!(percent(snapshot(999)), Some(99));
        assert_eq!(percent(Snapshot { sealed_files: 1, ..snapshot(1000) }), Some(99));
        assert_eq!(percent(Snapshot { sealed_files: 2, held_bytes: 1000, ..snapshot(999) }), Some(99));
        assert_eq!(percent(Snapshot { sealed_files: 2, ..snapshot(1000) }), Some(100));
        assert_eq!(percent(Snapshot { known_bytes: 0, sealed_files: 1, ..snapshot(0) }), Some(50));
        assert_eq!(percent(Snapshot { phase: Phase::Done, ..snapshot(0) }), Some(100));
    }

    #[test]
    fn the_work_of_an_earlier_run_is_not_in_the_rate() {
        let start = Instant::now();
        let mut view = View::new(Role::Receiver, start);
        view.update(start + Duration::from_secs(1), snapshot(600));
        assert_eq!((view.bytes_per_second(), view.to_go()), (None, None));
        view.update(start + Duration::from_secs(2), snapshot(700));
        assert_eq!(view.bytes_per_second(), Some(100));
        assert_eq!(view.to_go(), Some(Duration::from_secs(3)));
        for second in 3..60 {
            view.update(start + Duration::from_secs(second), snapshot(700));
        }
        assert_eq!(view.to_go(), None, "nothing moves: nothing can be predicted");
    }

    #[test]
    fn a_stall_says_who_waits_for_whom_from_each_side() {
        let words = |role, waits_for| {
            let mut view = View::new(role, Instant::now());
            let stalled = Some((Duration::from_secs(3), waits_for));
            view.update(Instant::now(), Snapshot { stalled, ..Snapshot::default() });
            view.stall().map(|stall| stall.words)
        };
        assert_eq!(words(Role::Sender, WaitsFor::Nothing), None);
        let all = [
            WaitsFor::Peer,
            WaitsFor::Link,
            WaitsFor::SenderDisk,
            WaitsFor::ReceiverDisk,
            WaitsFor::Network,
            WaitsFor::Consent,
            WaitsFor::Space,
            WaitsFor::Acknowledgement,
        ];
        for waits_for in all {
            for role in [Role::Sender, Role::Receiver] {
                assert!(words(role, waits_for).unwrap().contains("wait"), "{waits_for:?} {role}");
            }
        }
    }
}
