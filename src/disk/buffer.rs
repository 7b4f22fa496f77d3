//! A buffer that O_DIRECT accepts, without `unsafe`: a piece of chunk memory, or for longer reads an over-allocated
//! vector and its aligned part.

use crate::buffers::Piece;
use crate::limits::DIRECT_ALIGNMENT_BYTES;

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
    Long(Vec<u8>),
}

impl AlignedBuffer {
    /// An aligned slice of at least `len` bytes, `len` rounded up to the alignment; its content is unspecified.
    pub fn prepare(&mut self, len: usize) -> &mut [u8] {
        let rounded = len.next_multiple_of(DIRECT_ALIGNMENT_BYTES);
        if self.all().len() < rounded {
            let piece = Piece::take();
            self.storage = match piece.bytes().len() >= rounded {
                true => Storage::Piece(piece),
                false => Storage::Long(vec![0; rounded + DIRECT_ALIGNMENT_BYTES]),
            };
        }
        self.filled = 0;
        &mut self.all_mut()[..rounded]
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
            Storage::Long(bytes) => &bytes[start_of(bytes)..],
        }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::None => &mut [],
            Storage::Piece(piece) => piece.bytes_mut(),
            Storage::Long(bytes) => {
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
}
