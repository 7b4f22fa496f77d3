//! What the producer writes: records into the log and stamps beside it, those of one step together; and the counts
//! of what the log holds. In a comparing run it only takes note that something would have been written.

use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use super::Purpose;
use super::known::{Change, Known, Replay, count};
use crate::attributes::Stamps;
use crate::digest::PathHash;
use crate::disk::Disk;
use crate::error::Error;
use crate::geometry::EntryIndex;
use crate::limits::STEP_ENTRIES_MAX;
use crate::manifest::Record;
use crate::outcome::{Counts, Reason};
use crate::path::RelPath;
use crate::source::ahead::HashAhead;
use crate::source::log::SharedLog;
use crate::source::stamps::{Slot, StampFile};
use crate::state::log::{AppendError, ManifestLog};

/// What is written to, and what an earlier run left there.
pub(super) struct Records<D: Disk> {
    pub(super) log: ManifestLog<D>,
    pub(super) replay: Replay,
    pub(super) stamps: StampFile<D>,
    pub(super) state_path: PathBuf,
}

/// Writes records and stamps.
pub(super) struct Writer<D: Disk> {
    log: SharedLog<D>,
    stamps: StampFile<D>,
    state_path: PathBuf,
    ahead: Arc<HashAhead>,
    purpose: Purpose,
    has_differed: bool,
    chunk_bytes: u32,
    counts: Counts,
    /// Entries of the log and of what is still to be appended.
    entry_count: u32,
    records: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    content_bytes: u64,
}

impl<D: Disk> Writer<D> {
    /// A writer behind a log that was just opened, and the entries that are live in it.
    pub(super) fn new(
        records: Records<D>,
        ahead: Arc<HashAhead>,
        purpose: Purpose,
    ) -> Result<(Writer<D>, Known), Error> {
        let Records { log, replay, stamps, state_path } = records;
        let withdrawn = replay.withdrawn().clone();
        let (known, mut counts) = replay.finish();
        for entry in &withdrawn {
            let record = log.introduction(EntryIndex(*entry));
            let record = record.map_err(|source| Error::State { path: state_path.clone(), source })?;
            count(&mut counts, &record, Change::Removed);
        }
        let writer = Writer {
            stamps,
            state_path,
            ahead,
            purpose,
            // A log that ends inside a file was never complete.
            has_differed: purpose == Purpose::Compare && !log.sequence().is_complete(),
            chunk_bytes: log.header().chunk_bytes,
            counts,
            entry_count: log.entry_count(),
            log: SharedLog::new(log, withdrawn),
            records: vec![],
            slots: vec![],
            content_bytes: 0,
        };
        Ok((writer, known))
    }

    pub(super) fn log(&self) -> &SharedLog<D> {
        &self.log
    }

    pub(super) fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// Live entries, by kind. What is not preserved is counted by who looks at the source.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn is_comparing(&self) -> bool {
        self.purpose == Purpose::Compare
    }

    pub(super) fn has_differed(&self) -> bool {
        self.has_differed
    }

    /// Number of the entry that is introduced next.
    pub(super) fn next_entry(&self) -> EntryIndex {
        EntryIndex(self.entry_count)
    }

    /// Stamps of an entry with that path, as far as they are known.
    pub(super) fn stamps_of(&mut self, entry: EntryIndex, path: PathHash) -> Option<Stamps> {
        self.stamps.get(entry, path)
    }

    /// Adds a record that introduces an entry.
    pub(super) fn introduce(&mut self, record: &Record) -> EntryIndex {
        count(&mut self.counts, record, Change::Added);
        self.push(record);
        self.entry_count += 1;
        EntryIndex(self.entry_count - 1)
    }

    /// Adds a record of another kind.
    pub(super) fn push(&mut self, record: &Record) {
        self.records.push(record.encode());
    }

    /// Adds the stamps of a file that was just introduced.
    pub(super) fn stamp(&mut self, entry: EntryIndex, path: PathHash, stamps: Stamps) {
        self.slots.push(Slot { entry, path, stamps });
    }

    /// Takes note of content that was read for what is to be written.
    pub(super) fn weigh(&mut self, bytes: u64) {
        self.content_bytes += bytes;
    }

    /// Whether it is time to write.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= STEP_ENTRIES_MAX || self.content_bytes >= u64::from(self.chunk_bytes)
    }

    /// Withdraws an entry, also one that this step has begun.
    pub(super) fn withdraw(&mut self, entry: EntryIndex, reason: Reason) -> Result<(), Error> {
        let record = self.introduction(entry)?;
        count(&mut self.counts, &record, Change::Removed);
        self.ahead.forget_entry(entry);
        self.push(&Record::Withdraw { entry, reason });
        Ok(())
    }

    /// The record of an entry, also of one that this step has begun.
    pub(super) fn introduction(&mut self, entry: EntryIndex) -> Result<Record, Error> {
        self.flush()?;
        self.log.introduction(entry).map_err(|source| self.state(source))
    }

    /// The path of an entry.
    pub(super) fn path_of(&mut self, entry: EntryIndex) -> Result<RelPath, Error> {
        let record = self.introduction(entry)?;
        Ok(record.path().expect("a record that introduces an entry has a path").clone())
    }

    /// Writes what there is. Stamps first: a slot without its record says nothing, a record without its slot would
    /// be hashed again.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let (records, slots) = (mem::take(&mut self.records), mem::take(&mut self.slots));
        self.content_bytes = 0;
        if records.is_empty() {
            return Ok(());
        }
        if self.is_comparing() {
            self.has_differed = true;
            return Ok(());
        }
        self.stamps.put(&slots).map_err(|source| self.state(source))?;
        self.log.append(&records).map_err(|error| match error {
            AppendError::Io(source) => self.state(source),
            AppendError::Sequence(_) => Error::Local {
                what: "source",
                object: PathBuf::from("."),
                problem: "has more entries than one transfer can hold",
                source: None,
            },
            error @ (AppendError::Decode(_) | AppendError::Parted) => {
                unreachable!("a record of our own cannot be read: {error}")
            }
        })?;
        self.ahead.produced(self.entry_count);
        Ok(())
    }

    fn state(&self, source: io::Error) -> Error {
        Error::State { path: self.state_path.clone(), source }
    }
}
