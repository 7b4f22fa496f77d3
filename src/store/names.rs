//! Under which name an entry goes where its own is taken and the policy is to take another.
//!
//! The rule: an entry that is no directory gets the first of its own name, `stem (1).ext`, `stem (2).ext` and so on that is
//! absent or holds what the entry holds, at the moment in which it gets it. What stands under the names before is never
//! touched, and it does not matter whose it is: a foreign file's, or that of another entry of the same transfer, which may
//! have come first or have this very name as its own. Whoever comes later takes the next name. Entries of equal content may
//! so come to one file, which keeps the mode and times of the one that came first. A further run finds each entry under the
//! name that it got, since what stood before it still does and still differs: no further file is made, whatever became of
//! journal and receipt. A version that was withdrawn since stays under a name with a number.

use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::adopt::Candidate;
use super::intake::{FileEntry, Intake, whole};
use super::settle::Settler;
use super::staging::{Finish, Held, Origin};
use super::{Shared, locked};
use crate::attributes::{FileKind, Level, Stamps};
use crate::digest::{chunk_digest, path_hash};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile, Stat};
use crate::geometry::EntryIndex;
use crate::options::Existing;
use crate::path::RelPath;

/// Which of its names a file has got.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named {
    pub(super) number: Option<NonZeroU16>,
    /// The name had a file of equal content already, and has it still.
    pub(super) equal: Option<Equal>,
}

/// A file of the target that was read past the cache and is equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Equal {
    pub(super) stat: Stat,
    pub(super) level: Level,
}

impl<D: Disk> Shared<D> {
    /// Whether entries may get other names than their own.
    pub(super) fn may_rename(&self) -> bool {
        self.policy.existing == Existing::Rename
    }

    /// Takes note that an entry has this file, and tells whether another one has it already: then its mode and times are
    /// not this one's to change.
    pub(super) fn is_shared(&self, stamps: Stamps, entry: EntryIndex) -> bool {
        if !self.may_rename() {
            return false;
        }
        let mut given = locked(&self.given);
        let owner = given.entry((stamps.device, stamps.inode)).or_insert(entry.0);
        if *owner == entry.0 {
            return false;
        }
        let is_gone = self.is_gone(*owner);
        if is_gone {
            *owner = entry.0;
        }
        !is_gone
    }

    /// Whether another entry has this file.
    pub(super) fn is_anothers(&self, stamps: Stamps, entry: EntryIndex) -> bool {
        let owner = locked(&self.given).get(&(stamps.device, stamps.inode)).copied();
        owner.is_some_and(|owner| owner != entry.0 && !self.is_gone(owner))
    }

    /// Whether an entry needs nothing that it once had.
    fn is_gone(&self, entry: u32) -> bool {
        let ledger = self.ledger();
        let is_left_out = ledger.exceptions.get(&entry).is_some_and(|outcome| !outcome.has_arrived());
        ledger.is_withdrawn(EntryIndex(entry)) || is_left_out
    }

    /// Which of an entry's names stands for an inode.
    pub(super) fn name_of(&self, dir: &D::Dir, path: &RelPath, inode: u64) -> Option<Option<NonZeroU16>> {
        let names = path.names().take(if self.may_rename() { usize::MAX } else { 1 });
        for (number, name) in names {
            match self.disk.stat(dir, name.name()) {
                Ok(stat) if stat.inode == inode => return Some(number),
                Err(_) if number.is_some() => return None,
                Ok(_) | Err(_) => (),
            }
        }
        None
    }
}

impl<D: Disk> Intake<D> {
    /// The next file under a name with a number, after `last`, that may turn out to be what an entry holds. Up to the first
    /// name that is free.
    pub(super) fn next_numbered(
        &self,
        file: &FileEntry<D>,
        dir: &D::Dir,
        last: Option<NonZeroU16>,
        own: Option<Arc<D::File>>,
    ) -> Option<Candidate<D>> {
        let (disk, shared) = (&self.shared.disk, &self.shared);
        for (number, path) in file.path.names().skip(1 + last.map_or(0, |last| usize::from(last.get()))) {
            let stat = disk.stat(dir, path.name()).ok()?;
            let hash = path_hash(&path);
            let may_be_equal = stat.kind == FileKind::Regular
                && stat.size == file.geometry.file_bytes()
                && !locked(&shared.journal).is_doubted(hash, stat.inode);
            let open = || disk.open_seen(dir, path.name(), Access::Read, &stat).ok();
            let Some(target) = may_be_equal.then(open).flatten() else { continue };
            return Some(Candidate {
                target: Some(Arc::new(target)),
                stamps: Some(stat.stamps()),
                is_comparing: true,
                is_claimed: shared.may_be_claimed(hash, &stat),
                replace: Ok(()),
                origin: Origin::SameName,
                number,
                own,
            });
        }
        None
    }

    /// After a candidate has turned out to differ: the next one that may be equal, else the file that has the entry's own
    /// name, to copy what matches of it.
    pub(super) fn candidate_after(&self, entry: EntryIndex, differing: &Candidate<D>) -> Candidate<D> {
        let own = match differing.number {
            None => differing.target.clone(),
            Some(_) => differing.own.clone(),
        };
        let next = || {
            let file = self.shared.file_entry(entry).ok()?;
            let parent = locked(&self.shared.directories).parent_of(&file.path).ok()?;
            self.next_numbered(&file, &parent.dir, differing.number, own.clone())
        };
        next().unwrap_or_else(|| Candidate::of_own_name(own.clone()))
    }
}

impl<D: Disk> Settler<D> {
    /// Gives a staging file the first of its names that is free, or finds that one of them has an equal file. Its own name
    /// is taken. `AlreadyExists` if all of them are.
    pub(super) fn rename_aside(&self, held: &Held<D>, finish: &Finish, dir: &D::Dir) -> io::Result<Named> {
        let (disk, staging) = (&self.shared.disk, &self.shared.layout.staging);
        for (number, path) in finish.path.names() {
            let name = path.name();
            if number.is_some() {
                match held.unless_abandoned(|| disk.rename_noreplace(staging, &held.name(), dir, name)) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                    other => return other.map(|()| Named { number, equal: None }),
                }
            }
            // Whatever has gone since: the next name is as good.
            let Ok(stat) = disk.stat(dir, name) else { continue };
            if finish.left_inode == Some(stat.inode) && stat.kind == FileKind::Regular {
                held.unless_abandoned(|| disk.replace(staging, &held.name(), dir, name))?;
                return Ok(Named { number, equal: None });
            }
            if let Some(equal) = self.equal(held, finish, dir, &path, stat) {
                return Ok(Named { number, equal: Some(equal) });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Reads a file of the target past the cache, if it may be equal, as far as it is. One that is gets mode and times,
    /// unless it is another entry's too.
    fn equal(&self, held: &Held<D>, finish: &Finish, dir: &D::Dir, path: &RelPath, stat: Stat) -> Option<Equal> {
        let may_be_equal = stat.kind == FileKind::Regular
            && stat.size == held.geometry.file_bytes()
            && !locked(&self.shared.journal).is_doubted(path_hash(path), stat.inode);
        if !may_be_equal {
            return None;
        }
        let file = self.shared.disk.open(dir, path.name(), Access::Read).ok()?;
        file.sync().ok()?;
        let (mut buffer, mut level) = (AlignedBuffer::default(), Level::Device);
        for chunk in held.geometry.chunks(whole(held.geometry)) {
            let (offset, length) = (held.geometry.offset(chunk), held.geometry.chunk_len(chunk) as usize);
            level = level.min(file.read_uncached_at(&mut buffer, offset, length).ok()?);
            let is_equal = buffer.bytes().len() == length
                && held.digests.get(chunk.get()).ok()? == chunk_digest(held.geometry, chunk, buffer.bytes());
            if !is_equal {
                return None;
            }
        }
        if file.stat().ok()?.stamps() != stat.stamps() {
            return None;
        }
        let is_right = stat.mode & 0o777 == finish.mode && stat.mtime == finish.mtime;
        if !is_right && !self.shared.is_shared(stat.stamps(), held.entry) {
            // Where that fails, the receipt says so.
            let _ = file.set_metadata(finish.mode, finish.mtime);
            file.sync().ok()?;
        }
        Some(Equal { stat: file.stat().ok()?, level })
    }
}
