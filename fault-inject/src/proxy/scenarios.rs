//! Named scenarios: what the line does, what must come of it, and how it is seen from outside that the program noticed.
//! Those of the QUIC interop runner have its parameters: 15 ms one way, 10 Mbit/s, a queue of 25 datagrams.

use std::time::Duration;

use super::counts::Kind;
use super::dials::{Dials, Direction, Outage, Rebind, Way};
use crate::rng::Odds;

/// Longer than a link may be silent before landfall calls it lost (20 s).
const BEYOND_IDLE: Duration = Duration::from_millis(21_500);

/// Whether a scenario has the time that it needs, or seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The published parameters.
    Full,
    /// Shorter outages and fewer repetitions: for the matrix.
    Quick,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Both sides exit with 0, and the content is the same.
    Arrives,
    /// The same, after at least one link was lost on either side.
    Reconnects,
    /// Both sides exit with 3, not known, after their patience; nothing wrong stands under a final name.
    Unknown,
    /// The line is cut when the receiver has its receipt and the sender has not heard of it. Both exit with 0, and no
    /// content moves again.
    LastAnswer,
}

/// How it shows from outside that a fault was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// QUIC declared packets lost: the log of both sides counts them.
    LostPackets,
    /// Nothing was acted on: every chunk counted once, no link was lost.
    Ignored,
    /// `link-lost` events, or a sender that says that it continues.
    LostLinks,
    /// QUIC measured a round trip as long as the line: the log of both sides has it.
    RoundTrip,
}

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// What must come of it.
    pub ask: Ask,
    /// Which counts of the proxy are the fault.
    pub kinds: &'static [Kind],
    /// How it is noticed.
    pub detection: Detection,
    /// Transfers, each of its own, at the two paces.
    pub transfers: (u32, u32),
    /// Only small files: it is about the first packets.
    pub is_small: bool,
    dials: fn(&Terms) -> Dials,
}

/// What dials depend on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How much time there is.
    pub pace: Pace,
    /// Bytes of the transfer.
    pub size_bytes: u64,
    /// Length of the long outage at full pace.
    pub blackout: Duration,
    /// Which of the scenario's transfers.
    pub number: u32,
}

impl Terms {
    fn by_pace<T>(&self, full: T, quick: T) -> T {
        if self.pace == Pace::Full { full } else { quick }
    }
}

impl Scenario {
    /// The dials of one transfer.
    pub fn dials(&self, terms: &Terms) -> Dials {
        (self.dials)(terms)
    }

    /// Whether a link is lost in it: then the dialler must not find its way round the proxy.
    pub fn loses_links(&self) -> bool {
        self.detection == Detection::LostLinks
    }

    /// How many transfers there are.
    pub fn count(&self, pace: Pace) -> u32 {
        if pace == Pace::Full { self.transfers.0 } else { self.transfers.1 }
    }

    /// The scenario of that name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

const fn percent(percent: u32) -> Odds {
    Odds::per_million(percent * 10_000)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The line of the interop runner. Its packets are those of Ethernet.
fn line() -> Way {
    Way { delay: ms(15), rate_bytes_per_s: 1_250_000, queue_datagrams: 25, mtu_bytes: Some(1472), ..Way::default() }
}

/// A line of that speed on which nothing is lost by itself.
fn plain(rate_bytes_per_s: u64) -> Way {
    Way { rate_bytes_per_s, delay: ms(2), queue_datagrams: 4000, ..Way::default() }
}

fn lossy(drop: Odds) -> Dials {
    Dials::both(Way { drop, burst: 3, ..line() })
}

fn corrupting(corrupt: Odds) -> Dials {
    Dials::both(Way { corrupt, burst: 3, ..line() })
}

/// An outage in the middle of the transfer.
fn outage(terms: &Terms, outage: Outage) -> Dials {
    Dials { outage: Some(outage), from_bytes: terms.size_bytes / 4, ..Dials::both(plain(2_500_000)) }
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "handshake-loss",
        about: "30 % lost both ways, at most 3 in a row",
        ask: Ask::Arrives,
        kinds: &[Kind::Dropped],
        detection: Detection::LostPackets,
        transfers: (20, 3),
        is_small: true,
        dials: |_| lossy(percent(30)),
    },
    Scenario {
        name: "transfer-loss",
        about: "2 % lost both ways, at most 3 in a row",
        ask: Ask::Arrives,
        kinds: &[Kind::Dropped],
        detection: Detection::LostPackets,
        transfers: (1, 1),
        is_small: false,
        dials: |_| lossy(percent(2)),
    },
    Scenario {
        name: "handshake-corruption",
        about: "a bit flipped in 30 % both ways, at most 3 in a row",
        ask: Ask::Arrives,
        kinds: &[Kind::Corrupted],
        detection: Detection::LostPackets,
        transfers: (20, 3),
        is_small: true,
        dials: |_| corrupting(percent(30)),
    },
    Scenario {
        name: "transfer-corruption",
        about: "a bit flipped in 2 % both ways, at most 3 in a row",
        ask: Ask::Arrives,
        kinds: &[Kind::Corrupted],
        detection: Detection::LostPackets,
        transfers: (1, 1),
        is_small: false,
        dials: |_| corrupting(percent(2)),
    },
    Scenario {
        name: "black-hole",
        about: "on for 5 s, off for 2 s, again and again",
        ask: Ask::Arrives,
        kinds: &[Kind::BlackedOut],
        detection: Detection::LostPackets,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| {
            let periodic = terms.by_pace(Outage::periodic(ms(5000), ms(2000)), Outage::periodic(ms(500), ms(200)));
            Dials { outage: Some(periodic), ..Dials::both(line()) }
        },
    },
    Scenario {
        name: "long-rtt",
        about: "750 ms one way",
        ask: Ask::Arrives,
        kinds: &[Kind::Passed],
        detection: Detection::RoundTrip,
        transfers: (1, 1),
        is_small: false,
        dials: |_| Dials::both(Way { delay: ms(750), queue_datagrams: 4000, ..line() }),
    },
    Scenario {
        name: "drop-list",
        about: "packets 2 to 7 of the dialler lost",
        ask: Ask::Arrives,
        kinds: &[Kind::Listed],
        detection: Detection::LostPackets,
        transfers: (3, 1),
        is_small: true,
        dials: |_| Dials { to_listener: Way { drop_list: vec![(2, 7)], ..line() }, ..Dials::both(line()) },
    },
    Scenario {
        name: "rebinding",
        about: "the dialler's port changes after 1 s, then every 5 s",
        ask: Ask::Arrives,
        kinds: &[Kind::Rebound],
        detection: Detection::LostLinks,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| {
            let every = terms.by_pace(Some(ms(5000)), None);
            Dials { rebind: Some(Rebind { first: ms(1000), every }), ..Dials::both(line()) }
        },
    },
    Scenario {
        name: "duplicates",
        about: "50 % twice, 50 % again up to 60 s later",
        ask: Ask::Arrives,
        kinds: &[Kind::Duplicated, Kind::Replayed],
        detection: Detection::Ignored,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| {
            let replay_late = terms.by_pace(ms(60_000), ms(2000));
            let rate = terms.by_pace(400_000, 2_500_000); // so slow that late ones still come
            Dials::both(Way { duplicate: percent(50), replay: percent(50), replay_late, ..plain(rate) })
        },
    },
    Scenario {
        name: "reordering",
        about: "jitter up to 100 ms, 10 % held back for 300 ms more",
        ask: Ask::Arrives,
        kinds: &[Kind::Reordered],
        detection: Detection::Ignored,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| {
            let (jitter, reorder_hold) = terms.by_pace((ms(100), ms(300)), (ms(15), ms(60)));
            Dials::both(Way { jitter, reorder: percent(10), reorder_hold, ..plain(2_500_000) })
        },
    },
    Scenario {
        name: "jitter",
        about: "jitter up to 1 s",
        ask: Ask::Arrives,
        kinds: &[Kind::Reordered],
        detection: Detection::Ignored,
        transfers: (1, 1),
        is_small: true,
        dials: |_| Dials::both(Way { jitter: ms(1000), ..plain(2_500_000) }),
    },
    Scenario {
        name: "hostile",
        about: "10 % cut or padded, for every fifth one more that nobody sent",
        ask: Ask::Arrives,
        kinds: &[Kind::Truncated, Kind::Padded, Kind::Garbage],
        detection: Detection::Ignored,
        transfers: (1, 1),
        is_small: false,
        dials: |_| {
            let garbage = Way { truncate: percent(5), pad: percent(5), garbage: percent(20), ..plain(2_500_000) };
            Dials::both(garbage)
        },
    },
    Scenario {
        name: "blackout",
        about: "nothing passes for 60 s in the middle",
        ask: Ask::Reconnects,
        kinds: &[Kind::Outages],
        detection: Detection::LostLinks,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| outage(terms, Outage::once(ms(0), terms.by_pace(terms.blackout, BEYOND_IDLE))),
    },
    Scenario {
        name: "blackout-for-ever",
        about: "nothing passes any more from the middle on",
        ask: Ask::Unknown,
        kinds: &[Kind::Outages],
        detection: Detection::LostLinks,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| outage(terms, Outage::for_ever(ms(0))),
    },
    Scenario {
        name: "one-way",
        about: "one way dead from the middle on, each of the two",
        ask: Ask::Reconnects,
        kinds: &[Kind::Outages],
        detection: Detection::LostLinks,
        transfers: (2, 2),
        is_small: false,
        dials: |terms| {
            let only = [Direction::ToListener, Direction::ToDialler][terms.number as usize % 2];
            let once = Outage::once(ms(0), terms.by_pace(terms.blackout, BEYOND_IDLE));
            outage(terms, Outage { only: Some(only), ..once })
        },
    },
    Scenario {
        name: "mtu",
        about: "from the middle on nothing larger than 1200 bytes passes",
        ask: Ask::Arrives,
        kinds: &[Kind::TooLarge],
        detection: Detection::LostPackets,
        transfers: (1, 1),
        is_small: false,
        dials: |terms| {
            let way = Way { mtu_bytes: Some(1200), ..plain(2_500_000) };
            Dials { from_bytes: terms.size_bytes / 4, ..Dials::both(way) }
        },
    },
    Scenario {
        name: "last-answer",
        about: "cut between the last chunk and the acknowledgement",
        ask: Ask::LastAnswer,
        kinds: &[Kind::BlackedOut],
        detection: Detection::LostLinks,
        transfers: (1, 1),
        is_small: false,
        dials: |_| Dials::both(Way { delay: ms(150), ..plain(5_000_000) }),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_scenario_turns_a_dial() {
        let names: std::collections::HashSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        for scenario in SCENARIOS {
            for pace in [Pace::Full, Pace::Quick] {
                let terms = Terms { pace, size_bytes: 1 << 20, blackout: ms(60_000), number: 0 };
                assert_ne!(scenario.dials(&terms), Dials::default(), "{}", scenario.name);
                assert!(scenario.count(pace) > 0 && !scenario.kinds.is_empty());
            }
        }
        assert!(Scenario::named("mtu").is_some() && Scenario::named("none").is_none());
    }
}
