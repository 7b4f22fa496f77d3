//! What stands in the target already, under each policy.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::rig::{Ended, Rig};
use super::sender::{CHUNK, Node, Sender, Tree, file};
use crate::options::Existing;
use crate::outcome::{Outcome, Reason};
use crate::task::receiver::End;

fn one() -> Tree {
    Tree::from([("f".to_owned(), file(1, 30 * CHUNK + 5))])
}

fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
    match &tree[path] {
        Node::File { bytes, .. } => bytes.clone(),
        other => panic!("{other:?} is not a file"),
    }
}

#[test]
fn an_equal_target_is_adopted_in_its_place_under_every_policy() {
    for existing in [Existing::Refuse, Existing::Keep, Existing::Replace, Existing::Rename] {
        let (rig, tree) = (Rig::with(existing), one());
        fs::write(rig.at("f"), bytes(&tree, "f")).unwrap();
        let inode = fs::metadata(rig.at("f")).unwrap().ino();
        let mut sender = Sender::of(&tree);
        rig.finish(&mut sender, &tree);
        assert_eq!(sender.sent_bytes, 0, "{existing:?}");
        assert_eq!(fs::metadata(rig.at("f")).unwrap().ino(), inode, "{existing:?}");
    }
}

#[test]
fn another_target_is_left_untouched_kept_or_replaced() {
    let tree = one();
    let mut same_size = bytes(&tree, "f");
    *same_size.last_mut().unwrap() ^= 1;
    let longer = [bytes(&tree, "f"), vec![1]].concat();
    for other in [same_size, longer, b"short".to_vec(), vec![]] {
        for (existing, reason) in [(Existing::Refuse, Reason::ExistsDifferent), (Existing::Keep, Reason::Kept)] {
            let rig = Rig::with(existing);
            fs::write(rig.at("f"), &other).unwrap();
            let before = fs::metadata(rig.at("f")).unwrap();
            assert_eq!(rig.run(&mut Sender::of(&tree), usize::MAX), Ended::End(End::Acknowledged));
            assert_eq!(fs::read(rig.at("f")).unwrap(), other);
            let after = fs::metadata(rig.at("f")).unwrap();
            assert_eq!((after.ino(), after.mode(), after.mtime()), (before.ino(), before.mode(), before.mtime()));
            assert_eq!(*rig.exceptions.lock().unwrap(), [("f".to_owned(), Outcome::LeftOut(reason))]);
        }
        let rig = Rig::with(Existing::Replace);
        fs::write(rig.at("f"), &other).unwrap();
        rig.finish(&mut Sender::of(&tree), &tree);
    }
}

#[test]
fn replacing_moves_only_chunks_that_differ() {
    let (rig, tree) = (Rig::with(Existing::Replace), one());
    let mut old = bytes(&tree, "f");
    old[7 * CHUNK] ^= 1;
    old[29 * CHUNK] ^= 1;
    fs::write(rig.at("f"), &old).unwrap();
    let mut sender = Sender::of(&tree);
    rig.finish(&mut sender, &tree);
    assert_eq!(sender.sent_bytes, 2 * CHUNK as u64);
}

/// A source that was renamed since it was received.
#[test]
fn what_has_another_name_in_the_target_is_copied_from_there_when_replacing() {
    let mtime = crate::attributes::Timestamp { seconds: 5, nanos: 6 };
    let moved = file(1, 80 * CHUNK + 5);
    let tree = Tree::from([
        ("d".to_owned(), Node::Directory { mode: 0o755, mtime }),
        ("d/new".to_owned(), Node::Directory { mode: 0o755, mtime }),
        ("d/new/name".to_owned(), moved),
    ]);
    let right = bytes(&tree, "d/new/name");
    let mut old = right.clone();
    old[70 * CHUNK] ^= 1;
    let mut stranger = right.clone();
    stranger.iter_mut().for_each(|byte| *byte ^= 1);
    for (existing, there, sent_chunks) in
        [(Existing::Replace, &old, 1), (Existing::Replace, &stranger, 81), (Existing::Refuse, &right, 81)]
    {
        let rig = Rig::with(existing);
        fs::create_dir(rig.at("d")).unwrap();
        fs::write(rig.at("d/name"), there).unwrap();
        let mut sender = Sender::of(&tree);
        assert_eq!(rig.run(&mut sender, usize::MAX), Ended::End(End::Acknowledged));
        assert_eq!(fs::read(rig.at("d/new/name")).unwrap(), right);
        assert_eq!(fs::read(rig.at("d/name")).unwrap(), *there, "it is only read");
        assert_eq!(sender.sent_bytes.div_ceil(CHUNK as u64), sent_chunks, "{existing:?}");
    }
}

#[test]
fn a_link_or_directory_in_the_place_of_a_file() {
    for existing in [Existing::Refuse, Existing::Replace] {
        let (rig, tree) = (Rig::with(existing), one());
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), bytes(&tree, "f")).unwrap();
        symlink(outside.path(), rig.at("f")).unwrap();
        rig.run(&mut Sender::of(&tree), usize::MAX);
        let is_link = rig.at("f").symlink_metadata().unwrap().is_symlink();
        assert_eq!(is_link, existing == Existing::Refuse);
        assert_eq!(fs::read(outside.path()).unwrap(), bytes(&tree, "f"), "it was not followed");

        let rig = Rig::with(existing);
        fs::create_dir(rig.at("f")).unwrap();
        rig.run(&mut Sender::of(&tree), usize::MAX);
        assert!(rig.at("f").is_dir());
        let expected = [("f".to_owned(), Outcome::LeftOut(Reason::ExistsDifferent))];
        assert_eq!(*rig.exceptions.lock().unwrap(), expected);
    }
}

#[test]
fn a_link_over_a_link() {
    let tree = Tree::from([("l".to_owned(), Node::Symlink { target: b"new".to_vec() })]);
    for (existing, expected) in [(Existing::Refuse, "old"), (Existing::Keep, "old"), (Existing::Replace, "new")] {
        let rig = Rig::with(existing);
        symlink("old", rig.at("l")).unwrap();
        assert_eq!(rig.run(&mut Sender::of(&tree), usize::MAX), Ended::End(End::Acknowledged));
        assert_eq!(fs::read_link(rig.at("l")).unwrap().to_str(), Some(expected));
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that cannot test here says so")]
fn directories_that_lock_their_owner_out_are_opened_again() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: nothing is ever denied to root");
        return;
    }
    let mtime = crate::attributes::Timestamp { seconds: 7, nanos: 8 };
    let mut tree = Tree::from([("d".to_owned(), Node::Directory { mode: 0o555, mtime })]);
    tree.insert("d/e".to_owned(), Node::Directory { mode: 0o500, mtime });
    tree.insert("d/e/f".to_owned(), file(3, 10));
    tree.insert("d/l".to_owned(), Node::Symlink { target: b"x".to_vec() });
    for mode in [0o555, 0o400, 0] {
        let rig = Rig::new();
        fs::create_dir_all(rig.at("d/e")).unwrap();
        fs::set_permissions(rig.at("d/e"), fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(rig.at("d"), fs::Permissions::from_mode(mode)).unwrap();
        assert!(fs::File::create(rig.at("d/x")).is_err(), "denied, really");
        rig.finish(&mut Sender::of(&tree), &tree);
    }
}

/// Somebody removes an equal target, or saves another version in its place, at each step of its adoption in turn. What was
/// not compared by then is not lost by that.
#[test]
fn a_target_that_loses_its_name_before_it_was_compared_is_not_taken_for_the_one_that_has_it() {
    let tree = Tree::from([("f".to_owned(), file(1, CHUNK - 7))]);
    for is_replaced in [false, true] {
        // Before it was compared, until it was sealed, and afterwards, when it is no longer this transfer's business.
        let (mut before, mut named, mut after) = (0, 0, 0);
        for step in 0.. {
            let rig = Rig::with(Existing::Replace);
            fs::write(rig.at("f"), bytes(&tree, "f")).unwrap();
            let (mut run, mut sender) = (rig.start(None), Sender::of(&tree));
            if rig.go_on(&mut run, &mut sender, step) != Ended::Killed {
                break;
            }
            match is_replaced {
                true => {
                    fs::write(rig.at("other"), b"another").unwrap();
                    fs::rename(rig.at("other"), rig.at("f")).unwrap();
                }
                false => fs::remove_file(rig.at("f")).unwrap(),
            }
            let was_compared = run.has_compared;
            assert_eq!(rig.go_on(&mut run, &mut sender, usize::MAX), Ended::End(End::Acknowledged));
            let exceptions = rig.exceptions.lock().unwrap().clone();
            match (was_compared, exceptions.is_empty()) {
                (false, _) => {
                    before += 1;
                    assert_eq!(exceptions, [], "step {step}");
                    rig.compare(&tree);
                }
                (true, false) => {
                    named += 1;
                    assert_eq!((exceptions.len(), after), (1, 0), "step {step}");
                    assert_eq!(exceptions[0].1, Outcome::LeftOut(Reason::TargetChanged), "step {step}");
                }
                (true, true) => after += 1,
            }
        }
        assert!(before > 3 && named > 3 && after > 3, "{before} steps before, {named} until the seal, {after} after");
    }
}
