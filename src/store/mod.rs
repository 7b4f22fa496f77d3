//! The receiver's hands: staging, journal, batches, read-back, seal. They do what the brain's tasks say, say what
//! came of it, and decide nothing that costs or saves the user data beyond the stated order of durable steps.
//!
//! Three parts, each owned by one thread (or all run inline by a simulator): [`Intake`] takes records and chunks in
//! and looks at what is there; [`Syncer`] makes closed batches durable; [`Settler`] reads them back and seals them. The
//! order of durable steps of a batch is: data sync, claim append, claim sync (`sync`), read back (`settle`), sealing claim,
//! its sync, name, sync of names, sealed claim (`seal`). They share [`Shared`]: the target's directories, the log, what became of entries.

mod adopt;
mod batch;
mod directories;
mod elsewhere;
mod examine;
mod hands;
mod intake;
mod journal_file;
mod layout;
mod names;
mod recover;
mod renew;
mod seal;
mod settle;
mod staging;
mod sync;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::attributes::Level;
use crate::disk::Disk;
use crate::geometry::EntryIndex;
use crate::options::Existing;
use crate::outcome::{Outcome, Reused};
use crate::pool::Pool;
use crate::state::log::ManifestLog;

pub(crate) use crate::error::is_full;
pub use batch::Batch;
pub(crate) use directories::reason_of;
pub use hands::{Done, Errand, Proof, Work};
pub use intake::{Handle, Intake};
pub use layout::{Kept, Layout, forget, kept};
pub use recover::{Recovered, recover};
pub use settle::{Observed, Settler};
pub use sync::{Synced, Syncer};

use directories::Directories;
use journal_file::Journal;

/// How the store treats what it finds.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What happens where the target has something else under a name.
    pub existing: Existing,
    /// Bytes to leave free; `None` is the smaller of 5 % and 2 GiB.
    pub reserve_bytes: Option<u64>,
}

/// What all parts use.
pub struct Shared<D: Disk> {
    pub(crate) disk: D,
    pub(crate) layout: Layout<D>,
    pub(crate) policy: Policy,
    pub(crate) pool: Pool,
    /// The file system that the target directory lies on.
    pub(crate) device: u64,
    pub(crate) log: RwLock<ManifestLog<D>>,
    pub(crate) journal: Mutex<Journal<D>>,
    /// Entries of which an earlier run claimed runs to be durable.
    pub(crate) claimed: HashSet<u32>,
    pub(crate) directories: Mutex<Directories<D>>,
    pub(crate) ledger: Mutex<Ledger>,
    /// Which entry has a file of the target, by device and inode, where entries may get other names than their own: two of
    /// equal content may come to one file.
    pub(crate) given: Mutex<HashMap<(u64, u64), u32>>,
    /// Held while records are appended, and while a receipt is made: it speaks of one state of the log.
    pub(crate) gate: Mutex<()>,
}

/// What became of entries, as far as it is not in the log.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Outcomes other than plain delivery.
    pub exceptions: BTreeMap<u32, Outcome>,
    /// Level of each sealed file's read-back, by entry.
    levels: Vec<Option<Level>>,
    /// Entries that are not files, ascending.
    others: Vec<u32>,
    withdrawn: BTreeSet<u32>,
    /// What this run has found at the target of the files that it sealed. Their bytes are counted elsewhere.
    pub reused: Reused,
}

impl Ledger {
    /// Whether an entry no longer holds.
    pub fn is_withdrawn(&self, entry: EntryIndex) -> bool {
        self.withdrawn.contains(&entry.0)
    }

    /// Level of a sealed file's read-back; `None` if it is not sealed.
    pub fn level(&self, entry: EntryIndex) -> Option<Level> {
        self.levels.get(entry.0 as usize).copied().flatten()
    }

    pub(crate) fn set_level(&mut self, entry: EntryIndex, level: Level) {
        let index = entry.0 as usize;
        if self.levels.len() <= index {
            self.levels.resize(index + 1, None);
        }
        self.levels[index] = Some(level);
    }

    /// Whether an entry is not a file.
    pub(crate) fn is_other(&self, entry: u32) -> bool {
        self.others.binary_search(&entry).is_ok()
    }

    /// Whether an entry is accounted for: sealed, left out, or no longer there.
    pub(crate) fn is_settled(&self, entry: EntryIndex) -> bool {
        let is_left_out = matches!(self.exceptions.get(&entry.0), Some(Outcome::LeftOut(_)));
        is_left_out || self.is_withdrawn(entry) || self.level(entry).is_some()
    }

    pub(crate) fn withdraw(&mut self, entry: EntryIndex) {
        self.withdrawn.insert(entry.0);
        self.exceptions.remove(&entry.0);
        if let Some(level) = self.levels.get_mut(entry.0 as usize) {
            *level = None;
        }
    }
}

impl<D: Disk> Shared<D> {
    /// What became of entries.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    /// The manifest log, for whoever needs names or digests.
    pub fn with_log<R>(&self, use_log: impl FnOnce(&ManifestLog<D>) -> R) -> R {
        use_log(&self.log.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_log_mut<R>(&self, use_log: impl FnOnce(&mut ManifestLog<D>) -> R) -> R {
        use_log(&mut self.log.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The parts over the same state.
pub struct Store<D: Disk> {
    /// Takes in.
    pub intake: Intake<D>,
    /// Makes durable.
    pub syncer: Syncer<D>,
    /// Reads back and seals.
    pub settler: Settler<D>,
    /// What all use.
    pub shared: Arc<Shared<D>>,
}

/// A lock whose holder panicked is as good as any: a panic ends the process in release builds.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
