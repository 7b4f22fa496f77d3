//! A producer that goes on with the log of an earlier run.

use std::os::unix::fs::{FileExt, symlink};

use super::*;

fn hashed(run: &mut Run) -> u64 {
    run.producer().figures().hashed_bytes
}

fn tree(bench: &Bench) {
    bench.write("a/one", sample(10));
    bench.write("a/two", sample(20 * CHUNK));
    bench.write("b", sample(3));
    symlink("b", bench.at("l")).unwrap();
}

#[test]
fn what_has_not_changed_is_not_hashed_and_nothing_is_appended() {
    let bench = Bench::new();
    tree(&bench);
    let mut first = bench.settle();
    assert_eq!(hashed(&mut first), 13 + 20 * CHUNK as u64);
    let mut again = bench.settle();
    assert_eq!((again.position, hashed(&mut again)), (first.position, 0));
    assert_eq!(again.counts(), first.counts());
}

#[test]
fn changes_since_are_withdrawn_and_followed_by_new_versions() {
    let bench = Bench::new();
    tree(&bench);
    let mut first = bench.settle();
    bench.write("b", sample(4));
    bench.write("a/three", "3");
    fs::remove_file(bench.at("a/one")).unwrap();
    fs::remove_file(bench.at("l")).unwrap();
    symlink("a", bench.at("l")).unwrap();
    let before = records(first.producer()).len();
    let mut run = bench.settle();
    assert_eq!(hashed(&mut run), 5);
    let lines = outline(&records(run.producer()));
    let expected = [
        &["withdraw 0 changed", "directory a", "begin a/three 1", "chunks 6 1", "end 6"][..],
        &["withdraw 3 changed", "begin b 4", "chunks 7 1", "end 7", "withdraw 4 changed", "symlink l a"],
        &["withdraw 1 vanished", "complete"],
    ];
    assert_eq!(lines[before..], expected.concat());
    let counts = run.counts();
    assert_eq!((counts.files, counts.symlinks, counts.directories), (3, 1, 1));
    assert_eq!(counts.bytes, 20 * CHUNK as u64 + 5);
    assert_eq!(bench.settle().position, run.position);
}

#[test]
fn a_directory_that_became_a_file_is_withdrawn_with_what_was_in_it_first() {
    let bench = Bench::new();
    tree(&bench);
    let before = records(bench.settle().producer()).len();
    fs::remove_dir_all(bench.at("a")).unwrap();
    bench.write("a", "now a file");
    fs::remove_file(bench.at("b")).unwrap();
    bench.write("b/c", "now a directory");
    let mut run = bench.settle();
    let lines = outline(&records(run.producer()));
    let expected = [
        &["withdraw 3 changed", "directory b", "begin b/c 15", "chunks 6 1", "end 6"][..],
        &["withdraw 0 vanished", "withdraw 2 vanished", "withdraw 1 vanished"],
        &["begin a 10", "chunks 7 1", "end 7", "complete"],
    ]
    .concat();
    let mut vanished = lines[before + 5..before + 8].to_vec();
    vanished.sort();
    assert_eq!(vanished, ["withdraw 0 vanished", "withdraw 1 vanished", "withdraw 2 vanished"]);
    assert_eq!(lines[before..before + 5], expected[..5]);
    assert_eq!(lines[before + 8..], expected[8..]);
    assert_eq!(bench.settle().position, run.position);
}

#[test]
fn a_file_in_the_middle_goes_on_there_if_it_is_unchanged() {
    let bench = Bench::new();
    bench.write("f", sample(40 * CHUNK));
    let whole = bench.settle().position;
    for is_changed in [false, true] {
        fs::remove_file(bench.state().join("manifest")).unwrap();
        let mut producer = bench.producer();
        (0..20).for_each(|_| drop(producer.step().unwrap()));
        drop(producer);
        if is_changed {
            set_mtime(&bench.at("f"), 9);
        }
        let mut run = bench.settle();
        if is_changed {
            let lines = outline(&records(run.producer()));
            let expected = ["begin f 163840", "chunks 0 16", "withdraw 0 superseded", "begin f 163840", "chunks 1 16"];
            assert_eq!(lines[..5], expected);
            assert_eq!(hashed(&mut run), 40 * CHUNK as u64);
        } else {
            assert_eq!((run.position, hashed(&mut run)), (whole, 24 * CHUNK as u64));
        }
    }
}

#[test]
fn a_log_cut_or_damaged_anywhere_leads_to_the_same_tree_again() {
    let bench = Bench::new();
    tree(&bench);
    let mut first = bench.settle();
    let log = fs::read(bench.state().join("manifest")).unwrap();
    for cut in (0..log.len()).step_by(13) {
        fs::write(bench.state().join("manifest"), &log[..cut]).unwrap();
        let mut run = bench.settle();
        assert_eq!((run.position, run.counts()), (first.position, first.counts()), "cut at {cut}");
        let mut bad = log.clone();
        bad[cut] ^= 1;
        fs::write(bench.state().join("manifest"), &bad).unwrap();
        assert_eq!(bench.settle().position, first.position, "changed at {cut}");
    }
}

#[test]
fn lost_or_damaged_stamps_cost_a_second_reading_and_nothing_else() {
    let bench = Bench::new();
    tree(&bench);
    let mut first = bench.settle();
    let file = fs::File::options().write(true).open(bench.state().join("stamps")).unwrap();
    file.write_all_at(b"x", 56 + 3).unwrap();
    let mut run = bench.settle();
    assert_eq!((run.counts(), hashed(&mut run)), (first.counts(), 10));
    fs::remove_file(bench.state().join("stamps")).unwrap();
    let mut run = bench.settle();
    assert_eq!((run.counts(), hashed(&mut run)), (first.counts(), 13 + 20 * CHUNK as u64));
}

#[test]
fn comparing_writes_nothing_and_tells_a_changed_source() {
    let bench = Bench::new();
    tree(&bench);
    let position = bench.settle().position;
    let compare = || {
        let mut producer = bench.producer_of(&bench.sources(), Purpose::Compare);
        settle(&mut producer);
        producer.differs()
    };
    assert!(!compare());
    fs::remove_file(bench.at("b")).unwrap();
    assert!(compare());
    bench.write("b", sample(3));
    assert!(compare());
    let mut producer = bench.producer_of(&bench.sources(), Purpose::Compare);
    settle(&mut producer);
    assert_eq!(producer.log().position(), position);
}
