//! The manifest log: an append-only list of records that says what there is.
//!
//! File layout (all integers big-endian):
//!
//! ```text
//! header  18 "landfall manifest\n" · 2 version (1) · 4 chunk bytes · 16 transfer id
//! frame    4 length n · n record · 8 check
//! ```
//!
//! A record is the postcard encoding of [`Record`]. The chain c₀ = BLAKE3(header), cᵢ = BLAKE3(cᵢ₋₁ ‖ recordᵢ);
//! a frame's check is the first 8 bytes of its cᵢ, so that any damage, insertion or swap ends the usable part of
//! the file there. The value at `Complete` is the manifest digest. The n-th record that introduces an entry
//! (`Begin`, `Directory`, `Symlink`, `LeftOut`) gives it the index n. Between a `Begin` and its `End` or `Withdraw`
//! only `Chunks` of that entry stand, each with [`RECORD_DIGESTS_MAX`] digests save the last: so the place of a
//! digest in the file is arithmetic ([`DigestPlaces`]), and a lost log is rebuilt to the same chain.
//!
//! What this module does not do: I/O. The log on disk is `state/log.rs`.

mod sequence;

use serde::{Deserialize, Serialize};

use crate::attributes::{FileKind, Timestamp};
use crate::digest::{ChainValue, ChunkDigest, FileDigest};
use crate::geometry::{EntryIndex, Geometry};
use crate::identity::TransferId;
use crate::limits::{RECORD_BYTES_MAX, RECORD_DIGESTS_MAX};
use crate::outcome::{Counts, Reason};
use crate::path::RelPath;

pub use sequence::{OpenFile, Sequence, SequenceError, Step};

const MAGIC: &[u8; 18] = b"landfall manifest\n";
const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 40;
/// Bytes of a frame around its record.
pub const FRAME_OVERHEAD_BYTES: usize = 12;

/// What a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of a full chunk.
    pub chunk_bytes: u32,
    /// The transfer.
    pub transfer: TransferId,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..18].copy_from_slice(MAGIC);
        out[18..20].copy_from_slice(&VERSION.to_be_bytes());
        out[20..24].copy_from_slice(&self.chunk_bytes.to_be_bytes());
        out[24..].copy_from_slice(&self.transfer.0);
        out
    }

    /// Chain value before the first record.
    pub fn chain(&self) -> ChainValue {
        ChainValue::of_header(&self.encode())
    }
}

/// One record of the log. Part of formats: append variants, never reorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A regular file begins; its digests follow.
    Begin {
        /// Where it goes.
        path: RelPath,
        /// Its length in bytes.
        size: u64,
    },
    /// The next digests of the file that began last.
    Chunks {
        /// That file.
        entry: EntryIndex,
        /// In order.
        digests: Vec<ChunkDigest>,
    },
    /// All digests were given and the source was steady meanwhile.
    End {
        /// The file.
        entry: EntryIndex,
        /// The fold of its chunk digests.
        digest: FileDigest,
        /// Permission bits, 0777 at most.
        mode: u16,
        /// Time of its last change.
        mtime: Timestamp,
    },
    /// A directory.
    Directory {
        /// Where it goes.
        path: RelPath,
        /// Permission bits, 0777 at most.
        mode: u16,
        /// Time of its last change.
        mtime: Timestamp,
    },
    /// A symbolic link; never followed.
    Symlink {
        /// Where it goes.
        path: RelPath,
        /// Its text, any bytes.
        target: Vec<u8>,
        /// Time of its last change.
        mtime: Timestamp,
    },
    /// Something that is there and does not travel.
    LeftOut {
        /// Where it would have gone.
        path: RelPath,
        /// What it is.
        kind: FileKind,
        /// Why.
        reason: Reason,
    },
    /// An earlier entry no longer holds; a newer version may follow.
    Withdraw {
        /// That entry.
        entry: EntryIndex,
        /// Why.
        reason: Reason,
    },
    /// The walk is done. True for this position only: more records may follow, and a further `Complete`.
    Complete(Counts),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the encoding of any record.
    #[error("not a manifest record")]
    Malformed,
    /// More bytes than any record has.
    #[error("a manifest record is too long")]
    TooLong,
    /// A value that no well-behaved sender writes.
    #[error("a manifest record holds an impossible value ({0})")]
    Impossible(&'static str),
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("encoding into memory cannot fail")
    }

    /// Parses one record; every value in it is within the limits afterwards.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::TooLong);
        }
        let (record, rest) = postcard::take_from_bytes::<Record>(bytes).map_err(|_| DecodeError::Malformed)?;
        if !rest.is_empty() {
            return Err(DecodeError::Malformed);
        }
        record.look_for_impossible()?;
        Ok(record)
    }

    fn look_for_impossible(&self) -> Result<(), DecodeError> {
        let impossible = |what| Err(DecodeError::Impossible(what));
        match self {
            Record::Begin { size, .. } if *size > crate::limits::FILE_BYTES_MAX => impossible("size"),
            Record::Chunks { digests, .. } if digests.is_empty() || digests.len() > RECORD_DIGESTS_MAX => {
                impossible("digests")
            }
            Record::End { mode, .. } | Record::Directory { mode, .. } if *mode > 0o777 => impossible("mode"),
            Record::End { mtime, .. } | Record::Directory { mtime, .. } | Record::Symlink { mtime, .. }
                if mtime.nanos > 999_999_999 =>
            {
                impossible("time")
            }
            Record::Symlink { target, .. }
                if target.is_empty() || target.len() > crate::limits::LINK_TARGET_BYTES_MAX || target.contains(&0) =>
            {
                impossible("link target")
            }
            _ => Ok(()),
        }
    }

    /// The path, of a record that introduces an entry.
    pub fn path(&self) -> Option<&RelPath> {
        match self {
            Record::Begin { path, .. }
            | Record::Directory { path, .. }
            | Record::Symlink { path, .. }
            | Record::LeftOut { path, .. } => Some(path),
            Record::Chunks { .. } | Record::End { .. } | Record::Withdraw { .. } | Record::Complete(_) => None,
        }
    }
}

/// A place in a log: how many records, and the chain's value after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Records before this place.
    pub record_count: u64,
    /// Chain value there.
    pub chain: ChainValue,
}

/// Positions of a log at exponentially growing distances from its end: enough for two logs to find, in one
/// message, a recent place up to which they are equal.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    levels: Vec<[Option<Position>; 2]>,
}

impl Ladder {
    /// Takes note of a further position. Positions come in order of their count.
    pub fn push(&mut self, position: Position) {
        let highest = position.record_count.trailing_zeros().min(63) as usize;
        while self.levels.len() <= highest {
            self.levels.push([None, None]);
        }
        for level in &mut self.levels[..=highest] {
            *level = [level[1], Some(position)];
        }
    }

    /// The rungs, highest first. The last is always the empty log, given by its header's chain value.
    pub fn rungs(&self, start: ChainValue) -> Vec<Position> {
        let mut rungs: Vec<Position> = self.levels.iter().flatten().flatten().copied().collect();
        rungs.push(Position { record_count: 0, chain: start });
        rungs.sort_by_key(|position| std::cmp::Reverse(position.record_count));
        rungs.dedup();
        rungs
    }
}

/// One record with its length and check, as it stands in the file; and the chain's value after it.
pub fn frame(record: &[u8], chain: ChainValue) -> (Vec<u8>, ChainValue) {
    let next = chain.next(record);
    let mut out = Vec::with_capacity(record.len() + FRAME_OVERHEAD_BYTES);
    out.extend_from_slice(&u32::try_from(record.len()).expect("bounded by RECORD_BYTES_MAX").to_be_bytes());
    out.extend_from_slice(record);
    out.extend_from_slice(&next.check());
    (out, next)
}

/// What stands at the start of a piece of a log.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole, undamaged frame.
    Frame {
        /// The record in it.
        record: &'a [u8],
        /// Chain value after it.
        chain: ChainValue,
        /// Bytes that the frame takes.
        frame_bytes: usize,
    },
    /// The piece ends inside a frame that may be good.
    Short,
    /// Not a frame of this log.
    Damaged,
}

/// Parses the frame at the start of `bytes`, given the chain's value before it.
pub fn parse_frame(bytes: &[u8], chain: ChainValue) -> Parsed<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Parsed::Short };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > RECORD_BYTES_MAX {
        return Parsed::Damaged;
    }
    if rest.len() < length + 8 {
        return Parsed::Short;
    }
    let next = chain.next(&rest[..length]);
    if rest[length..length + 8] != next.check() {
        return Parsed::Damaged;
    }
    Parsed::Frame { record: &rest[..length], chain: next, frame_bytes: length + FRAME_OVERHEAD_BYTES }
}

/// Where the digests of one file stand in the log file, by arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestPlaces {
    first_frame_offset: u64,
    entry_bytes: u64,
    chunk_count: u32,
}

impl DigestPlaces {
    /// `first_frame_offset` is where the frame after the file's `Begin` starts.
    pub fn new(first_frame_offset: u64, entry: EntryIndex, geometry: Geometry) -> DigestPlaces {
        let entry_bytes = match entry.0 {
            0..=0x7f => 1,
            0x80..=0x3fff => 2,
            0x4000..=0x1f_ffff => 3,
            0x20_0000..=0xfff_ffff => 4,
            _ => 5,
        };
        DigestPlaces { first_frame_offset, entry_bytes, chunk_count: geometry.chunk_count() }
    }

    /// Offset in the file of the 32 bytes of a chunk's digest.
    pub fn offset(&self, chunk: u32) -> u64 {
        let per_record = RECORD_DIGESTS_MAX as u64;
        let (record, index) = (u64::from(chunk) / per_record, u64::from(chunk) % per_record);
        // Frame: 4 length, 1 variant, the entry as a varint, 1 count (below 128), digests, 8 check.
        self.first_frame_offset + record * self.frame_bytes(per_record) + 4 + 1 + self.entry_bytes + 1 + 32 * index
    }

    /// Offset in the file of the frame after the last of the file's `Chunks`.
    pub fn end_offset(&self) -> u64 {
        let per_record = RECORD_DIGESTS_MAX as u64;
        let (full, rest) = (u64::from(self.chunk_count) / per_record, u64::from(self.chunk_count) % per_record);
        let last = if rest == 0 { 0 } else { self.frame_bytes(rest) };
        self.first_frame_offset + full * self.frame_bytes(per_record) + last
    }

    fn frame_bytes(&self, digests: u64) -> u64 {
        FRAME_OVERHEAD_BYTES as u64 + 1 + self.entry_bytes + 1 + 32 * digests
    }
}

#[cfg(test)]
mod tests;
