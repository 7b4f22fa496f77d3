//! Phases and the window: draft-ietf-ccwg-bbr-06, sections 5.3 and 5.6, with windows in place of pacing gains.
//!
//! ```text
//!  Startup ──► Down ──► Cruise ──► Up ──► Down …        Cruise or Rival ──► ProbeRtt ──► Down or Rival
//!               └──► Rival ──► Down
//! ```
//!
//! - `Startup` doubles the window each round until the rate grows no more (5.3.1).
//! - `Down` takes less than the path holds, so that its queue empties: it stands for both Drain (5.3.2) and ProbeBW_DOWN
//!   (5.3.3). Once it has emptied, one round shows how long the path is and what it loses anyhow.
//! - `Cruise` keeps the path full (5.3.3); `Up` takes more than it is known to carry (5.3.3). ProbeBW_REFILL is not
//!   needed: without a pacing rate of its own, the path is full before `Up`.
//! - `ProbeRtt` takes half when nothing has confirmed the shortest round trip for long (5.3.4).
//! - `Rival`: a queue stayed though this sender left it. Somebody else keeps it full; see `rival.rs`.

use std::time::{Duration, Instant};

use super::model::{Model, Round};
use super::rate::{PERCENT, Rate, share};
use super::rival::Rival;
use super::sampler::{Sample, Sampler};
use crate::limits::{
    CONGESTION_CYCLE_MS, CONGESTION_INITIAL_BYTES, CONGESTION_PACKETS_MIN, CONGESTION_PROBE_RTT_MS,
    CONGESTION_RIVAL_MEMORY_MS, CONGESTION_RTT_EXPIRY_MS, CONGESTION_SILENCE_MS,
};

/// Section 2.6, BBR.DefaultCwndGain.
const STARTUP_PERCENT: u64 = 200;
/// Sections 2.5 and 5.6.1, gains of Drain and ProbeBW_DOWN: a little less than the path holds.
const DOWN_PERCENT: u64 = 95;
/// Enough above what the path holds that no gap in the sending starves it, and that a wider path shows.
const CRUISE_PERCENT: u64 = 120;
/// What a probe takes. The draft's 225 would fill a queue as long as the path, and this window is not only a bound.
const UP_PERCENT: u64 = 150;
/// Section 2.16.2, BBR.ProbeRTTCwndGain.
const PROBE_RTT_PERCENT: u64 = 50;
/// Section 5.3.1.2: growth of the rate in a round of `Startup` that shows that the path was not yet full.
const STARTUP_GROWTH_PERCENT: u64 = 125;
/// The same in `Up`.
const UP_GROWTH_PERCENT: u64 = 108;
/// Section 5.3.1.2: rounds without such growth that end `Startup`; one does with much loss.
const STARTUP_FLAT_ROUNDS: u32 = 3;
/// A queue ends `Startup` before it overflows, as in HyStart++ (RFC 9406): when no round trip in a round of so many
/// packets was shorter than so many percent of the shortest.
const STARTUP_QUEUE_PACKETS: u64 = 16;
const STARTUP_QUEUE_PERCENT: u32 = 108;
/// Much loss in `Startup`, in millionths.
const STARTUP_LOSS_PPM: u64 = 100_000;
/// Rounds that `Up` lasts at least.
const UP_ROUNDS: u32 = 2;
/// From which share of the shortest round trip on an emptied path still has a queue, in percent; and below which a
/// rival is gone.
const RIVAL_ENTER_PERCENT: u32 = 115;
const RIVAL_LEAVE_PERCENT: u32 = 105;
/// Section 2.8, BBR.Headroom: what is kept of an amount that was too much.
const HEADROOM_PERCENT: u64 = 85;

#[derive(Clone, Debug)]
enum Phase {
    Startup { flat_rounds: u32 },
    Down(Queue),
    Cruise,
    Up { rounds: u32 },
    ProbeRtt { until: Option<Instant>, rtt_min: Duration, rival: Option<Box<Rival>> },
    Rival(Box<Rival>),
}

/// What `Down` waits for: that little is on its way, that what was sent before has arrived, and one round more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Draining,
    Drained,
    Measured,
}

/// The controller, without clock and network.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    sampler: Sampler,
    model: Model,
    phase: Phase,
    window_bytes: u64,
    /// BBR.inflight_longterm: how much was too much.
    in_flight_bound: u64,
    /// Highest rate when `Startup` or `Up` last saw growth.
    full_rate: Rate,
    cycle_at: Instant,
    cycle: u32,
    probed_rtt_at: Instant,
    heard_at: Instant,
    /// Window at the end of the last `Rival`, and when that was.
    last_rival: Option<(u64, Instant)>,
}

impl Machine {
    pub(super) fn new(now: Instant, mtu: u16) -> Machine {
        Machine {
            sampler: Sampler::new(now),
            model: Model::new(now, mtu),
            phase: Phase::Startup { flat_rounds: 0 },
            window_bytes: CONGESTION_INITIAL_BYTES,
            in_flight_bound: u64::MAX,
            full_rate: Rate::default(),
            cycle_at: now,
            cycle: 0,
            probed_rtt_at: now,
            heard_at: now,
            last_rival: None,
        }
    }

    /// Bytes that may be on their way.
    pub(super) fn window(&self) -> u64 {
        self.window_bytes
    }

    /// Bytes that are on their way, and bytes that were acknowledged.
    pub(super) fn on_their_way_and_acknowledged(&self) -> (u64, u64) {
        (self.sampler.in_flight_bytes(), self.sampler.delivered_bytes())
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.model.on_mtu(mtu);
        self.window_bytes = self.window_bytes.max(self.window_min());
    }

    /// Bytes were sent.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) {
        if self.sampler.in_flight_bytes() == 0 {
            self.after_silence(now);
        }
        self.sampler.on_sent(now, bytes);
    }

    /// A packet arrived, as one of a batch.
    pub(super) fn on_acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.sampler.on_acked(now, sent, bytes);
    }

    /// The batch is complete: section 5.2.3.
    pub(super) fn on_acks_end(&mut self, now: Instant, in_flight_bytes: u64, is_app_limited: bool) {
        self.after_silence(now);
        let rtt_min = self.model.rtt_min();
        let Some(sample) = self.sampler.on_acks_end(now, in_flight_bytes, is_app_limited, rtt_min) else { return };
        let round = self.model.on_sample(now, &sample);
        if let Some(round) = &round {
            self.on_round(now, round, sample.is_app_limited);
            self.model.next_round();
        }
        self.on_progress(now, &sample, in_flight_bytes);
        self.set_window(sample.acked_bytes);
    }

    /// Packets are gone: section 5.2.4. `sent`: when the last of them was sent.
    pub(super) fn on_lost(&mut self, now: Instant, sent: Instant, bytes: u64, is_persistent: bool) {
        self.sampler.on_lost(bytes);
        self.model.on_lost(bytes);
        if is_persistent {
            // Nothing arrived for long. The model stays, but is tried from the beginning: doubling each round.
            self.model.forget_loss();
            self.window_bytes = self.window_bytes.min(CONGESTION_INITIAL_BYTES).max(self.window_min());
            return;
        }
        let floor = self.path_bytes();
        if let Phase::Rival(rival) = &mut self.phase {
            let (rtt_min, mtu) = (self.model.rtt_min().unwrap_or_default(), self.model.mtu_bytes());
            rival.on_lost(now, sent, self.model.rtt_last(), rtt_min, floor, mtu);
            self.window_bytes = self.window_bytes.min(rival.window_bytes()).max(self.window_min());
        }
    }

    /// Section 5.4.1: neither an idle sender nor a dead path makes what is known older.
    fn after_silence(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.heard_at);
        self.heard_at = now;
        if silence >= Duration::from_millis(CONGESTION_SILENCE_MS) {
            self.model.on_silence(silence);
            self.probed_rtt_at += silence;
            self.cycle_at += silence;
        }
    }

    fn on_round(&mut self, now: Instant, round: &Round, is_app_limited: bool) {
        let rate = self.model.rate_max();
        match &mut self.phase {
            Phase::Startup { flat_rounds } => {
                if rate >= self.full_rate.percent(STARTUP_GROWTH_PERCENT) {
                    (self.full_rate, *flat_rounds) = (rate, 0);
                } else if !is_app_limited {
                    *flat_rounds += 1;
                }
                let has_queue = round.packets >= STARTUP_QUEUE_PACKETS
                    && self.model.has_queue(round.rtt_min, STARTUP_QUEUE_PERCENT);
                let has_loss = *flat_rounds > 0 && round.loss_ppm > STARTUP_LOSS_PPM;
                if *flat_rounds >= STARTUP_FLAT_ROUNDS || has_loss || has_queue {
                    self.begin_down(now);
                }
            }
            Phase::Down(queue @ Queue::Drained) => *queue = Queue::Measured,
            Phase::Down(Queue::Measured) => self.judge_empty_path(now, round),
            Phase::Up { rounds } => {
                *rounds += 1;
                let has_grown = rate >= self.full_rate.percent(UP_GROWTH_PERCENT);
                if has_grown {
                    self.full_rate = rate;
                }
                if round.is_congested {
                    self.hold_back();
                    self.begin_down(now);
                } else if *rounds >= UP_ROUNDS && !has_grown {
                    self.begin_down(now);
                } else {
                    self.in_flight_bound = share(self.in_flight_bound, STARTUP_GROWTH_PERCENT, PERCENT);
                }
            }
            Phase::Cruise if round.is_congested => self.hold_back(),
            Phase::Rival(rival) if !self.model.has_queue(round.rtt_min, RIVAL_LEAVE_PERCENT) => {
                self.last_rival = Some((rival.window_bytes(), now));
                self.begin_down(now);
            }
            Phase::Down(Queue::Draining) | Phase::Cruise | Phase::ProbeRtt { .. } | Phase::Rival(_) => {}
        }
    }

    /// Sections 5.5.10.2 and 5.5.10.3: too much was on its way.
    fn hold_back(&mut self) {
        self.model.lower_rate();
        self.in_flight_bound = share(self.window_bytes, HEADROOM_PERCENT, PERCENT);
    }

    /// The queue had time to empty: what is lost now is lost anyhow, and what waits now waits for others.
    fn judge_empty_path(&mut self, now: Instant, round: &Round) {
        if self.model.has_queue(round.rtt_min, RIVAL_ENTER_PERCENT) {
            let memory = Duration::from_millis(CONGESTION_RIVAL_MEMORY_MS);
            let last = self.last_rival.filter(|(_, at)| now.saturating_duration_since(*at) < memory);
            let window = self.cruise_bytes().max(last.map_or(0, |(window, _)| window));
            self.phase = Phase::Rival(Box::new(Rival::new(now, window)));
            return;
        }
        self.model.learn(round);
        self.phase = Phase::Cruise;
    }

    fn begin_down(&mut self, now: Instant) {
        self.model.next_cycle();
        self.cycle_at = now;
        self.cycle += 1;
        self.phase = Phase::Down(Queue::Draining);
    }

    fn on_progress(&mut self, now: Instant, sample: &Sample, in_flight_bytes: u64) {
        let down = self.down_bytes();
        let is_cycle_over = now.saturating_duration_since(self.cycle_at) >= self.cycle_time();
        match &mut self.phase {
            Phase::Down(queue @ Queue::Draining) if in_flight_bytes <= down => *queue = Queue::Drained,
            Phase::Cruise if is_cycle_over => {
                self.model.release_rate();
                self.full_rate = self.model.rate_max();
                self.phase = Phase::Up { rounds: 0 };
            }
            Phase::Rival(rival) => {
                if !sample.is_app_limited {
                    rival.on_acked(now, sample.acked_bytes, sample.rtt, self.model.mtu_bytes());
                }
                if is_cycle_over {
                    self.model.next_cycle();
                    self.cycle_at = now;
                }
            }
            Phase::Startup { .. } | Phase::Down(_) | Phase::Cruise | Phase::Up { .. } | Phase::ProbeRtt { .. } => {}
        }
        self.probe_rtt(now, sample, in_flight_bytes);
    }

    /// Section 5.3.4.
    fn probe_rtt(&mut self, now: Instant, sample: &Sample, in_flight_bytes: u64) {
        let confirmed_at = self.model.rtt_min_at().max(self.probed_rtt_at);
        let is_due = now.saturating_duration_since(confirmed_at) >= Duration::from_millis(CONGESTION_RTT_EXPIRY_MS);
        let bound = self.probe_rtt_bytes();
        match &mut self.phase {
            Phase::Cruise if is_due => {
                self.phase = Phase::ProbeRtt { until: None, rtt_min: Duration::MAX, rival: None };
            }
            Phase::Rival(rival) if is_due => {
                let rival = Some(rival.clone());
                self.phase = Phase::ProbeRtt { until: None, rtt_min: Duration::MAX, rival };
            }
            Phase::ProbeRtt { until: until @ None, .. } if in_flight_bytes <= bound => {
                *until = Some(now + Duration::from_millis(CONGESTION_PROBE_RTT_MS).max(sample.rtt));
            }
            Phase::ProbeRtt { until: Some(until), rtt_min, .. } => {
                *rtt_min = (*rtt_min).min(sample.rtt);
                if now >= *until {
                    self.end_probe_rtt(now);
                }
            }
            _ => {}
        }
    }

    fn end_probe_rtt(&mut self, now: Instant) {
        let Phase::ProbeRtt { rtt_min, rival, .. } = &mut self.phase else { return };
        let (rtt_min, rival) = (*rtt_min, rival.take());
        self.probed_rtt_at = now;
        let age = now.saturating_duration_since(self.model.rtt_min_at());
        match rival {
            // A queue that outlives this is a rival's, unless it has stood for so long that the path must have changed.
            Some(rival)
                if self.model.has_queue(rtt_min, RIVAL_ENTER_PERCENT)
                    && age < Duration::from_millis(3 * CONGESTION_RTT_EXPIRY_MS) =>
            {
                self.phase = Phase::Rival(rival);
            }
            rival => {
                self.last_rival = rival.map(|rival| (rival.window_bytes(), now)).or(self.last_rival);
                self.model.set_rtt_min(now, rtt_min);
                self.begin_down(now);
            }
        }
    }

    /// Section 5.3.3, PickProbeWait: between probes, a time that differs from flow to flow and from cycle to cycle.
    fn cycle_time(&self) -> Duration {
        let spread = u64::from(self.cycle.wrapping_mul(0x9E37_79B9) >> 22);
        Duration::from_millis(CONGESTION_CYCLE_MS + spread)
    }

    fn path_bytes(&self) -> u64 {
        self.model.path_bytes().unwrap_or(0)
    }

    fn cruise_bytes(&self) -> u64 {
        let path = self.path_bytes();
        let bound = self.in_flight_bound.max(path);
        (share(path, CRUISE_PERCENT, PERCENT) + self.model.held_bytes()).min(bound)
    }

    fn down_bytes(&self) -> u64 {
        share(self.path_bytes(), DOWN_PERCENT, PERCENT).max(self.window_min())
    }

    fn probe_rtt_bytes(&self) -> u64 {
        share(self.path_bytes(), PROBE_RTT_PERCENT, PERCENT).max(self.window_min())
    }

    /// Section 2.8, BBR.MinPipeCwnd.
    fn window_min(&self) -> u64 {
        CONGESTION_PACKETS_MIN * self.model.mtu_bytes()
    }

    /// Section 5.6.4: down at once, up by no more than what was acknowledged.
    fn set_window(&mut self, acked_bytes: u64) {
        let grown = self.window_bytes.saturating_add(acked_bytes);
        let target = match (&self.phase, self.model.path_bytes()) {
            (_, None) => grown,
            (Phase::Startup { .. }, Some(path)) => {
                (share(path, STARTUP_PERCENT, PERCENT) + self.model.held_bytes()).max(CONGESTION_INITIAL_BYTES)
            }
            (Phase::Down(_), Some(_)) => self.down_bytes(),
            (Phase::Cruise, Some(_)) => self.cruise_bytes(),
            (Phase::Up { .. }, Some(path)) => {
                let bound = self.in_flight_bound.max(path);
                (share(path, UP_PERCENT, PERCENT) + self.model.held_bytes()).min(bound)
            }
            (Phase::ProbeRtt { .. }, Some(_)) => self.probe_rtt_bytes(),
            (Phase::Rival(rival), Some(path)) => rival.window_bytes().max(path),
        };
        self.window_bytes = target.min(grown).max(self.window_min());
    }
}
