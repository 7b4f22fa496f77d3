//! The half that takes in: records into the log, verified chunks into staging, and whole files into the open batch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::adopt::Candidate;
use super::batch::Batch;
use super::elsewhere::Elsewhere;
use super::journal_file::Journal;
use super::staging::{Finish, Held, Place};
use super::{Ledger, Shared, is_full, locked};
use crate::digest::{Folder, PathHash, ReceivedChunk, Verdict, VerifiedChunk, path_hash, verify};
use crate::disk::{Disk, DiskFile};
use crate::geometry::{ChunkId, ChunkIndex, ChunkRun, EntryIndex, Geometry};
use crate::manifest::{Position, Record, Step};
use crate::outcome::{Outcome, Reason};
use crate::path::RelPath;
use crate::state::log::{AppendError, ManifestLog};
use crate::task::receiver::{Chunk, Input, Noted, OtherKind, SealClaim, WriteError};
use crate::wire::{Body, ChunkHeader, split_records};

/// Write-back of a large file is started in pieces of this many bytes, so that no sync finds everything dirty.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// Which entry a path belongs to.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    latest: HashMap<PathHash, u32>,
    /// Entries whose path an earlier, living entry has.
    pub(crate) collisions: BTreeSet<u32>,
    /// Entries whose path an earlier entry had that was withdrawn since.
    pub(crate) repeated: BTreeSet<u32>,
}

impl Paths {
    /// Whether this is the path that an entry was introduced with: if not, the log was damaged since.
    pub(crate) fn is_of(&self, path: PathHash, entry: EntryIndex) -> bool {
        self.latest.get(&path) == Some(&entry.0)
    }

    /// Takes a record of the log, in order.
    pub(crate) fn note(&mut self, record: &Record, step: Step, ledger: &mut Ledger) {
        match (step, record.path()) {
            (Step::Introduced(entry), Some(path)) => {
                let hash = path_hash(path);
                match self.latest.get(&hash) {
                    Some(earlier) if !ledger.withdrawn.contains(earlier) => {
                        self.collisions.insert(entry.0);
                    }
                    _ => {
                        if self.latest.insert(hash, entry.0).is_some() {
                            self.repeated.insert(entry.0);
                        }
                    }
                }
                if !matches!(record, Record::Begin { .. }) {
                    ledger.others.push(entry.0);
                }
            }
            (Step::Withdrawn(entry), _) => ledger.withdraw(entry),
            _ => (),
        }
    }
}

/// What the brain has to know of a record.
pub(crate) fn noted<D: Disk>(record: &Record, step: Step, journal: &Journal<D>) -> Noted {
    match (step, record) {
        (Step::Introduced(entry), Record::Begin { size, .. }) => {
            let claim = if journal.is_sealed(entry) { SealClaim::Claimed } else { SealClaim::None };
            Noted::File { size: *size, claim }
        }
        (Step::Introduced(_), Record::Directory { .. }) => Noted::Other { kind: OtherKind::Directory },
        (Step::Introduced(_), Record::LeftOut { reason, .. }) => Noted::Other { kind: OtherKind::LeftOut(*reason) },
        (Step::Introduced(_), _) => Noted::Other { kind: OtherKind::Symlink },
        (Step::Digests { first, count, .. }, _) => Noted::DigestsTo(first + count),
        (Step::Ended(_), _) => Noted::Ended,
        (Step::Withdrawn(entry), _) => Noted::Withdrawn(entry),
        (Step::Completed, _) => Noted::Complete,
    }
}

/// A chunk that may be written to the file that it came for.
struct Arrival<D: Disk> {
    place: Chunk,
    held: Arc<Held<D>>,
    received: ReceivedChunk,
}

impl<D: Disk> Arrival<D> {
    /// Verifies it and writes it: its length, or what the brain is to hear instead.
    fn take_in(&self) -> Result<u32, Input> {
        let (held, place, chunk) = (&self.held, self.place, self.received.id.chunk.get());
        let differs = || Input::Differed(place);
        let expected = held.digests.get(chunk).map_err(|_| differs())?;
        let verdict = match verify(held.geometry, self.received.clone(), expected) {
            Verdict::Mismatch { actual, .. } => match held.digests.get_anew(chunk) {
                Ok(anew) if anew == actual => verify(held.geometry, self.received.clone(), anew),
                _ => return Err(differs()),
            },
            verdict => verdict,
        };
        match verdict {
            Verdict::Mismatch { .. } => Err(differs()),
            Verdict::Match(verified) => {
                put(held, &verified).map_err(|error| Input::WriteFailed(place, write_error(&error)))
            }
        }
    }
}

fn write_error(error: &io::Error) -> WriteError {
    if is_full(error) { WriteError::Full } else { WriteError::Failed }
}

/// Writes a chunk that is proved to be what the manifest says. That it is held is still to be noted.
fn put<D: Disk>(held: &Held<D>, chunk: &VerifiedChunk) -> io::Result<u32> {
    let index = chunk.id().chunk;
    let (offset, length) = (held.geometry.offset(index), held.geometry.chunk_len(index));
    held.change(|| match chunk.bytes() {
        Some(bytes) => held.file.write_all_at(bytes, offset),
        None => {
            if held.geometry.chunk_count() == 1 {
                held.file.set_len(u64::from(length))?;
            }
            held.file.punch(offset, u64::from(length))
        }
    })?;
    let end = offset + u64::from(length);
    if chunk.bytes().is_some() && held.geometry.chunk_count() > 1 && end / WRITEBACK_BYTES > offset / WRITEBACK_BYTES {
        let start = end.saturating_sub(end % WRITEBACK_BYTES).saturating_sub(WRITEBACK_BYTES);
        held.file.start_writeback(start, end - start);
    }
    Ok(length)
}

/// See the module.
pub struct Intake<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) paths: Paths,
    /// Names in staging that an earlier run left.
    pub(super) staged: HashSet<Vec<u8>>,
    /// Entries that were looked at and may be received: what comes for others is not taken.
    pub(super) accepted: HashSet<u32>,
    /// Files that are being received.
    pub(super) held: BTreeMap<u32, Arc<Held<D>>>,
    /// Files that are being compared with what is there.
    pub(super) candidates: BTreeMap<u32, Candidate<D>>,
    /// Entries whose target may be replaced although the policy refuses: it is ours.
    pub(super) ours: BTreeSet<u32>,
    /// Inodes of entries that were left when they had one of their names with a number already.
    pub(super) left_inodes: BTreeMap<u32, u64>,
    /// What the target has under other names.
    pub(super) elsewhere: Elsewhere,
    pub(super) batch: Batch<D>,
    /// Batches that were closed, and those of them that were settled since.
    closed_batches: u64,
    /// What the batch that was closed last lacks of files that it was to seal.
    missing: Vec<(EntryIndex, Vec<u32>)>,
    pub(super) settled_batches: u64,
    /// Something that was read from the log is not what was appended.
    pub(super) is_log_suspect: bool,
    /// Where the sender's log ends, as far as it has said.
    settled_at: Option<Position>,
}

impl<D: Disk> Intake<D> {
    pub(super) fn new(shared: Arc<Shared<D>>, paths: Paths, staged: HashSet<Vec<u8>>) -> Intake<D> {
        Intake {
            shared,
            paths,
            staged,
            accepted: HashSet::new(),
            held: BTreeMap::new(),
            candidates: BTreeMap::new(),
            ours: BTreeSet::new(),
            left_inodes: BTreeMap::new(),
            elsewhere: Elsewhere::default(),
            batch: Batch::default(),
            closed_batches: 0,
            missing: vec![],
            settled_batches: 0,
            is_log_suspect: false,
            settled_at: None,
        }
    }

    /// Appends the records of one message to the log. Those before a bad one are appended and told.
    pub fn append(&mut self, page: &[u8], notes: &mut Vec<Noted>) -> Result<(), AppendError> {
        let records = split_records(page).map_err(|_| crate::manifest::DecodeError::Malformed)?;
        let shared = Arc::clone(&self.shared);
        let _open = locked(&shared.gate);
        let journal = locked(&shared.journal);
        let mut ledger = shared.ledger();
        shared.with_log_mut(|log| {
            log.append(records, |record, step| {
                self.paths.note(record, step, &mut ledger);
                notes.push(noted(record, step, &journal));
            })
        })?;
        if self.is_senders() { Ok(()) } else { Err(AppendError::Parted) }
    }

    /// The sender says that its log ends, or will end, at this position. If this one does not go through it, a record was
    /// changed on its way, above what the link protects; then the log is like a damaged one, and the next link finds
    /// where the two part.
    pub fn settled_at(&mut self, position: Position) -> Input {
        self.settled_at = Some(position);
        if self.is_senders() { Input::Settled(position.record_count) } else { Input::LogChecked(false) }
    }

    /// A new link: the sender on it may have made the rest of its log anew.
    pub fn begin_link(&mut self) {
        self.settled_at = None;
    }

    /// Whether the log goes through the position at which the sender's ends, once it has come there.
    fn is_senders(&mut self) -> bool {
        let Some(position) = self.settled_at else { return true };
        let (is_there, is_found) = self.shared.with_log(|log| {
            let is_there = log.position().record_count >= position.record_count;
            (is_there, is_there && log.find(position).is_ok_and(|found| found.is_some()))
        });
        if is_found {
            self.settled_at = None;
        }
        is_found || !is_there
    }

    /// Writes what [`Intake::append`] could not write.
    pub fn finish_append(&mut self) -> Result<(), AppendError> {
        self.shared.with_log_mut(ManifestLog::finish_writing).map_err(AppendError::Io)?;
        if self.is_senders() { Ok(()) } else { Err(AppendError::Parted) }
    }

    /// Takes one chunk as it came: verifies it and writes it to staging.
    pub fn receive(&mut self, header: ChunkHeader, bytes: Option<bytes::Bytes>) -> Input {
        match self.admit(header, bytes) {
            Ok(arrival) => self.note(&arrival, arrival.take_in()),
            Err(input) => input,
        }
    }

    /// Takes several chunks, in their order; one is hashed while another is written. No two are of the same place.
    pub fn receive_all(&mut self, chunks: Vec<(ChunkHeader, Option<bytes::Bytes>)>) -> Vec<Input> {
        let admitted: Vec<_> = chunks.into_iter().map(|(header, bytes)| self.admit(header, bytes)).collect();
        let pool = self.shared.pool;
        let taken = pool.map(admitted, |admitted| {
            admitted.map(|arrival| {
                let taken = arrival.take_in();
                (arrival, taken)
            })
        });
        let note = |taken: Result<(Arrival<D>, Result<u32, Input>), Input>| match taken {
            Ok((arrival, taken)) => self.note(&arrival, taken),
            Err(input) => input,
        };
        taken.into_iter().map(note).collect()
    }

    /// What there is to do with a chunk, unless that is known already.
    fn admit(&mut self, header: ChunkHeader, bytes: Option<bytes::Bytes>) -> Result<Arrival<D>, Input> {
        let place = Chunk { entry: header.entry.0, chunk: header.chunk };
        if let Body::Gone(reason) = header.body {
            return Err(Input::Gone(place, reason));
        }
        let held = match self.held_for(header.entry) {
            Ok(Some(held)) => held,
            Ok(None) => return Err(Input::WriteFailed(place, WriteError::Stale)),
            Err(error) => return Err(Input::WriteFailed(place, write_error(&error))),
        };
        let Some(chunk) = held.geometry.chunk(header.chunk) else {
            return Err(Input::WriteFailed(place, WriteError::Stale));
        };
        {
            let marks = locked(&held.marks);
            // It came twice: once on a link that was lost since.
            if marks.held.contains(header.chunk) {
                return Err(Input::Written(place, 0));
            }
            if marks.is_frozen() {
                return Err(Input::WriteFailed(place, WriteError::Stale));
            }
        }
        Ok(Arrival { place, held, received: ReceivedChunk { id: ChunkId { entry: header.entry, chunk }, bytes } })
    }

    fn note(&mut self, arrival: &Arrival<D>, taken: Result<u32, Input>) -> Input {
        match taken {
            Ok(length) => {
                self.note_written(&arrival.held, arrival.received.id.chunk);
                Input::Written(arrival.place, length)
            }
            Err(input) => input,
        }
    }

    fn note_written(&mut self, held: &Arc<Held<D>>, chunk: ChunkIndex) {
        held.mark_held(chunk);
        self.batch.add_chunk(held, chunk.get());
    }

    /// Writes a chunk that is proved to be what the manifest says.
    pub(super) fn write(&mut self, held: &Arc<Held<D>>, chunk: &VerifiedChunk) -> io::Result<u32> {
        let length = put(held, chunk)?;
        self.note_written(held, chunk.id().chunk);
        Ok(length)
    }

    /// The open staging file of an entry that is being received, made at its first chunk.
    pub(super) fn held_for(&mut self, entry: EntryIndex) -> io::Result<Option<Arc<Held<D>>>> {
        if let Some(held) = self.held.get(&entry.0) {
            // A target that is adopted in its place is never written to.
            return Ok((held.place == Place::Staging).then(|| Arc::clone(held)));
        }
        let is_gone = {
            let ledger = self.shared.ledger();
            ledger.is_withdrawn(entry) || ledger.level(entry).is_some() || ledger.exceptions.contains_key(&entry.0)
        };
        if is_gone || !self.accepted.contains(&entry.0) {
            return Ok(None);
        }
        self.make_held(entry).map(Some)
    }

    /// Puts a file of which every chunk is held into the open batch, to be sealed.
    pub fn finish(&mut self, entry: EntryIndex) -> Result<(), Input> {
        if self.shared.ledger().is_withdrawn(entry) {
            return Ok(());
        }
        let failed = |error: &io::Error| Input::FinishFailed(entry, write_error(error));
        let held = match self.held.get(&entry.0) {
            Some(held) => Some(Arc::clone(held)),
            None => self.held_for(entry).map_err(|error| failed(&error))?,
        };
        let Some(held) = held else { return Ok(()) };
        match self.finish_of(&held) {
            Ok(finish) => self.batch.add_finish(&held, finish),
            // The brain hears of a damaged log instead, and starts anew.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.is_log_suspect = true,
            Err(error) => return Err(failed(&error)),
        }
        Ok(())
    }

    /// What a whole file is to become. Its digests fold into the file's digest, and its path is the one that it was
    /// introduced with; else the log is not what was appended.
    fn finish_of(&self, held: &Held<D>) -> io::Result<Finish> {
        let (path, end) = self.shared.with_log(|log| {
            let introduction = log.introduction(held.entry)?;
            let path = introduction.path().cloned();
            io::Result::Ok((path, log.end_of(&held.digests)?))
        })?;
        let (Some(path), Record::End { digest, mode, mtime, .. }) = (path, end) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut folder = Folder::default();
        for chunk in held.geometry.chunks(whole(held.geometry)) {
            folder.push(held.digests.get(chunk.get())?);
        }
        if folder.finish() != digest || !self.paths.is_of(path_hash(&path), held.entry) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let is_replacing = self.shared.policy.existing == crate::options::Existing::Replace;
        let may_replace = is_replacing || self.ours.contains(&held.entry.0);
        let left_inode = self.left_inodes.get(&held.entry.0).copied();
        Ok(Finish { path, digest, mode: u32::from(mode), mtime, may_replace, left_inode })
    }

    /// Forgets a file. Its staging file stays: the best guess at whatever version follows.
    pub fn abandon(&mut self, entry: EntryIndex, reason: Option<Reason>) {
        if let Some(held) = self.held.remove(&entry.0) {
            held.give_up();
            if held.place == Place::Staging {
                self.staged.insert(held.name());
            }
        }
        self.batch.remove(entry.0);
        self.candidates.remove(&entry.0);
        self.ours.remove(&entry.0);
        self.left_inodes.remove(&entry.0);
        self.accepted.remove(&entry.0);
        if let Some(reason) = reason {
            self.shared.ledger().exceptions.insert(entry.0, Outcome::LeftOut(reason));
        }
    }

    /// The open batch, closed. Files of it that are to be sealed accept no more chunks. Those that have lost one since
    /// they were whole are not sealed by this batch: what comes for them from now on no sync of it is sure to cover, and
    /// belongs to the next.
    pub fn close_batch(&mut self) -> Batch<D> {
        let mut batch = std::mem::take(&mut self.batch);
        self.closed_batches += 1;
        for file in batch.files.values_mut() {
            let mut marks = locked(&file.held.marks);
            file.chunks.retain(|chunk| marks.held.contains(*chunk));
            if file.finish.is_none() {
                continue;
            }
            if marks.held.is_full() {
                file.whole_at = Some(marks.writes);
                marks.sealed_by = Some(self.closed_batches);
            } else {
                let missing = marks.held.missing_below(file.held.geometry.chunk_count()).collect();
                self.missing.push((file.held.entry, missing));
            }
        }
        batch
    }

    /// What the brain has to hear before a batch that was closed is passed on, if there is something.
    pub fn take_missing(&mut self) -> Option<Input> {
        let missing = std::mem::take(&mut self.missing);
        (!missing.is_empty()).then_some(Input::Missing(missing))
    }

    /// Forgets the handles of files that were sealed. One that is to be sealed once more, since a chunk of it came back
    /// bad and was written again meanwhile, is not touched again.
    pub fn release(&mut self, sealed: impl IntoIterator<Item = EntryIndex>) {
        for entry in sealed {
            self.batch.remove(entry.0);
            if let Some(held) = self.held.remove(&entry.0) {
                self.staged.remove(&held.name());
            }
            self.ours.remove(&entry.0);
            self.left_inodes.remove(&entry.0);
            self.accepted.remove(&entry.0);
        }
    }

    /// A file that could not be sealed with the batch that was settled last accepts chunks again, unless a later one is
    /// to seal it.
    pub fn thaw(&mut self, entry: EntryIndex) {
        if let Some(held) = self.held.get(&entry.0) {
            let mut marks = locked(&held.marks);
            marks.sealed_by = marks.sealed_by.filter(|batch| *batch > self.settled_batches);
        }
    }

    /// The handle of a file, for the settler.
    pub fn handle(&self, entry: EntryIndex) -> Option<Handle<D>> {
        self.held.get(&entry.0).map(|held| Handle(Arc::clone(held)))
    }

    /// Whether the log on disk is what was appended.
    pub fn is_log_undamaged(&self) -> bool {
        self.shared.with_log(|log| log.is_undamaged().unwrap_or(false))
    }

    /// Free bytes and inodes beyond the reserve.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        const RESERVE_BYTES_MAX: u64 = 2 << 30;
        let space = self.shared.disk.space(&self.shared.layout.root)?;
        let usual = (space.bytes_total / 20).min(RESERVE_BYTES_MAX);
        let reserve = self.shared.policy.reserve_bytes.unwrap_or(usual);
        Ok((space.bytes_free.saturating_sub(reserve), space.inodes_free.unwrap_or(u64::MAX)))
    }
}

/// A held file, for whoever may only pass it on.
pub struct Handle<D: Disk>(pub(super) Arc<Held<D>>);

/// Geometry and path of an entry that is a file.
pub(super) struct FileEntry<D: Disk> {
    pub(super) path: RelPath,
    pub(super) geometry: Geometry,
    pub(super) digests: crate::state::log::DigestTable<D::File>,
}

impl<D: Disk> Shared<D> {
    pub(super) fn file_entry(&self, entry: EntryIndex) -> io::Result<FileEntry<D>> {
        let (record, geometry, digests) = self.with_log(|log| log.file(entry))?;
        match record {
            Record::Begin { path, .. } => Ok(FileEntry { path, geometry, digests }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Every chunk of a geometry, as one run.
pub(super) fn whole(geometry: Geometry) -> ChunkRun {
    ChunkRun { first: 0, count: geometry.chunk_count() }
}
