//! Races: a local user exchanges a name that the binary is about to use for a link to the outside, or for a pipe,
//! again and again while a transfer runs. `renameat2(RENAME_EXCHANGE)` makes each swap atomic, so that at every
//! moment one of the two stands there. The outside never changes, nothing of it is sent, and nobody waits for ever.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use landfall::identity::Role;
use landfall::limits::CHUNK_BYTES;
use rand::Rng;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::act::{Act, Play};
use super::keys::Key;
use super::line::{self, Line};
use super::names::opening;
use super::stage::{self, Place, Script, Seen};
use super::words::Manifest;
use super::{Attack, Case};
use crate::rig::oracle;
use crate::rig::process::{Landfall, Running};
use crate::rng::stream;

/// Swaps of one race in a whole run.
pub const SWAPS: u64 = 2000;
/// Transfers of one race at least, however fast the swaps were.
const TRANSFERS_MIN: u64 = 4;
/// However slow they are, a race ends.
const RACE_MAX: Duration = Duration::from_secs(60);
/// Longest pause between two swaps.
const PAUSE_US_MAX: u64 = 300;

/// One race.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// Which side of the transfer is the binary under attack.
    pub side: Role,
    /// What is swapped: a path in DIR or in the source; `ID` is the transfer.
    pub path: &'static str,
    /// What it is swapped for: a link with this text beside the canary, or a pipe.
    pub decoy: Decoy,
    /// Swaps that are to be made.
    pub swaps: u64,
    /// How the target stands at the start.
    pub existing: &'static str,
}

/// What takes a name's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoy {
    /// A link to the canary's directory, or to something in it.
    Link(&'static str),
    /// A pipe.
    Pipe,
}

/// All cases of this room, with so many swaps each.
pub fn cases(swaps: u64) -> Vec<Case> {
    let (out, song) = (Decoy::Link(""), Decoy::Link("song"));
    let receiver: [(&str, &'static str, Decoy, &'static str); 11] = [
        ("parent-of-files", "d", out, "refuse"),
        ("parent-when-replacing", "d", out, "replace"),
        ("parent-for-a-pipe", "d", Decoy::Pipe, "refuse"),
        ("inner-parent", "d/inner", out, "refuse"),
        ("file-when-replacing", "d/f0", song, "replace"),
        ("file-when-refusing", "d/f0", song, "refuse"),
        ("state", ".landfall", out, "refuse"),
        ("transfer-state", ".landfall/ID", out, "refuse"),
        ("staging", ".landfall/ID/staging", out, "refuse"),
        ("journal", ".landfall/ID/journal", song, "refuse"),
        ("dir-itself", "", out, "replace"),
    ];
    let sender: [(&str, &'static str, Decoy); 4] = [
        ("source-directory", "d", out),
        ("source-inner-directory", "d/inner", out),
        ("source-file", "d/f0", song),
        ("source-file-for-a-pipe", "d/f0", Decoy::Pipe),
    ];
    let mut all = vec![];
    let mut add = |name: &str, race: Race| {
        let class = if race.side == Role::Sender { 6 } else { 5 };
        all.push(Case { name: format!("race-{name}"), class, attack: Attack::Race(race) });
    };
    for (name, path, decoy, existing) in receiver {
        add(name, Race { side: Role::Receiver, path, decoy, swaps, existing });
    }
    for (name, path, decoy) in sender {
        add(name, Race { side: Role::Sender, path, decoy, swaps, existing: "refuse" });
    }
    all
}

/// Runs transfers until the swaps were made.
pub fn perform(race: &Race, key: &Key, seed: u64) -> Seen {
    let mut seen = Seen { cells: 0, ..Seen::default() };
    let began = Instant::now();
    let mut transfers = 0;
    while (seen.cells < race.swaps || transfers < TRANSFERS_MIN) && began.elapsed() < RACE_MAX {
        let (swaps, disturbed) = (seen.cells, seen.noticed_cells);
        let result = match race.side {
            Role::Receiver => receive_once(race, key, seed ^ transfers, &mut seen),
            Role::Sender => send_once(race, seed ^ transfers, &mut seen),
        };
        if seen.noticed_cells == disturbed {
            seen.survived += seen.cells - swaps;
        }
        if let Err(why) = result {
            seen.failed = Some(why);
            return seen;
        }
        transfers += 1;
        if !seen.wrongs.is_empty() || !seen.complaints.is_empty() {
            break;
        }
    }
    seen.happened = seen.cells >= race.swaps;
    seen.log.push(format!("{} swaps in {transfers} transfers, {} of them disturbed", seen.cells, seen.noticed_cells));
    if !seen.happened && seen.wrongs.is_empty() && seen.complaints.is_empty() {
        seen.complaints.push(format!("only {} of {} swaps were made", seen.cells, race.swaps));
    }
    seen
}

/// Swaps two names until told to stop. Gives how many times it did.
fn swap(at: &Path, decoy: &Path, seed: u64, stop: &AtomicBool, swaps: &AtomicU64) {
    let mut rng = stream(seed, "swap");
    while !stop.load(Ordering::Relaxed) {
        if renameat_with(CWD, at, CWD, decoy, RenameFlags::EXCHANGE).is_ok() {
            swaps.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..PAUSE_US_MAX)));
    }
}

/// Runs something while a name is being swapped.
fn while_swapping<T>(at: &Path, decoy: &Path, seed: u64, seen: &mut Seen, run: impl FnOnce(&mut Seen) -> T) -> T {
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| swap(at, decoy, seed, &stop, &swaps));
        let result = run(seen);
        stop.store(true, Ordering::Relaxed);
        result
    });
    seen.cells += swaps.into_inner();
    result
}

fn make_decoy(place: &Place, decoy: Decoy) -> Result<PathBuf, String> {
    let at = place.beside("decoy");
    let made = match decoy {
        Decoy::Link(leaf) => std::os::unix::fs::symlink(place.canary.path().join(leaf), &at),
        Decoy::Pipe => mknodat(CWD, &at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(Into::into),
    };
    made.map(|()| at).map_err(|error| error.to_string())
}

/// Files, directories and links below `d`, with names that the canary has too.
fn manifest() -> Manifest {
    let large = vec![0xc3; CHUNK_BYTES as usize + 10];
    let mut manifest = Manifest::default().directory(b"d").directory(b"d/inner").file(b"d/song", b"sent");
    manifest = manifest.directory(b"d/cage").file(b"d/cage/seed", b"sent").symlink(b"d/link", b"nowhere");
    for number in 0..40 {
        manifest = manifest.file(format!("d/f{number}").as_bytes(), format!("file {number}").as_bytes());
        manifest = manifest.file(format!("d/inner/g{number}").as_bytes(), b"inner");
        manifest = manifest.symlink(format!("d/inner/l{number}").as_bytes(), b"nowhere");
    }
    manifest.file(b"d/large", &large).complete()
}

/// What stands in the target or source at the start.
fn make_tree(root: &Path) -> Result<(), String> {
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes);
    let made = std::fs::create_dir_all(root.join("d/inner")).and_then(|()| {
        (0..40).try_for_each(|number| {
            write(&format!("d/f{number}"), b"older")?;
            write(&format!("d/inner/g{number}"), b"older")
        })
    });
    made.map_err(|error| error.to_string())
}

fn receive_once(race: &Race, key: &Key, seed: u64, seen: &mut Seen) -> Result<(), String> {
    let place = Place::new();
    make_tree(&place.target)?;
    let script = Script::against_receiver(vec![]).option("--json").option("--existing").option(race.existing);
    let mut running = place.command(&script, None).start();
    let ticket = place.ticket(&mut running)?;
    let decoy = make_decoy(&place, race.decoy)?;
    let at = match race.path {
        "" => place.target.clone(),
        path => place.target.join(path.replace("ID", &ticket.transfer_id().to_string())),
    };
    let finished = while_swapping(&at, &decoy, seed, seen, |seen| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let (manifest, secret) = (manifest(), ticket.secret.clone());
        runtime.block_on(async {
            let Ok(line) = async { Line::dial(key, line::address_of(&ticket)?).await }.await else { return };
            let mut play = Play::new(line, key, Role::Sender, &secret);
            let acts = [opening(), vec![Act::Offer(manifest.clone()), Act::Serve(manifest)]].concat();
            let (done, end) = play.perform(&acts).await;
            seen.log.push(format!("{done} acts, {end:?}"));
            seen.wrongs.append(&mut play.wrongs);
            play.line.leave(0, &[]).await;
        });
        Ok::<_, String>(stage::finish(running, Duration::from_secs(30), seen))
    })?;
    let Some(finished) = finished else { return Ok(()) };
    stage::judge_streams(&finished, seen);
    if !matches!(finished.code(), Some(0 | 1 | 3 | 4 | 5)) {
        seen.complaints.push(format!("exit code\n{}", finished.describe()));
    }
    seen.noticed_cells += u64::from(finished.code() != Some(0));
    seen.wrongs.extend(place.canary.changes().into_iter().map(|what| format!("outside: {what}")));
    Ok(())
}

fn send_once(race: &Race, seed: u64, seen: &mut Seen) -> Result<(), String> {
    let place = Place::new();
    let (source, received) = (place.beside("tree"), place.beside("received"));
    make_tree(&source)?;
    let decoy = make_decoy(&place, race.decoy)?;
    let ticket = place.beside("tree-ticket");
    let options = ["--yes", "--json", "--patience", "5s"];
    let sender = Landfall::new("sender", &place.home).arg("send").arg(&source).args(["--listen", "127.0.0.1:0"]);
    let sender = sender.arg("--write-ticket").arg(&ticket).args(options);
    let receiver = Landfall::new("receiver", &place.beside("other-home")).arg("recv").arg(&received);
    let receiver = receiver.arg("--ticket-file").arg(&ticket).args(options);
    let at = source.join(race.path);
    let ended = while_swapping(&at, &decoy, seed, seen, |seen| {
        let mut sender: Running = sender.start();
        while !ticket.exists() && !sender.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let receiver = receiver.start();
        let sender = stage::finish(sender, Duration::from_secs(30), seen)?;
        Some((sender, stage::finish(receiver, Duration::from_secs(30), seen)?))
    });
    let Some((sender, receiver)) = ended else { return Ok(()) };
    for finished in [&sender, &receiver] {
        stage::judge_streams(finished, seen);
        if !matches!(finished.code(), Some(0 | 1 | 3 | 5)) {
            seen.complaints.push(format!("exit code\n{}", finished.describe()));
        }
    }
    seen.noticed_cells += u64::from(sender.code() != Some(0));
    seen.wrongs.extend(place.canary.changes().into_iter().map(|what| format!("outside: {what}")));
    let secrets = [&b"unchanged"[..], b"unchanged too"].map(|text| *blake3::hash(text).as_bytes());
    for (path, node) in oracle::snapshot_without(&received, &[b".landfall"]) {
        if node.digest.is_ok_and(|digest| digest.is_some_and(|digest| secrets.contains(&digest))) {
            seen.wrongs.push(format!("{} is what lies outside the source", path.escape_ascii()));
        }
    }
    Ok(())
}
