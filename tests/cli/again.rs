//! `landfall resume ID` where something has changed since: the listener's address, or the other side's key.

use std::path::Path;

use crate::common::process::{Finished, Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::transfer::{Listens, Live, Setup, Side, assert_arrived, free_address};
use crate::common::tree::{Content, Tree};

const LARGE_BYTES: u64 = 48 << 20;

/// A transfer that was killed on both sides when half of it was durable.
fn killed(scratch: &Scratch) -> (Setup, String) {
    let mut tree = Tree::new(&scratch.join("source"), 4);
    tree.small("a");
    tree.file("large", &Content::Random(LARGE_BYTES));
    let source = tree.finish();
    let mut setup = Setup::new(scratch, "run", &[&source], Listens::Receiver);
    setup.sender_options = vec!["--limit".into(), "20MB".into()];
    let mut live = setup.start();
    let is_half = live.side(Side::Receiver).wait_until("progress", PATIENT, |receiver| {
        let events = receiver.stdout();
        let verified = events.lines().filter_map(|line| line.split_once("\"verified_bytes\":")?.1.split_once(','));
        verified.filter_map(|(bytes, _)| bytes.parse::<u64>().ok()).any(|bytes| bytes > LARGE_BYTES / 3)
    });
    assert!(is_half, "{}", live.receiver.describe("ended"));
    live.kill_both();
    setup.sender_options.clear();
    let status = landfall(&setup.receiver_home, &["status", "--json"]).run();
    let id = status.events()[0]["id"].as_str().unwrap().to_owned();
    (setup, id)
}

fn landfall(home: &Path, words: &[&str]) -> Landfall {
    Landfall::new("again", home).args(words)
}

fn moved_bytes(sender: &Finished) -> u64 {
    sender.summary().unwrap()["wire_bytes"].as_u64().unwrap()
}

#[test]
fn a_listener_that_moved_is_found_where_it_says() {
    let scratch = Scratch::new("again-peer");
    let (setup, id) = killed(&scratch);
    let address = free_address().to_string();
    let words = ["recv", setup.target.to_str().unwrap(), "--listen", &address, "--yes", "--json"];
    let mut receiver = landfall(&setup.receiver_home, &words).start();
    let says = format!("`landfall resume {} --peer {address}` there", &id[..8]);
    assert!(receiver.wait_until("where it is", PATIENT, |receiver| receiver.stderr().contains(&says)));
    let sender = landfall(&setup.sender_home, &["resume", &id[..8], "--peer", &address, "--json"]).start();
    let done = Live { sender, receiver }.wait(PATIENT);
    done.assert_success();
    assert!(moved_bytes(&done.sender) < LARGE_BYTES * 3 / 4, "{}", done.describe());
    assert_arrived(&setup.sources[0], &setup.target);
    // Only who dials can be told where to.
    let scratch = Scratch::new("again-peer-not");
    let (setup, id) = killed(&scratch);
    let refused = landfall(&setup.receiver_home, &["resume", &id, "--peer", &address]).run();
    assert_eq!(refused.code(), Some(2), "{}", refused.describe());
    assert!(refused.stderr_text().contains("`--peer` has no use here"), "{}", refused.describe());
}

#[test]
fn a_sender_that_lost_its_key_gets_a_new_ticket_and_sends_what_is_missing() {
    let scratch = Scratch::new("again-ticket");
    let (mut setup, id) = killed(&scratch);
    let refused = landfall(&setup.sender_home, &["resume", &id, "--new-ticket"]).run();
    assert_eq!(refused.code(), Some(2), "{}", refused.describe());
    assert!(refused.stderr_text().contains("`--new-ticket` has no use here"), "{}", refused.describe());
    let old = std::fs::read(setup.ticket()).unwrap();
    setup.sender_home = scratch.dir("another-home");
    let receiver = landfall(&setup.receiver_home, &["resume", &id, "--new-ticket", "--json"]).start();
    let mut receiver = receiver;
    let is_new = || std::fs::read(setup.ticket()).is_ok_and(|ticket| ticket != old);
    assert!(receiver.wait_until("a new ticket", PATIENT, |_| is_new()), "{}", receiver.describe("ended"));
    let sender = setup.command(Side::Sender).start();
    let done = Live { sender, receiver }.wait(PATIENT);
    done.assert_success();
    assert!(moved_bytes(&done.sender) < LARGE_BYTES * 3 / 4, "{}", done.describe());
    assert_arrived(&setup.sources[0], &setup.target);
}
