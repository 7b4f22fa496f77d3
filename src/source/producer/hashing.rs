//! One file between its `Begin` and its `End`: the next chunk is read, hashed and handed over.

use std::io;

use crate::attributes::{Stamps, Timestamp};
use crate::digest::{self, ChunkDigest, FileDigest, Folder};
use crate::disk::{AlignedBuffer, Disk, DiskFile, Extent, Stat};
use crate::geometry::{ChunkIndex, EntryIndex, Geometry};
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::source::ahead::Content;
use crate::source::{persistently, read_chunk, reason_of};

/// Whence a version of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The walk met it.
    Walk,
    /// An earlier run was in the middle of it; the walk is still to meet it.
    EarlierRun,
}

/// A file that is being hashed.
pub(super) struct Hashing<D: Disk> {
    pub(super) entry: EntryIndex,
    pub(super) path: RelPath,
    pub(super) geometry: Geometry,
    pub(super) folder: Folder,
    pub(super) pending: Vec<ChunkDigest>,
    pub(super) origin: Origin,
    begin: Stat,
    file: D::File,
    extent: Option<Extent>,
    /// The fold of a second reading, if there is to be one.
    again: Option<Folder>,
    /// What it is to hash to, where that is known.
    expected: Option<FileDigest>,
}

/// What is to be done with a file that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It can be ended.
    Good,
    /// It is to be read a second time.
    Doubtful,
}

/// A chunk that was hashed.
pub(super) struct Hashed {
    pub(super) chunk: ChunkIndex,
    pub(super) digest: ChunkDigest,
    pub(super) content: Content,
}

impl<D: Disk> Hashing<D> {
    pub(super) fn new(entry: EntryIndex, path: RelPath, file: D::File, begin: Stat, geometry: Geometry) -> Hashing<D> {
        let (folder, pending, origin) = (Folder::default(), vec![], Origin::Walk);
        Hashing {
            entry,
            path,
            geometry,
            folder,
            pending,
            origin,
            begin,
            file,
            extent: None,
            again: None,
            expected: None,
        }
    }

    /// To be read twice, the second time past the cache.
    pub(super) fn twice(self) -> Hashing<D> {
        Hashing { again: Some(Folder::default()), ..self }
    }

    /// To be what hashes to that.
    pub(super) fn expecting(self, expected: Option<FileDigest>) -> Hashing<D> {
        Hashing { expected, ..self }
    }

    /// Goes on where an earlier run ended.
    pub(super) fn resumed(self, folder: Folder) -> Hashing<D> {
        Hashing { folder, origin: Origin::EarlierRun, ..self }
    }

    /// Stamps at its begin.
    pub(super) fn stamps(&self) -> Stamps {
        self.begin.stamps()
    }

    /// Permission bits and time for its end record.
    pub(super) fn attributes(&self) -> (u16, Timestamp) {
        (permissions(&self.begin), self.begin.mtime)
    }

    /// The chunk that comes next, if there is one.
    pub(super) fn next_chunk(&self) -> Option<ChunkIndex> {
        self.geometry.chunk(self.folder.count())
    }

    /// Reads and hashes a chunk, and adds it to the fold.
    pub(super) fn hash(&mut self, chunk: ChunkIndex) -> Result<Hashed, Reason> {
        let (offset, len) = (self.geometry.offset(chunk), self.geometry.chunk_len(chunk));
        let content = match self.is_hole(offset, len)? {
            true => Content::Zero,
            false => read_chunk(&self.file, offset, len as usize).map_err(|error| reason_of(&error))?,
        };
        let digest = match &content {
            Content::Zero => digest::zero_digest(self.geometry, chunk),
            Content::Bytes(bytes) => digest::chunk_digest(self.geometry, chunk, bytes),
        };
        self.folder.push(digest);
        self.pending.push(digest);
        Ok(Hashed { chunk, digest, content })
    }

    /// The chunk that comes next in the second reading, if there is one.
    pub(super) fn next_again(&self) -> Option<ChunkIndex> {
        self.again.as_ref().and_then(|again| self.geometry.chunk(again.count()))
    }

    /// Reads and hashes a chunk once more, from the device as far as it can be had.
    pub(super) fn hash_again(&mut self, chunk: ChunkIndex, buffer: &mut AlignedBuffer) -> Result<(), Reason> {
        let (offset, len) = (self.geometry.offset(chunk), self.geometry.chunk_len(chunk));
        let digest = if self.is_hole(offset, len)? {
            digest::zero_digest(self.geometry, chunk)
        } else {
            persistently(|| self.file.read_uncached_at(buffer, offset, len as usize))
                .map_err(|error| reason_of(&error))?;
            if buffer.bytes().len() != len as usize {
                return Err(Reason::Changed);
            }
            digest::chunk_digest(self.geometry, chunk, buffer.bytes())
        };
        if let Some(again) = &mut self.again {
            again.push(digest);
        }
        Ok(())
    }

    /// Whether the file system says that nothing was ever written there.
    fn is_hole(&mut self, offset: u64, len: u32) -> Result<bool, Reason> {
        if self.geometry.chunk_count() == 1 {
            return Ok(false);
        }
        let known = match self.extent {
            Some(Extent::DataUntil(end) | Extent::HoleUntil(end)) => end,
            None => 0,
        };
        // A second reading begins anew.
        if known <= offset || offset == 0 {
            self.extent = Some(self.file.extent_at(offset).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => Reason::Changed,
                _ => reason_of(&error),
            })?);
        }
        Ok(matches!(self.extent, Some(Extent::HoleUntil(end)) if end >= offset + u64::from(len)))
    }

    /// Whether the file is still the one that it was at its begin, both readings gave the same, and that is what was
    /// expected: what is not is read a second time before it counts.
    pub(super) fn look_again(&mut self) -> Result<Seen, Reason> {
        let stat = self.file.stat().map_err(|error| reason_of(&error))?;
        if stat.stamps() != self.begin.stamps() {
            return Err(Reason::Changed);
        }
        let is_steady = self.again.as_ref().is_none_or(|again| again.finish() == self.folder.finish());
        if !is_steady {
            // A hint to drop it from the cache: if that is what is wrong, the next first reading does not meet it again.
            self.file.start_writeback(0, self.geometry.file_bytes());
            return Err(Reason::SourceUnsteady);
        }
        let is_expected = self.expected.is_none_or(|expected| expected == self.folder.finish());
        match (is_expected, &self.again) {
            (true, _) => Ok(Seen::Good),
            (false, Some(_)) => Err(Reason::Unexpected),
            (false, None) => {
                self.again = Some(Folder::default());
                Ok(Seen::Doubtful)
            }
        }
    }
}

/// The mode bits that travel.
pub(super) fn permissions(stat: &Stat) -> u16 {
    u16::try_from(stat.mode & 0o777).expect("nine bits fit into sixteen")
}
