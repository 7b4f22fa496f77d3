//! Versions of files: begun, hashed chunk by chunk, ended; or given up, to be read once more, or to be left out.

use std::mem;

use super::hashing::{Hashing, Origin, Seen};
use super::{Later, Producer};
use crate::attributes::FileKind;
use crate::digest::{PathHash, path_hash};
use crate::disk::{Access, Disk, DiskFile, Stat};
use crate::error::Error;
use crate::event::{Event, Notice};
use crate::geometry::{EntryIndex, Geometry};
use crate::identity::Role;
use crate::limits::{RECORD_DIGESTS_MAX, VERSIONS_MAX};
use crate::manifest::Record;
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::source::reason_of;
use crate::source::walk::Parent;
use crate::wire::Place;

impl<D: Disk> Producer<D> {
    /// Starts the next version of a file. What fits into one chunk is done at once.
    pub(super) fn begin_file(&mut self, path: RelPath, parent: &Parent<D>, seen: &Stat) -> Result<(), Error> {
        if self.expecting.as_ref().is_some_and(|expecting| expecting.digest(&path).is_none()) {
            return self.leave_out(path, FileKind::Regular, Reason::Unlisted);
        }
        let opened = self.roots.disk().open_seen(&parent.dir, &parent.name, Access::Read, seen);
        let opened = opened.and_then(|file| file.stat_at_open().map(|stat| (file, stat)));
        let (file, begin) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.give_up(path, None, reason_of(&error)),
        };
        let Some(geometry) = Geometry::new(begin.size, self.writer.chunk_bytes()) else {
            return self.leave_out(path, FileKind::Regular, Reason::SourceError);
        };
        let entry = self.writer.next_entry();
        let mut hashing = self.once_or_twice(Hashing::new(entry, path, file, begin, geometry));
        if geometry.chunk_count() > 1 {
            self.begin(&hashing);
            self.current = Some(hashing);
            return Ok(());
        }
        let mut hashed = None;
        if let Some(chunk) = hashing.next_chunk() {
            match hashing.hash(chunk) {
                Ok(result) => hashed = Some(result),
                Err(reason) => return self.give_up(hashing.path, None, reason),
            }
        }
        loop {
            let again = hashing.next_again().map_or(Ok(()), |chunk| hashing.hash_again(chunk, &mut self.buffer));
            match again.and_then(|()| hashing.look_again()) {
                Ok(Seen::Good) => break,
                Ok(Seen::Doubtful) => {}
                Err(reason) => return self.give_up(hashing.path, None, reason),
            }
        }
        self.begin(&hashing);
        if let Some(hashed) = hashed {
            self.ahead.put(Place { entry: entry.0, chunk: hashed.chunk.get() }, hashed.content);
            self.writer.push(&Record::Chunks { entry, digests: vec![hashed.digest] });
        }
        self.writer.weigh(geometry.file_bytes());
        self.hashed_bytes += geometry.file_bytes();
        self.end(&hashing);
        Ok(())
    }

    pub(super) fn hash_on(&mut self) -> Result<(), Error> {
        let mut hashing = self.current.take().expect("the caller has seen it");
        let entry = hashing.entry;
        if let Some(chunk) = hashing.next_chunk() {
            match hashing.hash(chunk) {
                Ok(hashed) => {
                    self.ahead.put(Place { entry: entry.0, chunk: chunk.get() }, hashed.content);
                    self.hashed_bytes += u64::from(hashing.geometry.chunk_len(chunk));
                }
                Err(reason) => return self.give_up_begun(hashing, reason),
            }
        } else if let Some(chunk) = hashing.next_again()
            && let Err(reason) = hashing.hash_again(chunk, &mut self.buffer)
        {
            return self.give_up_begun(hashing, reason);
        }
        let is_last = hashing.next_chunk().is_none();
        if hashing.pending.len() == RECORD_DIGESTS_MAX || (is_last && !hashing.pending.is_empty()) {
            self.writer.push(&Record::Chunks { entry, digests: mem::take(&mut hashing.pending) });
        }
        if !is_last || hashing.next_again().is_some() {
            self.current = Some(hashing);
            return Ok(());
        }
        match hashing.look_again() {
            Ok(Seen::Good) => {
                self.end(&hashing);
                Ok(())
            }
            Ok(Seen::Doubtful) => {
                self.current = Some(hashing);
                Ok(())
            }
            Err(reason) => self.give_up_begun(hashing, reason),
        }
    }

    /// As it is to be read: twice if that was asked for, and for what digest.
    pub(super) fn once_or_twice(&self, hashing: Hashing<D>) -> Hashing<D> {
        let expected = self.expecting.as_ref().and_then(|expecting| expecting.digest(&hashing.path));
        let hashing = hashing.expecting(expected);
        if self.reads_twice { hashing.twice() } else { hashing }
    }

    fn begin(&mut self, hashing: &Hashing<D>) {
        let record = Record::Begin { path: hashing.path.clone(), size: hashing.geometry.file_bytes() };
        let entry = self.writer.introduce(&record);
        self.writer.stamp(entry, path_hash(&hashing.path), hashing.stamps());
    }

    fn end(&mut self, hashing: &Hashing<D>) {
        let (mode, mtime) = hashing.attributes();
        self.writer.push(&Record::End { entry: hashing.entry, digest: hashing.folder.finish(), mode, mtime });
    }

    fn give_up_begun(&mut self, hashing: Hashing<D>, reason: Reason) -> Result<(), Error> {
        match hashing.origin {
            // The walk will meet the file as a new one.
            Origin::EarlierRun => self.writer.withdraw(hashing.entry, Reason::Superseded),
            Origin::Walk => self.give_up(hashing.path, Some(hashing.entry), reason),
        }
    }

    /// A version of a file could not be read as one. It is read once more later, or left out.
    fn give_up(&mut self, path: RelPath, begun: Option<EntryIndex>, reason: Reason) -> Result<(), Error> {
        if let Some(entry) = begun {
            self.writer.withdraw(entry, reason)?;
        }
        // What two readings agree on stays as it is.
        let may_be_cured = !matches!(reason, Reason::Unreadable | Reason::Unexpected);
        if may_be_cured && self.may_retry(path_hash(&path)) {
            self.events.push(Event::Notice(Notice::Retried { path: path.clone(), reason }));
            self.later.push_back(Later::Path(path));
            return Ok(());
        }
        self.leave_out(path, FileKind::Regular, reason)
    }

    /// Whether a further version of a path may be read; it counts as begun then.
    pub(super) fn may_retry(&mut self, key: PathHash) -> bool {
        let versions = self.versions.entry(key).or_insert(1);
        *versions += 1;
        *versions <= VERSIONS_MAX
    }

    pub(super) fn leave_out(&mut self, path: RelPath, kind: FileKind, reason: Reason) -> Result<(), Error> {
        self.events.push(Event::LeftOut { path: path.clone(), reason, side: Role::Sender });
        self.writer.introduce(&Record::LeftOut { path, kind, reason });
        Ok(())
    }
}
