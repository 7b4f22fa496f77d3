//! Where a script is performed: a scratch directory, one process of the shipped binary, a canary beside its
//! directories; and the judgement of what came of it, from outside: exit code and words, memory, the target's tree,
//! the canary, the bytes on its streams.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use landfall::identity::{Role, Secret};
use landfall::ticket::Ticket;
use rustix::fs::FileType;

use super::act::{Act, Play};
use super::keys::{Face, Key};
use super::line::{self, End, Line};
use crate::rig::oracle::{self, Canary, Snapshot};
use crate::rig::process::{Finished, Landfall, Running, peak_bytes};
use crate::rig::scratch::Scratch;

/// Memory that an attack may cost the binary, in bytes.
pub const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// How long the binary may take to end after an attack.
const END_PATIENCE: Duration = Duration::from_secs(25);

/// Who dials whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The binary listens.
    Listens,
    /// The binary dials a ticket of ours.
    Dials,
}

/// What may stand in the target after a script, beside what stood there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A file with this content.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symlink with this text.
    Link(Vec<u8>),
}

/// A script and what has to come of it.
#[derive(Clone, Debug)]
pub struct Script {
    /// What the binary does: the hostile peer has the other role.
    pub product: Role,
    /// Who dials.
    pub way: Way,
    /// More options of the binary.
    pub options: Vec<String>,
    /// What is put into place before the binary starts.
    pub plant: fn(&Place),
    /// The steps.
    pub acts: Vec<Act>,
    /// Exit codes that are right.
    pub exits: Vec<i32>,
    /// A part of what the binary has to say.
    pub says: String,
    /// What may be in the target: at a path, one of these.
    pub allowed: BTreeMap<Vec<u8>, Vec<Thing>>,
    /// All of it has to be.
    pub is_complete: bool,
}

impl Script {
    /// The binary receives, listening, and the attack has to end it: exit 1.
    pub fn against_receiver(acts: Vec<Act>) -> Script {
        Script {
            product: Role::Receiver,
            way: Way::Listens,
            options: vec![],
            plant: |_| (),
            acts,
            exits: vec![1],
            says: String::new(),
            allowed: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// The binary sends, listening.
    pub fn against_sender(acts: Vec<Act>) -> Script {
        Script { product: Role::Sender, ..Script::against_receiver(acts) }
    }

    /// The binary dials.
    #[must_use]
    pub fn dialled(mut self) -> Script {
        self.way = Way::Dials;
        self
    }

    /// It has to end so, and say so.
    #[must_use]
    pub fn ends(mut self, exits: &[i32], says: &str) -> Script {
        (self.exits, self.says) = (exits.to_vec(), says.to_owned());
        self
    }

    /// With this on its command line.
    #[must_use]
    pub fn option(mut self, option: &str) -> Script {
        self.options.push(option.to_owned());
        self
    }

    /// With something put into place first.
    #[must_use]
    pub fn plant(mut self, plant: fn(&Place)) -> Script {
        self.plant = plant;
        self
    }

    /// This may be in the target, there or in the place of what else may be.
    #[must_use]
    pub fn allow(mut self, path: &[u8], thing: Thing) -> Script {
        self.allowed.entry(path.to_vec()).or_default().push(thing);
        self
    }

    /// All that is allowed has to be there.
    #[must_use]
    pub fn all(mut self) -> Script {
        self.is_complete = true;
        self
    }
}

/// The directories of one run.
pub struct Place {
    scratch: Scratch,
    /// `LANDFALL_HOME` of the binary.
    pub home: PathBuf,
    /// DIR of a receiver.
    pub target: PathBuf,
    /// Source of a sender.
    pub source: PathBuf,
    /// Outside of everything.
    pub canary: Canary,
}

/// What the source of a hostile receiver's sender holds.
pub const SOURCE: &[u8] = b"the only bytes that were offered";

impl Default for Place {
    fn default() -> Place {
        Place::new()
    }
}

impl Place {
    /// Fresh ones.
    pub fn new() -> Place {
        let scratch = Scratch::new("hostile");
        let (home, target) = (scratch.dir("home"), scratch.dir("target"));
        let source = scratch.join("source");
        std::fs::write(&source, SOURCE).expect("a fresh scratch directory");
        let canary = Canary::new(&scratch.join("canary"));
        Place { home, target, source, canary, scratch }
    }

    /// A path beside them.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The binary in this role, with JSON events unless told otherwise.
    pub fn command(&self, script: &Script, ticket: Option<&str>) -> Landfall {
        let command = Landfall::new("hostile", &self.home);
        let command = match script.product {
            Role::Receiver => command.arg("recv").arg(&self.target),
            Role::Sender => command.arg("send").arg(&self.source),
        };
        let command = match ticket {
            Some(text) => {
                std::fs::write(self.beside("their-ticket"), text).expect("a fresh scratch directory");
                command.arg("--ticket-file").arg(self.beside("their-ticket"))
            }
            None => command.args(["--listen", "127.0.0.1:0"]).arg("--write-ticket").arg(self.beside("ticket")),
        };
        let is_patient = script.options.iter().any(|option| option == "--patience");
        let patience: &[&str] = if is_patient { &[] } else { &["--patience", "2s"] };
        command.arg("--yes").args(patience).args(&script.options)
    }

    /// Waits for the binary's ticket and reads it.
    pub fn ticket(&self, running: &mut Running) -> Result<Ticket, String> {
        let path = self.beside("ticket");
        if !running.wait_until("a ticket", Duration::from_secs(20), |_| path.exists()) {
            return Err(running.describe("ended without a ticket"));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        Ticket::decode(&text).map_err(|error| error.to_string())
    }
}

/// What was seen of one run.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How many attacks the run holds.
    pub cells: u64,
    /// Of these, how many were noticed, where there are several.
    pub noticed_cells: u64,
    /// The attack was made.
    pub happened: bool,
    /// The binary noticed: it ended as it has to, and said what has to be said.
    pub noticed: bool,
    /// Of the attacks, how many left honest work as it has to be: a transfer beside or after it went through, or what
    /// had arrived before it was kept.
    pub survived: u64,
    /// What must never be.
    pub wrongs: Vec<String>,
    /// What is not as it has to be, and is not wrong either.
    pub complaints: Vec<String>,
    /// The harness could not do it.
    pub failed: Option<String>,
    /// What this machine or this user lacks for it.
    pub lacks: Option<String>,
    /// What happened.
    pub log: Vec<String>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            cells: 1,
            noticed_cells: 0,
            happened: false,
            noticed: false,
            survived: 0,
            wrongs: vec![],
            complaints: vec![],
            failed: None,
            lacks: None,
            log: vec![],
        }
    }
}

/// Performs a script.
pub fn perform(script: &Script, key: &Key) -> Seen {
    let place = Place::new();
    (script.plant)(&place);
    let before = oracle::snapshot(&place.target);
    let mut seen = Seen::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let (running, base_bytes) = match runtime.block_on(play(script, key, &place, &mut seen)) {
        Ok(found) => found,
        Err(error) => {
            seen.failed = Some(error);
            return seen;
        }
    };
    drop(runtime);
    let Some(finished) = finish(running, END_PATIENCE, &mut seen) else { return seen };
    judge_end(script, &finished, base_bytes, &mut seen);
    judge_tree(script, &before, &oracle::snapshot_without(&place.target, &[b".landfall"]), &mut seen);
    seen.survived |= u64::from(finished.code() == Some(0));
    let changed = place.canary.changes();
    seen.wrongs.extend(changed.into_iter().map(|what| format!("outside the target: {what}")));
    seen
}

async fn play(script: &Script, key: &Key, place: &Place, seen: &mut Seen) -> Result<(Running, u64), String> {
    let odd = |end: End| format!("{end:?}");
    let (running, line, secret, base_bytes) = match script.way {
        Way::Listens => {
            let mut running = place.command(script, None).start();
            let ticket = place.ticket(&mut running)?;
            let base_bytes = peak_bytes(running.id()).unwrap_or_default();
            let address = line::address_of(&ticket).map_err(odd)?;
            let line = Line::dial(key, address).await.map_err(odd)?;
            (running, line, ticket.secret, base_bytes)
        }
        Way::Dials => {
            let endpoint = line::listen(&Face::of(key)).map_err(odd)?;
            let ticket = ticket_of(&endpoint, key, script.product.other())?;
            let running = place.command(script, Some(&ticket.encode())).start();
            let line = Line::accept(endpoint, key).await.map_err(odd)?;
            let base_bytes = peak_bytes(running.id()).unwrap_or_default();
            (running, line, ticket.secret, base_bytes)
        }
    };
    let mut play = Play::new(line, key, script.product.other(), &secret);
    let (done, end) = play.perform(&script.acts).await;
    let marker = script.acts.iter().position(|act| matches!(act, Act::Hostile));
    // An attack that was sent in one piece may be answered before the last act of it returns.
    seen.happened = marker.is_some_and(|marker| done > marker + 1 || (done > marker && end.is_none()));
    seen.log.push(format!("{done} of {} acts, {end:?}", script.acts.len()));
    let end = play.line.end(END_PATIENCE).await;
    seen.log.push(format!("the connection ended with {end:?}"));
    seen.wrongs.append(&mut play.wrongs);
    Ok((running, base_bytes))
}

/// A ticket of this side, for the binary to dial.
pub fn ticket_of(endpoint: &quinn::Endpoint, key: &Key, role: Role) -> Result<Ticket, String> {
    let address = endpoint.local_addr().map_err(|error| error.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let secret = Secret::from_bytes([0x42; 16]);
    Ok(Ticket { role, key: key.public(), secret, addresses: vec![address], expiry_seconds: now.as_secs() + 3600 })
}

/// Waits for the end of the binary. One that does not end is killed, and that is the verdict.
pub fn finish(mut running: Running, patience: Duration, seen: &mut Seen) -> Option<Finished> {
    let deadline = Instant::now() + patience;
    while !running.has_ended() {
        if Instant::now() > deadline {
            seen.complaints.push(format!("it did not end within {patience:?}\n{}", running.describe("is running")));
            running.kill();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(running.wait(Duration::from_secs(5)))
}

/// Exit code, words, memory, and whether anything on its streams could rewrite a terminal.
fn judge_end(script: &Script, finished: &Finished, base_bytes: u64, seen: &mut Seen) {
    let text = finished.text();
    let is_right = finished.code().is_some_and(|code| script.exits.contains(&code));
    if finished.code() == Some(0) && !script.exits.contains(&0) {
        seen.wrongs.push(format!("it said that all is well\n{}", finished.describe()));
    } else if !is_right {
        seen.complaints.push(format!("exit code, not one of {:?}\n{}", script.exits, finished.describe()));
    }
    let is_said = text.contains(&script.says);
    if !is_said {
        seen.complaints.push(format!("it does not say `{}`\n{}", script.says, finished.describe()));
    }
    seen.noticed = is_right && is_said;
    judge_streams(finished, seen);
    let growth = finished.peak_bytes.saturating_sub(base_bytes);
    if base_bytes > 0 && growth > GROWTH_BYTES_MAX {
        seen.wrongs.push(format!("its memory grew by {} MiB", growth >> 20));
    }
}

/// No panic, and nothing that a terminal would obey.
pub fn judge_streams(finished: &Finished, seen: &mut Seen) {
    let text = finished.text();
    if text.contains("panicked") {
        seen.wrongs.push(format!("it panicked\n{}", finished.describe()));
    }
    let both = [&finished.stdout[..], &finished.stderr].concat();
    match std::str::from_utf8(&both) {
        Ok(text) => {
            if let Some(bad) = text.chars().find(|c| is_obeyed(*c)) {
                seen.wrongs.push(format!("it printed {bad:?} as it is\n{}", finished.describe()));
            }
        }
        Err(error) => seen.wrongs.push(format!("it printed bytes that are no UTF-8: {error}")),
    }
}

/// Whether a terminal, or a reader's eye, would be led astray by it.
fn is_obeyed(c: char) -> bool {
    let is_hidden =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    is_hidden || (c.is_control() && c != '\n')
}

/// Everything in the target stood there before, or is allowed; with `is_complete`, all that is allowed stands there.
fn judge_tree(script: &Script, before: &Snapshot, after: &Snapshot, seen: &mut Seen) {
    for (path, node) in after.iter().filter(|(path, _)| !path.is_empty()) {
        let shown = path.escape_ascii();
        let is_old = before.get(path).is_some_and(|old| old.kind == node.kind && old.digest == node.digest);
        match (script.allowed.get(path), is_old) {
            (Some(things), _) if things.iter().any(|thing| is_thing(thing, node)) => seen.survived = 1,
            (_, true) => {}
            (Some(things), false) => seen.wrongs.push(format!("{shown} is none of {things:?} but {node:?}")),
            (None, false) => seen.wrongs.push(format!("{shown} was made: {:?}", node.kind)),
        }
        if node.mode & 0o7000 != 0 {
            seen.wrongs.push(format!("{shown} has mode {:04o}", node.mode));
        }
    }
    let is_missing = |path: &Vec<u8>| !after.contains_key(path);
    for path in script.allowed.keys().filter(|path| script.is_complete && is_missing(path)) {
        seen.complaints.push(format!("{} is missing", path.escape_ascii()));
    }
    if before.get(&vec![]).map(|root| root.mode) != after.get(&vec![]).map(|root| root.mode) {
        seen.wrongs.push("the mode of DIR itself changed".to_owned());
    }
}

fn is_thing(thing: &Thing, node: &oracle::Node) -> bool {
    match thing {
        Thing::File(content) => {
            node.kind == FileType::RegularFile && node.digest == Ok(Some(*blake3::hash(content).as_bytes()))
        }
        Thing::Directory => node.kind == FileType::Directory,
        Thing::Link(text) => node.kind == FileType::Symlink && node.target.as_ref() == Some(text),
    }
}
