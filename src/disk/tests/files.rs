//! Positioned reading and writing, holes, reservation, a file's own mode and time.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, fallocate};
use tempfile::tempdir;

use super::{assert_kind, is_privileged, pattern, root, write};
use crate::attributes::Timestamp;
use crate::disk::real_file::write_zeros;
use crate::disk::{Access, Disk, DiskFile, Extent, RealDisk};

const MIB: usize = 1 << 20;
const KEEP_SIZE: FallocateFlags = FallocateFlags::KEEP_SIZE;

#[test]
fn bytes_are_where_they_were_written_and_reads_are_short_only_at_the_end() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    let bytes = pattern(3 * MIB);
    for chunk in [2, 0, 1] {
        file.write_all_at(&bytes[chunk * MIB..(chunk + 1) * MIB], (chunk * MIB) as u64).unwrap();
    }
    file.sync_data().unwrap();
    file.sync().unwrap();
    let mut buffer = vec![0; 2 * MIB];
    assert_eq!(file.read_at(&mut buffer, 2 * MIB as u64 - 5).unwrap(), MIB + 5);
    assert_eq!(buffer[..MIB + 5], bytes[2 * MIB - 5..]);
    assert_eq!(file.read_at(&mut buffer, 3 * MIB as u64).unwrap(), 0);
    file.set_len(10).unwrap();
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 10);
    let stat = file.stat().unwrap();
    assert_eq!((stat.size, stat.links, stat.mode), (10, 1, 0o600));
    assert_eq!(stat, RealDisk.stat(&dir, b"file").unwrap());
    let metadata = fs::metadata(temp.path().join("file")).unwrap();
    assert_eq!((stat.device, stat.inode, stat.owner), (metadata.dev(), metadata.ino(), metadata.uid()));
}

#[test]
fn a_new_file_never_replaces() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    write(&dir, b"file", b"old");
    RealDisk.make_dir(&dir, b"dir", 0o700).unwrap();
    RealDisk.make_symlink(b"nowhere", &dir, b"dangling").unwrap();
    for name in [&b"file"[..], b"dir", b"dangling"] {
        assert_kind(RealDisk.create_exclusive(&dir, name), ErrorKind::AlreadyExists);
    }
    assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"old");
    assert_kind(RealDisk.create_exclusive(&dir, &[b'x'; 256]), ErrorKind::InvalidFilename);
}

#[test]
fn what_was_opened_for_reading_is_not_written() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    write(&dir, b"file", b"old");
    let reader = RealDisk.open(&dir, b"file", Access::Read).unwrap();
    assert!(reader.write_all_at(b"new", 0).is_err());
    assert!(reader.punch(0, 3).is_err());
    RealDisk.open(&dir, b"file", Access::Write).unwrap().write_all_at(b"new", 0).unwrap();
    let mut buffer = [0; 4];
    assert_eq!((reader.read_at(&mut buffer, 0).unwrap(), &buffer[..3]), (3, &b"new"[..]));
    if !is_privileged() {
        RealDisk.set_mode(&dir, b"file", 0o000).unwrap();
        assert_kind(RealDisk.open(&dir, b"file", Access::Read), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_punched_range_reads_as_zeros_and_the_length_stays() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let bytes = pattern(MIB + 100);
    let write_zeros_at = |name: &[u8], offset: u64, len: u64| {
        let held = fs::OpenOptions::new().write(true).open(temp.path().join(std::str::from_utf8(name).unwrap()));
        write_zeros(&held.unwrap(), offset, len).unwrap();
    };
    for (offset, len) in [(0, MIB), (5, 9000), (MIB - 1, 101), (MIB, 5 * MIB), (2 * MIB, MIB), (77, 0)] {
        for name in [&b"punched"[..], b"zeroed"] {
            let file = RealDisk.create_exclusive(&dir, name).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            match name {
                b"punched" => file.punch(offset as u64, len as u64).unwrap(),
                _ => write_zeros_at(name, offset as u64, len as u64),
            }
            let mut expected = bytes.clone();
            expected[offset.min(bytes.len())..(offset + len).min(bytes.len())].fill(0);
            assert!(super::read(&dir, name) == expected, "{offset} {len}");
            RealDisk.remove(&dir, name).unwrap();
        }
    }
}

#[test]
fn reserving_changes_no_length_and_what_cannot_be_is_an_error() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    file.reserve(0, MIB as u64).unwrap();
    file.reserve(5, 0).unwrap();
    assert_eq!(file.stat().unwrap().size, 0);
    let can_reserve = fallocate(fs::File::create(temp.path().join("probe")).unwrap(), KEEP_SIZE, 0, 1).is_ok();
    let reserved = fs::metadata(temp.path().join("file")).unwrap().blocks() * 512;
    assert_eq!(reserved >= MIB as u64, can_reserve);
    assert!(file.reserve(1 << 62, 1 << 62).is_err());
    // Hints change nothing.
    file.write_all_at(b"abc", 0).unwrap();
    file.start_writeback(0, 3);
    file.start_writeback(0, 0);
    assert_eq!(super::read(&dir, b"file"), b"abc");
}

#[test]
fn extents_tell_holes_from_data_and_cover_the_file() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    let mib = MIB as u64;
    file.set_len(10 * mib).unwrap();
    file.write_all_at(&[1; MIB], 2 * mib).unwrap();
    file.write_all_at(&[1; 5], 7 * mib).unwrap();
    file.sync().unwrap();
    let walk = || {
        let (mut offset, mut extents) = (0, Vec::new());
        while offset < file.stat().unwrap().size {
            let extent = file.extent_at(offset).unwrap();
            let (Extent::DataUntil(end) | Extent::HoleUntil(end)) = extent;
            assert!(end > offset);
            offset = end;
            extents.push(extent);
        }
        extents
    };
    let extents = walk();
    if extents == [Extent::DataUntil(10 * mib)] && !RealDisk.space(&dir).unwrap().is_syncfs_good {
        return;
    }
    assert_eq!(extents.first(), Some(&Extent::HoleUntil(2 * mib)));
    assert_eq!(extents.last(), Some(&Extent::HoleUntil(10 * mib)));
    assert_eq!(extents[1], Extent::DataUntil(3 * mib));
    assert_eq!(file.extent_at(2 * mib + 5).unwrap(), Extent::DataUntil(3 * mib));
    assert_eq!(file.extent_at(9 * mib).unwrap(), Extent::HoleUntil(10 * mib));
    assert_kind(file.extent_at(10 * mib), ErrorKind::InvalidInput);
    file.punch(2 * mib, mib).unwrap();
    assert_eq!(file.extent_at(0).unwrap(), Extent::HoleUntil(7 * mib));
    // The position that is moved on the way is one for all threads, and no result depends on it.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    assert_eq!(file.extent_at(0).unwrap(), Extent::HoleUntil(7 * mib));
                    assert_eq!(file.extent_at(8 * mib).unwrap(), Extent::HoleUntil(10 * mib));
                }
            });
        }
    });
}

#[test]
fn mode_and_time_are_set_through_the_descriptor() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let file = RealDisk.create_exclusive(&dir, b"file").unwrap();
    file.write_all_at(b"x", 0).unwrap();
    RealDisk.replace(&dir, b"file", &dir, b"moved").unwrap();
    for (mode, seconds) in [(0o644, -5), (0o444, 5), (0o000, 0), (0o7777, -1)] {
        let mtime = Timestamp { seconds, nanos: 999_999_999 };
        file.set_metadata(mode, mtime).unwrap();
        let stat = RealDisk.stat(&dir, b"moved").unwrap();
        assert_eq!((stat.mode, stat.mtime), (mode & 0o777, mtime));
    }
    // Written on, whatever the mode is by now.
    file.write_all_at(b"y", 1).unwrap();
    let refused = Timestamp { seconds: 0, nanos: 1_000_000_000 };
    assert_kind(file.set_metadata(0o600, refused), ErrorKind::InvalidInput);
    assert_eq!(file.stat().unwrap().mode, 0o777, "nothing is set if not all can be");
}
