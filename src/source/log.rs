//! The sender's manifest log as its producer, server and driver share it: one appends, the others read. Adds to
//! `state/log.rs` what only a sender asks: which entries are withdrawn, and whether a wanted chunk can be served.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;
use crate::geometry::{ChunkIndex, EntryIndex, Geometry};
use crate::manifest::{Position, Record, Step};
use crate::path::RelPath;
use crate::state::log::{AppendError, Cursor, DigestTable, ManifestLog};
use crate::wire::Place;

/// What the log says about a wanted chunk.
pub enum Look<D: Disk> {
    /// There is no such chunk, or its digest was never sent: nobody who is honest wants it.
    Outside,
    /// Its entry was withdrawn.
    Withdrawn,
    /// It is part of this file.
    Chunk(SourceFile<D>, ChunkIndex),
}

/// A file of the log.
pub struct SourceFile<D: Disk> {
    /// Its path below the target.
    pub path: RelPath,
    /// Its size in chunks.
    pub geometry: Geometry,
    /// Its digests.
    pub table: DigestTable<D::File>,
}

impl<D: Disk> Clone for SourceFile<D> {
    fn clone(&self) -> SourceFile<D> {
        SourceFile { path: self.path.clone(), geometry: self.geometry, table: self.table.clone() }
    }
}

struct Inner<D: Disk> {
    log: ManifestLog<D>,
    withdrawn: HashSet<u32>,
}

/// A manifest log that several threads use. Clones share it.
pub struct SharedLog<D: Disk>(Arc<Mutex<Inner<D>>>);

impl<D: Disk> Clone for SharedLog<D> {
    fn clone(&self) -> SharedLog<D> {
        SharedLog(Arc::clone(&self.0))
    }
}

impl<D: Disk> SharedLog<D> {
    /// Shares a log that was just opened, and of which the replay has shown these entries to be withdrawn.
    pub fn new(log: ManifestLog<D>, withdrawn: HashSet<u32>) -> SharedLog<D> {
        SharedLog(Arc::new(Mutex::new(Inner { log, withdrawn })))
    }

    /// Appends encoded records. Returns where the log ends then.
    pub fn append(&self, records: &[Vec<u8>]) -> Result<Position, AppendError> {
        let mut inner = self.lock();
        let Inner { log, withdrawn } = &mut *inner;
        log.append(records.iter().map(Vec::as_slice), |_, step| {
            if let Step::Withdrawn(entry) = step {
                withdrawn.insert(entry.0);
            }
        })?;
        Ok(log.position())
    }

    /// Where the log ends.
    pub fn position(&self) -> Position {
        self.lock().log.position()
    }

    /// Entries introduced so far.
    pub fn entry_count(&self) -> u32 {
        self.lock().log.entry_count()
    }

    /// Whether the entry was withdrawn.
    pub fn is_withdrawn(&self, entry: EntryIndex) -> bool {
        self.lock().withdrawn.contains(&entry.0)
    }

    /// The record that introduced an entry.
    pub fn introduction(&self, entry: EntryIndex) -> io::Result<Record> {
        self.lock().log.introduction(entry)
    }

    /// The longest of the receiver's rungs that this log goes through. The empty log is the last resort.
    pub fn find_rung(&self, ladder: &[Position]) -> io::Result<(Position, Cursor)> {
        let inner = self.lock();
        let mut rungs = ladder.to_vec();
        rungs.sort_by_key(|rung| std::cmp::Reverse(rung.record_count));
        for rung in rungs {
            if let Some(cursor) = inner.log.find(rung)? {
                return Ok((rung, cursor));
            }
        }
        let start = Position { record_count: 0, chain: inner.log.header().chain() };
        let cursor = inner.log.find(start)?.expect("every log goes through its own start");
        Ok((start, cursor))
    }

    /// The next page of records from the cursor on.
    pub fn page(&self, cursor: &mut Cursor) -> io::Result<Vec<u8>> {
        self.lock().log.page(cursor)
    }

    /// What the log says about a wanted chunk.
    pub fn look_up(&self, place: Place) -> io::Result<Look<D>> {
        let entry = EntryIndex(place.entry);
        let inner = self.lock();
        if entry.0 >= inner.log.entry_count() {
            return Ok(Look::Outside);
        }
        if inner.withdrawn.contains(&entry.0) {
            return Ok(Look::Withdrawn);
        }
        let open = inner.log.sequence().open().filter(|open| open.entry == entry);
        let digest_count = open.map(|open| open.folder.count());
        if !matches!(inner.log.introduction(entry)?, Record::Begin { .. }) {
            return Ok(Look::Outside);
        }
        let (record, geometry, table) = inner.log.file(entry)?;
        let Record::Begin { path, .. } = record else { return Ok(Look::Outside) };
        match geometry.chunk(place.chunk) {
            Some(chunk) if digest_count.is_none_or(|count| place.chunk < count) => {
                Ok(Look::Chunk(SourceFile { path, geometry, table }, chunk))
            }
            _ => Ok(Look::Outside),
        }
    }

    /// Lets `act` use the log itself, while nobody else can.
    pub fn with<T>(&self, act: impl FnOnce(&ManifestLog<D>) -> T) -> T {
        act(&self.lock().log)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
