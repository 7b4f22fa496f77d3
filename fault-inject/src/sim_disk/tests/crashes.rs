//! What power cuts may leave and what they must: the table measured on real ext4 (FAULTS, M3) and its like.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use landfall::attributes::Timestamp;
use landfall::disk::{Access, Disk, DiskFile};
use rand::Rng;

use super::super::{CrashCounts, SimDials, SimDir, SimDisk, SkipSync, Stop, StopAt, View};
use super::{bytes, create, open, pattern, quiet, read_cached};
use crate::rng::stream;

const SEEDS: u64 = 1000;
const LEN: usize = 10_000;

/// How a file is found after a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Absent,
    Empty,
    Zeros,
    Complete,
    Other,
}

fn found(disk: &SimDisk, path: &str) -> Found {
    let Some(bytes) = bytes(disk, path, View::Cached) else { return Found::Absent };
    if bytes.is_empty() {
        Found::Empty
    } else if bytes == pattern(LEN) {
        Found::Complete
    } else if bytes.len() == LEN && bytes.iter().all(|&byte| byte == 0) {
        Found::Zeros
    } else {
        Found::Other
    }
}

/// All states of `tmp` and `final` that power cuts leave after some steps, with what happened on the way.
fn outcomes(steps: impl Fn(&SimDisk, &SimDir)) -> (BTreeSet<(Found, Found)>, CrashCounts) {
    let (disk, root) = quiet();
    disk.write_file(b"other", b"other").unwrap();
    steps(&disk, &root);
    let mut total = CrashCounts::default();
    let found = (0..SEEDS).map(|seed| {
        let future = disk.fork();
        total += future.reboot_with(seed);
        assert_eq!(bytes(&future, "other", View::Cached).unwrap(), b"other", "seed {seed}: what was synced is gone");
        (found(&future, "tmp"), found(&future, "final"))
    });
    (found.collect(), total)
}

fn write_and_rename(disk: &SimDisk, root: &SimDir) {
    create(disk, root, b"tmp", &pattern(LEN));
    disk.rename_noreplace(root, b"tmp", root, b"final").unwrap();
}

#[test]
fn m3_write_and_rename_may_leave_nothing_or_a_name_without_data() {
    let (outcomes, counts) = outcomes(write_and_rename);
    assert!(outcomes.contains(&(Found::Absent, Found::Absent)), "as ext4 after a cut");
    assert!(outcomes.contains(&(Found::Absent, Found::Empty)), "as ext4 once another file was synced");
    assert!(outcomes.contains(&(Found::Absent, Found::Zeros)) && outcomes.contains(&(Found::Absent, Found::Other)));
    assert!(outcomes.contains(&(Found::Complete, Found::Complete)), "both names may survive");
    assert!(outcomes.contains(&(Found::Complete, Found::Absent)), "the rename may be lost alone");
    assert!(counts.name_without_data > 50 && counts.renames_half_kept > 50 && counts.torn_pages > 50, "{counts:?}");
    assert!(counts.new_names_lost > 50 && counts.size_without_data > 50 && counts.objects_lost > 50, "{counts:?}");
}

#[test]
fn m3_a_synced_directory_keeps_the_name_and_not_the_data() {
    let (outcomes, counts) = outcomes(|disk, root| {
        write_and_rename(disk, root);
        disk.sync_dir(root).unwrap();
    });
    assert!(outcomes.iter().all(|&(tmp, last)| tmp == Found::Absent && last != Found::Absent), "{outcomes:?}");
    assert!(outcomes.contains(&(Found::Absent, Found::Empty)), "as ext4");
    assert!(outcomes.contains(&(Found::Absent, Found::Zeros)) && outcomes.contains(&(Found::Absent, Found::Complete)));
    assert_eq!((counts.renames_half_kept, counts.new_names_lost, counts.objects_lost), (0, 0, 0));
}

#[test]
fn m3_a_synced_file_keeps_the_data_and_not_the_name() {
    let (outcomes, _) = outcomes(|disk, root| {
        let file = create(disk, root, b"tmp", &pattern(LEN));
        file.sync().unwrap();
        disk.rename_noreplace(root, b"tmp", root, b"final").unwrap();
    });
    let states = [Found::Absent, Found::Complete];
    let all = states.into_iter().flat_map(|tmp| states.map(|last| (tmp, last)));
    assert_eq!(outcomes, all.collect::<BTreeSet<_>>(), "never incomplete, each name on its own; ext4 leaves tmp only");
}

#[test]
fn m3_the_right_order_is_always_complete() {
    let (outcomes, counts) = outcomes(|disk, root| {
        let file = create(disk, root, b"tmp", &pattern(LEN));
        file.sync().unwrap();
        disk.rename_noreplace(root, b"tmp", root, b"final").unwrap();
        disk.sync_dir(root).unwrap();
    });
    assert_eq!(outcomes, BTreeSet::from([(Found::Absent, Found::Complete)]));
    assert_eq!(counts, CrashCounts { crashes: SEEDS, ..counts });
    assert_eq!(counts.unsynced_data_lost + counts.new_names_lost + counts.torn_pages + counts.objects_lost, 0);
}

#[test]
fn m3_a_replacement_without_data_sync_is_not_relied_upon() {
    let (outcomes, _) = outcomes(|disk, root| {
        disk.write_file(b"final", b"old").unwrap();
        create(disk, root, b"tmp", &pattern(LEN));
        disk.replace(root, b"tmp", root, b"final").unwrap();
        disk.sync_dir(root).unwrap();
    });
    assert!(outcomes.contains(&(Found::Absent, Found::Complete)), "as ext4");
    assert!(outcomes.contains(&(Found::Absent, Found::Empty)), "as file systems without auto_da_alloc");
}

#[test]
fn m3_length_and_existence_prove_nothing() {
    let (disk, root) = quiet();
    let file = disk.create_exclusive(&root, b"f").unwrap();
    file.set_len(12_288).unwrap();
    file.sync().unwrap();
    disk.sync_dir(&root).unwrap();
    file.write_all_at(&pattern(4096), 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(&pattern(8192), 4096).unwrap();
    let mut is_two_thirds_zero = false;
    for seed in 0..SEEDS {
        let future = disk.fork();
        future.reboot_with(seed);
        let bytes = bytes(&future, "f", View::Cached).unwrap();
        assert_eq!((bytes.len(), &bytes[..4096]), (12_288, &pattern(4096)[..]), "seed {seed}");
        is_two_thirds_zero |= bytes[4096..].iter().all(|&byte| byte == 0);
    }
    assert!(is_two_thirds_zero, "as ext4");
}

#[test]
fn one_sync_of_the_file_system_covers_everything() {
    let (outcomes, _) = outcomes(|disk, root| {
        write_and_rename(disk, root);
        disk.sync_file_system(root).unwrap();
    });
    assert_eq!(outcomes, BTreeSet::from([(Found::Absent, Found::Complete)]));
}

#[test]
fn a_rename_between_directories_may_survive_in_either_in_both_or_in_none() {
    let (disk, root) = quiet();
    disk.make_directory(b"from").unwrap();
    disk.make_directory(b"to").unwrap();
    disk.write_file(b"from/f", b"x").unwrap();
    let (from, to) = (disk.open_dir(&root, b"from").unwrap(), disk.open_dir(&root, b"to").unwrap());
    disk.rename_noreplace(&from, b"f", &to, b"f").unwrap();
    let states = |disk: &SimDisk| -> BTreeSet<(bool, bool)> {
        let after = |seed| {
            let future = disk.fork();
            future.reboot_with(seed);
            let has = |path: &str| bytes(&future, path, View::Cached).is_some();
            (has("from/f"), has("to/f"))
        };
        (0..SEEDS).map(after).collect()
    };
    assert_eq!(states(&disk).len(), 4);
    disk.sync_dir(&to).unwrap();
    assert_eq!(states(&disk), BTreeSet::from([(true, true), (false, true)]), "a synced target loses nothing");
    disk.sync_dir(&from).unwrap();
    assert_eq!(states(&disk), BTreeSet::from([(false, true)]));
}

#[test]
fn a_new_directory_needs_a_sync_of_its_parent() {
    let (disk, root) = quiet();
    disk.make_dir(&root, b"d", 0o700).unwrap();
    let dir = disk.open_dir(&root, b"d").unwrap();
    create(&disk, &dir, b"f", &pattern(LEN)).sync().unwrap();
    disk.sync_dir(&dir).unwrap();
    let lost = |disk: &SimDisk| {
        (0..SEEDS)
            .filter(|&seed| {
                let future = disk.fork();
                future.reboot_with(seed);
                bytes(&future, "d/f", View::Cached) != Some(pattern(LEN))
            })
            .count()
    };
    assert!(lost(&disk) > 100);
    disk.sync_dir(&root).unwrap();
    assert_eq!(lost(&disk), 0);
}

#[test]
fn a_directory_is_renamed_as_a_whole_or_not() {
    let (disk, root) = quiet();
    disk.write_file(b"a/x/f", b"1").unwrap();
    disk.make_directory(b"b").unwrap();
    let (a, b) = (disk.open_dir(&root, b"a").unwrap(), disk.open_dir(&root, b"b").unwrap());
    disk.rename_noreplace(&a, b"x", &b, b"x").unwrap();
    disk.rename_noreplace(&b, b"x", &a, b"y").unwrap();
    for seed in 0..SEEDS {
        let future = disk.fork();
        future.reboot_with(seed);
        let ways = ["a/x/f", "a/y/f", "b/x/f"].into_iter().filter(|path| bytes(&future, path, View::Cached).is_some());
        assert!(ways.count() <= 1, "seed {seed}: one directory in two places");
    }
    disk.sync_dir(&b).unwrap();
    let future = disk.fork();
    future.reboot();
    assert!(bytes(&future, "a/y/f", View::Cached).is_some(), "a sync of one side covers the other");
}

#[test]
fn removed_names_may_come_back_with_their_content() {
    let (disk, root) = quiet();
    disk.write_file(b"d/f", b"x").unwrap();
    let dir = disk.open_dir(&root, b"d").unwrap();
    disk.remove(&dir, b"f").unwrap();
    disk.remove_dir(&root, b"d").unwrap();
    drop(dir);
    let mut total = CrashCounts::default();
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let future = disk.fork();
        total += future.reboot_with(seed);
        seen.insert((future.look(b"d", View::Cached).is_some(), bytes(&future, "d/f", View::Cached)));
    }
    let expected = BTreeSet::from([(false, None), (true, None), (true, Some(b"x".to_vec()))]);
    assert_eq!((seen, total.removed_names_back > 50), (expected, true));
    disk.sync_dir(&root).unwrap();
    disk.reboot();
    assert!(disk.look(b"d", View::Cached).is_none());
}

#[test]
fn modes_times_and_truncations_may_be_lost_apart_from_data() {
    let (disk, root) = quiet();
    disk.write_file(b"f", &pattern(LEN)).unwrap();
    let file = disk.open(&root, b"f", Access::Write).unwrap();
    file.set_len(100).unwrap();
    file.sync_data().unwrap();
    file.set_metadata(0o444, Timestamp { seconds: 1, nanos: 2 }).unwrap();
    let (mut modes, mut times) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..SEEDS {
        let future = disk.fork();
        future.reboot_with(seed);
        let seen = future.look(b"f", View::Cached).unwrap();
        assert_eq!(seen.bytes, pattern(LEN)[..100], "seed {seed}: a data sync covers the length");
        modes.insert(seen.mode);
        times.insert(seen.mtime);
    }
    assert_eq!((modes, times.len()), (BTreeSet::from([0o444, 0o600]), 2));
    file.set_len(0).unwrap();
    let back = (0..SEEDS).filter(|&seed| {
        let future = disk.fork();
        future.reboot_with(seed);
        bytes(&future, "f", View::Cached).unwrap() == pattern(LEN)[..100]
    });
    assert!(back.count() > 100, "an unsynced truncation may be undone");
}

#[test]
fn each_skipped_sync_turns_the_right_order_red() {
    let skips = [SkipSync::Data, SkipSync::Directory, SkipSync::FileNamed("tmp".to_owned()), SkipSync::All];
    for skip in skips {
        let (outcomes, _) = outcomes(|disk, root| {
            disk.set_skip_sync(Some(skip.clone()));
            let file = create(disk, root, b"tmp", &pattern(LEN));
            file.sync().unwrap();
            disk.rename_noreplace(root, b"tmp", root, b"final").unwrap();
            disk.sync_dir(root).unwrap();
            assert!(disk.counts().skipped_syncs > 0);
        });
        assert!(outcomes.iter().any(|&(_, last)| last != Found::Complete), "{skip:?} goes unnoticed");
    }
    let (outcomes, _) = outcomes(|disk, root| {
        disk.set_skip_sync(Some(SkipSync::FileSystem));
        write_and_rename(disk, root);
        disk.sync_file_system(root).unwrap();
    });
    assert!(outcomes.iter().any(|&(_, last)| last != Found::Complete));
}

/// Every sector found after a power cut stood in the file at some moment since the last sync, or at it.
#[test]
fn no_power_cut_invents_content_or_loses_what_was_synced() {
    let mut is_mixed = false;
    for seed in 0..150 {
        let mut choice = stream(seed, "legal");
        let (disk, root) = quiet();
        let file = create(&disk, &root, b"f", b"");
        disk.sync_dir(&root).unwrap();
        let mut history = vec![Vec::new()];
        for step in 0..60 {
            let offset = choice.random_range(0..20_000);
            let len = choice.random_range(0..9000);
            match choice.random_range(0..9) {
                0..=3 => file.write_all_at(&vec![u8::try_from(step + 1).unwrap(); len], offset).unwrap(),
                4 => file.set_len(offset).unwrap(),
                5 => file.punch(offset, len as u64).unwrap(),
                6 => file.start_writeback(offset, len as u64),
                7 => disk.evict(b"f").unwrap(),
                _ => {
                    if step % 2 == 0 { file.sync() } else { file.sync_data() }.unwrap();
                    history.clear();
                }
            }
            history.push(read_cached(&file));
            let future = disk.fork();
            future.reboot_with(seed * 1000 + step);
            let found = bytes(&future, "f", View::Cached).unwrap();
            let sizes = history.iter().map(Vec::len);
            assert!(sizes.clone().min() <= Some(found.len()) && Some(found.len()) <= sizes.max(), "seed {seed} {step}");
            for (number, sector) in found.chunks(512).enumerate() {
                let stood = |then: &Vec<u8>| {
                    let mut then = then.get(number * 512..).unwrap_or(&[]).to_vec();
                    then.resize(sector.len().max(then.len()), 0);
                    then[..sector.len()] == *sector
                };
                assert!(history.iter().any(stood), "seed {seed}, step {step}: sector {number} came from nowhere");
            }
            is_mixed |= !history.contains(&found);
            let grown = future.open(&future.root(), b"f", Access::Write).unwrap();
            grown.set_len(40_000).unwrap();
            assert!(
                read_cached(&grown)[found.len()..].iter().all(|&byte| byte == 0),
                "seed {seed}, step {step}: stale"
            );
        }
    }
    assert!(is_mixed, "some power cut mixes moments");
}

#[test]
fn a_write_may_be_half_done_when_the_process_is_killed() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new(seed, SimDials::off());
        let file = disk.create_exclusive(&disk.root(), b"f").unwrap();
        disk.set_stop_at(Some(StopAt { operation: disk.operations() + 1, how: Stop::Kill }));
        file.write_all_at(&pattern(LEN), 0).unwrap_err();
        disk.reboot();
        let found = bytes(&disk, "f", View::Cached).unwrap();
        assert_eq!(found, pattern(LEN)[..found.len()]);
        lengths.insert(found.len());
    }
    assert!(lengths.len() > 40);
}

#[test]
fn the_nth_operation_does_not_happen_and_all_handles_die() {
    let run = |disk: &SimDisk| -> std::io::Result<()> {
        let root = disk.root();
        let file = disk.create_exclusive(&root, b"f")?;
        file.write_all_at(b"x", 0)?;
        file.sync()?;
        disk.sync_dir(&root)
    };
    for how in [Stop::PowerCut, Stop::Kill] {
        let whole = SimDisk::new(5, SimDials::off());
        run(&whole).unwrap();
        for operation in 1..=whole.operations() {
            let disk = SimDisk::new(5, SimDials::off());
            let root = disk.root();
            disk.set_stop_at(Some(StopAt { operation, how }));
            run(&disk).unwrap_err();
            assert_eq!((disk.stopped(), disk.operations()), (Some(how), operation));
            assert!(disk.list(&disk.root()).is_err(), "nothing works before the reboot");
            disk.reboot();
            assert!(disk.list(&root).is_err(), "an old handle works again");
            let is_there = !disk.list(&disk.root()).unwrap().is_empty();
            match how {
                Stop::Kill => assert_eq!(is_there, operation > 1, "a kill loses nothing"),
                Stop::PowerCut => assert!(!is_there || operation > 1),
            }
        }
    }
}

#[test]
fn a_kill_keeps_the_cache_and_frees_what_only_handles_held() {
    let (disk, root) = quiet();
    let file = create(&disk, &root, b"f", &pattern(LEN));
    let gone = create(&disk, &root, b"gone", b"");
    let inode = gone.stat().unwrap().inode;
    disk.remove(&root, b"gone").unwrap();
    disk.sync_dir(&root).unwrap();
    disk.stop(Stop::Kill);
    assert_eq!(disk.reboot(), CrashCounts::default());
    assert_eq!(read_cached(&open(&disk, b"f").unwrap()), pattern(LEN));
    assert_eq!(create(&disk, &disk.root(), b"next", b"").stat().unwrap().inode, inode);
    drop((file, gone));
    assert_eq!(read_cached(&open(&disk, b"f").unwrap()), pattern(LEN), "a dead handle's end ends nothing else");
    assert_eq!(disk.counts().kills, 1);
}

#[test]
fn the_number_of_a_lost_inode_is_given_out_again() {
    let (disk, root) = quiet();
    let numbers: BTreeSet<u64> = (0..9_u8).map(|n| create(&disk, &root, &[n + 1], b"").stat().unwrap().inode).collect();
    let mut is_some_lost = false;
    for seed in 0..50 {
        let future = disk.fork();
        let lost = future.reboot_with(seed).objects_lost;
        let kept: BTreeSet<u64> = future.tree(View::Cached).values().map(|seen| seen.inode).collect();
        let next = create(&future, &future.root(), b"next", b"").stat().unwrap().inode;
        assert_eq!((lost, kept.contains(&next)), ((numbers.len() - kept.len()) as u64, false), "seed {seed}");
        assert_eq!(Some(&next), numbers.difference(&kept).next().or(Some(&next)), "seed {seed}: the lowest free one");
        is_some_lost |= lost > 0;
    }
    assert!(is_some_lost);
}

#[test]
fn a_volatile_disk_is_empty_after_a_power_cut() {
    let disk = SimDisk::new(1, SimDials { is_volatile: true, ..SimDials::off() });
    disk.write_file(b"d/f", b"x").unwrap();
    assert!(disk.space(&disk.root()).unwrap().is_volatile);
    disk.reboot();
    assert!(disk.tree(View::Cached).is_empty());
}
