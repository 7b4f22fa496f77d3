//! What a fresh log says about a source.

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use rustix::fs::Mode;

use super::*;
use crate::limits::{HASH_AHEAD_BYTES, RECORD_DIGESTS_MAX};
use crate::outcome::NotPreserved;
use crate::source::ahead::Content;

#[test]
fn records_say_what_there_is_and_digests_are_those_of_the_plain_hash() {
    let bench = Bench::new();
    let lengths = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK, 16 * CHUNK + 1, 40 * CHUNK + 7];
    for (number, len) in lengths.iter().enumerate() {
        bench.write(&format!("{number}"), sample(*len));
    }
    symlink("0", bench.at("l")).unwrap();
    let mut run = bench.settle();
    let all = records(run.producer());
    for ((_, digest), len) in digests(&all).iter().zip(lengths) {
        // This hasher is the plain one of the crate, over one stream of bytes.
        let mut plain = crate::digest::OutcomeHasher::default();
        plain.line(&sample(len));
        assert_eq!(digest.0, plain.finish().0, "{len}");
    }
    let lines = outline(&all);
    let last: Vec<&str> = lines[lines.len() - 7..].iter().map(String::as_str).collect();
    assert_eq!(
        last,
        ["begin 7 163847", "chunks 7 16", "chunks 7 16", "chunks 7 9", "end 7", "symlink l 0", "complete"]
    );
    assert_eq!(digests(&all).len(), lengths.len());
    let counts = run.counts();
    assert_eq!((counts.files, counts.symlinks, counts.directories), (8, 1, 0));
    assert_eq!(counts.bytes, lengths.iter().sum::<usize>() as u64);
    assert_eq!(all.last(), Some(&Record::Complete(counts)));
    assert_eq!(run.position.record_count, all.len() as u64);
}

#[test]
fn the_same_tree_gives_the_same_log_again() {
    let bench = Bench::new();
    for number in 0..200 {
        bench.write(&format!("d{}/f{number}", number % 7), sample(number * 100));
    }
    let first = bench.settle().position;
    fs::remove_file(bench.state().join("manifest")).unwrap();
    assert_eq!(bench.settle().position, first);
    fs::remove_file(bench.state().join("stamps")).unwrap();
    fs::remove_file(bench.state().join("manifest")).unwrap();
    assert_eq!(bench.settle().position, first);
}

#[test]
fn holes_and_zeros_are_kept_as_zero() {
    let bench = Bench::new();
    let file = fs::File::create(bench.at("sparse")).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_all_at(b"x", 2 << 20).unwrap();
    bench.write("zeros", vec![0; 3 * CHUNK]);
    let mut producer = bench.producer();
    let (mut zeros, mut bytes) = (0, vec![]);
    loop {
        let stepped = producer.step().unwrap();
        for (entry, chunk) in [(0, (4 << 20) / CHUNK), (1, 3)]
            .into_iter()
            .flat_map(|(entry, count)| (0..u32::try_from(count).unwrap()).map(move |chunk| (entry, chunk)))
        {
            match producer.ahead().take(Place { entry, chunk }) {
                Some(Content::Zero) => zeros += 1,
                Some(Content::Bytes(_)) => bytes.push((entry, chunk)),
                None => {}
            }
        }
        if let Work::Settled(_) = stepped.work {
            break;
        }
    }
    assert_eq!((zeros, bytes), ((4 << 20) / CHUNK - 1 + 3, vec![(0, (2 << 20) / 4096)]));
}

#[test]
fn hashing_waits_for_the_receiver() {
    let bench = Bench::new();
    let ahead_bytes = usize::try_from(HASH_AHEAD_BYTES).unwrap();
    bench.write("big", sample(2 * ahead_bytes));
    let mut producer = bench.producer();
    while producer.step().unwrap().work == Work::Ready {}
    assert_eq!(producer.step().unwrap().work, Work::Blocked);
    assert_eq!(producer.figures().hashed_bytes, HASH_AHEAD_BYTES);
    // All of it is in records: none is held back by what it waits for.
    let chunk_records = ahead_bytes / CHUNK / RECORD_DIGESTS_MAX;
    assert_eq!(producer.log().position().record_count, 1 + chunk_records as u64);
    producer.ahead().considered(Place { entry: 0, chunk: 1 }, &[]);
    assert_eq!(producer.step().unwrap().work, Work::Ready);
    assert_eq!(producer.step().unwrap().work, Work::Blocked);
    settle(&mut producer);
}

#[test]
fn what_is_not_preserved_is_counted() {
    let bench = Bench::new();
    for path in ["a", "b"] {
        bench.write(path, "1");
    }
    fs::hard_link(bench.at("a"), bench.at("c")).unwrap();
    fs::set_permissions(bench.at("b"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mut run = bench.settle();
    let expected = NotPreserved { hard_links: 2, special_bits: 1, ..NotPreserved::default() };
    assert_eq!(run.counts().not_preserved, expected);
    assert_eq!(run.counts().files, 3);
    let mode = records(run.producer()).into_iter().find_map(|record| match record {
        Record::End { entry: EntryIndex(1), mode, .. } => Some(mode),
        _ => None,
    });
    assert_eq!(mode, Some(0o755));
}

#[test]
fn a_file_that_changes_once_is_read_again_and_one_that_keeps_changing_is_left_out() {
    let bench = Bench::new();
    bench.write("once", sample(20 * CHUNK));
    bench.write("twice", sample(20 * CHUNK));
    bench.write("zz", "1");
    let mut producer = bench.producer();
    let (mut events, mut changes) = (vec![], 0);
    loop {
        let stepped = producer.step().unwrap();
        events.extend(stepped.events);
        match producer.figures().object {
            Some(path) if path.as_bytes() == b"once" && changes == 0 => {
                changes += 1;
                set_mtime(&bench.at("once"), 7);
            }
            Some(path) if path.as_bytes() == b"twice" => {
                changes += 1;
                set_mtime(&bench.at("twice"), changes);
            }
            _ => {}
        }
        if let Work::Settled(_) = stepped.work {
            break;
        }
    }
    let run = Run { events, position: producer.log().position(), producer: None };
    assert_eq!(run.retried(), ["once", "twice"]);
    assert_eq!(run.left_out(), [("twice".to_owned(), Reason::Changed)]);
    let lines = outline(&records(&producer));
    let (first, second) = ("begin once 81920", "begin twice 81920");
    let expected = [
        &[first, "chunks 0 16", "chunks 0 4", "withdraw 0 changed", second, "chunks 1 16", "chunks 1 4"][..],
        &["withdraw 1 changed", "begin zz 1", "chunks 2 1", "end 2", first, "chunks 3 16", "chunks 3 4", "end 3"],
        &[second, "chunks 4 16", "chunks 4 4", "withdraw 4 changed", "left out twice changed", "complete"],
    ];
    assert_eq!(lines, expected.concat());
    let counts = producer.figures().counts;
    assert_eq!((counts.files, counts.left_out, counts.bytes), (2, 1, 20 * CHUNK as u64 + 1));
}

#[test]
fn shrinking_growing_and_vanishing_files_never_stop_the_others() {
    for (change, ends) in [("shrink", true), ("grow", true), ("remove", false), ("replace", true)] {
        let bench = Bench::new();
        bench.write("f", sample(20 * CHUNK));
        bench.write("z", "1");
        let mut producer = bench.producer();
        producer.step().unwrap();
        let path = bench.at("f");
        match change {
            "shrink" => fs::File::options().write(true).open(&path).unwrap().set_len(7).unwrap(),
            "grow" => fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap(),
            "remove" => fs::remove_file(&path).unwrap(),
            _ => {
                bench.write("new", sample(3 * CHUNK));
                fs::rename(bench.at("new"), &path).unwrap();
            }
        }
        let run = settle(&mut producer);
        assert_eq!(run.retried(), ["f"], "{change}");
        let expected = if ends { vec![] } else { vec![("f".to_owned(), Reason::Vanished)] };
        assert_eq!(run.left_out(), expected, "{change}");
        assert_eq!(producer.figures().counts.files, if ends { 2 } else { 1 }, "{change}");
    }
}

#[test]
fn nothing_is_held_back_for_a_receiver_that_looks_at_no_chunk_any_more() {
    let bench = Bench::new();
    bench.write("big", sample(2 * usize::try_from(HASH_AHEAD_BYTES).unwrap()));
    let mut producer = bench.producer();
    while producer.step().unwrap().work == Work::Ready {}
    producer.ahead().considered(Place { entry: u32::MAX, chunk: u32::MAX }, &[]);
    loop {
        match producer.step().unwrap().work {
            Work::Ready => {}
            Work::Settled(_) => break,
            Work::Blocked => panic!("it waits for somebody who never comes"),
        }
    }
    assert_eq!(producer.ahead().take(Place { entry: 0, chunk: 0 }), None);
}

/// What was met while there was no room is opened later, perhaps hours later.
#[test]
fn what_waited_and_is_a_fifo_by_then_is_not_opened() {
    let bench = Bench::new();
    bench.write("big", sample(usize::try_from(HASH_AHEAD_BYTES).unwrap()));
    bench.write("small", "1");
    let mut producer = bench.producer();
    while producer.step().unwrap().work == Work::Ready {}
    assert_eq!(producer.step().unwrap().work, Work::Blocked);
    let path = bench.at("small");
    fs::remove_file(&path).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Somebody who waits until it is opened for reading.
    let (say, said) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            say.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            fs::OpenOptions::new().write(true).open(path).map(drop)
        }
    });
    let stat = format!("/proc/self/task/{}/stat", said.recv().unwrap());
    while !fs::read_to_string(&stat).unwrap().contains(") S ") {
        std::thread::yield_now();
    }
    let run = settle(&mut producer);
    assert_eq!(run.left_out(), [("small".to_owned(), Reason::Special)]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!writer.is_finished(), "it was opened");
    let nonblocking = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let reader = rustix::fs::open(&path, nonblocking, Mode::empty()).unwrap();
    writer.join().unwrap().unwrap();
    drop(reader);
}
