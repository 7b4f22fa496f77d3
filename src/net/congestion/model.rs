//! What the path is: how much it delivers, how long it takes when it is empty, and what it loses anyhow.
//! draft-ietf-ccwg-bbr-06, section 5.5. Loss differs from the draft: there, more than two percent lost in a round say
//! that the path is full; here that is counted from what the path loses while it is certainly not full.

use std::time::{Duration, Instant};

use super::rate::{MILLION, Rate, share, time_percent};
use super::sampler::Sample;
use crate::limits::{CONGESTION_AGGREGATE_MS, CONGESTION_HOST_MS, CONGESTION_JITTER_MS_MAX};

/// Section 2.8, BBR.LossThresh: loss in a round beyond which the path is full, above what it loses anyhow.
const LOSS_EXCESS_PPM: u64 = 20_000;
/// How many standard deviations of a random loss a round may lie above that.
const LOSS_DEVIATIONS: u64 = 3;
/// The most that is believed to be lost anyhow.
const LOSS_BASE_PPM_MAX: u64 = 100_000;
/// Weight of one measurement of what is lost anyhow: one in so many.
const LOSS_BASE_WEIGHT: u64 = 4;
/// Section 2.8, BBR.Beta: what is left of an estimate after a round with too much loss, in percent.
const BETA_PERCENT: u64 = 70;
/// A round trip this much longer than the shortest still confirms it, in percent.
const RTT_CONFIRM_PERCENT: u32 = 103;
/// Rounds over which aggregation is remembered, in each of two halves (section 5.5.9: 10 together).
const AGGREGATE_ROUNDS: u32 = 5;

/// What a round of acknowledgements came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Whether more was lost than the path loses anyhow, or a router said that it is full.
    pub(super) is_congested: bool,
    pub(super) loss_ppm: u64,
    /// Packets that arrived or were lost.
    pub(super) packets: u64,
    /// Shortest round trip in it.
    pub(super) rtt_min: Duration,
    /// Mean of its round trips.
    pub(super) rtt_mean: Duration,
}

/// The estimates.
#[derive(Clone, Debug)]
pub(super) struct Model {
    mtu_bytes: u64,
    /// Highest rates of the last cycle and of this one (section 5.5.3).
    rates: [Rate; 2],
    /// Bound on the rate after rounds with too much loss, until the next probe (section 5.5.10.3, BBR.bw_shortterm).
    rate_bound: Rate,
    round_rate: Rate,
    rtt_min: Option<Duration>,
    rtt_min_at: Instant,
    rtt_last: Duration,
    round_rtt_min: Duration,
    round_rtt_sum: Duration,
    round_rtt_count: u32,
    round_acked_bytes: u64,
    round_lost_bytes: u64,
    is_round_marked: bool,
    loss_base_ppm: u64,
    is_loss_base_known: bool,
    /// Mean delay beyond the shortest round trip while the queue is empty: hosts that are late, radio, cross traffic.
    jitter: Duration,
    aggregate: Aggregate,
}

impl Model {
    pub(super) fn new(now: Instant, mtu: u16) -> Model {
        Model {
            mtu_bytes: mtu.into(),
            rates: [Rate::default(); 2],
            rate_bound: Rate::MAX,
            round_rate: Rate::default(),
            rtt_min: None,
            rtt_min_at: now,
            rtt_last: Duration::ZERO,
            round_rtt_min: Duration::MAX,
            round_rtt_sum: Duration::ZERO,
            round_rtt_count: 0,
            round_acked_bytes: 0,
            round_lost_bytes: 0,
            is_round_marked: false,
            loss_base_ppm: 0,
            is_loss_base_known: false,
            jitter: Duration::ZERO,
            aggregate: Aggregate::new(now),
        }
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu_bytes = mtu.into();
    }

    pub(super) fn mtu_bytes(&self) -> u64 {
        self.mtu_bytes
    }

    /// Takes what a batch says, and the round if one ends with it.
    pub(super) fn on_sample(&mut self, now: Instant, sample: &Sample) -> Option<Round> {
        self.on_rtt(now, sample.rtt);
        let round = sample.is_round_start.then(|| self.end_round());
        self.round_acked_bytes += sample.acked_bytes;
        self.round_rtt_min = self.round_rtt_min.min(sample.rtt);
        self.round_rtt_sum += sample.rtt;
        self.round_rtt_count += 1;
        // Section 5.5.5: what the sender could not fill says only that the path carries that much.
        if let Some(rate) = sample.rate.filter(|rate| !sample.is_app_limited || *rate >= self.rate_max()) {
            self.rates[1] = self.rates[1].max(rate);
            self.round_rate = self.round_rate.max(rate);
        }
        self.aggregate.on_acked(now, sample.acked_bytes, self.rate_max(), sample.is_round_start);
        round
    }

    /// Section 5.5.7.
    fn on_rtt(&mut self, now: Instant, rtt: Duration) {
        self.rtt_last = rtt;
        match self.rtt_min {
            Some(min) if rtt >= min => {
                let confirmed = time_percent(min, RTT_CONFIRM_PERCENT) + Duration::from_millis(CONGESTION_HOST_MS) / 8;
                if rtt <= confirmed {
                    self.rtt_min_at = now;
                }
            }
            _ => (self.rtt_min, self.rtt_min_at) = (Some(rtt), now),
        }
    }

    fn end_round(&mut self) -> Round {
        let total_bytes = self.round_acked_bytes + self.round_lost_bytes;
        let loss_ppm = share(self.round_lost_bytes, MILLION, total_bytes);
        let usual_ppm = self.loss_base_ppm + LOSS_EXCESS_PPM;
        let packets = (total_bytes / self.mtu_bytes.max(1)).max(1);
        let deviation_ppm = (usual_ppm * MILLION / packets).isqrt();
        let is_lossy = loss_ppm > usual_ppm + LOSS_DEVIATIONS * deviation_ppm;
        let round = Round {
            is_congested: is_lossy || self.is_round_marked,
            loss_ppm,
            packets,
            rtt_min: std::mem::replace(&mut self.round_rtt_min, Duration::MAX),
            rtt_mean: self.round_rtt_sum / self.round_rtt_count.max(1),
        };
        (self.round_rtt_sum, self.round_rtt_count) = (Duration::ZERO, 0);
        (self.round_acked_bytes, self.round_lost_bytes, self.is_round_marked) = (0, 0, false);
        round
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.round_lost_bytes += bytes;
        self.is_round_marked |= bytes == 0;
    }

    /// What was lost in a silence says nothing of how full the path is.
    pub(super) fn forget_loss(&mut self) {
        self.round_lost_bytes = 0;
        self.is_round_marked = false;
    }

    /// Nothing was heard for that long: nothing became older meanwhile.
    pub(super) fn on_silence(&mut self, silence: Duration) {
        self.rtt_min_at += silence;
    }

    /// Takes what a round lost and waited that cannot have been full.
    pub(super) fn learn(&mut self, round: &Round) {
        let most = Duration::from_millis(CONGESTION_JITTER_MS_MAX);
        let jitter = round.rtt_mean.saturating_sub(self.rtt_min.unwrap_or_default()).min(most);
        self.jitter = jitter.max((self.jitter * 3 + jitter) / 4);
        let loss_ppm = round.loss_ppm.min(LOSS_BASE_PPM_MAX);
        self.loss_base_ppm = if self.is_loss_base_known {
            (self.loss_base_ppm * (LOSS_BASE_WEIGHT - 1) + loss_ppm) / LOSS_BASE_WEIGHT
        } else {
            loss_ppm
        };
        self.is_loss_base_known = true;
    }

    /// Section 5.5.10.3, BBRAdaptLowerBoundsFromCongestion: less, but not less than what just arrived.
    pub(super) fn lower_rate(&mut self) {
        self.rate_bound = self.rate().percent(BETA_PERCENT).max(self.round_rate);
    }

    /// Section 5.5.10.3, BBRResetShortTermModel.
    pub(super) fn release_rate(&mut self) {
        self.rate_bound = Rate::MAX;
    }

    /// Section 5.5.6: a probe is over, its result replaces the one before the last.
    pub(super) fn next_cycle(&mut self) {
        if self.rates[1] > Rate::default() {
            self.rates = [self.rates[1], Rate::default()];
        }
    }

    /// A new round begins for the latest rate.
    pub(super) fn next_round(&mut self) {
        self.round_rate = Rate::default();
    }

    /// BBR.max_bw.
    pub(super) fn rate_max(&self) -> Rate {
        self.rates[0].max(self.rates[1])
    }

    /// BBR.bw.
    pub(super) fn rate(&self) -> Rate {
        self.rate_max().min(self.rate_bound)
    }

    pub(super) fn rtt_min(&self) -> Option<Duration> {
        self.rtt_min
    }

    pub(super) fn rtt_min_at(&self) -> Instant {
        self.rtt_min_at
    }

    pub(super) fn rtt_last(&self) -> Duration {
        self.rtt_last
    }

    /// Takes another round trip for the shortest one.
    pub(super) fn set_rtt_min(&mut self, now: Instant, rtt: Duration) {
        (self.rtt_min, self.rtt_min_at) = (Some(rtt), now);
    }

    /// BBR.bdp: what is on its way when the path is full and its queue empty, with what will be lost of it.
    pub(super) fn path_bytes(&self) -> Option<u64> {
        let rtt = self.rtt_min?;
        let delivered = self.rate().bytes_in(rtt);
        (delivered > 0).then(|| share(delivered, MILLION, MILLION - self.loss_base_ppm))
    }

    /// Sections 5.5.8 and 5.5.9: what the hosts and the path hold back and hand on at once.
    pub(super) fn held_bytes(&self) -> u64 {
        let host = self.rate().bytes_in(Duration::from_millis(CONGESTION_HOST_MS) + self.jitter);
        host + 3 * self.mtu_bytes + self.aggregate.max_bytes()
    }

    /// Whether a round trip shows a queue: longer than the shortest by more than hosts may be late.
    pub(super) fn has_queue(&self, rtt: Duration, percent: u32) -> bool {
        self.rtt_min.is_some_and(|min| rtt > time_percent(min, percent) + Duration::from_millis(CONGESTION_HOST_MS))
    }
}

/// How much more is acknowledged at times than the rate accounts for (section 5.5.9, BBR.extra_acked).
#[derive(Clone, Debug)]
struct Aggregate {
    since: Instant,
    acked_bytes: u64,
    halves: [u64; 2],
    rounds: u32,
}

impl Aggregate {
    fn new(now: Instant) -> Aggregate {
        Aggregate { since: now, acked_bytes: 0, halves: [0; 2], rounds: 0 }
    }

    fn on_acked(&mut self, now: Instant, bytes: u64, rate: Rate, is_round_start: bool) {
        if is_round_start {
            self.rounds += 1;
            if self.rounds >= AGGREGATE_ROUNDS {
                (self.rounds, self.halves) = (0, [self.halves[1], 0]);
            }
        }
        let expected = rate.bytes_in(now.saturating_duration_since(self.since));
        if self.acked_bytes <= expected {
            (self.since, self.acked_bytes) = (now, 0);
        }
        let expected = rate.bytes_in(now.saturating_duration_since(self.since));
        self.acked_bytes += bytes;
        let most = rate.bytes_in(Duration::from_millis(CONGESTION_AGGREGATE_MS));
        self.halves[1] = self.halves[1].max(self.acked_bytes.saturating_sub(expected).min(most));
    }

    fn max_bytes(&self) -> u64 {
        self.halves[0].max(self.halves[1])
    }
}
