//! Leaving an inode: after a failed sync, or when the same extent came back bad twice, what verifies of it past the
//! cache is copied to a new one.

use std::io;
use std::sync::Arc;

use super::intake::Intake;
use super::layout::LEFT_SUFFIX;
use super::staging::{Held, Place};
use super::{is_full, locked};
use crate::digest::{ReceivedChunk, Verdict, verify};
use crate::disk::{AlignedBuffer, Disk, DiskFile};
use crate::geometry::{ChunkId, EntryIndex};
use crate::outcome::Outcome;
use crate::path::RelPath;
use crate::task::receiver::{Input, Kept};

impl<D: Disk> Intake<D> {
    /// Gives a file a new staging inode with what verifies of the old.
    pub fn renew(&mut self, entry: EntryIndex) -> Input {
        match self.renewed(entry) {
            Ok(kept) => Input::Renewed(entry, Ok(kept)),
            Err(error) => {
                let reason = super::directories::reason_of(&error);
                self.abandon(entry, None);
                self.shared.ledger().exceptions.insert(entry.0, Outcome::LeftOut(reason));
                Input::Renewed(entry, Err(reason))
            }
        }
    }

    /// Takes note of the final name that stands for the inode which is being left, if one does.
    fn note_its_name(&mut self, old: &Held<D>, path: &RelPath) {
        let Ok(parent) = locked(&self.shared.directories).parent_of(path) else { return };
        match self.shared.name_of(&parent.dir, path, old.inode) {
            Some(None) => drop(self.ours.insert(old.entry.0)),
            Some(Some(_)) => drop(self.left_inodes.insert(old.entry.0, old.inode)),
            None => (),
        }
    }

    fn renewed(&mut self, entry: EntryIndex) -> io::Result<Kept> {
        self.batch.remove(entry.0);
        self.candidates.remove(&entry.0);
        let file = self.shared.file_entry(entry)?;
        let mut kept = Kept::default();
        let Some(old) = self.held.remove(&entry.0) else { return Ok(kept) };
        let (disk, staging, name) = (self.shared.disk.clone(), &self.shared.layout.staging, old.name());
        let left = [&name[..], LEFT_SUFFIX].concat();
        let mut is_named = false;
        // Held until the name is free, so that nobody who looked before takes it away from the next inode.
        let mut marks = locked(&old.marks);
        marks.is_abandoned = true;
        if old.place == Place::Staging {
            // It may be that the rename into place was done and only the directory's sync failed: then the name is
            // not here any more, and what stands under the final name is ours and may be replaced.
            match disk.replace(staging, &name, staging, &left) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    is_named = true;
                }
                other => other?,
            }
        }
        drop(marks);
        if is_named {
            self.note_its_name(&old, &file.path);
        }
        // Without space nothing is copied: whoever writes the first chunk meets that again, and waits.
        let made = match self.shared.make_staging(entry, old.path, file.geometry) {
            Err(error) if is_full(&error) => return Ok(kept),
            other => other?,
        };
        let new = Arc::new(Held::new(entry, old.path, Place::Staging, made, file.geometry, file.digests)?);
        self.held.insert(entry.0, Arc::clone(&new));
        let mut buffer = AlignedBuffer::default();
        let held: Vec<u32> = locked(&old.marks).held.iter().collect();
        for chunk in held.into_iter().filter_map(|chunk| new.geometry.chunk(chunk)) {
            let length = new.geometry.chunk_len(chunk) as usize;
            let read = old.file.read_uncached_at(&mut buffer, new.geometry.offset(chunk), length).is_ok();
            let bytes = bytes::Bytes::copy_from_slice(if read { buffer.bytes() } else { &[] });
            let received = ReceivedChunk { id: ChunkId { entry, chunk }, bytes: Some(bytes) };
            let Ok(expected) = new.digests.get(chunk.get()) else { continue };
            let Verdict::Match(verified) = verify(new.geometry, received, expected) else { continue };
            match self.write(&new, &verified) {
                Ok(bytes) => {
                    kept.bytes += u64::from(bytes);
                    kept.chunks.push(chunk.get());
                }
                Err(error) if is_full(&error) => (),
                Err(error) => return Err(error),
            }
        }
        if old.place == Place::Staging {
            match disk.remove(&self.shared.layout.staging, &left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
        Ok(kept)
    }
}
