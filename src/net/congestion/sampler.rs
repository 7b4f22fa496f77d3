//! Delivery rates and rounds from what was sent and acknowledged: draft-ietf-ccwg-bbr-06, sections 4.1 and 5.5.1.
//! quinn tells of each acknowledged packet when it was sent, so what the draft keeps with each packet is kept here by
//! that time: all packets of one moment share it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rate::Rate;
use crate::limits::{CONGESTION_SNAPSHOT_MS, CONGESTION_SNAPSHOTS_MAX};

/// What was known when packets were sent (section 4.1.2).
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    sent: Instant,
    first_sent: Instant,
    delivered: u64,
    delivered_at: Instant,
    is_app_limited: bool,
}

/// What one batch of acknowledgements says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) acked_bytes: u64,
    /// Round-trip time of the packet sent last among them.
    pub(super) rtt: Duration,
    /// Delivery rate over the round trip that ends here, if there is enough to tell.
    pub(super) rate: Option<Rate>,
    /// Whether the sender, not the path, set that rate.
    pub(super) is_app_limited: bool,
    /// Whether a packet was acknowledged that was sent after the last round had ended.
    pub(super) is_round_start: bool,
}

/// Counts what is delivered.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    snapshots: VecDeque<Snapshot>,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    round_end_delivered: u64,
    app_limited_until: Option<u64>,
    in_flight_bytes: u64,
    batch_bytes: u64,
    batch_sent: Option<Instant>,
}

impl Sampler {
    pub(super) fn new(now: Instant) -> Sampler {
        Sampler {
            snapshots: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            round_end_delivered: 0,
            app_limited_until: None,
            in_flight_bytes: 0,
            batch_bytes: 0,
            batch_sent: None,
        }
    }

    /// Bytes acknowledged on this path.
    pub(super) fn delivered_bytes(&self) -> u64 {
        self.delivered
    }

    /// Bytes on their way, as far as known here.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) {
        if self.in_flight_bytes == 0 {
            (self.first_sent, self.delivered_at) = (now, now);
        }
        self.in_flight_bytes += bytes;
        if self.snapshots.back().is_some_and(|last| last.sent >= now) {
            return;
        }
        if self.snapshots.len() >= CONGESTION_SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back(Snapshot {
            sent: now,
            first_sent: self.first_sent,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            is_app_limited: self.app_limited_until.is_some(),
        });
    }

    pub(super) fn on_acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.batch_bytes += bytes;
        self.batch_sent = self.batch_sent.max(Some(sent));
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
    }

    /// Ends a batch (section 4.1.2). `rtt_min`: no path delivers within less.
    pub(super) fn on_acks_end(
        &mut self,
        now: Instant,
        in_flight_bytes: u64,
        is_app_limited: bool,
        rtt_min: Option<Duration>,
    ) -> Option<Sample> {
        self.in_flight_bytes = in_flight_bytes;
        if self.app_limited_until.is_some_and(|until| self.delivered > until) {
            self.app_limited_until = None;
        }
        if is_app_limited {
            self.app_limited_until = Some(self.delivered + in_flight_bytes);
        }
        let (acked_bytes, sent) = (std::mem::take(&mut self.batch_bytes), self.batch_sent.take()?);
        let mut sample = Sample {
            acked_bytes,
            rtt: now.saturating_duration_since(sent),
            rate: None,
            is_app_limited: true,
            is_round_start: false,
        };
        let index = self.snapshots.partition_point(|snapshot| snapshot.sent < sent);
        let Some(snapshot) = self.snapshots.get(index).filter(|snapshot| snapshot.sent == sent).copied() else {
            return Some(sample);
        };
        let send_time = sent.saturating_duration_since(snapshot.first_sent);
        let ack_time = now.saturating_duration_since(snapshot.delivered_at);
        let time = send_time.max(ack_time);
        self.first_sent = self.first_sent.max(sent);
        sample.is_app_limited = snapshot.is_app_limited;
        // Section 4.1.2: acknowledgements that were held up somewhere come in faster than any round trip.
        if rtt_min.is_none_or(|rtt| time >= rtt) {
            sample.rate = Rate::over(self.delivered - snapshot.delivered, time);
        }
        if snapshot.delivered >= self.round_end_delivered {
            sample.is_round_start = true;
            self.round_end_delivered = self.delivered;
        }
        self.forget(sent, sample.rtt);
        Some(sample)
    }

    /// Drops what no late acknowledgement will ask for; if one does, it yields no rate.
    fn forget(&mut self, sent: Instant, rtt: Duration) {
        let age = rtt * 2 + Duration::from_millis(CONGESTION_SNAPSHOT_MS);
        while self.snapshots.front().is_some_and(|first| sent.saturating_duration_since(first.sent) > age) {
            self.snapshots.pop_front();
        }
    }
}
