//! Records and stamps that one step of the producer writes together.

use crate::attributes::Stamps;
use crate::digest::PathHash;
use crate::geometry::EntryIndex;
use crate::limits::STEP_ENTRIES_MAX;
use crate::manifest::Record;
use crate::source::stamps::Slot;

/// What is to be appended.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Vec<u8>>,
    pub(super) slots: Vec<Slot>,
    content_bytes: u64,
    next_entry: u32,
}

impl Batch {
    /// An empty batch behind a log that has so many entries.
    pub(super) fn new(entry_count: u32) -> Batch {
        Batch { records: vec![], slots: vec![], content_bytes: 0, next_entry: entry_count }
    }

    /// Entries that the log has when the batch is appended.
    pub(super) fn entry_count(&self) -> u32 {
        self.next_entry
    }

    /// Adds a record that introduces an entry.
    pub(super) fn introduce(&mut self, record: &Record) -> EntryIndex {
        self.push(record);
        self.next_entry += 1;
        EntryIndex(self.next_entry - 1)
    }

    /// Adds a record of another kind.
    pub(super) fn push(&mut self, record: &Record) {
        self.records.push(record.encode());
    }

    /// Adds the stamps of a file that was just introduced.
    pub(super) fn stamp(&mut self, entry: EntryIndex, path: PathHash, stamps: Stamps) {
        self.slots.push(Slot { entry, path, stamps });
    }

    /// Takes note of content that was read for it.
    pub(super) fn weigh(&mut self, bytes: u64) {
        self.content_bytes += bytes;
    }

    /// Whether it is time to write it.
    pub(super) fn is_full(&self, chunk_bytes: u32) -> bool {
        self.records.len() >= STEP_ENTRIES_MAX || self.content_bytes >= u64::from(chunk_bytes)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Empties it, when it was written.
    pub(super) fn clear(&mut self) {
        *self = Batch::new(self.next_entry);
    }
}
