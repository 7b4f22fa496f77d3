//! What is on its way: datagrams that wait for the line, or travel, until they are due; and the line's speed and queue.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::counts::Kind;
use super::dials::{Direction, Way};

/// Bytes on their way in both directions. More are lost, and counted as a full queue.
const HELD_BYTES_MAX: usize = 256 << 20;
/// Bytes of these that replays may take; beyond it none is kept.
const REPLAY_BYTES_MAX: usize = 64 << 20;

/// A datagram on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) due: Instant,
    /// Order of arrival in its way.
    pub(super) arrival: u64,
    pub(super) direction: Direction,
    pub(super) dialler: SocketAddr,
    pub(super) extra: Option<Kind>,
    pub(super) bytes: Vec<u8>,
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> Ordering {
        let key = |held: &Held| (held.due, held.arrival);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Everything on its way, earliest first.
#[derive(Debug, Default)]
pub(super) struct Travelling {
    heap: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    replay_bytes: usize,
}

impl Travelling {
    /// `false`: there is no room.
    pub(super) fn push(&mut self, held: Held) -> bool {
        let len = held.bytes.len();
        let is_replay = held.extra == Some(Kind::Replayed);
        if self.bytes + len > HELD_BYTES_MAX || is_replay && self.replay_bytes + len > REPLAY_BYTES_MAX {
            return false;
        }
        self.bytes += len;
        self.replay_bytes += if is_replay { len } else { 0 };
        self.heap.push(Reverse(held));
        true
    }

    /// The next one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Held> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(held) = self.heap.pop()?;
        self.bytes -= held.bytes.len();
        self.replay_bytes -= if held.extra == Some(Kind::Replayed) { held.bytes.len() } else { 0 };
        Some(held)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(held)| held.due)
    }
}

/// A line of a certain speed, with a queue before it.
#[derive(Debug, Default)]
pub(super) struct Line {
    leaving: VecDeque<Instant>,
}

impl Line {
    /// When the last bit of a datagram has left. `None`: the queue is full.
    pub(super) fn leaves(&mut self, way: &Way, bytes: usize, now: Instant) -> Option<Instant> {
        if way.rate_bytes_per_s == 0 {
            return Some(now);
        }
        while self.leaving.front().is_some_and(|at| *at <= now) {
            self.leaving.pop_front();
        }
        if self.leaving.len() > way.queue_datagrams {
            return None; // one is being sent, the others wait
        }
        let from = self.leaving.back().copied().unwrap_or(now);
        let at = from + Duration::from_secs_f64(bytes as f64 / way.rate_bytes_per_s as f64);
        self.leaving.push_back(at);
        Some(at)
    }
}

/// The line that both ways share, if there is one: what does not fit waits in the sockets.
#[derive(Debug)]
pub(super) struct Shared {
    from: Instant,
    bytes: u64,
}

impl Shared {
    pub(super) fn new(now: Instant) -> Shared {
        Shared { from: now, bytes: 0 }
    }

    pub(super) fn took(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Whether the line takes more now.
    pub(super) fn is_free(&mut self, rate_bytes_per_s: u64, now: Instant) -> bool {
        if rate_bytes_per_s == 0 {
            return true;
        }
        let rate = rate_bytes_per_s as f64;
        let allowed = now.saturating_duration_since(self.from).as_secs_f64() * rate;
        if allowed > self.bytes as f64 + 0.1 * rate {
            *self = Shared::new(now); // no credit for a time in which nothing was sent
            return true;
        }
        self.bytes as f64 <= allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_its_time_and_its_queue_ends() {
        let way = Way { rate_bytes_per_s: 1000, queue_datagrams: 2, ..Way::default() };
        let (mut line, start) = (Line::default(), Instant::now());
        let after = |ms| Some(start + Duration::from_millis(ms));
        let leaves: Vec<_> = (0..4).map(|_| line.leaves(&way, 100, start)).collect();
        assert_eq!(leaves, [after(100), after(200), after(300), None]);
        assert_eq!(line.leaves(&way, 100, start + Duration::from_millis(150)), after(400));
        assert_eq!(line.leaves(&way, 100, start + Duration::from_secs(9)), after(9100));
    }

    #[test]
    fn what_travels_comes_when_it_is_due_and_in_order_of_arrival() {
        let (mut travelling, now) = (Travelling::default(), Instant::now());
        let dialler: SocketAddr = "127.0.0.1:1".parse().expect("an address is written");
        for (arrival, due) in [(1, 5), (2, 3), (3, 3), (4, 9)] {
            let due = now + Duration::from_secs(due);
            let held = Held { due, arrival, direction: Direction::ToListener, dialler, extra: None, bytes: vec![0; 9] };
            assert!(travelling.push(held));
        }
        let mut due = |at: u64| {
            let moment = now + Duration::from_secs(at);
            std::iter::from_fn(|| travelling.pop_due(moment)).map(|held| held.arrival).collect::<Vec<_>>()
        };
        assert_eq!([due(2), due(4), due(8), due(9)], [vec![], vec![2, 3], vec![1], vec![4]]);
        assert_eq!(travelling.bytes, 0);
    }
}
