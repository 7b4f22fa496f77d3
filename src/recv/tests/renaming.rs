//! Names that are taken, under the policy to take another. What is expected is written out, name by name.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU16;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::rig::{Ended, Rig};
use super::sender::{CHUNK, Node, Sender, Tree, file, noise};
use crate::options::Existing;
use crate::outcome::{Outcome, Reason};
use crate::pool::Pool;
use crate::task::receiver::End;

/// What is below a directory by name: bytes of a file, text of a link; of a directory nothing.
type Found = BTreeMap<String, String>;

fn found(rig: &Rig) -> Found {
    fn list(root: &Path, dir: &Path, out: &mut Found) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let kind = path.symlink_metadata().unwrap().file_type();
            if name == ".landfall" {
                continue;
            } else if kind.is_symlink() {
                out.insert(name, format!("-> {}", fs::read_link(&path).unwrap().to_str().unwrap()));
            } else if kind.is_dir() {
                out.insert(name, String::new());
                list(root, &path, out);
            } else {
                out.insert(name, digest(&fs::read(&path).unwrap()));
            }
        }
    }
    let mut out = Found::new();
    list(rig.dir.path(), rig.dir.path(), &mut out);
    out
}

/// Bytes in a few characters.
fn digest(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), &blake3::hash(bytes).to_hex()[..8])
}

fn of(node: &Node) -> String {
    match node {
        Node::File { bytes, .. } => digest(bytes),
        Node::Directory { .. } => String::new(),
        Node::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
    }
}

fn expected<const N: usize>(names: [(&str, String); N]) -> Found {
    names.into_iter().map(|(name, what)| (name.to_owned(), what)).collect()
}

fn renamed(path: &str, number: u16) -> (String, Outcome) {
    (path.to_owned(), Outcome::Renamed(NonZeroU16::new(number).unwrap()))
}

fn mine() -> String {
    digest(b"mine")
}

fn run(rig: &Rig, tree: &Tree) -> u64 {
    let mut sender = Sender::of(tree);
    assert_eq!(rig.run(&mut sender, usize::MAX), Ended::End(End::Acknowledged));
    assert!(!rig.at(".landfall").exists(), "the state is removed");
    sender.sent_bytes
}

/// Files, links and a directory over whatever is not equal to them.
fn medley() -> Tree {
    let mtime = crate::attributes::Timestamp { seconds: 5, nanos: 6 };
    Tree::from([
        ("a.txt".to_owned(), file(1, 9 * CHUNK + 5)),
        ("b".to_owned(), file(2, 0)),
        ("c.d.e".to_owned(), file(3, CHUNK)),
        (".f".to_owned(), file(4, 3)),
        ("g".to_owned(), Node::Directory { mode: 0o755, mtime }),
        ("g/h.i".to_owned(), file(5, 2 * CHUNK)),
        ("g/l".to_owned(), Node::Symlink { target: b"x".to_vec() }),
        ("k".to_owned(), file(6, 40)),
        ("m".to_owned(), Node::Symlink { target: b"y".to_vec() }),
        ("n".to_owned(), file(7, 41)),
    ])
}

fn occupy(rig: &Rig) {
    fs::write(rig.at("a.txt"), "mine").unwrap();
    let mut other = noise(1, 9 * CHUNK + 5);
    other[8 * CHUNK] ^= 1;
    fs::write(rig.at("a (1).txt"), other).unwrap();
    fs::write(rig.at("b"), "mine").unwrap();
    symlink("elsewhere", rig.at("c.d.e")).unwrap();
    fs::create_dir(rig.at(".f")).unwrap();
    fs::create_dir(rig.at("g")).unwrap();
    fs::write(rig.at("g/h.i"), "mine").unwrap();
    symlink("other", rig.at("g/l")).unwrap();
    fs::write(rig.at("m"), "mine").unwrap();
    fs::write(rig.at("m (1)"), "mine").unwrap();
    fs::write(rig.at("n"), noise(7, 41)).unwrap();
}

fn occupied(rig: &Rig, tree: &Tree) -> Found {
    let mut all = found(rig);
    for (name, entry) in [
        ("a (2).txt", "a.txt"),
        ("b (1)", "b"),
        ("c.d (1).e", "c.d.e"),
        (".f (1)", ".f"),
        ("g/h (1).i", "g/h.i"),
        ("g/l (1)", "g/l"),
        ("k", "k"),
        ("m (2)", "m"),
    ] {
        assert!(all.insert(name.to_owned(), of(&tree[entry])).is_none(), "{name}");
    }
    all
}

#[test]
fn what_is_taken_is_put_beside_and_a_further_run_finds_it_there() {
    for pool in [Pool::inline(), Pool::new(4)] {
        let (rig, tree) = (Rig { pool, page_records: 3, ..Rig::with(Existing::Rename) }, medley());
        occupy(&rig);
        let right = occupied(&rig, &tree);
        run(&rig, &tree);
        assert_eq!(found(&rig), right);
        let says = [
            renamed(".f", 1),
            renamed("a.txt", 2),
            renamed("b", 1),
            renamed("c.d.e", 1),
            renamed("g/h.i", 1),
            renamed("g/l", 1),
            renamed("m", 2),
        ];
        assert_eq!(*rig.exceptions.lock().unwrap(), says);
        let stat = fs::metadata(rig.at("a (2).txt")).unwrap();
        assert_eq!((stat.mode() & 0o777, stat.mtime()), (0o644, -1001));
        fs::set_permissions(rig.at("a (2).txt"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(run(&rig, &tree), 0, "everything is there");
        assert_eq!(found(&rig), right);
        assert_eq!(*rig.exceptions.lock().unwrap(), says);
        let again = fs::metadata(rig.at("a (2).txt")).unwrap();
        assert_eq!((again.ino(), again.mode() & 0o777), (stat.ino(), 0o644), "it is adopted, with its mode");
    }
}

#[test]
fn what_the_existing_file_has_of_it_is_copied_from_there() {
    let (rig, tree) = (Rig::with(Existing::Rename), Tree::from([("f".to_owned(), file(1, 30 * CHUNK + 5))]));
    let mut old = noise(1, 30 * CHUNK + 5);
    old[7 * CHUNK] ^= 1;
    fs::write(rig.at("f"), &old).unwrap();
    let before = fs::metadata(rig.at("f")).unwrap();
    assert_eq!(run(&rig, &tree), CHUNK as u64);
    let after = fs::metadata(rig.at("f")).unwrap();
    assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
    assert_eq!(found(&rig), expected([("f", digest(&old)), ("f (1)", of(&tree["f"]))]));
}

/// An entry has as its own the name that another one would get. `a (1).txt` comes before `a.txt`, `b (1)` after `b`.
#[test]
fn two_entries_that_want_one_name_get_two() {
    for shift in 0..3 {
        let tree = Tree::from([
            ("a (1).txt".to_owned(), file(1, 100 + shift)),
            ("a.txt".to_owned(), file(2, 100)),
            ("b".to_owned(), file(3, 100 + shift)),
            ("b (1)".to_owned(), file(4, 100)),
        ]);
        let rig = Rig::with(Existing::Rename);
        fs::write(rig.at("a.txt"), "mine").unwrap();
        fs::write(rig.at("b"), "mine").unwrap();
        run(&rig, &tree);
        let right = expected([
            ("a.txt", mine()),
            ("a (1).txt", of(&tree["a (1).txt"])),
            ("a (2).txt", of(&tree["a.txt"])),
            ("b", mine()),
            ("b (1)", of(&tree["b"])),
            ("b (1) (1)", of(&tree["b (1)"])),
        ]);
        assert_eq!(found(&rig), right);
        assert_eq!(run(&rig, &tree), 0);
        assert_eq!(found(&rig), right);
    }
}

#[test]
fn two_entries_of_equal_content_may_come_to_one_file() {
    let same = |seconds| {
        let mtime = crate::attributes::Timestamp { seconds, nanos: 0 };
        Node::File { bytes: noise(1, 2 * CHUNK), mode: 0o644, mtime }
    };
    let names = [("a (1).txt", 1), ("a.txt", 2), ("b", 3), ("b (1)", 4)];
    let tree = Tree::from(names.map(|(name, seconds)| (name.to_owned(), same(seconds))));
    let rig = Rig::with(Existing::Rename);
    fs::write(rig.at("a.txt"), "mine").unwrap();
    fs::write(rig.at("b"), "mine").unwrap();
    let right = expected([("a.txt", mine()), ("a (1).txt", of(&same(0))), ("b", mine()), ("b (1)", of(&same(0)))]);
    for _ in 0..3 {
        run(&rig, &tree);
        assert_eq!(found(&rig), right);
        let says = rig.exceptions.lock().unwrap().clone();
        assert!(says.iter().all(|(_, outcome)| outcome.has_arrived()), "{says:?}");
        assert_eq!(says.iter().filter(|(_, outcome)| outcome.number().is_some()).count(), 2, "{says:?}");
        assert_eq!(says.iter().filter(|(_, outcome)| outcome.is_without_attributes()).count(), 2, "{says:?}");
    }
}

#[test]
fn a_directory_whose_name_is_taken_is_left_out_with_all_below() {
    let (rig, tree) = (Rig::with(Existing::Rename), medley());
    fs::write(rig.at("g"), "mine").unwrap();
    run(&rig, &tree);
    let out = |path: &str| (path.to_owned(), Outcome::LeftOut(Reason::ParentLeftOut));
    assert_eq!(*rig.exceptions.lock().unwrap(), [out("g"), out("g/h.i"), out("g/l")]);
    assert_eq!(found(&rig)["g"], mine());
}

#[test]
fn an_entry_without_any_free_name_is_left_out() {
    let (rig, tree) = (Rig::with(Existing::Rename), Tree::from([("f".to_owned(), file(1, 10))]));
    fs::write(rig.at("f"), "mine").unwrap();
    for number in 1..=crate::limits::RENAME_ATTEMPTS_MAX {
        fs::write(rig.at(&format!("f ({number})")), "mine").unwrap();
    }
    run(&rig, &tree);
    assert_eq!(*rig.exceptions.lock().unwrap(), [("f".to_owned(), Outcome::LeftOut(Reason::NamesTaken))]);
}

#[test]
fn a_run_that_is_dropped_after_any_step_comes_to_the_same_names() {
    let (mut steps, tree) = (0, medley());
    loop {
        let rig = Rig { page_records: 7, ..Rig::with(Existing::Rename) };
        occupy(&rig);
        let right = occupied(&rig, &tree);
        if rig.run(&mut Sender::of(&tree), steps) != Ended::Killed {
            break;
        }
        if steps % 2 == 1 {
            // In the first steps there is none yet, and in the last none any more.
            drop(fs::remove_file(rig.state().join("journal")));
        }
        run(&rig, &tree);
        assert_eq!(found(&rig), right, "after {steps} steps");
        assert_eq!(rig.exceptions.lock().unwrap().len(), 7, "after {steps} steps");
        steps += 1;
    }
    assert!(steps > 50, "{steps} steps are few");
}

/// A name that was free when the file was looked at is taken when it is sealed.
#[test]
fn a_name_that_is_taken_meanwhile_is_passed_over() {
    let tree = Tree::from([("f".to_owned(), file(1, 10)), ("l".to_owned(), Node::Symlink { target: b"x".to_vec() })]);
    let mut steps = 0;
    loop {
        let rig = Rig::with(Existing::Rename);
        let mut sender = Sender::of(&tree);
        let mut run = rig.start(None);
        if rig.go_on(&mut run, &mut sender, steps) != Ended::Killed {
            break;
        }
        let names = ["f", "f (1)", "l", "l (1)"];
        let planted: Vec<&str> = names.into_iter().filter(|name| !rig.at(name).exists()).collect();
        let planted: Vec<&str> = planted.into_iter().filter(|name| rig.at(name).symlink_metadata().is_err()).collect();
        planted.iter().for_each(|name| fs::write(rig.at(name), "mine").unwrap());
        assert_eq!(rig.go_on(&mut run, &mut sender, usize::MAX), Ended::End(End::Acknowledged));
        let all = found(&rig);
        for name in planted {
            assert_eq!(all[name], mine(), "after {steps} steps");
        }
        assert!(all.values().any(|what| *what == of(&tree["f"])), "after {steps} steps: {all:?}");
        assert!(all.values().any(|what| *what == of(&tree["l"])), "after {steps} steps: {all:?}");
        steps += 1;
    }
    assert!(steps > 10, "{steps} steps are few");
}

/// A version that was delivered under its own name is replaced by the next, as under any policy.
#[test]
fn a_newer_version_takes_the_place_of_what_this_transfer_put_there() {
    let (rig, tree) = (Rig::with(Existing::Rename), Tree::from([("f".to_owned(), file(1, 100))]));
    let mut sender = Sender::default();
    sender.add("f", &tree["f"]);
    let mut run = rig.start(None);
    assert_eq!(rig.go_on(&mut run, &mut sender, 200), Ended::Killed);
    assert_eq!(found(&rig), expected([("f", of(&tree["f"]))]));
    sender.withdraw("f");
    sender.add("f", &file(2, 100));
    sender.complete();
    assert_eq!(rig.go_on(&mut run, &mut sender, usize::MAX), Ended::End(End::Acknowledged));
    assert_eq!(found(&rig), expected([("f", of(&file(2, 100)))]));
    assert!(rig.exceptions.lock().unwrap().is_empty());
}

/// An entry that is told of only after another has got its name finds that name taken, whatever journal and stamps say.
#[test]
fn what_another_entry_has_got_is_not_replaced() {
    let (first, second, third) = (file(1, 100), file(2, 100), file(3, 70));
    for is_dropped in [false, true] {
        let rig = Rig::with(Existing::Rename);
        fs::write(rig.at("b"), "mine").unwrap();
        let mut sender = Sender::default();
        sender.add("b", &first);
        let mut run = rig.start(None);
        assert_eq!(rig.go_on(&mut run, &mut sender, 200), Ended::Killed);
        assert_eq!(found(&rig), expected([("b", mine()), ("b (1)", of(&first))]));
        sender.add("b (1)", &second);
        if is_dropped {
            run = rig.start(None);
        }
        assert_eq!(rig.go_on(&mut run, &mut sender, 200), Ended::Killed);
        let mut right = expected([("b", mine()), ("b (1)", of(&first)), ("b (1) (1)", of(&second))]);
        assert_eq!(found(&rig), right);
        // A version that follows gets the next name: what has a number stays.
        sender.withdraw("b");
        sender.add("b", &third);
        sender.complete();
        assert_eq!(rig.go_on(&mut run, &mut sender, usize::MAX), Ended::End(End::Acknowledged));
        right.insert("b (2)".to_owned(), of(&third));
        assert_eq!(found(&rig), right);
        assert_eq!(*rig.exceptions.lock().unwrap(), [renamed("b (1)", 1), renamed("b", 2)]);
    }
}
