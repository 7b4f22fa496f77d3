//! Refusals that need two sides: a wrong, taken or foreign ticket, equal roles, a wrong key, silence, signals, locks.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::facility;
use crate::common::process::{Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::state;
use crate::common::transfer::{self, BOTH_DIRECTIONS, Listens, Setup, Side};
use crate::common::trees;
use crate::texts;

#[test]
fn a_taken_ticket_is_refused_to_any_other_key() {
    let scratch = Scratch::new("taken");
    let source = trees::medley(&scratch.join("source"), 1);
    for listens in BOTH_DIRECTIONS {
        let mut setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.through_relay(1).rate(4 << 20);
        let mut live = setup.start();
        let is_taken = live.sender.wait_until("bytes on the wire", PATIENT, |_| setup.relay().all_bytes() > 1 << 20);
        assert!(is_taken, "{}", live.sender.describe("ended"));
        let home = scratch.dir(&format!("thief-{listens:?}"));
        let thief = Landfall::new("thief", &home);
        let thief = match listens {
            Listens::Receiver => thief.arg("send").arg(&source),
            Listens::Sender => thief.arg("recv").arg(scratch.join("stolen")),
        };
        let refused = thief.arg("--ticket-file").arg(setup.dialled_ticket()).args(["--json", "--yes"]).run();
        refused.assert_code(4);
        let name = format!("taken-{}", if listens == Listens::Receiver { "send" } else { "recv" });
        texts::assert_error(&name, &scratch, &refused, &[]);
        let error = refused.events().pop().unwrap();
        assert_eq!((error["event"].as_str(), error["exit"].as_i64()), (Some("error"), Some(4)), "{error}");
        setup.relay().rate(0);
        let done = live.wait(PATIENT);
        done.assert_success();
        let listener = if listens == Listens::Receiver { &done.receiver } else { &done.sender };
        assert!(listener.text().contains("refused"), "the listener says it too\n{}", listener.describe());
        transfer::assert_arrived(&source, &setup.target);
        assert!(!scratch.join("stolen/source").exists());
    }
}

#[test]
fn equal_roles_are_refused_before_dialling() {
    let scratch = Scratch::new("roles");
    let source = trees::directories(&scratch.join("source"), 1);
    for listens in BOTH_DIRECTIONS {
        let setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        let listener = setup.listener().wait_for_ticket(&setup.ticket());
        let other = Landfall::new("same role", &scratch.join("home"));
        let other = match listens {
            Listens::Receiver => other.arg("recv").arg(scratch.join("in")),
            Listens::Sender => other.arg("send").arg(&source),
        };
        let refused = other.arg("--ticket-file").arg(setup.ticket()).run();
        refused.assert_code(2);
        let name = format!("roles-{}", if listens == Listens::Receiver { "recv" } else { "send" });
        texts::assert_error(&name, &scratch, &refused, &[]);
        let finished = listener.kill();
        assert!(finished.was_killed() && !finished.text().contains("connected"), "{}", finished.describe());
    }
}

#[test]
fn a_ticket_with_a_changed_letter_is_refused_by_its_check() {
    let scratch = Scratch::new("letter");
    let source = trees::directories(&scratch.join("source"), 1);
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    let listener = setup.listener().wait_for_ticket(&setup.ticket());
    let ticket = std::fs::read_to_string(setup.ticket()).unwrap().trim().to_owned();
    for at in [ticket.len() / 2, ticket.len() - 1, 12] {
        let mut bytes = ticket.clone().into_bytes();
        bytes[at] = if bytes[at].eq_ignore_ascii_case(&b'a') { b'b' } else { b'a' };
        let changed = String::from_utf8(bytes).unwrap();
        let command = Landfall::new("changed", &scratch.join("home")).arg("send").arg(&source).arg("--ticket");
        let refused = command.input(changed.clone() + "\n").run();
        refused.assert_code(2);
        texts::assert_error("changed-letter", &scratch, &refused, &[]);
        assert!(!refused.text().contains(&changed), "a ticket is a secret");
    }
    let by_variable = Landfall::new("by variable", &setup.sender_home).arg("send").arg(&source).arg("--ticket");
    by_variable.env("LANDFALL_TICKET", &ticket).run().assert_code(0);
    listener.wait(PATIENT).assert_code(0);
}

/// The ticket of one installation, and another installation at its address.
#[test]
fn a_wrong_key_at_the_address_is_refused() {
    let scratch = Scratch::new("key");
    let source = trees::directories(&scratch.join("source"), 1);
    let address = transfer::free_address().to_string();
    let listen = |home: &str| {
        let command = Landfall::new(home, &scratch.join(home)).arg("recv").arg(scratch.join(&format!("{home}-in")));
        let ticket = scratch.join(&format!("{home}-ticket"));
        let command = command.args(["--listen", &address, "--yes"]).arg("--write-ticket").arg(&ticket);
        command.start().wait_for_ticket(&ticket)
    };
    listen("true").kill();
    let impostor = listen("false");
    let command = Landfall::new("sender", &scratch.join("home")).arg("send").arg(&source).arg("--ticket-file");
    let refused = command.arg(scratch.join("true-ticket")).args(["--patience", "5s", "--json"]).run();
    refused.assert_code(4);
    texts::assert_error("wrong-key", &scratch, &refused, &[]);
    assert!(!scratch.join("false-in/source").exists());
    impostor.kill();
}

#[test]
fn a_peer_that_says_nothing_is_unknown_not_failed() {
    let scratch = Scratch::new("mute");
    let source = trees::directories(&scratch.join("source"), 1);
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.listener().wait_for_ticket(&setup.ticket()).kill();
    let start = Instant::now();
    let command = setup.command(Side::Sender).args(["--patience", "3s"]);
    let finished = command.run();
    finished.assert_code(3);
    assert!((2..30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    texts::assert_error("silent", &scratch, &finished, &[]);
}

#[test]
fn noise_at_the_listener_changes_nothing() {
    let scratch = Scratch::new("noise");
    let source = trees::medley(&scratch.join("source"), 1);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1);
    let listener = setup.listener();
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..2000u32 {
        let mut datagram = vec![0xc0 | (number % 64) as u8; 1200];
        datagram[1..5].copy_from_slice(&if number % 2 == 0 { [0, 0, 0, 1] } else { number.to_le_bytes() });
        noise.send_to(&datagram, setup.relay().address()).unwrap();
    }
    let sender = setup.command(Side::Sender).start();
    transfer::Live { sender, receiver: listener }.wait(PATIENT).assert_success();
    transfer::assert_arrived(&source, &setup.target);
}

#[test]
fn signals_have_their_codes_and_keep_the_work() {
    let scratch = Scratch::new("signals");
    let source = trees::medley(&scratch.join("source"), 1);
    for (number, (signal, code)) in
        [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)].into_iter().enumerate()
    {
        if facility::is_ignored(signal) {
            facility::say(&format!("skipped: needs {signal:?}, which is ignored here"));
            continue;
        }
        for victim in [Side::Sender, Side::Receiver] {
            let mut setup = Setup::new(&scratch, &format!("run-{number}-{victim:?}"), &[&source], Listens::Receiver);
            setup.through_relay(1).rate(4 << 20);
            let mut live = setup.start();
            let is_under_way = live.sender.wait_until("bytes", PATIENT, |_| setup.relay().all_bytes() > 1 << 20);
            assert!(is_under_way, "{}", live.sender.describe("ended"));
            assert!(live.side(victim).signal(signal));
            let start = Instant::now();
            let (stopped, other) = match victim {
                Side::Sender => (live.sender, live.receiver),
                Side::Receiver => (live.receiver, live.sender),
            };
            let stopped = stopped.wait(Duration::from_secs(10));
            stopped.assert_code(code);
            texts::assert_error(&format!("signal-{code}"), &scratch, &stopped, &[]);
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
            setup.relay().rate(0);
            let again = setup.command(victim).start();
            let live = match victim {
                Side::Sender => transfer::Live { sender: again, receiver: other },
                Side::Receiver => transfer::Live { sender: other, receiver: again },
            };
            live.wait(PATIENT).assert_success();
            transfer::assert_arrived(&source, &setup.target);
        }
    }
}

#[test]
fn a_second_process_says_who_is_at_work() {
    let scratch = Scratch::new("locked");
    let source = trees::medley(&scratch.join("source"), 1);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(1 << 20);
    let mut live = setup.start();
    let is_under_way = live.sender.wait_until("bytes", PATIENT, |_| setup.relay().all_bytes() > 1 << 19);
    assert!(is_under_way, "{}", live.sender.describe("ended"));
    for side in [Side::Sender, Side::Receiver] {
        let holder = live.side(side).id().to_string();
        let second = setup.command(side).run();
        second.assert_code(3);
        let name = format!("locked-{}", format!("{side:?}").to_lowercase());
        texts::assert_error(&name, &scratch, &second, &[(&holder, "PID")]);
    }
    let stranger = Landfall::new("stranger", &scratch.join("home")).arg("recv").arg(&setup.target);
    let stranger = stranger.args(["--listen", "127.0.0.1:0", "--yes"]).run();
    stranger.assert_code(3);
    texts::assert_error("locked-target", &scratch, &stranger, &[(&live.receiver.id().to_string(), "PID")]);
    setup.relay().rate(0);
    live.wait(PATIENT).assert_success();
}

#[test]
fn a_port_in_use_is_named_and_the_state_kept() {
    let scratch = Scratch::new("port");
    let blocker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = blocker.local_addr().unwrap().to_string();
    let command = Landfall::new("recv", &scratch.join("home")).arg("recv").arg(scratch.join("in"));
    let finished = command.args(["--listen", &address, "--yes"]).run();
    finished.assert_code(3);
    texts::assert_error("port-in-use", &scratch, &finished, &[]);
}

#[test]
fn status_tells_what_is_under_way() {
    let scratch = Scratch::new("status");
    let source = trees::medley(&scratch.join("source"), 1);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1).rate(8 << 20);
    let mut live = setup.start();
    let is_under_way = live.sender.wait_until("bytes", PATIENT, |_| setup.relay().all_bytes() > 4 << 20);
    assert!(is_under_way, "{}", live.sender.describe("ended"));
    live.kill_both();
    for home in [&setup.sender_home, &setup.receiver_home] {
        let status = Landfall::new("status", home).arg("status").run();
        status.assert_code(0);
        assert!(!status.stdout.is_empty(), "{}", status.describe());
    }
    let status = Landfall::new("status", &setup.receiver_home).arg("status").arg(&setup.target).run();
    status.assert_code(0);
    assert!(!status.stdout.is_empty(), "{}", status.describe());
}

/// Killed between its receipt and the end of its record, a side comes back when somebody else has the other's port.
#[test]
fn a_side_that_holds_its_receipt_answers_also_where_a_stranger_has_the_others_port() {
    let scratch = Scratch::new("stranger");
    let source = trees::medley(&scratch.join("source"), 1);
    for listens in BOTH_DIRECTIONS {
        let mut setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.sender_options = vec!["--limit".to_owned(), "8MB".to_owned()];
        let (dialler, role) = match setup.dialling_side() {
            Side::Sender => (setup.sender_home.clone(), "sender"),
            Side::Receiver => (setup.receiver_home.clone(), "receiver"),
        };
        let mut live = setup.start();
        let places = setup.places(usize::MAX);
        let is_under_way = live.sender.wait_until("staged bytes", PATIENT, |_| places.look().staging_files > 0);
        assert!(is_under_way, "{}", live.sender.describe("ended"));
        let record = state::entries(&dialler.join("transfers"))[0].join(role).join("transfer");
        let open = std::fs::read(&record).unwrap();
        let done = live.wait(PATIENT);
        done.assert_success();
        assert_ne!(std::fs::read(&record).unwrap(), open, "its end is on record");
        std::fs::write(&record, &open).unwrap();
        let met = if role == "sender" { &done.sender } else { &done.receiver };
        let met = met.events().into_iter().find(|event| event["event"] == "connected").unwrap();
        let ticket = scratch.join(&format!("strange-ticket-{role}"));
        let stranger = Landfall::new("stranger", &scratch.dir(&format!("strange-home-{role}")));
        let stranger = match listens {
            Listens::Receiver => stranger.arg("recv").arg(scratch.join("strange")),
            Listens::Sender => stranger.arg("send").arg(&source),
        };
        let stranger = stranger.args(["--yes", "--listen", met["address"].as_str().unwrap()]).arg("--write-ticket");
        let stranger = stranger.arg(&ticket).start().wait_for_ticket(&ticket);
        let answer = setup.command(setup.dialling_side()).run();
        answer.assert_code(0);
        assert_eq!(answer.summary().unwrap()["role"], role, "{}", answer.describe());
        assert!(stranger.kill().was_killed());
        transfer::assert_arrived(&source, &setup.target);
    }
}
