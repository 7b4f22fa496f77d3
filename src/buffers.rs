//! Buffers of chunk bodies, used again and again: memory that was touched before costs neither page faults nor a
//! clearing, and lies where O_DIRECT accepts it. What it does not do: bound how many are in use; whoever takes one has
//! a permit for its bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::limits::{BUFFER_CHUNKS_MAX, CHUNK_BYTES, DIRECT_ALIGNMENT_BYTES, DIRECT_BYTES_MIN};

/// Where buffers are taken from and come back to. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// A buffer of exactly `len` bytes of unspecified content. From [`DIRECT_BYTES_MIN`] bytes on it is aligned.
    pub fn take(&self, len: usize) -> Buffer {
        let capacity = CHUNK_BYTES as usize + DIRECT_ALIGNMENT_BYTES;
        if len < DIRECT_BYTES_MIN || len > CHUNK_BYTES as usize {
            return Buffer { storage: vec![0; len], start: 0, len, home: None };
        }
        let storage = self.lock().pop().unwrap_or_else(|| vec![0; capacity]);
        let start = storage.as_ptr().align_offset(DIRECT_ALIGNMENT_BYTES);
        Buffer { storage, start, len, home: Some(self.clone()) }
    }

    fn put_back(&self, storage: Vec<u8>) {
        let mut free = self.lock();
        if free.len() < BUFFER_CHUNKS_MAX {
            free.push(storage);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One buffer. It comes back when it is dropped, or when the last of the [`Bytes`] that were made of it is.
#[derive(Debug)]
pub struct Buffer {
    storage: Vec<u8>,
    start: usize,
    len: usize,
    home: Option<Buffers>,
}

impl Buffer {
    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }

    /// Its bytes, shared from now on and changed no more.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.put_back(std::mem::take(&mut self.storage));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_aligned_and_its_memory_is_used_again() {
        let buffers = Buffers::default();
        let mut first = buffers.take(CHUNK_BYTES as usize);
        first.bytes_mut().fill(7);
        let place = first.as_ref().as_ptr() as usize;
        assert!(place.is_multiple_of(DIRECT_ALIGNMENT_BYTES));
        let (bytes, other) = (first.freeze(), buffers.take(CHUNK_BYTES as usize));
        assert!(other.as_ref().as_ptr() as usize != place, "it is in use");
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&part[..], buffers.lock().len()), (&[7, 7][..], 0));
        drop(part);
        let again = buffers.take(DIRECT_BYTES_MIN);
        assert_eq!((again.as_ref().as_ptr() as usize, again.as_ref().len()), (place, DIRECT_BYTES_MIN));
    }

    #[test]
    fn small_buffers_are_nobodys_and_no_more_are_kept_than_the_limit() {
        let buffers = Buffers::default();
        assert_eq!(buffers.take(5).freeze().len(), 5);
        assert!(buffers.take(0).as_ref().is_empty());
        let taken: Vec<Buffer> = (0..BUFFER_CHUNKS_MAX + 3).map(|_| buffers.take(CHUNK_BYTES as usize)).collect();
        drop(taken);
        assert_eq!(buffers.lock().len(), BUFFER_CHUNKS_MAX);
    }
}
