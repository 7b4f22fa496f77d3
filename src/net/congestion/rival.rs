//! The window while somebody else keeps the queue full: that of CUBIC (RFC 9438), which shares evenly with a CUBIC flow
//! whatever the queue's length. A sender that keeps to its model starves there, since each loss of the other leaves it
//! with less of the queue. What CUBIC lacks is added: a packet lost while the queue is short was not lost by it.

use std::time::{Duration, Instant};

use super::rate::{PERCENT, share, time_percent};

/// Section 4.6: what is left of the window after a loss.
const DECREASE_PERCENT: u64 = 70;
/// Section 4.4: growth of the window, in tenths of a packet per cubic second.
const GROWTH_TENTHS: i128 = 4;
/// Section 4.3: growth that is fair to Reno, in hundredths of a packet per round: 3 × (1 − 0.7) ÷ (1 + 0.7).
const RENO_GROWTH_PERCENT: u64 = 53;
/// From which height of the queue on a loss is taken as the queue's, in percent of the highest seen.
const QUEUE_PERCENT: u32 = 50;

/// CUBIC's state.
#[derive(Clone, Debug)]
pub(super) struct Rival {
    window_bytes: u64,
    /// Window at the last decrease.
    peak_bytes: u64,
    /// When the present growth began, and how long it takes to reach the peak again.
    epoch: Instant,
    climb: Duration,
    reno_bytes: u64,
    rtt_max: Duration,
}

impl Rival {
    pub(super) fn new(now: Instant, window_bytes: u64) -> Rival {
        Rival {
            window_bytes,
            peak_bytes: window_bytes,
            epoch: now,
            climb: Duration::ZERO,
            reno_bytes: window_bytes,
            rtt_max: Duration::ZERO,
        }
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// Grows as CUBIC does.
    pub(super) fn on_acked(&mut self, now: Instant, acked_bytes: u64, rtt: Duration, mtu_bytes: u64) {
        self.rtt_max = self.rtt_max.max(rtt);
        self.reno_bytes += share(share(mtu_bytes, RENO_GROWTH_PERCENT, PERCENT), acked_bytes, self.window_bytes);
        let at = now.saturating_duration_since(self.epoch) + rtt;
        let target = cubic(self.peak_bytes, at, self.climb, mtu_bytes).max(self.reno_bytes);
        // Section 4.4: at most half as much again in a round.
        self.window_bytes = target.min(self.window_bytes + acked_bytes / 2).max(self.window_bytes);
    }

    /// Yields to a full queue, once in a round. `sent`: when the lost packet was sent.
    pub(super) fn on_lost(
        &mut self,
        now: Instant,
        sent: Instant,
        rtt: Duration,
        rtt_min: Duration,
        floor: u64,
        mtu: u64,
    ) {
        let queue = rtt.saturating_sub(rtt_min);
        let is_queue_full = queue >= time_percent(self.rtt_max.saturating_sub(rtt_min), QUEUE_PERCENT);
        if sent < self.epoch || !is_queue_full {
            return;
        }
        // Section 4.7: a flow that did not reach its peak again leaves room for others.
        let is_lower = self.window_bytes < self.peak_bytes;
        let released = (PERCENT + DECREASE_PERCENT) / 2;
        self.peak_bytes = if is_lower { share(self.window_bytes, released, PERCENT) } else { self.window_bytes };
        self.window_bytes = share(self.window_bytes, DECREASE_PERCENT, PERCENT).max(floor);
        self.reno_bytes = self.window_bytes;
        self.epoch = now;
        let packets = u128::from(self.peak_bytes.saturating_sub(self.window_bytes) / mtu.max(1));
        self.climb = Duration::from_millis(cube_root(packets * 10 / 4 * 1_000_000_000));
        // The queue's height is learnt anew, slowly: the path may have become shorter.
        self.rtt_max = rtt_min + time_percent(self.rtt_max.saturating_sub(rtt_min), 90);
    }
}

/// Section 4.2, figure 1: the window at a time after the last decrease.
fn cubic(peak_bytes: u64, at: Duration, climb: Duration, mtu_bytes: u64) -> u64 {
    let millis = |time: Duration| i128::try_from(time.as_millis().min(HORIZON_MS)).unwrap_or(0);
    let beyond = millis(at) - millis(climb);
    let grown = beyond * beyond * beyond * GROWTH_TENTHS * i128::from(mtu_bytes) / 10 / 1_000_000_000;
    u64::try_from((i128::from(peak_bytes) + grown).max(0)).unwrap_or(u64::MAX)
}

/// Longest time that is cubed.
const HORIZON_MS: u128 = 3_600_000;

/// The largest integer whose cube is not larger.
fn cube_root(cube: u128) -> u64 {
    let (mut low, mut high) = (0_u64, 1 << 40);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let is_small = u128::from(middle).checked_pow(3).is_some_and(|power| power <= cube);
        (low, high) = if is_small { (middle, high) } else { (low, middle) };
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_roots_are_exact() {
        for (cube, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (1_000_000_000_000, 10_000)] {
            assert_eq!(cube_root(cube), root, "{cube}");
        }
    }

    #[test]
    fn the_window_is_back_at_its_peak_after_the_climb() {
        let mtu = 1200;
        let climb = Duration::from_secs(8);
        assert_eq!(cubic(1_000_000, climb, climb, mtu), 1_000_000);
        assert!(cubic(1_000_000, climb / 2, climb, mtu) < 1_000_000);
        assert!(cubic(1_000_000, climb * 2, climb, mtu) > 1_000_000);
    }
}
