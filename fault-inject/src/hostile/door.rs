//! Strangers at the door of a listening binary: before authentication nothing is granted, everything is bounded, and
//! the listener goes on listening. After each of them an honest peer, the shipped binary itself, takes the same
//! ticket and the transfer completes.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use landfall::identity::{Role, Secret, TransferId};
use landfall::limits::HELLO_BYTES_MAX;
use landfall::ticket::Ticket;
use landfall::wire::{Hello, Message, Retry, Stop, StopReason};
use rand::RngCore;

use super::act::{Act, Play, nowhere};
use super::keys::{Face, Key, spki};
use super::line::{self, End, Line, plain_hello};
use super::stage::{self, GROWTH_BYTES_MAX, Place, Script, Seen};
use super::{Attack, Case};
use crate::rig::oracle;
use crate::rig::process::{Landfall, peak_bytes};
use crate::rng::stream;

/// An honest peer is through by then, whatever strangers do.
const HONEST_PATIENCE: Duration = Duration::from_secs(5);

/// A stranger.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// What the binary does.
    pub product: Role,
    /// What the stranger does.
    pub visit: Visit,
    /// How the binary ends it.
    pub answer: Answer,
}

/// What a stranger does.
#[derive(Clone, Debug)]
pub enum Visit {
    /// Shows another face in the handshake.
    Face(fn(&Key) -> Face),
    /// Connects and performs these acts.
    Acts(Vec<Act>),
    /// Says a hello with something wrong in it.
    Hello(fn(&mut Hello)),
    /// Says a hello with this secret's proof, or one that was made on another link, or for another key.
    Proof(Proof),
    /// Connects and leaves at once.
    Leaves,
    /// Datagrams of noise.
    Noise,
    /// So many connections that say nothing.
    Crowd(usize),
    /// Drops its socket in the middle of a handshake, so many times.
    Vanishes(usize),
}

/// A proof that proves nothing.
#[derive(Clone, Copy, Debug)]
pub enum Proof {
    /// Of another secret.
    OtherSecret,
    /// Of the right secret, for another link.
    OtherLink,
    /// Of the right secret, for another key.
    OtherKey,
    /// Of the right secret, for the other role.
    OtherRole,
}

/// How the binary ends a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It closes the connection with this code.
    Code(u64),
    /// The handshake fails, or the connection ends without a word of the product.
    NoHandshake,
    /// Nothing in particular.
    Anything,
}

/// All cases of this room: both roles of the binary.
pub fn cases() -> Vec<Case> {
    let mut all = vec![];
    for product in [Role::Receiver, Role::Sender] {
        let mut add = |name: &str, class: u8, visit: Visit, answer: Answer| {
            let name = format!("door-of-{}-{name}", product.word());
            all.push(Case { name, class, attack: Attack::Stranger(Box::new(Stranger { product, visit, answer })) });
        };
        faces(&mut add);
        first_words(product, &mut add);
        hellos(&mut add);
        add("leaves", 17, Visit::Leaves, Answer::Anything);
        add("noise", 18, Visit::Noise, Answer::Anything);
        add("crowd", 18, Visit::Crowd(1000), Answer::Anything);
        add("vanishes", 18, Visit::Vanishes(100), Answer::Anything);
    }
    all
}

type Add<'a> = &'a mut dyn FnMut(&str, u8, Visit, Answer);
/// Makes the face of a peer from its key.
type MakeFace = fn(&Key) -> Face;
/// Makes a hello wrong.
type Spoil = fn(&mut Hello);

fn faces(add: Add<'_>) {
    let refused = Answer::NoHandshake;
    let faces: [(&str, u8, MakeFace); 9] = [
        ("protocol-h3", 20, |key| Face { protocols: vec![b"h3".to_vec()], ..Face::of(key) }),
        ("protocol-next-major", 20, |key| Face { protocols: vec![b"landfall/2".to_vec()], ..Face::of(key) }),
        ("protocol-with-minor", 20, |key| Face { protocols: vec![b"landfall/1.0".to_vec()], ..Face::of(key) }),
        ("protocol-none", 20, |key| Face { protocols: vec![], ..Face::of(key) }),
        ("no-key", 20, |key| Face { shown: None, ..Face::of(key) }),
        ("borrowed-key", 20, |key| Face { shown: Some(spki(Key::new([0x55; 32]).public())), ..Face::of(key) }),
        ("key-called-certificate", 20, |key| Face { is_raw: false, ..Face::of(key) }),
        ("key-cut-short", 20, |key| Face { shown: Some(spki(key.public())[..43].to_vec()), ..Face::of(key) }),
        ("key-with-more", 20, |key| Face { shown: Some([spki(key.public()), vec![0]].concat()), ..Face::of(key) }),
    ];
    for (name, class, face) in faces {
        add(name, class, Visit::Face(face), refused);
    }
}

/// First frames that are no hello.
fn first_words(product: Role, add: Add<'_>) {
    let hello = Message::Hello(plain_hello(product.other(), TransferId([0; 16]), None)).encode();
    let stop = Message::Stop(Stop { reason: StopReason::Closed, retry: Retry::Never });
    let longer = super::words::over_the_limit(HELLO_BYTES_MAX).to_be_bytes();
    let acts: Vec<(&str, u8, Act)> = vec![
        ("length-u32", 12, Act::Bytes(vec![0xff; 8])),
        ("length-i32", 12, Act::Bytes(vec![0x7f, 0xff, 0xff, 0xff, 0])),
        ("length-one-more", 12, Act::Bytes([&longer[..], &[0; 8]].concat())),
        ("frame-of-no-bytes", 12, Act::Frame(vec![])),
        ("frame-of-zeros", 12, Act::Frame(vec![0; 300])),
        ("frame-of-ones", 12, Act::Frame(vec![0xff; 300])),
        ("frame-largest", 12, Act::Frame(vec![0xa5; HELLO_BYTES_MAX])),
        ("frame-of-kind-10", 12, Act::Frame(vec![10])),
        ("hello-half", 12, Act::Frame(hello[..hello.len() / 2].to_vec())),
        ("hello-but-a-byte", 12, Act::Frame(hello[..hello.len() - 1].to_vec())),
        ("hello-and-a-byte", 12, Act::Frame([hello, vec![0]].concat())),
        ("first-continue", 25, Act::Say(Message::Continue(nowhere()))),
        ("first-records", 25, Act::Say(Message::Records(vec![0, 0, 0, 1, 7]))),
        ("first-settled", 25, Act::Say(Message::Settled(nowhere()))),
        ("first-want", 25, Act::Say(Message::Want(landfall::wire::Want::default()))),
        ("first-progress", 25, Act::Say(Message::Progress(landfall::wire::Progress::default()))),
        ("first-exceptions", 25, Act::Say(Message::Exceptions(vec![]))),
        ("first-receipt", 22, Act::Say(Message::Receipt { core: vec![0; 9], signature: vec![0; 64] })),
        ("first-acknowledge", 22, Act::Say(Message::Acknowledge(landfall::digest::OutcomeDigest([0; 32])))),
        ("first-stop", 26, Act::Say(stop)),
    ];
    for (name, class, act) in acts {
        add(name, class, Visit::Acts(vec![act]), Answer::Code(10));
    }
    add("half-a-frame-and-the-end", 17, Visit::Acts(vec![Act::Bytes(vec![0, 0, 9, 1]), Act::Finish]), Answer::Code(10));
    add("half-a-frame-and-a-reset", 17, Visit::Acts(vec![Act::Bytes(vec![0, 0, 9, 1]), Act::Reset]), Answer::Code(10));
    add("half-a-frame-and-silence", 17, Visit::Acts(vec![Act::Bytes(vec![0, 0, 9, 1])]), Answer::Code(14));
    let drip = Act::Repeat(60, Box::new(Act::Drip(0, 200)));
    let trickle = vec![Act::Bytes(vec![0, 0, 0x20, 0]), drip];
    add("trickles", 17, Visit::Acts(trickle), Answer::Code(14));
    add("data-stream", 19, Visit::Acts(vec![Act::Blocked { is_control: false }, leave()]), Answer::Anything);
    add("second-control", 19, Visit::Acts(vec![Act::Blocked { is_control: true }, leave()]), Answer::Anything);
    add("datagram", 18, Visit::Acts(vec![Act::Datagram, leave()]), Answer::Anything);
}

fn leave() -> Act {
    Act::Leave(0, vec![])
}

fn hellos(add: Add<'_>) {
    let refused: [(&str, u64, Spoil); 11] = [
        ("no-proof", 4, |hello| hello.proof = None),
        ("proof-of-zeros", 4, |hello| hello.proof = Some([0; 32])),
        ("proof-of-ones", 4, |hello| hello.proof = Some([0xff; 32])),
        ("another-transfer", 13, |hello| hello.transfer = TransferId([9; 16])),
        ("no-chunks", 6, |hello| hello.chunk_bytes = 0),
        ("small-chunks", 6, |hello| hello.chunk_bytes = 4096),
        ("u32-chunks", 6, |hello| hello.chunk_bytes = u32::MAX),
        ("long-host", 10, |hello| hello.host = "h".repeat(256)),
        ("long-version", 10, |hello| hello.version = "v".repeat(10_000)),
        ("65-addresses", 10, |hello| hello.addresses = vec![([127, 0, 0, 1], 9).into(); 65]),
        ("141-rungs", 10, |hello| hello.ladder = vec![nowhere(); 141]),
    ];
    for (name, code, change) in refused {
        add(&format!("hello-{name}"), 22, Visit::Hello(change), Answer::Code(code));
    }
    for (name, proof, code) in [
        ("another-secret", Proof::OtherSecret, 4),
        ("another-link", Proof::OtherLink, 4),
        ("another-key", Proof::OtherKey, 4),
        ("another-role", Proof::OtherRole, 7),
    ] {
        add(&format!("proof-of-{name}"), 22, Visit::Proof(proof), Answer::Code(code));
    }
}

/// Lets a stranger visit, and then an honest peer.
pub fn perform(stranger: &Stranger, key: &Key, seed: u64) -> Seen {
    let place = Place::new();
    let mut seen = Seen::default();
    let script = Script { product: stranger.product, ..Script::against_receiver(vec![]) };
    let mut running = place.command(&script, None).start();
    let ticket = match place.ticket(&mut running) {
        Ok(ticket) => ticket,
        Err(why) => {
            seen.failed = Some(why);
            return seen;
        }
    };
    let base_bytes = peak_bytes(running.id()).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let mut held = vec![];
    let ended = runtime.block_on(visit(stranger, key, seed, &ticket, &mut held, &mut seen));
    seen.log.push(format!("the visit ended with {ended:?}"));
    seen.noticed = match (stranger.answer, &ended) {
        (Answer::Code(code), Ok(Some(End::Code(found)))) => code == *found,
        (Answer::NoHandshake, Ok(Some(End::Transport(_)))) => true,
        (Answer::Anything, Ok(_)) => true,
        _ => false,
    };
    if !seen.noticed {
        seen.complaints.push(format!("the answer is {ended:?}, not {:?}", stranger.answer));
    }
    if running.has_ended() {
        seen.complaints.push(format!("a stranger has ended the listener\n{}", running.describe("has ended")));
        return seen;
    }
    honest(stranger, &place, &mut seen);
    drop((held, runtime));
    let Some(finished) = stage::finish(running, Duration::from_secs(30), &mut seen) else { return seen };
    if finished.code() != Some(0) {
        seen.complaints.push(format!("the honest transfer did not end well\n{}", finished.describe()));
    }
    stage::judge_streams(&finished, &mut seen);
    let growth = finished.peak_bytes.saturating_sub(base_bytes);
    if growth > GROWTH_BYTES_MAX {
        seen.wrongs.push(format!("its memory grew by {} MiB", growth >> 20));
    }
    seen.wrongs.extend(place.canary.changes().into_iter().map(|what| format!("outside the target: {what}")));
    seen
}

/// An honest peer takes the ticket: connected within five seconds, and all of it arrives.
fn honest(stranger: &Stranger, place: &Place, seen: &mut Seen) {
    let received = place.beside("received");
    let command = Landfall::new("honest", &place.beside("honest-home"));
    let (command, arrived) = match stranger.product {
        Role::Receiver => (command.arg("send").arg(&place.source), place.target.join("source")),
        Role::Sender => (command.arg("recv").arg(&received), received.join("source")),
    };
    let began = Instant::now();
    let command =
        command.arg("--ticket-file").arg(place.beside("ticket")).args(["--yes", "--json", "--patience", "20s"]);
    let mut running = command.start();
    let is_connected = |running: &crate::rig::process::Running| running.stdout().contains("\"connected\"");
    while !is_connected(&running) && !running.has_ended() && began.elapsed() < 4 * HONEST_PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    if began.elapsed() > HONEST_PATIENCE {
        seen.complaints.push(format!("an honest peer waited {:?} for a link", began.elapsed()));
    }
    let Some(finished) = stage::finish(running, Duration::from_secs(30), seen) else { return };
    if finished.code() != Some(0) {
        seen.complaints.push(format!("an honest peer did not get through\n{}", finished.describe()));
    }
    let found = std::fs::read(&arrived).unwrap_or_default();
    if found != stage::SOURCE {
        seen.wrongs.push("an honest peer's file did not arrive as it is".to_owned());
    }
    seen.survived = u64::from(finished.code() == Some(0));
    let others = oracle::snapshot_without(arrived.parent().unwrap_or(&arrived), &[b".landfall", b"source"]);
    if others.len() > 1 {
        seen.wrongs.push("something else arrived".to_owned());
    }
}

async fn visit(
    stranger: &Stranger,
    key: &Key,
    seed: u64,
    ticket: &Ticket,
    held: &mut Vec<Line>,
    seen: &mut Seen,
) -> Result<Option<End>, End> {
    let address = line::address_of(ticket)?;
    let role = stranger.product.other();
    match &stranger.visit {
        Visit::Face(face) => {
            let endpoint = line::dialling_endpoint()?;
            seen.happened = true;
            // In TLS 1.3 the dialler's handshake ends before the listener has judged its key.
            match line::connect(&endpoint, &face(key), address).await {
                Ok(connection) => Ok(Some(connection.closed().await.into())),
                Err(end) => Ok(Some(end)),
            }
        }
        Visit::Acts(acts) => {
            let line = Line::dial(key, address).await?;
            let mut play = Play::new(line, key, role, &Secret::from_bytes([0; 16]));
            let (done, end) = play.perform(acts).await;
            seen.happened = done > 0 || end.is_some();
            seen.wrongs.append(&mut play.wrongs);
            if acts.iter().any(|act| matches!(act, Act::Leave(..))) {
                return Ok(None);
            }
            Ok(play.line.end(Duration::from_secs(25)).await)
        }
        Visit::Hello(change) => {
            let mut line = Line::dial(key, address).await?;
            let mut hello = line.honest_hello(role, ticket.transfer_id(), Some(&ticket.secret))?;
            change(&mut hello);
            greet(&mut line, hello, seen).await
        }
        Visit::Proof(proof) => proved(*proof, key, address, ticket, role, seen).await,
        Visit::Leaves => {
            let line = Line::dial(key, address).await?;
            line.leave(3, b"\x1b[31m").await;
            seen.happened = true;
            Ok(None)
        }
        Visit::Noise => noise(seed, address, seen),
        Visit::Crowd(count) => {
            // They are held while the honest peer comes.
            let endpoint = line::dialling_endpoint()?;
            for _ in 0..*count {
                held.push(Line::dial_from(&endpoint, key, address).await?);
            }
            seen.happened = held.len() == *count;
            Ok(None)
        }
        Visit::Vanishes(count) => {
            for _ in 0..*count {
                let endpoint = line::dialling_endpoint()?;
                let face = Face::of(key);
                let connecting = line::connect(&endpoint, &face, address);
                let _ = tokio::time::timeout(Duration::from_millis(1), connecting).await;
                seen.happened = true;
            }
            Ok(None)
        }
    }
}

async fn greet(line: &mut Line, hello: Hello, seen: &mut Seen) -> Result<Option<End>, End> {
    line.say(&Message::Hello(hello)).await?;
    seen.happened = true;
    match line.next().await {
        Ok(message) => {
            seen.wrongs.push(format!("a stranger was answered: {message:?}"));
            Ok(None)
        }
        Err(_) => Ok(line.end(Duration::from_secs(5)).await),
    }
}

async fn proved(
    proof: Proof,
    key: &Key,
    address: std::net::SocketAddr,
    ticket: &Ticket,
    role: Role,
    seen: &mut Seen,
) -> Result<Option<End>, End> {
    let mut line = Line::dial(key, address).await?;
    let (transfer, secret) = (ticket.transfer_id(), &ticket.secret);
    let mut hello = line.honest_hello(role, transfer, Some(secret))?;
    match proof {
        Proof::OtherSecret => {
            let other = Secret::from_bytes([0x13; 16]);
            hello.proof = Some(other.proof(&line.meeting(role)?).to_bytes());
        }
        Proof::OtherLink => {
            let other = Line::dial(key, address).await?;
            hello.proof = other.honest_hello(role, transfer, Some(secret))?.proof;
        }
        Proof::OtherKey => {
            let meeting = landfall::identity::Meeting { dialler: Key::new([3; 32]).public(), ..line.meeting(role)? };
            hello.proof = Some(secret.proof(&meeting).to_bytes());
        }
        Proof::OtherRole => hello = line.honest_hello(role.other(), transfer, Some(secret))?,
    }
    greet(&mut line, hello, seen).await
}

fn noise(seed: u64, address: std::net::SocketAddr, seen: &mut Seen) -> Result<Option<End>, End> {
    let odd = |error: std::io::Error| End::Odd(error.to_string());
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(odd)?;
    let mut rng = stream(seed, "noise");
    for number in 0..3000_u32 {
        let length = [0, 1, 7, 20, 21, 40, 1199, 1200, 1452][number as usize % 9];
        let mut datagram = vec![0; length];
        rng.fill_bytes(&mut datagram);
        if let (0, Some(version)) = (number % 3, datagram.get_mut(1..5)) {
            version.copy_from_slice(&[0, 0, 0, 1]);
        }
        if let Some(first) = datagram.first_mut() {
            *first |= if number % 2 == 0 { 0xc0 } else { 0x40 };
        }
        seen.happened |= socket.send_to(&datagram, address).map_err(odd)? == length;
    }
    Ok(None)
}
