//! Which chunks may not be sent again: those that a synced claim or a seal covers, as long as nothing but kills,
//! power cuts, lost links and an unsteady link goes wrong. Counted by the simulator from what it sees.

use std::collections::BTreeSet;

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

/// Follows chunks from their arrival to their claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Resent {
    is_watching: bool,
    open: BTreeSet<(u32, u32)>,
    closed: BTreeSet<(u32, u32)>,
    durable: BTreeSet<(u32, u32)>,
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
    pub(super) fn written(&mut self, place: Place) -> Result<(), String> {
        self.written += 1;
        let chunk = (place.entry, place.chunk);
        self.open.insert(chunk);
        match self.is_watching && self.durable.contains(&chunk) {
            true => Err(format!("chunk {} of entry {} was durable and was sent again", chunk.1, chunk.0)),
            false => Ok(()),
        }
    }

    /// The open batch was closed.
    pub(super) fn closed(&mut self) {
        self.closed.append(&mut self.open);
    }

    /// The closed batch is settled.
    pub(super) fn settled(&mut self, files: &[SettledFile]) {
        for SettledFile { entry, result } in files {
            let is_durable = match result {
                SettleResult::Durable { bad, .. } => bad.is_empty(),
                SettleResult::Sealed { .. } => true,
                _ => false,
            };
            if is_durable {
                self.durable.extend(self.closed.iter().filter(|(file, _)| *file == entry.0));
            }
        }
        self.closed.clear();
    }

    /// The receiver's process has ended, or has begun anew: what no settled batch covers may be sent again.
    pub(super) fn ended(&mut self) {
        self.open.clear();
        self.closed.clear();
    }
}
