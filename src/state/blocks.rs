//! A file of our own of which small pieces are read again and again: blocks that were read stay in memory until another
//! one needs their slot.
//! Whoever must know what is on the disk by now asks the file itself.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::DiskFile;
use crate::limits::{LOG_BLOCK_BYTES as BLOCK_BYTES, LOG_KEPT_BYTES};

const BLOCKS_MAX: usize = LOG_KEPT_BYTES / BLOCK_BYTES;

/// See the module.
#[derive(Debug)]
pub(crate) struct Blocks<F> {
    file: F,
    /// A block has one slot, by its number. There are no more slots than were needed.
    kept: Mutex<Vec<Option<Block>>>,
}

/// One block. It is short only at the end of the file.
#[derive(Debug)]
struct Block {
    number: u64,
    bytes: Vec<u8>,
}

impl<F: DiskFile> Blocks<F> {
    /// Nothing is kept yet.
    pub(crate) fn new(file: F) -> Blocks<F> {
        Blocks { file, kept: Mutex::default() }
    }

    /// The file itself. Who changes it says so with [`Blocks::changed`].
    pub(crate) fn file(&self) -> &F {
        &self.file
    }

    /// Everything from an offset on was changed, or may have been.
    pub(crate) fn changed(&self, offset: u64) {
        for slot in self.lock().iter_mut() {
            slot.take_if(|block| (block.number + 1) * BLOCK_BYTES as u64 > offset);
        }
    }

    /// Reads up to `buffer.len()` bytes at an offset. Short only at the end of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        // Held while a block is read, so that whoever changes the file meanwhile drops it afterwards.
        let mut kept = self.lock();
        while done < buffer.len() {
            let at = offset + done as u64;
            let start = usize::try_from(at % BLOCK_BYTES as u64).expect("less than a block");
            let block = self.use_block(&mut kept, at / BLOCK_BYTES as u64)?;
            let count = block.len().saturating_sub(start).min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&block[start.min(block.len())..][..count]);
            done += count;
            if block.len() < BLOCK_BYTES {
                break;
            }
        }
        Ok(done)
    }

    fn use_block<'a>(&self, kept: &'a mut Vec<Option<Block>>, number: u64) -> io::Result<&'a [u8]> {
        let at = usize::try_from(number % BLOCKS_MAX as u64).expect("the number of a slot");
        if kept.len() <= at {
            kept.resize_with(at + 1, || None);
        }
        let slot = &mut kept[at];
        if slot.as_ref().is_none_or(|block| block.number != number) {
            let mut bytes = slot.take().map_or_else(Vec::new, |block| block.bytes);
            bytes.resize(BLOCK_BYTES, 0);
            let length = self.file.read_at(&mut bytes, number * BLOCK_BYTES as u64)?;
            bytes.truncate(length);
            *slot = Some(Block { number, bytes });
        }
        Ok(slot.as_ref().map_or(&[], |block| &block.bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Block>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::disk::{Disk, RealDisk};

    #[test]
    fn pieces_are_what_the_file_holds_also_after_it_has_changed() {
        let temp = tempfile::tempdir().unwrap();
        let file = RealDisk.create_exclusive(&RealDisk::open_root(temp.path()).unwrap(), b"file").unwrap();
        let blocks = Blocks::new(file);
        let mut model: Vec<u8> = vec![];
        // Pieces across their borders, and each end of the file in the middle of one.
        for round in 0..60_u8 {
            let piece: Vec<u8> = (0..BLOCK_BYTES + 77).map(|at| round.wrapping_mul(31) ^ at.to_le_bytes()[0]).collect();
            blocks.file().write_all_at(&piece, model.len() as u64).unwrap();
            blocks.changed(model.len() as u64);
            model.extend_from_slice(&piece);
            for offset in
                [0, model.len() / 3, model.len() - 100, model.len() - 5, model.len(), model.len() + BLOCK_BYTES]
            {
                let mut buffer = [0; 640];
                let count = blocks.read_at(&mut buffer, offset as u64).unwrap();
                let expected =
                    &model[offset.min(model.len())..(offset + 640).min(model.len()).max(offset.min(model.len()))];
                assert_eq!((count, &buffer[..count]), (expected.len(), expected), "round {round}, at {offset}");
            }
        }
        // More blocks than there are slots: the rest of the file is a hole.
        blocks.file().set_len((BLOCKS_MAX as u64 + 7) * BLOCK_BYTES as u64).unwrap();
        blocks.changed(model.len() as u64);
        for number in 0..BLOCKS_MAX as u64 + 7 {
            let (mut buffer, offset) = ([0; 9], number * BLOCK_BYTES as u64);
            assert_eq!(blocks.read_at(&mut buffer, offset).unwrap(), 9);
            let at = usize::try_from(offset).unwrap();
            assert_eq!(buffer[..], *model.get(at..at + 9).unwrap_or(&[0; 9]), "block {number}");
        }
        assert_eq!(blocks.read_at(&mut [0; 9], 0).unwrap(), 9);
        assert_eq!(blocks.lock().iter().flatten().count(), BLOCKS_MAX);
        blocks.file().set_len(10).unwrap();
        blocks.changed(10);
        assert_eq!(blocks.read_at(&mut [0; 64], 0).unwrap(), 10);
        assert_eq!(blocks.read_at(&mut [0; 64], 100_000).unwrap(), 0);
    }

    #[test]
    fn what_was_read_is_not_read_again() {
        let temp = tempfile::tempdir().unwrap();
        let file = RealDisk.create_exclusive(&RealDisk::open_root(temp.path()).unwrap(), b"file").unwrap();
        file.write_all_at(b"before", 0).unwrap();
        let blocks = Blocks::new(file);
        let mut buffer = [0; 6];
        blocks.read_at(&mut buffer, 0).unwrap();
        blocks.file().write_all_at(b"after!", 0).unwrap();
        blocks.read_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"before");
        blocks.changed(3);
        blocks.read_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"after!");
    }
}
