//! Whole transfers, and chunks that are spoiled on their way.

use std::fs;

use super::rig::Rig;
use super::sender::{Node, Sender, file, tree};
use crate::outcome::{Outcome, Reason};
use crate::pool::Pool;
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
