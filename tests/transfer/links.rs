//! Links that lose, change, double, delay and go silent: the transfer ends as over a good one.

use std::time::{Duration, Instant};

use fault_inject::rng::Odds;

use crate::common::process::{PATIENT, Running};
use crate::common::relay::Relay;
use crate::common::scratch::Scratch;
use crate::common::seed::Seed;
use crate::common::transfer::{self, BOTH_DIRECTIONS, Listens, Setup, Side};
use crate::common::tree::{Content, Tree};
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
fn a_limit_of_either_side_holds_and_a_rerun_goes_without() {
    const BYTES: u64 = 3_000_000;
    let scratch = Scratch::new("limit");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(BYTES));
    let source = tree.finish();
    for side in [Side::Sender, Side::Receiver] {
        let mut setup = Setup::new(&scratch, &format!("{side:?}"), &[&source], Listens::Receiver);
        let options = if side == Side::Sender { &mut setup.sender_options } else { &mut setup.receiver_options };
        options.extend(["--limit".into(), "300kB/s".into()]);
        let started = Instant::now();
        let mut live = setup.start();
        // Ten seconds at that rate, less what the pace of one burst and the receiver's first window let through.
        let is_begun = live.receiver.wait_until("a megabyte", PATIENT, |receiver| {
            receiver.stdout().lines().any(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                event["wire_bytes"].as_u64().is_some_and(|bytes| bytes >= 1 << 20)
            })
        });
        assert!(is_begun);
        let took = started.elapsed().as_secs_f64();
        assert!(took > 3.0, "{took} s for a chunk of 1,048,576 bytes at 300 kB/s at the {side:?}");
        live.kill_both();
        let options = if side == Side::Sender { &mut setup.sender_options } else { &mut setup.receiver_options };
        options.truncate(options.len() - 2);
        setup.restart().wait(PATIENT).assert_success();
        transfer::assert_arrived(&source, &setup.target);
    }
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

#[test]
fn a_link_that_is_dead_one_way_is_given_up_by_the_side_that_still_hears() {
    let scratch = Scratch::new("one-way");
    let source = trees::medley(&scratch.join("source"), 1);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(6 << 20);
    let mut live = setup.start();
    assert!(live.sender.wait_until("some of it", PATIENT, |_| setup.relay().all_bytes() > 4 << 20));
    setup.relay().proxy().turn(|dials| dials.to_listener.drop = Odds::per_million(1_000_000));
    // The receiver is heard until its idle timeout of 20 s is over: going by its own silence, this side took 40 s.
    let is_lost = |sender: &Running| sender.stdout().contains("\"link-lost\"");
    assert!(live.sender.wait_until("the loss", Duration::from_secs(33), is_lost), "{}", live.sender.describe("runs"));
    assert!(setup.relay().harmed() > 5, "{} datagrams were lost", setup.relay().harmed());
    setup.relay().proxy().turn(|dials| dials.to_listener.drop = Odds::per_million(0));
    live.wait(PATIENT).assert_success();
    transfer::assert_arrived(&source, &setup.target);
}
