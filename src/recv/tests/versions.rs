//! Files that change at the source while they are received, after they were sealed, and around a crash.

use std::fs;

use super::rig::{Ended, Rig};
use super::sender::{CHUNK, Sender, Tree, file, tree};
use crate::options::Existing;
use crate::outcome::{Outcome, Reason};
use crate::task::receiver::End;

const PATH: &str = "a/deep/many";

/// The tree with another version of one file, and a log that tells of it after the first.
fn changed(length: usize) -> (Tree, Sender) {
    let mut tree = tree();
    let mut sender = Sender::of(&tree);
    tree.insert(PATH.to_owned(), file(44, length));
    sender.withdraw(PATH);
    sender.add(PATH, &tree[PATH]);
    sender.complete();
    (tree, sender)
}

#[test]
fn a_newer_version_arrives_at_whatever_step_it_comes() {
    for length in [21 * CHUNK + 17, 3 * CHUNK, 0] {
        for steps in (0..).step_by(3) {
            let rig = Rig { page_records: 9, ..Rig::new() };
            let mut run = rig.start(None);
            let mut first = Sender::of(&tree());
            if rig.go_on(&mut run, &mut first, steps) != Ended::Killed {
                break;
            }
            let (tree, mut sender) = changed(length);
            let ended = rig.go_on(&mut run, &mut sender, usize::MAX);
            assert_eq!(ended, Ended::End(End::Acknowledged));
            // Once the receipt is made, it is the first version's: the sender sees that it is not its own.
            let is_late = run.store.shared.with_log(|log| log.position()).record_count < sender.records.len() as u64;
            rig.compare(&if is_late { super::sender::tree() } else { tree });
            assert!(rig.exceptions.lock().unwrap().is_empty(), "length {length}, after {steps} steps");
        }
    }
}

#[test]
fn a_newer_version_after_a_kill_at_any_step_arrives_and_replaces_only_what_is_ours() {
    for steps in (0..).step_by(5) {
        let rig = Rig { page_records: 9, ..Rig::new() };
        let is_killed = rig.run(&mut Sender::of(&tree()), steps) == Ended::Killed;
        // Killed after its state was removed, it is over too.
        if !is_killed || (steps > 0 && !rig.state().exists()) {
            break;
        }
        let (tree, mut sender) = changed(5 * CHUNK);
        // And a kill in the middle of that, too.
        rig.run(&mut sender, steps / 2);
        assert_eq!(rig.run(&mut sender, usize::MAX), Ended::End(End::Acknowledged), "after {steps} steps");
        rig.compare(&tree);
    }
}

#[test]
fn a_third_version_replaces_the_first_though_the_second_never_came() {
    let rig = Rig::new();
    let mut tree = Tree::from([("f".to_owned(), file(1, 5 * CHUNK)), ("g".to_owned(), file(5, 5))]);
    let mut sender = Sender::default();
    sender.add("f", &tree["f"]);
    // Sealed, and killed there.
    let mut run = rig.start(None);
    while !rig.at("f").exists() {
        rig.go_on(&mut run, &mut sender, 1);
    }
    rig.go_on(&mut run, &mut sender, 3);
    // The second version's claim that it is being sealed is there, its rename is not: a directory is in its way.
    tree.insert("f".to_owned(), file(2, 5 * CHUNK));
    sender.withdraw("f");
    sender.add("f", &tree["f"]);
    fs::rename(rig.at("f"), rig.at("first")).unwrap();
    let journal = rig.state().join("journal");
    let before = fs::metadata(&journal).unwrap().len();
    for _ in 0..500 {
        if fs::metadata(&journal).unwrap().len() > before + 59 && rig.at("f").exists() {
            break;
        }
        rig.go_on(&mut run, &mut sender, 1);
    }
    drop(run);
    // As a crash between claim and rename leaves it: the first version under the name.
    let second = fs::read(rig.at("f")).unwrap();
    fs::rename(rig.at("first"), rig.at("f")).unwrap();
    assert_ne!(fs::read(rig.at("f")).unwrap(), second);
    let whole = fs::read(&journal).unwrap();
    // The frame of a `Sealing` claim is 59 bytes; what follows it is cut.
    fs::write(&journal, &whole[..usize::try_from(before).unwrap() + 59]).unwrap();
    tree.insert("f".to_owned(), file(3, 2 * CHUNK));
    sender.withdraw("f");
    sender.add("f", &tree["f"]);
    sender.add("g", &tree["g"]);
    sender.complete();
    rig.finish(&mut sender, &tree);
    assert!(rig.exceptions.lock().unwrap().is_empty());
}

#[test]
fn a_sealed_file_that_somebody_edits_is_read_again_and_left_alone_or_replaced() {
    for (existing, is_replaced) in [(Existing::Refuse, false), (Existing::Replace, true)] {
        let rig = Rig::with(existing);
        let mut sender = Sender::of(&tree());
        let mut run = rig.start(None);
        while !rig.at("a/exact").exists() {
            assert_eq!(rig.go_on(&mut run, &mut sender, 1), Ended::Killed);
        }
        rig.go_on(&mut run, &mut sender, 4);
        drop(run);
        fs::write(rig.at("a/exact"), b"edited").unwrap();
        assert_eq!(rig.run(&mut Sender::of(&tree()), usize::MAX), Ended::End(End::Acknowledged));
        if is_replaced {
            rig.compare(&tree());
        } else {
            assert_eq!(fs::read(rig.at("a/exact")).unwrap(), b"edited");
            let expected = [("a/exact".to_owned(), Outcome::LeftOut(Reason::ExistsDifferent))];
            assert_eq!(*rig.exceptions.lock().unwrap(), expected);
        }
    }
}

#[test]
fn a_log_that_is_cut_to_a_rung_and_goes_on_otherwise_ends_with_the_other_tree() {
    for steps in (0..).step_by(11) {
        let rig = Rig { page_records: 9, ..Rig::new() };
        if rig.run(&mut Sender::of(&tree()), steps) != Ended::Killed {
            break;
        }
        if !rig.state().exists() {
            // Finished, and what is there belongs to nobody's transfer any more.
            break;
        }
        // The sender lost its log and walked again: one file is new, one is gone, one has changed.
        let mut other = tree();
        other.insert("a/added".to_owned(), file(60, 7 * CHUNK));
        other.insert("a/exact".to_owned(), file(61, CHUNK));
        let mut sender = Sender::of(&other);
        assert_eq!(rig.run(&mut sender, usize::MAX), Ended::End(End::Acknowledged), "after {steps} steps");
        rig.compare(&other);
    }
}
