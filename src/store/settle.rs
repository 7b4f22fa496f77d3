//! Settling a batch: the one place that states the order of durable steps. Data sync, claim append, claim sync, read
//! back; then `seal.rs` for the files that are whole.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, BatchFile};
use super::intake::Handle;
use super::layout::LEFT_SUFFIX;
use super::staging::{Held, Place};
use super::{Shared, is_full, locked};
use crate::digest::{ChunkDigest, chunk_digest};
use crate::disk::{AlignedBuffer, Disk, DiskFile, Stat};
use crate::event::Found;
use crate::geometry::{ChunkIndex, ChunkRun, EntryIndex};
use crate::journal::{Claim, run_tag};
use crate::limits::SYNCFS_FILES_MIN;
use crate::manifest::Position;
use crate::outcome::{Outcome, Reason};
use crate::task::receiver::{SettleResult, SettledFile};

/// Chunks of one read-back job.
const JOB_CHUNKS: usize = 8;
/// A `syncfs` that takes longer than this for each file of its batch is slower than the pool would have been.
const SYNCFS_SLOW_PER_FILE: Duration = Duration::from_micros(300);
/// Time that a `syncfs` may always take.
const SYNCFS_SLOW_MIN: Duration = Duration::from_secs(2);

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
    pub(super) tree_finished_at: Option<Position>,
    observed: Vec<Observed>,
    /// Symlinks and directories that could not be made.
    pub(super) left_out: Vec<(EntryIndex, Reason)>,
    is_syncfs_slow: bool,
}

/// A file of a batch with what has become of it so far.
pub(super) struct Settling<D: Disk> {
    pub(super) file: BatchFile<D>,
    pub(super) bad: Vec<u32>,
    pub(super) verified_bytes: u64,
    pub(super) result: Option<SettleResult>,
    pub(super) is_attributes_failed: bool,
}

impl<D: Disk> Settler<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Settler<D> {
        Settler { shared, tree_finished_at: None, observed: vec![], left_out: vec![], is_syncfs_slow: false }
    }

    /// Wrong bytes met since the last call.
    pub fn take_observed(&mut self) -> Vec<Observed> {
        std::mem::take(&mut self.observed)
    }

    /// Symlinks and directories that were left out since the last call. Files are told where they are settled.
    pub fn take_left_out(&mut self) -> Vec<(EntryIndex, Reason)> {
        std::mem::take(&mut self.left_out)
    }

    /// Makes a batch durable, claims it, reads it back and seals what is whole. An error is one of the journal: then
    /// nothing was sealed that has no claim.
    pub fn settle(&mut self, batch: Batch<D>) -> io::Result<Vec<SettledFile>> {
        let mut files: Vec<Settling<D>> = batch.files.into_values().map(Settling::new).collect();
        self.set_metadata(&mut files);
        self.sync_files(&mut files);
        match self.claim_durable(&files) {
            Err(error) if is_full(&error) => files.iter_mut().for_each(|file| file.fail(SettleResult::Full)),
            other => other?,
        }
        self.read_back_batch(&mut files);
        match self.seal(&mut files) {
            Err(error) if is_full(&error) => files.iter_mut().for_each(|file| file.fail(SettleResult::Full)),
            other => other?,
        }
        let bad = files.iter().filter(|settling| settling.is_target_bad()).map(|settling| &settling.file.held);
        let doubted: Vec<_> = bad.map(|held| (held.path, held.inode)).collect();
        self.shared.doubt(&doubted)?;
        Ok(files.into_iter().map(Settling::into_result).collect())
    }

    /// Final mode and times go on before the sync, so that one sync covers bytes and attributes.
    fn set_metadata(&self, files: &mut [Settling<D>]) {
        for settling in files {
            let Some(finish) = &settling.file.finish else { continue };
            let held = &settling.file.held;
            let is_right = |stat: crate::disk::Stat| stat.mode & 0o777 == finish.mode && stat.mtime == finish.mtime;
            if held.place == Place::Target && held.file.stat().is_ok_and(is_right) {
                continue;
            }
            // An abandoned staging file may be another entry's by now.
            let is_abandoned = locked(&held.marks).is_abandoned;
            if !is_abandoned {
                let set = held.change(|| held.file.set_metadata(finish.mode, finish.mtime));
                settling.is_attributes_failed = set.is_err();
            }
        }
    }

    /// After a failed sync an inode is never synced again: its pages may be clean and gone.
    fn sync_files(&mut self, files: &mut [Settling<D>]) {
        let is_synced = self.sync_whole(files.len());
        let shared = &self.shared;
        let is_open = |settling: &&mut Settling<D>| {
            let held = &settling.file.held;
            !is_synced || (held.place == Place::Target && shared.is_elsewhere(held.file.stat()))
        };
        let jobs: Vec<&mut Settling<D>> = files.iter_mut().filter(is_open).collect();
        self.shared.pool.map(jobs, |settling| {
            if settling.file.held.file.sync().is_err() {
                self.shared.set_aside(&settling.file.held);
                settling.fail(SettleResult::SyncFailed);
            }
        });
    }

    /// One `syncfs` for many new files, where that is known to be good and was quick the last time.
    fn sync_whole(&mut self, count: usize) -> bool {
        if count < SYNCFS_FILES_MIN || self.is_syncfs_slow {
            return false;
        }
        let root = &self.shared.layout.staging;
        if !self.shared.disk.space(root).is_ok_and(|space| space.is_syncfs_good) {
            return false;
        }
        let started = Instant::now();
        let is_done = self.shared.disk.sync_file_system(root).is_ok();
        let per_file = SYNCFS_SLOW_PER_FILE * u32::try_from(count).unwrap_or(u32::MAX);
        self.is_syncfs_slow = started.elapsed() > per_file.max(SYNCFS_SLOW_MIN);
        is_done
    }

    /// Claims what the sync has covered. A file of one chunk that is being sealed needs no claim of its own: if the
    /// seal does not come, reading its one chunk again costs less than a claim for each such file.
    fn claim_durable(&self, files: &[Settling<D>]) -> io::Result<()> {
        let mut claims = vec![];
        for settling in files.iter().filter(|settling| settling.result.is_none()) {
            let held = &settling.file.held;
            let is_small = settling.file.finish.is_some() && held.geometry.chunk_count() == 1;
            if is_small || held.place == Place::Target {
                continue;
            }
            for run in runs_of(&settling.file.chunks) {
                let digests: io::Result<Vec<_>> =
                    (run.first..run.first + run.count).map(|chunk| held.digests.get(chunk)).collect();
                let tag = run_tag(&digests?);
                claims.push(Claim::Durable { entry: held.entry, inode: held.inode, run, tag });
            }
        }
        if claims.is_empty() {
            return Ok(());
        }
        // A claim is worth nothing if a power cut takes the staging file's name.
        self.shared.disk.sync_dir(&self.shared.layout.staging)?;
        let mut journal = locked(&self.shared.journal);
        journal.append(&claims)?;
        journal.sync()
    }

    fn read_back_batch(&mut self, files: &mut [Settling<D>]) {
        let mut jobs = vec![];
        for (index, settling) in files.iter().enumerate().filter(|(_, settling)| settling.result.is_none()) {
            let held = &settling.file.held;
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
        settling.is_attributes_failed = held.change(|| held.file.set_metadata(finish.mode, finish.mtime)).is_err();
        if held.file.sync().is_err() {
            self.shared.set_aside(&held);
            return settling.fail(SettleResult::SyncFailed);
        }
        let chunks = settling.chunks_to_read();
        let jobs: Vec<Vec<ChunkIndex>> = chunks.chunks(JOB_CHUNKS).map(<[ChunkIndex]>::to_vec).collect();
        for result in self.shared.pool.map(jobs, |chunks| read_back_chunks(&held, &chunks)) {
            self.observed.extend(result.observed);
        }
        if !held.is_untouched() {
            let result = self.shared.leave_out(held.entry, Reason::TargetChanged);
            settling.fail(result);
        }
    }

    /// A file that is to be sealed must be whole. What it lacks is told like what came back wrong.
    fn look_at_whole(&self, settling: &mut Settling<D>) {
        let held = &settling.file.held;
        if settling.file.finish.is_none() {
            return;
        }
        let is_of_length = held.file.stat().is_ok_and(|stat| stat.size == held.geometry.file_bytes());
        let mut marks = locked(&held.marks);
        if !is_of_length {
            // Somebody else cut or grew it: nothing that was read before counts.
            marks.held.clear();
            marks.verified.clear();
        }
        let bad: Vec<u32> = marks.held.missing_below(held.geometry.chunk_count()).collect();
        drop(marks);
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
    let Ok(level) = held.file.read_uncached_at(buffer, offset, length) else { return false };
    let is_good = buffer.bytes().len() == length && chunk_digest(held.geometry, chunk, buffer.bytes()) == expected;
    if is_good {
        held.mark_verified(chunk, level);
    }
    is_good
}

impl<D: Disk> Settling<D> {
    fn new(file: BatchFile<D>) -> Settling<D> {
        Settling { file, bad: vec![], verified_bytes: 0, result: None, is_attributes_failed: false }
    }

    /// What is still to be read back: of a file that can be sealed, everything that was not; else what this batch wrote.
    /// A chunk that came since is not among it: it would be read back before its sync.
    fn chunks_to_read(&self) -> Vec<ChunkIndex> {
        let geometry = self.file.held.geometry;
        let mut chunks: Vec<ChunkIndex> = match self.file.is_whole {
            false => self.file.chunks.iter().filter_map(|chunk| geometry.chunk(*chunk)).collect(),
            true => {
                let marks = locked(&self.file.held.marks);
                let unread = marks.held.iter().filter(|chunk| !marks.verified.contains(*chunk));
                unread.filter_map(|chunk| geometry.chunk(chunk)).collect()
            }
        };
        chunks.sort_unstable();
        chunks.dedup();
        chunks
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
    /// Whether something lies on another file system than the target directory, below a mount: no `syncfs` of the
    /// target's covers it. What cannot be looked at counts as elsewhere.
    pub(super) fn is_elsewhere(&self, stat: io::Result<Stat>) -> bool {
        !stat.is_ok_and(|stat| stat.device == self.device)
    }

    /// An inode whose sync failed: a later sync would succeed and mean nothing. This process knows that, and gives
    /// the file a new inode; the next one is told at once, in case that it comes before.
    fn set_aside(&self, held: &Held<D>) {
        let done = match held.place {
            Place::Target => self.doubt(&[(held.path, held.inode)]),
            Place::Staging => self.set_staging_aside(held),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "an inode whose sync failed could not be set aside");
        }
    }

    /// Another name, none, or no bytes: whichever the disk grants first keeps the next process from taking it in place.
    /// Not if it is under its final name by now, or abandoned and its name another entry's.
    fn set_staging_aside(&self, held: &Held<D>) -> io::Result<()> {
        let (disk, staging, name) = (&self.disk, &self.layout.staging, held.name());
        // Held until it is done, so that the name is not given away meanwhile.
        let _marks = locked(&held.marks);
        match disk.stat(staging, &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(stat) if stat.inode != held.inode => return Ok(()),
            Ok(_) => (),
        }
        disk.replace(staging, &name, staging, &[&name[..], LEFT_SUFFIX].concat())
            .or_else(|_| disk.remove(staging, &name))
            .or_else(|_| held.file.set_len(0))
    }

    pub(super) fn leave_out(&self, entry: EntryIndex, reason: Reason) -> SettleResult {
        let mut ledger = self.ledger();
        if !ledger.is_withdrawn(entry) {
            ledger.exceptions.insert(entry.0, Outcome::LeftOut(reason));
        }
        SettleResult::LeftOut(reason)
    }
}

/// Chunk numbers, in any order and perhaps repeated, as ascending runs.
fn runs_of(chunks: &[u32]) -> Vec<ChunkRun> {
    let mut sorted = chunks.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<ChunkRun> = vec![];
    for chunk in sorted {
        match runs.last_mut() {
            Some(run) if run.first + run.count == chunk => run.count += 1,
            _ => runs.push(ChunkRun { first: chunk, count: 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_ascending_runs() {
        let run = |first, count| ChunkRun { first, count };
        assert_eq!(runs_of(&[3, 1, 2, 7, 2]), [run(1, 3), run(7, 1)]);
        assert!(runs_of(&[]).is_empty());
    }
}
