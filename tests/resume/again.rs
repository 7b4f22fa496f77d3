//! What is done a second time after a kill, counted outside the product: bytes on the wire by a relay, bytes read by
//! `/proc/PID/io`, time by the clock.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::RESUME_PATIENCE;
use crate::common::process::{self, Running};
use crate::common::relay::Direction;
use crate::common::scratch::Scratch;
use crate::common::state::{self, Places};
use crate::common::transfer::{self, BOTH_DIRECTIONS, Listens, Live, Setup, Side};
use crate::common::tree::{Content, Tree};
use crate::common::trees::{self, CHUNK_BYTES};

/// Two unsynced batches and what was in flight: what any kill may cost, by the design.
const SENT_TWICE_BYTES_MAX: u64 = 192 << 20;
/// A transfer that stands still makes everything durable within the age of a batch; this is well beyond.
const SETTLING: Duration = Duration::from_millis(2500);

fn one_file(scratch: &Scratch, chunks: u64) -> PathBuf {
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(chunks * CHUNK_BYTES));
    tree.finish()
}

/// What crosses on top of the chunks: headers, packets, records, acknowledgements, and losses in the relay itself.
fn with_overhead(bytes: u64) -> u64 {
    bytes + bytes / 10 + 3 * CHUNK_BYTES
}

/// Runs until that many bytes have crossed, silences the link, and waits until nothing on the disks changes.
fn run_and_stop(setup: &Setup, places: &Places, bytes: u64) -> Live {
    setup.relay().silence_after(bytes);
    let mut live = setup.start();
    let is_silent = live.sender.wait_until("silence", RESUME_PATIENCE, |_| setup.relay().is_silent());
    assert!(is_silent, "{}", live.sender.describe("ended before the bytes had crossed"));
    settle(places);
    assert!(!live.sender.has_ended() && !live.receiver.has_ended());
    live
}

fn settle(places: &Places) {
    let start = Instant::now();
    let (mut last, mut since) = (places.look(), Instant::now());
    while since.elapsed() < SETTLING {
        std::thread::sleep(Duration::from_millis(50));
        let look = places.look();
        if look != last {
            (last, since) = (look, Instant::now());
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the state never comes to rest: {last:?}");
    }
}

#[test]
fn durable_chunks_are_not_sent_again() {
    let scratch = Scratch::new("not-again");
    let source = one_file(&scratch, 64);
    for (number, listens) in BOTH_DIRECTIONS.into_iter().enumerate() {
        let mut setup = Setup::new(&scratch, &format!("run-{number}"), &[&source], listens);
        setup.through_relay(1).rate(40 << 20);
        let places = setup.places(1);
        let live = run_and_stop(&setup, &places, 40 << 20);
        live.kill_both();
        let staged = places.look().staging_bytes;
        assert!(staged > 16 << 20, "{staged} bytes are staged of 40 MiB that crossed");
        setup.relay().speak();
        let before = setup.relay().all_bytes();
        setup.restart().wait(RESUME_PATIENCE).assert_success();
        transfer::assert_arrived(&source, &setup.target);
        let crossed = setup.relay().all_bytes() - before;
        let missing = (64 << 20) - staged;
        assert!(crossed >= missing, "the relay was on the way: {crossed} of {missing}");
        assert!(crossed <= with_overhead(missing), "{crossed} bytes crossed, {missing} were missing");
    }
}

#[test]
fn a_kill_in_full_flow_costs_no_more_than_two_batches_and_what_was_in_flight() {
    let scratch = Scratch::new("in-flow");
    let size_bytes: u64 = 640 << 20;
    let source = one_file(&scratch, 640);
    for (number, victim) in [Side::Receiver, Side::Sender].into_iter().enumerate() {
        let mut setup = Setup::new(&scratch, &format!("run-{number}"), &[&source], Listens::Receiver);
        setup.through_relay(1);
        let mut live = setup.start();
        let is_far =
            live.sender.wait_until("560 MiB on the wire", RESUME_PATIENCE, |_| setup.relay().all_bytes() > 560 << 20);
        assert!(is_far, "{}", live.sender.describe("ended"));
        let live = live.kill_and_restart(victim, &setup, || ());
        live.wait(RESUME_PATIENCE).assert_success();
        transfer::assert_arrived(&source, &setup.target);
        let crossed = setup.relay().bytes(Direction::ToListener);
        assert!(crossed >= size_bytes, "the relay was on the way: {crossed}");
        let allowed = with_overhead(size_bytes + SENT_TWICE_BYTES_MAX);
        assert!(crossed <= allowed, "{victim:?}: {crossed} bytes crossed, {allowed} are allowed");
    }
}

#[test]
fn a_restarted_sender_does_not_read_unchanged_files_again() {
    let scratch = Scratch::new("not-hashed-again");
    let source = one_file(&scratch, 128);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(60 << 20);
    let places = setup.places(1);
    let live = run_and_stop(&setup, &places, 116 << 20);
    let first = live.sender.io().unwrap();
    assert!(first.read_bytes > 100 << 20, "what is sent is read, and seen to be: {first:?}");
    assert!(live.sender.kill().was_killed());
    let missing = (128 << 20) - places.look().staging_bytes.min(128 << 20);
    setup.relay().speak();
    let sender = setup.command(Side::Sender).start();
    let done = Live { sender, receiver: live.receiver }.wait(RESUME_PATIENCE);
    done.assert_success();
    transfer::assert_arrived(&source, &setup.target);
    let again = done.sender.io.read_bytes;
    let allowed = 2 * missing + (24 << 20);
    assert!(again > 0 && again <= allowed, "{again} bytes read by the second sender, {missing} were missing");
}

/// Bytes of chunks that a side says it has moved so far.
fn wire_bytes(side: &Running) -> u64 {
    let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["wire_bytes"].as_u64();
    side.stdout().lines().filter_map(of).next_back().unwrap_or(0)
}

/// Starts both after a kill; when new chunk bytes have crossed, says how long that took and what was read till then.
fn first_new_bytes(setup: &Setup) -> (Live, Duration, u64, u64) {
    let before = setup.relay().bytes(Direction::ToListener);
    let start = Instant::now();
    let receiver = setup.command(Side::Receiver).start();
    let mut sender = setup.command(Side::Sender).start();
    // The sender knows the receiver's own address by now, and may get there before it gets through the relay.
    let has_flown = sender.wait_until("new bytes", Duration::from_secs(60), |sender| {
        setup.relay().bytes(Direction::ToListener) > before + CHUNK_BYTES || wire_bytes(sender) > CHUNK_BYTES
    });
    let took = start.elapsed();
    assert!(has_flown, "{}", sender.describe("ended"));
    let read = |running: &Running| running.io().map_or(0, |io| io.read_bytes);
    let (by_sender, by_receiver) = (read(&sender), read(&receiver));
    (Live { sender, receiver }, took, by_sender, by_receiver)
}

#[test]
fn new_bytes_flow_soon_whatever_is_there_already() {
    let scratch = Scratch::new("soon");
    let small_files = 20_000;
    let source = trees::many_spread(&scratch.join("source"), 1, small_files);
    let mut tree = Tree::within(&source, 2);
    tree.file("zz-large", &Content::Random(256 * CHUNK_BYTES));
    tree.finish();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(100 << 20);
    let places = setup.places(usize::MAX);
    let live = run_and_stop(&setup, &places, 200 << 20);
    let look = places.look();
    assert!(look.staging_bytes > 100 << 20 && look.sealed_files as u64 == small_files, "{look:?}");
    live.kill_both();
    setup.relay().speak();
    let (live, took, by_sender, by_receiver) = first_new_bytes(&setup);
    let limit = Duration::from_secs(if process::is_release() { 2 } else { 5 });
    assert!(took < limit, "the first new bytes took {took:?}");
    assert!(by_sender < 80 << 20, "the sender had read {by_sender} bytes before the first new one");
    assert!(by_receiver < 80 << 20, "the receiver had read {by_receiver} bytes before the first new one");
    setup.relay().rate(0);
    live.wait(RESUME_PATIENCE).assert_success();
    transfer::assert_arrived(&source, &setup.target);
}

#[test]
fn a_source_edited_between_the_runs_arrives_and_the_others_are_not_sent_again() {
    let scratch = Scratch::new("edited");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("a-sealed", &Content::Random(8 * CHUNK_BYTES));
    tree.file("b-sealed-and-edited", &Content::Random(2 * CHUNK_BYTES));
    tree.file("c-large", &Content::Random(40 * CHUNK_BYTES));
    tree.file("d-later", &Content::Random(4 * CHUNK_BYTES));
    let source = tree.finish();
    for edits_staged in [false, true] {
        let mut setup = Setup::new(&scratch, &format!("run-{edits_staged}"), &[&source], Listens::Receiver);
        setup.through_relay(1).rate(40 << 20);
        let places = setup.places(4);
        let live = run_and_stop(&setup, &places, 36 << 20);
        live.kill_both();
        let look = places.look();
        assert!(look.sealed_files >= 2 && look.staging_files >= 1, "{look:?}");
        let edit = |name: &str, offset: u64| {
            let file = fs::OpenOptions::new().write(true).open(source.join(name)).unwrap();
            file.write_all_at(format!("edited {edits_staged}").as_bytes(), offset).unwrap();
        };
        edit("b-sealed-and-edited", CHUNK_BYTES + 5);
        edit("d-later", 0);
        if edits_staged {
            edit("c-large", 3 * CHUNK_BYTES);
        }
        setup.relay().speak();
        let before = setup.relay().all_bytes();
        setup.restart().wait(RESUME_PATIENCE).assert_success();
        transfer::assert_arrived(&source, &setup.target);
        let crossed = setup.relay().all_bytes() - before;
        let missing = (40 << 20) - look.staging_bytes.min(40 << 20) + (4 << 20) + (2 << 20) + CHUNK_BYTES;
        assert!(crossed <= with_overhead(missing), "{crossed} bytes crossed, {missing} were missing");
    }
}

/// As after a kill between the receipt and the end: the receiver has heard the acknowledgement and never comes back.
#[test]
fn a_sender_that_holds_its_receipt_answers_by_itself() {
    let scratch = Scratch::new("alone");
    let source = one_file(&scratch, 6);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(4 << 20);
    let places = setup.places(1);
    let mut live = setup.start();
    let is_met = live.sender.wait_until("bytes", RESUME_PATIENCE, |_| setup.relay().all_bytes() > CHUNK_BYTES);
    assert!(is_met, "{}", live.sender.describe("ended"));
    let record = places.sender_state().unwrap().join("transfer");
    let open = fs::read(&record).unwrap();
    setup.relay().rate(0);
    live.wait(RESUME_PATIENCE).assert_success();
    let receipt = fs::read(&state::receipts(&setup.sender_home)[0]).unwrap();
    assert!(fs::read(&record).unwrap() != open, "the end is on record");
    fs::write(&record, &open).unwrap();
    setup.command(Side::Sender).run().assert_code(0);
    assert!(fs::read(&state::receipts(&setup.sender_home)[0]).unwrap() == receipt, "the same receipt");
    assert!(fs::read(&record).unwrap() != open, "the end is on record again");
}
