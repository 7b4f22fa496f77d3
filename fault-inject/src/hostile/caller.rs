//! Callers at the door of `recv --lan` who do not know the code, or know it and break the order: none of them is given a
//! ticket, each guess costs a code and nothing else does, and an honest sender with the code that is shown then gets through.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rand::RngCore;

use super::exchange::{
    Caller, Code, FIRST_BYTES, PROOF_BYTES, SECOND_BYTES, SMALL_POINTS, first, framed, receive, rest, send, small_point,
};
use super::ground::{Ground, Receiver};
use super::stage::Seen;
use super::{Attack, Case};
use crate::rng::stream;

/// A caller who stays silent is gone by then.
const DOOR_PATIENCE: Duration = Duration::from_secs(10);
/// What comes at once comes within this.
const SOON: Duration = Duration::from_secs(5);
/// Guesses that one start allows.
const GUESSES: usize = 10;
/// Callers of a crowd.
const CROWD: usize = 200;
/// Descriptors that a crowd may cost: the receiver hears few of it at a time.
const CROWD_DESCRIPTORS_MAX: usize = 16;

/// What a caller does.
pub type Visit = fn(&mut Scene) -> Result<(), String>;

/// What is on the scene.
pub struct Scene {
    ground: Ground,
    receiver: Receiver,
    key: [u8; 32],
    seed: u64,
    seen: Seen,
}

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let all: [(&str, u8, Visit); 14] = [
        ("guesses-wrong", 22, guesses_wrong),
        ("guesses-ten-times", 22, guesses_ten_times),
        ("guesses-twice-on-one-connection", 22, guesses_twice),
        ("guesses-beside-another", 22, guesses_beside_another),
        ("confirms-anything", 22, confirms_anything),
        ("replays-an-honest-exchange", 22, replays),
        ("swaps-roles", 22, swaps_roles),
        ("shares-a-small-point", 20, small_shares),
        ("speaks-another-version", 20, other_versions),
        ("says-garbage", 12, garbage),
        ("says-too-much", 12, too_much),
        ("leaves-before-it-confirms", 17, leaves),
        ("says-half-a-frame-and-is-silent", 17, silent),
        ("comes-two-hundred-times", 18, crowd),
    ];
    let case = |(name, class, visit)| Case { name: format!("lan-caller-{name}"), class, attack: Attack::Caller(visit) };
    all.into_iter().map(case).collect()
}

/// Runs one.
pub fn perform(visit: Visit, key: [u8; 32], seed: u64) -> Seen {
    let mut seen = Seen::default();
    let ground = match Ground::new() {
        Ok(ground) => ground,
        Err(needs) => return Seen { lacks: Some(needs), ..seen },
    };
    let receiver = match ground.receiver() {
        Ok(receiver) => receiver,
        Err(why) => {
            seen.failed = Some(why);
            return seen;
        }
    };
    let mut scene = Scene { ground, receiver, key, seed, seen };
    let done = visit(&mut scene);
    let Scene { ground, mut receiver, mut seen, .. } = scene;
    if let Err(why) = done {
        seen.complaints.push(why);
    }
    seen.noticed = seen.complaints.is_empty();
    if receiver.codes().len() > GUESSES - 1 && receiver.running.ends_within(SOON) {
        spent(receiver, &mut seen);
    } else if receiver.running.has_ended() {
        seen.complaints.push(receiver.running.describe("a caller has ended it"));
    } else {
        ground.honest(receiver, &mut seen);
    }
    seen.wrongs.extend(ground.place.canary.changes().into_iter().map(|what| format!("outside the target: {what}")));
    seen
}

/// After ten guesses it shows no further code.
fn spent(receiver: Receiver, seen: &mut Seen) {
    let Some(finished) = receiver.end(seen) else { return };
    if finished.code() != Some(3) || !finished.text().contains("too many wrong codes") {
        seen.complaints.push(format!("not exit 3 after ten wrong codes\n{}", finished.describe()));
        seen.noticed = false;
    }
    if finished.code() == Some(0) {
        seen.wrongs.push("it said that all is well".to_owned());
    }
}

impl Scene {
    fn caller(&self, code: Code) -> Caller {
        Caller::new(code, self.key)
    }

    /// A caller with the code that is shown now, after so many that are void.
    fn knowing(&mut self, guesses: usize) -> Result<Caller, String> {
        let code = self.shown(guesses)?;
        Ok(self.caller(code))
    }

    /// The code that is shown now: so many were void before.
    fn shown(&mut self, guesses: usize) -> Result<Code, String> {
        self.receiver.code(guesses + 1)
    }

    /// So many guesses were counted, and no more.
    fn has_counted(&mut self, guesses: usize) -> Result<(), String> {
        self.shown(guesses)?;
        std::thread::sleep(Duration::from_millis(50));
        let codes = self.receiver.codes();
        if codes.iter().enumerate().any(|(at, code)| codes[..at].contains(code)) {
            self.seen.wrongs.push("a code that was guessed at is shown again".to_owned());
        }
        let void = codes.len() - 1;
        if void == guesses { Ok(()) } else { Err(format!("{void} codes are void, not {guesses}")) }
    }

    /// Says a first frame; the second one, and the connection.
    fn begin(&mut self, frame: &[u8]) -> Result<(TcpStream, Option<Vec<u8>>), String> {
        let mut stream = self.ground.call()?;
        self.say(&mut stream, &framed(frame))?;
        let second = receive(&mut stream, SOON);
        Ok((stream, second))
    }

    /// Says any bytes: from here on the attack was made.
    fn say(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
        stream.write_all(bytes).map_err(|error| format!("a caller could not speak: {error}"))?;
        self.seen.happened = true;
        Ok(())
    }

    /// Nothing more comes, and the receiver ends it.
    fn gets_nothing(&mut self, mut stream: TcpStream, what: &str) {
        match rest(&mut stream, DOOR_PATIENCE) {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => self.seen.wrongs.push(format!("{what}: {} bytes were given", bytes.len())),
            None => self.seen.complaints.push(format!("{what}: it was left at the door")),
        }
    }

    /// A first frame with which no exchange begins: nothing comes.
    fn is_refused(&mut self, frame: &[u8], what: &str) -> Result<(), String> {
        let mut stream = self.ground.call()?;
        self.say(&mut stream, &framed(frame))?;
        self.gets_nothing(stream, what);
        Ok(())
    }

    /// An exchange up to a confirmation with a code that may be wrong; nothing comes of it.
    fn guess(&mut self, code: Code) -> Result<(), String> {
        let caller = self.caller(code);
        let (mut stream, second) = self.begin(&caller.first)?;
        let keys = second.and_then(|second| caller.keys(&second)).ok_or("a guess was not answered")?;
        self.say(&mut stream, &framed(&keys.dialler_proof))?;
        self.gets_nothing(stream, "a wrong code");
        Ok(())
    }
}

fn guesses_wrong(scene: &mut Scene) -> Result<(), String> {
    let code = scene.shown(0)?;
    scene.guess(code.beside(1))?;
    scene.has_counted(1)?;
    // The right one is void too, by now. Another that has its first word by chance would answer, and say no.
    let caller = scene.caller(code);
    if scene.shown(1)?.0[0] != code.0[0] {
        scene.is_refused(&caller.first, "a void code")?;
    }
    scene.has_counted(1)
}

fn guesses_ten_times(scene: &mut Scene) -> Result<(), String> {
    scene.seen.cells = GUESSES as u64;
    let mut codes = vec![];
    for number in 0..GUESSES {
        let code = scene.shown(number)?;
        codes.push(code);
        scene.guess(code.beside(1 + u16::try_from(number).unwrap_or_default()))?;
        scene.seen.noticed_cells += 1;
    }
    codes.dedup();
    if codes.len() != GUESSES {
        scene.seen.wrongs.push("one code was shown twice".to_owned());
    }
    match scene.receiver.running.ends_within(DOOR_PATIENCE) {
        true => Ok(()),
        false => Err("it goes on after ten wrong codes".to_owned()),
    }
}

/// The right confirmation after a wrong one, on the same connection.
fn guesses_twice(scene: &mut Scene) -> Result<(), String> {
    let code = scene.shown(0)?;
    let caller = scene.caller(code);
    let (mut stream, second) = scene.begin(&caller.first)?;
    let keys = second.and_then(|second| caller.keys(&second)).ok_or("the right code was not answered")?;
    let both = [framed(&[7; PROOF_BYTES]), framed(&keys.dialler_proof)].concat();
    scene.say(&mut stream, &both)?;
    scene.gets_nothing(stream, "a second guess");
    scene.has_counted(1)
}

/// While one guesses, another waits; its guess is one at a code that is void.
fn guesses_beside_another(scene: &mut Scene) -> Result<(), String> {
    let code = scene.shown(0)?;
    let (one, other) = (scene.caller(code.beside(1)), scene.caller(code));
    let (mut stream, second) = scene.begin(&one.first)?;
    let keys = second.and_then(|second| one.keys(&second)).ok_or("a guess was not answered")?;
    let mut beside = scene.ground.call()?;
    scene.say(&mut beside, &framed(&other.first))?;
    if receive(&mut beside, Duration::from_millis(300)).is_some() {
        scene.seen.wrongs.push("two callers guess at one code".to_owned());
    }
    scene.say(&mut stream, &framed(&keys.dialler_proof))?;
    scene.gets_nothing(stream, "a wrong code");
    if scene.shown(1)?.0[0] != code.0[0] {
        scene.gets_nothing(beside, "a guess at a void code");
    }
    scene.has_counted(1)
}

/// Third frames that are no proof of anything.
fn confirms_anything(scene: &mut Scene) -> Result<(), String> {
    let frames = [vec![], vec![0; PROOF_BYTES], vec![0xff; PROOF_BYTES], vec![0; PROOF_BYTES - 1], vec![7; 2048]];
    scene.seen.cells = frames.len() as u64;
    for (number, frame) in frames.into_iter().enumerate() {
        let caller = scene.knowing(number)?;
        let (mut stream, _) = scene.begin(&caller.first)?;
        scene.say(&mut stream, &framed(&frame))?;
        scene.gets_nothing(stream, "no proof");
        scene.has_counted(number + 1)?;
        scene.seen.noticed_cells += 1;
    }
    Ok(())
}

/// Somebody with the code gets the ticket, sealed; who has seen all of that gets nothing with it.
fn replays(scene: &mut Scene) -> Result<(), String> {
    let caller = scene.knowing(0)?;
    let first = caller.first.clone();
    let (mut stream, second) = scene.begin(&first)?;
    let keys = second.and_then(|second| caller.keys(&second)).ok_or("the right code was not answered")?;
    send(&mut stream, &keys.dialler_proof).map_err(|error| error.to_string())?;
    let grant = receive(&mut stream, SOON).ok_or("the right code brought no ticket")?;
    let ticket = keys.open(&grant).ok_or("the ticket is not sealed as it has to be")?;
    if !ticket.starts_with(b"landfall") || grant.windows(8).any(|part| part == &ticket[..8]) {
        scene.seen.wrongs.push("a ticket went over the network as it is".to_owned());
    }
    scene.has_counted(0)?;
    let (mut again, _) = scene.begin(&first)?;
    scene.say(&mut again, &framed(&keys.dialler_proof))?;
    scene.gets_nothing(again, "a replay");
    scene.has_counted(1)
}

/// The receiver's own words, and the proof of the other side.
fn swaps_roles(scene: &mut Scene) -> Result<(), String> {
    scene.seen.cells = 4;
    let code = scene.shown(0)?;
    let (stream, second) = scene.begin(&scene.caller(code).first)?;
    drop(stream);
    let second = second.filter(|second| second.len() == SECOND_BYTES).ok_or("a first frame was not answered")?;
    scene.is_refused(&second, "its own frame")?;
    let own_share = &second[second.len() - 33..];
    scene.is_refused(&first(scene.key, code.0[0], own_share), "its own share")?;
    // Its point as a caller's. Then the whole of its answer for a proof.
    let share = [b"A", &own_share[1..]].concat();
    let (mut stream, answered) = scene.begin(&first(scene.key, code.0[0], &share))?;
    if let Some(answered) = answered {
        scene.say(&mut stream, &framed(&answered))?;
        scene.gets_nothing(stream, "its own answer for a proof");
        scene.has_counted(1)?;
    }
    let guesses = scene.receiver.codes().len() - 1;
    let caller = scene.knowing(guesses)?;
    let (mut stream, second) = scene.begin(&caller.first)?;
    let keys = second.and_then(|second| caller.keys(&second)).ok_or("the right code was not answered")?;
    scene.say(&mut stream, &framed(&keys.listener_proof))?;
    scene.gets_nothing(stream, "the receiver's own proof");
    scene.has_counted(guesses + 1)?;
    scene.seen.noticed_cells = 4;
    Ok(())
}

fn small_shares(scene: &mut Scene) -> Result<(), String> {
    let nameplate = scene.shown(0)?.0[0];
    let both = SMALL_POINTS.iter().flat_map(|hex| [small_point(hex, false), small_point(hex, true)]);
    let shares: Vec<Vec<u8>> = both.map(|point| [b"A", &point[..]].concat()).collect();
    scene.seen.cells = shares.len() as u64;
    for share in shares {
        scene.is_refused(&first(scene.key, nameplate, &share), "a small point")?;
        scene.seen.noticed_cells += 1;
    }
    scene.has_counted(0)
}

fn other_versions(scene: &mut Scene) -> Result<(), String> {
    let code = scene.shown(0)?;
    let whole = scene.caller(code).first;
    let elsewhere = scene.caller(Code([(code.0[0] + 1) % 2048, code.0[1], code.0[2]])).first;
    let version = |version: u8| [&[version], &whole[1..]].concat();
    let mut side = whole.clone();
    side[FIRST_BYTES - 33] = b'S';
    let frames = [version(0), version(2), version(255), vec![2], [&whole[..], &[0]].concat(), elsewhere, side];
    scene.seen.cells = frames.len() as u64;
    for frame in frames {
        scene.is_refused(&frame, "another version, code or side")?;
        scene.seen.noticed_cells += 1;
    }
    scene.has_counted(0)
}

fn garbage(scene: &mut Scene) -> Result<(), String> {
    let mut rng = stream(scene.seed, "garbage");
    let lengths = [0, 1, 31, SECOND_BYTES, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, 600, 2048];
    scene.seen.cells = lengths.len() as u64;
    for length in lengths {
        let mut frame = vec![0; length];
        rng.fill_bytes(&mut frame);
        scene.is_refused(&frame, "garbage")?;
        scene.seen.noticed_cells += 1;
    }
    scene.has_counted(0)
}

/// Lengths beyond any frame's, and as much as they say and more.
fn too_much(scene: &mut Scene) -> Result<(), String> {
    scene.seen.cells = 3;
    for length in [2049_u16, 0x7fff, u16::MAX] {
        let mut stream = scene.ground.call()?;
        scene.say(&mut stream, &length.to_be_bytes())?;
        for _ in 0..64 {
            // It may have ended it already.
            if stream.write_all(&[0xa5; 1 << 16]).is_err() {
                break;
            }
        }
        scene.gets_nothing(stream, "an endless frame");
        scene.seen.noticed_cells += 1;
    }
    scene.has_counted(0)
}

/// It has learnt nothing, and no code is void.
fn leaves(scene: &mut Scene) -> Result<(), String> {
    let code = scene.shown(0)?;
    scene.seen.cells = 50;
    for number in 0..50 {
        let caller = scene.caller(code.beside(number));
        let (stream, second) = scene.begin(&caller.first)?;
        drop(stream);
        // It has left before it confirmed only if it could have.
        let second = second.ok_or("a caller was not answered")?;
        caller.keys(&second).ok_or("the answer is none")?;
        scene.seen.noticed_cells += 1;
    }
    scene.has_counted(0)
}

fn silent(scene: &mut Scene) -> Result<(), String> {
    let caller = scene.knowing(0)?;
    let first = framed(&caller.first);
    scene.seen.cells = 3;
    let mut streams = vec![];
    for part in [&first[..1], &first[..40]] {
        let mut stream = scene.ground.call()?;
        scene.say(&mut stream, part)?;
        streams.push(stream);
    }
    let (mut stream, second) = scene.begin(&caller.first)?;
    second.and_then(|second| caller.keys(&second)).ok_or("a caller was not answered")?;
    scene.say(&mut stream, &framed(&[7; PROOF_BYTES])[..20])?;
    streams.push(stream);
    for stream in streams {
        scene.gets_nothing(stream, "half a frame");
        scene.seen.noticed_cells += 1;
    }
    scene.has_counted(0)
}

fn crowd(scene: &mut Scene) -> Result<(), String> {
    let id = scene.receiver.running.id();
    let descriptors = || std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
    let before = descriptors();
    let dial = || {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let all = (0..CROWD).map(|_| {
            let socket = socket()?;
            socket.set_nonblocking(true)?;
            // It is on its way, or there already.
            let _ = socket.connect(&super::ground::DOOR.into());
            Ok(socket)
        });
        all.collect::<std::io::Result<Vec<_>>>()
    };
    let held = scene.ground.network.inside(dial).map_err(|error| error.to_string())?;
    scene.seen.cells = held.len() as u64;
    scene.seen.happened = held.len() == CROWD;
    let mut most = 0;
    for _ in 0..40 {
        most = most.max(descriptors());
        std::thread::sleep(Duration::from_millis(50));
    }
    let cost = most.saturating_sub(before);
    scene.seen.log.push(format!("the crowd cost {cost} descriptors"));
    if cost == 0 {
        return Err("nobody of the crowd was heard".to_owned());
    }
    if cost > CROWD_DESCRIPTORS_MAX {
        scene.seen.wrongs.push(format!("a crowd costs {cost} descriptors"));
    }
    drop(held);
    scene.seen.noticed_cells = CROWD as u64;
    scene.has_counted(0)
}
