//! The sender's private stamps: by which a file that was hashed is known to be unchanged in a later run. A file
//! beside the manifest log, one slot of fixed size for each entry:
//!
//! ```text
//! 8 size · 8 mtime seconds · 4 nanoseconds · 8 ctime seconds · 4 nanoseconds · 8 inode · 8 device · 8 check
//! ```
//!
//! Integers big-endian; the check is the first 8 bytes of BLAKE3(transfer id ‖ entry ‖ path hash ‖ the 48 bytes
//! before it). A slot whose check is wrong says nothing, and the file is hashed again. Never synced, for that reason.

use std::io;

use crate::attributes::{Stamps, Timestamp};
use crate::digest::{PathHash, check8};
use crate::disk::{Disk, DiskFile};
use crate::geometry::EntryIndex;
use crate::identity::TransferId;
use crate::state::files::open_own;

const BODY_BYTES: usize = 48;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = BODY_BYTES + 8;
/// Slots read at once: entries come in order nearly always.
const PAGE_SLOTS: u64 = 1024;

/// Stamps of one file, to be written into its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which slot.
    pub entry: EntryIndex,
    /// The file's path.
    pub path: PathHash,
    /// What was found.
    pub stamps: Stamps,
}

/// The open file of stamps.
pub struct StampFile<D: Disk> {
    file: D::File,
    transfer: TransferId,
    page_start: u64,
    page: Vec<u8>,
}

impl<D: Disk> StampFile<D> {
    /// Opens the file `name` in `dir`, making it if it is not there.
    pub fn open(disk: &D, dir: &D::Dir, name: &[u8], transfer: TransferId) -> io::Result<StampFile<D>> {
        let file = open_own(disk, dir, name)?;
        Ok(StampFile { file, transfer, page_start: 0, page: vec![] })
    }

    /// The stamps of an entry with that path, if its slot is good. A slot that cannot be read is not good.
    pub fn get(&mut self, entry: EntryIndex, path: PathHash) -> Option<Stamps> {
        let offset = u64::from(entry.0) * SLOT_BYTES as u64;
        let end = self.page_start + self.page.len() as u64;
        if offset < self.page_start || offset + SLOT_BYTES as u64 > end {
            self.page.resize(usize::try_from(PAGE_SLOTS).ok()? * SLOT_BYTES, 0);
            self.page_start = offset;
            let length = self.file.read_at(&mut self.page, offset).unwrap_or(0);
            self.page.truncate(length);
        }
        let at = usize::try_from(offset - self.page_start).ok()?;
        let slot = self.page.get(at..at + SLOT_BYTES)?;
        let (body, check) = slot.split_at(BODY_BYTES);
        (check == self.check(entry, path, body)).then(|| decode(body)).flatten()
    }

    /// Writes slots. Their entries are ascending; slots of entries between them are cleared.
    pub fn put(&mut self, slots: &[Slot]) -> io::Result<()> {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Ok(()) };
        let count = (last.entry.0 - first.entry.0) as usize + 1;
        let mut bytes = vec![0; count * SLOT_BYTES];
        for slot in slots {
            let at = (slot.entry.0 - first.entry.0) as usize * SLOT_BYTES;
            let body = encode(&slot.stamps);
            let check = self.check(slot.entry, slot.path, &body);
            bytes[at..at + BODY_BYTES].copy_from_slice(&body);
            bytes[at + BODY_BYTES..at + SLOT_BYTES].copy_from_slice(&check);
        }
        self.page.clear();
        self.file.write_all_at(&bytes, u64::from(first.entry.0) * SLOT_BYTES as u64)
    }

    fn check(&self, entry: EntryIndex, path: PathHash, body: &[u8]) -> [u8; 8] {
        check8(&[&self.transfer.0, &entry.0.to_be_bytes(), &path.0, body])
    }
}

fn encode(stamps: &Stamps) -> [u8; BODY_BYTES] {
    let mut out = [0; BODY_BYTES];
    out[..8].copy_from_slice(&stamps.size.to_be_bytes());
    for (at, time) in [(8, stamps.mtime), (20, stamps.ctime)] {
        out[at..at + 8].copy_from_slice(&time.seconds.to_be_bytes());
        out[at + 8..at + 12].copy_from_slice(&time.nanos.to_be_bytes());
    }
    out[32..40].copy_from_slice(&stamps.inode.to_be_bytes());
    out[40..].copy_from_slice(&stamps.device.to_be_bytes());
    out
}

fn decode(body: &[u8]) -> Option<Stamps> {
    let long = |at: usize| body.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let time = |at: usize| {
        let seconds = body.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes)?;
        let nanos = body.get(at + 8..at + 12)?.try_into().ok().map(u32::from_be_bytes)?;
        Some(Timestamp { seconds, nanos })
    };
    Some(Stamps { size: long(0)?, mtime: time(8)?, ctime: time(20)?, inode: long(32)?, device: long(40)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::disk::RealDisk;

    fn slot(entry: u32, size: u64) -> Slot {
        let time = Timestamp { seconds: -3, nanos: 999 };
        let stamps = Stamps { size, mtime: time, ctime: Timestamp::default(), inode: 1 << 40, device: 7 };
        Slot { entry: EntryIndex(entry), path: PathHash([9; 16]), stamps }
    }

    #[test]
    fn a_slot_comes_back_for_its_own_entry_path_and_transfer_only() {
        let (home, disk) = (tempfile::tempdir().unwrap(), RealDisk::new());
        let dir = RealDisk::open_root(home.path()).unwrap();
        let open = |id: u8| StampFile::open(&disk, &dir, b"stamps", TransferId([id; 16])).unwrap();
        let mut file = open(1);
        file.put(&[slot(3, 5), slot(5, 6)]).unwrap();
        file.put(&[slot(2000, 8)]).unwrap();
        for expected in [slot(3, 5), slot(5, 6), slot(2000, 8)] {
            assert_eq!(file.get(expected.entry, expected.path), Some(expected.stamps));
            assert_eq!(file.get(expected.entry, PathHash([8; 16])), None);
            assert_eq!(open(2).get(expected.entry, expected.path), None);
            assert_eq!(open(1).get(expected.entry, expected.path), Some(expected.stamps));
        }
        for entry in [0, 4, 1999, 2001, u32::MAX] {
            assert_eq!(file.get(EntryIndex(entry), PathHash([9; 16])), None, "{entry}");
        }
    }

    #[test]
    fn no_changed_bit_of_a_slot_passes() {
        let (home, disk) = (tempfile::tempdir().unwrap(), RealDisk::new());
        let dir = RealDisk::open_root(home.path()).unwrap();
        let expected = slot(0, 5);
        let mut file = StampFile::open(&disk, &dir, b"stamps", TransferId([1; 16])).unwrap();
        file.put(&[expected]).unwrap();
        let path = home.path().join("stamps");
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), SLOT_BYTES);
        for bit in 0..SLOT_BYTES * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            let mut file = StampFile::open(&disk, &dir, b"stamps", TransferId([1; 16])).unwrap();
            assert_eq!(file.get(expected.entry, expected.path), None, "bit {bit}");
        }
    }
}
