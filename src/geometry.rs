//! Where chunks lie in a file. The only place that makes a [`ChunkIndex`]: an index is earned from a
//! [`Geometry`], so a raw number of a peer or of a damaged file cannot become one.

mod chunk_set;

use serde::{Deserialize, Serialize};

use crate::limits::FILE_BYTES_MAX;

pub use chunk_set::ChunkSet;

/// Position of an entry in the manifest: the n-th record that introduces one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryIndex(pub u32);

/// Position of a chunk in its file. Only [`Geometry`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(u32);

impl ChunkIndex {
    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// One chunk of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// The file.
    pub entry: EntryIndex,
    /// The chunk in it.
    pub chunk: ChunkIndex,
}

/// The chunks `first .. first + count` of one file, as numbers that nobody has compared with a geometry yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkRun {
    /// First chunk.
    pub first: u32,
    /// How many; never 0 in a message.
    pub count: u32,
}

/// How a file of a given size falls into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    file_bytes: u64,
    chunk_bytes: u32,
}

impl Geometry {
    /// `None` if the file is larger than [`FILE_BYTES_MAX`], the chunk size is not a power of two of at least
    /// 1 KiB (BLAKE3's leaf), or there would be more than `u32::MAX` chunks.
    pub fn new(file_bytes: u64, chunk_bytes: u32) -> Option<Geometry> {
        let is_size_good = chunk_bytes.is_power_of_two() && chunk_bytes >= 1024;
        if !is_size_good || file_bytes > FILE_BYTES_MAX {
            return None;
        }
        u32::try_from(file_bytes.div_ceil(u64::from(chunk_bytes))).ok()?;
        Some(Geometry { file_bytes, chunk_bytes })
    }

    /// Size of the file.
    pub fn file_bytes(self) -> u64 {
        self.file_bytes
    }

    /// Size of a full chunk.
    pub fn chunk_bytes(self) -> u32 {
        self.chunk_bytes
    }

    /// Number of chunks; 0 for an empty file.
    pub fn chunk_count(self) -> u32 {
        u32::try_from(self.file_bytes.div_ceil(u64::from(self.chunk_bytes))).expect("`new` has seen that it fits")
    }

    /// The chunk with that number, if the file has it.
    pub fn chunk(self, raw: u32) -> Option<ChunkIndex> {
        (raw < self.chunk_count()).then_some(ChunkIndex(raw))
    }

    /// Offset of a chunk's first byte.
    pub fn offset(self, chunk: ChunkIndex) -> u64 {
        u64::from(chunk.0) * u64::from(self.chunk_bytes)
    }

    /// Length of a chunk: full, but the last may be shorter. Never 0.
    pub fn chunk_len(self, chunk: ChunkIndex) -> u32 {
        let rest = self.file_bytes - self.offset(chunk);
        u32::try_from(rest.min(u64::from(self.chunk_bytes))).expect("bounded by the chunk size")
    }

    /// Bytes of a run that lies in the file; `None` if it does not.
    pub fn run_bytes(self, run: ChunkRun) -> Option<u64> {
        let end = run.first.checked_add(run.count)?;
        if end > self.chunk_count() || run.count == 0 {
            return None;
        }
        let end_byte = (u64::from(end) * u64::from(self.chunk_bytes)).min(self.file_bytes);
        Some(end_byte - u64::from(run.first) * u64::from(self.chunk_bytes))
    }

    /// Every chunk of a run that lies in the file.
    pub fn chunks(self, run: ChunkRun) -> impl Iterator<Item = ChunkIndex> {
        (run.first..run.first.saturating_add(run.count).min(self.chunk_count())).map(ChunkIndex)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    use super::*;

    #[test]
    fn an_empty_file_has_no_chunk() {
        let geometry = Geometry::new(0, 4096).unwrap();
        assert_eq!(geometry.chunk_count(), 0);
        assert_eq!(geometry.chunk(0), None);
    }

    #[test]
    fn the_last_chunk_is_the_rest() {
        let geometry = Geometry::new(4096 * 2 + 1, 4096).unwrap();
        assert_eq!(geometry.chunk_count(), 3);
        let last = geometry.chunk(2).unwrap();
        assert_eq!((geometry.offset(last), geometry.chunk_len(last)), (8192, 1));
        assert_eq!(geometry.chunk(3), None);
        assert_eq!(geometry.run_bytes(ChunkRun { first: 1, count: 2 }), Some(4097));
        assert_eq!(geometry.run_bytes(ChunkRun { first: 1, count: 3 }), None);
        assert_eq!(geometry.run_bytes(ChunkRun { first: u32::MAX, count: 2 }), None);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert_eq!(Geometry::new(u64::MAX, 1 << 20), None);
        assert_eq!(Geometry::new(1, 0), None);
        assert_eq!(Geometry::new(1, 1000), None);
        assert_eq!(Geometry::new(1 << 50, 1024), None);
    }
}
