//! A process that never lives long: each side, or both, killed every 50 to 500 ms until the transfer is done. What
//! stands on the disk may only grow from life to life, else a machine that crashes often would never finish.

use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::campaign::arrived;
use super::failed;
use crate::rig::kill::{Pair, Struck, Trigger, Victim};
use crate::rig::scratch::Scratch;
use crate::rig::state::{Look, Places};
use crate::rig::transfer::{Listens, Setup, Side};
use crate::rig::tree::{Content, Tree};
use crate::rig::trees::CHUNK_BYTES;
use crate::rig::{oracle, process};
use crate::verdict::{How, Report, Verdict};

/// Chunks of the one large file.
const CHUNKS: u64 = 96;
/// Bytes a second that the relay lets through: the transfer alone takes a good second, many lives.
const RATE: u64 = 80 << 20;
/// Lives after which it is called a live-lock.
const LIVES_MAX: usize = 150;
/// From the last restart to the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that may not shrink: what is allocated in staging, without the file system's own blocks, and what is sealed.
fn stands_bytes(look: &Look) -> u64 {
    let whole = CHUNKS * CHUNK_BYTES;
    if look.sealed_files > 0 { whole } else { look.staging_bytes.min(whole) }
}

/// See the module.
pub fn kill_loop(seed: u64) -> Report {
    let fault = "killed every 50 to 500 ms until done";
    if let Err(why) = process::build_landfall() {
        return failed(fault, why);
    }
    let scratch = Scratch::new("kill-loop");
    let mut tree = Tree::new(&scratch.join("source"), seed);
    tree.file("large", &Content::Random(CHUNKS * CHUNK_BYTES));
    let source = tree.finish();
    let wanted = oracle::snapshot(&source);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(seed).rate(RATE);
    let places = setup.places(1);
    let mut log = vec![];
    let mut pair = Pair::of(setup.start());
    let verdict = match live_and_die(&setup, &places, &mut pair, seed, &mut log) {
        Ok(()) => arrived(&wanted, &setup.target, Path::new("source")).map_or(Verdict::Good, Verdict::Wrong),
        Err(stuck) => Verdict::Stuck(stuck),
    };
    let kills = pair.killed.len() as u64;
    let crossed = setup.relay().all_bytes();
    log.push(format!("{kills} kills; {crossed} bytes crossed for a file of {}", CHUNKS * CHUNK_BYTES));
    let resumed = |side| pair.lives(side).iter().filter(|life| life.stdout_text().contains("\"resumed\"")).count();
    let noticed = (resumed(Side::Sender) + resumed(Side::Receiver)) as u64;
    let report = Report {
        fault: fault.to_owned(),
        how: How::Signal,
        injected: kills,
        detected: noticed.min(kills),
        repaired: if verdict == Verdict::Good { kills } else { 0 },
        verdict,
        plan: format!("one file of {CHUNKS} MiB at {} MiB/s", RATE >> 20),
        log,
        reproduce: format!("cargo run --release -p fault-inject -- kill --loop --seed {seed:#x}"),
    };
    report.unless_vacuous()
}

fn live_and_die(
    setup: &Setup,
    places: &Places,
    pair: &mut Pair,
    seed: u64,
    log: &mut Vec<String>,
) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut stood = 0;
    for life in 1..=LIVES_MAX {
        let victim = if rng.random_range(0..2) == 0 { Victim::Receiver } else { Victim::random(&mut rng) };
        let time = Duration::from_millis(rng.random_range(50..=500));
        let struck = pair.strike(places, Trigger::AfterTime(time), victim)?;
        let stands = stands_bytes(&places.look());
        log.push(format!("life {life}: {victim:?} after {} ms: {struck:?}, {stands} bytes stand", time.as_millis()));
        if stands < stood {
            return Err(format!("{stands} bytes stand after life {life}, {stood} did before: progress was lost"));
        }
        stood = stands;
        pair.revive(setup, |_| false);
        if matches!(struck, Struck::TooLate) || !pair.is_running() {
            pair.wait(PATIENCE)?;
            return pair.success();
        }
    }
    Err(format!("not done after {LIVES_MAX} lives, {stood} bytes stand\n{}", pair.describe()))
}
