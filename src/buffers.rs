//! Memory for the bodies of chunks, used again and again by the whole process. It costs no page faults or clearing after
//! its first use, and it lies where O_DIRECT accepts it, on huge pages where the kernel gives them: a device that is
//! handed a chunk in one piece instead of 256 moves it up to three times as fast. What it does not do: bound how much is in
//! use; whoever takes a buffer has a permit for its bytes. What was in use at once stays with the process. Nor does it
//! clear what it gives: a buffer may hold the very bytes that its user is about to read, so whoever reads for a proof makes
//! it different first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

use crate::limits::{
    CHUNK_BUFFER_BYTES_MIN, CHUNK_BYTES, CHUNK_MEMORY_BYTES, DIRECT_ALIGNMENT_BYTES, DIRECT_BYTES_MIN, HUGE_PAGE_BYTES,
};

const PIECE_BYTES: usize = CHUNK_BYTES as usize;

static STOCK: Mutex<Vec<&'static mut [u8]>> = Mutex::new(vec![]);

fn stock() -> MutexGuard<'static, Vec<&'static mut [u8]>> {
    STOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Aligned memory for one chunk, of unspecified content. Whoever drops it gives it back to the process.
#[derive(Debug)]
pub struct Piece(&'static mut [u8]);

impl Piece {
    /// One that nobody else has.
    pub fn take() -> Piece {
        let mut stock = stock();
        loop {
            match stock.pop() {
                Some(piece) => return Piece(piece),
                None => stock.extend(fresh()),
            }
        }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }

    /// All of it, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        stock().push(std::mem::take(&mut self.0));
    }
}

/// The pieces of some huge pages, which the process never gives back. Where the kernel has none, they lie on ordinary
/// pages.
fn fresh() -> impl Iterator<Item = &'static mut [u8]> {
    let room: &'static mut [u8] = match MmapMut::map_anon(CHUNK_MEMORY_BYTES + HUGE_PAGE_BYTES) {
        Ok(room) => {
            // A kernel without huge pages refuses, and that is all.
            drop(room.advise(Advice::HugePage));
            &mut Box::leak(Box::new(room))[..]
        }
        Err(_) => Box::leak(vec![0; CHUNK_MEMORY_BYTES + HUGE_PAGE_BYTES].into_boxed_slice()),
    };
    let start = room.as_ptr().align_offset(HUGE_PAGE_BYTES);
    room[start..start + CHUNK_MEMORY_BYTES].chunks_exact_mut(PIECE_BYTES)
}

/// One buffer. Its memory comes back when it is dropped, or when the last of the [`Bytes`] that were made of it is.
#[derive(Debug)]
pub struct Buffer {
    storage: Storage,
    len: usize,
}

#[derive(Debug)]
enum Storage {
    Piece(Piece),
    /// From this offset on.
    Own(Vec<u8>, usize),
}

impl Buffer {
    /// A buffer of exactly `len` bytes of unspecified content. From [`DIRECT_BYTES_MIN`] bytes on it is aligned.
    pub fn take(len: usize) -> Buffer {
        let storage = match len {
            CHUNK_BUFFER_BYTES_MIN..=PIECE_BYTES => Storage::Piece(Piece::take()),
            ..DIRECT_BYTES_MIN => Storage::Own(vec![0; len], 0),
            _ => {
                let bytes = vec![0; len + DIRECT_ALIGNMENT_BYTES];
                let start = bytes.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES);
                Storage::Own(bytes, start)
            }
        };
        Buffer { storage, len }
    }

    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::Piece(piece) => &mut piece.bytes_mut()[..self.len],
            Storage::Own(bytes, start) => &mut bytes[*start..*start + self.len],
        }
    }

    /// Its bytes, shared from now on and changed no more.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match &self.storage {
            Storage::Piece(piece) => &piece.bytes()[..self.len],
            Storage::Own(bytes, start) => &bytes[*start..*start + self.len],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn place(buffer: &Buffer) -> usize {
        buffer.as_ref().as_ptr() as usize
    }

    #[test]
    fn a_large_buffer_is_aligned_and_in_one_use_only() {
        let mut buffers: Vec<Buffer> = (DIRECT_BYTES_MIN..=PIECE_BYTES).step_by(99_999).map(Buffer::take).collect();
        for (mark, buffer) in buffers.iter_mut().enumerate() {
            buffer.bytes_mut().fill(u8::try_from(mark).expect("few"));
        }
        for (mark, buffer) in buffers.iter().enumerate() {
            assert!(place(buffer).is_multiple_of(DIRECT_ALIGNMENT_BYTES));
            assert!(buffer.as_ref().iter().all(|byte| usize::from(*byte) == mark), "it is somebody else's too");
        }
    }

    #[test]
    fn memory_comes_back_with_the_last_of_its_bytes() {
        let mut buffer = Buffer::take(PIECE_BYTES);
        buffer.bytes_mut()[1..3].fill(7);
        let address = buffer.as_ref().as_ptr() as usize;
        let is_free = || stock().iter().any(|piece| piece.as_ptr() as usize == address);
        let bytes = buffer.freeze();
        let part = bytes.slice(1..3);
        drop(bytes);
        assert!(part[..] == [7, 7] && !is_free());
        drop(part);
        // Another test may have taken it at once, and gives it back.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_free() {
            assert!(Instant::now() < deadline, "it did not come back");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_not_about_a_chunk_has_memory_of_its_own() {
        let is_piece = |len| matches!(Buffer::take(len).storage, Storage::Piece(_));
        assert!(is_piece(PIECE_BYTES) && !is_piece(PIECE_BYTES / 2) && !is_piece(DIRECT_BYTES_MIN));
        assert_eq!(Buffer::take(5).freeze().len(), 5);
        assert!(Buffer::take(0).as_ref().is_empty());
        assert_eq!(Buffer::take(PIECE_BYTES + 1).as_ref().len(), PIECE_BYTES + 1);
    }
}
