//! A receiver that lies: it wants what was never offered, signs what it did not get, replays what was signed for
//! another, and breaks the order of what it says. The sender serves its own offer and nothing else, and never ends
//! well without a receipt that agrees with its own manifest.

use std::num::NonZeroU16;

use landfall::digest::{ChainValue, OutcomeDigest};
use landfall::geometry::EntryIndex;
use landfall::identity::{PeerKey, TransferId};
use landfall::limits::{FRAME_BYTES_MAX, WANT_RUNS_MAX};
use landfall::manifest::Position;
use landfall::outcome::{Outcome, Reason};
use landfall::path::RelPath;
use landfall::receipt::Core;
use landfall::wire::{Exception, Hello, Message, Place, Progress, Retry, Stop, StopReason, Want, WantRun};

use super::act::{Act, Signer};
use super::stage::{SOURCE, Script};
use super::words::{number, over_the_limit};
use super::{Case, case};

const BROKEN: &str = "the receiver broke the protocol";
const FORGED: &str = "the receiver broke the protocol: its receipt is not its own";
const DIFFERS: &str = "receipt does not agree";
const GONE: &str = "no link to the receiver";

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let mut all = honest();
    all.extend(forged());
    all.extend(wants());
    all.extend(out_of_place());
    all.extend(frames());
    all.extend(ladders());
    all.extend(leavings());
    all
}

fn learnt() -> Vec<Act> {
    vec![Act::Hello, Act::Learn]
}

/// Controls: with nothing hostile in it a script ends well, so that what the others meet is their lie.
fn honest() -> Vec<Case> {
    let fetched = [
        learnt(),
        vec![Act::Want { entry: 0, first: 0, count: 1 }, Act::Fetch(SOURCE.to_vec()), Act::Hostile],
        vec![Act::Receipt(|_| (), Signer::Own), Act::AwaitAcknowledge],
    ];
    let script = Script::against_sender(fetched.concat()).ends(&[0], "");
    vec![
        case("control-honest-receiver", 22, script.clone()),
        case("control-honest-receiver-dialled", 22, script.dialled()),
    ]
}

type Change = fn(&mut Core);

fn forged() -> Vec<Case> {
    let lies: [(&str, Change, &str); 14] = [
        ("of-another-transfer", |core| core.transfer = TransferId([9; 16]), FORGED),
        ("of-another-sender", |core| core.sender = PeerKey([9; 32]), FORGED),
        ("of-another-receiver", |core| core.receiver = PeerKey([9; 32]), FORGED),
        ("of-version-0", |core| core.version = 0, FORGED),
        ("of-version-2", |core| core.version = 2, FORGED),
        ("of-version-u16", |core| core.version = u16::MAX, FORGED),
        ("of-another-outcome", |core| core.outcome = OutcomeDigest([9; 32]), DIFFERS),
        ("of-no-outcome", |core| core.outcome = OutcomeDigest([0; 32]), DIFFERS),
        ("of-fewer-files", |core| core.delivered_files = 0, DIFFERS),
        ("of-u64-files", |core| core.delivered_files = u64::MAX, DIFFERS),
        ("of-fewer-bytes", |core| core.delivered_bytes -= 1, DIFFERS),
        ("of-u64-bytes", |core| core.delivered_bytes = u64::MAX, DIFFERS),
        ("of-something-left-out", |core| core.left_out = 1, DIFFERS),
        ("of-something-kept", |core| core.kept = u64::MAX, DIFFERS),
    ];
    let mut all = vec![];
    for (name, change, says) in lies {
        let acts = [learnt(), vec![Act::Hostile, Act::Receipt(change, Signer::Own)]].concat();
        all.push(case(format!("receipt-{name}"), 22, Script::against_sender(acts.clone()).ends(&[1], says)));
        all.push(case(format!("receipt-{name}-dialled"), 22, Script::against_sender(acts).dialled().ends(&[1], says)));
    }
    for (name, signer) in [("by-another-key", Signer::Other), ("by-nobody", Signer::Nobody)] {
        let acts = [learnt(), vec![Act::Hostile, Act::Receipt(|_| (), signer)]].concat();
        all.push(case(format!("receipt-signed-{name}"), 20, Script::against_sender(acts).ends(&[1], FORGED)));
    }
    // What a screen would show of a receipt that is right in all that counts.
    let loud: Change = |core| {
        core.receiver_host = "\u{1b}[2Jowned\r\n\u{202e}".repeat(8);
        core.receiver_version = "\u{9b}31m\u{7}".to_owned();
    };
    let acts = [learnt(), vec![Act::Hostile, Act::Receipt(loud, Signer::Own), Act::AwaitAcknowledge]].concat();
    all.push(case("receipt-with-a-loud-host", 9, Script::against_sender(acts).ends(&[0], "")));
    let raw = |core: Vec<u8>, length: usize| {
        let message = Message::Receipt { core, signature: vec![1; length] };
        [learnt(), vec![Act::Hostile, Act::Say(message)]].concat()
    };
    for (name, core) in [("of-no-bytes", vec![]), ("of-zeros", vec![0; 200]), ("of-ones", vec![0xff; 60_000])] {
        all.push(case(format!("receipt-{name}"), 12, Script::against_sender(raw(core, 64)).ends(&[1], FORGED)));
    }
    for length in [0, 63, 65, 1000] {
        let script = Script::against_sender(raw(vec![1; 100], length)).ends(&[1], BROKEN);
        all.push(case(format!("receipt-signed-with-{length}-bytes"), 12, script));
    }
    let early = vec![Act::Hello, Act::Hostile, Act::Receipt(|_| (), Signer::Own)];
    all.push(case("receipt-before-the-manifest", 22, Script::against_sender(early).ends(&[1], "receipt")));
    let twice = Act::Repeat(2, Box::new(Act::Receipt(|core| core.kept = 1, Signer::Own)));
    let twice = [learnt(), vec![Act::Hostile, twice]].concat();
    all.push(case("receipt-twice", 22, Script::against_sender(twice).ends(&[1], "")));
    all
}

fn want(runs: Vec<WantRun>, through: u32) -> Act {
    Act::Say(Message::Want(Want { considered_through: Place { entry: through, chunk: u32::MAX }, runs }))
}

fn wants() -> Vec<Case> {
    let run = |entry, first, count| WantRun { entry: EntryIndex(entry), first, count };
    let refused = [
        ("an-entry-never-offered", vec![run(1, 0, 1)]),
        ("entry-u32", vec![run(u32::MAX, 0, 1)]),
        ("a-chunk-beyond-the-file", vec![run(0, 1, 1)]),
        ("chunk-u32", vec![run(0, u32::MAX, 1)]),
        ("one-chunk-too-many", vec![run(0, 0, 2)]),
        ("count-u32", vec![run(0, 0, u32::MAX)]),
        ("everything-u32", vec![run(u32::MAX, u32::MAX, u32::MAX)]),
        ("two-that-overflow", vec![run(0, 0, u32::MAX), run(0, 0, u32::MAX)]),
        ("the-same-chunk-4096-times", vec![run(0, 0, 1); WANT_RUNS_MAX]),
        ("one-run-too-many", vec![run(0, 0, 1); WANT_RUNS_MAX + 1]),
        ("a-run-that-wraps", vec![run(0, u32::MAX, 2)]),
    ];
    let mut all = vec![];
    for (name, runs) in refused {
        let is_within = name == "the-same-chunk-4096-times";
        let acts = [learnt(), vec![Act::Hostile, want(runs, 0)]].concat();
        let script = if is_within {
            // The same chunk over and over is a waste, and not more than may be under way.
            Script::against_sender([acts, vec![Act::Pause(200), Act::Leave(0, vec![])]].concat()).ends(&[1, 3], "")
        } else {
            Script::against_sender(acts).ends(&[1], BROKEN)
        };
        all.push(case(format!("want-{name}"), 8, script));
    }
    let flood = Act::Repeat(20, Box::new(want(vec![run(0, 0, 1); 4096], 0)));
    let flood = [learnt(), vec![Act::Hostile, flood, Act::Pause(100), Act::Leave(0, vec![])]].concat();
    all.push(case("want-without-reading", 18, Script::against_sender(flood).ends(&[1, 3], "")));
    let lies = vec![Act::Hostile, want(vec![], u32::MAX), want(vec![run(0, 0, 1)], 0), Act::Fetch(SOURCE.to_vec())];
    let lies = [learnt(), lies, vec![Act::Receipt(|_| (), Signer::Own), Act::AwaitAcknowledge]].concat();
    all.push(case("want-after-considering-everything", 25, Script::against_sender(lies).ends(&[0], "")));
    all
}

fn out_of_place() -> Vec<Case> {
    let position = Position { record_count: 0, chain: ChainValue([0; 32]) };
    let no_place = "it sent a message that has no place here";
    let exception = |path: &[u8], outcome| {
        let path = RelPath::parse(path).expect("a plain path");
        Message::Exceptions(vec![Exception { path, outcome }])
    };
    let left_out = Outcome::LeftOut(Reason::TargetDenied);
    let mut all = vec![];
    let mut add = |name: &str, class: u8, acts: Vec<Act>, exits: &[i32], says: &str| {
        let acts = [learnt(), vec![Act::Hostile], acts].concat();
        all.push(case(format!("receiver-{name}"), class, Script::against_sender(acts).ends(exits, says)));
    };
    add("continues", 25, vec![Act::Say(Message::Continue(position))], &[1], no_place);
    add("settles", 25, vec![Act::Say(Message::Settled(position))], &[1], no_place);
    add("sends-records", 8, vec![Act::Say(Message::Records(vec![0, 0, 0, 1, 7]))], &[1], no_place);
    add("acknowledges", 25, vec![Act::Say(Message::Acknowledge(OutcomeDigest([0; 32])))], &[1], no_place);
    let hello = super::line::plain_hello(landfall::identity::Role::Receiver, TransferId([0; 16]), None);
    add("says-hello-again", 25, vec![Act::Say(Message::Hello(hello))], &[1], no_place);
    let excepted = |path: &[u8]| vec![Act::Say(exception(path, left_out)), Act::Receipt(|_| (), Signer::Own)];
    add("excepts-another-path", 22, excepted(b"no/such/path"), &[1], DIFFERS);
    add("excepts-what-it-says-it-delivered", 22, excepted(b"source"), &[1], DIFFERS);
    let renamed = Outcome::Renamed(NonZeroU16::MIN);
    let renamed = vec![Act::Say(exception(b"source", renamed)), Act::Receipt(|_| (), Signer::Own)];
    add("renames-what-it-says-it-delivered", 22, renamed, &[1], DIFFERS);
    let crowd = (0..64).map(|n| Exception {
        path: RelPath::parse(format!("path-{n}").as_bytes()).expect("a plain path"),
        outcome: left_out,
    });
    let crowd = Act::Say(Message::Exceptions(crowd.collect()));
    add("excepts-more-than-there-is", 14, vec![crowd.clone()], &[1], "more exceptions than there are entries");
    add("excepts-without-end", 14, vec![Act::Repeat(300, Box::new(crowd))], &[1], BROKEN);
    let progress = Progress {
        held_bytes: u64::MAX,
        verified_bytes: u64::MAX,
        sealed_files: u64::MAX,
        left_out: u64::MAX,
        entry: Some(EntryIndex(u32::MAX)),
        phase: landfall::wire::Phase::Done,
    };
    let boast = Act::Say(Message::Progress(progress));
    let boasts = vec![boast.clone(), Act::Pause(700), boast.clone(), Act::StillThere, Act::Leave(0, vec![])];
    add("boasts-of-u64", 28, boasts, &[3], GONE);
    let flood = vec![Act::Repeat(20_000, Box::new(boast)), Act::StillThere, Act::Leave(0, vec![])];
    add("boasts-without-end", 18, flood, &[3], GONE);
    add("opens-a-data-stream", 19, vec![Act::Blocked { is_control: false }, Act::Leave(0, vec![])], &[3], GONE);
    add(
        "opens-a-second-control-stream",
        19,
        vec![Act::Blocked { is_control: true }, Act::Leave(0, vec![])],
        &[3],
        GONE,
    );
    add("sends-a-datagram", 18, vec![Act::Datagram, Act::StillThere, Act::Leave(0, vec![])], &[3], GONE);
    for reason in [StopReason::Declined, StopReason::Closed, StopReason::TooLarge, StopReason::Finished] {
        let stop = Message::Stop(Stop { reason, retry: Retry::Never });
        let name = format!("stops-{reason:?}").to_lowercase();
        add(&name, 26, vec![Act::Say(stop)], &[1, 4], "the receiver stopped");
    }
    let stop = Message::Stop(Stop { reason: StopReason::DiskFull, retry: Retry::Later });
    add("stops-for-now", 26, vec![Act::Say(stop)], &[3], "the receiver stopped");
    all
}

fn frames() -> Vec<Case> {
    let longer = "a control frame is longer than its kind may be";
    let unread = "it sent a message that has no place here";
    let mut all = vec![];
    let mut add = |name: &str, act: Act, says: &str| {
        let acts = [learnt(), vec![Act::Hostile, act, Act::Pause(50)]].concat();
        all.push(case(format!("receiver-frame-{name}"), 12, Script::against_sender(acts).ends(&[1], says)));
    };
    for (name, length) in [("u32", u32::MAX), ("one-more", over_the_limit(FRAME_BYTES_MAX))] {
        add(&format!("length-{name}"), Act::Bytes([&length.to_be_bytes()[..], &[0; 100]].concat()), longer);
    }
    add("of-no-bytes", Act::Frame(vec![]), unread);
    add("of-kind-10", Act::Frame(vec![10, 1]), unread);
    add("of-kind-255", Act::Frame(vec![255; 40]), unread);
    add("largest-of-noise", Act::Frame(vec![0xa5; FRAME_BYTES_MAX]), unread);
    add("want-of-u64-runs", Act::Frame([vec![4, 0, 0], number(u64::MAX)].concat()), unread);
    add("want-cut", Act::Frame(vec![4, 0xad]), unread);
    add("exceptions-of-u64", Act::Frame([vec![6], number(u64::MAX), vec![0; 9]].concat()), unread);
    for (name, path) in [("out", &b"../x"[..]), ("absolute", b"/x"), ("state", b".landfall"), ("nul", b"a\0b")] {
        let frame = [vec![6, 1], super::words::text(path), vec![0]].concat();
        add(&format!("excepts-{name}"), Act::Frame(frame), unread);
    }
    let frame = [vec![6, 1], super::words::text(b"source"), vec![3, 0]].concat();
    add("renames-by-zero", Act::Frame(frame), unread);
    add("core-of-u64", Act::Frame([vec![7], number(u64::MAX), vec![0; 64]].concat()), unread);
    let half = [learnt(), vec![Act::Hostile, Act::Bytes(vec![0, 0, 1]), Act::Finish]].concat();
    let half = Script::against_sender(half).ends(&[1], "it ended the control stream within a frame");
    all.push(case("receiver-frame-half", 12, half));
    all
}

type Greeting = fn(&mut Hello);

/// Positions that the receiver says it holds.
fn ladders() -> Vec<Case> {
    let ladders: [(&str, Greeting); 7] = [
        ("of-nothing", |hello| hello.ladder.clear()),
        ("from-nowhere", |hello| hello.ladder = vec![Position { record_count: 1, chain: ChainValue([9; 32]) }]),
        ("u64", |hello| hello.ladder = vec![Position { record_count: u64::MAX, chain: ChainValue([9; 32]) }]),
        ("of-140", |hello| hello.ladder = vec![Position { record_count: u64::MAX, chain: ChainValue([9; 32]) }; 140]),
        ("upside-down", |hello| {
            hello.ladder.extend((0..50).map(|n| Position { record_count: n, chain: ChainValue([1; 32]) }))
        }),
        ("of-a-future-minor", |hello| hello.minor = u16::MAX),
        ("of-features-unheard-of", |hello| hello.features = u64::MAX),
    ];
    let mut all = vec![];
    for (name, change) in ladders {
        let acts = vec![Act::Hostile, Act::HelloWith(change), Act::Learn];
        let acts = [acts, vec![Act::Receipt(|_| (), Signer::Own), Act::AwaitAcknowledge]].concat();
        all.push(case(format!("ladder-{name}"), 25, Script::against_sender(acts).ends(&[0], "")));
    }
    // It says that it holds a receipt, and sends another one than the source would give.
    let acts = vec![Act::HelloWith(|hello| hello.has_receipt = true), Act::Learn, Act::Hostile];
    let old = [acts.clone(), vec![Act::Receipt(|core| core.outcome = OutcomeDigest([5; 32]), Signer::Own)]].concat();
    let script = Script::against_sender(old).ends(&[1], "the source has changed since");
    all.push(case("receipt-of-an-earlier-source", 25, script));
    let none = [acts, vec![Act::Pause(300), Act::StillThere, Act::Leave(0, vec![])]].concat();
    all.push(case("receipt-held-and-never-sent", 17, Script::against_sender(none).ends(&[3], GONE)));
    all
}

fn leavings() -> Vec<Case> {
    let mut all = vec![];
    for (when, front) in [("after-hello", vec![Act::Hello]), ("after-the-manifest", learnt())] {
        for code in [0, 1, 2, 8, 9, 11, 12, 13, 15, 99, (1 << 62) - 1] {
            let acts = [front.clone(), vec![Act::Hostile, Act::Leave(code, b"\x1b]0;owned\x07\r\n".to_vec())]].concat();
            let script = Script::against_sender(acts).ends(&[1, 3, 4], "receiver");
            all.push(case(format!("receiver-leaves-with-{code}-{when}"), 26, script));
        }
        // To end the stream after a frame is how a side says its last word: the link is lost, and another may come. To
        // reset it is what no version of ours does and no network can: the peer breaks the protocol.
        let ends: [(&str, Act, &[i32], &str); 3] = [
            ("ends-control", Act::Finish, &[3], GONE),
            ("resets-control", Act::Reset, &[1], "the receiver broke the protocol: it abandoned a stream"),
            ("stops-reading", Act::StopReading, &[1, 3], "receiver"),
        ];
        for (how, act, exits, says) in ends {
            let acts = [front.clone(), vec![Act::Hostile, act, Act::Pause(150), Act::Leave(0, vec![])]].concat();
            let script = Script::against_sender(acts).ends(exits, says);
            all.push(case(format!("receiver-{how}-{when}"), 17, script));
        }
    }
    all
}
