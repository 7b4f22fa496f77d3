//! The calls behave as on Linux while nothing fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use landfall::attributes::{FileKind, Timestamp};
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile, Extent};

use super::super::{SimDials, SimDisk, View};
use super::{bytes, create, errno, open, pattern, quiet, read_cached, read_uncached};
use crate::errno::{EACCES, EBADF, EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY};

#[test]
fn bytes_written_anywhere_are_read_back_through_both_ways() {
    let (disk, root) = quiet();
    let file = disk.create_exclusive(&root, b"f").unwrap();
    let mut model = Vec::new();
    for (offset, len) in [(0_usize, 10), (4090, 20), (10_000, 5000), (3, 1), (8191, 1), (4096, 4096), (20_000, 1)] {
        let data = pattern(len);
        file.write_all_at(&data, offset as u64).unwrap();
        model.resize(model.len().max(offset + len), 0);
        model[offset..offset + len].copy_from_slice(&data);
        assert_eq!(read_cached(&file), model);
        assert_eq!(read_uncached(&file).0, model);
    }
    let mut middle = [0; 100];
    assert_eq!(file.read_at(&mut middle, 4050).unwrap(), 100);
    assert_eq!(middle, model[4050..4150]);
    assert_eq!(file.read_at(&mut middle, 19_990).unwrap(), 11, "short at the end");
    assert_eq!(file.read_at(&mut middle, 30_000).unwrap(), 0);
    let mut buffer = AlignedBuffer::default();
    file.read_uncached_at(&mut buffer, 16_384, 8192).unwrap();
    assert_eq!(buffer.bytes(), &model[16_384..]);
    assert_eq!(bytes(&disk, "f", View::Truth), Some(model));
}

#[test]
fn lengths_holes_and_punches_read_as_zeros() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", &pattern(20_000));
    file.sync().unwrap();
    file.set_len(5000).unwrap();
    file.set_len(12_000).unwrap();
    let mut model = pattern(20_000)[..5000].to_vec();
    model.resize(12_000, 0);
    assert_eq!((read_cached(&file), read_uncached(&file).0), (model.clone(), model.clone()));
    assert_eq!(file.extent_at(0).unwrap(), Extent::DataUntil(8192));
    assert_eq!(file.extent_at(8192).unwrap(), Extent::HoleUntil(12_000));
    assert_eq!(errno(file.extent_at(12_000)), Some(EINVAL));
    file.write_all_at(&pattern(12_000), 0).unwrap();
    file.punch(1000, 9000).unwrap();
    model = pattern(12_000);
    model[1000..10_000].fill(0);
    assert_eq!((read_cached(&file), read_uncached(&file).0), (model.clone(), model.clone()));
    assert_eq!(file.extent_at(4096).unwrap(), Extent::HoleUntil(8192));
    file.punch(8192, 1 << 20).unwrap();
    model[8192..].fill(0);
    assert_eq!(read_cached(&file), model, "a punch never changes the length");
    file.sync().unwrap();
    assert_eq!(bytes(&disk, "f", View::Durable), None, "no sync of a file makes its name durable");
    disk.sync_dir(&root).unwrap();
    assert_eq!(bytes(&disk, "f", View::Durable), Some(model));
}

#[test]
fn names_follow_the_rules_of_the_seam() {
    let (disk, root) = quiet();
    disk.make_dir(&root, b"d", 0o700).unwrap();
    let inner = disk.open_dir(&root, b"d").unwrap();
    create(&disk, &inner, b"f", b"1");
    disk.make_symlink(b"d", &root, b"l").unwrap();
    disk.make_fifo(b"p").unwrap();
    assert_eq!(disk.read_link(&root, b"l").unwrap(), b"d");
    assert_eq!(errno(disk.open_dir(&root, b"l")), Some(ELOOP));
    assert_eq!(errno(disk.open_dir(&root, b"d/f")), Some(ENOTDIR));
    assert_eq!(errno(disk.open(&root, b"l", Access::Read)), Some(ELOOP));
    assert_eq!(errno(disk.open(&root, b"d", Access::Read)), Some(EISDIR));
    assert_eq!(errno(disk.open(&root, b"p", Access::Read)), Some(EINVAL));
    assert_eq!(errno(disk.open(&root, b"nothing", Access::Read)), Some(ENOENT));
    assert_eq!(errno(disk.create_exclusive(&root, b"l")), Some(EEXIST));
    assert_eq!(errno(disk.make_dir(&root, b"d", 0o700)), Some(EEXIST));
    assert_eq!(errno(disk.rename_noreplace(&inner, b"f", &root, b"l")), Some(EEXIST));
    assert_eq!(errno(disk.replace(&inner, b"f", &root, b"d")), Some(ENOTEMPTY));
    assert_eq!(errno(disk.rename_noreplace(&root, b"d", &inner, b"e")), Some(EINVAL));
    assert_eq!(errno(disk.remove_dir(&root, b"d")), Some(ENOTEMPTY));
    assert_eq!(errno(disk.remove_dir(&root, b"l")), Some(ENOTDIR));
    assert_eq!(errno(disk.remove(&root, b"d")), Some(EISDIR));
    assert_eq!(errno(disk.remove(&root, &[b'x'; 256])), Some(ENAMETOOLONG));
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(errno(disk.stat(&root, bad)), Some(EINVAL));
    }
    disk.replace(&inner, b"f", &root, b"l").unwrap();
    assert_eq!(disk.stat(&root, b"l").unwrap().kind, FileKind::Regular);
    let names: BTreeSet<Vec<u8>> = disk.list(&root).unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, BTreeSet::from([b"d".to_vec(), b"l".to_vec(), b"p".to_vec()]));
    disk.remove_dir(&root, b"d").unwrap();
    assert_eq!(errno(disk.create_exclusive(&inner, b"x")), Some(ENOENT), "a removed directory takes no names");
}

#[test]
fn handles_outlive_their_names_and_the_last_one_frees_the_inode() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", b"one");
    let inode = file.stat().unwrap().inode;
    disk.rename_noreplace(&root, b"f", &root, b"g").unwrap();
    disk.remove(&root, b"g").unwrap();
    file.write_all_at(b"two", 3).unwrap();
    assert_eq!(read_cached(&file), b"onetwo");
    assert_eq!(file.stat().unwrap().links, 0);
    disk.sync_dir(&root).unwrap();
    drop(file);
    let other = create(&disk, &root, b"other", b"");
    assert_eq!(other.stat().unwrap().inode, inode, "the lowest free number is given out again");
}

#[test]
fn two_names_of_one_file_are_renamed_as_on_linux() {
    let (disk, root) = quiet();
    create(&disk, &root, b"a", b"x");
    disk.hard_link(b"a", b"b").unwrap();
    assert_eq!(disk.stat(&root, b"a").unwrap().links, 2);
    assert_eq!(errno(disk.rename_noreplace(&root, b"a", &root, b"b")), Some(EEXIST));
    disk.replace(&root, b"a", &root, b"b").unwrap();
    assert_eq!(disk.stat(&root, b"a").unwrap().links, 2, "rename of one file over itself does nothing");
    let before = disk.stat(&root, b"b").unwrap();
    disk.remove(&root, b"a").unwrap();
    let after = disk.stat(&root, b"b").unwrap();
    assert_eq!((after.links, after.mtime == before.mtime, after.ctime == before.ctime), (1, true, false));
}

#[test]
fn modes_lock_out_but_not_through_handles() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", b"x");
    let stamp = Timestamp { seconds: 5, nanos: 6 };
    file.set_metadata(0o4444, stamp).unwrap();
    let stat = disk.stat(&root, b"f").unwrap();
    assert_eq!((stat.mode, stat.mtime), (0o444, stamp), "only 0777 arrives");
    assert_eq!(errno(disk.open(&root, b"f", Access::Write)), Some(EACCES));
    file.write_all_at(b"y", 0).unwrap();
    disk.set_mode(&root, b"f", 0).unwrap();
    assert_eq!(errno(open(&disk, b"f")), Some(EACCES));
    assert_eq!(read_uncached(&file).0, b"y");
    disk.set_mode(&root, b"f", 0o600).unwrap();
    let reader = open(&disk, b"f").unwrap();
    assert_eq!(errno(reader.write_all_at(b"z", 0)), Some(EBADF));
    disk.make_dir(&root, b"d", 0o500).unwrap();
    let dir = disk.open_dir(&root, b"d").unwrap();
    assert_eq!(errno(disk.create_exclusive(&dir, b"x")), Some(EACCES));
    disk.set_dir_metadata(&dir, 0o700, stamp).unwrap();
    create(&disk, &dir, b"x", b"");
    assert_ne!(disk.stat_dir(&dir).unwrap().mtime, stamp, "a new name changes the time of its directory");
}

#[test]
fn a_full_disk_says_so_and_has_room_again_after_a_removal() {
    let dials = SimDials { capacity_bytes: Some(5 * 4096), capacity_inodes: Some(3), ..SimDials::off() };
    let disk = SimDisk::new(1, dials);
    let root = disk.root();
    let file = create(&disk, &root, b"a", &pattern(3 * 4096));
    assert_eq!(errno(file.write_all_at(&pattern(3 * 4096), 3 * 4096)), Some(ENOSPC));
    assert_eq!(file.stat().unwrap().size, 5 * 4096, "what fitted is written");
    file.write_all_at(&pattern(4096), 0).unwrap();
    let space = disk.space(&root).unwrap();
    assert_eq!((space.bytes_free, space.bytes_total, space.inodes_free), (0, 5 * 4096, Some(1)));
    let other = disk.create_exclusive(&root, b"b").unwrap();
    assert_eq!(errno(disk.make_dir(&root, b"c", 0o700)), Some(ENOSPC));
    assert_eq!(errno(other.reserve(0, 1)), Some(ENOSPC));
    disk.remove(&root, b"a").unwrap();
    assert_eq!(errno(other.reserve(0, 1)), Some(ENOSPC), "an open file holds its space");
    drop(file);
    other.reserve(0, 4096).unwrap();
    assert_eq!(other.stat().unwrap().size, 0, "a reservation never changes the length");
    assert_eq!(disk.space(&root).unwrap().bytes_free, 4 * 4096);
    assert_eq!(disk.counts().full, 4);
}

#[test]
fn stamps_tell_of_each_change_but_not_of_rot() {
    let disk = SimDisk::new(1, SimDials::off());
    disk.write_file(b"d/f", &pattern(9000)).unwrap();
    let root = disk.root();
    let stamps = || {
        let dir = disk.open_dir(&root, b"d").unwrap();
        disk.stat(&dir, b"f").unwrap().stamps()
    };
    let first = stamps();
    assert_eq!(bytes(&disk, "d/f", View::Durable), Some(pattern(9000)));
    disk.flip_bit(b"d/f", 8000, 3).unwrap();
    disk.rot(b"d/f", 10, crate::damage::Damage::Bit).unwrap();
    assert_eq!(stamps(), first);
    assert_eq!(disk.damaged_pages().iter().map(|page| page.offset).collect::<Vec<_>>(), [0, 4096]);
    assert_eq!(bytes(&disk, "d/f", View::Truth), Some(pattern(9000)));
    disk.edit(b"d/f", 0, b"other").unwrap();
    assert_ne!(stamps(), first);
    disk.write_file(b"d/f", &pattern(100)).unwrap();
    assert!(disk.damaged_pages().is_empty(), "rewritten pages are whole");
    disk.write_file(b"g", b"g").unwrap();
    disk.swap(b"d/f", b"g").unwrap();
    assert_eq!(
        (bytes(&disk, "g", View::Cached), bytes(&disk, "d/f", View::Cached).unwrap()),
        (Some(pattern(100)), b"g".to_vec())
    );
    disk.delete(b"d").unwrap();
    assert_eq!(disk.tree(View::Cached).into_keys().collect::<Vec<_>>(), [b"g".to_vec()]);
}
