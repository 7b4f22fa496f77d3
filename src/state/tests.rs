//! Tests of the small files of `$LANDFALL_HOME`: formats, damage, crashes.

#![allow(clippy::unwrap_used)]

mod crash_disk;
mod streams;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::files::{Damage, Kind, disclose, enclose, open_own, read_small, write_atomic, write_private};
use super::home::Home;
use super::log::ManifestLog;
use super::outcome::{Lines, Live, store_receipt};
use super::transfer::{Closed, Description, End, ReceiverSettings, Settings, Side, TransferRecord};
use crate::attributes::Level;
use crate::digest::ListDigest;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::error::Error;
use crate::identity::{PeerKey, Role, Secret, TransferId};
use crate::limits::{CLOSED_STATE_DAYS, RECORD_FILE_BYTES_MAX};
use crate::lists::Given;
use crate::manifest::Header;
use crate::options::{ChildCommand, Existing, Remote, Selection};
use crate::receipt;
use crash_disk::CrashDisk;

fn secret() -> Secret {
    Secret::from_bytes([0x11; 16])
}

pub(super) fn record() -> TransferRecord {
    TransferRecord {
        id: secret().transfer_id(),
        role: Role::Receiver,
        side: Side::Listener,
        listen: Some("0.0.0.0:0".parse().unwrap()),
        port: Some(28170),
        secret: Some(secret()),
        expiry_seconds: 1_800_086_400,
        peer: None,
        addresses: vec![],
        paths: vec!["/srv/in".into()],
        selection: Selection::default(),
        other: None,
        child: None,
        write_ticket: Some("/run/ticket".into()),
        shows_code: false,
        settings: Settings {
            patience: Some(Duration::from_millis(600_000)),
            receipt: None,
            reads_twice: false,
            receiver: Some(ReceiverSettings {
                existing: Existing::Refuse,
                max_bytes: Some(7),
                reserve_bytes: None,
                accept_level: Level::Evicted,
            }),
        },
        created_seconds: 1_800_000_000,
        is_agreed: false,
        closed: None,
    }
}

/// Lists that are kept beside a record.
fn lists() -> Selection {
    Selection {
        listed: Some(Given::kept(ListDigest([7; 32]))),
        expected: Some(Given::kept(ListDigest([8; 32]))),
        ..Selection::default()
    }
}

/// The record of the other kind: everything that the first leaves out, with a path that is not text.
fn other_record() -> TransferRecord {
    let odd = PathBuf::from(OsString::from_vec(b"/odd/\xFF\n".to_vec()));
    TransferRecord {
        role: Role::Sender,
        side: Side::Parent,
        listen: None,
        port: None,
        peer: Some(PeerKey([0x22; 32])),
        addresses: vec!["[::1]:20000".parse().unwrap(), "192.0.2.1:1".parse().unwrap()],
        paths: vec!["/a".into(), odd.clone()],
        selection: Selection { patterns: vec!["*.o".into()], ignore_files: true, one_file_system: true, ..lists() },
        other: Some(odd.clone()),
        child: Some(ChildCommand {
            program: odd.clone(),
            arguments: vec!["child".into(), odd.clone().into()],
            options: serde_json::json!({"existing": "keep"}),
            remote: Some(Remote { host: "me@host".into(), is_relayed: true }),
        }),
        write_ticket: None,
        shows_code: true,
        settings: Settings { patience: None, receipt: Some(odd), reads_twice: true, receiver: None },
        is_agreed: true,
        closed: Some(Closed { seconds: 9, end: End::Unconfirmed }),
        ..record()
    }
}

/// A home in a directory of its own.
fn home() -> (TempDir, Home<RealDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("home")).unwrap();
    (dir, home)
}

/// The same home on a disk that crashes.
fn crashing(dir: &TempDir, steps: usize) -> (CrashDisk, Home<CrashDisk>) {
    let path = dir.path().join("home");
    let disk = CrashDisk::new(steps);
    (disk.clone(), Home::new(disk, RealDisk::open_root(&path).unwrap(), path))
}

#[test]
fn a_record_of_version_one_is_read_for_ever() {
    let golden = include_str!("../../tests/golden/transfer-v1");
    assert_eq!(String::from_utf8(record().encode()).unwrap(), golden);
    assert_eq!(TransferRecord::decode(golden.as_bytes()).unwrap().encode(), golden.as_bytes());
}

#[test]
fn every_field_survives_its_file() {
    for original in [record(), other_record()] {
        let again = TransferRecord::decode(&original.encode()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{original:?}"));
        let secrets = [&again, &original].map(|record| record.secret.as_ref().map(|secret| *secret.expose()));
        assert_eq!(secrets[0], secrets[1]);
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let good = record().encode();
    for at in 0..good.len() {
        for change in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= change;
            assert!(TransferRecord::decode(&bad).is_err(), "byte {at}");
        }
        assert_eq!(TransferRecord::decode(&good[..at]).unwrap_err(), Damage::Damaged, "cut at {at}");
    }
}

#[test]
fn a_file_of_another_kind_or_version_is_told_apart() {
    let kind = Kind { name: "landfall test", version: 2 };
    let file = enclose(kind, b"body\n");
    assert!(file.starts_with(b"landfall test 2 ") && file.ends_with(b"\nbody\n"));
    assert_eq!(disclose(kind, &file), Ok(&b"body\n"[..]));
    assert_eq!(disclose(Kind { version: 1, ..kind }, &file), Err(Damage::Version(2)));
    assert_eq!(disclose(Kind { name: "landfall", ..kind }, &file), Err(Damage::Damaged));
    assert_eq!(disclose(kind, b""), Err(Damage::Damaged));
    assert_eq!(disclose(kind, b"\n"), Err(Damage::Damaged));
}

#[test]
fn a_write_is_synced_before_it_gets_its_name_and_the_name_after() {
    let (dir, home) = home();
    home.save(&record()).unwrap();
    let (disk, home) = crashing(&dir, usize::MAX);
    home.save(&record()).unwrap();
    // Directories that are there already are synced too: the run that made them may not have come to it.
    assert_eq!(disk.done(), steps_of_a_save());
}

fn steps_of_a_save() -> Vec<&'static str> {
    let mut steps = ["make_dir", "sync_dir"].repeat(3);
    steps.extend(["create", "write", "sync", "replace", "sync_dir"]);
    steps
}

#[test]
fn a_new_record_is_durable_with_all_its_directories() {
    let (dir, _home) = home();
    let (disk, home) = crashing(&dir, usize::MAX);
    home.save(&record()).unwrap();
    assert_eq!(disk.done(), steps_of_a_save());
}

#[test]
fn a_crash_at_any_step_leaves_the_old_record_or_the_new_one() {
    let taken = TransferRecord { secret: None, peer: Some(PeerKey([3; 32])), ..record() };
    let mut outcomes = [0, 0];
    let last = steps_of_a_save().len();
    for steps in 0..=last {
        let (dir, whole) = home();
        whole.save(&record()).unwrap();
        let (_disk, crashed) = crashing(&dir, steps);
        let is_done = crashed.save(&taken).is_ok();
        assert_eq!(is_done, steps == last);
        let found = whole.load(record().id, Role::Receiver).unwrap().unwrap();
        assert_eq!(found.secret.is_some(), found.peer.is_none(), "ownership is whole or not there");
        assert!(!is_done || found.peer.is_some(), "what was promised is there");
        outcomes[usize::from(found.peer.is_some())] += 1;
        // What the crash left behind is in nobody's way.
        whole.save(&taken).unwrap();
        assert!(whole.load(record().id, Role::Receiver).unwrap().unwrap().peer.is_some());
        let names = whole.transfer_dir(record().id, Role::Receiver).unwrap();
        assert_eq!(RealDisk::new().list(&names).unwrap().len(), 1);
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[test]
fn a_crash_before_the_first_record_leaves_no_transfer() {
    for steps in 0..11 {
        let (dir, whole) = home();
        let (_disk, crashed) = crashing(&dir, steps);
        let is_done = crashed.save(&record()).is_ok();
        let listing = whole.list().unwrap();
        assert!(listing.damaged.is_empty());
        assert!(listing.records.len() == 1 || !is_done, "{steps}");
        whole.save(&record()).unwrap();
    }
}

#[test]
fn files_and_directories_are_private() {
    let (dir, home) = home();
    home.save(&record()).unwrap();
    home.identity().unwrap();
    home.create_receipt(record().id, Role::Receiver).unwrap().finish().unwrap();
    let _lock = home.lock(record().id, Role::Receiver).unwrap();
    let mut pending = vec![dir.path().join("home")];
    let mut seen = 0;
    while let Some(path) = pending.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
        seen += 1;
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn the_identity_is_made_once() {
    let (_dir, home) = home();
    assert_eq!(home.identity().unwrap().public_key(), home.identity().unwrap().public_key());
    let path = home.path().join("identity");
    std::fs::write(&path, "rubbish").unwrap();
    let error = home.identity().unwrap_err();
    assert!(matches!(&error, Error::State { path: named, .. } if *named == path), "{error}");
}

#[test]
fn a_damaged_record_hides_no_other() {
    let (dir, home) = home();
    home.save(&record()).unwrap();
    let other = TransferRecord { id: TransferId([1; 16]), created_seconds: 5, ..record() };
    home.save(&other).unwrap();
    let path = dir.path().join(format!("home/transfers/{}/receiver/transfer", other.id));
    std::fs::write(&path, b"landfall transfer 1 0000000000000000\n{}").unwrap();
    let listing = home.list().unwrap();
    assert_eq!(listing.records.iter().map(|record| record.id).collect::<Vec<_>>(), [record().id]);
    assert_eq!(listing.damaged.len(), 1);
    assert_eq!(listing.damaged[0].0, path);
    assert!(matches!(home.load(other.id, Role::Receiver), Err(Error::State { path: named, .. }) if named == path));
}

#[test]
fn a_working_file_with_a_second_name_is_made_anew_and_the_other_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, planted) = (dir.path().join("victim"), dir.path().join("journal"));
    std::fs::write(&victim, b"unchanged").unwrap();
    std::fs::hard_link(&victim, &planted).unwrap();
    let (disk, root) = (RealDisk::new(), RealDisk::open_root(dir.path()).unwrap());
    open_own(&disk, &root, b"journal").unwrap().write_all_at(b"claims", 0).unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"unchanged");
    assert_eq!(std::fs::read(&planted).unwrap(), b"claims");
    // With one name it is ours, and what it holds stays.
    assert_eq!(open_own(&disk, &root, b"journal").unwrap().stat().unwrap().size, 6);
}

#[test]
fn a_record_in_the_wrong_place_or_too_long_is_damage() {
    let (dir, home) = home();
    home.save(&record()).unwrap();
    let other = TransferId([1; 16]);
    home.save(&TransferRecord { id: other, ..record() }).unwrap();
    let path = |id| dir.path().join(format!("home/transfers/{id}/receiver/transfer"));
    std::fs::copy(path(record().id), path(other)).unwrap();
    assert!(home.load(other, Role::Receiver).unwrap_err().to_string().contains(&other.to_string()));
    std::fs::File::create(path(other)).unwrap().set_len(RECORD_FILE_BYTES_MAX as u64 + 1).unwrap();
    assert!(home.load(other, Role::Receiver).is_err());
}

#[test]
fn a_closed_transfer_stays_closed_and_forgets_its_secret() {
    let (_dir, home) = home();
    let mut record = record();
    home.save(&record).unwrap();
    home.close(&mut record, Closed { seconds: 1, end: End::Unconfirmed }).unwrap();
    assert!(record.is_resumable() && !record.is_open());
    home.close(&mut record, Closed { seconds: 2, end: End::Finished }).unwrap();
    home.close(&mut record, Closed { seconds: 3, end: End::Abandoned }).unwrap();
    let found = home.load(record.id, record.role).unwrap().unwrap();
    assert_eq!(found.closed, Some(Closed { seconds: 2, end: End::Finished }));
    assert!(found.secret.is_none() && !found.is_resumable());
}

#[test]
fn a_receipt_has_no_name_until_it_reads_back() {
    let (dir, whole) = home();
    let (disk, home) = crashing(&dir, usize::MAX);
    let write = || {
        let mut out = home.create_receipt(record().id, Role::Receiver).unwrap();
        out.line("what was signed").unwrap();
        out.finish()
    };
    disk.lose_writes(1);
    assert!(write().unwrap_err().to_string().contains("read back"));
    assert!(whole.open_receipt(record().id, Role::Receiver).unwrap().is_none());
    write().unwrap();
    let mut receipt = whole.open_receipt(record().id, Role::Receiver).unwrap().unwrap();
    assert_eq!(receipt.line().unwrap().as_deref(), Some("what was signed"));
    // Whoever stores one writes it anew.
    let core = receipt::tests::sample();
    let header = Header { chunk_bytes: 4096, transfer: core.transfer };
    let root = RealDisk::open_root(dir.path()).unwrap();
    let (log, _) = ManifestLog::open(&RealDisk::new(), &root, b"log", header, |_, _| ()).unwrap();
    disk.lose_writes(2);
    store_receipt(&log, &Lines::of(Live::of(&log).unwrap()), |_| None, &core, &[7; 64], &home, Role::Sender).unwrap();
    let mut receipt = whole.open_receipt(core.transfer, Role::Sender).unwrap().unwrap();
    assert_eq!(receipt.line().unwrap(), Some(receipt::head_to_json(&core, &[7; 64])));
}

#[test]
fn old_closed_state_is_pruned_and_its_receipt_kept() {
    let (dir, home) = home();
    let id = |byte| TransferId([byte; 16]);
    let closed_at = |byte, seconds| {
        let closed = Some(Closed { seconds, end: End::Finished });
        TransferRecord { id: id(byte), closed, ..record() }
    };
    let now = 100 + CLOSED_STATE_DAYS * 24 * 3600;
    for old in [closed_at(1, 99), closed_at(2, 100), closed_at(4, 99), TransferRecord { id: id(3), ..record() }] {
        home.save(&old).unwrap();
    }
    home.create_receipt(id(1), Role::Receiver).unwrap().finish().unwrap();
    std::fs::create_dir_all(dir.path().join(format!("home/transfers/{}/receiver/stamps/deep", id(1)))).unwrap();
    let held = home.lock(id(4), Role::Receiver).unwrap();
    let left = || home.list().unwrap().records.iter().map(|record| record.id.0[0]).collect::<Vec<_>>();
    home.prune(now).unwrap();
    assert_eq!(left(), [2, 3, 4], "one that is at work is left alone");
    assert!(home.open_receipt(id(1), Role::Receiver).unwrap().is_some());
    assert!(!dir.path().join(format!("home/transfers/{}", id(1))).exists());
    drop(held);
    home.prune(now).unwrap();
    assert_eq!(left(), [2, 3]);
}

#[test]
fn a_receipt_is_there_whole_or_not_at_all() {
    let (dir, whole) = home();
    let (id, role) = (record().id, Role::Sender);
    let long = "x".repeat(600 << 10);
    for steps in 0..=7 {
        let (disk, home) = crashing(&dir, steps);
        let write = || {
            let mut writer = home.create_receipt(id, role)?;
            let failed = |source| Error::State { path: "receipt".into(), source };
            writer.line("head").map_err(failed)?;
            writer.line(&long).map_err(failed)?;
            writer.line(&long).map_err(failed)?;
            writer.finish().map_err(failed)
        };
        let is_done = write().is_ok();
        match whole.open_receipt(id, role).unwrap() {
            Some(mut reader) => {
                assert_eq!(disk.done().last(), Some(if is_done { &"sync_dir" } else { &"replace" }));
                assert_eq!(reader.line().unwrap().as_deref(), Some("head"));
                assert_eq!(reader.line().unwrap().as_ref(), Some(&long));
                assert_eq!(reader.line().unwrap().as_ref(), Some(&long));
                assert_eq!(reader.line().unwrap(), None);
                std::fs::remove_file(whole.receipt_path(id, role)).unwrap();
            }
            None => assert!(!is_done, "{steps}"),
        }
    }
}

#[test]
fn a_receipt_that_was_cut_is_damaged() {
    let (_dir, home) = home();
    let (id, role) = (record().id, Role::Sender);
    let mut writer = home.create_receipt(id, role).unwrap();
    writer.line("one").unwrap();
    writer.line("two").unwrap();
    writer.finish().unwrap();
    std::fs::write(home.receipt_path(id, role), "one\ntw").unwrap();
    let mut reader = home.open_receipt(id, role).unwrap().unwrap();
    assert_eq!(reader.line().unwrap().as_deref(), Some("one"));
    assert_eq!(reader.line().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert!(home.open_receipt(id, Role::Receiver).unwrap().is_none());
}

#[test]
fn a_description_means_open_transfers_of_the_same_things() {
    let paths: Vec<PathBuf> = vec!["/a".into(), "/b".into()];
    let base = TransferRecord { role: Role::Sender, paths: paths.clone(), ..record() };
    let with = |byte, change: fn(&mut TransferRecord)| {
        let mut record = TransferRecord { id: TransferId([byte; 16]), ..base.clone() };
        change(&mut record);
        record
    };
    let records = [
        with(1, |_| ()),
        with(2, |record| record.paths.reverse()),
        with(3, |record| record.paths.truncate(1)),
        with(4, |record| record.role = Role::Receiver),
        with(5, |record| record.other = Some("/c".into())),
        with(6, |record| record.closed = Some(Closed { seconds: 0, end: End::Unconfirmed })),
        with(7, |record| record.side = Side::Child),
        with(8, |record| record.expiry_seconds = 50),
        with(9, |record| {
            record.expiry_seconds = 50;
            record.peer = Some(PeerKey([1; 32]));
        }),
        with(10, |record| record.selection.ignore_files = true),
    ];
    let meant = |other: Option<&str>| {
        let other = other.map(std::path::Path::new);
        let selection = Some(&Selection::default());
        let description = Description { role: Role::Sender, paths: &paths, selection, other, now_seconds: 100 };
        description.matching(&records).iter().map(|record| record.id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(meant(None), [1, 2, 9]);
    assert_eq!(meant(Some("/c")), [5]);
    assert_eq!(meant(Some("/d")), [0; 0]);
}

#[test]
fn a_private_file_replaces_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ticket");
    std::fs::write(&path, "old and longer").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    write_private(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(write_private(&dir.path().join("no/ticket"), b"new").is_err());
}

#[test]
fn a_small_file_is_read_up_to_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, root) = (RealDisk::new(), RealDisk::open_root(dir.path()).unwrap());
    assert_eq!(read_small(&disk, &root, b"x", 3).unwrap(), None);
    write_atomic(&disk, &root, b"x", b"abc").unwrap();
    assert_eq!(read_small(&disk, &root, b"x", 3).unwrap().as_deref(), Some(&b"abc"[..]));
    assert!(read_small(&disk, &root, b"x", 2).is_err());
}

#[test]
fn resume_has_the_options_of_the_first_run() {
    let record = record();
    let options = record.recv_options("/home".into(), crate::options::Consent::Given).unwrap();
    assert_eq!(Settings::from(&options), record.settings);
    assert_eq!((options.dir.as_path(), options.common.home.as_path()), ("/srv/in".as_ref(), "/home".as_ref()));
    let sender = other_record();
    assert!(sender.recv_options("/home".into(), crate::options::Consent::Given).is_none());
    let options = sender.send_options("/home".into());
    let settings = Settings { reads_twice: options.reads_twice, ..Settings::from(&options.common) };
    assert_eq!((settings, options.paths, options.selection), (sender.settings, sender.paths, sender.selection));
}
