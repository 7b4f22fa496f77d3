//! Everything is dropped after each step, and the next run goes on from what is on disk.

use std::fs;

use super::rig::{Ended, Rig};
use super::sender::{CHUNK, Sender, Tree, file, tree};
use crate::pool::Pool;
use crate::task::receiver::End;

#[test]
fn a_run_that_is_dropped_after_any_step_is_finished_by_the_next() {
    let mut steps = 0;
    loop {
        let rig = Rig { page_records: 7, ..Rig::new() };
        let killed = rig.run(&mut Sender::of(&tree()), steps);
        if killed == Ended::End(End::Acknowledged) {
            break;
        }
        rig.finish(&mut Sender::of(&tree()), &tree());
        assert!(rig.exceptions.lock().unwrap().is_empty(), "after {steps} steps");
        steps += 1;
    }
    assert!(steps > 100, "{steps} steps are few");
}

#[test]
fn runs_that_are_dropped_again_and_again_get_there() {
    for (pool, stride) in [(Pool::inline(), 5), (Pool::new(4), 9)] {
        let rig = Rig { pool, page_records: 11, ..Rig::new() };
        let mut sender = Sender::of(&tree());
        let mut runs = 0;
        while rig.run(&mut sender, 10 + runs * stride) == Ended::Killed {
            runs += 1;
            assert!(runs < 100);
        }
        rig.compare(&tree());
        assert!(runs > 2);
    }
}

/// A run of one file that was dropped with some chunks claimed. Gives what had been sent.
fn half_done(rig: &Rig, tree: &Tree) -> u64 {
    let mut sender = Sender::of(tree);
    let mut run = rig.start(None);
    while fs::metadata(rig.state().join("journal")).unwrap().len() <= crate::journal::HEADER_BYTES as u64 {
        assert_eq!(rig.go_on(&mut run, &mut sender, 100), Ended::Killed);
    }
    sender.sent_bytes
}

/// One file of several batches, since a batch is closed when nothing is on its way.
fn large() -> Tree {
    Tree::from([("large".to_owned(), file(9, 20_000 * CHUNK))])
}

#[test]
fn what_is_claimed_is_not_sent_again() {
    let (rig, tree) = (Rig::new(), large());
    let before = half_done(&rig, &tree);
    let mut sender = Sender::of(&tree);
    rig.finish(&mut sender, &tree);
    let total = 20_000 * CHUNK as u64;
    assert!(sender.sent_bytes + before <= total + (16 << 20), "{before} and {} of {total}", sender.sent_bytes);
    assert!(sender.sent_bytes < total, "something was claimed");
}

#[test]
fn a_claim_for_an_inode_that_was_replaced_is_void_and_its_bytes_still_help() {
    let (rig, tree) = (Rig::new(), large());
    half_done(&rig, &tree);
    let staging = rig.state().join("staging");
    let staged = fs::read_dir(&staging).unwrap().next().unwrap().unwrap().path();
    fs::copy(&staged, staging.join("copy")).unwrap();
    fs::rename(staging.join("copy"), &staged).unwrap();
    let mut sender = Sender::of(&tree);
    rig.finish(&mut sender, &tree);
    assert!(sender.sent_bytes < 20_000 * CHUNK as u64, "what was in it was adopted");
}

#[test]
fn claims_of_other_digests_are_void() {
    let (rig, tree) = (Rig::new(), large());
    half_done(&rig, &tree);
    // Another sender's log: the same entry number, path and size, but other bytes.
    let other = Tree::from([("large".to_owned(), file(10, 20_000 * CHUNK))]);
    rig.finish(&mut Sender::of(&other), &other);
}

#[test]
fn a_link_or_a_second_name_in_staging_is_not_taken_for_ours() {
    let (rig, tree) = (Rig::new(), large());
    half_done(&rig, &tree);
    let staged = fs::read_dir(rig.state().join("staging")).unwrap().next().unwrap().unwrap().path();
    let outside = tempfile::NamedTempFile::new_in(rig.dir.path().parent().unwrap()).unwrap();
    fs::remove_file(&staged).unwrap();
    fs::hard_link(outside.path(), &staged).unwrap();
    rig.finish(&mut Sender::of(&tree), &tree);
    assert_eq!(fs::metadata(outside.path()).unwrap().len(), 0, "nothing was written to the other name");
}

#[test]
fn staging_of_another_transfer_is_taken_over() {
    let (rig, tree) = (Rig::new(), large());
    half_done(&rig, &tree);
    fs::rename(rig.state(), rig.at(".landfall").join("0".repeat(32))).unwrap();
    let mut sender = Sender::of(&tree);
    rig.finish(&mut sender, &tree);
    assert!(sender.sent_bytes < 20_000 * CHUNK as u64, "what the other one had was adopted");
}
