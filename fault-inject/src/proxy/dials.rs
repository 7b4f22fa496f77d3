//! The dials of the proxy: what is done to datagrams, for each way of its own, and when. Values only; who is hit is
//! drawn in `fate`, and time passes in `worker`.

use std::fmt;
use std::time::Duration;

use crate::rng::Odds;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the side that dials to the side that listens.
    ToListener,
    /// Back.
    ToDialler,
}

/// Both ways.
pub const BOTH: [Direction; 2] = [Direction::ToListener, Direction::ToDialler];

impl Direction {
    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Direction::ToListener => "to-listener",
            Direction::ToDialler => "to-dialler",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Direction::ToListener => 0,
            Direction::ToDialler => 1,
        }
    }
}

/// What happens to the datagrams of one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Lost.
    pub drop: Odds,
    /// Some bits are flipped.
    pub corrupt: Odds,
    /// Losses and corruptions come in runs of one to so many, at the same rate over all. 0: each by itself.
    pub burst: u32,
    /// At most so many bits are flipped in one datagram, and at least one.
    pub corrupt_bits: u32,
    /// Cut short, down to nothing.
    pub truncate: Odds,
    /// Followed by random bytes in the same datagram.
    pub pad: Odds,
    /// A hostile datagram is made up and sent beside it (see [`super::hostile`]).
    pub garbage: Odds,
    /// Sent twice at once.
    pub duplicate: Odds,
    /// Sent again later.
    pub replay: Odds,
    /// A replay comes up to this late.
    pub replay_late: Duration,
    /// Held back, so that others overtake it.
    pub reorder: Odds,
    /// For how long.
    pub reorder_hold: Duration,
    /// Time on the way of every datagram.
    pub delay: Duration,
    /// Up to so much more, drawn for each.
    pub jitter: Duration,
    /// Speed of the line. 0: no limit.
    pub rate_bytes_per_s: u64,
    /// Datagrams that may wait for a line with a speed; what comes beyond is lost.
    pub queue_datagrams: usize,
    /// Larger ones are lost without a word.
    pub mtu_bytes: Option<usize>,
    /// Lost by their number in their flow, from 1: first and last of each run.
    pub drop_list: Vec<(u64, u64)>,
}

impl Default for Way {
    fn default() -> Way {
        Way {
            drop: Odds::NEVER,
            corrupt: Odds::NEVER,
            burst: 0,
            corrupt_bits: 1,
            truncate: Odds::NEVER,
            pad: Odds::NEVER,
            garbage: Odds::NEVER,
            duplicate: Odds::NEVER,
            replay: Odds::NEVER,
            replay_late: Duration::from_secs(60),
            reorder: Odds::NEVER,
            reorder_hold: Duration::from_millis(20),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bytes_per_s: 0,
            queue_datagrams: 1000,
            mtu_bytes: None,
            drop_list: Vec::new(),
        }
    }
}

impl Way {
    /// The same line without its faults: what holds before the faults begin.
    pub(super) fn calm(&self) -> Way {
        Way {
            delay: self.delay,
            jitter: self.jitter,
            rate_bytes_per_s: self.rate_bytes_per_s,
            queue_datagrams: self.queue_datagrams,
            ..Way::default()
        }
    }
}

/// A time in which nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Begins so long after the faults begin.
    pub after: Duration,
    /// Length. `None`: for ever.
    pub off: Option<Duration>,
    /// Comes again after so long. `None`: once.
    pub on: Option<Duration>,
    /// Only this way is dead. `None`: both.
    pub only: Option<Direction>,
}

impl Outage {
    /// On and off by turns.
    pub fn periodic(on: Duration, off: Duration) -> Outage {
        Outage { after: on, off: Some(off), on: Some(on), only: None }
    }

    /// One of that length.
    pub fn once(after: Duration, off: Duration) -> Outage {
        Outage { after, off: Some(off), on: None, only: None }
    }

    /// One without an end.
    pub fn for_ever(after: Duration) -> Outage {
        Outage { after, off: None, on: None, only: None }
    }

    /// How many have begun that long after the faults began, and whether one lasts.
    pub fn at(&self, elapsed: Duration) -> (u64, bool) {
        let Some(since) = elapsed.checked_sub(self.after) else { return (0, false) };
        match (self.off, self.on) {
            (None, _) => (1, true),
            (Some(off), None) => (1, since < off),
            (Some(off), Some(on)) => {
                let period = (off + on).max(Duration::from_millis(1)).as_nanos();
                let turn = u64::try_from(since.as_nanos() / period).unwrap_or(u64::MAX);
                (turn.saturating_add(1), since.as_nanos() % period < off.as_nanos())
            }
        }
    }
}

/// The listener sees another port of the dialler, as after a NAT has forgotten its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebind {
    /// First so long after the faults begin.
    pub first: Duration,
    /// Then again and again. `None`: once.
    pub every: Option<Duration>,
}

/// All dials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dials {
    /// From the dialler to the listener.
    pub to_listener: Way,
    /// Back.
    pub to_dialler: Way,
    /// When nothing passes.
    pub outage: Option<Outage>,
    /// When the port changes.
    pub rebind: Option<Rebind>,
    /// Faults begin when so many bytes have arrived from both sides. Delay, jitter and speed hold from the start.
    pub from_bytes: u64,
    /// Faults begin so long after the dials were set.
    pub from: Duration,
    /// Both ways share a line of this speed; what does not fit waits in the sockets. 0: no limit.
    pub shared_bytes_per_s: u64,
}

impl Dials {
    /// The same for both ways.
    pub fn both(way: Way) -> Dials {
        Dials { to_listener: way.clone(), to_dialler: way, ..Dials::default() }
    }

    /// The dials of one way.
    pub fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToListener => &self.to_listener,
            Direction::ToDialler => &self.to_dialler,
        }
    }

    /// The dials of one way, to be turned.
    pub fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::ToListener => &mut self.to_listener,
            Direction::ToDialler => &mut self.to_dialler,
        }
    }
}

/// One line that names what differs from an undisturbed line.
impl fmt::Display for Dials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.to_listener == self.to_dialler {
            words.extend(way_words(&self.to_listener));
        } else {
            for direction in BOTH {
                words.extend(way_words(self.way(direction)).map(|word| format!("{}:{word}", direction.word())));
            }
        }
        if let Some(outage) = self.outage {
            let shown = |length: Option<Duration>, none: &str| length.map_or(none.to_owned(), |it| format!("{it:?}"));
            let only = outage.only.map_or("", Direction::word);
            let (off, on) = (shown(outage.off, "for-ever"), shown(outage.on, "once"));
            words.push(format!("blackout={:?}+{off}/{on}{only}", outage.after));
        }
        if let Some(rebind) = self.rebind {
            words.push(format!("rebind={:?}/{:?}", rebind.first, rebind.every.unwrap_or_default()));
        }
        words.extend((self.from_bytes > 0).then(|| format!("from-bytes={}", self.from_bytes)));
        words.extend((!self.from.is_zero()).then(|| format!("from={:?}", self.from)));
        words.extend((self.shared_bytes_per_s > 0).then(|| format!("shared-rate={}B/s", self.shared_bytes_per_s)));
        f.write_str(if words.is_empty() { "undisturbed" } else { "" })?;
        f.write_str(&words.join(" "))
    }
}

fn way_words(way: &Way) -> impl Iterator<Item = String> + use<> {
    let plain = Way::default();
    let odds = |name: &str, odds: Odds| {
        (odds != Odds::NEVER).then(|| format!("{name}={}%", f64::from(odds.millionths()) / 10_000.0))
    };
    let time = |name: &str, time: Duration| (!time.is_zero()).then(|| format!("{name}={time:?}"));
    let runs = way.drop_list.iter().map(|(first, last)| format!("{first}-{last}")).collect::<Vec<_>>().join(",");
    let words = [
        odds("drop", way.drop),
        odds("corrupt", way.corrupt),
        (way.burst > 0).then(|| format!("burst={}", way.burst)),
        (way.corrupt_bits != plain.corrupt_bits).then(|| format!("corrupt-bits={}", way.corrupt_bits)),
        odds("truncate", way.truncate),
        odds("pad", way.pad),
        odds("garbage", way.garbage),
        odds("duplicate", way.duplicate),
        odds("replay", way.replay),
        (way.replay != Odds::NEVER).then(|| format!("replay-late={:?}", way.replay_late)),
        odds("reorder", way.reorder),
        (way.reorder != Odds::NEVER).then(|| format!("reorder-hold={:?}", way.reorder_hold)),
        time("delay", way.delay),
        time("jitter", way.jitter),
        (way.rate_bytes_per_s > 0).then(|| format!("rate={}B/s queue={}", way.rate_bytes_per_s, way.queue_datagrams)),
        way.mtu_bytes.map(|bytes| format!("mtu={bytes}")),
        (!way.drop_list.is_empty()).then(|| format!("drop-list={runs}")),
    ];
    words.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_begin_last_and_come_again() {
        let seconds = Duration::from_secs;
        let periodic = Outage::periodic(seconds(5), seconds(2));
        let seen = [0, 4, 5, 6, 7, 11, 12, 13, 14].map(|at| periodic.at(seconds(at)));
        let off = |count| (count, true);
        assert_eq!(seen, [(0, false), (0, false), off(1), off(1), (1, false), (1, false), off(2), off(2), (2, false)]);
        assert_eq!([1, 2, 3].map(|at| Outage::once(seconds(1), seconds(2)).at(seconds(at)).1), [true, true, false]);
        assert!(Outage::for_ever(seconds(1)).at(seconds(1_000_000)).1);
    }

    #[test]
    fn an_undisturbed_line_says_so_and_a_dial_is_named() {
        assert_eq!(Dials::default().to_string(), "undisturbed");
        let mut dials = Dials::both(Way { drop: Odds::per_million(20_000), burst: 3, ..Way::default() });
        assert_eq!(dials.to_string(), "drop=2% burst=3");
        dials.to_dialler = Way::default();
        assert_eq!(dials.to_string(), "to-listener:drop=2% to-listener:burst=3");
    }
}
