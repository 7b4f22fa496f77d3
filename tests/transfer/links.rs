//! Links that lose, change, double, delay and go silent: the transfer ends as over a good one.

use std::time::Duration;

use crate::common::process::PATIENT;
use crate::common::relay::Relay;
use crate::common::scratch::Scratch;
use crate::common::seed::Seed;
use crate::common::transfer::{self, BOTH_DIRECTIONS, Listens, Setup};
use crate::common::trees;

/// A link is bad from before the first datagram on; the tree arrives all the same.
fn arrives_over(name: &'static str, spoil: impl Fn(&Relay)) {
    let seed = Seed::of("transfer", name);
    let scratch = Scratch::new(name);
    let source = trees::medley(&scratch.join("source"), seed.value);
    for listens in BOTH_DIRECTIONS {
        let mut setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        let relay = setup.through_relay(seed.value);
        spoil(relay);
        setup.start().wait(2 * PATIENT).assert_success();
        assert!(setup.relay().harmed() > 20, "the link was bad: {} datagrams harmed", setup.relay().harmed());
        transfer::assert_arrived(&source, &setup.target);
    }
}

#[test]
fn a_tree_arrives_over_a_link_that_loses() {
    arrives_over("a_tree_arrives_over_a_link_that_loses", |relay| relay.drop_permille(20));
}

#[test]
fn a_tree_arrives_over_a_link_that_changes_bits() {
    arrives_over("a_tree_arrives_over_a_link_that_changes_bits", |relay| relay.corrupt_permille(20));
}

#[test]
fn a_tree_arrives_over_a_link_that_doubles_and_delays() {
    arrives_over("a_tree_arrives_over_a_link_that_doubles_and_delays", |relay| {
        relay.duplicate_permille(200);
        relay.delay(Duration::from_millis(15));
    });
}

#[test]
fn a_silence_longer_than_any_timeout_only_interrupts() {
    let scratch = Scratch::new("silence");
    let source = trees::medley(&scratch.join("source"), 1);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    let relay = setup.through_relay(1);
    relay.silence_after(4 << 20);
    let mut live = setup.start();
    let is_silent = live.sender.wait_until("silence", Duration::from_secs(30), |_| setup.relay().is_silent());
    assert!(is_silent, "{}", live.sender.describe("ended"));
    std::thread::sleep(Duration::from_secs(4));
    let said = live.sender.stderr() + &live.receiver.stderr() + &live.sender.stdout() + &live.receiver.stdout();
    assert!(said.contains("wait"), "says within three seconds who waits for whom:\n{said}");
    std::thread::sleep(Duration::from_secs(22));
    // The listener's own address came with its hello: the dialler may have gone on there, past the relay.
    setup.relay().speak();
    let done = live.wait(PATIENT);
    done.assert_success(); // a silent peer is not a dead peer
    assert!(done.sender.stdout_text().contains("link-lost"), "the silence was noticed\n{}", done.describe());
    transfer::assert_arrived(&source, &setup.target);
}
