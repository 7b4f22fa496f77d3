//! The outcome of logs that were written differently, and what a receipt is compared with.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::digest::{ChunkDigest, Folder};
use crate::disk::RealDisk;
use crate::identity::TransferId;
use crate::manifest::Header;
use crate::outcome::Counts;
use crate::path::RelPath;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn file(entry: u32, name: &str, chunks: u64) -> Vec<Record> {
    let digests = vec![ChunkDigest([7; 32]); usize::try_from(chunks).unwrap()];
    let mut folder = Folder::default();
    digests.iter().for_each(|digest| folder.push(*digest));
    let (entry, mtime) = (EntryIndex(entry), Timestamp::default());
    let mut records = vec![Record::Begin { path: path(name), size: chunks * 4096 }];
    records.extend((chunks > 0).then_some(Record::Chunks { entry, digests }));
    records.push(Record::End { entry, digest: folder.finish(), mode: 0o644, mtime });
    records
}

fn log(home: &std::path::Path, name: &[u8], records: &[Record]) -> ManifestLog<RealDisk> {
    let header = Header { chunk_bytes: 4096, transfer: TransferId([1; 16]) };
    let dir = RealDisk::open_root(home).unwrap();
    let (mut log, _) = ManifestLog::open(&RealDisk::new(), &dir, name, header, |_, _| ()).unwrap();
    let encoded: Vec<Vec<u8>> = records.iter().map(Record::encode).collect();
    log.append(encoded.iter().map(Vec::as_slice), |_, _| ()).unwrap();
    log
}

#[test]
fn the_outcome_does_not_depend_on_how_the_log_was_written() {
    let home = tempfile::tempdir().unwrap();
    let directory = Record::Directory { path: path("d"), mode: 0o755, mtime: Timestamp::default() };
    let left_out = Record::LeftOut { path: path("x"), kind: FileKind::Special, reason: Reason::Special };
    let complete = Record::Complete(Counts::default());
    let withdraw = Record::Withdraw { entry: EntryIndex(1), reason: Reason::Changed };
    let one = [vec![directory.clone()], file(1, "d/a", 2), vec![left_out.clone()], file(3, "b", 1)].concat();
    let two = [
        file(0, "b", 1),
        file(1, "d/a", 5),
        vec![left_out, withdraw, complete.clone(), directory],
        file(4, "d/a", 2),
        vec![complete],
    ]
    .concat();
    let none = |_: EntryIndex| None;
    let (one, two) = (log(home.path(), b"1", &one), log(home.path(), b"2", &two));
    let tally_one = tally(&one, &Live::of(&one).unwrap(), none, |_, _| ()).unwrap().0;
    assert_eq!(tally(&two, &Live::of(&two).unwrap(), none, |_, _| ()).unwrap().0, tally_one);
    assert_eq!((tally_one.delivered_files, tally_one.delivered_bytes, tally_one.left_out), (2, 3 * 4096, 1));
    let kept = |entry: EntryIndex| (entry.0 == 3).then_some(Outcome::LeftOut(Reason::Kept));
    let tally_kept = tally(&one, &Live::of(&one).unwrap(), kept, |_, _| ()).unwrap().0;
    assert_ne!(tally_kept.digest, tally_one.digest);
    assert_eq!((tally_kept.delivered_files, tally_kept.kept, tally_kept.left_out), (1, 1, 1));
    let attributes = |entry: EntryIndex| (entry.0 == 0).then_some(Outcome::AttributesNotApplied);
    assert_eq!(tally(&one, &Live::of(&one).unwrap(), attributes, |_, _| ()).unwrap().0.attributes_not_applied, 1);
}

#[test]
fn a_receipt_is_compared_with_what_the_log_says_and_with_what_it_said_before() {
    let home = tempfile::tempdir().unwrap();
    let complete = Record::Complete(Counts::default());
    let withdraw = Record::Withdraw { entry: EntryIndex(0), reason: Reason::Changed };
    let before = [file(0, "a", 1), file(1, "b", 2), vec![complete.clone()]].concat();
    let now = [before.clone(), vec![withdraw], file(2, "a", 3), vec![complete]].concat();
    let (before, now) = (log(home.path(), b"1", &before), log(home.path(), b"2", &now));
    let kept = |name: &str| HashMap::from([(path_hash(&path(name)), Outcome::LeftOut(Reason::Kept))]);
    let core = |log: &ManifestLog<RealDisk>, kept: Option<u32>| {
        let said = |entry: EntryIndex| (Some(entry.0) == kept).then_some(Outcome::LeftOut(Reason::Kept));
        let tally = tally(log, &Live::of(log).unwrap(), said, |_, _| ()).unwrap().0;
        core_of(&tally)
    };
    let none = HashMap::new();
    let Agreement::Now(told) = compare(&now, &core(&now, None), &none, None).unwrap() else { panic!("it is now") };
    assert_eq!((told.tally.delivered_files, told.tally.delivered_bytes), (2, 5 * 4096));
    let agreement = compare(&now, &core(&now, Some(1)), &kept("b"), None).unwrap();
    assert!(matches!(agreement, Agreement::Now(told) if told.exceptions.contains_key(&EntryIndex(1))));
    assert!(matches!(compare(&now, &core(&before, None), &none, None).unwrap(), Agreement::Before));
    assert!(matches!(compare(&now, &core(&before, Some(0)), &kept("a"), None).unwrap(), Agreement::Before));
    assert!(matches!(compare(&before, &core(&now, None), &none, None).unwrap(), Agreement::Never));
    assert!(matches!(compare(&now, &core(&now, None), &kept("no such path"), None).unwrap(), Agreement::Never));
}

#[test]
fn what_was_expected_counts_only_for_the_log_that_it_was_computed_of() {
    let home = tempfile::tempdir().unwrap();
    let complete = Record::Complete(Counts::default());
    let mut log = log(home.path(), b"1", &[file(0, "a", 1), vec![complete.clone()]].concat());
    let expected = Expected::of(&log).unwrap();
    let none = HashMap::new();
    let core = |log: &ManifestLog<RealDisk>| {
        let (tally, _) = tally(log, &Live::of(log).unwrap(), |_| None, |_, _| ()).unwrap();
        core_of(&tally)
    };
    let before = core(&log);
    let Agreement::Now(told) = compare(&log, &before, &none, Some(&expected)).unwrap() else { panic!("it is now") };
    assert_eq!(told.tally.digest, before.outcome);
    let kept = HashMap::from([(path_hash(&path("a")), Outcome::LeftOut(Reason::Kept))]);
    assert!(matches!(compare(&log, &before, &kept, Some(&expected)).unwrap(), Agreement::Never));
    let more: Vec<Vec<u8>> = [file(1, "b", 1), vec![complete]].concat().iter().map(Record::encode).collect();
    log.append(more.iter().map(Vec::as_slice), |_, _| ()).unwrap();
    assert!(matches!(compare(&log, &before, &none, Some(&expected)).unwrap(), Agreement::Before));
    let now = core(&log);
    let Agreement::Now(told) = compare(&log, &now, &none, Some(&expected)).unwrap() else { panic!("it is now") };
    assert_eq!(told.tally.delivered_files, 2);
}

#[test]
fn a_log_that_was_changed_on_disk_has_nothing_live() {
    let home = tempfile::tempdir().unwrap();
    let records = [file(0, "a", 1), file(1, "b", 2), vec![Record::Complete(Counts::default())]].concat();
    let log = log(home.path(), b"1", &records);
    assert_eq!(Live::of_undamaged(&log).unwrap(), Some(Live::of(&log).unwrap()));
    let mut bytes = std::fs::read(home.path().join("1")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(home.path().join("1"), bytes).unwrap();
    assert_eq!(Live::of_undamaged(&log).unwrap(), None);
}

/// A receipt that says what a tally says.
fn core_of(tally: &Tally) -> Core {
    Core {
        outcome: tally.digest,
        delivered_files: tally.delivered_files,
        delivered_bytes: tally.delivered_bytes,
        left_out: tally.left_out,
        kept: tally.kept,
        ..receipt::tests::sample()
    }
}
