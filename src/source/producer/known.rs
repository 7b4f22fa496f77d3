//! What an earlier run left in the log: which path has which live entry, and which of them the walk has seen again.
//! A hash and a number each, sorted; no names.

use std::collections::HashSet;

use fixedbitset::FixedBitSet;

use crate::digest::{PathHash, path_hash};
use crate::geometry::EntryIndex;
use crate::manifest::{Record, Step};
use crate::outcome::{Counts, Reason};
use crate::path::RelPath;

/// Collects what a replay shows.
#[derive(Debug, Default)]
pub struct Replay {
    keys: Vec<(PathHash, u32)>,
    withdrawn: HashSet<u32>,
    counts: Counts,
}

impl Replay {
    /// Takes note of the next record.
    pub fn note(&mut self, record: &Record, step: Step) {
        match step {
            Step::Introduced(entry) => {
                self.keys.extend(key_of(record).map(|key| (key, entry.0)));
                count(&mut self.counts, record, Change::Added);
            }
            Step::Withdrawn(entry) => drop(self.withdrawn.insert(entry.0)),
            Step::Digests { .. } | Step::Ended(_) | Step::Completed => (),
        }
    }

    /// Entries that were withdrawn.
    pub fn withdrawn(&self) -> &HashSet<u32> {
        &self.withdrawn
    }

    /// The live entries, and the counts of all entries including withdrawn ones.
    pub(super) fn finish(mut self) -> (Known, Counts) {
        let entry_count = self.keys.len();
        self.keys.retain(|(_, entry)| !self.withdrawn.contains(entry));
        self.keys.sort_unstable();
        self.keys.shrink_to_fit();
        (Known { keys: self.keys, seen: FixedBitSet::with_capacity(entry_count), next_unseen: 0 }, self.counts)
    }
}

/// The key of an entry. What stands for names that cannot be expressed has the path of its directory, which has an
/// entry of its own.
fn key_of(record: &Record) -> Option<PathHash> {
    let path = record.path()?;
    match record {
        Record::LeftOut { reason: Reason::PathTooLong, .. } => Some(too_long_key(path)),
        _ => Some(path_hash(path)),
    }
}

/// The key of what stands for the names in a directory that cannot be expressed.
pub(super) fn too_long_key(directory: &RelPath) -> PathHash {
    PathHash(path_hash(directory).0.map(|byte| !byte))
}

/// Live entries of earlier runs.
#[derive(Debug)]
pub(super) struct Known {
    keys: Vec<(PathHash, u32)>,
    seen: FixedBitSet,
    next_unseen: usize,
}

impl Known {
    /// The entry of a path.
    pub(super) fn find(&self, key: PathHash) -> Option<EntryIndex> {
        let at = self.keys.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(EntryIndex(self.keys[at].1))
    }

    /// The walk has met this entry again, or it was replaced: it has not vanished.
    pub(super) fn see(&mut self, entry: EntryIndex) {
        self.seen.insert(entry.0 as usize);
    }

    /// The next entry that the walk has not met, each once.
    pub(super) fn next_unseen(&mut self) -> Option<EntryIndex> {
        while let Some((_, entry)) = self.keys.get(self.next_unseen) {
            self.next_unseen += 1;
            if !self.seen.contains(*entry as usize) {
                return Some(EntryIndex(*entry));
            }
        }
        None
    }
}

/// What happened to an entry that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there now.
    Added,
    /// It no longer is.
    Removed,
}

/// Counts the entry that a record introduces.
pub(super) fn count(counts: &mut Counts, record: &Record, change: Change) {
    let step = |number: &mut u64, by: u64| match change {
        Change::Added => *number += by,
        // A record that was damaged on disk may say another size than it did; the log is then made anew.
        Change::Removed => *number = number.saturating_sub(by),
    };
    match record {
        Record::Begin { size, .. } => {
            step(&mut counts.files, 1);
            step(&mut counts.bytes, *size);
        }
        Record::Directory { .. } => step(&mut counts.directories, 1),
        Record::Symlink { .. } => step(&mut counts.symlinks, 1),
        Record::LeftOut { .. } => step(&mut counts.left_out, 1),
        Record::Chunks { .. } | Record::End { .. } | Record::Withdraw { .. } | Record::Complete(_) => (),
    }
}
