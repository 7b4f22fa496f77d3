//! Reads past the page cache: their bytes, and that the level they state is earned. The oracle for "it came from the
//! device" is the kernel's own account of what this thread had fetched from storage.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags};
use tempfile::{TempDir, tempdir};

use super::{assert_errno, assert_kind, is_privileged, pattern, root};
use crate::attributes::{Level, Timestamp};
use crate::disk::bypass::{Bypass, Probed, reopen_by_name};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile, RealDisk, RealFile};

const MIB: usize = 1 << 20;
const EPOCH: Timestamp = Timestamp { seconds: 0, nanos: 0 };
const ESTALE: i32 = 116;

/// Bytes that this thread had fetched from storage so far.
fn fetched_bytes() -> u64 {
    let account = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = account.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap();
    line.parse().unwrap()
}

/// Whether the account above says anything: temporary files may be on a file system without a device.
fn is_on_device(path: &Path) -> bool {
    let space = RealDisk.space(&root(path)).unwrap();
    space.is_syncfs_good && fs::read_to_string("/proc/thread-self/io").is_ok()
}

fn new_file(temp: &TempDir, name: &str, bytes: &[u8]) -> RealFile {
    let file = RealDisk.create_exclusive(&root(temp.path()), name.as_bytes()).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
    file
}

fn uncached(file: &RealFile, offset: usize, len: usize) -> (Level, Vec<u8>) {
    let mut buffer = AlignedBuffer::default();
    let level = file.read_uncached_at(&mut buffer, offset as u64, len).unwrap();
    (level, buffer.bytes().to_vec())
}

/// A short file is read past the cache by the descriptor that is held: an ordinary one for everybody else, and afterwards.
#[test]
fn a_short_file_is_read_and_written_through_the_cache_beside_uncached_reads() {
    let temp = tempdir().unwrap();
    let bytes = pattern(5000);
    let file = new_file(&temp, "short", &bytes);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|_| assert!(uncached(&file, 0, 4097).1 == bytes[..4097])));
        scope.spawn(|| {
            for round in 0..3000 {
                let (at, mut read) = (4097 + round % 800, [0; 3]);
                assert_eq!(file.read_at(&mut read, at as u64).unwrap(), 3);
                assert_eq!(read, bytes[at..at + 3]);
                file.write_all_at(&bytes[at..at + 3], at as u64).unwrap();
            }
        });
    });
    assert!(uncached(&file, 0, 5000).1 == bytes);
    file.write_all_at(b"odd", 4097).unwrap();
}

#[test]
fn where_direct_reads_are_stated_the_bytes_come_from_the_device() {
    let temp = tempdir().unwrap();
    for len in [0, 1, 4096, 3 * MIB] {
        let bytes = pattern(len);
        let file = new_file(&temp, &format!("{len}"), &bytes);
        let path = temp.path().join(format!("{len}"));
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN).unwrap();
        let is_stated = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 && stat.stx_dio_offset_align != 0;
        let before = fetched_bytes();
        let (level, read) = uncached(&file, 0, len);
        assert!(read == bytes, "{len}");
        assert_eq!(level == Level::Device, is_stated, "{len}");
        if is_stated {
            assert!(fetched_bytes() - before >= len as u64, "{len}");
        }
    }
}

#[test]
fn every_tail_and_every_offset_reads_what_is_there() {
    let temp = tempdir().unwrap();
    for len in [0, 1, 511, 512, 513, 4095, 4096, 4097, 8191, 65_537, MIB, MIB + 1] {
        let bytes = pattern(len);
        let file = new_file(&temp, &format!("{len}"), &bytes);
        let expected = uncached(&file, 0, len).0;
        for offset in [0, 1, 511, 512, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, MIB + 2, 2 * MIB] {
            for wanted in [0, 1, 4096, 4097, len.saturating_sub(offset), len, 2 * MIB] {
                let (level, read) = uncached(&file, offset, wanted);
                let range = offset.min(len)..(offset + wanted).min(len).max(offset.min(len));
                assert!(read == bytes[range], "{len} bytes, {wanted} from {offset}");
                assert!(level >= expected, "{len} bytes, {wanted} from {offset}");
            }
        }
        let mut buffer = AlignedBuffer::default();
        assert!(file.read_uncached_at(&mut buffer, u64::MAX - 5, 10).is_err());
        assert!(file.read_uncached_at(&mut buffer, i64::MAX as u64 - 5, 10).is_err());
    }
}

#[test]
fn what_was_just_written_and_is_still_dirty_is_what_is_read() {
    let temp = tempdir().unwrap();
    let file = new_file(&temp, "file", &pattern(2 * MIB));
    for round in 0..20_u8 {
        let bytes = vec![round; MIB + 10];
        file.write_all_at(&bytes, 100).unwrap();
        assert!(uncached(&file, 100, MIB + 10).1 == bytes, "{round}");
    }
    let reader = RealDisk.open(&root(temp.path()), b"file", Access::Read).unwrap();
    file.write_all_at(&[99; 10], 0).unwrap();
    assert_eq!(uncached(&reader, 0, 10).1, [99; 10]);
}

#[test]
fn a_mode_that_locks_everybody_out_does_not_lock_us_out() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let bytes = pattern(2 * MIB + 5);
    for mode in [0o000, 0o200, 0o044, 0o444] {
        for len in [5, 2 * MIB + 5] {
            let usual = uncached(&new_file(&temp, "file", &bytes[..len]), 0, len).0;
            let file = RealDisk.open(&dir, b"file", Access::Write).unwrap();
            file.set_metadata(mode, EPOCH).unwrap();
            for _ in 0..2 {
                assert!(uncached(&file, 0, len) == (usual, bytes[..len].to_vec()), "{mode:o}");
            }
            RealDisk.remove(&dir, b"file").unwrap();
        }
    }
}

#[test]
fn a_mode_set_by_somebody_else_costs_the_level_and_not_the_read() {
    let temp = tempdir().unwrap();
    let bytes = pattern(MIB + 5);
    let file = new_file(&temp, "file", &bytes);
    RealDisk.set_mode(&root(temp.path()), b"file", 0o000).unwrap();
    let (level, read) = uncached(&file, 0, MIB + 5);
    assert!(read == bytes);
    if is_on_device(temp.path()) && !is_privileged() {
        assert_eq!(level, Level::Evicted);
    }
}

#[test]
fn renamed_replaced_and_removed_files_are_read_as_before() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let file = new_file(&temp, "file", b"ours");
    let usual = uncached(&file, 0, 4).0;
    RealDisk.rename_noreplace(&dir, b"file", &dir, b"sealed").unwrap();
    assert_eq!(uncached(&file, 0, 4), (usual, b"ours".to_vec()));
    new_file(&temp, "file", b"theirs");
    assert_eq!(uncached(&file, 0, 4), (usual, b"ours".to_vec()));
    RealDisk.replace(&dir, b"file", &dir, b"sealed").unwrap();
    assert_eq!(uncached(&file, 0, 9), (usual, b"ours".to_vec()));
}

#[test]
fn without_procfs_a_name_leads_back_only_to_the_same_inode() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    new_file(&temp, "file", b"ours");
    let held = File::open(temp.path().join("file")).unwrap();
    reopen_by_name(&held, &dir, b"file", OFlags::RDONLY).unwrap();
    new_file(&temp, "other", b"theirs");
    RealDisk.replace(&dir, b"other", &dir, b"file").unwrap();
    assert_errno(reopen_by_name(&held, &dir, b"file", OFlags::RDONLY), ESTALE);
    RealDisk.remove(&dir, b"file").unwrap();
    assert_kind(reopen_by_name(&held, &dir, b"file", OFlags::RDONLY), ErrorKind::NotFound);
}

#[test]
fn memory_is_never_called_anything_but_cache() {
    if !Path::new("/dev/shm").is_dir() {
        return;
    }
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let bytes = pattern(MIB + 1);
    let file = new_file(&temp, "file", &bytes);
    assert!(uncached(&file, 0, MIB + 1) == (Level::Cache, bytes.clone()));
    assert_eq!(uncached(&new_file(&temp, "empty", b""), 0, 0).0, Level::Cache);
    // Were its name not known, the probes would still not be fooled: eviction was asked for and did nothing.
    let probed =
        Probed { file: File::open(temp.path().join("file")).unwrap(), step_bytes: 4096, level_max: Level::Evicted };
    let mut buffer = AlignedBuffer::default();
    assert_eq!(probed.read(&mut buffer, 0, MIB + 1).unwrap(), Level::Requested);
    assert!(buffer.bytes() == bytes);
}

#[test]
fn evicted_is_said_when_every_page_was_fetched_again() {
    let temp = tempdir().unwrap();
    if !is_on_device(temp.path()) {
        return;
    }
    for len in [1, 4096, 4097, MIB, 3 * MIB + 77] {
        for step_bytes in [1024, 4096] {
            let bytes = pattern(len);
            let name = format!("{len} {step_bytes}");
            let file = RealDisk.create_exclusive(&root(temp.path()), name.as_bytes()).unwrap();
            // Else some file systems keep small files inside metadata, where they are never absent.
            file.reserve(0, len as u64).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            file.sync().unwrap();
            let cached = File::open(temp.path().join(&name)).unwrap();
            let mut buffer = AlignedBuffer::default();
            let mut warm = vec![0; len];
            assert_eq!(file.read_at(&mut warm, 0).unwrap(), len);
            let before = fetched_bytes();
            assert_eq!(file.read_at(&mut warm, 0).unwrap(), len);
            assert_eq!(fetched_bytes(), before, "a read through the cache fetches nothing");
            let probed = Probed { file: cached, step_bytes, level_max: Level::Evicted };
            for _ in 0..2 {
                let before = fetched_bytes();
                assert_eq!(probed.read(&mut buffer, 0, len).unwrap(), Level::Evicted, "{len}");
                assert!(buffer.bytes() == bytes);
                assert!(fetched_bytes() - before >= len as u64, "{len}");
            }
        }
    }
}

#[test]
fn bytes_kept_in_metadata_are_not_called_evicted() {
    let temp = tempdir().unwrap();
    let file = new_file(&temp, "file", b"small");
    let before = fetched_bytes();
    let (level, read) = uncached(&file, 0, 5);
    assert_eq!(read, b"small");
    if fetched_bytes() == before {
        assert!(level < Level::Evicted, "nothing was fetched, and still the level is {level:?}");
    }
}

#[test]
fn probed_reads_find_tails_offsets_and_holes() {
    let temp = tempdir().unwrap();
    if !is_on_device(temp.path()) {
        return;
    }
    let len = 100_001;
    let bytes = pattern(len);
    new_file(&temp, "file", &bytes);
    let probed =
        Probed { file: File::open(temp.path().join("file")).unwrap(), step_bytes: 4096, level_max: Level::Evicted };
    let mut buffer = AlignedBuffer::default();
    for (offset, wanted) in [(0, 0), (0, len), (1, 4096), (5000, 3), (99_999, 500), (len, 10), (len + 9000, 10)] {
        assert_eq!(probed.read(&mut buffer, offset as u64, wanted).unwrap(), Level::Evicted, "{offset}");
        assert!(buffer.bytes() == &bytes[offset.min(len)..(offset + wanted).min(len).max(offset.min(len))]);
    }
    let sparse = new_file(&temp, "sparse", b"");
    sparse.set_len(MIB as u64).unwrap();
    sparse.sync().unwrap();
    let probed =
        Probed { file: File::open(temp.path().join("sparse")).unwrap(), step_bytes: 4096, level_max: Level::Evicted };
    assert_eq!(probed.read(&mut buffer, 0, MIB).unwrap(), Level::Evicted);
    assert!(buffer.bytes() == [0; MIB]);
}

#[test]
fn uncached_reads_go_on_beside_writes_of_the_same_file() {
    let temp = tempdir().unwrap();
    let file = new_file(&temp, "file", b"");
    let held = File::open(temp.path().join("file")).unwrap();
    let probed =
        Bypass::Probed(Probed { file: held.try_clone().unwrap(), step_bytes: 4096, level_max: Level::Evicted });
    let chunks = 64;
    let bytes = pattern(MIB);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (file, bytes) = (&file, &bytes);
        scope.spawn(move || {
            for chunk in 0..chunks {
                file.write_all_at(bytes, chunk * MIB as u64).unwrap();
                if chunk % 8 == 7 {
                    file.sync_data().unwrap();
                }
                sender.send(chunk).unwrap();
            }
        });
        let mut buffer = AlignedBuffer::default();
        for chunk in receiver {
            file.read_uncached_at(&mut buffer, chunk * MIB as u64, MIB).unwrap();
            assert!(buffer.bytes() == bytes);
            probed.read(&held, &mut buffer, chunk * MIB as u64, MIB).unwrap();
            assert!(buffer.bytes() == bytes);
        }
    });
}
