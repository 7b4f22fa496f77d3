//! Each effect over the simulated disk: it happens, it is counted, and the disk below shows what it should.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landfall::attributes::Level;
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile};

use super::{FaultyDir, FaultyDisk, FaultyFile};
use crate::damage::Damage;
use crate::errno::{EIO, ENOSPC, EROFS, EXDEV};
use crate::operation::Operation;
use crate::plan::{Effect, Lasting, NameMatch, On, Plan, Rule, Unsynced, When};
use crate::sim_disk::{SimDials, SimDir, SimDisk, SimFile, View};

const LEN: usize = 3 * 4096;

type Wrapped = (SimDisk, FaultyDisk<SimDisk>, FaultyDir<SimDir>);

fn wrapped(rules: Vec<Rule>) -> Wrapped {
    let sim = SimDisk::new(1, SimDials::off());
    let disk = FaultyDisk::new(sim.clone(), Arc::new(Plan::new(9, rules)));
    let root = disk.wrap_dir(sim.root());
    (sim, disk, root)
}

fn one(operation: Operation, when: When, effect: Effect) -> Wrapped {
    wrapped(vec![Rule::new(On::Only(operation), when, effect)])
}

fn data() -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from(at % 250 + 1).unwrap()).collect()
}

fn uncached(file: &FaultyFile<SimFile>) -> Vec<u8> {
    let mut buffer = AlignedBuffer::default();
    assert_eq!(file.read_uncached_at(&mut buffer, 0, LEN).unwrap(), Level::Device);
    buffer.bytes().to_vec()
}

fn cached(file: &FaultyFile<SimFile>) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    let filled = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(filled);
    bytes
}

#[test]
fn errors_come_where_the_plan_says_and_nothing_is_done() {
    let (sim, disk, root) = wrapped(vec![
        Rule::new(On::Only(Operation::Create), When::Nth(2), Effect::Errno(ENOSPC)),
        Rule::new(On::Only(Operation::RenameNoReplace), When::Every, Effect::Errno(EXDEV))
            .named(NameMatch::suffix("d/final")),
        Rule::new(On::Changes, When::Every, Effect::Errno(EROFS)).named(NameMatch::contains("locked")),
    ]);
    disk.create_exclusive(&root, b"a").unwrap();
    assert_eq!(disk.create_exclusive(&root, b"b").unwrap_err().raw_os_error(), Some(ENOSPC));
    disk.create_exclusive(&root, b"b").unwrap();
    disk.make_dir(&root, b"d", 0o700).unwrap();
    let dir = disk.open_dir(&root, b"d").unwrap();
    let error = disk.rename_noreplace(&root, b"a", &dir, b"final").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EXDEV));
    disk.rename_noreplace(&root, b"a", &dir, b"other").unwrap();
    assert_eq!(disk.make_dir(&dir, b"locked", 0o700).unwrap_err().raw_os_error(), Some(EROFS));
    assert!(disk.stat(&dir, b"locked").is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
    let names: Vec<Vec<u8>> = sim.tree(View::Cached).into_keys().collect();
    assert_eq!(names, [&b"b"[..], b"d", b"d/other"]);
    assert_eq!((disk.plan().injected(), disk.plan().idle_rules()), (3, Vec::new()));
    disk.plan().disarm();
    disk.make_dir(&dir, b"locked", 0o700).unwrap();
    assert_eq!(disk.plan().injected(), 3);
}

#[test]
fn writes_are_lost_cut_torn_and_corrupted() {
    let expect = |effect, expected: &[u8], fails: Option<i32>| {
        let (_, disk, root) = one(Operation::Write, When::Nth(1), effect);
        let file = disk.create_exclusive(&root, b"f").unwrap();
        assert_eq!(file.write_all_at(&data(), 0).err().and_then(|error| error.raw_os_error()), fails);
        assert_eq!(cached(&file), expected);
        assert_eq!(disk.plan().injected(), 1);
        file.write_all_at(&data(), 0).unwrap();
        assert_eq!(uncached(&file), data());
    };
    expect(Effect::Lie, b"", None);
    expect(Effect::ShortWrite { kept_bytes: 100 }, &data()[..100], None);
    expect(Effect::TornWrite { kept_bytes: 5000, errno: EIO }, &data()[..5000], Some(EIO));
    for (damage, unit) in [(Damage::Bit, 1), (Damage::Sector, 512), (Damage::Page, 4096)] {
        let (_, disk, root) = one(Operation::Write, When::Nth(1), Effect::CorruptWrite(damage));
        let file = disk.create_exclusive(&root, b"f").unwrap();
        file.write_all_at(&data(), 0).unwrap();
        let changed = cached(&file).iter().zip(data()).filter(|(is, was)| *is != was).count();
        assert!((1..=unit).contains(&changed), "{damage:?} changed {changed} bytes");
        assert_eq!(uncached(&file), cached(&file));
    }
}

#[test]
fn bytes_altered_below_the_cache_last_as_long_as_they_should() {
    for (lasting, is_bad_again, is_bad_after_rewrite) in
        [(Lasting::Once, false, false), (Lasting::UntilRewritten, true, false), (Lasting::Always, true, true)]
    {
        let effect = Effect::CorruptUncachedRead(Damage::Sector, lasting);
        let (_, disk, root) = one(Operation::ReadUncached, When::Nth(1), effect);
        let file = disk.create_exclusive(&root, b"f").unwrap();
        file.write_all_at(&data(), 0).unwrap();
        let bad = uncached(&file);
        assert_ne!(bad, data());
        assert_eq!(cached(&file), data(), "the cache does not know");
        let again = disk.open(&root, b"f", Access::Write).unwrap();
        assert_eq!(uncached(&again) == bad, is_bad_again, "{lasting:?}");
        again.write_all_at(&data(), 0).unwrap();
        assert_eq!(uncached(&again) == bad, is_bad_after_rewrite, "{lasting:?}");
        let fresh = disk.create_exclusive(&root, b"g").unwrap();
        fresh.write_all_at(&data(), 0).unwrap();
        assert_eq!(uncached(&fresh), data(), "{lasting:?}: a new inode is whole");
        assert_eq!(disk.plan().injected(), 1);
    }
}

#[test]
fn a_new_file_with_an_old_inode_number_is_whole() {
    let effect = Effect::CorruptUncachedRead(Damage::Page, Lasting::Always);
    let (sim, disk, root) = one(Operation::ReadUncached, When::Nth(1), effect);
    let file = disk.create_exclusive(&root, b"f").unwrap();
    file.write_all_at(&data(), 0).unwrap();
    uncached(&file);
    disk.remove(&root, b"f").unwrap();
    let number = file.stat().unwrap().inode;
    drop(file);
    sim.settle();
    let file = disk.create_exclusive(&root, b"f").unwrap();
    assert_eq!(file.stat().unwrap().inode, number);
    file.write_all_at(&data(), 0).unwrap();
    assert_eq!(uncached(&file), data());
}

#[test]
fn a_cached_read_is_bad_once() {
    let (_, disk, root) = one(Operation::ReadCached, When::Nth(2), Effect::CorruptCachedRead(Damage::Bit));
    let file = disk.create_exclusive(&root, b"f").unwrap();
    file.write_all_at(&data(), 0).unwrap();
    assert_eq!([cached(&file), cached(&file), cached(&file)].map(|read| read == data()), [true, false, true]);
}

#[test]
fn a_failed_sync_keeps_or_loses_what_it_should_have_written() {
    for (pages, is_whole) in [(Unsynced::Kept, true), (Unsynced::Lost, false)] {
        let (_, disk, root) = one(Operation::Sync, When::Nth(2), Effect::FailSync(pages));
        let file = disk.create_exclusive(&root, b"f").unwrap();
        file.write_all_at(&data()[..4096], 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(&data()[4096..], 4096).unwrap();
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
        file.sync().unwrap();
        assert_eq!(cached(&file), data(), "{pages:?}: the cache looks right");
        assert_eq!(uncached(&file) == data(), is_whole, "{pages:?}");
        assert_eq!(uncached(&file)[..4096], data()[..4096], "{pages:?}: what was synced before stays");
        file.write_all_at(&data(), 0).unwrap();
        assert_eq!(uncached(&file), data(), "{pages:?}");
    }
}

#[test]
fn lengths_and_punches_heal_what_they_cover() {
    let effect = Effect::CorruptUncachedRead(Damage::Page, Lasting::UntilRewritten);
    for heal in ["punch", "set_len"] {
        let (_, disk, root) = one(Operation::ReadUncached, When::Nth(1), effect);
        let file = disk.create_exclusive(&root, b"f").unwrap();
        file.write_all_at(&data(), 0).unwrap();
        assert_ne!(uncached(&file), data());
        if heal == "punch" {
            file.punch(0, LEN as u64).unwrap();
        } else {
            file.set_len(0).unwrap();
            file.set_len(LEN as u64).unwrap();
        }
        assert_eq!(uncached(&file), [0; LEN], "{heal}");
    }
}

#[test]
fn a_sync_of_the_file_system_saves_from_a_later_failed_sync() {
    let (_, disk, root) = one(Operation::SyncData, When::Nth(1), Effect::FailSync(Unsynced::Lost));
    let file = disk.create_exclusive(&root, b"f").unwrap();
    file.write_all_at(&data(), 0).unwrap();
    disk.sync_file_system(&root).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap_err();
    assert_eq!(uncached(&file), [&[0], &data()[1..]].concat());
}

#[test]
fn lying_syncs_make_nothing_durable() {
    let (sim, disk, root) = wrapped(vec![
        Rule::new(On::Only(Operation::Sync), When::Nth(1), Effect::Lie),
        Rule::new(On::Only(Operation::SyncDir), When::Nth(1), Effect::Lie),
    ]);
    let file = disk.create_exclusive(&root, b"f").unwrap();
    file.write_all_at(&data(), 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(&root).unwrap();
    assert!(sim.tree(View::Durable).is_empty());
    disk.sync_dir(&root).unwrap();
    file.sync().unwrap();
    assert_eq!(sim.look(b"f", View::Durable).unwrap().bytes, data());
    assert_eq!(disk.plan().injected(), 2);
}

#[test]
fn the_kill_switch_is_called_before_each_chosen_operation() {
    let sim = SimDisk::new(1, SimDials::off());
    let calls = Arc::new(AtomicU64::new(0));
    let seen = calls.clone();
    let rules = vec![
        Rule::new(On::Any, When::Nth(2), Effect::Kill),
        Rule::new(On::Any, When::Nth(2), Effect::Delay { ms: 1 }),
        Rule::new(On::Only(Operation::MakeDir), When::Every, Effect::Errno(EIO)),
    ];
    let plan = Plan::new(1, rules).with_kill_switch(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let disk = FaultyDisk::new(sim.clone(), Arc::new(plan));
    let root = disk.wrap_dir(sim.root());
    disk.list(&root).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    disk.make_dir(&root, b"d", 0o700).unwrap_err();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(disk.plan().injected(), 3, "rules after a kill and a delay are consulted");
}
