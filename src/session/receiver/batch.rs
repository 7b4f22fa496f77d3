//! Batches: when the open one is settled, and what becomes of its files.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::files::Later;
use super::{Phases, Receiver};
use crate::geometry::{ChunkRun, EntryIndex};
use crate::limits::{BATCH_AGE_MS, BATCH_BYTES, EXTENT_STRIKES_MAX, INODES_MAX, SCAN_BYTES};
use crate::outcome::Reason;
use crate::task::receiver::{SettleResult, SettledFile, Task, WriteError};
use crate::wire::{Place, StopReason};

/// Closed batches that are settled at once.
const SETTLING_MAX: usize = 2;

/// The open batch, and what the disk is at work for: the batches before it, at most one of them not synced yet, or a
/// read-back.
#[derive(Clone, Debug, Hash)]
pub(super) struct Batch {
    /// Files after which it is full.
    files_max: u32,
    /// Batches closed so far; the open one has the next number.
    closed: u64,
    bytes: u64,
    files: u32,
    since: Option<Instant>,
    /// Closed and not settled, the oldest first.
    settling: VecDeque<Closed>,
    is_reading_back: bool,
}

/// A closed batch.
#[derive(Clone, Copy, Debug, Hash)]
struct Closed {
    number: u64,
    bytes: u64,
    is_synced: bool,
}

impl Batch {
    /// No batch yet; one is full with so many files.
    pub(super) fn new(files_max: u32) -> Batch {
        Batch {
            files_max,
            closed: 0,
            bytes: 0,
            files: 0,
            since: None,
            settling: VecDeque::new(),
            is_reading_back: false,
        }
    }

    pub(super) fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Counts a file that is to be sealed. Gives the open batch's number.
    pub(super) fn add_file(&mut self) -> u64 {
        self.files += 1;
        self.closed + 1
    }

    /// Bytes that were not read back yet.
    pub(super) fn unsettled_bytes(&self) -> u64 {
        self.bytes + self.settling.iter().map(|closed| closed.bytes).sum::<u64>()
    }

    /// So many files wait that more would only cost descriptors.
    pub(super) fn is_crowded(&self) -> bool {
        self.files >= 2 * self.files_max
    }

    /// Nothing waits and nothing is being done.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && !self.is_busy()
    }

    /// The disk is at work for a batch or a read-back.
    pub(super) fn is_busy(&self) -> bool {
        !self.settling.is_empty() || self.is_reading_back
    }

    /// When the open batch is settled though it is not full.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.may_close() { Some(self.since? + Duration::from_millis(BATCH_AGE_MS)) } else { None }
    }

    /// The batch that was closed last is durable.
    pub(super) fn synced(&mut self) {
        if let Some(closed) = self.settling.back_mut() {
            closed.is_synced = true;
        }
    }

    /// One batch is read back and sealed while the next is synced.
    fn may_close(&self) -> bool {
        let is_free = self.settling.len() < SETTLING_MAX && self.settling.iter().all(|closed| closed.is_synced);
        is_free && !self.is_reading_back
    }

    /// Whether that batch is closed and not settled yet.
    fn is_settling(&self, batch: Option<u64>) -> bool {
        batch.is_some_and(|batch| self.settling.iter().any(|closed| closed.number == batch))
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0 && self.files == 0
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.files >= self.files_max
    }

    fn close(&mut self) {
        self.closed += 1;
        self.settling.push_back(Closed { number: self.closed, bytes: self.bytes, is_synced: false });
        self.bytes = 0;
        self.files = 0;
        self.since = None;
    }
}

impl Receiver {
    /// Settles the open batch when it is full, old, or all there is; else reads back what an earlier run wrote.
    pub(super) fn settle_more(&mut self, now: Instant) {
        if !self.batch.is_empty() {
            self.batch.since.get_or_insert(now);
        }
        if !self.batch.may_close() {
            return;
        }
        let is_due = self.batch.due().is_some_and(|due| now >= due);
        // While the sender is still hashing, more is on its way: the batch may as well grow old.
        let is_idle = self.in_flight_count == 0 && !self.is_adopting && (self.is_complete || !self.is_linked);
        let is_all = is_idle && !self.batch.is_empty();
        if self.batch.is_full() || is_due || is_all {
            self.batch.close();
            self.tasks.push_back(Task::Settle);
        } else if !self.batch.is_busy() && self.may_read_back() {
            self.read_back_more();
        }
    }

    /// What an earlier run wrote is read back behind the first new chunks, so that these come soon; or when none are
    /// to come, or while a link that was there is gone.
    fn may_read_back(&self) -> bool {
        let is_nothing_wanted = self.in_flight_count == 0 && self.scan.entry >= self.examined_to;
        match self.is_linked {
            true => self.has_arrived || is_nothing_wanted,
            false => self.was_linked,
        }
    }

    fn read_back_more(&mut self) {
        let Some(entry) = self.to_read_back.pop_first() else { return };
        let active = self.active.get_mut(&entry).expect("forgotten files are not in the set");
        let Some(mut run) = active.to_read_back.pop_front() else { return };
        let chunks_max = u32::try_from(SCAN_BYTES / u64::from(active.geometry.chunk_bytes())).unwrap_or(u32::MAX);
        if run.count > chunks_max {
            let rest = ChunkRun { first: run.first + chunks_max, count: run.count - chunks_max };
            active.to_read_back.push_front(rest);
            run.count = chunks_max;
        }
        if !active.to_read_back.is_empty() {
            self.to_read_back.insert(entry);
        }
        active.is_reading_back = true;
        self.batch.is_reading_back = true;
        self.tasks.push_back(Task::ReadBack(EntryIndex(entry), run));
    }

    pub(super) fn on_read_back(&mut self, entry: EntryIndex, run: ChunkRun, bad: &[u32]) {
        self.batch.is_reading_back = false;
        let Some(active) = self.active.get_mut(&entry.0) else { return };
        active.is_reading_back = false;
        if std::mem::take(&mut active.is_read_back_void) {
            return self.finish_if_whole(entry.0);
        }
        let bytes = active.geometry.run_bytes(run).unwrap_or(0);
        let bad_bytes: u64 = bad.iter().map(|chunk| active.len(*chunk)).sum();
        let room = active.geometry.file_bytes() - active.verified_bytes;
        let verified_bytes = bytes.saturating_sub(bad_bytes).min(room);
        active.verified_bytes += verified_bytes;
        self.tally.verified_bytes += verified_bytes;
        self.take_bad(entry.0, bad);
        self.finish_if_whole(entry.0);
    }

    pub(super) fn on_batch_settled(&mut self, now: Instant, files: Vec<SettledFile>) {
        let Some(Closed { number, .. }) = self.batch.settling.pop_front() else { return };
        for SettledFile { entry, result } in files {
            let Some(active) = self.active.get_mut(&entry.0) else { continue };
            // What is said of an inode that was left meanwhile does not hold for the new one.
            if active.left_during.is_some_and(|last| number <= last) {
                continue;
            }
            // A later batch that is to seal it tells itself what came of that: no file is in two of them to be sealed.
            active.finishing = active.finishing.filter(|batch| *batch != number);
            let later = if active.finishing.is_none() { std::mem::take(&mut active.later) } else { Later::default() };
            match result {
                SettleResult::Sealed { .. } => {
                    let (held, verified) = (active.held_bytes(), active.verified_bytes);
                    let size = active.geometry.file_bytes();
                    self.forget(entry.0, Phases::Sealed);
                    self.count_sealed(size, held, verified);
                    self.meet_room();
                }
                SettleResult::Durable { verified_bytes, bad } => {
                    let room = active.geometry.file_bytes() - active.verified_bytes;
                    active.verified_bytes += verified_bytes.min(room);
                    self.tally.verified_bytes += verified_bytes.min(room);
                    self.take_bad(entry.0, &bad);
                    self.take_later(entry.0, &later);
                    self.finish_if_whole(entry.0);
                }
                SettleResult::SyncFailed => self.renew(entry.0, Reason::SyncFailed),
                SettleResult::InodeLost => self.renew(entry.0, Reason::TargetChanged),
                SettleResult::Full => {
                    self.take_later(entry.0, &later);
                    self.wait_for_space(now, entry.0);
                }
                SettleResult::LeftOut(reason) => self.leave_out(entry.0, reason),
            }
        }
    }

    pub(super) fn on_finish_failed(&mut self, now: Instant, entry: EntryIndex, error: WriteError) {
        let Some(active) = self.active.get_mut(&entry.0) else { return };
        // It stays counted: an empty batch costs nothing to settle.
        active.finishing = None;
        let later = std::mem::take(&mut active.later);
        self.take_later(entry.0, &later);
        if error == WriteError::Full {
            return self.wait_for_space(now, entry.0);
        }
        self.tasks.push_back(Task::Abandon(entry, Some(Reason::WriteFailed)));
        self.leave_out(entry.0, Reason::WriteFailed);
    }

    fn wait_for_space(&mut self, now: Instant, entry: u32) {
        self.to_finish.insert(entry);
        self.meet_full(now);
    }

    /// Chunks that the device did not return as written: no longer held, wanted again; on the second time in the
    /// same place of the same inode the inode is left.
    fn take_bad(&mut self, entry: u32, bad: &[u32]) {
        let Some(active) = self.active.get_mut(&entry) else { return };
        if self.batch.is_settling(active.finishing) {
            let (held, later) = (&active.held, &mut active.later);
            return later.bad.extend(bad.iter().filter(|chunk| held.contains(**chunk)));
        }
        let mut is_struck_out = false;
        for chunk in bad {
            // What is missed already was counted then.
            if !active.held.remove(*chunk) {
                continue;
            }
            self.tally.held_bytes -= active.len(*chunk);
            let strikes = active.strikes.entry(*chunk).or_insert(0);
            *strikes += 1;
            is_struck_out |= *strikes >= EXTENT_STRIKES_MAX;
            self.rewants.insert(Place { entry, chunk: *chunk });
            self.tally.resent_chunks += 1;
        }
        if is_struck_out {
            self.renew(entry, Reason::DeviceDiffers);
        }
    }

    /// What waited until the batch that was to seal the file was settled.
    fn take_later(&mut self, entry: u32, later: &Later) {
        self.take_bad(entry, &later.bad);
        if let Some(reason) = later.renewal {
            self.renew(entry, reason);
        }
    }

    /// Chunks that a batch lacks: no longer held, and wanted again.
    pub(super) fn on_missing(&mut self, files: Vec<(EntryIndex, Vec<u32>)>) {
        for (entry, chunks) in files {
            let Some(active) = self.active.get_mut(&entry.0) else { continue };
            for chunk in chunks {
                active.later.bad.retain(|bad| *bad != chunk);
                if active.held.remove(chunk) {
                    self.tally.held_bytes -= active.len(chunk);
                    self.tally.resent_chunks += 1;
                    self.rewants.insert(Place { entry: entry.0, chunk });
                }
            }
        }
    }

    /// Leaves the file's inode for a new one; after the last, the file is left out, or the run stops where the
    /// device cannot make anything durable.
    pub(super) fn renew(&mut self, entry: u32, reason: Reason) {
        let Some(active) = self.active.get_mut(&entry) else { return };
        if active.is_renewing {
            return;
        }
        if self.batch.is_settling(active.finishing) {
            active.later.renewal.get_or_insert(reason);
            return;
        }
        active.inodes += 1;
        if active.inodes > INODES_MAX {
            if reason == Reason::SyncFailed {
                return self.stop(StopReason::SyncFailed);
            }
            self.tasks.push_back(Task::Abandon(EntryIndex(entry), Some(reason)));
            return self.leave_out(entry, reason);
        }
        active.is_renewing = true;
        active.left_during = Some(self.batch.closed);
        active.is_read_back_void = active.is_reading_back;
        active.finishing = None;
        active.later = Later::default();
        active.strikes.clear();
        active.to_read_back.clear();
        self.to_read_back.remove(&entry);
        self.tally.verified_bytes -= active.verified_bytes;
        active.verified_bytes = 0;
        self.tasks.push_back(Task::NewInode(EntryIndex(entry)));
    }
}
