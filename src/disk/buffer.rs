//! A buffer that O_DIRECT accepts, without `unsafe`: a piece of chunk memory, or for short and for longer reads an
//! over-allocated vector and its aligned part. What a read leaves as it was can be told from what it has read.

use crate::buffers::Piece;
use crate::limits::{CHUNK_BYTES, DIRECT_ALIGNMENT_BYTES, DIRECT_BYTES_MIN};

const PIECE_BYTES: usize = CHUNK_BYTES as usize;
/// What a device writes at once, at least.
const SECTOR_BYTES: usize = 512;

/// A reusable, aligned buffer. Holds the bytes of the last read.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    storage: Storage,
    filled: usize,
}

#[derive(Debug, Default)]
enum Storage {
    #[default]
    None,
    Piece(Piece),
    Own(Vec<u8>),
}

impl AlignedBuffer {
    /// An aligned slice of at least `len` bytes, `len` rounded up to the alignment. Its content is unspecified, but each
    /// sector of it differs from what was there: a read that says that it has filled it, and has not, leaves other bytes
    /// than those that were to be proved, even if this memory held them before.
    pub fn prepare(&mut self, len: usize) -> &mut [u8] {
        let rounded = len.next_multiple_of(DIRECT_ALIGNMENT_BYTES);
        if self.all().len() < rounded {
            self.storage = match rounded {
                DIRECT_BYTES_MIN..=PIECE_BYTES => Storage::Piece(Piece::take()),
                _ => Storage::Own(vec![0; rounded + DIRECT_ALIGNMENT_BYTES]),
            };
        }
        self.filled = 0;
        let slice = &mut self.all_mut()[..rounded];
        // Not by a bit that a second time turns back.
        slice.iter_mut().step_by(SECTOR_BYTES).for_each(|byte| *byte = byte.wrapping_add(1));
        slice
    }

    /// Says how many bytes of the prepared slice are the result of the read.
    pub fn set_filled(&mut self, filled: usize) {
        assert!(filled <= self.all().len(), "no more can be filled than was prepared");
        self.filled = filled;
    }

    /// The bytes of the last read.
    pub fn bytes(&self) -> &[u8] {
        &self.all()[..self.filled]
    }

    /// The same, to be changed in place (fault injection).
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let filled = self.filled;
        &mut self.all_mut()[..filled]
    }

    fn all(&self) -> &[u8] {
        match &self.storage {
            Storage::None => &[],
            Storage::Piece(piece) => piece.bytes(),
            Storage::Own(bytes) => &bytes[start_of(bytes)..],
        }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::None => &mut [],
            Storage::Piece(piece) => piece.bytes_mut(),
            Storage::Own(bytes) => {
                let start = start_of(bytes);
                &mut bytes[start..]
            }
        }
    }
}

fn start_of(bytes: &[u8]) -> usize {
    bytes.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_is_aligned_and_large_enough() {
        let mut buffer = AlignedBuffer::default();
        assert!(buffer.bytes().is_empty());
        for len in [1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, 5] {
            let slice = buffer.prepare(len);
            assert!(slice.len() >= len && slice.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES) == 0);
            slice[0] = 7;
            buffer.set_filled(1);
            assert_eq!(buffer.bytes(), [7]);
        }
    }

    #[test]
    fn memory_that_holds_the_right_bytes_already_proves_nothing() {
        let right: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let mut buffer = AlignedBuffer::default();
        buffer.prepare(right.len()).copy_from_slice(&right);
        for _ in 0..5 {
            // As after a read that says that it has filled it.
            let slice = buffer.prepare(right.len());
            let differing = slice.chunks(512).zip(right.chunks(512)).filter(|(found, right)| found != right).count();
            assert_eq!(differing, right.len() / 512);
        }
    }
}
