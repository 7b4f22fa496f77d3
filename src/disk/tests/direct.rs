//! Large aligned reads and writes: they mean what the buffered ones mean, and leave nothing in the cache.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a test says what it skips, and its seed")]

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};
use tempfile::tempdir;

use super::{pattern, root};
use crate::buffers::Buffer;
use crate::disk::{Access, Disk, DiskFile, RealDisk};
use crate::limits::DIRECT_ALIGNMENT_BYTES;

const MIB: usize = 1 << 20;

/// Whether the file system below a path states direct reads and writes. Says so if not.
fn is_direct(path: &Path) -> bool {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN).unwrap();
    let is_stated = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 && stat.stx_dio_offset_align != 0;
    if !is_stated {
        eprintln!("skipped: needs a file system that states O_DIRECT for temporary files");
    }
    is_stated
}

fn aligned(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::take(bytes.len());
    buffer.bytes_mut().copy_from_slice(bytes);
    buffer
}

/// Pages of a range that are in the cache, by the kernel's word: a read of one byte that may not wait.
fn cached_pages(file: &File, len: usize) -> usize {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random).unwrap();
    let is_cached = |offset: &usize| {
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        match rustix::io::preadv2(file, &mut into, *offset as u64, ReadWriteFlags::NOWAIT) {
            Err(Errno::AGAIN) => false,
            other => other.unwrap() == 1,
        }
    };
    (0..len).step_by(DIRECT_ALIGNMENT_BYTES).filter(is_cached).count()
}

#[test]
fn a_large_write_leaves_nothing_in_the_cache_and_a_large_read_takes_nothing_into_it() {
    let temp = tempdir().unwrap();
    let (dir, path) = (root(temp.path()), temp.path().join("file"));
    let file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    let bytes = pattern(4 * MIB);
    file.set_len(4 * MIB as u64).unwrap();
    for chunk in [1, 0, 3, 2] {
        let range = chunk * MIB..(chunk + 1) * MIB;
        file.write_all_at(aligned(&bytes[range]).as_ref(), (chunk * MIB) as u64).unwrap();
    }
    if is_direct(&path) {
        assert_eq!(cached_pages(&File::open(&path).unwrap(), 4 * MIB), 0);
        // The probes above have fetched pages: a new file is read without them.
        fs::copy(&path, temp.path().join("other")).unwrap();
        let other = File::open(temp.path().join("other")).unwrap();
        other.sync_all().unwrap();
        rustix::fs::fadvise(&other, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let source = RealDisk.open(&dir, b"other", Access::Read).unwrap();
        let mut into = Buffer::take(MIB);
        for chunk in 0..4 {
            assert_eq!(source.read_at(into.bytes_mut(), (chunk * MIB) as u64).unwrap(), MIB);
            assert!(into.as_ref() == &bytes[chunk * MIB..(chunk + 1) * MIB]);
        }
        // One page was fetched by the probe that found the first chunk absent.
        assert!(cached_pages(&other, 4 * MIB) <= 1);
    }
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn what_was_opened_for_reading_is_not_written_directly_either() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    super::write(&dir, b"file", &pattern(2 * MIB));
    let reader = RealDisk.open(&dir, b"file", Access::Read).unwrap();
    assert!(reader.write_all_at(aligned(&vec![7; MIB]).as_ref(), 0).is_err());
    assert!(super::read(&dir, b"file") == pattern(2 * MIB));
}

/// Blocks are allocated ahead of direct writes, but never beyond the length, and not where there may be holes.
#[test]
fn a_sparse_file_stays_sparse_and_no_blocks_lie_beyond_the_end() {
    let temp = tempdir().unwrap();
    let (dir, path) = (root(temp.path()), temp.path().join("file"));
    let stored_bytes = || fs::metadata(&path).unwrap().blocks() * 512;
    let file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    let chunk = pattern(MIB);
    file.set_len(3 * MIB as u64).unwrap();
    file.write_all_at(aligned(&chunk).as_ref(), 0).unwrap();
    assert!(stored_bytes() <= 3 * MIB as u64 + 65_536);
    file.set_len(300 * MIB as u64).unwrap();
    file.punch(MIB as u64, 99 * MIB as u64).unwrap();
    file.write_all_at(aligned(&chunk).as_ref(), 100 * MIB as u64).unwrap();
    drop(file);
    // One of an earlier run may have holes anywhere.
    let file = RealDisk.open(&dir, b"file", Access::Write).unwrap();
    file.write_all_at(aligned(&chunk).as_ref(), 200 * MIB as u64).unwrap();
    file.sync().unwrap();
    assert!(stored_bytes() <= 3 * MIB as u64 + 65_536, "{}", stored_bytes());
    let read = super::read(&dir, b"file");
    for (index, found) in read.chunks(MIB).enumerate() {
        let expected = if [0, 100, 200].contains(&index) { &chunk[..] } else { &vec![0; MIB] };
        assert!(found == expected, "chunk {index}");
    }
}

/// Large and small, aligned and not, over each other, with holes and other lengths in between: at each moment the file
/// is what a vector would be.
#[test]
fn mixed_with_buffered_ones_they_mean_the_same() {
    let seed = 0x5eed_u64;
    println!("seed {seed:#x}; cargo test -p landfall --lib disk::tests::direct");
    let mut state = seed;
    let mut draw = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let mut file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    let (mut model, source) = (vec![], pattern(8 * MIB));
    for step in 0..400 {
        let unit = if draw(3) == 0 { 1 } else { DIRECT_ALIGNMENT_BYTES };
        let offset = draw(6 * MIB / unit) * unit;
        match draw(8) {
            0 => {
                let len = draw(8 * MIB);
                file.set_len(len as u64).unwrap();
                model.resize(len, 0);
            }
            1 => {
                let len = draw(2 * MIB) + 1;
                file.punch(offset as u64, len as u64).unwrap();
                let end = (offset + len).min(model.len());
                model[offset.min(end)..end].fill(0);
            }
            2 => file = RealDisk.open(&dir, b"file", Access::Write).unwrap(),
            3 | 4 => {
                let mut buffer = Buffer::take(if unit == 1 { draw(MIB) + 1 } else { MIB });
                let count = file.read_at(buffer.bytes_mut(), offset as u64).unwrap();
                let end = (offset + buffer.as_ref().len()).min(model.len());
                assert!(buffer.as_ref()[..count] == model[offset.min(end)..end], "step {step}, at {offset}");
            }
            _ => {
                let (from, len) = (draw(6 * MIB), if unit == 1 { draw(MIB) + 1 } else { MIB });
                file.write_all_at(aligned(&source[from..from + len]).as_ref(), offset as u64).unwrap();
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&source[from..from + len]);
            }
        }
    }
    assert!(super::read(&dir, b"file") == model);
}
