//! Sources that cannot be read or do not hold still: that entry is left out and named, the others arrive, and never
//! does a mixture of two versions.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::facility;
use crate::common::scratch::Scratch;
use crate::common::transfer::{self, BOTH_DIRECTIONS, Done, Listens, Setup};
use crate::common::tree::{Content, Tree};
use crate::common::trees::CHUNK_BYTES;

#[test]
fn unreadable_sources_are_left_out_and_named() {
    let scratch = Scratch::new("unreadable");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("readable");
    tree.small("locked-file");
    tree.mode("locked-file", 0o000);
    tree.small("write-only");
    tree.mode("write-only", 0o200);
    tree.small("locked-dir/inside");
    tree.mode("locked-dir", 0o000);
    tree.small("no-search/inside");
    tree.mode("no-search", 0o600);
    tree.small("no-list/inside");
    tree.mode("no-list", 0o300);
    let source = tree.finish();
    let is_denied = facility::is_denied(&source.join("locked-file"));
    // A directory that may be listed but not entered is named as a whole: nothing in it can be reached.
    let out: [&[u8]; 5] = [b"locked-file", b"write-only", b"locked-dir", b"no-search", b"no-list"];
    for listens in BOTH_DIRECTIONS {
        let setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        let done = setup.run();
        if !is_denied {
            done.assert_success();
            transfer::assert_arrived(&source, &setup.target);
            continue;
        }
        done.assert_codes(5, 5);
        for name in out {
            done.assert_named_by_both(std::str::from_utf8(name).unwrap());
        }
        let arrived = setup.target.join("source");
        assert_eq!(fs::read(arrived.join("readable")).unwrap(), fs::read(source.join("readable")).unwrap());
        for name in ["locked-file", "write-only", "no-search/inside", "no-list/inside", "locked-dir/inside"] {
            assert!(!arrived.join(name).is_file(), "{name} cannot have arrived\n{}", done.describe());
        }
    }
}

#[test]
fn a_target_that_may_not_be_written_is_refused_by_name() {
    let scratch = Scratch::new("read-only-target");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("file");
    let source = tree.finish();
    let mut closed = Tree::new(&scratch.join("closed"), 1);
    closed.mode("", 0o555);
    let closed = closed.finish();
    let attempt = fs::create_dir(closed.join("attempt"));
    if attempt.is_ok() {
        assert!(!facility::must_meet_eacces(), "EACCES was to be met");
        facility::skipped("a_target_that_may_not_be_written_is_refused_by_name", "an unprivileged user");
        return;
    }
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.target = closed.join("target");
    let finished = setup.command(setup.listening_side()).run();
    assert!(matches!(finished.code(), Some(1 | 3)), "{}", finished.describe());
    assert!(finished.stderr_text().contains("closed"), "names the place\n{}", finished.describe());
}

/// Does something to a file again and again until it is dropped.
struct Meddler {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Meddler {
    fn with(path: &Path, pause: Duration, mut meddle: impl FnMut(&fs::File, u64) + Send + 'static) -> Meddler {
        let file = fs::OpenOptions::new().read(true).append(false).write(true).open(path).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                meddle(&file, count);
                count += 1;
                std::thread::sleep(pause);
            }
            count
        });
        Meddler { is_over, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Runs a transfer of a restless file and a calm one through a slow relay while somebody meddles.
fn meddled(name: &str, meddle: impl FnMut(&fs::File, u64) + Send + 'static) {
    let scratch = Scratch::new(name);
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("calm", &Content::Random(3 * CHUNK_BYTES));
    tree.file("restless", &Content::Random(32 * CHUNK_BYTES));
    tree.small("zz-last");
    let source = tree.finish();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(8 << 20);
    // Often enough that no reading of it fits in between.
    let meddler = Meddler::with(&source.join("restless"), Duration::from_micros(100), meddle);
    let done = setup.run();
    assert!(meddler.end() > 10, "somebody meddled");
    done.assert_codes(5, 5);
    done.assert_named_by_both("source/restless");
    transfer::assert_arrived_but(&source, &setup.target, &[b"restless"]);
}

#[test]
fn a_growing_source_is_left_out_and_named() {
    meddled("growing", |mut file, _| {
        use std::io::Seek;
        file.seek(std::io::SeekFrom::End(0)).unwrap();
        file.write_all(b"more").unwrap();
    });
}

#[test]
fn a_shrinking_source_is_left_out_and_named() {
    meddled("shrinking", |file, count| file.set_len((32 * CHUNK_BYTES).saturating_sub(100 * (count + 1))).unwrap());
}

#[test]
fn a_changing_source_is_left_out_and_named() {
    meddled("changing", |file, count| file.write_all_at(&count.to_le_bytes(), (count * 65_537) % (8 << 20)).unwrap());
}

/// Starts a slow transfer of a file, does something to the source when bytes have crossed, and waits for the end.
fn disturbed(scratch: &Scratch, disturb: impl FnOnce(&Path)) -> (Setup, Done) {
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("a-calm", &Content::Random(CHUNK_BYTES));
    tree.file("m-restless", &Content::Random(48 * CHUNK_BYTES));
    tree.small("zz-last");
    let source = tree.finish();
    let mut setup = Setup::new(scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(8 << 20);
    let mut live = setup.start();
    let has_crossed =
        live.sender.wait_until("bytes on the wire", Duration::from_secs(30), |_| setup.relay().all_bytes() > 4 << 20);
    assert!(has_crossed, "{}", live.sender.describe("ended"));
    disturb(&source.join("m-restless"));
    setup.relay().rate(0);
    let done = live.wait(Duration::from_secs(120));
    (setup, done)
}

#[test]
fn a_source_that_vanishes_is_left_out_and_named() {
    let scratch = Scratch::new("vanishing");
    let (setup, done) = disturbed(&scratch, |path| fs::remove_file(path).unwrap());
    let target = setup.target.join("source");
    // Descriptors that are held may still serve the whole file: then it is one consistent version.
    match (done.sender.code(), done.receiver.code()) {
        (Some(5), Some(5)) => {
            done.assert_named_by_both("source/m-restless");
            assert!(!target.join("m-restless").exists());
        }
        (Some(0), Some(0)) => assert_eq!(target.join("m-restless").metadata().unwrap().len(), 48 << 20),
        _ => panic!("{}", done.describe()),
    }
    assert!(target.join("a-calm").exists() && target.join("zz-last").exists());
}

#[test]
fn a_source_that_changes_once_arrives_in_one_of_its_versions_or_not_at_all() {
    let scratch = Scratch::new("changing-once");
    let mut old = vec![];
    let (setup, done) = disturbed(&scratch, |path| {
        old = fs::read(path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"another version", 40 << 20).unwrap();
        file.write_all_at(b"another version", 0).unwrap();
    });
    match (done.sender.code(), done.receiver.code()) {
        // What was read whole before the change is a consistent version too.
        (Some(0), Some(0)) if fs::read(setup.target.join("source/m-restless")).unwrap() == old => {}
        (Some(0), Some(0)) => transfer::assert_arrived(&scratch.join("source"), &setup.target),
        (Some(5), Some(5)) => {
            done.assert_named_by_both("source/m-restless");
            transfer::assert_arrived_but(&scratch.join("source"), &setup.target, &[b"m-restless"]);
        }
        _ => panic!("{}", done.describe()),
    }
}

#[test]
fn a_source_replaced_by_something_else_is_never_followed() {
    let scratch = Scratch::new("replaced");
    let secret = scratch.join("secret");
    fs::write(&secret, vec![b's'; 48 << 20]).unwrap();
    let (setup, done) = disturbed(&scratch, |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(&secret, path).unwrap();
    });
    let codes = (done.sender.code(), done.receiver.code());
    assert!(matches!(codes, (Some(0), Some(0)) | (Some(5), Some(5))), "{}", done.describe());
    let arrived = setup.target.join("source/m-restless");
    if let Ok(found) = arrived.symlink_metadata() {
        assert!(found.is_symlink() || fs::read(&arrived).unwrap()[..6] != *b"ssssss", "a link was followed");
    }
}
