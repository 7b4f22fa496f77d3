//! Adopting: read a candidate past the cache, verify it chunk by chunk, and take what matches: in its place if it is
//! the staging file or a target that turns out to be equal, else by copying into staging.

use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::intake::{Intake, whole};
use super::staging::{Held, Origin, Place};
use super::{Shared, locked};
use crate::attributes::{Level, Stamps};
use crate::digest::{PathHash, ReceivedChunk, Verdict, VerifiedChunk, chunk_digest, is_zero, path_hash, verify};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile};
use crate::geometry::{ChunkId, ChunkIndex, EntryIndex};
use crate::limits::SYNCFS_FILES_MIN;
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::state::log::DigestTable;
use crate::task::receiver::{AdoptItem, AdoptedItem};

/// What an entry is compared with.
pub(crate) struct Candidate<D: Disk> {
    /// Something under the final name, or under another one of the target.
    pub(super) target: Option<Arc<D::File>>,
    /// The target before its first byte was compared.
    pub(super) stamps: Option<Stamps>,
    /// The target may turn out to be equal as a whole: nothing is copied until it is known not to be.
    pub(super) is_comparing: bool,
    /// A claim with the target's stamps says that it is as it was sealed. It is voided before the first byte is read:
    /// if that turns out to differ, the next start must not go by the claim, however soon it comes.
    pub(super) is_claimed: bool,
    /// Why a target that differs may not be replaced.
    pub(super) replace: Result<(), Reason>,
    /// Which name the target has.
    pub(super) origin: Origin,
    /// The number in the target's name, if it is not the entry's own.
    pub(super) number: Option<NonZeroU16>,
    /// Then the file that has the entry's own name: what matches of it is copied if no other turns out to be equal.
    pub(super) own: Option<Arc<D::File>>,
}

impl<D: Disk> Candidate<D> {
    /// A staging file, and perhaps a target beside it.
    pub(crate) fn copying(target: Option<Candidate<D>>, may_rename: bool) -> Candidate<D> {
        match target {
            // What may have to get another name is compared all the same.
            Some(target) if may_rename => target,
            Some(target) => Candidate { is_comparing: target.replace.is_err(), ..target },
            None => Candidate::without_target(),
        }
    }

    /// A file of the target under another name: what matches of it is copied.
    pub(super) fn elsewhere(target: Arc<D::File>) -> Candidate<D> {
        Candidate { target: Some(target), origin: Origin::OtherName, ..Candidate::without_target() }
    }

    /// The file that has the entry's own name and stays there, if it is a file: what matches of it is copied.
    pub(super) fn of_own_name(target: Option<Arc<D::File>>) -> Candidate<D> {
        Candidate { target, ..Candidate::without_target() }
    }

    /// Its target, if nobody else has a hand on it.
    fn take_target(&mut self) -> Option<D::File> {
        match Arc::try_unwrap(self.target.take()?) {
            Ok(target) => Some(target),
            Err(target) => {
                self.target = Some(target);
                None
            }
        }
    }

    fn without_target() -> Candidate<D> {
        Candidate {
            target: None,
            stamps: None,
            is_comparing: false,
            is_claimed: false,
            replace: Ok(()),
            origin: Origin::SameName,
            number: None,
            own: None,
        }
    }
}

/// Where a chunk was found.
enum Match {
    /// In a target that may be taken as it is, with the level of the read.
    Equal(Level),
    /// In the staging file, or else in a target: to be written, in the staging file to where it is already.
    ToWrite(VerifiedChunk, Place),
    /// Nowhere.
    Nowhere,
}

struct Probe<D: Disk> {
    item: usize,
    chunk: ChunkIndex,
    held: Option<Arc<Held<D>>>,
    target: Option<Arc<D::File>>,
    is_copying: bool,
    geometry: crate::geometry::Geometry,
    digests: DigestTable<D::File>,
    entry: EntryIndex,
}

impl<D: Disk> Intake<D> {
    /// Compares files with their candidates and takes what matches.
    pub fn adopt(&mut self, items: Vec<AdoptItem>) -> Vec<AdoptedItem> {
        let mut doubted = self.void_claims(&items);
        doubted.extend(self.sync_candidates(&items));
        // Before anything is read: who finds it different may not live to say so.
        if let Err(error) = self.shared.doubt(&doubted) {
            tracing::warn!(%error, "what is known of bad targets could not be written down");
        }
        let mut probes = vec![];
        for (index, item) in items.iter().enumerate() {
            probes.extend(self.probes(index, item).unwrap_or_default());
        }
        let shared = Arc::clone(&self.shared);
        let found = shared.pool.map(probes, |probe| {
            let found = look(&probe).unwrap_or(Match::Nowhere);
            (probe.item, probe.chunk, found)
        });
        let mut by_item: Vec<Vec<(ChunkIndex, Match)>> = items.iter().map(|_| vec![]).collect();
        for (item, chunk, found) in found {
            by_item[item].push((chunk, found));
        }
        items.iter().zip(by_item).map(|(item, found)| self.take_found(item, found)).collect()
    }

    /// Voids the claims of targets that are about to be read, by changing their stamps; nothing else of them is
    /// touched. Gives those of which that cannot be done: they are doubted instead. The stamps and not the doubt alone,
    /// since a journal may lose the doubt and keep the claim.
    fn void_claims(&mut self, items: &[AdoptItem]) -> Vec<(PathHash, u64)> {
        let mut failed = vec![];
        for item in items.iter().filter(|item| item.run.first == 0) {
            let Some(candidate) = self.candidates.get_mut(&item.entry.0) else { continue };
            let (Some(target), true) = (&candidate.target, std::mem::take(&mut candidate.is_claimed)) else { continue };
            match change_stamps::<D>(target) {
                Ok((before, now)) if candidate.stamps == Some(before) => candidate.stamps = Some(now),
                // Somebody else has changed it: its stamps are no longer those of the claim, and it is read again.
                Ok(_) => (),
                Err(error) => {
                    tracing::debug!(%error, "the stamps of a target that is read could not be changed");
                    failed.extend(self.target_of(item.entry));
                }
            }
        }
        failed
    }

    /// What is read must be what a power cut would leave: candidates are synced before they are read. A target of
    /// which that fails is not taken as it is; what matches of it is copied to a new inode. Gives those targets.
    fn sync_candidates(&mut self, items: &[AdoptItem]) -> Vec<(PathHash, u64)> {
        let disk = &self.shared.disk;
        let is_many =
            items.len() >= SYNCFS_FILES_MIN && disk.space(&self.shared.layout.root).is_ok_and(|s| s.is_syncfs_good);
        let is_synced = is_many && disk.sync_file_system(&self.shared.layout.root).is_ok();
        let mut failed = vec![];
        for item in items.iter().filter(|item| item.run.first == 0) {
            let Some(candidate) = self.candidates.get_mut(&item.entry.0) else { continue };
            if let Some(target) = &candidate.target
                && (!is_synced || self.shared.is_elsewhere(target.stat()))
                && target.sync().is_err()
            {
                candidate.is_comparing = false;
                failed.extend(self.target_of(item.entry));
            }
        }
        failed
    }

    /// Path and inode of the target that an entry is compared with.
    fn target_of(&self, entry: EntryIndex) -> Option<(PathHash, u64)> {
        let inode = self.candidates.get(&entry.0)?.stamps?.inode;
        let path = self.shared.file_entry(entry).ok()?.path;
        Some((path_hash(&path.under(self.candidates.get(&entry.0)?.number)?), inode))
    }

    fn probes(&self, index: usize, item: &AdoptItem) -> io::Result<Vec<Probe<D>>> {
        let file = self.shared.file_entry(item.entry)?;
        let candidate = self.candidates.get(&item.entry.0);
        // A target that is compared is to be equal as a whole, whatever is in staging.
        let is_copying = candidate.is_some_and(|candidate| !candidate.is_comparing);
        let held = self.held.get(&item.entry.0).filter(|_| is_copying);
        let probe = |chunk| Probe {
            item: index,
            chunk,
            held: held.cloned(),
            target: candidate.and_then(|candidate| candidate.target.clone()),
            is_copying,
            geometry: file.geometry,
            digests: file.digests.clone(),
            entry: item.entry,
        };
        Ok(file.geometry.chunks(item.run).map(probe).collect())
    }

    fn take_found(&mut self, item: &AdoptItem, found: Vec<(ChunkIndex, Match)>) -> AdoptedItem {
        let (entry, run) = (item.entry, item.run);
        let mut result =
            AdoptedItem { entry, run, missing: vec![], copied_bytes: 0, is_restarted: false, refused: None };
        let candidate = self.candidates.get(&entry.0);
        let is_comparing = candidate.is_some_and(|candidate| candidate.is_comparing);
        if !is_comparing && candidate.is_some_and(|candidate| candidate.replace.is_err()) {
            // It could not be made durable, and is not ours to replace.
            result.refused = Some(Reason::SyncFailed);
            self.abandon(entry, Some(Reason::SyncFailed));
            return result;
        }
        if is_comparing {
            // Where the log could not be read, nothing was compared at all.
            let is_equal =
                found.len() == run.count as usize && found.iter().all(|(_, found)| matches!(found, Match::Equal(_)));
            // A target that cannot be taken as it is, for whatever reason, is like one that differs.
            if !is_equal || self.take_compared(item, found).is_err() {
                self.leave_comparing(item, &mut result);
            }
            return result;
        }
        // A file that cannot be made or written is missing; whoever writes the first chunk meets the same error
        // again and tells it.
        if let Err(error) = self.take_copied(item, found, &mut result) {
            tracing::debug!(%error, "a candidate could not be copied");
        }
        let is_held = |chunk: u32| match self.held.get(&entry.0) {
            Some(held) => locked(&held.marks).held.contains(chunk),
            None => false,
        };
        result.missing = (run.first..run.first + run.count).filter(|chunk| !is_held(*chunk)).collect();
        result
    }

    /// Takes over what a target of equal size has, as long as all of it matches.
    fn take_compared(&mut self, item: &AdoptItem, found: Vec<(ChunkIndex, Match)>) -> io::Result<()> {
        let file = self.shared.file_entry(item.entry)?;
        let is_last = item.run.first + item.run.count >= file.geometry.chunk_count();
        let candidate = self.candidates.get_mut(&item.entry.0).ok_or(io::ErrorKind::NotFound)?;
        let held = match self.held.get(&item.entry.0) {
            Some(held) if held.place == Place::Target => Arc::clone(held),
            _ => {
                let path = file.path.under(candidate.number).ok_or(io::ErrorKind::InvalidFilename)?;
                let target = self.shared.handle_of(candidate, &file.path, &path, is_last)?;
                let (hash, geometry) = (path_hash(&file.path), file.geometry);
                let stamps = target.stat_at_open()?.stamps();
                let mut held = Held::new(item.entry, hash, Place::Target, target, geometry, file.digests)?;
                (held.target, held.number) = (path_hash(&path), candidate.number);
                held.is_shared = self.shared.is_shared(stamps, item.entry);
                if let Some(stamps) = candidate.stamps {
                    held.expect_stamps(stamps);
                }
                Arc::new(held)
            }
        };
        // Whoever is at the file since its first byte was compared shows in its stamps.
        let epoch = held.epoch();
        for (chunk, found) in found {
            if let Match::Equal(level) = found {
                held.mark_held(chunk);
                held.mark_verified(chunk, level, epoch);
            }
        }
        self.held.insert(item.entry.0, held);
        if is_last {
            self.candidates.remove(&item.entry.0);
        }
        Ok(())
    }

    /// The target differs: it is refused, or compared again from its start and what matches of it copied.
    fn leave_comparing(&mut self, item: &AdoptItem, result: &mut AdoptedItem) {
        let entry = item.entry;
        if self.held.get(&entry.0).is_some_and(|held| held.place == Place::Target) {
            self.held.remove(&entry.0);
        }
        let may_rename = self.shared.may_rename() && !self.ours.contains(&entry.0);
        if may_rename && let Some(differing) = self.candidates.get(&entry.0) {
            let next = self.candidate_after(entry, differing);
            self.candidates.insert(entry.0, next);
            result.is_restarted = true;
            return;
        }
        let Some(candidate) = self.candidates.get_mut(&entry.0) else { return };
        match candidate.replace {
            Ok(()) => {
                candidate.is_comparing = false;
                result.is_restarted = true;
            }
            Err(reason) => {
                result.refused = Some(reason);
                self.abandon(entry, Some(reason));
            }
        }
    }

    /// Writes what was found to the staging file, into the open batch. What is in its place there already is written
    /// once more: no claim says that a sync has covered it, and the sync of an earlier process may have failed and left
    /// it clean, given to the device and not durable. Then only a page that is written anew is covered by the next.
    fn take_copied(
        &mut self,
        item: &AdoptItem,
        found: Vec<(ChunkIndex, Match)>,
        result: &mut AdoptedItem,
    ) -> io::Result<()> {
        self.leave_stranger(item, &found);
        let mut held = self.held.get(&item.entry.0).cloned();
        for (_, found) in found {
            let Match::ToWrite(verified, from) = found else { continue };
            let into = match &held {
                Some(held) => Arc::clone(held),
                None => {
                    let made = self.make_held(item.entry)?;
                    held = Some(Arc::clone(&made));
                    made
                }
            };
            result.copied_bytes += u64::from(self.write(&into, &verified)?);
            if let (Place::Target, Some(candidate)) = (from, self.candidates.get(&item.entry.0)) {
                into.origin.get_or_init(|| candidate.origin);
            }
        }
        let geometry = self.shared.file_entry(item.entry)?.geometry;
        if item.run.first + item.run.count >= whole(geometry).count {
            self.candidates.remove(&item.entry.0);
        }
        Ok(())
    }

    /// A file under another name that has nothing of the first chunks is a stranger of the same length: the rest of it is
    /// not read.
    fn leave_stranger(&mut self, item: &AdoptItem, found: &[(ChunkIndex, Match)]) {
        let is_strange = item.run.first == 0 && found.iter().all(|(_, found)| matches!(found, Match::Nowhere));
        if let Some(candidate) = self.candidates.get_mut(&item.entry.0)
            && candidate.origin == Origin::OtherName
            && is_strange
        {
            candidate.target = None;
        }
    }

    /// A new staging file for an entry.
    pub(super) fn make_held(&mut self, entry: EntryIndex) -> io::Result<Arc<Held<D>>> {
        let file = self.shared.file_entry(entry)?;
        let path = path_hash(&file.path);
        let made = self.shared.make_staging(entry, path, file.geometry)?;
        let held = Arc::new(Held::new(entry, path, Place::Staging, made, file.geometry, file.digests)?);
        self.held.insert(entry.0, Arc::clone(&held));
        Ok(held)
    }
}

/// Looks for one chunk in the candidates.
fn look<D: Disk>(probe: &Probe<D>) -> io::Result<Match> {
    let expected = probe.digests.get(probe.chunk.get())?;
    let (offset, length) = (probe.geometry.offset(probe.chunk), probe.geometry.chunk_len(probe.chunk) as usize);
    let mut buffer = AlignedBuffer::default();
    let mut read = |file: &D::File| -> io::Result<Option<Level>> {
        let level = file.read_uncached_at(&mut buffer, offset, length)?;
        let is_equal =
            buffer.bytes().len() == length && chunk_digest(probe.geometry, probe.chunk, buffer.bytes()) == expected;
        Ok(is_equal.then_some(level))
    };
    let staged = probe.held.as_ref().filter(|held| held.place == Place::Staging);
    let is_staged = staged.is_some_and(|held| matches!(read(&held.file), Ok(Some(_))));
    if !is_staged {
        let Some(target) = &probe.target else { return Ok(Match::Nowhere) };
        match read(target)? {
            None => return Ok(Match::Nowhere),
            Some(level) if !probe.is_copying => return Ok(Match::Equal(level)),
            Some(_) => (),
        }
    }
    let id = ChunkId { entry: probe.entry, chunk: probe.chunk };
    let bytes = (!is_zero(buffer.bytes())).then(|| bytes::Bytes::copy_from_slice(buffer.bytes()));
    match verify(probe.geometry, ReceivedChunk { id, bytes }, expected) {
        Verdict::Match(verified) => {
            Ok(Match::ToWrite(verified, if is_staged { Place::Staging } else { Place::Target }))
        }
        Verdict::Mismatch { .. } => Ok(Match::Nowhere),
    }
}

/// Sets a target's mode and time to what they are, for the sake of its stamps: those before and those after.
fn change_stamps<D: Disk>(target: &D::File) -> io::Result<(Stamps, Stamps)> {
    let before = target.stat()?;
    target.set_metadata(before.mode & 0o777, before.mtime)?;
    let (before, now) = (before.stamps(), target.stat()?.stamps());
    match before == now {
        true => Err(io::Error::other("they are the same as before")),
        false => Ok((before, now)),
    }
}

impl<D: Disk> Shared<D> {
    /// A handle of the very file that an entry at `own` is compared with, which still has the name at `path`: the
    /// candidate's own, if nothing more is to be compared with it, else a second one.
    fn handle_of(
        &self,
        candidate: &mut Candidate<D>,
        own: &RelPath,
        path: &RelPath,
        is_last: bool,
    ) -> io::Result<D::File> {
        let target = candidate.target.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let parent = locked(&self.directories).parent_of(own).map_err(|_| io::ErrorKind::NotFound)?;
        let (held, found) = (target.stat_at_open()?, self.disk.stat(&parent.dir, path.name())?);
        if (held.device, held.inode) != (found.device, found.inode) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(target) = is_last.then(|| candidate.take_target()).flatten() {
            return Ok(target);
        }
        let again = self.disk.open_seen(&parent.dir, path.name(), Access::Read, &found)?;
        let found = again.stat_at_open()?;
        match (held.device, held.inode) == (found.device, found.inode) {
            true => Ok(again),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Where the target's file system stands on the way to the device, found by reading a probe file in staging.
    pub fn probe_level(&self) -> io::Result<Level> {
        const NAME: &[u8] = b"probe";
        let (disk, staging) = (&self.disk, &self.layout.staging);
        let file = match disk.create_exclusive(staging, NAME) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(staging, NAME)?;
                disk.create_exclusive(staging, NAME)?
            }
            other => other?,
        };
        let bytes = [7_u8; 8192];
        file.write_all_at(&bytes, 0)?;
        file.sync()?;
        let level = file.read_uncached_at(&mut AlignedBuffer::default(), 0, bytes.len());
        disk.remove(staging, NAME)?;
        level
    }
}
