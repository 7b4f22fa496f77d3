//! `landfall limit`: a running transfer is slowed down and let go from another terminal, whichever side runs here.

use std::path::Path;
use std::time::Duration;

use crate::common::process::{Finished, Landfall, PATIENT, Running};
use crate::common::scratch::Scratch;
use crate::common::transfer::{self, BOTH_DIRECTIONS, Setup, Side};
use crate::common::tree::{Content, Tree};

const MIB: u64 = 1 << 20;

fn landfall(home: &Path, words: &[&str]) -> Finished {
    Landfall::new("limit", home).args(words).run()
}

fn id(home: &Path) -> String {
    let status = landfall(home, &["status", "--json"]);
    status.events()[0]["id"].as_str().unwrap().to_owned()
}

fn tree(scratch: &Scratch, bytes: u64) -> std::path::PathBuf {
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(bytes));
    tree.finish()
}

/// Bytes of chunks that a side says it has moved so far.
fn wire_bytes(side: &Running) -> u64 {
    let events = side.stdout();
    let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["wire_bytes"].as_u64();
    events.lines().filter_map(of).next_back().unwrap_or(0)
}

#[test]
fn a_running_side_is_slowed_down_and_let_go() {
    let scratch = Scratch::new("limit-running");
    let source = tree(&scratch, 96 * MIB);
    for (side, listens) in [Side::Sender, Side::Receiver].into_iter().zip(BOTH_DIRECTIONS) {
        let mut setup = Setup::new(&scratch, &format!("{side:?}"), &[&source], listens);
        let (options, home) = match side {
            Side::Sender => (&mut setup.sender_options, setup.sender_home.clone()),
            Side::Receiver => (&mut setup.receiver_options, setup.receiver_home.clone()),
        };
        options.extend(["--limit".into(), "4MB".into()]);
        let mut live = setup.start();
        assert!(live.side(side).wait_until("some of it", PATIENT, |side| wire_bytes(side) >= 4 * MIB));
        let slower = landfall(&home, &["limit", &id(&home)[..8], "20kB"]);
        slower.assert_code(0);
        assert!(slower.stdout_text().contains("limited to 19.5 KiB a second"), "{}", slower.describe());
        // What was on its way between the two is past the limit soon, and a figure comes twice a second.
        std::thread::sleep(Duration::from_millis(1500));
        let before = wire_bytes(live.side(side));
        std::thread::sleep(Duration::from_secs(4));
        let moved = wire_bytes(live.side(side)) - before;
        assert!(moved <= 2 * MIB, "{moved} bytes in four seconds: 80,000 at that limit, 16,000,000 at the one before");
        landfall(&home, &["limit", &id(&home), "none"]).assert_code(0);
        let done = live.wait(PATIENT);
        done.assert_success();
        let said = if side == Side::Sender { &done.sender } else { &done.receiver };
        let notices: Vec<_> = said.events().into_iter().filter(|event| event["kind"] == "limited").collect();
        assert_eq!((notices.len(), notices[0]["bytes_per_s"].as_u64()), (2, Some(20_000)), "{}", said.describe());
        assert!(notices[1].get("bytes_per_s").is_none(), "{}", said.describe());
        transfer::assert_arrived(&source, &setup.target);
        // It is over, and no file waits for anybody.
        let late = landfall(&home, &["limit", &id(&home), "1MB"]);
        late.assert_code(2);
        assert!(late.stderr_text().contains("no process on this machine works on transfer"), "{}", late.describe());
    }
}

#[test]
fn a_limit_reaches_the_other_side_that_was_started_here_and_no_later_run() {
    let scratch = Scratch::new("limit-child");
    let source = tree(&scratch, 48 * MIB);
    let (home, target) = (scratch.join("home"), scratch.join("in"));
    let (from, to) = (source.to_str().unwrap(), target.to_str().unwrap());
    let words = ["send", from, "--to", to, "--json"];
    // Without what follows this takes 40 minutes.
    let slow = || Landfall::new("slow", &home).args(words).args(["--limit", "20kB"]).start();
    let is_linked = |running: &Running| running.stdout().contains("\"connected\"");
    let mut running = slow();
    assert!(running.wait_until("a link", PATIENT, is_linked));
    let limited = landfall(&home, &["limit", &id(&home), "30kB"]);
    limited.assert_code(0);
    let text = limited.stdout_text();
    assert!(text.contains("sender: limited to") && text.contains("receiver: limited to"), "{text}");
    assert!(running.kill().was_killed());
    let stopped = landfall(&home, &["limit", &id(&home), "1MB"]);
    stopped.assert_code(2);
    let hint = format!("hint: `landfall resume {} --limit RATE`", &id(&home)[..8]);
    assert!(stopped.stderr_text().contains(&hint), "{}", stopped.describe());

    let mut running = slow();
    assert!(running.wait_until("a link", PATIENT, is_linked));
    landfall(&home, &["limit", &id(&home), "none"]).assert_code(0);
    running.wait(PATIENT).assert_code(0);
    transfer::assert_arrived(&source, &target);
}

#[test]
fn a_process_that_does_not_answer_is_named() {
    let scratch = Scratch::new("limit-stopped");
    let source = tree(&scratch, MIB);
    let setup = Setup::new(&scratch, "run", &[&source], BOTH_DIRECTIONS[0]);
    let mut listener = setup.listener().wait_for_ticket(&setup.ticket());
    let home = &setup.receiver_home;
    landfall(home, &["limit", &id(home), "1MB"]).assert_code(0);
    assert!(listener.signal(rustix::process::Signal::STOP));
    let unheard = landfall(home, &["limit", &id(home), "2MB"]);
    unheard.assert_code(3);
    let text = format!("process {} has not taken the limit yet; it will when it goes on", listener.id());
    assert!(unheard.stderr_text().contains(&text), "{}", unheard.describe());
    assert!(listener.signal(rustix::process::Signal::CONT));
    let heard = |listener: &Running| listener.stdout().contains("\"bytes_per_s\":2000000");
    assert!(listener.wait_until("the limit", PATIENT, heard));
    listener.kill();
}
