//! Whatever is damaged in the receiver's state, while nothing runs or in the middle of a run, costs work only.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::rig::{Ended, Rig};
use super::sender::{CHUNK, Sender, Tree, file, tree};
use crate::disk::RealDisk;
use crate::geometry::ChunkRun;
use crate::state::log::AppendError;
use crate::store::Intake;
use crate::task::receiver::{Disposition, End, Input, SettleResult};
use crate::wire::Place;

/// Steps at which something of everything is there: staged, claimed, sealed, and still missing.
fn stops() -> Vec<usize> {
    let steps = (1..).find(|steps| Rig::new().run(&mut Sender::of(&tree()), *steps * 16) != Ended::Killed).unwrap();
    (1..steps).map(|stop| stop * 16).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_flipped_cut_or_missing_log_or_journal_costs_work_only() {
    for stop in stops() {
        for name in ["manifest", "journal"] {
            for harm in 0..12 {
                let rig = Rig { page_records: 5, ..Rig::new() };
                assert_eq!(rig.run(&mut Sender::of(&tree()), stop), Ended::Killed);
                let path = rig.state().join(name);
                let Ok(stat) = fs::metadata(&path) else { continue };
                match harm {
                    0 => fs::remove_file(&path).unwrap(),
                    1 => OpenOptions::new().write(true).open(&path).unwrap().set_len(stat.len() / 2).unwrap(),
                    2 => fs::write(&path, b"").unwrap(),
                    part if stat.len() > 0 => flip(&path, (stat.len() - 1) * (part - 3) / 8),
                    _ => continue,
                }
                rig.finish(&mut Sender::of(&tree()), &tree());
                assert!(rig.exceptions.lock().unwrap().is_empty(), "{name}, harm {harm}, after {stop} steps");
            }
        }
    }
}

#[test]
fn a_log_that_is_damaged_during_a_run_restarts_it_and_costs_work_only() {
    for stop in stops() {
        for part in 0..6 {
            let rig = Rig { page_records: 5, ..Rig::new() };
            let mut sender = Sender::of(&tree());
            let mut run = rig.start(None);
            assert_eq!(rig.go_on(&mut run, &mut sender, stop), Ended::Killed);
            let path = rig.state().join("manifest");
            let length = fs::metadata(&path).map_or(0, |stat| stat.len());
            if length > 0 {
                flip(&path, (length - 1) * part / 5);
            }
            let ended = rig.go_on(&mut run, &mut sender, usize::MAX);
            assert_eq!(ended, Ended::End(End::Acknowledged), "part {part}, after {stop} steps");
            rig.compare(&tree());
        }
    }
}

#[test]
fn staged_bytes_that_are_changed_while_nothing_runs_are_found_and_replaced() {
    let mut hits = 0;
    for stop in stops() {
        let rig = Rig::new();
        assert_eq!(rig.run(&mut Sender::of(&tree()), stop), Ended::Killed);
        for path in files(&rig.state().join("staging")) {
            let length = fs::metadata(&path).unwrap().len();
            if length > 0 {
                flip(&path, length / 2);
                hits += 1;
            }
        }
        rig.finish(&mut Sender::of(&tree()), &tree());
        assert!(rig.exceptions.lock().unwrap().is_empty(), "after {stop} steps");
    }
    assert!(hits > 10);
}

#[test]
fn staging_that_is_cut_grown_or_removed_during_a_run_heals() {
    let mut hits = 0;
    for stop in stops() {
        for harm in 0..3 {
            let rig = Rig::new();
            let mut sender = Sender::of(&tree());
            let mut run = rig.start(None);
            assert_eq!(rig.go_on(&mut run, &mut sender, stop), Ended::Killed);
            for path in files(&rig.state().join("staging")) {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                let length = file.metadata().unwrap().len();
                match harm {
                    0 => file.set_len(length + 1).unwrap(),
                    1 => file.set_len(length / 2).unwrap(),
                    _ => fs::remove_file(&path).unwrap(),
                }
                hits += 1;
            }
            assert_eq!(rig.go_on(&mut run, &mut sender, usize::MAX), Ended::End(End::Acknowledged));
            // What was cut after it was read back cannot be told from what was meant; nothing may be wrong and unnamed.
            let named: Vec<String> = rig.exceptions.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
            let mut expected = tree();
            expected.retain(|path, _| !named.contains(path));
            rig.compare(&expected);
        }
    }
    assert!(hits > 10);
}

/// A chunk came back bad after its file was put into the open batch to be sealed, and comes again while that batch is
/// being synced: no sync has covered it, and the file is not sealed by this batch, although every chunk is held.
#[test]
fn a_chunk_that_comes_while_its_batch_is_synced_is_not_sealed_with_it() {
    let (rig, tree) = (Rig::new(), Tree::from([("file".into(), file(9, CHUNK + 17))]));
    let mut sender = Sender::of(&tree);
    let mut run = rig.start(None);
    let (intake, syncer, settler) = (&mut run.store.intake, &mut run.store.syncer, &mut run.store.settler);
    intake.append(&sender.page(0, 1000), &mut vec![]).unwrap();
    let entry = sender.entry("file");
    assert_eq!(intake.examine(entry, 1), [Disposition::Fresh]);
    let mut receive = |intake: &mut Intake<RealDisk>, chunk| {
        let place = Place { entry: entry.0, chunk };
        let (header, bytes) = sender.chunk(place);
        assert!(matches!(intake.receive(header, bytes), Input::Written(written, 1..) if written == place));
    };
    receive(intake, 0);
    receive(intake, 1);
    intake.finish(entry).unwrap();
    flip(&files(&rig.state().join("staging"))[0], CHUNK as u64 + 7);
    let handle = intake.handle(entry).unwrap();
    assert_eq!(settler.read_back(&handle, ChunkRun { first: 0, count: 2 }), [1]);
    let batch = intake.close_batch();
    receive(intake, 1);
    let settled = settler.settle(syncer.make_durable(batch).unwrap()).unwrap();
    // Nor is it read back: that would not count once a sync has covered it.
    let durable = SettleResult::Durable { verified_bytes: CHUNK as u64, bad: vec![] };
    assert_eq!(settled[0].result, durable);
    assert!(!rig.at("file").exists());
    intake.after_settle(&settled);
    intake.finish(entry).unwrap();
    let settled = settler.settle(syncer.make_durable(intake.close_batch()).unwrap()).unwrap();
    assert!(matches!(settled[0].result, SettleResult::Sealed { .. }), "{settled:?}");
    rig.compare(&tree);
}

/// A record changed on its way, above what the link protects, and still is one. The sender's position tells.
#[test]
fn a_log_that_does_not_end_where_the_senders_does_is_like_a_damaged_one() {
    let (rig, other) = (Rig::new(), Rig::new());
    let (mut run, mut altered) = (rig.start(None), other.start(None));
    let sender = Sender::of(&Tree::from([("file".into(), file(9, 2 * CHUNK))]));
    run.store.intake.append(&sender.page(0, 1000), &mut vec![]).unwrap();
    let position = run.store.shared.with_log(|log| log.position());
    let mut page = sender.page(0, 1000);
    let name = page.windows(4).position(|window| window == b"file").unwrap();
    page[name] ^= 1;
    altered.store.intake.append(&page, &mut vec![]).unwrap();
    assert_eq!(run.store.intake.settled_at(position), Input::Settled(position.record_count));
    assert_eq!(altered.store.intake.settled_at(position), Input::LogChecked(false));
    // The position may be told before the last records come.
    let late = Rig::new();
    let mut late = late.start(None);
    assert_eq!(late.store.intake.settled_at(position), Input::Settled(position.record_count));
    let appended = late.store.intake.append(&page, &mut vec![]);
    assert!(matches!(appended, Err(AppendError::Parted)), "{appended:?}");
    // On a new link another sender's process may have made the rest of its log anew.
    late.store.intake.begin_link();
    late.store.intake.append(&[], &mut vec![]).unwrap();
}
