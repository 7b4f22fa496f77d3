//! The first half of settling a batch: data sync, claim append, claim sync. What it hands on is durable; `settle.rs` reads
//! it back, while this half may be at work for the next batch.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::layout::LEFT_SUFFIX;
use super::settle::Settling;
use super::staging::{Held, Place};
use super::{Shared, is_full, locked};
use crate::disk::{Disk, DiskFile, Stat};
use crate::geometry::ChunkRun;
use crate::journal::{Claim, run_tag};
use crate::limits::SYNCFS_FILES_MIN;
use crate::task::receiver::SettleResult;

/// A `syncfs` that takes longer than this for each file of its batch is slower than the pool would have been.
const SYNCFS_SLOW_PER_FILE: Duration = Duration::from_micros(300);
/// Time that a `syncfs` may always take.
const SYNCFS_SLOW_MIN: Duration = Duration::from_secs(2);

/// See the module.
pub struct Syncer<D: Disk> {
    shared: Arc<Shared<D>>,
    is_syncfs_slow: bool,
}

/// A batch that was synced and claimed, but for those of its files that have a result already.
pub struct Synced<D: Disk> {
    pub(super) files: Vec<Settling<D>>,
}

impl<D: Disk> Syncer<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Syncer<D> {
        Syncer { shared, is_syncfs_slow: false }
    }

    /// Makes a batch durable and claims it. An error is one of the journal.
    pub fn make_durable(&mut self, batch: Batch<D>) -> io::Result<Synced<D>> {
        let mut files: Vec<Settling<D>> = batch.files.into_values().map(Settling::new).collect();
        self.set_metadata(&mut files);
        self.sync_files(&mut files);
        match self.claim_durable(&files) {
            Err(error) if is_full(&error) => files.iter_mut().for_each(|file| file.fail(SettleResult::Full)),
            other => other?,
        }
        Ok(Synced { files })
    }

    /// Final mode and times go on before the sync, so that one sync covers bytes and attributes.
    fn set_metadata(&self, files: &mut [Settling<D>]) {
        for settling in files {
            let Some(finish) = &settling.file.finish else { continue };
            let held = &settling.file.held;
            let is_right = |stat: Stat| stat.mode & 0o777 == finish.mode && stat.mtime == finish.mtime;
            if held.place == Place::Target && held.file.stat().is_ok_and(is_right) {
                continue;
            }
            if held.is_shared {
                settling.is_attributes_failed = true;
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
            let is_covered = is_synced && !(held.place == Place::Target && shared.is_elsewhere(held.file.stat()));
            !is_covered || held.is_sync_failed()
        };
        let jobs: Vec<&mut Settling<D>> = files.iter_mut().filter(is_open).collect();
        self.shared.pool.map(jobs, |settling| {
            if settling.file.held.sync().is_err() {
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
}

impl<D: Disk> Shared<D> {
    /// Whether something lies on another file system than the target directory, below a mount: no `syncfs` of the
    /// target's covers it. What cannot be looked at counts as elsewhere.
    pub(super) fn is_elsewhere(&self, stat: io::Result<Stat>) -> bool {
        !stat.is_ok_and(|stat| stat.device == self.device)
    }

    /// An inode whose sync failed: a later sync would succeed and mean nothing. This process knows that, and gives
    /// the file a new inode; the next one is told at once, in case that it comes before.
    pub(super) fn set_aside(&self, held: &Held<D>) {
        let done = match held.place {
            Place::Target => self.doubt(&[(held.target, held.inode)]),
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
