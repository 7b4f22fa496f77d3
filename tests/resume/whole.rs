//! Whole stories: finished transfers that are run again, and a large real tree with six kills on the way.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::process::Landfall;
use crate::common::scratch::Scratch;
use crate::common::transfer::{self, BOTH_DIRECTIONS, Listens, Live, Setup, Side};
use crate::common::{facility, oracle, state, trees};

#[test]
fn a_finished_ticket_answers_from_the_receipt() {
    let scratch = Scratch::new("finished");
    let source = trees::medley(&scratch.join("source"), 1);
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.run().assert_success();
    let receipt = fs::read(&state::receipts(&setup.sender_home)[0]).unwrap();
    let again = setup.command(Side::Sender).run();
    again.assert_code(0);
    assert_eq!(fs::read(&state::receipts(&setup.sender_home)[0]).unwrap(), receipt, "the same receipt");
    fs::write(source.join("zero"), "no longer empty").unwrap();
    let changed = setup.command(Side::Sender).run();
    changed.assert_code(1);
    assert!(changed.text().contains("finished"), "{}", changed.describe());
}

#[test]
fn resume_without_anything_open_has_nothing_to_do() {
    let scratch = Scratch::new("nothing-open");
    let finished = Landfall::new("resume", &scratch.dir("home")).arg("resume").run();
    assert!(finished.code().is_some_and(|code| code == 0 || code == 2), "{}", finished.describe());
    assert!(!finished.stderr.is_empty() || !finished.stdout.is_empty(), "it says so");
}

#[test]
fn resume_continues_either_side_without_the_old_command() {
    let scratch = Scratch::new("by-resume");
    let source = trees::medley(&scratch.join("source"), 1);
    for listens in BOTH_DIRECTIONS {
        let mut setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.through_relay(1).rate(8 << 20);
        let places = setup.places(usize::MAX);
        let mut live = setup.start();
        let is_under_way = live.receiver.wait_until("claims", Duration::from_secs(60), |_| {
            places.look().journal_bytes > 100 && setup.relay().all_bytes() > 4 << 20
        });
        assert!(is_under_way, "{}", live.receiver.describe("ended"));
        live.kill_both();
        setup.relay().rate(0);
        let sender = setup.resume_command(Side::Sender).start();
        let receiver = setup.resume_command(Side::Receiver).start();
        Live { sender, receiver }.wait(crate::RESUME_PATIENCE).assert_success();
        transfer::assert_arrived(&source, &setup.target);
    }
}

/// The tree of the last test: `LANDFALL_TEST_TREE`, else the installed Rust toolchain.
fn large_tree() -> PathBuf {
    let named = std::env::var_os("LANDFALL_TEST_TREE").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let printed = facility::run("rustc", &["--print", "sysroot"]).unwrap();
        PathBuf::from(String::from_utf8(printed).unwrap().trim())
    })
}

/// Kills each side three times on the way. Takes minutes:
/// `cargo test --release --test resume -- --ignored a_real_tree_survives_six_kills`.
#[test]
#[ignore = "moves a tree of more than a gigabyte"]
fn a_real_tree_survives_six_kills() {
    let scratch = Scratch::new("six-kills");
    let source = large_tree();
    let wanted = oracle::snapshot(&source);
    let total_bytes: u64 = wanted.values().map(|node| node.size_bytes).sum();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1);
    let places = setup.places(usize::MAX);
    let mut live = setup.start();
    let mut steps = Vec::new();
    for number in 1..=6 {
        let until = total_bytes / 8 * number;
        let victim = if number % 2 == 0 { Side::Sender } else { Side::Receiver };
        let is_there = live
            .side(victim)
            .wait_until("bytes on the wire", Duration::from_secs(600), |_| setup.relay().all_bytes() > until);
        assert!(is_there, "{}", live.side(victim).describe("ended"));
        live = live.kill_and_restart(victim, &setup, || steps.push(places.step(&places.look())));
    }
    let done = live.wait(Duration::from_secs(900));
    done.assert_success();
    let arrived = setup.target.join(source.file_name().unwrap());
    oracle::assert_matches(&wanted, &arrived, &oracle::Rules::default());
    state::assert_no_work_left(&setup.target);
    transfer::assert_receipt_verifies(&setup);
    let crossed = setup.relay().all_bytes();
    let peaks = (done.sender.peak_bytes >> 20, done.receiver.peak_bytes >> 20);
    let count = wanted.len();
    facility::say(&format!(
        "six kills at {steps:?}: {count} entries, {total_bytes} bytes, {crossed} bytes crossed, peaks {peaks:?} MiB"
    ));
}
