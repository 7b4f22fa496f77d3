//! Refusals that come from the target's file system: levels that prove nothing, a disk that is full, a size limit.

use std::time::Duration;

use crate::common::facility::{self, LoopImage};
use crate::common::process::{Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::transfer::{self, Listens, Setup};
use crate::common::tree::{Content, Tree};
use crate::common::{state, trees};
use crate::texts;

#[test]
fn a_level_below_evicted_needs_a_word() {
    let Some(tmpfs) = facility::tmpfs_dir() else {
        facility::skipped("a_level_below_evicted_needs_a_word", "a tmpfs at /dev/shm");
        return;
    };
    let scratch = Scratch::new("level");
    let source = trees::directories(&scratch.join("source"), 1);
    let held = tempfile::tempdir_in(tmpfs).unwrap();
    let refused = Landfall::new("recv", &scratch.join("home")).arg("recv").arg(held.path().join("in"));
    let refused = refused.args(["--listen", "127.0.0.1:0", "--yes"]).run();
    refused.assert_code(1);
    texts::assert_error("level", &scratch, &refused, &[(held.path().to_str().unwrap(), "TMPFS")]);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.target = held.path().join("in");
    setup.receiver_options = vec!["--accept-level".into(), "cache".into()];
    let done = setup.run();
    done.assert_success();
    transfer::assert_arrived(&source, &setup.target);
    let summary = done.receiver.summary().unwrap();
    assert_eq!((summary["level"].as_str(), summary["is_durable"].as_bool()), (Some("cache"), Some(false)), "{summary}");
}

#[test]
fn a_transfer_larger_than_allowed_is_refused() {
    let scratch = Scratch::new("max-size");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(3 << 20));
    let source = tree.finish();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.receiver_options = vec!["--max-size".into(), "1MiB".into()];
    let done = setup.run();
    assert_eq!(done.receiver.code(), Some(1), "{}", done.describe());
    assert!(matches!(done.sender.code(), Some(1 | 4)), "{}", done.describe());
    texts::assert_error("too-large-recv", &scratch, &done.receiver, &[]);
    // On a slow machine the link may be gone before the reason is read: then it says that it was refused.
    if done.sender.code() == Some(1) {
        texts::assert_error("too-large-send", &scratch, &done.sender, &[]);
    }
    assert!(!setup.target.join("source/file").exists());
}

#[test]
fn a_full_disk_pauses_and_goes_on_when_there_is_space() {
    let test = "a_full_disk_pauses_and_goes_on_when_there_is_space";
    let scratch = Scratch::new("full");
    let Some(image) = LoopImage::mounted(test, scratch.path(), 64 << 20) else { return };
    let ballast = image.path().join("ballast");
    std::fs::write(&ballast, vec![1; 30 << 20]).unwrap();
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("a-small");
    tree.file("file", &Content::Random(32 << 20));
    let source = tree.finish();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.target = image.path().join("target");
    setup.receiver_options = vec!["--reserve".into(), "1MiB".into()];
    let mut live = setup.start();
    let is_said = live.receiver.wait_until("a word about the full disk", Duration::from_secs(30), |running| {
        running.stdout().contains("disk-full")
    });
    assert!(is_said, "{}", live.receiver.describe("ended"));
    let is_said = live.sender.wait_until("a word about it at the sender", Duration::from_secs(30), |running| {
        running.stdout().contains("space") || running.stdout().contains("disk-full")
    });
    assert!(is_said, "{}", live.sender.describe("ended"));
    std::fs::remove_file(&ballast).unwrap();
    live.wait(PATIENT).assert_success();
    transfer::assert_arrived(&source, &setup.target);
}

/// The disk is full before the first byte of a file: the names alone do not fit.
#[test]
fn a_disk_too_full_for_the_names_pauses_as_well() {
    let test = "a_disk_too_full_for_the_names_pauses_as_well";
    let scratch = Scratch::new("full-of-names");
    let Some(image) = LoopImage::mounted(test, scratch.path(), 64 << 20) else { return };
    let mut tree = Tree::new(&scratch.join("source"), 1);
    for number in 0..9000 {
        tree.file(format!("{number:0240}"), &Content::Bytes(vec![]));
    }
    let source = tree.finish();
    let ballast = image.fill_but(1 << 20);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.target = image.path().join("target");
    setup.receiver_options = ["--reserve", "0"].map(str::to_owned).to_vec();
    let mut live = setup.start();
    let is_said = live.receiver.wait_until("a word about the full disk", Duration::from_secs(30), |running| {
        running.stdout().contains("disk-full")
    });
    assert!(is_said, "{}", live.receiver.describe("ended"));
    std::fs::remove_file(&ballast).unwrap();
    live.wait(PATIENT).assert_success();
    transfer::assert_arrived(&source, &setup.target);
}

#[test]
fn a_disk_that_stays_full_ends_with_3_and_keeps_the_work() {
    let test = "a_disk_that_stays_full_ends_with_3_and_keeps_the_work";
    let scratch = Scratch::new("stays-full");
    let Some(image) = LoopImage::mounted(test, scratch.path(), 64 << 20) else { return };
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("a-small");
    tree.file("file", &Content::Random(80 << 20));
    let source = tree.finish();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.target = image.path().join("target");
    setup.receiver_options = ["--reserve", "1MiB", "--patience", "5s"].map(str::to_owned).to_vec();
    setup.sender_options = ["--patience", "5s"].map(str::to_owned).to_vec();
    let done = setup.run();
    done.assert_codes(3, 3);
    assert!(done.receiver.stderr_text().contains("full"), "{}", done.describe());
    assert!(state::entries(&setup.target).iter().any(|path| path.ends_with(".landfall")), "the work is kept");
    assert!(!setup.target.join("source/file").exists(), "nothing unverified gets its name");
}
