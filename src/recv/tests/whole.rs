//! Whole transfers, and chunks that are spoiled on their way.

use std::fs;

use super::rig::Rig;
use super::sender::{CHUNK, Node, Sender, Tree, file, tree};
use crate::disk::RealDisk;
use crate::geometry::EntryIndex;
use crate::outcome::{Outcome, Reason};
use crate::pool::Pool;
use crate::store::Intake;
use crate::task::receiver::{Disposition, Input, SettleResult, WriteError};
use crate::wire::Place;

#[test]
fn a_tree_arrives_whole_whatever_the_pool_and_the_pages() {
    for (pool, page_records) in [(Pool::inline(), 1000), (Pool::new(4), 1000), (Pool::inline(), 1), (Pool::new(4), 3)] {
        let rig = Rig { pool, page_records, ..Rig::new() };
        let mut sender = Sender::of(&tree());
        rig.finish(&mut sender, &tree());
        assert!(rig.exceptions.lock().unwrap().is_empty());
    }
}

#[test]
fn a_second_run_over_the_same_tree_moves_nothing() {
    let rig = Rig::new();
    rig.finish(&mut Sender::of(&tree()), &tree());
    let mut again = Sender::of(&tree());
    rig.finish(&mut again, &tree());
    assert_eq!(again.sent_bytes, 0);
}

#[test]
fn spoiled_chunks_are_asked_for_again_and_a_file_of_spoiled_chunks_is_left_out() {
    let (rig, mut tree) = (Rig::new(), tree());
    let mut sender = Sender::of(&tree);
    let (many, one) = (sender.entry("a/deep/many").0, sender.entry("a/one").0);
    sender.spoiled = vec![Place { entry: many, chunk: 3 }, Place { entry: many, chunk: 21 }];
    sender.spoiled.extend([Place { entry: one, chunk: 0 }; 4]);
    tree.remove("a/one");
    rig.finish(&mut sender, &tree);
    let expected = [("a/one".to_owned(), Outcome::LeftOut(Reason::ArrivalDiffers))];
    assert_eq!(*rig.exceptions.lock().unwrap(), expected);
}

#[test]
fn names_that_collide_are_left_out_and_named() {
    let (rig, tree) = (Rig::new(), tree());
    let mut sender = Sender::default();
    tree.iter().for_each(|(path, node)| sender.add(path, node));
    sender.add("a/one", &file(77, 5));
    sender.add("a/deep", &file(79, 5));
    sender.complete();
    rig.finish(&mut sender, &tree);
    let mut names: Vec<String> = rig.exceptions.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    names.sort();
    assert_eq!(names, ["a/deep", "a/one"]);
}

#[test]
fn nothing_is_written_through_a_link_in_the_target() {
    let (rig, outside) = (Rig::new(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), rig.at("a")).unwrap();
    let mut sender = Sender::default();
    sender.add("a/one", &file(1, 9));
    sender.complete();
    rig.run(&mut sender, usize::MAX);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let expected = [("a/one".to_owned(), Outcome::LeftOut(Reason::ParentLeftOut))];
    assert_eq!(*rig.exceptions.lock().unwrap(), expected);
}

#[test]
fn chunks_that_nobody_asked_for_are_not_taken_before_their_entry_was_looked_at() {
    let (rig, tree) = (Rig::new(), tree());
    let mut sender = Sender::of(&tree);
    let mut run = rig.start(None);
    run.store.intake.append(&sender.page(0, 1000), &mut vec![]).unwrap();
    let (header, bytes) = sender.chunk(Place { entry: sender.entry("a/exact").0, chunk: 0 });
    run.store.intake.receive(header, bytes);
    assert_eq!(fs::read_dir(rig.state().join("staging")).unwrap().count(), 0);
}

/// One of them is wrong, and one is of an entry that nobody looked at: the others are taken in, whichever thread does it.
#[test]
fn chunks_that_come_together_are_each_taken_for_themselves() {
    let rig = Rig { pool: Pool::new(4), ..Rig::new() };
    let tree = Tree::from([("file".into(), file(9, 5 * CHUNK + 17)), ("other".into(), file(8, 2 * CHUNK))]);
    let mut sender = Sender::of(&tree);
    let mut run = rig.start(None);
    run.store.intake.append(&sender.page(0, 1000), &mut vec![]).unwrap();
    let (entry, other) = (sender.entry("file"), sender.entry("other"));
    assert_eq!(run.store.intake.examine(entry, 1), [Disposition::Fresh]);
    let mut together = |intake: &mut Intake<RealDisk>, places: &[(EntryIndex, u32)], spoiled: Option<usize>| {
        let mut chunks: Vec<_> =
            places.iter().map(|(entry, chunk)| sender.chunk(Place { entry: entry.0, chunk: *chunk })).collect();
        if let Some(bytes) = spoiled.and_then(|index| chunks[index].1.as_mut()) {
            *bytes = bytes.iter().map(|byte| byte ^ 1).collect();
        }
        intake.receive_all(chunks)
    };
    let place = |entry: EntryIndex, chunk| Place { entry: entry.0, chunk };
    let length = u32::try_from(CHUNK).unwrap();
    let intake = &mut run.store.intake;
    let answers = together(intake, &[(entry, 0), (entry, 1), (other, 0), (entry, 5)], Some(1));
    assert_eq!(
        answers,
        [
            Input::Written(place(entry, 0), length),
            Input::Differed(place(entry, 1)),
            Input::WriteFailed(place(other, 0), WriteError::Stale),
            Input::Written(place(entry, 5), 17),
        ]
    );
    let answers = together(intake, &[(entry, 4), (entry, 3), (entry, 2), (entry, 1), (entry, 0)], None);
    let written = |chunk| Input::Written(place(entry, chunk), length);
    assert_eq!(answers, [written(4), written(3), written(2), written(1), Input::Written(place(entry, 0), 0)]);
    intake.finish(entry).unwrap();
    let batch = intake.close_batch();
    let settled = run.store.settler.settle(run.store.syncer.make_durable(batch).unwrap()).unwrap();
    assert!(matches!(settled[0].result, SettleResult::Sealed { .. }), "{settled:?}");
    let Node::File { bytes, .. } = &tree["file"] else { panic!("a file") };
    assert!(fs::read(rig.at("file")).unwrap() == *bytes);
}

#[test]
fn many_small_files_in_more_directories_than_stay_open_arrive() {
    let (rig, mut tree) = (Rig { pool: Pool::new(4), ..Rig::new() }, super::sender::Tree::new());
    let mtime = crate::attributes::Timestamp { seconds: 5, nanos: 6 };
    for directory in 0..700 {
        tree.insert(format!("d{directory:03}"), Node::Directory { mode: 0o755, mtime });
        tree.insert(format!("d{directory:03}/sub"), Node::Directory { mode: 0o500, mtime });
        tree.insert(format!("d{directory:03}/sub/f"), file(directory, 10));
        tree.insert(format!("d{directory:03}/l"), Node::Symlink { target: b"x".to_vec() });
    }
    rig.finish(&mut Sender::of(&tree), &tree);
}
