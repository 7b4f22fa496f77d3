//! What goes and what stays: over random trees against an oracle by the manual's words, and one by one.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::source::Voucher;
use super::target::Pruner;
use super::*;
use crate::disk::RealDisk;
use crate::outcome::Reason;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn entry(text: &str, kind: FileKind) -> Entry {
    Entry { path: path(text), kind, size: 1, mtime: Timestamp::default(), inode: 1 }
}

/// What both ends find together, without a process in between.
fn listing(sources: &[PathBuf], target: &Path, home: &Path) -> Listing {
    let disk = RealDisk::new();
    let mut voucher = Voucher::open(&disk, sources).unwrap();
    let below = voucher.directories();
    let mut lister = Lister::default();
    let pruner = Pruner::open(&disk, target, home).unwrap();
    let scanned = pruner.scan(&below, |batch| {
        for seen in batch {
            let stays = matches!(&seen, Seen::Entry(entry) if voucher.is_there(&entry.path));
            lister.take(seen, &below, stays)?;
        }
        Ok(())
    });
    assert_eq!(scanned, Ok::<(), Refused>(()));
    lister.finish()
}

fn names(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|entry| entry.path.to_string()).collect()
}

/// What may be made at a place of a tree.
#[derive(Clone, Copy, Debug)]
enum Made {
    File,
    Link,
    Directory,
}

/// Makes a tree of few names, so that two of them meet often. What cannot be made is not.
fn plant(root: &Path, plants: &[(Vec<u8>, Made)]) {
    fs::create_dir_all(root).unwrap();
    for (way, made) in plants {
        let names = way.iter().map(|number| ["a", "a.b", "b", ".landfall"][usize::from(*number)]);
        let at = root.join(names.collect::<PathBuf>());
        // A link is no place to plant in: what it leads to is not part of the tree.
        let leads =
            at.ancestors().skip(1).any(|above| fs::symlink_metadata(above).is_ok_and(|found| found.is_symlink()));
        if leads || at.parent().is_none_or(|above| fs::create_dir_all(above).is_err()) {
            continue;
        }
        drop(match made {
            Made::File if fs::symlink_metadata(&at).is_err() => fs::write(&at, "x"),
            Made::Link => symlink("a", &at),
            Made::Directory => fs::create_dir(&at),
            Made::File => Ok(()),
        });
    }
}

/// The oracle: every path of a tree, with whether it is a directory that is entered.
fn all(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, bool>) {
    for item in fs::read_dir(root.join(below)).unwrap() {
        let at = below.join(item.unwrap().file_name());
        let is_directory = fs::symlink_metadata(root.join(&at)).unwrap().is_dir();
        found.insert(at.clone(), is_directory);
        if is_directory {
            all(root, &at, found);
        }
    }
}

/// By the words of the manual: it is not at the source, nor is anything in the way there; a directory goes with all in it.
fn expected(source: &Path, target: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeMap::new();
    all(target, Path::new(""), &mut found);
    let is_own = |at: &Path| at.components().any(|part| part.as_os_str() == ".landfall");
    let is_there = |at: &Path| {
        at.ancestors().any(|above| {
            let stat = fs::symlink_metadata(source.join(above));
            above == at && stat.is_ok() || above != at && stat.is_ok_and(|stat| !stat.is_dir())
        })
    };
    let stays = |at: &&PathBuf| is_own(at) || is_there(at);
    let staying: Vec<&PathBuf> = found.keys().filter(stays).collect();
    let holds = |at: &PathBuf| staying.iter().any(|stays| stays.starts_with(at));
    found.keys().filter(|at| !holds(at)).filter(|at| !is_own(at)).cloned().collect()
}

fn plants() -> impl Strategy<Value = Vec<(Vec<u8>, Made)>> {
    let made = prop_oneof![Just(Made::File), Just(Made::Link), Just(Made::Directory)];
    let name = prop_oneof![5 => 0..3u8, 1 => Just(3u8)];
    prop::collection::vec((prop::collection::vec(name, 1..5), made), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Named and unnamed roots, over random trees: what is listed is what the oracle says, removing it leaves the rest, and
    /// nothing more is found then.
    #[test]
    fn what_goes_is_what_the_source_has_not(source in plants(), target in plants(), is_named in any::<bool>()) {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("x"), scratch.path().join("to"));
        plant(&from, &source);
        let there = if is_named { to.join("x") } else { to.clone() };
        plant(&there, &target);
        fs::write(scratch.path().join("to/beside"), "y").unwrap();
        if !is_named {
            fs::write(from.join("beside"), "y").unwrap();
        }
        let expected = expected(&from, &there);
        let mut before = BTreeMap::new();
        all(&there, Path::new(""), &mut before);
        let typed = if is_named { from.clone() } else { from.join(".") };
        let found = listing(std::slice::from_ref(&typed), &to, &scratch.path().join("home"));
        let listed: Vec<PathBuf> = names(&found).iter().map(PathBuf::from).collect();
        let relative = |at: &PathBuf| if is_named { at.strip_prefix("x").unwrap().to_owned() } else { at.clone() };
        prop_assert_eq!(listed.iter().map(relative).collect::<BTreeSet<_>>(), expected.clone());
        let mut sorted = listed.clone();
        sorted.sort();
        prop_assert_eq!(&listed, &sorted, "sorted, a directory before what is in it");

        let pruner = Pruner::open(&RealDisk::new(), &to, &scratch.path().join("home")).unwrap();
        let last_first: Vec<Entry> = found.entries.into_iter().rev().collect();
        let fates = pruner.remove(&last_first);
        prop_assert!(fates.iter().all(|fate| *fate == Fate::Removed), "{:?}", fates);
        let mut after = BTreeMap::new();
        all(&there, Path::new(""), &mut after);
        before.retain(|at, _| !expected.contains(at));
        prop_assert_eq!(after, before);
        prop_assert!(to.join("beside").exists());
    }
}

#[test]
fn what_changed_since_it_was_listed_stays_and_a_directory_keeps_its_time() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("x"), scratch.path().join("to"));
    fs::create_dir_all(&from).unwrap();
    fs::create_dir_all(to.join("x/d")).unwrap();
    for name in ["longer", "other", "gone", "plain", "swapped"] {
        fs::write(to.join("x").join(name), name).unwrap();
    }
    symlink("/nowhere", to.join("x/link")).unwrap();
    let found = listing(&[from], &to, Path::new("/nowhere"));
    assert_eq!(names(&found), ["x/d", "x/gone", "x/link", "x/longer", "x/other", "x/plain", "x/swapped"]);
    fs::write(to.join("x/longer"), "much longer").unwrap();
    fs::rename(to.join("x/other"), scratch.path().join("other")).unwrap();
    fs::copy(scratch.path().join("other"), to.join("x/other")).unwrap();
    // Another file, although length and time are the same.
    let time = fs::metadata(scratch.path().join("other")).unwrap().modified().unwrap();
    fs::File::options().write(true).open(to.join("x/other")).unwrap().set_modified(time).unwrap();
    fs::remove_file(to.join("x/gone")).unwrap();
    fs::remove_file(to.join("x/swapped")).unwrap();
    fs::create_dir(to.join("x/swapped")).unwrap();
    fs::write(to.join("x/d/new"), "n").unwrap();
    fs::set_permissions(to.join("x"), fs::Permissions::from_mode(0o555)).unwrap();
    let before = fs::metadata(to.join("x")).unwrap();
    let fates = Pruner::open(&RealDisk::new(), &to, Path::new("/nowhere")).unwrap().remove(&found.entries);
    let expected =
        [Fate::NotEmpty, Fate::Gone, Fate::Removed, Fate::Changed, Fate::Changed, Fate::Removed, Fate::Changed];
    assert_eq!(fates, expected);
    let after = fs::metadata(to.join("x")).unwrap();
    assert_eq!((after.mtime(), after.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
    assert_eq!(after.mode() & 0o777, 0o555);
    fs::set_permissions(to.join("x"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A link on the way is never followed, also one that was put there after the listing.
#[test]
fn nothing_outside_is_removed_through_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to, out) = (scratch.path().join("x"), scratch.path().join("to"), scratch.path().join("out"));
    fs::create_dir_all(&from).unwrap();
    fs::create_dir_all(&out).unwrap();
    fs::create_dir_all(to.join("x/d")).unwrap();
    fs::write(to.join("x/d/precious"), "p").unwrap();
    symlink(&out, to.join("x/link")).unwrap();
    let found = listing(&[from], &to, Path::new("/nowhere"));
    assert_eq!(names(&found), ["x/d", "x/d/precious", "x/link"]);
    fs::rename(to.join("x/d/precious"), out.join("precious")).unwrap();
    fs::remove_dir(to.join("x/d")).unwrap();
    symlink(&out, to.join("x/d")).unwrap();
    let last_first: Vec<Entry> = found.entries.into_iter().rev().collect();
    let fates = Pruner::open(&RealDisk::new(), &to, Path::new("/nowhere")).unwrap().remove(&last_first);
    assert_eq!(fates, [Fate::Removed, Fate::Changed, Fate::Changed]);
    assert!(out.join("precious").exists() && to.join("x/d").exists() && !to.join("x/link").exists());
}

#[test]
fn this_sides_own_state_stays_wherever_it_lies() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("x"), scratch.path().join("to"));
    fs::create_dir_all(&from).unwrap();
    fs::create_dir_all(to.join("state/landfall/receipts")).unwrap();
    fs::write(to.join("state/old"), "o").unwrap();
    let found = listing(&[from.join(".")], &to, &to.join("state/landfall"));
    assert_eq!(names(&found), ["state/old"]);
}

#[test]
fn what_the_transfer_has_brought_or_left_out_stays_with_what_is_below_it() {
    let line = |text: &str, kind, outcome| Line {
        path: path(text),
        kind,
        size: 0,
        digest: None,
        mode: 0,
        mtime: Timestamp::default(),
        target: vec![],
        outcome,
    };
    let mut protected = Protected::default();
    protected.add(&line("x", FileKind::Directory, Outcome::Delivered));
    protected.add(&line("x/came", FileKind::Regular, Outcome::AttributesNotApplied));
    assert!(protected.keeps(&path("x/came")) && !protected.keeps(&path("x/came/y")) && !protected.keeps(&path("x/y")));
    protected.add(&line("x/kept", FileKind::Regular, Outcome::LeftOut(Reason::Kept)));
    assert!(protected.keeps(&path("x/kept")) && protected.keeps(&path("x/kept/deep/er")));
    assert!(!protected.keeps(&path("x/kept2")));
    let has = ["x", "x/came", "x/kept", "z"].map(|text| protected.has_directory(&path(text)));
    assert_eq!(has, [true, false, false, false]);
}

#[test]
fn what_is_out_of_order_or_elsewhere_is_refused() {
    let below = [Some(path("x"))];
    let take = |all: &[&str]| {
        let mut lister = Lister::default();
        let taken = all.iter().map(|text| lister.take(Seen::Entry(entry(text, FileKind::Directory)), &below, false));
        taken.collect::<Result<Vec<()>, Refused>>().map(|_| names(&lister.finish()))
    };
    assert_eq!(take(&["x/a", "x/a/b", "x/a.b"]).unwrap(), ["x/a", "x/a/b", "x/a.b"]);
    for bad in [&["x"][..], &["y/a"], &["xy"], &["x/b", "x/a"], &["x/a", "x/a"], &["x/a.b", "x/a/b"]] {
        assert_eq!(take(bad), Err(Refused::Misbehaved), "{bad:?}");
    }
    let mut lister = Lister::default();
    let stays = |text| Seen::Stays(Some(path(text)), Stays::Mount);
    assert_eq!(lister.take(stays("y"), &below, false), Err(Refused::Misbehaved));
    assert_eq!(lister.take(stays("x"), &below, false), Ok(()));
}

/// The directories above what stays are not listed; those beside it are.
#[test]
fn a_directory_in_which_something_stays_is_not_listed() {
    let below = [None];
    let mut lister = Lister::default();
    let mut take = |seen, stays| lister.take(seen, &below, stays).unwrap();
    let directory = |text| Seen::Entry(entry(text, FileKind::Directory));
    take(directory("a"), false);
    take(directory("a/b"), false);
    take(directory("a/b/c"), false);
    take(Seen::Stays(Some(path("a/b/d")), Stays::Mount), false);
    take(directory("a/e"), false);
    take(directory("f"), false);
    take(directory("g"), false);
    take(Seen::Stays(Some(path("g")), Stays::Unlisted), false);
    take(directory("h"), false);
    take(Seen::Entry(entry("h/came", FileKind::Regular)), true);
    let listing = lister.finish();
    assert_eq!(names(&listing), ["a/b/c", "a/e", "f"]);
    assert_eq!(listing.unlisted, [Some(path("g"))]);
}

/// One that only says so could fill this side's memory with paths.
#[test]
fn there_is_an_end_to_the_paths_that_are_kept() {
    let long = ["a".repeat(250), "b".repeat(250), "c".repeat(250)].join("/");
    let mut lister = Lister::default();
    let taken: Vec<Result<(), Refused>> = (0..400_000_u32)
        .map(|number| {
            lister.take(Seen::Entry(entry(&format!("{number:07}/{long}"), FileKind::Regular)), &[None], false)
        })
        .collect();
    assert!(taken[..300_000].iter().all(Result::is_ok));
    assert_eq!(taken[399_999], Err(Refused::TooMany));
}
