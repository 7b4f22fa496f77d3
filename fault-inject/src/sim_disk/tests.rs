//! Tests of the simulated disk by topic, and the few words they share. They drive it through the storage seam, as
//! the program does, and judge through the oracle's side door.
#![allow(clippy::unwrap_used)]

mod basics;
mod chance;
mod crashes;
mod faults;

use std::io;

use landfall::attributes::Level;
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile};

use super::{SimDials, SimDir, SimDisk, SimFile, View};

fn quiet() -> (SimDisk, SimDir) {
    let disk = SimDisk::new(1, SimDials::off());
    let root = disk.root();
    (disk, root)
}

/// Bytes without zeros and without repetition at any small distance.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251 + 1).unwrap()).collect()
}

fn create(disk: &SimDisk, dir: &SimDir, name: &[u8], bytes: &[u8]) -> SimFile {
    let file = disk.create_exclusive(dir, name).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read_cached(file: &SimFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.stat().unwrap().size).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn read_uncached(file: &SimFile) -> (Vec<u8>, Level) {
    let mut buffer = AlignedBuffer::default();
    let len = usize::try_from(file.stat().unwrap().size).unwrap();
    let level = file.read_uncached_at(&mut buffer, 0, len).unwrap();
    (buffer.bytes().to_vec(), level)
}

fn open(disk: &SimDisk, name: &[u8]) -> io::Result<SimFile> {
    disk.open(&disk.root(), name, Access::Read)
}

/// Bytes of a file in a view; `None` if it is absent.
fn bytes(disk: &SimDisk, path: &str, view: View) -> Option<Vec<u8>> {
    disk.look(path.as_bytes(), view).map(|seen| seen.bytes)
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}
