//! A link and its senders, simulated: rate, delay, tail-drop queue, random and burst loss, steps of rate, outages. A
//! sender does what quinn does: window, pacer, loss detection, probes. The same seed gives the same run.

#![allow(clippy::cast_possible_truncation, reason = "amounts of a simulation are small")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::machine::Machine;

pub(super) const PACKET_BYTES: u64 = 1400;
const MS: u64 = 1_000_000;
const ACK_DELAY: u64 = 25 * MS;

/// What the link is; a schedule may change it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) bytes_per_second: u64,
    /// One way; acknowledgements take as long.
    pub(super) delay: Duration,
    pub(super) queue_bytes: u64,
    pub(super) loss: f64,
    /// Mean length of a burst of losses.
    pub(super) burst: f64,
    pub(super) is_down_forth: bool,
    pub(super) is_down_back: bool,
}

impl Link {
    /// A link of so many Mbit/s with that round trip and a queue of `queue_percent` of what the path holds.
    pub(super) fn new(mbit: u64, round_trip_ms: u64, queue_percent: u64) -> Link {
        let bytes_per_second = mbit * 125_000;
        let path_bytes = bytes_per_second * round_trip_ms / 1000;
        Link {
            bytes_per_second,
            delay: Duration::from_micros(round_trip_ms * 500),
            queue_bytes: (path_bytes * queue_percent / 100).max(5 * PACKET_BYTES),
            loss: 0.0,
            burst: 1.0,
            is_down_forth: false,
            is_down_back: false,
        }
    }

    pub(super) fn with_loss(self, loss: f64, burst: f64) -> Link {
        Link { loss, burst, ..self }
    }

    pub(super) fn down(self) -> Link {
        Link { is_down_forth: true, is_down_back: true, ..self }
    }
}

/// Who decides on a sender's window.
#[derive(Clone, Debug)]
pub(super) enum Brain {
    Ours(Box<Machine>),
    Cubic(Cubic),
}

/// CUBIC (RFC 9438) written down once more, in floating point, as a TCP would do it.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    peak: f64,
    epoch: f64,
    reno: f64,
    recovery: u64,
}

impl Cubic {
    pub(super) fn new() -> Cubic {
        Cubic { window: 10.0, threshold: f64::INFINITY, peak: 0.0, epoch: 0.0, reno: 0.0, recovery: 0 }
    }

    fn on_acked(&mut self, now: f64, packets: f64, rtt: f64) {
        if self.window < self.threshold {
            self.window += packets;
            return;
        }
        let climb = (self.peak * 0.3 / 0.4).cbrt();
        let target = 0.4 * (now + rtt - self.epoch - climb).powi(3) + self.peak;
        self.reno += 0.53 * packets / self.window;
        self.window += ((target - self.window) / self.window * packets).clamp(0.0, packets / 2.0);
        self.window = self.window.max(self.reno);
    }

    fn on_lost(&mut self, now: f64, sent: u64, at: u64) {
        if sent < self.recovery {
            return;
        }
        self.recovery = at;
        self.peak = self.window;
        self.window = (self.window * 0.7).max(2.0);
        self.threshold = self.window;
        (self.reno, self.epoch) = (self.window, now);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Change(usize),
    Arrive { flow: usize, packet: u64 },
    AckArrives { flow: usize, count: usize },
    AckTimer { flow: usize },
    Wake { flow: usize },
}

/// One sender and its receiver.
#[derive(Debug)]
pub(super) struct Flow {
    brain: Brain,
    /// When it has something to send, from and to.
    active: Vec<(u64, u64)>,
    in_flight: BTreeMap<u64, u64>,
    next_packet: u64,
    largest_acked: Option<u64>,
    smoothed_rtt: u64,
    rtt_deviation: u64,
    tokens: f64,
    tokens_at: u64,
    /// When quinn's timers fire: for a probe, for a late packet, for the pacer; and the event that stands for them.
    probe_at: u64,
    late_at: u64,
    pace_at: u64,
    wake_at: u64,
    probe_count: u32,
    is_app_limited: bool,
    received: Vec<u64>,
    reported: usize,
    acknowledged: usize,
    /// Bytes that arrived, for each tenth of a second.
    pub(super) arrived: Vec<u64>,
    pub(super) lost_packets: u64,
}

impl Flow {
    pub(super) fn new(brain: Brain) -> Flow {
        Flow {
            brain,
            active: vec![(0, u64::MAX)],
            in_flight: BTreeMap::new(),
            next_packet: 0,
            largest_acked: None,
            smoothed_rtt: 0,
            rtt_deviation: 0,
            tokens: 0.0,
            tokens_at: 0,
            probe_at: u64::MAX,
            late_at: u64::MAX,
            pace_at: u64::MAX,
            wake_at: u64::MAX,
            probe_count: 0,
            is_app_limited: false,
            received: Vec::new(),
            reported: 0,
            acknowledged: 0,
            arrived: Vec::new(),
            lost_packets: 0,
        }
    }

    /// Sends only in these spans of milliseconds.
    pub(super) fn active(mut self, spans_ms: &[(u64, u64)]) -> Flow {
        self.active = spans_ms.iter().map(|(from, to)| (from * MS, to.saturating_mul(MS))).collect();
        self
    }

    pub(super) fn window_bytes(&self) -> u64 {
        match &self.brain {
            Brain::Ours(machine) => machine.window(),
            Brain::Cubic(cubic) => cubic.window as u64 * PACKET_BYTES,
        }
    }

    fn rtt(&self) -> u64 {
        if self.smoothed_rtt == 0 { 333 * MS } else { self.smoothed_rtt }
    }

    fn probe_timeout(&self) -> u64 {
        (self.rtt() + (4 * self.rtt_deviation).max(MS) + ACK_DELAY) << self.probe_count.min(16)
    }

    /// quinn's pacer: how long to wait for the next packet.
    fn pace(&mut self, now: u64) -> Option<u64> {
        let (window, rtt) = (self.window_bytes() as f64, self.rtt() as f64);
        let capacity = (window * 2e6 / rtt).clamp(10.0 * PACKET_BYTES as f64, 256.0 * PACKET_BYTES as f64);
        let elapsed = (now - self.tokens_at) as f64;
        self.tokens = (self.tokens + window * 1.25 * elapsed / rtt).min(capacity);
        self.tokens_at = now;
        let missing = capacity - self.tokens;
        (self.tokens < PACKET_BYTES as f64).then(|| now + (rtt * missing / window * 0.8) as u64 + 1)
    }
}

/// Everything together.
pub(super) struct Simulation {
    pub(super) link: Link,
    schedule: Vec<(u64, Link)>,
    pub(super) flows: Vec<Flow>,
    epoch: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    link_free: u64,
    is_bursting: bool,
    random: u64,
    /// Bytes in the queue, for each tenth of a second: the most.
    pub(super) queue_bytes: Vec<u64>,
}

impl Simulation {
    pub(super) fn new(link: Link, seed: u64) -> Simulation {
        Simulation {
            link,
            schedule: Vec::new(),
            flows: Vec::new(),
            epoch: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            link_free: 0,
            is_bursting: false,
            random: seed,
            queue_bytes: Vec::new(),
        }
    }

    /// A flow of ours that always has something to send.
    pub(super) fn ours(&self) -> Flow {
        Flow::new(Brain::Ours(Box::new(Machine::new(self.epoch, PACKET_BYTES as u16))))
    }

    /// The link is another one from that millisecond on.
    pub(super) fn change_at(&mut self, ms: u64, link: Link) {
        self.schedule.push((ms * MS, link));
    }

    pub(super) fn run(&mut self, until_ms: u64) {
        if self.now == 0 {
            for index in 0..self.schedule.len() {
                self.push(self.schedule[index].0, Event::Change(index));
            }
            for flow in 0..self.flows.len() {
                for (from, _) in self.flows[flow].active.clone() {
                    self.push(from, Event::Wake { flow });
                }
            }
        }
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > until_ms * MS {
                break;
            }
            self.events.pop();
            self.now = at;
            self.handle(event);
        }
        self.now = until_ms * MS;
    }

    /// Share of the link's rate that arrived for a flow between two seconds.
    pub(super) fn share(&self, flow: usize, from_s: usize, to_s: usize) -> f64 {
        let arrived = &self.flows[flow].arrived;
        let bytes: u64 = (from_s * 10..to_s * 10).map(|tenth| arrived.get(tenth).copied().unwrap_or(0)).sum();
        bytes as f64 / (self.link.bytes_per_second as f64 * (to_s - from_s) as f64)
    }

    /// The longest queue between two seconds, as a share of what the path holds.
    pub(super) fn queue_max(&self, from_s: usize, to_s: usize) -> f64 {
        let most = self.queue_bytes.iter().skip(from_s * 10).take((to_s - from_s) * 10).max().copied().unwrap_or(0);
        most as f64 / (self.link.bytes_per_second as f64 * 2.0 * self.link.delay.as_secs_f64())
    }

    fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Change(index) => self.link = self.schedule[index].1,
            Event::Arrive { flow, packet } => self.on_arrival(flow, packet),
            Event::AckArrives { flow, count } => self.on_ack(flow, count),
            Event::AckTimer { flow } => {
                if self.flows[flow].reported < self.flows[flow].received.len() {
                    self.acknowledge(flow);
                }
            }
            Event::Wake { flow } => self.wake(flow),
        }
    }

    /// One of a flow's timers has fired, or it has something to send again.
    fn wake(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        if flow.wake_at <= self.now {
            flow.wake_at = u64::MAX;
        }
        if self.now >= flow.late_at {
            self.detect_loss(index, false);
        } else if self.now >= flow.probe_at {
            flow.probe_count += 1;
            (0..2).for_each(|_| self.transmit(index));
            self.arm_probe(index);
        }
        self.send(index);
        self.arm(index);
    }

    /// Makes the event for the next of a flow's timers.
    fn arm(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        let at = flow.probe_at.min(flow.late_at).min(flow.pace_at);
        if at < flow.wake_at {
            flow.wake_at = at;
            self.push(at.max(self.now), Event::Wake { flow: index });
        }
    }

    fn instant(&self, at: u64) -> Instant {
        self.epoch + Duration::from_nanos(at)
    }

    fn unit(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
    }

    fn is_lost(&mut self) -> bool {
        let unit = self.unit();
        let leave = 1.0 / self.link.burst;
        let enter = self.link.loss * leave / (1.0 - self.link.loss);
        self.is_bursting = if self.is_bursting { unit >= leave } else { unit < enter };
        self.is_bursting
    }

    fn count(bins: &mut Vec<u64>, at: u64) -> &mut u64 {
        let tenth = (at / (100 * MS)) as usize;
        if bins.len() <= tenth {
            bins.resize(tenth + 1, 0);
        }
        &mut bins[tenth]
    }

    /// Puts one packet on the link.
    fn transmit(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        let packet = flow.next_packet;
        flow.next_packet += 1;
        flow.in_flight.insert(packet, self.now);
        flow.tokens -= PACKET_BYTES as f64;
        let wait = self.link_free.saturating_sub(self.now);
        let queued = (wait as u128 * self.link.bytes_per_second as u128 / 1_000_000_000) as u64;
        if self.link.is_down_forth || queued + PACKET_BYTES > self.link.queue_bytes + PACKET_BYTES {
            return;
        }
        let most = Self::count(&mut self.queue_bytes, self.now);
        *most = (*most).max(queued);
        self.link_free = self.now.max(self.link_free) + PACKET_BYTES * 1_000_000_000 / self.link.bytes_per_second;
        if !self.is_lost() {
            let at = self.link_free + self.link.delay.as_nanos() as u64;
            self.push(at, Event::Arrive { flow: index, packet });
        }
    }

    fn on_arrival(&mut self, index: usize, packet: u64) {
        let flow = &mut self.flows[index];
        *Self::count(&mut flow.arrived, self.now) += PACKET_BYTES;
        let is_in_order = flow.received.last().is_none_or(|last| last + 1 == packet);
        flow.received.push(packet);
        let unreported = flow.received.len() - flow.reported;
        if unreported >= 2 || !is_in_order {
            self.acknowledge(index);
        } else {
            self.push(self.now + ACK_DELAY, Event::AckTimer { flow: index });
        }
    }

    fn acknowledge(&mut self, index: usize) {
        let count = self.flows[index].received.len();
        self.flows[index].reported = count;
        if !self.link.is_down_back {
            self.push(self.now + self.link.delay.as_nanos() as u64, Event::AckArrives { flow: index, count });
        }
    }

    fn on_ack(&mut self, index: usize, count: usize) {
        let (now, instant, epoch) = (self.now, self.instant(self.now), self.epoch);
        let flow = &mut self.flows[index];
        let mut packets: Vec<u64> = flow.received[flow.acknowledged.min(count)..count].to_vec();
        flow.acknowledged = flow.acknowledged.max(count);
        packets.sort_unstable();
        let mut newest = None;
        let mut acked = 0;
        for packet in packets {
            flow.largest_acked = flow.largest_acked.max(Some(packet));
            let Some(sent) = flow.in_flight.remove(&packet) else { continue };
            newest = newest.max(Some(sent));
            acked += 1;
            if let Brain::Ours(machine) = &mut flow.brain {
                machine.on_acked(instant, epoch + Duration::from_nanos(sent), PACKET_BYTES);
            }
        }
        let Some(newest) = newest else { return };
        let in_flight = flow.in_flight.len() as u64 * PACKET_BYTES;
        let rtt = now - newest;
        match &mut flow.brain {
            Brain::Ours(machine) => machine.on_acks_end(instant, in_flight, flow.is_app_limited),
            Brain::Cubic(cubic) => cubic.on_acked(now as f64 / 1e9, f64::from(acked), rtt as f64 / 1e9),
        }
        if flow.smoothed_rtt == 0 {
            (flow.smoothed_rtt, flow.rtt_deviation) = (rtt, rtt / 2);
        }
        flow.rtt_deviation = (3 * flow.rtt_deviation + flow.smoothed_rtt.abs_diff(rtt)) / 4;
        flow.smoothed_rtt = (7 * flow.smoothed_rtt + rtt) / 8;
        flow.probe_count = 0;
        self.detect_loss(index, true);
        self.arm_probe(index);
        self.send(index);
        self.arm(index);
    }

    fn detect_loss(&mut self, index: usize, is_ack: bool) {
        let (now, instant, epoch) = (self.now, self.instant(self.now), self.epoch);
        let flow = &mut self.flows[index];
        let Some(largest) = flow.largest_acked else { return };
        let delay = flow.rtt() * 9 / 8;
        let (mut lost, mut next) = (VecDeque::new(), None);
        for (&packet, &sent) in flow.in_flight.range(..largest) {
            if packet + 3 <= largest || now - sent >= delay {
                lost.push_back((packet, sent));
            } else {
                next.get_or_insert(sent + delay);
            }
        }
        flow.late_at = next.unwrap_or(u64::MAX);
        let (Some(first), Some(last)) = (lost.front().copied(), lost.back().copied()) else { return };
        for (packet, _) in &lost {
            flow.in_flight.remove(packet);
        }
        flow.lost_packets += lost.len() as u64;
        let base = flow.rtt() + (4 * flow.rtt_deviation).max(MS) + ACK_DELAY;
        let is_persistent = is_ack && last.1 - first.1 > 3 * base && last.0 - first.0 + 1 == lost.len() as u64;
        match &mut flow.brain {
            Brain::Ours(machine) => {
                let bytes = lost.len() as u64 * PACKET_BYTES;
                machine.on_lost(instant, epoch + Duration::from_nanos(last.1), bytes, is_persistent);
            }
            Brain::Cubic(cubic) => cubic.on_lost(now as f64 / 1e9, last.1, now),
        }
    }

    fn arm_probe(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        flow.probe_at = u64::MAX;
        if !flow.in_flight.is_empty() {
            flow.probe_at = self.now + flow.probe_timeout();
        }
    }

    /// Sends what window and pacer allow.
    fn send(&mut self, index: usize) {
        let mut sent = 0;
        self.flows[index].pace_at = u64::MAX;
        loop {
            let now = self.now;
            let flow = &mut self.flows[index];
            flow.is_app_limited = !flow.active.iter().any(|(from, to)| (*from..*to).contains(&now));
            let in_flight = flow.in_flight.len() as u64 * PACKET_BYTES;
            if flow.is_app_limited || in_flight + PACKET_BYTES >= flow.window_bytes() {
                break;
            }
            if let Some(at) = flow.pace(now) {
                flow.pace_at = at;
                break;
            }
            self.transmit(index);
            sent += PACKET_BYTES;
        }
        if sent > 0 {
            let instant = self.instant(self.now);
            if let Brain::Ours(machine) = &mut self.flows[index].brain {
                machine.on_sent(instant, sent);
            }
            self.arm_probe(index);
        }
    }
}
