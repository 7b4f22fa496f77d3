//! Files that are being received: what records, examinations and adoptions say about them.

use std::collections::{BTreeMap, VecDeque};

use super::{Entry, Phases, Receiver};
use crate::geometry::{ChunkRun, ChunkSet, EntryIndex, Geometry};
use crate::limits::{SCAN_BYTES, UNSETTLED_BYTES_MAX};
use crate::outcome::Reason;
use crate::task::receiver::{AdoptItem, AdoptedItem, Disposition, Kept, OtherKind, SealClaim, Task};
use crate::wire::{Place, StopReason};

/// Entries that are examined with one task.
const EXAMINE_MAX: u32 = 1024;

/// How far the records of the last file have come, whether or not it was examined.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Latest {
    pub(super) known: u32,
    pub(super) is_ended: bool,
}

/// A file between its examination and its seal.
#[derive(Clone, Debug, Hash)]
pub(super) struct Active {
    pub(super) geometry: Geometry,
    /// Chunks whose digests are known are below this.
    pub(super) known: u32,
    pub(super) is_ended: bool,
    /// Chunks that are in staging (or in the adopted target).
    pub(super) held: ChunkSet,
    /// Chunks on their way over the link.
    pub(super) wanted: ChunkSet,
    /// Chunks the sender could not serve on this link.
    pub(super) gone: Vec<u32>,
    /// Compared with a candidate up to here; `None` if there is no candidate.
    pub(super) adopted_to: Option<u32>,
    pub(super) is_adopting: bool,
    /// Claimed by an earlier run, and still to be read back.
    pub(super) to_read_back: VecDeque<ChunkRun>,
    pub(super) is_reading_back: bool,
    /// What is being read back is of an inode that was left since.
    pub(super) is_read_back_void: bool,
    /// The batch that is to seal it, by number.
    pub(super) finishing: Option<u64>,
    /// What was said of it since that batch was closed: it waits for what the batch says.
    pub(super) later: Later,
    pub(super) is_renewing: bool,
    /// The batch that was closed last when an inode was left: it and those before speak of that inode.
    pub(super) left_during: Option<u64>,
    /// How often a chunk came back bad from this inode.
    pub(super) strikes: BTreeMap<u32, u32>,
    /// How often a chunk differed on arrival.
    pub(super) arrivals: BTreeMap<u32, u32>,
    pub(super) inodes: u32,
    pub(super) verified_bytes: u64,
}

/// What is to follow once the batch that is to seal a file is settled: until then nothing comes into the file, and its inode
/// is not left under the settler's hands.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Later {
    pub(super) bad: Vec<u32>,
    pub(super) renewal: Option<Reason>,
}

impl Active {
    fn new(geometry: Geometry, latest: Latest) -> Active {
        Active {
            geometry,
            known: latest.known.min(geometry.chunk_count()),
            is_ended: latest.is_ended,
            held: ChunkSet::new(geometry),
            wanted: ChunkSet::new(geometry),
            gone: vec![],
            adopted_to: None,
            is_adopting: false,
            to_read_back: VecDeque::new(),
            is_reading_back: false,
            is_read_back_void: false,
            finishing: None,
            later: Later::default(),
            is_renewing: false,
            left_during: None,
            strikes: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            inodes: 1,
            verified_bytes: 0,
        }
    }

    /// Length of a chunk of this file.
    pub(super) fn len(&self, chunk: u32) -> u64 {
        self.geometry.run_bytes(ChunkRun { first: chunk, count: 1 }).expect("a chunk of this file")
    }

    /// Bytes of the chunks that are held.
    pub(super) fn held_bytes(&self) -> u64 {
        let (count, held) = (self.geometry.chunk_count(), u64::from(self.held.len()));
        let full = u64::from(self.geometry.chunk_bytes());
        match count {
            0 => 0,
            _ if self.held.contains(count - 1) => held * full - (full - self.len(count - 1)),
            _ => held * full,
        }
    }

    /// Whether every chunk of it was compared with the candidate, if there is one.
    fn is_compared(&self) -> bool {
        !self.is_adopting && self.adopted_to.is_none_or(|to| to >= self.geometry.chunk_count())
    }
}

impl Receiver {
    pub(super) fn note_file(&mut self, size: u64, claim: SealClaim) {
        let phase = match claim {
            SealClaim::Claimed => Phases::Claimed,
            SealClaim::None => Phases::Unexamined,
        };
        if claim == SealClaim::Claimed {
            self.claimed.insert(self.entry_count());
        }
        self.entries.push(Entry { size, phase });
        self.latest = Latest::default();
        self.open_files += 1;
        self.tally.known_files += 1;
        match self.tally.known_bytes.checked_add(size) {
            Some(bytes) => self.tally.known_bytes = bytes,
            None => self.stop(StopReason::TooLarge),
        }
    }

    pub(super) fn note_other(&mut self, kind: OtherKind) {
        let is_left_out = matches!(kind, OtherKind::LeftOut(reason) if reason.counts_as_left_out());
        let phase = if is_left_out { Phases::OtherLeftOut } else { Phases::Other };
        self.entries.push(Entry { size: 0, phase });
        self.tally.left_out += u64::from(is_left_out);
    }

    pub(super) fn note_digests(&mut self, known: u32) {
        self.latest.known = known;
        let entry = self.entry_count() - 1;
        let Some(active) = self.active.get_mut(&entry) else { return };
        let before = std::mem::replace(&mut active.known, known);
        if active.adopted_to.is_some() {
            self.to_adopt.insert(entry);
        } else if self.scan.entry > entry {
            // The scan has left it behind, as a claim that fell or a candidate that was given up.
            let missing = (before..known).filter(|chunk| !active.held.contains(*chunk));
            self.rewants.extend(missing.map(|chunk| Place { entry, chunk }));
        }
    }

    pub(super) fn note_end(&mut self) {
        self.latest.is_ended = true;
        let entry = self.entry_count() - 1;
        if let Some(active) = self.active.get_mut(&entry) {
            active.is_ended = true;
            self.finish_if_whole(entry);
        }
    }

    pub(super) fn note_withdrawn(&mut self, entry: EntryIndex) {
        let slot = self.entries[entry.0 as usize];
        match slot.phase {
            Phases::Withdrawn => return,
            Phases::Other | Phases::OtherLeftOut => {
                self.tally.left_out -= u64::from(slot.phase == Phases::OtherLeftOut);
                self.entries[entry.0 as usize].phase = Phases::Withdrawn;
                self.tasks.push_back(Task::Abandon(entry, None));
                return;
            }
            Phases::LeftOut => self.tally.left_out -= 1,
            Phases::Sealed => {
                self.tally.sealed_files -= 1;
                self.tally.held_bytes -= slot.size;
                self.tally.verified_bytes -= slot.size;
            }
            Phases::Unexamined | Phases::Claimed | Phases::Active | Phases::Kept => (),
        }
        self.tally.known_files -= 1;
        self.tally.known_bytes = self.tally.known_bytes.saturating_sub(slot.size);
        self.forget(entry.0, Phases::Withdrawn);
        self.tasks.push_back(Task::Abandon(entry, None));
    }

    pub(super) fn entry_count(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("the log's grammar keeps to ENTRIES_MAX")
    }

    /// Looks at the next entries, before the scan reaches them.
    pub(super) fn examine_more(&mut self) {
        let known = self.entry_count();
        let is_far_enough = self.examined_to.saturating_sub(self.scan.entry) > EXAMINE_MAX / 2;
        let is_busy_enough = self.active.len() > 2 * self.settings.batch_files as usize;
        if self.is_examining || self.examined_to >= known || is_far_enough || is_busy_enough {
            return;
        }
        self.is_examining = true;
        let count = (known - self.examined_to).min(EXAMINE_MAX);
        self.tasks.push_back(Task::Examine(EntryIndex(self.examined_to), count));
    }

    pub(super) fn on_examined(&mut self, first: EntryIndex, found: Vec<Disposition>) {
        self.is_examining = false;
        for (entry, disposition) in (first.0..).zip(found) {
            self.examined_to = entry + 1;
            match (self.entries[entry as usize].phase, &disposition) {
                (Phases::Unexamined, _) => self.take_disposition(entry, disposition),
                // A directory, symlink or left-out entry has nothing to receive; only a refusal is counted.
                (Phases::Other, Disposition::LeftOut(reason)) if reason.counts_as_left_out() => {
                    self.entries[entry as usize].phase = Phases::OtherLeftOut;
                    self.tally.left_out += 1;
                }
                _ => (),
            }
        }
    }

    fn take_disposition(&mut self, entry: u32, found: Disposition) {
        let size = self.entries[entry as usize].size;
        let geometry = Geometry::new(size, self.settings.chunk_bytes).expect("the log's grammar has seen it");
        let is_last = entry + 1 == self.entry_count();
        let latest = if is_last { self.latest } else { Latest { known: u32::MAX, is_ended: true } };
        let mut active = Active::new(geometry, latest);
        match found {
            Disposition::Sealed => {
                self.forget(entry, Phases::Sealed);
                self.count_sealed(size, 0, 0);
                return;
            }
            Disposition::LeftOut(reason) => return self.leave_out(entry, reason),
            Disposition::Candidate => {
                active.adopted_to = Some(0);
                self.to_adopt.insert(entry);
            }
            Disposition::Staged(runs) => {
                for run in runs {
                    active.held.insert_run(run);
                    active.to_read_back.push_back(run);
                }
                self.tally.held_bytes += active.held_bytes();
                self.to_read_back.insert(entry);
            }
            Disposition::Fresh | Disposition::Placed => (),
        }
        self.entries[entry as usize].phase = Phases::Active;
        self.active.insert(entry, active);
        self.finish_if_whole(entry);
    }

    /// Counts a sealed file, of which so many bytes were counted as held and as verified before.
    pub(super) fn count_sealed(&mut self, size: u64, held_bytes: u64, verified_bytes: u64) {
        self.tally.sealed_files += 1;
        self.tally.held_bytes += size - held_bytes;
        self.tally.verified_bytes += size - verified_bytes;
    }

    /// Claims are compared with their targets in the background of whatever needs the network.
    pub(super) fn check_claims(&mut self) {
        if self.is_checking_claims || self.claimed.is_empty() || !self.is_linked {
            return;
        }
        self.is_checking_claims = true;
        let some = self.claimed.iter().take(EXAMINE_MAX as usize).map(|entry| EntryIndex(*entry)).collect();
        self.tasks.push_back(Task::ExamineClaims(some));
    }

    pub(super) fn on_claims_examined(&mut self, found: Vec<(EntryIndex, Disposition)>) {
        self.is_checking_claims = false;
        for (entry, disposition) in found {
            if self.entries[entry.0 as usize].phase != Phases::Claimed {
                continue;
            }
            self.claimed.remove(&entry.0);
            self.take_disposition(entry.0, disposition);
            // A claim that fell is behind the scan: what is missing of the file is wanted again, as far as its digests
            // are here. Those that still come bring the rest.
            let Some(active) = self.active.get(&entry.0) else { continue };
            if active.adopted_to.is_none() {
                let missing = active.held.missing_below(active.known);
                self.rewants.extend(missing.map(|chunk| Place { entry: entry.0, chunk }));
            }
        }
    }

    /// Compares candidates, as many as one task should take.
    pub(super) fn adopt_more(&mut self) {
        // What is copied joins the open batch: a slow disk slows it as it slows wants.
        let is_over = self.batch.unsettled_bytes() + SCAN_BYTES > UNSETTLED_BYTES_MAX || self.batch.is_crowded();
        if self.is_adopting || is_over {
            return;
        }
        let (mut items, mut bytes) = (vec![], 0);
        while bytes < SCAN_BYTES && items.len() < self.settings.batch_files as usize {
            let Some(entry) = self.to_adopt.pop_first() else { break };
            let active = self.active.get_mut(&entry).expect("forgotten files are not in the set");
            let from = active.adopted_to.expect("only candidates are in the set");
            let room = (SCAN_BYTES - bytes) / u64::from(active.geometry.chunk_bytes());
            let count = (active.known - from).min(u32::try_from(room).unwrap_or(u32::MAX).max(1));
            if active.is_adopting || active.is_renewing || (count == 0 && active.geometry.chunk_count() > 0) {
                continue;
            }
            active.is_adopting = true;
            active.adopted_to = Some(from + count);
            let run = ChunkRun { first: from, count };
            bytes += active.geometry.run_bytes(run).unwrap_or(0);
            items.push(AdoptItem { entry: EntryIndex(entry), run });
        }
        if !items.is_empty() {
            self.is_adopting = true;
            self.tasks.push_back(Task::Adopt(items));
        }
    }

    pub(super) fn on_adopted(&mut self, items: Vec<AdoptedItem>) {
        self.is_adopting = false;
        for item in items {
            let entry = item.entry.0;
            self.batch.add_bytes(item.copied_bytes);
            let Some(active) = self.active.get_mut(&entry) else { continue };
            active.is_adopting = false;
            if let Some(reason) = item.refused {
                self.leave_out(entry, reason);
                continue;
            }
            if item.is_restarted {
                self.tally.held_bytes -= active.held_bytes();
                active.held.clear();
                active.adopted_to = Some(0);
                self.to_adopt.insert(entry);
                continue;
            }
            let before = active.held_bytes();
            active.held.insert_run(item.run);
            for chunk in item.missing {
                active.held.remove(chunk);
                self.rewants.insert(Place { entry, chunk });
            }
            let after = active.held_bytes();
            self.tally.held_bytes = self.tally.held_bytes + after - before;
            self.tally.adopted_bytes += after.saturating_sub(before);
            if active.adopted_to.is_some_and(|to| to < active.known) {
                self.to_adopt.insert(entry);
            }
            self.finish_if_whole(entry);
        }
    }

    /// Seals a file with the next batch when nothing of it is missing or still to be compared or read back.
    pub(super) fn finish_if_whole(&mut self, entry: u32) {
        let Some(active) = self.active.get_mut(&entry) else { return };
        let is_whole = active.is_ended && active.held.is_full() && active.is_compared();
        let is_read_back = active.to_read_back.is_empty() && !active.is_reading_back && !active.is_renewing;
        if is_whole && is_read_back && active.finishing.is_none() && !self.to_adopt.contains(&entry) {
            active.finishing = Some(self.batch.add_file());
            self.tasks.push_back(Task::Finish(EntryIndex(entry)));
        }
    }

    pub(super) fn on_renewed(&mut self, entry: EntryIndex, result: Result<Kept, Reason>) {
        let Some(active) = self.active.get_mut(&entry.0) else { return };
        active.is_renewing = false;
        // The new inode has what verified of the old one; what is missing of it is wanted, not looked for again.
        let was_candidate = active.adopted_to.take().is_some();
        self.to_adopt.remove(&entry.0);
        match result {
            Err(reason) => self.leave_out(entry.0, reason),
            Ok(kept) => {
                self.tally.held_bytes -= active.held_bytes();
                active.held.clear();
                for chunk in kept.chunks {
                    active.held.insert(chunk);
                }
                // What the scan has not reached yet, or what is on its way, is not asked for here.
                for chunk in active.held.missing_below(active.known) {
                    let is_behind_scan = Place { entry: entry.0, chunk } < self.scan || was_candidate;
                    if is_behind_scan && !active.wanted.contains(chunk) {
                        self.rewants.insert(Place { entry: entry.0, chunk });
                    }
                }
                self.tally.held_bytes += active.held_bytes();
                self.batch.add_bytes(kept.bytes);
                self.finish_if_whole(entry.0);
            }
        }
    }
}
