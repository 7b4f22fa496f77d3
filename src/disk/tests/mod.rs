//! Tests of the kernel's storage over temporary directories. They run as root and as anybody else; where only one
//! of the two can meet a refusal, the test says so.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod direct;
mod files;
mod names;
mod uncached;

use std::io;
use std::path::Path;

use super::{Disk, DiskFile, RealDir, RealDisk};

/// The kernel's error numbers that tests expect by number.
const ELOOP: i32 = 40;
const EACCES: i32 = 13;
const EISDIR: i32 = 21;

fn root(path: &Path) -> RealDir {
    RealDisk::open_root(path).unwrap()
}

fn write(dir: &RealDir, name: &[u8], bytes: &[u8]) {
    RealDisk.create_exclusive(dir, name).unwrap().write_all_at(bytes, 0).unwrap();
}

fn read(dir: &RealDir, name: &[u8]) -> Vec<u8> {
    let file = RealDisk.open(dir, name, super::Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.stat().unwrap().size).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}

#[track_caller]
fn assert_errno<T>(result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("succeeded, but os error {errno} was expected"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{error}"),
    }
}

#[track_caller]
fn assert_kind<T>(result: io::Result<T>, kind: io::ErrorKind) {
    match result {
        Ok(_) => panic!("succeeded, but {kind:?} was expected"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// Bytes that differ at every place where a mistake could shift or repeat them.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]).collect()
}
