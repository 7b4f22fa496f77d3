//! A listener that is not what its ticket says, or says something else than hello: the binary dials it, as sender and
//! as receiver. It is refused by its key before anything is said, and by its words before anything is served.

use landfall::identity::{Role, TransferId};
use landfall::limits::HELLO_BYTES_MAX;
use landfall::wire::{Hello, Message, Retry, Stop, StopReason};

use super::act::Act;
use super::line::plain_hello;
use super::stage::Script;
use super::{Case, case};

type Greeting = fn(&mut Hello);

/// All cases of this room: both roles of the binary.
pub fn cases() -> Vec<Case> {
    let mut all = vec![];
    for product in [Role::Sender, Role::Receiver] {
        let peer = product.other().word();
        let broken = format!("the {peer} broke the protocol");
        let mut add = |name: &str, class: u8, acts: Vec<Act>, exits: &[i32], says: &str| {
            let script = Script { product, ..Script::against_receiver([vec![Act::Hostile], acts].concat()) };
            all.push(case(format!("listening-{peer}-{name}"), class, script.dialled().ends(exits, says)));
        };
        for (name, change, exits, says) in unfit() {
            let says = says.map_or_else(|| broken.clone(), str::to_owned);
            add(name, 22, vec![Act::HelloWith(change)], exits, &says);
        }
        for (name, act) in no_hello(product) {
            add(name, 12, vec![act, Act::Pause(100)], &[1], &broken);
        }
        let stop = |reason, retry| vec![Act::Say(Message::Stop(Stop { reason, retry })), Act::Pause(100)];
        add("stops-for-good", 26, stop(StopReason::Closed, Retry::Never), &[4], "stopped");
        add("stops-for-now", 26, stop(StopReason::DiskFull, Retry::Later), &[3], "stopped");
        for code in [2, 3, 4, 5, 6, 7, 10, 12, 13, 15, 4_000_000_000, (1 << 62) - 1] {
            let leave = vec![Act::Leave(code, b"\x1b[2J\x07owned\r\n".to_vec())];
            add(&format!("refuses-with-{code}"), 26, leave, &[1, 4], "");
        }
        for code in [0, 1, 8, 11, 14] {
            add(&format!("puts-off-with-{code}"), 17, vec![Act::Leave(code, vec![b'x'; 500])], &[3], "no link");
        }
        let named = vec![Act::Leave(2, vec![0x1b; 32])];
        add("taken-by-a-key-of-escapes", 9, named, &[4], "already taken");
        add("ends-control", 17, vec![Act::Finish, Act::Pause(100), Act::Leave(0, vec![])], &[3], "no link");
        // QUIC loses no stream: only a peer that means to can reset one, and no version of ours does.
        add(
            "resets-control",
            17,
            vec![Act::Reset, Act::Pause(100), Act::Leave(0, vec![])],
            &[1],
            "it abandoned a stream",
        );
    }
    all
}

/// Hellos that do not go with what was dialled: name, change, exits, and words other than "broke the protocol".
fn unfit() -> Vec<(&'static str, Greeting, &'static [i32], Option<&'static str>)> {
    vec![
        ("of-another-transfer", |hello| hello.transfer = TransferId([9; 16]), &[1], None),
        ("of-the-same-role", |hello| hello.role = hello.role.other(), &[4], Some("same role")),
        ("of-no-chunks", |hello| hello.chunk_bytes = 0, &[4], Some("version")),
        ("of-small-chunks", |hello| hello.chunk_bytes = 4096, &[4], Some("version")),
        ("of-u32-chunks", |hello| hello.chunk_bytes = u32::MAX, &[4], Some("version")),
        ("with-a-long-host", |hello| hello.host = "h".repeat(256), &[1], None),
        ("with-a-long-version", |hello| hello.version = "v".repeat(256), &[1], None),
        ("with-65-addresses", |hello| hello.addresses = vec![([127, 0, 0, 1], 9).into(); 65], &[1], None),
        ("with-141-rungs", |hello| hello.ladder = vec![super::act::nowhere(); 141], &[1], None),
    ]
}

/// What comes in place of a hello.
fn no_hello(product: Role) -> Vec<(&'static str, Act)> {
    let whole = Message::Hello(plain_hello(product.other(), TransferId([0; 16]), None)).encode();
    let long = super::words::over_the_limit(HELLO_BYTES_MAX).to_be_bytes();
    vec![
        ("says-nothing-of-sense", Act::Frame(vec![0xa5; 100])),
        ("says-no-bytes", Act::Frame(vec![])),
        ("says-half-a-hello", Act::Frame(whole[..whole.len() / 2].to_vec())),
        ("says-hello-and-a-byte", Act::Frame([whole, vec![0]].concat())),
        ("continues", Act::Say(Message::Continue(super::act::nowhere()))),
        ("wants", Act::Say(Message::Want(landfall::wire::Want::default()))),
        ("settles", Act::Say(Message::Settled(super::act::nowhere()))),
        ("claims-u32-bytes", Act::Bytes(vec![0xff; 64])),
        ("claims-a-byte-too-many", Act::Bytes([&long[..], &[0; 64]].concat())),
    ]
}
