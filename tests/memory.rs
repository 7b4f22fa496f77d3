//! The memory bound: `VmHWM` of both real processes stays under 200 MiB whatever is moved. The sizes of the promise are
//! used with an optimised binary (`cargo test --release`, or `LANDFALL_TEST_BIN` naming one), smaller ones otherwise.
#![allow(clippy::unwrap_used)]

use fault_inject::rig as common;

use std::path::Path;
use std::time::Duration;

use common::process;
use common::scratch::Scratch;
use common::transfer::{self, Listens, Setup};
use common::tree::{Content, Tree};
use common::{facility, oracle, trees};

/// What each side may have resident at most.
const PEAK_BYTES_MAX: u64 = 200 << 20;

/// Moves a tree; both peaks must stay under the bound, and be real figures. `compare` is left to the caller.
fn moves_within_the_bound(what: &str, scratch: &Scratch, source: &Path, patience: Duration) -> Setup {
    let setup = Setup::new(scratch, "run", &[source], Listens::Receiver);
    let done = setup.start().wait(patience);
    done.assert_success();
    let (sender, receiver) = (done.sender.peak_bytes, done.receiver.peak_bytes);
    let (sender_mib, receiver_mib, seconds) = (sender >> 20, receiver >> 20, done.sender.elapsed.as_secs());
    facility::say(&format!("peak memory, {what}: sender {sender_mib} MiB, receiver {receiver_mib} MiB, {seconds} s"));
    for peak in [sender, receiver] {
        assert!(peak > 1 << 20, "a peak of {peak} bytes cannot be true");
        assert!(peak < PEAK_BYTES_MAX, "{what}: sender {sender_mib} MiB, receiver {receiver_mib} MiB");
    }
    setup
}

#[test]
fn two_hundred_thousand_files_fit() {
    let count = if process::is_release() { 200_000 } else { 20_000 };
    let scratch = Scratch::new("files");
    let source = trees::many_spread(&scratch.join("source"), 1, count);
    let setup = moves_within_the_bound(&format!("{count} files"), &scratch, &source, Duration::from_secs(550));
    transfer::assert_arrived(&source, &setup.target);
}

#[test]
fn a_sparse_hundred_gibibyte_file_fits() {
    let (gib, chunks) = if process::is_release() { (100, 1000) } else { (10, 200) };
    let scratch = Scratch::new("sparse");
    let size_bytes = gib << 30;
    let stride = size_bytes / chunks / trees::CHUNK_BYTES * trees::CHUNK_BYTES;
    let data = (0..chunks).map(|number| (number * stride, trees::CHUNK_BYTES)).collect();
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("sparse", &Content::Sparse { size_bytes, data });
    let source = tree.finish();
    let what = format!("a sparse file of {gib} GiB with {chunks} chunks of data");
    let setup = moves_within_the_bound(&what, &scratch, &source, Duration::from_secs(550));
    transfer::assert_arrived(&source, &setup.target);
    let allocated = oracle::snapshot(&setup.target)[&b"source/sparse"[..]].allocated_bytes;
    assert!(allocated < 2 * chunks * trees::CHUNK_BYTES, "holes stay holes: {allocated} bytes allocated");
}

/// `cargo test --release --test memory -- --ignored a_million_files_fit`
#[test]
#[ignore = "takes many minutes and a million inodes, twice"]
fn a_million_files_fit() {
    let scratch = Scratch::new("million");
    let source = trees::many_spread(&scratch.join("source"), 1, 1_000_000);
    let setup = moves_within_the_bound("1,000,000 files", &scratch, &source, Duration::from_secs(3600));
    transfer::assert_arrived(&source, &setup.target);
}
