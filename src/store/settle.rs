//! Settling a batch, after `sync.rs`: read back; then `seal.rs` for the files that are whole. The two halves may be at work
//! for two batches at once, each for one after the other.

use std::io;
use std::sync::Arc;

use super::batch::BatchFile;
use super::intake::Handle;
use super::names::Named;
use super::staging::{Held, Place};
use super::sync::Synced;
use super::{Shared, is_full, locked};
use crate::digest::{ChunkDigest, chunk_digest};
use crate::disk::{AlignedBuffer, Disk, DiskFile};
use crate::event::Found;
use crate::geometry::{ChunkIndex, ChunkRun, EntryIndex};
use crate::outcome::{Outcome, Reason};
use crate::state::outcome::Live;
use crate::task::receiver::{SettleResult, SettledFile};

/// Chunks of one read-back job.
const JOB_CHUNKS: usize = 8;

/// Wrong bytes that a read-back met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// In which file.
    pub entry: EntryIndex,
    /// At which offset.
    pub offset: u64,
    /// What a second read said.
    pub found: Found,
}

/// See the module.
pub struct Settler<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    /// Where the log was when symlinks and directories were made last.
    pub(super) finished: Option<Live>,
    observed: Vec<Observed>,
    /// Symlinks and directories that could not be made.
    pub(super) left_out: Vec<(EntryIndex, Reason)>,
}

/// A file of a batch with what has become of it so far.
pub(super) struct Settling<D: Disk> {
    pub(super) file: BatchFile<D>,
    pub(super) bad: Vec<u32>,
    pub(super) verified_bytes: u64,
    pub(super) result: Option<SettleResult>,
    pub(super) is_attributes_failed: bool,
    /// Which name it got.
    pub(super) named: Named,
}

impl<D: Disk> Settler<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Settler<D> {
        Settler { shared, finished: None, observed: vec![], left_out: vec![] }
    }

    /// Wrong bytes met since the last call.
    pub fn take_observed(&mut self) -> Vec<Observed> {
        std::mem::take(&mut self.observed)
    }

    /// Symlinks and directories that were left out since the last call. Files are told where they are settled.
    pub fn take_left_out(&mut self) -> Vec<(EntryIndex, Reason)> {
        std::mem::take(&mut self.left_out)
    }

    /// Reads a batch back and seals what is whole. An error is one of the journal: then nothing was sealed that has no
    /// claim.
    pub fn settle(&mut self, batch: Synced<D>) -> io::Result<Vec<SettledFile>> {
        let mut files = batch.files;
        self.read_back_batch(&mut files);
        match self.seal(&mut files) {
            // What came back bad is told all the same: it is no longer held.
            Err(error) if is_full(&error) => {
                let good = files.iter_mut().filter(|file| file.bad.is_empty());
                good.for_each(|file| file.fail(SettleResult::Full));
            }
            other => other?,
        }
        let bad = files.iter().filter(|settling| settling.is_target_bad()).map(|settling| &settling.file.held);
        let doubted: Vec<_> = bad.map(|held| (held.target, held.inode)).collect();
        // Without the doubt on record the batch has no result, whatever the reason: the run ends.
        self.shared.doubt(&doubted).map_err(io::Error::other)?;
        Ok(files.into_iter().map(Settling::into_result).collect())
    }

    fn read_back_batch(&mut self, files: &mut [Settling<D>]) {
        let mut jobs = vec![];
        for (index, settling) in files.iter().enumerate() {
            let held = &settling.file.held;
            if settling.result.is_some() {
                held.mark_unread(&settling.file.chunks);
                continue;
            }
            let chunks = settling.chunks_to_read();
            for part in chunks.chunks(JOB_CHUNKS) {
                jobs.push((index, Arc::clone(held), part.to_vec()));
            }
        }
        let results = self.shared.pool.map(jobs, |(index, held, chunks)| (index, read_back_chunks(&held, &chunks)));
        for (index, result) in results {
            files[index].bad.extend(result.bad);
            files[index].verified_bytes += result.verified_bytes;
            self.observed.extend(result.observed);
        }
        for settling in files.iter_mut().filter(|settling| settling.result.is_none()) {
            self.read_again_if_touched(settling);
            if settling.result.is_none() {
                self.look_at_whole(settling);
            }
        }
    }

    /// A file that is to be sealed and was changed by somebody else since is synced and read back once more as a
    /// whole. One that is changed again meanwhile is left out.
    fn read_again_if_touched(&mut self, settling: &mut Settling<D>) {
        let held = Arc::clone(&settling.file.held);
        let Some(finish) = &settling.file.finish else { return };
        if held.is_untouched() {
            return;
        }
        // A write has changed the time as well.
        if !held.is_shared {
            settling.is_attributes_failed = held.change(|| held.file.set_metadata(finish.mode, finish.mtime)).is_err();
        }
        if held.sync().is_err() {
            self.shared.set_aside(&held);
            return settling.fail(SettleResult::SyncFailed);
        }
        let chunks = settling.chunks_to_read();
        let jobs: Vec<Vec<ChunkIndex>> = chunks.chunks(JOB_CHUNKS).map(<[ChunkIndex]>::to_vec).collect();
        for result in self.shared.pool.map(jobs, |chunks| read_back_chunks(&held, &chunks)) {
            settling.bad.extend(result.bad);
            self.observed.extend(result.observed);
        }
        if !held.is_untouched() {
            let result = self.shared.leave_out(held.entry, Reason::TargetChanged);
            settling.fail(result);
        }
    }

    /// A file that is to be sealed, and was just looked at, must be whole. What it lacks is told like what came back wrong;
    /// what came after the batch was closed is none of its business.
    fn look_at_whole(&self, settling: &mut Settling<D>) {
        let held = &settling.file.held;
        if settling.file.finish.is_none() {
            return;
        }
        let mut marks = locked(&held.marks);
        let is_of_length = held.seen_size() == Some(held.geometry.file_bytes());
        if !is_of_length {
            // Somebody else cut or grew it: nothing that was read before counts.
            marks.held.clear();
            marks.verified.clear();
        }
        let is_mine = !is_of_length || settling.file.is_whole(&marks);
        let missing = || marks.held.missing_below(held.geometry.chunk_count()).collect();
        let bad: Vec<u32> = if is_mine { missing() } else { std::mem::take(&mut settling.bad) };
        drop(marks);
        if !is_mine && held.place == Place::Target {
            // Nothing can be written there that is missing.
            return settling.fail(SettleResult::InodeLost);
        }
        if !is_of_length && (bad.is_empty() || held.place == Place::Target) {
            let result = self.shared.leave_out(held.entry, Reason::TargetChanged);
            return settling.fail(result);
        }
        settling.bad = bad;
    }

    /// Reads back chunks that an earlier run claimed durable. Tells those that differ.
    pub fn read_back(&mut self, handle: &Handle<D>, run: ChunkRun) -> Vec<u32> {
        let held = &handle.0;
        let chunks: Vec<ChunkIndex> = held.geometry.chunks(run).collect();
        let jobs: Vec<Vec<ChunkIndex>> = chunks.chunks(JOB_CHUNKS).map(<[ChunkIndex]>::to_vec).collect();
        let results = self.shared.pool.map(jobs, |chunks| read_back_chunks(held, &chunks));
        let mut bad = vec![];
        for result in results {
            bad.extend(result.bad);
            self.observed.extend(result.observed);
        }
        bad
    }
}

struct ReadBack {
    bad: Vec<u32>,
    verified_bytes: u64,
    observed: Vec<Observed>,
}

/// Reads chunks past the cache and compares them with their digests. One more read decides between a bad read and
/// bad data.
fn read_back_chunks<D: Disk>(held: &Held<D>, chunks: &[ChunkIndex]) -> ReadBack {
    let mut buffer = AlignedBuffer::default();
    let mut result = ReadBack { bad: vec![], verified_bytes: 0, observed: vec![] };
    for chunk in chunks {
        let offset = held.geometry.offset(*chunk);
        let observe = |found| Observed { entry: held.entry, offset, found };
        let is_good = is_as_written(held, *chunk, held.digests.get(chunk.get()), &mut buffer) || {
            let is_good = is_as_written(held, *chunk, held.digests.get_anew(chunk.get()), &mut buffer);
            result.observed.push(observe(if is_good { Found::BadRead } else { Found::ReadBack }));
            is_good
        };
        if is_good {
            result.verified_bytes += u64::from(held.geometry.chunk_len(*chunk));
        } else {
            held.mark_bad(*chunk);
            result.bad.push(chunk.get());
        }
    }
    result
}

fn is_as_written<D: Disk>(
    held: &Held<D>,
    chunk: ChunkIndex,
    expected: io::Result<ChunkDigest>,
    buffer: &mut AlignedBuffer,
) -> bool {
    let (offset, length) = (held.geometry.offset(chunk), held.geometry.chunk_len(chunk) as usize);
    let Ok(expected) = expected else { return false };
    let epoch = held.epoch();
    let Ok(level) = held.file.read_uncached_at(buffer, offset, length) else { return false };
    let is_good = buffer.bytes().len() == length && chunk_digest(held.geometry, chunk, buffer.bytes()) == expected;
    if is_good {
        held.mark_verified(chunk, level, epoch);
    }
    is_good
}

impl<D: Disk> Settling<D> {
    pub(super) fn new(file: BatchFile<D>) -> Settling<D> {
        let named = Named { number: file.held.number, equal: None };
        Settling { file, bad: vec![], verified_bytes: 0, result: None, is_attributes_failed: false, named }
    }

    /// What is still to be read back: what this batch wrote, and of a file that can be sealed everything that was not. A
    /// chunk that came since is not among it: it would be read back before its sync.
    fn chunks_to_read(&self) -> Vec<ChunkIndex> {
        let geometry = self.file.held.geometry;
        let marks = locked(&self.file.held.marks);
        let mut chunks = self.file.chunks.clone();
        if self.file.is_whole(&marks) {
            chunks.extend(marks.held.iter().filter(|chunk| !marks.verified.contains(*chunk)));
        }
        drop(marks);
        chunks.sort_unstable();
        chunks.dedup();
        chunks.into_iter().filter_map(|chunk| geometry.chunk(chunk)).collect()
    }

    /// Sets a result, unless there is a worse one.
    pub(super) fn fail(&mut self, result: SettleResult) {
        self.result.get_or_insert(result);
    }

    /// A target that was equal when it was compared is not any more. It is never written to.
    fn is_target_bad(&self) -> bool {
        self.file.held.place == Place::Target && !self.bad.is_empty()
    }

    fn into_result(mut self) -> SettledFile {
        if self.is_target_bad() {
            self.fail(SettleResult::InodeLost);
        }
        let durable = SettleResult::Durable { verified_bytes: self.verified_bytes, bad: self.bad };
        SettledFile { entry: self.file.held.entry, result: self.result.unwrap_or(durable) }
    }
}

impl<D: Disk> Shared<D> {
    pub(super) fn leave_out(&self, entry: EntryIndex, reason: Reason) -> SettleResult {
        let mut ledger = self.ledger();
        if !ledger.is_withdrawn(entry) {
            ledger.exceptions.insert(entry.0, Outcome::LeftOut(reason));
        }
        SettleResult::LeftOut(reason)
    }
}
