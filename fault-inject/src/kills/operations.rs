//! SIGKILL at an operation of the storage seam, in a child that runs the whole command line over a disk which counts:
//! points that no look at the disks from outside can meet. The side that dies is the one that dials, so that its death
//! may come at its very first operation; the shipped program then goes on in its place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;

use super::campaign::arrived;
use super::failed;
use crate::child::Child;
use crate::operation::Operation;
use crate::rig::kill::Pair;
use crate::rig::oracle::{self, Canary, Snapshot};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Listens, Setup, Side};
use crate::rig::tree::{Content, Tree};
use crate::rig::{held, process, state};
use crate::rng::stream;
use crate::several::{self, Room};
use crate::verdict::{How, Report, Verdict};

/// Transfers at the same time, those included that only wait for the end of a linger.
const WORKERS: usize = 24;
/// Transfers at the same time of which both sides are at work.
const BUSY: usize = 4;
/// From the restart to the end of both sides. The receiver's linger of a minute is in it.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a run without kills has to count at least, on each side.
const KINDS_MIN: usize = 6;

/// One place to die at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who dies.
    pub side: Side,
    /// At which operation.
    pub operation: Operation,
    /// At the how manieth of it in that process, from 1.
    pub nth: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Sender { "send" } else { "recv" };
        write!(f, "{side}:{}:{}", self.operation.word(), self.nth)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let words: Vec<&str> = text.split(':').collect();
        let [side, operation, nth] = words[..] else { return Err(format!("`{text}` is not SIDE:OPERATION:NTH")) };
        let side = match side {
            "send" => Side::Sender,
            "recv" => Side::Receiver,
            _ => return Err(format!("`{side}` is neither `send` nor `recv`")),
        };
        let operation = Operation::of_word(operation).ok_or_else(|| format!("there is no operation `{operation}`"))?;
        let nth = nth.parse().map_err(|_| format!("`{nth}` is no number"))?;
        Ok(Place { side, operation, nth })
    }
}

/// Which places.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// So many of each kind of operation on each side, spread over the run; again where there are fewer.
    Each(u64),
    /// All of them.
    All,
    /// One.
    Only(Place),
}

/// Dies at these places, each in a transfer of its own. Gives how many died at each kind of operation and side, too.
pub fn at_operations(seed: u64, which: Which) -> (Report, Vec<u64>) {
    let fault = "SIGKILL at operations of the disk";
    match play(seed, which) {
        Ok((report, met)) => (Report { fault: fault.to_owned(), ..report }, met),
        Err(why) => (failed(fault, why), vec![]),
    }
}

fn play(seed: u64, which: Which) -> Result<(Report, Vec<u64>), String> {
    process::build_landfall()?;
    let ground = Ground::new(seed);
    let places = match which {
        Which::Only(place) => vec![place],
        Which::Each(_) | Which::All => {
            let mut places = ground.places(Side::Receiver, which)?;
            places.extend(ground.places(Side::Sender, which)?);
            places
        }
    };
    let mut results = vec![];
    let room = Room::new(BUSY);
    let numbered: Vec<(usize, Place)> = places.into_iter().enumerate().collect();
    let die = |(number, place): &(usize, Place)| (*place, ground.die_at(*number, *place, &room));
    several::in_order(&numbered, WORKERS, die, |result| results.push(result));
    ground.canary.assert_unchanged();
    Ok(report(seed, &results))
}

/// How a transfer ended whose victim was to die; `None` if it did not come to that operation.
type Ended = Option<Verdict>;

fn report(seed: u64, results: &[(Place, Ended)]) -> (Report, Vec<u64>) {
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    let (mut verdict, mut log) = (Verdict::Good, vec![]);
    let mut again = String::new();
    for (place, ended) in results {
        let Some(ended) = ended else { continue };
        let name = place.to_string();
        let kind = name.rsplit_once(':').map_or(&*name, |(kind, _)| kind);
        *met.entry(kind.to_owned()).or_default() += 1;
        if *ended != Verdict::Good {
            log.push(format!("{place}: {ended}"));
            again = if again.is_empty() { format!(" --operation {place}") } else { again };
        }
        verdict = verdict.and(ended.clone());
    }
    let injected: u64 = met.values().sum();
    log.push(format!("{} kinds of operation and side", met.len()));
    log.extend(met.iter().map(|(kind, count)| format!("{count:5}  {kind}")));
    let good = results.iter().filter(|(_, ended)| *ended == Some(Verdict::Good)).count() as u64;
    let again = if again.is_empty() { " --every-step".to_owned() } else { again };
    let report = Report {
        injected,
        // Each life after a kill resumes or begins anew, and the peer waits for it: that all end well is the sign.
        detected: good,
        repaired: good,
        verdict,
        plan: format!("{} places, each in a transfer of its own", results.len()),
        log,
        reproduce: format!("cargo run --release -p fault-inject -- kill{again} --seed {seed:#x}"),
        ..Report::skipped("", How::Child, "")
    };
    (report.unless_vacuous(), met.into_values().collect())
}

/// What is sent, and where.
struct Ground {
    canary: Canary,
    source: std::path::PathBuf,
    wanted: Snapshot,
    seed: u64,
    // Last: removed when everything else has ended.
    scratch: Scratch,
}

impl Ground {
    /// A tree of every kind of entry that is quickly sent.
    fn new(seed: u64) -> Ground {
        let scratch = Scratch::new("operations");
        let canary = Canary::new(&scratch.join("canary"));
        let mut tree = Tree::new(&scratch.join("source"), seed);
        tree.file("chunks", &Content::Random(1 << 20));
        tree.dir("dir");
        tree.file("dir/small", &Content::Random(5000));
        tree.file("dir/empty", &Content::Random(0));
        tree.symlink("link", "dir/small");
        tree.mode("dir", 0o700);
        let source = tree.finish();
        let wanted = oracle::snapshot(&source);
        Ground { canary, source, wanted, seed, scratch }
    }

    fn setup(&self, name: &str, victim: Side) -> Setup {
        let listens = if victim == Side::Receiver { Listens::Sender } else { Listens::Receiver };
        Setup::new(&self.scratch, name, &[&self.source], listens)
    }

    fn child(&self, name: &str, rule: &str) -> Result<Child, String> {
        Ok(Child { rules: vec![rule.parse()?], seed: self.seed, log: self.scratch.join(&format!("{name}-log")) })
    }

    /// Counts the operations of a side in a run without kills, and chooses.
    fn places(&self, side: Side, which: Which) -> Result<Vec<Place>, String> {
        let name = format!("count-{side:?}");
        let child = self.child(&name, "any every delay:0")?;
        let mut setup = self.setup(&name, side);
        below(&mut setup, side, child.command().map_err(|error| error.to_string())?);
        let mut pair = Pair::of(setup.start());
        pair.wait(PATIENCE).and_then(|()| pair.success())?;
        let mut counts: BTreeMap<Operation, u64> = BTreeMap::new();
        for line in child.injected() {
            let word = line.split(' ').nth(2).and_then(Operation::of_word);
            *counts.entry(word.ok_or_else(|| format!("`{line}` names no operation"))?).or_default() += 1;
        }
        if counts.len() < KINDS_MIN {
            return Err(format!("only {counts:?} were counted"));
        }
        let spread = |(operation, count): (Operation, u64)| {
            let wanted = if let Which::Each(each) = which { each } else { count };
            (0..wanted).map(move |at| Place { side, operation, nth: 1 + (at * count / wanted.min(count)) % count })
        };
        Ok(counts.into_iter().flat_map(spread).collect())
    }

    fn die_at(&self, number: usize, place: Place, room: &Room) -> Ended {
        let name = format!("{number}-{}", place.to_string().replace(':', "-"));
        match self.die(&name, place, room) {
            Ok(ended) => {
                held::remove_all_below(&held::open_dir(&self.scratch.join(&name)));
                ended
            }
            Err(why) => Some(why),
        }
    }

    fn die(&self, name: &str, place: Place, room: &Room) -> Result<Ended, Verdict> {
        let busy = room.enter();
        let harness = |why: String| Verdict::Failed(why);
        let rule = format!("{} nth:{} kill", place.operation.word(), place.nth);
        let child = self.child(name, &rule).map_err(harness)?;
        let mut setup = self.setup(name, place.side);
        below(&mut setup, place.side, child.command().map_err(|error| harness(error.to_string()))?);
        let mut live = setup.start();
        live.side(place.side).wait_until("its death, or its end", PATIENCE, |_| false);
        below(&mut setup, place.side, vec![]);
        let mut pair = Pair::of(live);
        pair.is_running();
        let is_dead = pair.ending(place.side).is_some_and(|life| life.was_killed()) && !child.injected().is_empty();
        if is_dead {
            pair.ended.retain(|(side, _)| *side != place.side);
            // The command itself, or what is on record: both have to do.
            let resumes = stream(self.seed, name).random_bool(0.5);
            pair.revive(&setup, |side| resumes && setup.has_record(side));
        }
        pair.wait_for_one(PATIENCE).map_err(Verdict::Stuck)?;
        drop(busy);
        pair.wait(PATIENCE).and_then(|()| pair.success()).map_err(Verdict::Stuck)?;
        let source = self.source.file_name().unwrap_or_default();
        if let Some(what) = arrived(&self.wanted, &setup.target, Path::new(source)) {
            return Err(Verdict::Wrong(format!("{what}\n{}", pair.describe())));
        }
        let receipts = [&setup.receiver_home, &setup.sender_home].map(|home| state::receipts(home).len());
        if receipts != [1, 1] {
            return Err(Verdict::Wrong(format!("each side should hold one receipt: {receipts:?}")));
        }
        Ok(is_dead.then_some(Verdict::Good))
    }
}

fn below(setup: &mut Setup, side: Side, words: Vec<String>) {
    match side {
        Side::Sender => setup.sender_below = words,
        Side::Receiver => setup.receiver_below = words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_it_is_read() {
        let place = Place { side: Side::Receiver, operation: Operation::SyncDir, nth: 3 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["recv:sync", "both:sync:1", "recv:nothing:1", "recv:sync:x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
