//! The hash-ahead buffer: chunks that were just hashed stay here until the receiver has looked at them, so that a
//! fresh file is read once. It also holds the producer back: hashing runs at most so far beyond what the receiver has
//! considered. What it does not do: read or hash. A chunk that is not here is read again, see `serve.rs`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::buffers::Buffer;
use crate::digest;
use crate::geometry::EntryIndex;
use crate::limits::{HASH_AHEAD_BYTES, HASH_AHEAD_CHUNKS_MAX, HASH_AHEAD_ENTRIES_MAX};
use crate::wire::{Place, WantRun};

/// The content of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Bytes),
    /// All its bytes are zero.
    Zero,
}

impl Content {
    /// What a buffer holds.
    pub(crate) fn of(buffer: Buffer) -> Content {
        if digest::is_zero(buffer.as_ref()) { Content::Zero } else { Content::Bytes(buffer.freeze()) }
    }

    fn held_bytes(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Zero => 0,
        }
    }
}

/// Whether hashing may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Nobody needs further chunks: the run is over.
    Closed,
}

#[derive(Debug)]
struct Held {
    content: Content,
    is_wanted: bool,
}

#[derive(Debug)]
struct State {
    chunks: BTreeMap<Place, Held>,
    bytes: u64,
    /// Everything before this place counts as considered.
    considered: Place,
    produced_entry: u32,
    gate: Gate,
}

impl State {
    fn has_room(&self) -> bool {
        let entries_ahead = self.produced_entry.saturating_sub(self.considered.entry) as usize;
        self.bytes < HASH_AHEAD_BYTES
            && self.chunks.len() < HASH_AHEAD_CHUNKS_MAX
            && entries_ahead < HASH_AHEAD_ENTRIES_MAX
    }

    fn remove(&mut self, place: Place) -> Option<Content> {
        let held = self.chunks.remove(&place)?;
        self.bytes -= held.content.held_bytes();
        Some(held.content)
    }
}

/// The buffer. One producer fills it, one server empties it, one driver says what was considered.
#[derive(Debug)]
pub struct HashAhead {
    state: Mutex<State>,
    room: Condvar,
}

impl HashAhead {
    /// An empty buffer, for a log that has `entry_count` entries from earlier runs: those do not count as ahead.
    pub fn new(entry_count: u32) -> HashAhead {
        let state = State {
            chunks: BTreeMap::new(),
            bytes: 0,
            // The last of them may be a file that is still open and goes on.
            considered: Place { entry: entry_count.saturating_sub(1), chunk: 0 },
            produced_entry: entry_count,
            gate: Gate::Open,
        };
        HashAhead { state: Mutex::new(state), room: Condvar::new() }
    }

    /// Keeps a chunk that was just hashed, unless the receiver has looked past it already: a file that it compares
    /// with what is there is passed as a whole, and what turns out to be missing of it is read from the disk again.
    pub fn put(&self, place: Place, content: Content) {
        let mut state = self.lock();
        if state.gate == Gate::Open && place >= state.considered {
            state.remove(place);
            state.bytes += content.held_bytes();
            state.chunks.insert(place, Held { content, is_wanted: false });
        }
    }

    /// Takes note that the log has so many entries.
    pub fn produced(&self, entry_count: u32) {
        self.lock().produced_entry = entry_count;
    }

    /// Whether the producer may hash on; for callers that do not wait.
    pub fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Whether anybody still needs chunks.
    pub fn gate(&self) -> Gate {
        self.lock().gate
    }

    /// Waits until there is room, or until the buffer is closed.
    pub fn wait_for_room(&self) -> Gate {
        let state = self.lock();
        let waited = self.room.wait_while(state, |state| state.gate == Gate::Open && !state.has_room());
        waited.unwrap_or_else(PoisonError::into_inner).gate
    }

    /// The receiver has looked at everything before `through`, and wants these chunks: what is neither wanted now
    /// nor before is dropped.
    pub fn considered(&self, through: Place, wanted: &[WantRun]) {
        let mut state = self.lock();
        for run in wanted {
            let first = Place { entry: run.entry.0, chunk: run.first };
            let end = Place { entry: run.entry.0, chunk: run.first.saturating_add(run.count) };
            for (_, held) in state.chunks.range_mut((Bound::Included(first), Bound::Excluded(end))) {
                held.is_wanted = true;
            }
        }
        let passed = state.chunks.range(..through).filter(|(_, held)| !held.is_wanted);
        let passed: Vec<Place> = passed.map(|(place, _)| *place).collect();
        for place in passed {
            state.remove(place);
        }
        state.considered = state.considered.max(through);
        self.room.notify_all();
    }

    /// Wants have died with their link. What was kept for them waits for the next link to look at it again.
    pub fn forget_wants(&self) {
        self.lock().chunks.values_mut().for_each(|held| held.is_wanted = false);
    }

    /// Drops what is left of an entry that was withdrawn.
    pub fn forget_entry(&self, entry: EntryIndex) {
        let mut state = self.lock();
        let (first, last) = (Place { entry: entry.0, chunk: 0 }, Place { entry: entry.0, chunk: u32::MAX });
        let places: Vec<Place> = state.chunks.range(first..=last).map(|(place, _)| *place).collect();
        for place in places {
            state.remove(place);
        }
        self.room.notify_all();
    }

    /// Takes a chunk out.
    pub fn take(&self, place: Place) -> Option<Content> {
        let content = self.lock().remove(place);
        self.room.notify_all();
        content
    }

    /// Ends the waiting of the producer, for good, and drops everything.
    pub fn close(&self) {
        let mut state = self.lock();
        state.gate = Gate::Closed;
        state.chunks.clear();
        state.bytes = 0;
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn place(entry: u32, chunk: u32) -> Place {
        Place { entry, chunk }
    }

    fn filled(chunks: u32, len: usize) -> HashAhead {
        let ahead = HashAhead::new(0);
        for chunk in 0..chunks {
            ahead.put(place(0, chunk), Content::Bytes(vec![1; len].into()));
        }
        ahead
    }

    #[test]
    fn what_was_passed_and_not_wanted_is_dropped_and_the_rest_is_kept() {
        let ahead = filled(6, 10);
        let wanted = [WantRun { entry: EntryIndex(0), first: 1, count: 2 }];
        ahead.considered(place(0, 4), &wanted);
        let left: Vec<u32> = (0..6).filter(|chunk| ahead.take(place(0, *chunk)).is_some()).collect();
        assert_eq!(left, [1, 2, 4, 5]);
        assert_eq!(ahead.take(place(0, 1)), None);
    }

    #[test]
    fn what_was_passed_before_it_was_hashed_is_not_kept() {
        let ahead = HashAhead::new(0);
        ahead.considered(place(1, 0), &[]);
        ahead.put(place(0, 7), Content::Bytes(vec![1; HASH_AHEAD_BYTES as usize].into()));
        assert!(ahead.has_room());
        assert_eq!(ahead.take(place(0, 7)), None);
        ahead.put(place(1, 0), Content::Zero);
        assert_eq!(ahead.take(place(1, 0)), Some(Content::Zero));
    }

    #[test]
    fn wants_of_a_lost_link_do_not_keep_chunks_for_ever() {
        let ahead = filled(3, 10);
        ahead.considered(place(0, 2), &[WantRun { entry: EntryIndex(0), first: 0, count: u32::MAX }]);
        ahead.forget_wants();
        ahead.considered(place(0, 1), &[]);
        let left: Vec<u32> = (0..3).filter(|chunk| ahead.take(place(0, *chunk)).is_some()).collect();
        assert_eq!(left, [1, 2]);
    }

    #[test]
    fn bytes_chunks_and_entries_each_bound_it() {
        let ahead = filled(1, HASH_AHEAD_BYTES as usize - 1);
        assert!(ahead.has_room());
        ahead.put(place(0, 1), Content::Bytes(vec![1].into()));
        assert!(!ahead.has_room());
        ahead.forget_entry(EntryIndex(0));
        assert!(ahead.has_room());
        (0..HASH_AHEAD_CHUNKS_MAX as u32).for_each(|chunk| ahead.put(place(1, chunk), Content::Zero));
        assert!(!ahead.has_room());
        ahead.take(place(1, 0)).unwrap();
        assert!(ahead.has_room());
        ahead.produced(HASH_AHEAD_ENTRIES_MAX as u32);
        assert!(!ahead.has_room());
        ahead.considered(place(1, 0), &[]);
        assert!(ahead.has_room());
    }

    #[test]
    fn a_waiting_producer_is_woken_by_room_and_by_the_end() {
        let ahead = Arc::new(filled(2, HASH_AHEAD_BYTES as usize));
        let waiting = thread::spawn({
            let ahead = Arc::clone(&ahead);
            move || ahead.wait_for_room()
        });
        ahead.considered(place(0, 2), &[]);
        assert_eq!(waiting.join().unwrap(), Gate::Open);
        ahead.put(place(0, 2), Content::Bytes(vec![1; HASH_AHEAD_BYTES as usize].into()));
        let waiting = thread::spawn({
            let ahead = Arc::clone(&ahead);
            move || ahead.wait_for_room()
        });
        ahead.close();
        assert_eq!(waiting.join().unwrap(), Gate::Closed);
        assert_eq!(ahead.take(place(0, 2)), None);
    }
}
