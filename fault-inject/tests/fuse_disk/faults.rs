//! Each fault does what it says: to the platter, to the caller, and not to the page cache.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fault_inject::fuse_disk::{Cache, Kind};

use super::{Rig, bytes, rig, sync_dir};

/// Whole pages: the kernel keeps no others in its cache without asking the disk.
const LEN: usize = 144 * 4096;

fn file(rig: &Rig, name: &str) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(rig.mount.join(name)).unwrap()
}

fn cached(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// Reads past the cache, as a check that means it does.
fn uncached(path: &Path) -> std::io::Result<Vec<u8>> {
    use landfall::disk::AlignedBuffer;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(direct).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap();
    let mut buffer = AlignedBuffer::default();
    let got = file.read_at(buffer.prepare(len), 0)?;
    buffer.set_filled(got.min(len));
    Ok(buffer.bytes().to_vec())
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn differing(a: &[u8], b: &[u8]) -> usize {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

#[test]
fn a_corrupt_write_is_on_the_platter_and_not_in_the_cache() {
    let test = "a_corrupt_write_is_on_the_platter_and_not_in_the_cache";
    for (size, most) in [("bit", 1), ("512", 512), ("4KiB", 4096), ("64KiB", 65_536)] {
        let fault = format!("write-corrupt:nth=1,size={size}");
        let Some(rig) = rig(test, &[&fault], Cache::Kept) else { return };
        let (written, path) = (bytes(LEN, 1), rig.mount.join("file"));
        file(&rig, "file").write_all_at(&written, 0).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        assert_eq!(rig.disk.count(Kind::WriteCorrupt), 1);
        assert!(cached(&path) == written, "{size}: the page cache has what was written");
        let wrong = differing(&fs::read(rig.backing.join("file")).unwrap(), &written);
        assert!((1..=most).contains(&wrong), "{size}: {wrong} bytes differ on the platter");
        assert_eq!(differing(&uncached(&path).unwrap(), &written), wrong, "{size}: a read past the cache sees them");
        assert!(cached(&path) == written, "{size}: and the stale cache stays");
    }
}

#[test]
fn rot_changes_synced_bytes_below_the_cache() {
    let Some(rig) = rig("rot_changes_synced_bytes_below_the_cache", &["rot:nth=1,size=512"], Cache::Kept) else {
        return;
    };
    let written = bytes(LEN, 1);
    let held = file(&rig, "file");
    held.write_all_at(&written, 0).unwrap();
    held.sync_all().unwrap();
    assert_eq!(rig.disk.count(Kind::Rot), 1);
    assert!(cached(&rig.mount.join("file")) == written);
    assert!(differing(&fs::read(rig.backing.join("file")).unwrap(), &written) > 0);
}

#[test]
fn a_lost_write_leaves_a_hole_and_a_misdirected_one_lands_elsewhere() {
    let test = "a_lost_write_leaves_a_hole_and_a_misdirected_one_lands_elsewhere";
    let Some(rig) = rig(test, &["write-lost:nth=1,path=lost", "write-misdirect:nth=2,path=astray"], Cache::Kept) else {
        return;
    };
    let written = bytes(64 << 10, 1);
    file(&rig, "lost").write_all_at(&written, 0).unwrap();
    let astray = file(&rig, "astray");
    astray.set_len(1 << 20).unwrap();
    astray.write_all_at(&bytes(64 << 10, 2), 512 << 10).unwrap();
    astray.write_all_at(&written, 128 << 10).unwrap();
    assert!(cached(&rig.mount.join("lost")) == written);
    rig.disk.with(|state| state.settle()).unwrap();
    assert_eq!(fs::read(rig.backing.join("lost")).unwrap(), vec![0; 64 << 10]);
    let platter = fs::read(rig.backing.join("astray")).unwrap();
    assert_ne!(&platter[128 << 10..192 << 10], &written[..], "not where it belongs");
    assert!(platter.windows(4096).step_by(4096).any(|page| page == &written[..4096]), "but somewhere");
    assert_eq!((rig.disk.count(Kind::WriteLost), rig.disk.count(Kind::WriteMisdirect)), (1, 1));
}

#[test]
fn writes_fail_fall_short_and_find_no_space() {
    let faults = ["write-short:nth=1,path=short", "write-fail:nth=1,path=bad", "write-full:bytes=200000,path=full"];
    let Some(rig) = rig("writes_fail_fall_short_and_find_no_space", &faults, Cache::Kept) else { return };
    let taken = file(&rig, "short").write_at(&bytes(8192, 1), 0).unwrap();
    assert_eq!(taken, 4096);
    let bad = file(&rig, "bad");
    assert_eq!(errno(bad.write_all_at(b"x", 0)), 5);
    bad.write_all_at(b"x", 0).unwrap();
    let full = file(&rig, "full");
    assert_eq!(errno(full.write_all_at(&bytes(LEN, 1), 0)), 28);
    rig.disk.clear(None);
    full.write_all_at(&bytes(LEN, 1), 0).unwrap();
}

#[test]
fn reads_fail_until_the_place_is_written_and_bad_reads_come_again() {
    let faults = ["read-fail:nth=1,again=100,path=bad", "read-corrupt:nth=1,again=2,path=flips,size=bit"];
    let test = "reads_fail_until_the_place_is_written_and_bad_reads_come_again";
    let Some(rig) = rig(test, &faults, Cache::Never) else { return };
    let written = bytes(10_000, 1);
    fs::write(rig.mount.join("bad"), &written).unwrap();
    fs::write(rig.mount.join("flips"), &written).unwrap();
    for _ in 0..3 {
        assert_eq!(errno(fs::read(rig.mount.join("bad"))), 5);
    }
    fs::write(rig.mount.join("bad"), &written).unwrap();
    assert!(fs::read(rig.mount.join("bad")).unwrap() == written, "healed");
    let held = File::open(rig.mount.join("flips")).unwrap();
    let read = || {
        let mut bytes = vec![0; written.len()];
        held.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let first = read();
    assert_eq!(differing(&first, &written), 1);
    assert!(read() == first && read() == first, "the same wrong byte twice more");
    assert!(read() == written);
}

#[test]
fn a_failed_sync_loses_the_data_and_the_next_one_succeeds() {
    let test = "a_failed_sync_loses_the_data_and_the_next_one_succeeds";
    let Some(rig) = rig(test, &["sync-fail:nth=1,errno=ENOSPC"], Cache::Kept) else { return };
    let (held, written) = (file(&rig, "file"), bytes(LEN, 1));
    held.write_all_at(&written, 0).unwrap();
    assert_eq!(errno(held.sync_all()), 28);
    held.sync_all().unwrap();
    assert!(cached(&rig.mount.join("file")) == written, "the cache still says that all is well");
    assert_eq!(fs::read(rig.backing.join("file")).unwrap(), vec![0; LEN], "nothing of it is there");
}

#[test]
fn a_sync_that_lies_is_found_out_by_a_power_cut() {
    let test = "a_sync_that_lies_is_found_out_by_a_power_cut";
    let Some(rig) = rig(test, &["sync-lie", "dir-sync-lie:nth=2"], Cache::Kept) else { return };
    let held = file(&rig, "file");
    sync_dir(&rig.mount).unwrap();
    held.write_all_at(&bytes(LEN, 1), 0).unwrap();
    held.sync_all().unwrap();
    let before = rig.disk.with(|state| state.unsynced());
    assert!(before.1 > 0, "pages are still in memory: {before:?}");
    sync_dir(&rig.mount).unwrap();
    file(&rig, "second");
    sync_dir(&rig.mount).unwrap();
    assert_eq!((rig.disk.count(Kind::SyncLie), rig.disk.count(Kind::DirSyncLie)), (1, 1));
    assert_eq!(rig.disk.with(|state| state.unsynced()).0, 0, "the third sync of the directory was true");
}

#[test]
fn syncs_renames_and_names_fail_or_take_long() {
    let faults = [
        "dir-sync-fail:nth=1",
        "rename-fail:nth=1,errno=EXDEV",
        "rename-slow:nth=1,delay=0.4s",
        "sync-slow:nth=2,delay=0.4s",
        "create-fail:nth=3",
    ];
    let Some(rig) = rig("syncs_renames_and_names_fail_or_take_long", &faults, Cache::Kept) else { return };
    let held = file(&rig, "a");
    assert_eq!(errno(sync_dir(&rig.mount)), 5);
    let timed = |act: &dyn Fn() -> std::io::Result<()>| {
        let began = Instant::now();
        (act().err().and_then(|error| error.raw_os_error()), began.elapsed() >= Duration::from_millis(400))
    };
    let rename = || fs::rename(rig.mount.join("a"), rig.mount.join("b"));
    assert_eq!(timed(&rename), (Some(18), true));
    assert_eq!(timed(&rename), (None, false));
    assert_eq!(timed(&|| held.sync_all()), (None, true));
    assert_eq!(timed(&|| held.sync_all()), (None, false));
    file(&rig, "second");
    assert_eq!(errno(File::create_new(rig.mount.join("third"))), 5);
}

#[test]
fn a_disk_turns_read_only_and_still_reads() {
    let Some(rig) = rig("a_disk_turns_read_only_and_still_reads", &["read-only:nth=4"], Cache::Kept) else { return };
    let held = file(&rig, "a");
    held.write_all_at(b"x", 0).unwrap();
    held.sync_all().unwrap();
    assert_eq!(errno(held.write_all_at(b"y", 0)), 30);
    assert_eq!(errno(fs::create_dir(rig.mount.join("dir"))), 30);
    assert_eq!(errno(held.sync_all()), 30);
    assert_eq!(fs::read_to_string(rig.mount.join("a")).unwrap(), "x");
}

#[test]
fn the_same_place_is_corrupted_again_and_another_inode_is_not() {
    let test = "the_same_place_is_corrupted_again_and_another_inode_is_not";
    let Some(rig) = rig(test, &["write-corrupt:nth=1,again=3,size=bit"], Cache::Kept) else { return };
    let (held, written) = (file(&rig, "file"), bytes(LEN, 1));
    for round in 0..5 {
        held.write_all_at(&written, 0).unwrap();
        held.sync_all().unwrap();
        let wrong = differing(&fs::read(rig.backing.join("file")).unwrap(), &written);
        assert_eq!(wrong, usize::from(round < 4), "round {round}");
    }
    let other = file(&rig, "other");
    other.write_all_at(&written, 0).unwrap();
    other.sync_all().unwrap();
    assert!(fs::read(rig.backing.join("other")).unwrap() == written);
    assert_eq!(rig.disk.count(Kind::WriteCorrupt), 4);
}
