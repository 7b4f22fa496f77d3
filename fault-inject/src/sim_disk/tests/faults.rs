//! Each fault does what its doc says, M1 and M2 of FAULTS included, and is counted.
#![allow(clippy::unwrap_used)]

use landfall::attributes::Level;
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile};

use super::super::{FailAt, Repeat, SimDials, SimDir, SimDisk, SimFault, View};
use super::{bytes, create, errno, open, pattern, quiet, read_cached, read_uncached};
use crate::damage::Damage;
use crate::errno::{EIO, ENOSPC};
use crate::operation::Operation;
use crate::rng::Odds;

const LEN: usize = 5 * 4096;

fn with(fault: SimFault) -> (SimDisk, SimDir) {
    let disk = SimDisk::new(2, SimDials::off().with(fault, Odds::ALWAYS));
    let root = disk.root();
    (disk, root)
}

#[test]
fn m1_only_reads_past_the_cache_see_a_bad_device() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", &pattern(LEN));
    file.sync().unwrap();
    disk.sync_dir(&root).unwrap();
    disk.rot(b"f", 5000, Damage::Bit).unwrap();
    assert_eq!(read_cached(&file), pattern(LEN), "the same descriptor is fooled");
    assert_eq!(read_cached(&open(&disk, b"f").unwrap()), pattern(LEN), "a new descriptor is fooled");
    file.sync().unwrap();
    assert_eq!(read_cached(&file), pattern(LEN), "another sync changes nothing");
    let (past, level) = read_uncached(&file);
    assert_eq!((past == pattern(LEN), level), (false, Level::Device));
    assert_eq!(read_cached(&file), pattern(LEN), "the stale cache stays");
    disk.evict(b"f").unwrap();
    assert_eq!(read_cached(&file), past, "after an eviction the truth is out");
    file.write_all_at(b"d", 0).unwrap();
    assert_eq!(disk.dirty_bytes(b"f").unwrap(), 4096);
    disk.evict(b"f").unwrap();
    assert_eq!(disk.dirty_bytes(b"f").unwrap(), 0, "an eviction of a dirty page only writes it back");
}

#[test]
fn m2_a_second_sync_believes_what_the_first_lost() {
    let (disk, root) = with(SimFault::SyncFails);
    let file = create(&disk, &root, b"f", &pattern(LEN));
    let number = errno(file.sync()).unwrap();
    assert!(number == EIO || number == ENOSPC);
    disk.set_dials(disk.dials().quiet());
    file.sync().unwrap();
    assert_eq!(read_cached(&file), pattern(LEN), "from the cache");
    assert_ne!(read_uncached(&file).0, pattern(LEN));
    disk.evict(b"f").unwrap();
    assert_ne!(read_cached(&file), pattern(LEN), "what is really there");
    assert!(!disk.damaged_pages().is_empty());
    disk.sync_dir(&root).unwrap();
    disk.reboot();
    assert_ne!(bytes(&disk, "f", View::Cached).unwrap(), pattern(LEN));
    assert_eq!(disk.counts().struck(SimFault::SyncFails), 1);
}

#[test]
fn a_failed_sync_forgets_even_what_the_device_was_given() {
    let (disk, root) = quiet();
    disk.sync_dir(&root).unwrap();
    let file = create(&disk, &root, b"f", &pattern(LEN));
    disk.sync_dir(&root).unwrap();
    file.start_writeback(0, LEN as u64);
    disk.set_dials(SimDials::off().with(SimFault::SyncFails, Odds::ALWAYS));
    file.sync_data().unwrap_err();
    disk.set_dials(SimDials::off());
    file.sync_data().unwrap();
    assert_eq!(read_uncached(&file).0, pattern(LEN), "the drive still shows it");
    disk.reboot();
    assert_eq!(bytes(&disk, "f", View::Cached).unwrap(), vec![0; LEN], "and forgets it");
}

#[test]
fn a_sync_of_the_file_system_fails_for_one_file_which_then_knows() {
    let (disk, root) = quiet();
    let files: Vec<_> = (0..4_u8).map(|n| create(&disk, &root, &[b'a' + n], &pattern(LEN))).collect();
    disk.set_dials(SimDials::off().with(SimFault::SyncFails, Odds::ALWAYS));
    assert_eq!(errno(disk.sync_file_system(&root)), Some(EIO));
    disk.set_dials(SimDials::off());
    let failed: Vec<bool> = files.iter().map(|file| file.sync().is_err()).collect();
    let differs: Vec<bool> = files.iter().map(|file| read_uncached(file).0 != pattern(LEN)).collect();
    assert_eq!(failed.iter().filter(|failed| **failed).count(), 1);
    assert_eq!(failed, differs, "exactly the damaged file hears of it");
    assert!(files.iter().all(|file| file.sync().is_ok()), "and only once");
    disk.sync_file_system(&root).unwrap();
}

#[test]
fn a_background_error_reaches_each_open_handle_once_and_no_later_one() {
    let (disk, root) = with(SimFault::WriteBackFails);
    let other_root = disk.root();
    let file = create(&disk, &root, b"f", &pattern(LEN));
    let second = disk.open(&root, b"f", Access::Write).unwrap();
    file.start_writeback(0, 4096);
    disk.set_dials(SimDials::off());
    let late = disk.open(&root, b"f", Access::Write).unwrap();
    assert_eq!(errno(file.sync_data()), Some(EIO));
    assert_eq!(errno(second.sync_data()), Some(EIO));
    for handle in [&file, &second, &late] {
        handle.sync_data().unwrap();
    }
    assert_eq!(errno(disk.sync_file_system(&root)), Some(EIO));
    assert_eq!(errno(disk.sync_file_system(&other_root)), Some(EIO));
    disk.sync_file_system(&root).unwrap();
    assert_ne!(read_uncached(&file).0, pattern(LEN));
}

#[test]
fn write_back_faults_are_seen_past_the_cache_and_nowhere_else() {
    for fault in
        [SimFault::LostWriteBack, SimFault::CorruptWriteBack, SimFault::MisdirectedWriteBack, SimFault::BadPlace]
    {
        let (disk, root) = with(fault);
        let file = create(&disk, &root, b"f", &pattern(LEN));
        file.sync().unwrap();
        disk.sync_dir(&root).unwrap();
        assert_eq!(read_cached(&file), pattern(LEN), "{fault:?}");
        assert_ne!(read_uncached(&file).0, pattern(LEN), "{fault:?}");
        assert_eq!(bytes(&disk, "f", View::Truth), Some(pattern(LEN)), "{fault:?}");
        assert!(disk.counts().struck(fault) > 0 && !disk.damaged_pages().is_empty(), "{fault:?}");
        disk.set_dials(SimDials::off());
        file.write_all_at(&pattern(LEN), 0).unwrap();
        file.sync().unwrap();
        assert_eq!(read_uncached(&file).0 == pattern(LEN), fault != SimFault::BadPlace, "{fault:?}");
        let fresh = create(&disk, &root, b"fresh", &pattern(LEN));
        fresh.sync().unwrap();
        assert_eq!(read_uncached(&fresh).0, pattern(LEN), "{fault:?}: a new inode is whole");
        disk.reboot();
        assert_eq!(disk.damaged_pages().is_empty(), fault != SimFault::BadPlace, "{fault:?}");
    }
}

#[test]
fn a_bad_place_stays_bad_after_a_power_cut() {
    let (disk, root) = with(SimFault::BadPlace);
    create(&disk, &root, b"f", &pattern(LEN)).sync().unwrap();
    disk.sync_dir(&root).unwrap();
    disk.set_dials(SimDials::off());
    disk.reboot();
    let file = disk.open(&disk.root(), b"f", Access::Write).unwrap();
    file.write_all_at(&pattern(LEN), 0).unwrap();
    file.sync().unwrap();
    assert_eq!((read_cached(&file) == pattern(LEN), read_uncached(&file).0 == pattern(LEN)), (true, false));
}

#[test]
fn a_read_fills_the_cache() {
    let disk = SimDisk::new(1, SimDials::off());
    disk.write_file(b"f", &pattern(LEN)).unwrap();
    disk.reboot();
    let file = open(&disk, b"f").unwrap();
    file.read_at(&mut [0], 0).unwrap();
    disk.rot(b"f", 0, Damage::Page).unwrap();
    disk.rot(b"f", 4096, Damage::Page).unwrap();
    let read = read_cached(&file);
    assert!(read[..4096] == pattern(LEN)[..4096], "what was read before comes from the cache");
    assert!(read[4096..8192] != pattern(LEN)[4096..8192], "what was not comes from the device");
}

#[test]
fn a_misdirected_write_keeps_to_the_unsynced_pages_of_its_file() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", &pattern(LEN));
    file.sync().unwrap();
    disk.set_dials(SimDials::off().with(SimFault::MisdirectedWriteBack, Odds::ALWAYS));
    let new: Vec<u8> = pattern(LEN).into_iter().rev().take(8192).collect();
    file.write_all_at(&new, 0).unwrap();
    file.sync().unwrap();
    let past = read_uncached(&file).0;
    assert!(past[8192..] == pattern(LEN)[8192..], "what was synced before is out of reach");
    assert!(past[..4096] == new[4096..] || past[4096..8192] == new[..4096], "one page lies at the place of the other");
}

#[test]
fn a_bad_read_is_bad_once_and_rot_stays() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", &pattern(LEN));
    file.sync().unwrap();
    disk.set_dials(SimDials::off().with(SimFault::BadRead, Odds::ALWAYS));
    assert_ne!(read_uncached(&file).0, pattern(LEN));
    assert_eq!(read_cached(&file), pattern(LEN));
    disk.set_dials(SimDials::off());
    assert_eq!(read_uncached(&file).0, pattern(LEN));
    disk.set_dials(SimDials::off().with(SimFault::Rot, Odds::ALWAYS));
    let rotten = read_uncached(&file).0;
    disk.set_dials(SimDials::off());
    assert_eq!((read_uncached(&file).0 == rotten, rotten == pattern(LEN)), (true, false));
    assert_eq!(disk.damaged_pages().len(), 5);
}

#[test]
fn calls_fail_as_told() {
    let (disk, root) = with(SimFault::WriteFails);
    let file = disk.create_exclusive(&root, b"f").unwrap();
    assert_eq!(errno(file.write_all_at(&pattern(LEN), 0)), Some(EIO));
    let part = read_cached(&file);
    assert_eq!(part, pattern(LEN)[..part.len()], "an unknown part is written");
    disk.set_dials(SimDials::off().with(SimFault::ReadFails, Odds::ALWAYS));
    assert_eq!(errno(file.read_at(&mut [0], 0)), Some(EIO));
    assert_eq!(errno(file.read_uncached_at(&mut AlignedBuffer::default(), 0, 1)), Some(EIO));
    disk.set_dials(SimDials::off().with(SimFault::NameFails, Odds::ALWAYS));
    assert_eq!(errno(disk.make_dir(&root, b"d", 0o700)), Some(EIO));
    assert_eq!(errno(disk.rename_noreplace(&root, b"f", &root, b"g")), Some(EIO));
    assert_eq!(errno(disk.remove(&root, b"f")), Some(EIO));
    assert_eq!(disk.list(&root).unwrap().len(), 1, "nothing happened");
    disk.set_dials(SimDials::off().with(SimFault::SyncDirFails, Odds::ALWAYS));
    assert_eq!(errno(disk.sync_dir(&root)), Some(EIO));
    assert!(disk.tree(View::Durable).is_empty());
    assert_eq!(disk.counts().struck(SimFault::NameFails), 3);
}

#[test]
fn a_lying_sync_is_found_out_by_the_power_cut() {
    let (disk, root) = with(SimFault::SyncLies);
    let file = create(&disk, &root, b"f", &pattern(LEN));
    file.sync().unwrap();
    disk.sync_dir(&root).unwrap();
    assert_eq!(read_uncached(&file).0, pattern(LEN), "no read can tell");
    assert!(disk.tree(View::Durable).is_empty());
    disk.set_dials(SimDials::off());
    file.sync().unwrap();
    disk.sync_dir(&root).unwrap();
    assert_eq!(bytes(&disk, "f", View::Durable), Some(pattern(LEN)), "an honest one makes up for it");
}

#[test]
fn weaker_levels_are_served_as_they_say() {
    for level in Level::ALL {
        let disk = SimDisk::new(1, SimDials { level, ..SimDials::off() });
        let file = create(&disk, &disk.root(), b"f", &pattern(LEN));
        file.sync().unwrap();
        disk.rot(b"f", 0, Damage::Page).unwrap();
        let (read, said) = read_uncached(&file);
        assert_eq!((said, read == pattern(LEN)), (level, level < Level::Evicted));
        assert_eq!(read_cached(&file) == pattern(LEN), level != Level::Evicted, "an eviction refreshes the cache");
    }
}

#[test]
fn the_nth_operation_fails_once_or_from_then_on() {
    for (repeat, failures) in [(Repeat::Once, 1), (Repeat::FromThenOn, 3)] {
        let (disk, root) = quiet();
        let file = create(&disk, &root, b"f", b"x");
        disk.set_fail_at(Some(FailAt { operation: disk.operations() + 2, errno: ENOSPC, repeat }));
        let failed: Vec<_> = (0..4).filter_map(|_| file.sync().err()?.raw_os_error()).collect();
        assert_eq!(failed, vec![ENOSPC; failures]);
        assert_eq!((disk.counts().failed_at, disk.counts().of_kind(Operation::Sync)), (failures as u64, 4));
    }
}
