//! One direction of a line, as arithmetic: a rate, a queue that drops at its tail, a delay, random loss, and whether it is
//! cut. Time is an argument. Packets keep their order.

/// What the line is like, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Bits a second, of IP packets.
    pub rate_bits: u64,
    /// One way, in nanoseconds.
    pub delay_ns: u64,
    /// What the queue holds, as nanoseconds at the rate.
    pub queue_ns: u64,
    /// Share of the packets that are lost behind the queue.
    pub loss: f64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time.
    Due(u64),
    /// The queue was full.
    Dropped,
    /// Lost on the way; it has used its share of the rate.
    Lost,
    /// The line was cut.
    Cut,
}

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// landfall's.
    Udp,
    /// That of a flow beside it.
    Tcp,
    /// What networks say to each other.
    Other,
}

impl Protocol {
    /// By the header of an IPv4 packet (RFC 791).
    pub fn of(packet: &[u8]) -> Protocol {
        match (packet.first().map(|first| first >> 4), packet.get(9)) {
            (Some(4), Some(17)) => Protocol::Udp,
            (Some(4), Some(6)) => Protocol::Tcp,
            _ => Protocol::Other,
        }
    }
}

/// What passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that arrived.
    pub passed: u64,
    /// Packets for which the queue had no room.
    pub dropped: u64,
    /// Packets that were lost.
    pub lost: u64,
    /// Packets that met a cut line.
    pub cut: u64,
    /// Bytes of the UDP packets that arrived, headers included.
    pub udp_bytes: u64,
    /// Bytes of the TCP packets that arrived.
    pub tcp_bytes: u64,
}

/// One direction.
#[derive(Debug)]
pub struct Direction {
    line: Line,
    free_at_ns: u64,
    state: u64,
    is_cut: bool,
    counts: Counts,
}

impl Direction {
    /// An empty one; the seed decides which packets are lost.
    pub fn new(line: Line, seed: u64) -> Direction {
        Direction { line, free_at_ns: 0, state: seed, is_cut: false, counts: Counts::default() }
    }

    /// Cuts the line, or mends it. What is on its way arrives.
    pub fn cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    /// Takes a packet at a time, which never goes back.
    pub fn take(&mut self, now_ns: u64, packet_bytes: usize, protocol: Protocol) -> Fate {
        if self.is_cut {
            self.counts.cut += 1;
            return Fate::Cut;
        }
        let start_ns = self.free_at_ns.max(now_ns);
        if start_ns - now_ns > self.line.queue_ns {
            self.counts.dropped += 1;
            return Fate::Dropped;
        }
        let bits = packet_bytes as u64 * 8;
        self.free_at_ns = start_ns + bits * 1_000_000_000 / self.line.rate_bits.max(1);
        if self.chance() < self.line.loss {
            self.counts.lost += 1;
            return Fate::Lost;
        }
        self.counts.passed += 1;
        match protocol {
            Protocol::Udp => self.counts.udp_bytes += packet_bytes as u64,
            Protocol::Tcp => self.counts.tcp_bytes += packet_bytes as u64,
            Protocol::Other => {}
        }
        Fate::Due(self.free_at_ns + self.line.delay_ns)
    }

    /// What passed so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next number of splitmix64, from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    /// 1,000 bytes are a millisecond.
    const LINE: Line = Line { rate_bits: 8_000_000, delay_ns: 40 * MS, queue_ns: 2 * MS, loss: 0.0 };

    #[test]
    fn packets_wait_for_each_other_and_then_travel() {
        let mut direction = Direction::new(LINE, 1);
        assert_eq!(direction.take(0, 1000, Protocol::Udp), Fate::Due(41 * MS));
        assert_eq!(direction.take(0, 500, Protocol::Tcp), Fate::Due(41 * MS + MS / 2));
        assert_eq!(direction.take(10 * MS, 1000, Protocol::Udp), Fate::Due(51 * MS), "the line was idle");
        let counts = direction.counts();
        assert_eq!((counts.udp_bytes, counts.tcp_bytes), (2000, 500));
    }

    #[test]
    fn a_full_queue_drops_at_its_tail() {
        let mut direction = Direction::new(LINE, 1);
        let fates: Vec<Fate> = (0..5).map(|_| direction.take(0, 1000, Protocol::Other)).collect();
        assert_eq!(fates[2], Fate::Due(43 * MS));
        assert_eq!(fates[3..], [Fate::Dropped, Fate::Dropped]);
        assert_eq!(direction.take(MS, 1000, Protocol::Other), Fate::Due(44 * MS), "there is room again");
        assert_eq!(direction.counts(), Counts { passed: 4, dropped: 2, ..Counts::default() });
    }

    #[test]
    fn a_cut_line_takes_nothing_and_keeps_what_is_on_its_way() {
        let mut direction = Direction::new(LINE, 1);
        assert_eq!(direction.take(0, 1000, Protocol::Udp), Fate::Due(41 * MS));
        direction.cut(true);
        assert_eq!(direction.take(0, 1000, Protocol::Udp), Fate::Cut);
        direction.cut(false);
        assert_eq!(direction.take(0, 1000, Protocol::Udp), Fate::Due(42 * MS));
        assert_eq!(direction.counts(), Counts { passed: 2, cut: 1, udp_bytes: 2000, ..Counts::default() });
    }

    #[test]
    fn packets_are_told_apart_by_their_header() {
        let packet = |version: u8, protocol: u8| [version << 4 | 5, 0, 0, 20, 0, 0, 0, 0, 64, protocol];
        assert_eq!(Protocol::of(&packet(4, 17)), Protocol::Udp);
        assert_eq!(Protocol::of(&packet(4, 6)), Protocol::Tcp);
        assert_eq!(Protocol::of(&packet(4, 1)), Protocol::Other);
        assert_eq!(Protocol::of(&packet(6, 17)), Protocol::Other);
        assert_eq!(Protocol::of(&[]), Protocol::Other);
    }

    #[test]
    fn losses_follow_the_seed_and_come_as_often_as_said() {
        let lost = |seed| {
            let mut direction = Direction::new(Line { loss: 0.01, ..LINE }, seed);
            let fates = (0..100_000u64).map(|at| direction.take(at * MS, 1000, Protocol::Udp) == Fate::Lost);
            fates.collect::<Vec<bool>>()
        };
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
        let count = lost(7).into_iter().filter(|is_lost| *is_lost).count();
        assert!((800..1200).contains(&count), "{count}");
    }
}
