//! Which chunks may not be sent again: those that a synced claim or a seal covers, as long as nothing but kills,
//! power cuts, lost links and an unsteady link goes wrong. Counted by the simulator from what it sees.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use landfall::task::receiver::{SettleResult, SettledFile};
use landfall::wire::Place;

use super::plan::{Class, Plan};

/// Classes that cost no durable chunk.
const HARMLESS: [Class; 9] = [
    Class::KillSender,
    Class::KillReceiver,
    Class::CutSender,
    Class::CutReceiver,
    Class::LoseLink,
    Class::Duplicate,
    Class::Reorder,
    Class::DamageChunk,
    Class::BadReads,
];

/// A chunk that was written, by place and content: a sender whose log lost its end may give the number of one file to
/// another, and a file that never was durable has to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WrittenChunk {
    entry: u32,
    chunk: u32,
    content: u64,
}

impl WrittenChunk {
    /// The chunk at a place with the bytes it came with, none for zeros.
    pub(super) fn new(place: Place, body: Option<&[u8]>) -> WrittenChunk {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        WrittenChunk { entry: place.entry, chunk: place.chunk, content: hasher.finish() }
    }
}

/// Follows chunks from their arrival to their claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Resent {
    is_watching: bool,
    open: BTreeSet<WrittenChunk>,
    /// Of the batches that are being settled, the oldest first.
    closed: VecDeque<BTreeSet<WrittenChunk>>,
    durable: BTreeSet<WrittenChunk>,
    /// Files whose names are durable, too.
    sealed: BTreeSet<u32>,
    /// Chunks written, each time counted.
    pub written: u64,
}

impl Resent {
    /// Watches if the plan has nothing that could make a durable chunk bad.
    pub(super) fn new(plan: &Plan) -> Resent {
        let is_watching = plan.on.iter().all(|class| HARMLESS.contains(class)) && !plan.has(Class::BadReads);
        Resent { is_watching, ..Resent::default() }
    }

    /// A chunk was written.
    pub(super) fn written(&mut self, chunk: WrittenChunk) -> Result<(), String> {
        self.written += 1;
        self.open.insert(chunk);
        self.sealed.remove(&chunk.entry);
        match self.is_watching && self.durable.contains(&chunk) {
            true => Err(format!("chunk {} of entry {} was durable and was sent again", chunk.chunk, chunk.entry)),
            false => Ok(()),
        }
    }

    /// The open batch was closed.
    pub(super) fn closed(&mut self) {
        self.closed.push_back(std::mem::take(&mut self.open));
    }

    /// The oldest closed batch is settled.
    pub(super) fn settled(&mut self, files: &[SettledFile]) {
        let closed = self.closed.pop_front().unwrap_or_default();
        for SettledFile { entry, result } in files {
            let is_durable = match result {
                SettleResult::Durable { bad, .. } => bad.is_empty(),
                SettleResult::Sealed { .. } => true,
                _ => false,
            };
            if is_durable {
                self.durable.extend(closed.iter().filter(|chunk| chunk.entry == entry.0));
            }
            if matches!(result, SettleResult::Sealed { .. }) {
                self.sealed.insert(entry.0);
            }
        }
    }

    /// The receiver's process has ended, or has begun anew: what no settled batch covers may be sent again.
    pub(super) fn ended(&mut self) {
        self.open.clear();
        self.closed.clear();
    }

    /// A power cut kept the one half of a rename that takes the staging name away, and not the one that gives the
    /// final name. The bytes are durable then and nobody finds them: only a file that was sealed has its directories
    /// synced.
    pub(super) fn lost_names(&mut self) {
        self.durable.retain(|chunk| self.sealed.contains(&chunk.entry));
    }
}
