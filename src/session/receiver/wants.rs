//! Wants: which chunks are asked for, in manifest order, within the budget; and what becomes of each.

use std::time::Instant;

use super::{Phases, Receiver};
use crate::geometry::EntryIndex;
use crate::limits::{
    ARRIVAL_STRIKES_MAX, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_CHUNKS_MAX, UNSETTLED_BYTES_MAX, WANT_RUNS_MAX,
};
use crate::outcome::Reason;
use crate::task::receiver::{Chunk, Task, WriteError};
use crate::wire::{Message, Place, Want, WantRun};

/// Differences on arrival of one chunk after which the log itself is suspected.
const LOG_SUSPECT_STRIKES: u32 = 2;

impl Receiver {
    /// Chunks that may be on their way: each may open a file.
    fn in_flight_max(&self) -> u32 {
        IN_FLIGHT_CHUNKS_MAX.min(2 * self.settings.batch_files)
    }

    /// Fills the budget once a quarter of it is free, so that a message carries more than one tiny file.
    pub(super) fn want_more(&mut self) {
        let is_low =
            self.in_flight_bytes <= IN_FLIGHT_BYTES_MAX / 4 * 3 && self.in_flight_count <= self.in_flight_max() / 4 * 3;
        if !is_low || self.full_since.is_some() {
            return;
        }
        loop {
            let mut runs: Vec<WantRun> = vec![];
            let mut is_more = true;
            while is_more && runs.len() < WANT_RUNS_MAX {
                is_more = match self.next_place() {
                    Some(place) => self.want_one(place, &mut runs),
                    None => false,
                };
            }
            if runs.is_empty() && self.scan == self.considered_sent {
                return;
            }
            self.considered_sent = self.scan;
            let want = Want { considered_through: self.scan, runs };
            self.tasks.push_back(Task::Send(Message::Want(want)));
            if !is_more {
                return;
            }
        }
    }

    /// The next chunk to be wanted: one that was lost or bad, else the next that the scan comes to.
    fn next_place(&mut self) -> Option<Place> {
        while let Some(place) = self.rewants.first().copied() {
            match self.active.get(&place.entry) {
                // Its digest is still to come: this is the last file, and so these are the last places.
                Some(active) if active.is_renewing || place.chunk >= active.known => break,
                Some(active) if !active.held.contains(place.chunk) && !active.wanted.contains(place.chunk) => {
                    return Some(place);
                }
                _ => drop(self.rewants.pop_first()),
            }
        }
        loop {
            let entry = self.entries.get(self.scan.entry as usize)?;
            let next_entry = Place { entry: self.scan.entry + 1, chunk: 0 };
            match entry.phase {
                Phases::Unexamined => return None,
                Phases::Other if self.scan.entry >= self.examined_to => return None,
                Phases::Active => {
                    let active = self.active.get(&self.scan.entry).expect("an active entry has its state");
                    // What may be there already is compared with what is there, beside the scan.
                    if active.adopted_to.is_some() || self.scan.chunk >= active.geometry.chunk_count() {
                        self.scan = next_entry;
                    } else if self.scan.chunk >= active.known {
                        return None;
                    } else if active.held.contains(self.scan.chunk) || active.wanted.contains(self.scan.chunk) {
                        self.scan.chunk += 1;
                    } else {
                        return Some(self.scan);
                    }
                }
                _ => self.scan = next_entry,
            }
        }
    }

    /// Adds a chunk to the runs if the budget allows.
    fn want_one(&mut self, place: Place, runs: &mut Vec<WantRun>) -> bool {
        let in_flight_max = self.in_flight_max();
        let active = self.active.get_mut(&place.entry).expect("a place to be wanted is in an active file");
        let bytes = active.len(place.chunk);
        let in_flight_bytes = self.in_flight_bytes + bytes;
        let is_over = in_flight_bytes > IN_FLIGHT_BYTES_MAX
            || self.in_flight_count >= in_flight_max
            || in_flight_bytes + self.batch.unsettled_bytes() > UNSETTLED_BYTES_MAX
            || self.batch.is_crowded();
        if is_over {
            return false;
        }
        active.wanted.insert(place.chunk);
        self.in_flight_bytes = in_flight_bytes;
        self.in_flight_count += 1;
        self.rewants.remove(&place);
        if place == self.scan {
            self.scan.chunk += 1;
        }
        match runs.last_mut() {
            Some(run) if run.entry.0 == place.entry && run.first + run.count == place.chunk => run.count += 1,
            _ => runs.push(WantRun { entry: EntryIndex(place.entry), first: place.chunk, count: 1 }),
        }
        true
    }

    /// Takes a chunk out of flight, and says whether it was wanted; `None` if its file is no longer received.
    fn land(&mut self, chunk: Chunk) -> Option<bool> {
        let active = self.active.get_mut(&chunk.entry)?;
        if chunk.chunk >= active.geometry.chunk_count() {
            return None;
        }
        let bytes = active.len(chunk.chunk);
        let was_wanted = active.wanted.remove(chunk.chunk);
        if was_wanted {
            self.in_flight_bytes -= bytes;
            self.in_flight_count -= 1;
        }
        Some(was_wanted)
    }

    pub(super) fn on_written(&mut self, chunk: Chunk, bytes: u32) {
        self.has_arrived = true;
        if self.land(chunk).is_none() {
            return;
        }
        self.meet_room();
        self.batch.add_bytes(u64::from(bytes));
        let active = self.active.get_mut(&chunk.entry).expect("it has just landed");
        if active.held.insert(chunk.chunk) {
            self.tally.held_bytes += active.len(chunk.chunk);
        }
        self.rewants.remove(&chunk);
        self.finish_if_whole(chunk.entry);
    }

    pub(super) fn on_differed(&mut self, chunk: Chunk) {
        // What nobody asked for, or what came on an earlier link, is remembered nowhere: a peer may send any number.
        if self.land(chunk) != Some(true) {
            return;
        }
        self.tally.resent_chunks += 1;
        let active = self.active.get_mut(&chunk.entry).expect("it has just landed");
        let strikes = active.arrivals.entry(chunk.chunk).or_insert(0);
        *strikes += 1;
        let strikes = *strikes;
        if strikes >= ARRIVAL_STRIKES_MAX {
            self.tasks.push_back(Task::Abandon(EntryIndex(chunk.entry), Some(Reason::ArrivalDiffers)));
            return self.leave_out(chunk.entry, Reason::ArrivalDiffers);
        }
        self.rewants.insert(chunk);
        if strikes == LOG_SUSPECT_STRIKES && !self.is_log_checking {
            self.is_log_checking = true;
            self.tasks.push_back(Task::CheckLog);
        }
    }

    pub(super) fn on_gone(&mut self, chunk: Chunk) {
        if self.land(chunk) == Some(true) {
            self.active.get_mut(&chunk.entry).expect("it has just landed").gone.push(chunk.chunk);
        }
    }

    pub(super) fn on_write_failed(&mut self, now: Instant, chunk: Chunk, error: WriteError) {
        // A chunk that nobody asked for, or that came on an earlier link, changes nothing.
        if self.land(chunk) != Some(true) {
            return;
        }
        self.rewants.insert(chunk);
        match error {
            WriteError::Stale => (),
            WriteError::Full => self.meet_full(now),
            WriteError::Failed => {
                self.renew(chunk.entry, Reason::WriteFailed);
            }
        }
    }
}
