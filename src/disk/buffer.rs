//! A buffer that O_DIRECT accepts, without `unsafe`: an over-allocated vector and its aligned part.

use crate::limits::DIRECT_ALIGNMENT_BYTES;

/// A reusable, aligned buffer. Holds the bytes of the last read.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    storage: Vec<u8>,
    filled: usize,
}

impl AlignedBuffer {
    /// An aligned slice of at least `len` bytes, `len` rounded up to the alignment; its content is unspecified.
    pub fn prepare(&mut self, len: usize) -> &mut [u8] {
        let rounded = len.next_multiple_of(DIRECT_ALIGNMENT_BYTES);
        if self.storage.len() < rounded + DIRECT_ALIGNMENT_BYTES {
            self.storage.resize(rounded + DIRECT_ALIGNMENT_BYTES, 0);
        }
        self.filled = 0;
        let start = self.start();
        &mut self.storage[start..start + rounded]
    }

    /// Says how many bytes of the prepared slice are the result of the read.
    pub fn set_filled(&mut self, filled: usize) {
        assert!(self.start() + filled <= self.storage.len(), "no more can be filled than was prepared");
        self.filled = filled;
    }

    /// The bytes of the last read.
    pub fn bytes(&self) -> &[u8] {
        let start = self.start();
        &self.storage[start..start + self.filled]
    }

    /// The same, to be changed in place (fault injection).
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.start();
        &mut self.storage[start..start + self.filled]
    }

    fn start(&self) -> usize {
        if self.storage.is_empty() { 0 } else { self.storage.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_is_aligned_and_large_enough() {
        let mut buffer = AlignedBuffer::default();
        assert!(buffer.bytes().is_empty());
        for len in [1, 4095, 4096, 4097, 1 << 20] {
            let slice = buffer.prepare(len);
            assert!(slice.len() >= len && slice.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES) == 0);
            slice[0] = 7;
            buffer.set_filled(1);
            assert_eq!(buffer.bytes(), [7]);
        }
    }
}
