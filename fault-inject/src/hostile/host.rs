//! Hosts that `send --lan` finds and that are not whom the code is of: none of them is told more than one guess, and no
//! byte of the file comes to any of them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use landfall::identity::{PeerKey, Role, Secret};
use landfall::ticket::Ticket;
use rand::Rng;

use super::announce::{Announcer, Service, broken, crowds};
use super::exchange::{
    Caller, Code, Keys, PROOF_BYTES, SECOND_BYTES, SMALL_POINTS, answer, framed, receive, rest, send, small_point,
};
use super::ground::{DOOR, Ground};
use super::stage::{self, SOURCE, Seen};
use super::{Attack, Case};
use crate::rig::process::{Finished, Running};
use crate::rng::stream;

/// What the sender is given in which nobody may be found.
const PATIENCE: &str = "4s";
/// What comes at once comes within this.
const SOON: Duration = Duration::from_secs(3);
/// The sender has ended by then.
const END: Duration = Duration::from_secs(25);
/// Changed bytes in each of the four frames that somebody in the middle hands on.
const CHANGES: usize = 2;
/// Names of a crowd.
const NAMES: usize = 1000;

/// What a host does.
pub type Deed = fn(&mut Scene) -> Result<(), String>;

/// What is on the scene.
pub struct Scene {
    ground: Ground,
    listener: TcpListener,
    quic: UdpSocket,
    code: Code,
    key: [u8; 32],
    seed: u64,
    /// All that hosts were told.
    heard: Vec<u8>,
    seen: Seen,
}

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let all: [(&str, u8, Deed); 15] = [
        ("answers-garbage", 12, garbage),
        ("shares-a-small-point", 20, small_shares),
        ("shares-what-the-sender-shared", 22, own_share),
        ("has-another-code", 22, other_code),
        ("grants-what-was-granted-before", 22, other_grant),
        ("grants-no-proof", 22, no_proof),
        ("gives-no-ticket", 22, no_ticket),
        ("gives-the-ticket-of-another-key", 22, other_key),
        ("gives-a-ticket-to-where-another-listens", 20, other_place),
        ("is-silent", 17, silent),
        ("announces-what-is-broken", 12, announces_broken),
        ("announces-a-thousand-names", 18, thousand_names),
        ("announces-more-than-is-heard", 18, crowds_of_names),
        ("announces-another-place", 8, other_address),
        ("stands-in-the-middle", 22, middle),
    ];
    let case = |(name, class, deed)| Case { name: format!("lan-host-{name}"), class, attack: Attack::Host(deed) };
    all.into_iter().map(case).chain([twins()]).collect()
}

fn twins() -> Case {
    Case { name: "lan-host-is-one-of-two".to_owned(), class: 22, attack: Attack::Host(two) }
}

/// Runs one.
pub fn perform(deed: Deed, key: [u8; 32], seed: u64) -> Seen {
    let mut seen = Seen::default();
    let ground = match Ground::new() {
        Ok(ground) => ground,
        Err(needs) => return Seen { lacks: Some(needs), ..seen },
    };
    let (listener, quic) = match ground.listen() {
        Ok(found) => found,
        Err(why) => {
            seen.failed = Some(why);
            return seen;
        }
    };
    let mut rng = stream(seed, "code");
    let code = Code([rng.random_range(0..2048), rng.random_range(0..2048), rng.random_range(0..2048)]);
    let mut scene = Scene { ground, listener, quic, code, key, seed, heard: vec![], seen };
    if let Err(why) = deed(&mut scene) {
        scene.seen.complaints.push(why);
    }
    let Scene { ground, quic, heard, mut seen, .. } = scene;
    seen.noticed = seen.complaints.is_empty();
    if heard.windows(SOURCE.len()).any(|part| part == SOURCE) {
        seen.wrongs.push("bytes of the file came to whoever listens".to_owned());
    }
    if quic.recv(&mut [0; 2048]).is_ok() {
        seen.wrongs.push("the file was to be sent to whoever does not know the code".to_owned());
    }
    seen.wrongs.extend(ground.place.canary.changes().into_iter().map(|what| format!("outside the target: {what}")));
    seen
}

impl Scene {
    fn port(&self) -> String {
        self.listener.local_addr().map_or_else(|_| "0".to_owned(), |address| address.port().to_string())
    }

    /// Announces this host under the code's first word.
    fn announce(&self) -> Result<Announcer, String> {
        let service = Service::of("00c0ffee00aa", self.code.nameplate(), &self.port());
        Announcer::start(&self.ground, vec![service.message()])
    }

    fn sender(&self, patience: &str) -> Running {
        self.ground.sender(&self.ground.network, &self.ground.place.beside("sender-home"), self.code, patience)
    }

    /// The next caller. `None` if nobody comes before the sender ends.
    fn accept(&self, sender: &mut Running) -> Option<TcpStream> {
        let until = Instant::now() + END;
        while Instant::now() < until {
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).ok()?;
                return Some(stream);
            }
            if sender.has_ended() {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// The first frame of the next caller.
    fn meet(&mut self, sender: &mut Running) -> Option<(TcpStream, Vec<u8>)> {
        let mut stream = self.accept(sender)?;
        let first = receive(&mut stream, SOON)?;
        self.heard.extend(&first);
        Some((stream, first))
    }

    /// Says what is to hurt: a frame.
    fn strike(&mut self, stream: &mut TcpStream, frame: &[u8]) {
        self.seen.happened |= send(stream, frame).is_ok();
    }

    /// Nothing comes, and the sender leaves.
    fn hears_nothing(&mut self, mut stream: TcpStream, what: &str) {
        match rest(&mut stream, SOON + SOON) {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => {
                self.seen.wrongs.push(format!("{what}: it was told {} bytes", bytes.len()));
                self.heard.extend(bytes);
            }
            None => self.seen.complaints.push(format!("{what}: the sender does not leave")),
        }
    }

    /// How the sender ended.
    fn ends(&mut self, sender: Running, exits: &[i32], says: &str) -> Option<Finished> {
        let finished = stage::finish(sender, END, &mut self.seen)?;
        stage::judge_streams(&finished, &mut self.seen);
        if finished.code() == Some(0) && !exits.contains(&0) {
            self.seen.wrongs.push(format!("it said that all is well\n{}", finished.describe()));
        } else if !finished.code().is_some_and(|code| exits.contains(&code)) || !finished.text().contains(says) {
            self.seen.complaints.push(format!("not {exits:?} with `{says}`\n{}", finished.describe()));
        }
        if finished.peak_bytes > SENDER_BYTES_MAX {
            self.seen.wrongs.push(format!("it took {} MiB", finished.peak_bytes >> 20));
        }
        Some(finished)
    }

    /// Answers each caller with the next of these frames, until there are no more: nobody confirms anything.
    fn nobody_confirms(&mut self, answers: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Result<(), String> {
        let (_announced, mut sender, mut number) = (self.announce()?, self.sender("60s"), 0);
        loop {
            let (mut stream, first) = self.meet(&mut sender).ok_or("the sender does not come any more")?;
            let all = answers(&first);
            self.seen.cells = all.len() as u64;
            let Some(bytes) = all.get(number) else { break };
            self.seen.happened |= std::io::Write::write_all(&mut stream, bytes).is_ok();
            self.hears_nothing(stream, "an answer that is none");
            self.seen.noticed_cells += 1;
            number += 1;
        }
        // It still looks for the right one.
        self.seen.survived = u64::from(!sender.has_ended());
        sender.kill();
        Ok(())
    }

    /// One exchange as somebody with this code, and then this in place of the ticket; how the sender ends.
    fn grants(
        &mut self,
        code: Code,
        grant: impl FnOnce(&mut Scene, &Keys) -> Vec<u8>,
        exits: &[i32],
        says: &str,
    ) -> Result<(), String> {
        let (announced, mut sender) = (self.announce()?, self.sender(PATIENCE));
        let (mut stream, first) = self.meet(&mut sender).ok_or("the sender does not come")?;
        let (second, keys) = answer(code, self.key, &first).ok_or("the first frame is none")?;
        send(&mut stream, &second).map_err(|error| error.to_string())?;
        let proof = receive(&mut stream, SOON).ok_or("the sender confirms nothing")?;
        self.heard.extend(&proof);
        if (proof[..] == keys.dialler_proof) != (code == self.code) || proof.len() != PROOF_BYTES {
            self.seen.wrongs.push("its proof is not that of its code".to_owned());
        }
        let grant = grant(self, &keys);
        self.strike(&mut stream, &grant);
        self.hears_nothing(stream, "a grant that is none");
        self.ends(sender, exits, says);
        // It has guessed once, and comes no more.
        if self.listener.accept().is_ok() {
            self.seen.wrongs.push("one code was tried twice".to_owned());
        }
        drop(announced);
        Ok(())
    }

    fn ticket(&self, key: [u8; 32], at: SocketAddr) -> Vec<u8> {
        let (secret, expiry_seconds) = (Secret::from_bytes([7; 16]), u64::from(u32::MAX));
        let ticket = Ticket { role: Role::Receiver, key: PeerKey(key), secret, addresses: vec![at], expiry_seconds };
        ticket.encode().into_bytes()
    }
}

/// Memory of a sender of a few bytes, whatever is announced.
const SENDER_BYTES_MAX: u64 = 128 << 20;

fn garbage(scene: &mut Scene) -> Result<(), String> {
    let mut rng = stream(scene.seed, "garbage");
    let mut noise = move |length: usize| (0..length).map(|_| rng.random::<u8>()).collect::<Vec<u8>>();
    let (short, mut right, long) = (noise(SECOND_BYTES - 1), noise(SECOND_BYTES), noise(SECOND_BYTES + 1));
    // Not the letter of a host's share: of random points, half are on the curve.
    right[33] = 0;
    let answers = move |_: &[u8]| {
        // A version of its own is none of these: it would end the search.
        let frame = |bytes: &[u8]| framed(&[&[1], &bytes[1..]].concat());
        vec![framed(&[]), frame(&short), frame(&right), frame(&long), vec![0x08, 0x01], vec![0xff; 4096]]
    };
    scene.nobody_confirms(answers)
}

fn small_shares(scene: &mut Scene) -> Result<(), String> {
    let key = scene.key;
    scene.nobody_confirms(move |_| {
        let both = SMALL_POINTS.iter().flat_map(|hex| [small_point(hex, false), small_point(hex, true)]);
        both.map(|point| framed(&[&[1], &key[..], b"B", &point].concat())).collect()
    })
}

/// The sender's own share, as it was said and as that of a host; and its whole frame.
fn own_share(scene: &mut Scene) -> Result<(), String> {
    let key = scene.key;
    scene.nobody_confirms(move |first| {
        let share = &first[first.len() - 33..];
        let as_host = [b"B", &share[1..]].concat();
        [share, &as_host]
            .map(|share| framed(&[&[1], &key[..], share].concat()))
            .into_iter()
            .chain([framed(first)])
            .collect()
    })
}

fn other_code(scene: &mut Scene) -> Result<(), String> {
    let text = scene.ticket(scene.key, scene.quic.local_addr().map_err(|error| error.to_string())?);
    scene.grants(scene.code.beside(1), |_, keys| keys.grant(&text), &[4], "the code is not that of the machine")
}

/// What a host with the code sealed for somebody else.
fn other_grant(scene: &mut Scene) -> Result<(), String> {
    let text = scene.ticket(scene.key, scene.quic.local_addr().map_err(|error| error.to_string())?);
    let before = Caller::new(scene.code, [9; 32]);
    let (_, keys) = answer(scene.code, scene.key, &before.first).ok_or("no exchange")?;
    scene.grants(scene.code, |_, _| keys.grant(&text), &[4], "the code is not that of the machine")
}

/// The sealed ticket with the proof of the other side.
fn no_proof(scene: &mut Scene) -> Result<(), String> {
    let text = scene.ticket(scene.key, scene.quic.local_addr().map_err(|error| error.to_string())?);
    let swapped = |_: &mut Scene, keys: &Keys| [&keys.dialler_proof[..], &keys.grant(&text)[PROOF_BYTES..]].concat();
    scene.grants(scene.code, swapped, &[4], "the code is not that of the machine")
}

fn no_ticket(scene: &mut Scene) -> Result<(), String> {
    let loud = "landfall\u{1b}[2J\u{7}\u{202e}".as_bytes();
    scene.grants(scene.code, |_, keys| keys.grant(loud), &[1], "cannot be used")
}

fn other_key(scene: &mut Scene) -> Result<(), String> {
    let text = scene.ticket([9; 32], scene.quic.local_addr().map_err(|error| error.to_string())?);
    scene.grants(scene.code, |_, keys| keys.grant(&text), &[1], "a ticket of another one")
}

/// Who knows the code may name any place; who listens there, and is another, is told nothing that is worth anything.
fn other_place(scene: &mut Scene) -> Result<(), String> {
    let victim = scene.ground.network.bind(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let victim = victim.map_err(|error| error.to_string())?;
    let text = scene.ticket(scene.key, victim.local_addr().map_err(|error| error.to_string())?);
    scene.grants(scene.code, |_, keys| keys.grant(&text), &[3], "no link to the receiver")?;
    victim.set_read_timeout(Some(Duration::from_millis(100))).map_err(|error| error.to_string())?;
    let mut datagram = [0; 2048];
    while let Ok(length) = victim.recv(&mut datagram) {
        scene.heard.extend(&datagram[..length]);
    }
    Ok(())
}

/// Says nothing, and half of what it has to.
fn silent(scene: &mut Scene) -> Result<(), String> {
    scene.seen.cells = 2;
    let (_announced, mut sender) = (scene.announce()?, scene.sender("60s"));
    for part in [&[][..], &framed(&[1; SECOND_BYTES])[..30]] {
        let (mut stream, _) = scene.meet(&mut sender).ok_or("the sender does not come any more")?;
        scene.seen.happened |= std::io::Write::write_all(&mut stream, part).is_ok();
        scene.hears_nothing(stream, "silence");
        scene.seen.noticed_cells += 1;
    }
    scene.seen.survived = u64::from(!sender.has_ended());
    sender.kill();
    Ok(())
}

/// Two show the word: neither is called, since that would be a guess for each.
fn two(scene: &mut Scene) -> Result<(), String> {
    let services =
        ["00c0ffee00aa", "00c0ffee00bb"].map(|name| Service::of(name, scene.code.nameplate(), &scene.port()));
    let announced = Announcer::start(&scene.ground, services.map(|service| service.message()).to_vec())?;
    let sender = scene.sender(PATIENCE);
    scene.ends(sender, &[4], "show the code's first word");
    scene.seen.happened = announced.heard() > 0;
    match scene.listener.accept() {
        Ok(_) => Err("one of two was called".to_owned()),
        Err(_) => Ok(()),
    }
}

/// While all this is said, an honest sender finds an honest receiver.
fn honest_beside(scene: &mut Scene, messages: impl FnOnce(Code) -> Vec<Vec<u8>>) -> Result<(), String> {
    let mut receiver = scene.ground.receiver()?;
    let messages = messages(receiver.code(1)?);
    scene.seen.cells = messages.len() as u64;
    let announced = Announcer::start(&scene.ground, messages)?;
    thread::sleep(Duration::from_millis(500));
    scene.ground.honest(receiver, &mut scene.seen);
    scene.seen.happened = announced.heard() >= scene.seen.cells;
    scene.seen.noticed_cells = scene.seen.cells;
    Ok(())
}

fn announces_broken(scene: &mut Scene) -> Result<(), String> {
    let port = scene.port();
    honest_beside(scene, |code| {
        // A word of no code: with a byte changed it is not the honest one's by chance.
        let nobody = if code.nameplate() == "zoo" { "able" } else { "zoo" };
        broken(&Service::of("00c0ffee00aa", nobody, &port).message())
    })
}

fn thousand_names(scene: &mut Scene) -> Result<(), String> {
    let port = scene.port();
    honest_beside(scene, |code| {
        let nobody = if code.nameplate() == "zoo" { "able" } else { "zoo" };
        let loud = |number: usize| {
            let mut service = Service::of(&format!("\u{1b}[2J{number}\u{7}\r\n"), nobody, &port);
            service.says.push([b"x=", &b"\x1b]0;owned\x07".repeat(20)[..]].concat());
            service.message()
        };
        (0..NAMES).map(loud).collect()
    })
}

/// In few messages, so that all of it comes at once.
fn crowds_of_names(scene: &mut Scene) -> Result<(), String> {
    honest_beside(scene, |_| crowds(20, 400))
}

/// Places at which nobody is to be called, and ports that are none.
fn other_address(scene: &mut Scene) -> Result<(), String> {
    let port = scene.port();
    let places =
        [("224.0.0.251", &*port), ("0.0.0.0", &port), ("127.0.0.1", "0"), ("127.0.0.1", "65536"), ("127.0.0.1", "-1")];
    scene.seen.cells = places.len() as u64;
    let mut heard = 0;
    for (address, port) in places {
        let mut service = Service::of("00c0ffee00aa", scene.code.nameplate(), port);
        service.address = address.parse().map_err(|_| "an address of a case is none")?;
        let announced = Announcer::start(&scene.ground, vec![service.message()])?;
        let sender = scene.sender("1s");
        scene.ends(sender, &[3], "nobody showed the code's first word");
        heard += announced.heard();
        scene.seen.noticed_cells += 1;
    }
    scene.seen.happened = heard == scene.seen.cells;
    if scene.listener.accept().is_ok() {
        return Err("it was called at a place that was not announced".to_owned());
    }
    // The same words with this place in them are followed: it is the place that counts.
    let (_announced, mut sender) = (scene.announce()?, scene.sender(PATIENCE));
    let called = scene.accept(&mut sender);
    sender.kill();
    called.map(drop).ok_or_else(|| "nobody came to the right place, either".to_owned())
}

/// Hands on what both sides say, in two networks, and changes one byte of one frame.
fn middle(scene: &mut Scene) -> Result<(), String> {
    let mut receiver = scene.ground.receiver()?;
    let there = Ground::new()?;
    let (listener, quic) = there.listen()?;
    // From here on `scene` has the place at which the sender calls, and `there` the receiver's network.
    let honest = std::mem::replace(&mut scene.ground, there);
    (scene.listener, scene.quic) = (listener, quic);
    let mut rng = stream(scene.seed, "middle");
    scene.seen.cells = (4 * CHANGES) as u64;
    let mut guesses = 0;
    for number in 0..4 * CHANGES {
        scene.code = receiver.code(guesses + 1)?;
        let (_announced, mut sender) = (scene.announce()?, scene.sender(PATIENCE));
        let changed = hand_on(scene, &honest, &mut sender, Some(number % 4), &mut rng)?;
        if changed.is_none() {
            return Err(format!("frame {} did not come", number % 4));
        }
        scene.seen.happened = true;
        scene.seen.log.push(format!("frame {} changed at {changed:?}", number % 4));
        let says = if number % 4 < 2 { "" } else { "the code is not that of the machine" };
        scene.ends(sender, &[3, 4], says);
        thread::sleep(Duration::from_millis(100));
        guesses = receiver.codes().len() - 1;
        scene.seen.noticed_cells += 1;
    }
    // With nothing changed the ticket comes: it is the change that counts.
    scene.code = receiver.code(guesses + 1)?;
    let (_announced, mut sender) = (scene.announce()?, scene.sender(PATIENCE));
    hand_on(scene, &honest, &mut sender, None, &mut rng)?;
    scene.ends(sender, &[3], "no link to the receiver");
    honest.honest(receiver, &mut scene.seen);
    Ok(())
}

/// One exchange, with a bit changed in one frame: at which byte.
fn hand_on(
    scene: &mut Scene,
    honest: &Ground,
    sender: &mut Running,
    frame: Option<usize>,
    rng: &mut impl Rng,
) -> Result<Option<usize>, String> {
    // The sender before may have called once more.
    while scene.listener.accept().is_ok() {}
    let mut near = scene.accept(sender).ok_or("the sender does not come")?;
    let called = honest.network.inside(|| TcpStream::connect(DOOR));
    let mut far = called.map_err(|error| format!("the receiver: {error}"))?;
    let mut changed = None;
    for number in 0..4 {
        let is_near = number % 2 == 0;
        let Some(mut bytes) = receive(if is_near { &mut near } else { &mut far }, SOON) else { break };
        scene.heard.extend(&bytes);
        if frame == Some(number) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
            changed = Some(at);
        }
        if send(if is_near { &mut far } else { &mut near }, &bytes).is_err() {
            break;
        }
    }
    Ok(changed)
}
