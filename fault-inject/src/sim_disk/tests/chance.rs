//! The same seed gives the same run, another gives another, and all is fast enough for many.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use landfall::attributes::Timestamp;
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile};
use rand::Rng;

use super::super::{SimDials, SimDisk, SimFault, View};
use super::{pattern, quiet};
use crate::rng::{Odds, stream};

/// A few hundred operations of all kinds by chance, whatever fails, with power cuts between.
fn churn(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed, SimDials::drawn(seed));
    let mut choice = stream(seed, "churn");
    for _ in 0..4 {
        let mut root = disk.root();
        let mut files = Vec::new();
        for _ in 0..150 {
            let name = [b'a' + choice.random_range(0..6)];
            let other = [b'a' + choice.random_range(0..6)];
            let at = choice.random_range(0..20_000);
            let len = choice.random_range(0..9000_usize);
            let _ = match choice.random_range(0..16) {
                0 | 1 => disk.create_exclusive(&root, &name).map(|file| files.push(file)),
                2 => disk.open(&root, &name, Access::Write).map(|file| files.push(file)),
                3 => disk.rename_noreplace(&root, &name, &root, &other),
                4 => disk.replace(&root, &name, &root, &other),
                5 => disk.remove(&root, &name),
                6 => disk.make_dir(&root, &name, 0o700),
                7 => disk.open_dir(&disk.root(), if len > 2000 { &name } else { b"" }).map(|dir| root = dir),
                8 => disk.sync_dir(&root),
                9 => disk.sync_file_system(&root),
                kind => files.last().map_or(Ok(()), |file| match kind {
                    10 | 11 => file.write_all_at(&pattern(len), at),
                    12 => file.sync(),
                    13 => file.set_len(at),
                    14 => file.punch(at, len as u64),
                    _ => file
                        .read_uncached_at(&mut AlignedBuffer::default(), at, len)
                        .and_then(|_| file.set_metadata(0o640, Timestamp { seconds: 9, nanos: 0 })),
                }),
            };
        }
        drop(files);
        drop(root);
        disk.reboot();
    }
    disk
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let mut digests = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (first, second) = (churn(seed), churn(seed));
        assert_eq!(first.state_digest(), second.state_digest(), "seed {seed}");
        assert_eq!(first.counts(), second.counts(), "seed {seed}");
        assert_eq!(first.tree(View::Cached), second.tree(View::Durable), "seed {seed}: after a reboot all is durable");
        digests.insert(first.state_digest());
    }
    assert!(digests.len() > 50, "different seeds give different disks");
}

#[test]
fn chance_reaches_every_fault_and_every_loss() {
    let mut total = super::super::CrashCounts::default();
    let mut struck = std::collections::BTreeMap::new();
    for seed in 100..300 {
        let counts = churn(seed).counts();
        total += counts.crash;
        for (fault, times) in counts.faults {
            *struck.entry(fault).or_insert(0) += times;
        }
    }
    for fault in SimFault::ALL {
        assert_eq!(struck.contains_key(&fault), !fault.is_beyond_the_guarantee(), "{fault:?}: {struck:?}");
    }
    let all = [
        total.unsynced_data_lost,
        total.unsynced_data_kept,
        total.name_without_data,
        total.size_without_data,
        total.torn_pages,
        total.renames_half_kept,
        total.new_names_lost,
        total.removed_names_back,
        total.metadata_lost,
        total.objects_lost,
    ];
    assert!(all.iter().all(|&count| count > 0), "{total:?}");
}

#[test]
fn one_dial_does_not_shift_the_draws_of_another() {
    let damage = |dials: SimDials| {
        let disk = SimDisk::new(4, dials);
        let file = disk.create_exclusive(&disk.root(), b"f").unwrap();
        for page in 0..200 {
            file.write_all_at(&pattern(4096), page * 4096).unwrap();
        }
        file.sync().unwrap();
        disk.sync_dir(&disk.root()).unwrap();
        disk.damaged_pages()
    };
    let dials = SimDials::off().with(SimFault::CorruptWriteBack, Odds::per_million(100_000));
    let alone = damage(dials.clone());
    assert!(!alone.is_empty());
    assert_eq!(alone, damage(dials.with(SimFault::BadRead, Odds::per_million(500_000))));
}

#[test]
fn a_fork_is_another_disk_with_the_same_past() {
    let (disk, root) = quiet();
    disk.write_file(b"f", &pattern(5000)).unwrap();
    let fork = disk.fork();
    assert_eq!(disk.state_digest(), fork.state_digest());
    disk.remove(&root, b"f").unwrap();
    assert!(fork.look(b"f", View::Cached).is_some());
    assert!(fork.list(&root).is_ok(), "a handle stays with its own disk");
}

/// The shape of a small transfer's receiving side: staging, journal, read-back, seal.
fn transfer(disk: &SimDisk, files: u8, chunks: usize, data: &[u8]) {
    let root = disk.root();
    disk.make_dir(&root, b"staging", 0o700).unwrap();
    let staging = disk.open_dir(&root, b"staging").unwrap();
    let journal = disk.create_exclusive(&root, b"journal").unwrap();
    let mut buffer = AlignedBuffer::default();
    for number in 0..files {
        let name = [b'a' + number];
        let file = disk.create_exclusive(&staging, &name).unwrap();
        for chunk in 0..chunks {
            file.write_all_at(&data[chunk * 4096..][..4096], chunk as u64 * 4096).unwrap();
        }
        file.sync().unwrap();
        journal.write_all_at(&data[..40], u64::from(number) * 40).unwrap();
        journal.sync_data().unwrap();
        for chunk in 0..chunks {
            file.read_uncached_at(&mut buffer, chunk as u64 * 4096, 4096).unwrap();
        }
        disk.rename_noreplace(&staging, &name, &root, &name).unwrap();
    }
    disk.sync_dir(&root).unwrap();
}

#[test]
fn it_is_fast_enough_for_thousands_of_transfers() {
    let data = pattern(10 * 4096);
    let start = Instant::now();
    let (mut transfers, mut operations) = (0, 0);
    while start.elapsed().as_millis() < 300 {
        let disk = SimDisk::new(transfers, SimDials::off());
        transfer(&disk, 4, 5, &data);
        disk.reboot();
        operations += disk.operations();
        transfers += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = transfers as f64 / seconds;
    assert!(rate > 200.0, "only {rate:.0} transfers and {:.0} operations a second", operations as f64 / seconds);
}
