//! The eight layers at which bytes go wrong between two platters, and the faults that stand for each.

use super::Corruption;
use crate::damage::Damage;
use crate::operation::Operation;
use crate::plan::{Effect, Lasting, NameMatch, On, Rule, When};
use crate::rng::Odds;

/// A layer between the sender's disk and the receiver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// What the sender reads from its disk.
    Source,
    /// The sender's memory, between its hash and the encryption.
    SenderMemory,
    /// Datagrams on the wire.
    Network,
    /// The receiver's memory, between its hash and the write.
    ReceiverMemory,
    /// What the receiver's device made of a write, below its page cache.
    DiskWrite,
    /// What lies on the receiver's disk while nobody runs.
    DiskRest,
    /// What the receiver reads back.
    ReadBack,
    /// Manifest log, journal and stamps of both sides while nobody runs.
    Metadata,
}

impl Layer {
    /// All of them, from the source on.
    pub const ALL: [Layer; 8] = [
        Layer::Source,
        Layer::SenderMemory,
        Layer::Network,
        Layer::ReceiverMemory,
        Layer::DiskWrite,
        Layer::DiskRest,
        Layer::ReadBack,
        Layer::Metadata,
    ];

    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Layer::Source => "source",
            Layer::SenderMemory => "sender-memory",
            Layer::Network => "network",
            Layer::ReceiverMemory => "receiver-memory",
            Layer::DiskWrite => "disk-write",
            Layer::DiskRest => "disk-rest",
            Layer::ReadBack => "read-back",
            Layer::Metadata => "metadata",
        }
    }

    /// The layer of that name.
    pub fn of_word(word: &str) -> Option<Layer> {
        Layer::ALL.into_iter().find(|layer| layer.word() == word)
    }

    /// What happens there, for people.
    pub fn title(self) -> &'static str {
        match self {
            Layer::Source => "source reads come back wrong",
            Layer::SenderMemory => "bytes flip in the sender after hashing",
            Layer::Network => "datagrams are corrupted",
            Layer::ReceiverMemory => "bytes flip in the receiver after hashing",
            Layer::DiskWrite => "the device stores other bytes than written",
            Layer::DiskRest => "staged bytes rot between two runs",
            Layer::ReadBack => "the device reads wrongly, once",
            Layer::Metadata => "logs and journal rot between two runs",
        }
    }

    /// Odds in millionths (at rest: pieces) with which a small transfer meets some and still ends soon.
    pub fn usual_rate(self) -> u32 {
        match self {
            Layer::Source | Layer::SenderMemory => 50_000,
            Layer::Network => 20_000,
            Layer::ReceiverMemory | Layer::DiskWrite | Layer::ReadBack => 100_000,
            Layer::DiskRest | Layer::Metadata => 40,
        }
    }

    /// Whether the product names each wrong piece that it meets: below the encryption QUIC drops what is wrong, and
    /// state or candidates that are wrong are only worth less.
    pub(super) fn is_named(self) -> bool {
        !matches!(self, Layer::Network | Layer::DiskRest | Layer::Metadata)
    }

    /// Faults of the sender's disk.
    pub(super) fn sender_rules(self, corruption: &Corruption) -> Vec<Rule> {
        match self {
            Layer::Source => corruption.rules(Operation::ReadCached, "source", Effect::CorruptCachedRead),
            _ => vec![],
        }
    }

    /// Faults of the receiver's disk.
    pub(super) fn receiver_rules(self, corruption: &Corruption) -> Vec<Rule> {
        let uncached = |lasting| move |damage| Effect::CorruptUncachedRead(damage, lasting);
        match self {
            Layer::ReceiverMemory => corruption.rules(Operation::Write, "staging/", Effect::CorruptWrite),
            Layer::DiskWrite => {
                corruption.rules(Operation::ReadUncached, "staging/", uncached(Lasting::UntilRewritten))
            }
            Layer::ReadBack => corruption.rules(Operation::ReadUncached, "staging/", uncached(Lasting::Once)),
            _ => vec![],
        }
    }
}

impl Corruption {
    /// One rule for each size, with the odds shared in the ratio of the sizes. The second operation is hit in any case,
    /// so that no run shows nothing.
    fn rules(&self, on: Operation, part: &str, effect: impl Fn(Damage) -> Effect) -> Vec<Rule> {
        let sizes = match self.size {
            Some(size) => vec![(size, 10)],
            None => vec![(Damage::Bit, 1), (Damage::Page, 1), (Damage::Run, 8)],
        };
        let rule = |(size, share): (Damage, u32)| {
            let when = When::Chance(Odds::per_million(self.rate / 10 * share));
            Rule::new(On::Only(on), when, effect(size)).named(NameMatch::contains(part))
        };
        let always = Rule::new(On::Only(on), When::Nth(2), effect(self.size.unwrap_or(Damage::Run)));
        sizes.into_iter().map(rule).chain([always.named(NameMatch::contains(part))]).collect()
    }

    /// A size for one piece.
    pub(super) fn draw(&self, stream: &mut rand_chacha::ChaCha8Rng) -> Damage {
        use rand::Rng;
        self.size.unwrap_or_else(|| match stream.random_range(0..10) {
            0 => Damage::Bit,
            1 => Damage::Page,
            _ => Damage::Run,
        })
    }
}
