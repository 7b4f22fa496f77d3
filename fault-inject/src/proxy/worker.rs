//! The thread that relays: reads, has each datagram judged, holds it as long as it must, and sends it on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::counts::Kind;
use super::dials::{BOTH, Dials, Direction, Way};
use super::fate::{Fate, Piece};
use super::flows::Flows;
use super::line::{Held, Line, Shared as SharedLine, Travelling};
use super::shared::Shared;

/// Largest UDP payload, and a byte more.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Datagrams read from one socket before the others have their turn.
const TURN_DATAGRAMS: usize = 64;
/// Longest time in which nothing but a datagram is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Pause while a shared line is busy.
const BUSY_PAUSE: Duration = Duration::from_micros(300);

pub(super) struct Worker {
    flows: Flows,
    shared: Arc<Shared>,
    dials: Arc<Dials>,
    calm: [Way; 2],
    generation: u64,
    set_at: Instant,
    set_bytes: u64,
    /// Since when the faults of the dials hold.
    began: Option<Instant>,
    rebind_at: Option<Instant>,
    outages: u64,
    fates: [Fate; 2],
    lines: [Line; 2],
    shared_line: SharedLine,
    travelling: Travelling,
    arrivals: [u64; 2],
    latest: [u64; 2],
    pieces: Vec<Piece>,
}

impl Worker {
    pub(super) fn new(flows: Flows, shared: Arc<Shared>, seed: u64) -> Worker {
        let now = Instant::now();
        let (dials, generation) = shared.dials();
        Worker {
            flows,
            calm: BOTH.map(|direction| dials.way(direction).calm()),
            dials,
            generation,
            set_at: now,
            set_bytes: 0,
            began: None,
            rebind_at: None,
            outages: 0,
            fates: BOTH.map(|direction| Fate::new(seed, direction)),
            lines: [Line::default(), Line::default()],
            shared_line: SharedLine::new(now),
            travelling: Travelling::default(),
            arrivals: [0; 2],
            latest: [0; 2],
            pieces: Vec::new(),
            shared,
        }
    }

    pub(super) fn run(mut self) {
        let mut buffer = vec![0u8; DATAGRAM_BYTES_MAX];
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            self.look_at_dials(now);
            self.keep_schedule(now);
            self.release(now);
            if !self.shared_line.is_free(self.dials.shared_bytes_per_s, now) {
                std::thread::sleep(BUSY_PAUSE);
                continue;
            }
            if self.read_all(&mut buffer) == 0 {
                let now = Instant::now();
                let next = [self.travelling.next_due(), self.rebind_at].into_iter().flatten().min();
                let pause = next.map_or(LOOK_PAUSE, |due| due.saturating_duration_since(now).min(LOOK_PAUSE));
                self.flows.wait(pause);
            }
        }
    }

    fn read_all(&mut self, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        for _ in 0..TURN_DATAGRAMS {
            let Some((len, from)) = self.flows.read_front(buffer) else { break };
            self.take(Direction::ToListener, from, &buffer[..len]);
            taken += 1;
        }
        for dialler in self.flows.diallers() {
            for _ in 0..TURN_DATAGRAMS {
                let Some(len) = self.flows.read_back(dialler, buffer) else { break };
                self.take(Direction::ToDialler, dialler, &buffer[..len]);
                taken += 1;
            }
        }
        taken
    }

    fn arrived_bytes(&self) -> u64 {
        BOTH.iter().map(|direction| self.shared.counters.arrived_bytes(*direction)).sum()
    }

    /// Takes over dials that were turned. Their schedule begins anew if it is another one.
    fn look_at_dials(&mut self, now: Instant) {
        if self.shared.generation() == self.generation {
            return;
        }
        let (dials, generation) = self.shared.dials();
        let schedule = |dials: &Dials| (dials.outage, dials.rebind, dials.from_bytes, dials.from);
        if schedule(&dials) != schedule(&self.dials) {
            (self.began, self.rebind_at, self.outages) = (None, None, 0);
            (self.set_at, self.set_bytes) = (now, self.arrived_bytes());
        }
        self.calm = BOTH.map(|direction| dials.way(direction).calm());
        (self.dials, self.generation) = (dials, generation);
    }

    /// Begins the faults, and changes ports, when it is time.
    fn keep_schedule(&mut self, now: Instant) {
        if self.began.is_none() {
            let has_bytes = self.arrived_bytes() - self.set_bytes >= self.dials.from_bytes;
            if !has_bytes || now < self.set_at + self.dials.from {
                return;
            }
            self.began = Some(now);
            self.rebind_at = self.dials.rebind.map(|rebind| now + rebind.first);
        }
        if self.rebind_at.is_some_and(|at| at <= now) {
            let every = self.dials.rebind.and_then(|rebind| rebind.every);
            self.rebind_at = every.map(|every| now + every);
            match self.flows.rebind() {
                Ok(count) => self.shared.counters.add_many(Direction::ToListener, Kind::Rebound, count),
                Err(_) => self.shared.counters.add(Direction::ToListener, Kind::Unsent),
            }
        }
        if let (Some(outage), Some(began)) = (self.dials.outage, self.began) {
            let (count, _) = outage.at(now.saturating_duration_since(began));
            let new = count.saturating_sub(self.outages);
            self.outages = self.outages.max(count);
            for direction in BOTH.into_iter().filter(|direction| outage.only.is_none_or(|only| only == *direction)) {
                self.shared.counters.add_many(direction, Kind::Outages, new);
            }
        }
    }

    fn is_dead(&self, direction: Direction, now: Instant) -> bool {
        let in_outage = |began: Instant| {
            self.dials.outage.is_some_and(|outage| {
                outage.only.is_none_or(|only| only == direction) && outage.at(now.saturating_duration_since(began)).1
            })
        };
        self.shared.is_silent.load(Ordering::Relaxed) || self.began.is_some_and(in_outage)
    }

    fn take(&mut self, direction: Direction, dialler: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        self.look_at_dials(now);
        self.keep_schedule(now);
        let upstream = self.shared.upstream();
        let Ok(number) = self.flows.number(dialler, direction.index(), upstream, now) else {
            return self.shared.counters.add(direction, Kind::Unsent);
        };
        if self.is_dead(direction, now) {
            return self.shared.counters.add(direction, Kind::BlackedOut);
        }
        self.shared_line.took(datagram.len());
        if self.arrived_bytes() + datagram.len() as u64 >= self.shared.silent_after_bytes.load(Ordering::Relaxed) {
            self.shared.is_silent.store(true, Ordering::Relaxed); // this one still passes
        }
        self.arrivals[direction.index()] += 1;
        let mut pieces = std::mem::take(&mut self.pieces);
        let dials = Arc::clone(&self.dials);
        let way = if self.began.is_some() { dials.way(direction) } else { &self.calm[direction.index()] };
        self.fates[direction.index()].judge(way, number, datagram, &self.shared.counters, &mut pieces);
        let line = &mut self.lines[direction.index()];
        let placed: Vec<_> = pieces
            .drain(..)
            .map(|piece| (line.leaves(way, piece.bytes.len(), now).map(|at| at + piece.hold), piece))
            .collect();
        self.pieces = pieces;
        let is_undisturbed = self.travelling.next_due().is_none_or(|due| due > now);
        for (due, piece) in placed {
            let Some(due) = due else {
                self.shared.counters.add(direction, Kind::Queued);
                continue;
            };
            let arrival = self.arrivals[direction.index()];
            let held = Held { due, arrival, direction, dialler, extra: piece.extra, bytes: piece.bytes };
            if due <= now && is_undisturbed {
                self.pass(&held);
            } else if !self.travelling.push(held) && piece.extra.is_none() {
                self.shared.counters.add(direction, Kind::Queued);
            }
        }
        self.shared.counters.arrived(direction, datagram.len()); // last: who sees it also sees what became of it
    }

    /// Sends what is due. An outage also takes what is on its way.
    fn release(&mut self, now: Instant) {
        while let Some(held) = self.travelling.pop_due(now) {
            if self.is_dead(held.direction, now) {
                self.shared.counters.add(held.direction, Kind::BlackedOut);
            } else {
                self.pass(&held);
            }
        }
    }

    fn pass(&mut self, held: &Held) {
        let upstream = self.shared.upstream();
        let sent = match held.direction {
            Direction::ToDialler => self.flows.send_front(held.dialler, &held.bytes),
            Direction::ToListener => self.flows.send_back(held.dialler, upstream, &held.bytes),
        };
        let counters = &self.shared.counters;
        if sent.is_err() {
            return counters.add(held.direction, Kind::Unsent);
        }
        counters.passed(held.direction, held.bytes.len());
        match held.extra {
            Some(kind) => counters.add(held.direction, kind),
            None => {
                let latest = &mut self.latest[held.direction.index()];
                counters.add_many(held.direction, Kind::Reordered, u64::from(held.arrival < *latest));
                *latest = held.arrival.max(*latest);
            }
        }
    }
}
