//! One open file that holds an entry's bytes: in staging, or an adopted target in its place.

use std::io;
use std::num::NonZeroU16;
use std::sync::{Mutex, OnceLock};

use super::layout::{LEFT_SUFFIX, staging_name};
use super::{Shared, locked};
use crate::attributes::{FileKind, Level, Stamps, Timestamp};
use crate::digest::{FileDigest, PathHash};
use crate::disk::{Access, Disk, DiskFile};
use crate::geometry::{ChunkIndex, ChunkSet, EntryIndex, Geometry};
use crate::path::RelPath;
use crate::state::files::create_anew;
use crate::state::log::DigestTable;

/// What a file is to become.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    pub(crate) path: RelPath,
    pub(crate) digest: FileDigest,
    pub(crate) mode: u32,
    pub(crate) mtime: Timestamp,
    /// A target that stands under the name may be replaced: by policy, or because it is ours.
    pub(crate) may_replace: bool,
    /// An inode of this file that was left when it had one of its names already: it may be replaced there.
    pub(crate) left_inode: Option<u64>,
}

/// Where the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a staging file.
    Staging,
    /// In the target, under its final name already.
    Target,
}

/// A held file.
pub(crate) struct Held<D: Disk> {
    pub(crate) entry: EntryIndex,
    pub(crate) path: PathHash,
    pub(crate) place: Place,
    /// Of the path under which an adopted target stands, which may not be the entry's own.
    pub(crate) target: PathHash,
    /// The number in that path.
    pub(crate) number: Option<NonZeroU16>,
    /// The adopted target is another entry's too, and its mode and times are that one's.
    pub(crate) is_shared: bool,
    pub(crate) file: D::File,
    pub(crate) inode: u64,
    pub(crate) geometry: Geometry,
    pub(crate) digests: DigestTable<D::File>,
    pub(crate) marks: Mutex<Marks>,
    /// The inode after this process last changed what is in it: whatever else changes it shows here, and makes every
    /// read-back void. So does a name that is given or taken, which costs a further read. `None` if it could not be looked
    /// at. Held while the file is changed, and taken before the marks: read-backs are noted meanwhile.
    seen: Mutex<Option<Stamps>>,
    /// A sync of it has failed.
    is_sync_failed: Mutex<bool>,
    /// From where a part of it was copied, if it was.
    pub(crate) origin: OnceLock<Origin>,
}

/// A file of the target from which a part of another is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has the name that the new one is to get.
    SameName,
    /// It has another name.
    OtherName,
}

/// Which chunks a held file has, and which of them were read back by this process since they were written.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) held: ChunkSet,
    pub(crate) verified: ChunkSet,
    /// Lowest level of those reads.
    pub(crate) level: Level,
    /// Writes so far.
    pub(crate) writes: u64,
    /// The closed batch that is to seal it, by number: no more writes.
    pub(crate) sealed_by: Option<u64>,
    /// How often read-backs were made void: one that began before does not count either.
    epoch: u64,
    /// Abandoned: the staging file may belong to another entry now, and must not get a name for this one. Whoever
    /// gives it a name holds the marks meanwhile.
    pub(crate) is_abandoned: bool,
}

impl<D: Disk> Held<D> {
    pub(crate) fn new(
        entry: EntryIndex,
        path: PathHash,
        place: Place,
        file: D::File,
        geometry: Geometry,
        digests: DigestTable<D::File>,
    ) -> io::Result<Held<D>> {
        // What is longer than a chunk may have got its length since it was made.
        let stat = if geometry.chunk_count() > 1 { file.stat()? } else { file.stat_at_open()? };
        let inode = stat.inode;
        let marks = Marks {
            held: ChunkSet::new(geometry),
            verified: ChunkSet::new(geometry),
            level: Level::Device,
            writes: 0,
            sealed_by: None,
            epoch: 0,
            is_abandoned: false,
        };
        let (marks, seen, is_sync_failed) = (Mutex::new(marks), Mutex::new(Some(stat.stamps())), Mutex::new(false));
        let origin = OnceLock::new();
        let (target, number, is_shared) = (path, None, false);
        Ok(Held {
            entry,
            path,
            place,
            target,
            number,
            is_shared,
            file,
            inode,
            geometry,
            digests,
            marks,
            seen,
            is_sync_failed,
            origin,
        })
    }

    /// Name in staging.
    pub(crate) fn name(&self) -> Vec<u8> {
        staging_name(self.path)
    }

    /// No longer writes it, nor seals it. Waits for a rename that is on its way.
    pub(crate) fn give_up(&self) {
        locked(&self.marks).is_abandoned = true;
    }

    /// Gives the staging file away, unless it is abandoned. The marks are held until that is done: whoever abandons the file
    /// waits for it, and then finds it gone.
    pub(crate) fn unless_abandoned(&self, rename: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let marks = locked(&self.marks);
        if marks.is_abandoned { Err(io::ErrorKind::InvalidData.into()) } else { rename() }
    }

    /// Makes it durable. Not once that has failed: what was dirty then is clean and gone, and a later sync would succeed
    /// and mean nothing.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut is_failed = locked(&self.is_sync_failed);
        if !*is_failed {
            let synced = self.file.sync();
            *is_failed = synced.is_err();
            return synced;
        }
        Err(io::Error::other("an earlier sync of it has failed"))
    }

    /// Whether a sync of it has failed.
    pub(crate) fn is_sync_failed(&self) -> bool {
        *locked(&self.is_sync_failed)
    }

    /// Changes the file, as its only writer: if somebody else has changed it meanwhile, what was read back before no
    /// longer counts.
    pub(crate) fn change<R>(&self, change: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let mut seen = locked(&self.seen);
        self.look_for_strangers(&mut seen);
        let result = change();
        *seen = self.file.stat().ok().map(|stat| stat.stamps());
        result
    }

    /// Whether the file is as this process left it. If not, every read-back is void, and from now on it is compared
    /// with what it is now.
    pub(crate) fn is_untouched(&self) -> bool {
        self.look_for_strangers(&mut locked(&self.seen))
    }

    /// The stamps that a target had before its first byte was compared.
    pub(crate) fn expect_stamps(&self, stamps: Stamps) {
        *locked(&self.seen) = Some(stamps);
    }

    /// Time of the last change of content, as this process left it.
    pub(crate) fn seen_mtime(&self) -> Option<Timestamp> {
        locked(&self.seen).map(|stamps| stamps.mtime)
    }

    /// Its length when it was last looked at.
    pub(crate) fn seen_size(&self) -> Option<u64> {
        locked(&self.seen).map(|stamps| stamps.size)
    }

    fn look_for_strangers(&self, seen: &mut Option<Stamps>) -> bool {
        let now = self.file.stat().ok().map(|stat| stat.stamps());
        let is_same = now.is_some() && now == *seen;
        if !is_same {
            let mut marks = locked(&self.marks);
            marks.verified.clear();
            marks.epoch += 1;
            *seen = now;
        }
        is_same
    }

    /// To be asked before a read-back begins.
    pub(crate) fn epoch(&self) -> u64 {
        locked(&self.marks).epoch
    }

    /// Takes note of a read-back that began in that epoch, unless somebody else was at the file since.
    pub(crate) fn mark_verified(&self, chunk: ChunkIndex, level: Level, epoch: u64) {
        let mut marks = locked(&self.marks);
        if marks.epoch != epoch {
            return;
        }
        marks.verified.insert(chunk.get());
        marks.level = marks.level.min(level);
    }

    /// Takes note that a chunk is not what it should be.
    pub(crate) fn mark_bad(&self, chunk: ChunkIndex) {
        let mut marks = locked(&self.marks);
        marks.held.remove(chunk.get());
        marks.verified.remove(chunk.get());
    }

    /// Takes note of a write: what was read back there before does not count.
    pub(crate) fn mark_held(&self, chunk: ChunkIndex) {
        let mut marks = locked(&self.marks);
        marks.held.insert(chunk.get());
        marks.verified.remove(chunk.get());
        marks.writes += 1;
    }

    /// These are to be read back once more, whatever was read back before.
    pub(crate) fn mark_unread(&self, chunks: &[u32]) {
        let mut marks = locked(&self.marks);
        for chunk in chunks {
            marks.verified.remove(*chunk);
        }
    }
}

impl Marks {
    /// Being sealed or abandoned: no more writes.
    pub(crate) fn is_frozen(&self) -> bool {
        self.sealed_by.is_some() || self.is_abandoned
    }
}

impl<D: Disk> Shared<D> {
    /// A new staging file of an entry, whose inode number no claim of an earlier run speaks of. A claim may outlive its
    /// inode, and numbers are given anew: after a power cut it would speak for bytes that were never synced.
    pub(super) fn make_staging(&self, entry: EntryIndex, path: PathHash, geometry: Geometry) -> io::Result<D::File> {
        let (disk, staging, name) = (&self.disk, &self.layout.staging, staging_name(path));
        if !self.claimed.contains(&entry.0) {
            return create(disk, staging, &name, geometry);
        }
        // Under a name that the next start removes: a power cut must not leave the other one for such an inode, either.
        let aside = [&name[..], b"-new", LEFT_SUFFIX].concat();
        let mut others = vec![];
        let made = loop {
            let made = create(disk, staging, &aside, geometry)?;
            let inode = made.stat()?.inode;
            if !locked(&self.journal).durable(entry).iter().any(|claim| claim.inode == inode) {
                break made;
            }
            // Open until another number is found, so that this one is not given again.
            others.push(made);
        };
        disk.replace(staging, &aside, staging, &name)?;
        Ok(made)
    }
}

/// Makes a new staging file of the entry's size. Whatever had the name is removed.
fn create<D: Disk>(disk: &D, staging: &D::Dir, name: &[u8], geometry: Geometry) -> io::Result<D::File> {
    let file = create_anew(disk, staging, name)?;
    // A file of one chunk gets its length from its only write.
    if geometry.chunk_count() > 1 {
        file.set_len(geometry.file_bytes())?;
    }
    Ok(file)
}

/// Opens a staging file of an earlier run, if it is there, ours, regular and has one name; sets its length. A final
/// mode may have been set already: the owner's bits are given back by name.
pub(crate) fn open_left<D: Disk>(
    disk: &D,
    staging: &D::Dir,
    name: &[u8],
    geometry: Geometry,
) -> io::Result<Option<D::File>> {
    let stat = match disk.stat(staging, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let is_ours = stat.owner == disk.stat_dir(staging)?.owner;
    if stat.kind != FileKind::Regular || stat.links != 1 || !is_ours {
        match stat.kind {
            FileKind::Directory => disk.remove_dir(staging, name)?,
            _ => disk.remove(staging, name)?,
        }
        return Ok(None);
    }
    if stat.mode & 0o777 != 0o600 {
        disk.set_mode(staging, name, 0o600)?;
    }
    let file = disk.open(staging, name, Access::Write)?;
    let has_other_size = stat.size != geometry.file_bytes();
    if has_other_size {
        file.set_len(geometry.file_bytes())?;
    }
    // Of a file of one chunk it counts what opening saw: anew, so that this is what the file is.
    match has_other_size && geometry.chunk_count() <= 1 {
        true => disk.open(staging, name, Access::Write).map(Some),
        false => Ok(Some(file)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::{chunk_digest, path_hash};
    use crate::disk::RealDisk;
    use crate::identity::TransferId;
    use crate::manifest::{Header, Record};
    use crate::state::log::ManifestLog;

    /// Somebody else writes while a chunk is read back, and the syncer looks at the file before the read is noted.
    #[test]
    fn a_read_back_that_somebody_else_came_into_does_not_count() {
        let temp = tempfile::tempdir().unwrap();
        let (disk, root) = (RealDisk::new(), RealDisk::open_root(temp.path()).unwrap());
        let geometry = Geometry::new(9, 4096).unwrap();
        let (path, chunk) = (RelPath::parse(b"file").unwrap(), geometry.chunk(0).unwrap());
        let header = Header { chunk_bytes: 4096, transfer: TransferId([1; 16]) };
        let (mut log, _) = ManifestLog::open(&disk, &root, b"log", header, |_, _| ()).unwrap();
        let digests = vec![chunk_digest(geometry, chunk, &[7; 9])];
        let records = [Record::Begin { path: path.clone(), size: 9 }, Record::Chunks { entry: EntryIndex(0), digests }];
        log.append(records.iter().map(Record::encode).collect::<Vec<_>>().iter().map(Vec::as_slice), |_, _| ())
            .unwrap();
        let (_, geometry, digests) = log.file(EntryIndex(0)).unwrap();
        let file = disk.create_exclusive(&root, b"staged").unwrap();
        let held: Held<RealDisk> =
            Held::new(EntryIndex(0), path_hash(&path), Place::Staging, file, geometry, digests).unwrap();
        held.change(|| held.file.write_all_at(&[7; 9], 0)).unwrap();
        held.mark_held(chunk);
        let is_verified = || locked(&held.marks).verified.is_full();
        held.mark_verified(chunk, Level::Device, held.epoch());
        assert!(is_verified());
        let epoch = held.epoch();
        let other = disk.open(&root, b"staged", Access::Write).unwrap();
        other.write_all_at(&[8; 9], 0).unwrap();
        held.change(|| Ok(())).unwrap();
        held.mark_verified(chunk, Level::Device, epoch);
        assert!(!is_verified());
    }
}
