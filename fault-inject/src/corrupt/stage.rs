//! A stage for one corruption: source, homes, target, both sides in their places, and the telling of what they do.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use landfall::identity::Role;
use landfall::wire::{ChunkHeader, Message};
use rand_chacha::ChaCha8Rng;

use super::at_rest::{self, Piece};
use super::{Corruption, Found, Layer};
use crate::above::{Above, Between, Meddler};
use crate::child::Child;
use crate::rig::oracle::{self, Rules};
use crate::rig::process::{Finished, Running};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Listens, Live, Setup};
use crate::rig::tree::{Content, Tree};
use crate::rng::{Odds, stream};

/// How often both sides are started at most: exit 3 asks for it.
const LIVES_MAX: u32 = 6;
/// A life that takes longer has hung.
const LIFE: Duration = Duration::from_secs(120);
/// Between two looks at what the sides say.
const PAUSE: Duration = Duration::from_millis(20);
/// Files of the source.
const FILES: u32 = 8;
/// What the link carries until the run is stopped in the middle.
const SLOW_BYTES_PER_S: u64 = 12 << 20;

/// Flips bytes in chunks after the sender has hashed them.
pub(super) struct Flipper {
    corruption: Corruption,
    odds: Odds,
    stream: ChaCha8Rng,
    seen: u64,
    injected: Vec<String>,
}

impl Meddler for Flipper {
    fn chunk(&mut self, header: &mut ChunkHeader, body: &mut Vec<u8>) {
        self.seen += 1;
        // The second is hit in any case, so that no run shows nothing.
        if self.odds.draw(&mut self.stream) || self.seen == 2 {
            let size = self.corruption.draw(&mut self.stream);
            size.apply(body, &mut self.stream);
            self.injected.push(format!("chunk {} of entry {}: {}", header.chunk, header.entry.0, size.word()));
        }
    }

    fn message(&mut self, _to: Role, message: Message) -> Vec<Message> {
        vec![message]
    }
}

pub(super) struct Stage {
    corruption: Corruption,
    source: PathBuf,
    setup: Setup,
    child: Child,
    above: Option<Above<Flipper>>,
    /// Lines of the child's log that have been told.
    told: usize,
    pieces: Vec<Piece>,
    // Last, so that it is removed when everything else has ended.
    _scratch: Scratch,
}

impl Stage {
    /// Makes the source and both homes, and puts the fault in its place.
    pub(super) fn set(corruption: &Corruption) -> Result<Stage, String> {
        let scratch = Scratch::new(&format!("corrupt-{}", corruption.layer.word()));
        let mut tree = Tree::new(&scratch.join("source"), corruption.seed);
        for file in 0..FILES {
            tree.file(format!("file-{file}"), &Content::Random(corruption.bytes / u64::from(FILES)));
        }
        let source = tree.finish();
        let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
        let child = Child { rules: vec![], seed: corruption.seed, log: scratch.join("injected") };
        let below = |rules| Child { rules, ..child.clone() }.command().map_err(|error| error.to_string());
        let receiver = corruption.layer.receiver_rules(corruption);
        let mut above = None;
        match corruption.layer {
            Layer::Network => {
                let relay = setup.through_relay(corruption.seed);
                relay.corrupt_permille(corruption.rate.div_ceil(1000));
            }
            Layer::Source | Layer::DiskRest | Layer::Metadata => {
                setup.through_relay(corruption.seed).rate(SLOW_BYTES_PER_S)
            }
            Layer::SenderMemory => {
                let (front, back) = setup.led_astray();
                let flipper = Flipper {
                    corruption: corruption.clone(),
                    odds: Odds::per_million(corruption.rate),
                    stream: stream(corruption.seed, "above"),
                    seen: 0,
                    injected: vec![],
                };
                let between = Between {
                    front,
                    back,
                    listener_home: &setup.receiver_home,
                    dialler_home: &setup.sender_home,
                    ticket: &setup.dialled_ticket(),
                    dialler: Role::Sender,
                };
                above = Some(Above::start(&between, flipper)?);
            }
            _ => (),
        }
        if !receiver.is_empty() {
            setup.receiver_below = below(receiver)?;
        }
        Ok(Stage {
            corruption: corruption.clone(),
            source,
            setup,
            child,
            above,
            told: 0,
            pieces: vec![],
            _scratch: scratch,
        })
    }

    /// Runs both sides until they have ended well, or have not.
    pub(super) fn play(&mut self, tell: &mut dyn FnMut(&str)) -> Result<Found, String> {
        let mut found = Found::default();
        let mut live = self.setup.start();
        match self.corruption.layer {
            Layer::DiskRest | Layer::Metadata => live = self.rot_half_way(live, tell)?,
            Layer::Source => live = self.read_again(live)?,
            _ => (),
        }
        for life in 1..=LIVES_MAX {
            let (sender, receiver) = self.watch(live, tell)?;
            for finished in [&sender, &receiver] {
                found.noticed += mismatches(finished, |_| true);
                // What a second read found right needed nothing else.
                found.cured += mismatches(finished, |found| found == "bad-read");
                found.cured += finished.summary().and_then(|summary| summary["resent_chunks"].as_u64()).unwrap_or(0);
            }
            found.noticed += rebuilt(&sender) + rebuilt(&receiver);
            let codes = (sender.code(), receiver.code());
            tell(&format!("run {life} ended: sender {}, receiver {}", shown(codes.0), shown(codes.1)));
            for finished in [&sender, &receiver] {
                let named = finished.events().into_iter().filter(|event| event["event"] == "left-out");
                found.left_out.extend(named.filter_map(|event| event["path"].as_str().map(str::to_owned)));
            }
            // What cannot be cured is named, and everything else delivered.
            found.is_done = [codes.0, codes.1].iter().all(|code| matches!(code, Some(0 | 5)));
            found.ending = format!("{}\n{}", sender.describe(), receiver.describe());
            if found.is_done || ![codes.0, codes.1].contains(&Some(3)) || life == LIVES_MAX {
                break;
            }
            live = self.setup.restart();
        }
        self.judge(&mut found, tell);
        Ok(found)
    }

    /// Kills both in the middle, damages what lies there, and starts them again.
    fn rot_half_way(&mut self, mut live: Live, tell: &mut dyn FnMut(&str)) -> Result<Live, String> {
        let places = self.setup.places(FILES as usize);
        let wanted = self.corruption.bytes / 3;
        let is_half_way = live.receiver.wait_until("a third of the bytes", LIFE, |_| {
            let look = places.look();
            look.staging_bytes >= wanted.min(4 << 20) && look.journal_bytes > 0
        });
        if !is_half_way {
            return Err(format!("the receiver ended early\n{}", live.receiver.wait(LIFE).describe()));
        }
        live.kill_both();
        let files = match self.corruption.layer {
            Layer::DiskRest => at_rest::staged(&places),
            _ => at_rest::metadata(&places),
        };
        let mut stream = stream(self.corruption.seed, "at rest");
        self.pieces = at_rest::damage(&files, &self.corruption, &mut stream).map_err(|error| error.to_string())?;
        for piece in &self.pieces {
            let name = piece.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tell(&format!("injected: `{name}` damaged at {}", piece.at));
        }
        self.setup.relay().rate(0);
        Ok(self.setup.restart())
    }

    /// Kills both when everything is hashed and little has arrived, and starts them again over the faulty disk: what the
    /// sender now reads is compared with what it said before.
    fn read_again(&mut self, mut live: Live) -> Result<Live, String> {
        let is_hashed =
            live.sender.wait_until("a whole manifest", LIFE, |sender| sender.stdout().contains("\"is_total\":true"));
        if !is_hashed {
            return Err(format!("the sender ended early\n{}", live.sender.wait(LIFE).describe()));
        }
        live.kill_both();
        let rules = self.corruption.layer.sender_rules(&self.corruption);
        let child = Child { rules, ..self.child.clone() };
        self.setup.sender_below = child.command().map_err(|error| error.to_string())?;
        self.setup.relay().rate(0);
        Ok(self.setup.restart())
    }

    /// Waits for both, and tells what is injected and caught meanwhile.
    fn watch(&mut self, live: Live, tell: &mut dyn FnMut(&str)) -> Result<(Finished, Finished), String> {
        let Live { mut sender, mut receiver } = live;
        let (mut said_sender, mut said_receiver) = (0, 0);
        let deadline = Instant::now() + LIFE;
        loop {
            let is_over = sender.has_ended() & receiver.has_ended();
            self.tell_injected(tell);
            tell_caught("sender", &sender, &mut said_sender, tell);
            tell_caught("receiver", &receiver, &mut said_receiver, tell);
            if is_over {
                return Ok((sender.wait(LIFE), receiver.wait(LIFE)));
            }
            if Instant::now() > deadline {
                let states = [receiver.describe("hangs"), sender.describe("hangs")].join("\n");
                return Err(format!("no end within {LIFE:?}\n{states}"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn injected(&self) -> Vec<String> {
        match (&self.above, self.corruption.layer) {
            (Some(above), _) => above.meddler().injected.clone(),
            (None, Layer::Network) => vec![],
            (None, _) => self.child.injected(),
        }
    }

    fn tell_injected(&mut self, tell: &mut dyn FnMut(&str)) {
        let lines = self.injected();
        for line in &lines[self.told.min(lines.len())..] {
            tell(&format!("injected: {line}"));
        }
        self.told = lines.len();
    }

    /// Compares what stands under final names with the source, byte by byte, and counts.
    fn judge(&self, found: &mut Found, tell: &mut dyn FnMut(&str)) {
        let arrived = self.setup.target.join("source");
        let target = if arrived.is_dir() { oracle::snapshot(&arrived) } else { oracle::Snapshot::new() };
        let left_out: Vec<&[u8]> =
            found.left_out.iter().map(|path| path.trim_start_matches("source/").as_bytes()).collect();
        let rules = Rules { left_out: &left_out, ..Rules::default() };
        let mut differences = oracle::differences(&oracle::snapshot(&self.source), &target, &rules);
        if !found.is_done {
            // Nothing was acknowledged: what is missing is not wrong, and attributes of directories come last.
            differences.retain(|difference| difference.contains(": bytes ") || difference.contains(": size "));
        }
        found.differences = differences;
        found.injected = match self.corruption.layer {
            Layer::Network => self.setup.relay().harmed(),
            Layer::DiskRest | Layer::Metadata => self.pieces.len() as u64,
            _ => self.injected().len() as u64,
        };
        if matches!(self.corruption.layer, Layer::Network | Layer::DiskRest) && found.is_done {
            // By its effect: none of it is in what was delivered.
            let is_right = found.differences.is_empty();
            found.noticed = if is_right { found.injected } else { 0 };
            found.cured = found.noticed;
        }
        tell(&match found.differences.len() {
            0 if !found.left_out.is_empty() => {
                format!("oracle: right, but for what was named: {}", found.left_out.join(", "))
            }
            0 if found.is_done => "oracle: every file equals its source, byte for byte".to_owned(),
            0 => "oracle: nothing wrong stands under a final name".to_owned(),
            count => format!("oracle: {count} differences: {}", found.differences.join("; ")),
        });
    }
}

fn shown(code: Option<i32>) -> String {
    code.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"))
}

/// Wrong bytes that a side named, by the check that found them.
fn mismatches(finished: &Finished, is_meant: impl Fn(&str) -> bool) -> u64 {
    let is_one =
        |line: &&serde_json::Value| line["event"] == "mismatch" && is_meant(line["found"].as_str().unwrap_or_default());
    finished.events().iter().filter(is_one).count() as u64
}

/// Notices that state was damaged and is made again.
fn rebuilt(finished: &Finished) -> u64 {
    let is_rebuilt = |line: &&serde_json::Value| line["event"] == "notice" && line["kind"] == "state-rebuilt";
    finished.events().iter().filter(is_rebuilt).count() as u64
}

/// Tells the lines of a side's events that speak of something wrong.
fn tell_caught(who: &str, running: &Running, said: &mut usize, tell: &mut dyn FnMut(&str)) {
    let text = running.stdout();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    for line in text[*said..whole].lines() {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("mismatch") => {
                let check = word("found");
                tell(&format!("caught by the {who} ({check}): `{}` at {}", word("path"), event["offset"]));
            }
            Some("notice") if ["state-rebuilt", "retried"].contains(&&*word("kind")) => {
                tell(&format!("{who}: {}", word("message")));
            }
            _ => (),
        }
    }
    *said = whole;
}
