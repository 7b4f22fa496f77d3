//! Real transfers of the shipped program with one side on the lying disk. Judged from outside: exit codes, events, and
//! the bytes in BACKING after the power was cut, so that what was acknowledged must also have been durable. A run that
//! does not succeed under its faults must do so once they have stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use super::faults::{Fault, Kind};
use super::mount::{self, FuseDisk};
use super::server::Cache;
use crate::rig::oracle::{self, Snapshot};
use crate::rig::process::{Finished, Running};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Listens, Live, Setup, Side};
use crate::rig::tree::{Content, Tree};
use crate::rig::{process, trees};
use crate::verdict::{How, Report, Verdict};

/// A transfer of a few dozen MiB that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(50);
/// Runs after the first one that must bring the transfer to its end, without faults.
const RERUNS_MAX: u32 = 4;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One file of so many MiB.
    Large(u64),
    /// A bit of everything, 21 MiB.
    Medley,
    /// Twelve files of 1.5 MiB, one of which is called `marked`.
    Few,
    /// A hundred small files in five directories.
    Small,
}

/// How faults show themselves from outside, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Events `mismatch`, of any check.
    Mismatches,
    /// Inodes that were made anew under a name of staging, and entries left out, and notices, and a failed end.
    Retreats,
    /// Bytes that were written again where they had not been taken: told by the bytes that are right at the end.
    Rewrites,
    /// The side that waits says that it waits for a disk.
    Waits,
    /// The run did not end with 0, or the program said something about it before.
    Ends,
    /// The receiver came back after the power cut and finished.
    Returns,
}

/// One run on the disk.
#[derive(Clone, Debug)]
pub struct Case {
    /// Rows of the fault matrix that it covers.
    pub rows: &'static [u8],
    /// Name, and what the fault is.
    pub name: &'static str,
    /// Faults of the disk.
    pub faults: &'static [&'static str],
    /// Which side is on it.
    pub side: Side,
    /// Whether reads of it are cached.
    pub cache: Cache,
    /// What is sent.
    pub source: Source,
    /// What tells that the fault was noticed.
    pub sign: Sign,
    /// Whether the run under faults has to end well by itself.
    pub must_succeed: bool,
    /// A stop between: the sender is killed when all is hashed, and its faults change to these.
    pub restart_with: Option<&'static [&'static str]>,
}

/// How the two sides of one run ended.
struct Ended {
    sender: Finished,
    receiver: Finished,
    is_hung: bool,
    was_cut: bool,
}

impl Ended {
    fn is_acknowledged(&self) -> bool {
        self.sender.code() == Some(0)
    }

    /// Whether it ended with a receipt, so that there is nothing to continue.
    fn is_closed(&self) -> bool {
        self.receiver.summary().is_some() || self.sender.summary().is_some()
    }

    fn is_good(&self) -> bool {
        self.is_acknowledged() && self.receiver.code() == Some(0)
    }

    fn codes(&self) -> String {
        let word = |side: &Finished| side.code().map_or("killed".to_owned(), |code| code.to_string());
        format!("sender {} receiver {}", word(&self.sender), word(&self.receiver))
    }
}

/// The events of one side; a line that a kill cut short is left out.
fn events(finished: &Finished) -> Vec<serde_json::Value> {
    finished.stdout_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How often each thing was said that is neither progress nor the usual.
fn said(ended: &Ended) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for event in [&ended.sender, &ended.receiver].into_iter().flat_map(events) {
        let word = |field: &str| event[field].as_str().unwrap_or("").to_owned();
        let what = match word("event").as_str() {
            "mismatch" => format!("mismatch {}", word("found")),
            "notice" => format!("notice {}", word("kind")),
            "left-out" => format!("left-out {}", word("reason")),
            "link-lost" => "link-lost".to_owned(),
            "error" => format!("error {}", word("message")),
            "progress" if !word("waits_for").is_empty() => format!("waits {}", word("waits_for")),
            _ => continue,
        };
        *counts.entry(what).or_default() += 1;
    }
    counts
}

fn count_of(said: &BTreeMap<String, u64>, prefixes: &[&str]) -> u64 {
    said.iter().filter(|(what, _)| prefixes.iter().any(|prefix| what.starts_with(prefix))).map(|(_, n)| n).sum()
}

fn build(source: Source, root: &Path, seed: u64) -> PathBuf {
    if source == Source::Medley {
        return trees::medley(root, seed);
    }
    let mut tree = Tree::new(root, seed);
    match source {
        Source::Large(mib) => tree.file("large", &Content::Random(mib << 20)),
        Source::Few => {
            for number in 0..11 {
                tree.file(format!("file-{number:02}"), &Content::Random(1_500_000));
            }
            tree.file("marked", &Content::Random(1_500_000));
        }
        Source::Small => (0..100).for_each(|number| tree.small(format!("{}/{number}", number % 5))),
        Source::Medley => {}
    }
    tree.finish()
}

/// One case under way.
struct Run {
    case: Case,
    seed: u64,
    disk: FuseDisk,
    setup: Setup,
    before: Snapshot,
    log: Vec<String>,
    scratch: Scratch,
}

/// Runs one case and judges it.
pub fn run(case: &Case, seed: u64) -> Report {
    if let Some(needs) = mount::missing() {
        return Report::skipped(case.name, How::Fuse, &needs);
    }
    if let Err(why) = process::build_landfall() {
        return failed(case, seed, why);
    }
    match Run::new(case, seed).and_then(Run::through) {
        Ok(report) => report.unless_vacuous(),
        Err(error) => failed(case, seed, error.to_string()),
    }
}

fn failed(case: &Case, seed: u64, why: String) -> Report {
    let verdict = Verdict::Failed(why);
    let reproduce = reproduction(case, seed);
    Report { verdict, plan: plan(case, seed), reproduce, ..Report::skipped(case.name, How::Fuse, "") }
}

fn reproduction(case: &Case, seed: u64) -> String {
    format!("cargo run --release -p fault-inject -- disk --run {} --seed {seed:#x}", case.word())
}

fn plan(case: &Case, seed: u64) -> String {
    format!("seed={seed:#x} side={:?} source={:?} faults={}", case.side, case.source, case.faults.join(" "))
}

fn faults(texts: &[&str]) -> std::io::Result<Vec<Fault>> {
    let parsed: Result<Vec<Fault>, String> = texts.iter().map(|text| text.parse()).collect();
    parsed.map_err(std::io::Error::other)
}

impl Run {
    fn new(case: &Case, seed: u64) -> std::io::Result<Run> {
        let scratch = Scratch::new("disk");
        let (at, backing) = (scratch.dir("mount"), scratch.dir("backing"));
        let is_source = case.side == Side::Sender;
        let root = if is_source { backing.join("source") } else { scratch.join("source") };
        let before = oracle::snapshot(&build(case.source, &root, seed));
        let disk = FuseDisk::mount(&at, &backing, seed, faults(case.faults)?, case.cache)?;
        let source = if is_source { at.join("source") } else { root };
        let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
        let patience = ["--patience", "4s"].map(str::to_owned).to_vec();
        setup.sender_options.clone_from(&patience);
        setup.receiver_options = patience;
        if is_source {
            // Slow enough that not everything has arrived when the sender is killed.
            setup.through_relay(seed).rate(12 << 20);
        } else {
            setup.target = at.join("target");
            // A FUSE mount states no alignment for direct reads and refuses reads that must not wait, so that the
            // absence of pages cannot be proved; they are dropped all the same.
            setup.receiver_options.extend(["--accept-level", "requested"].map(str::to_owned));
        }
        Ok(Run { case: case.clone(), seed, disk, setup, before, log: vec![], scratch })
    }

    fn through(mut self) -> std::io::Result<Report> {
        let began = Instant::now();
        let mut live = self.setup.start();
        if let Some(later) = self.case.restart_with {
            live = self.restarted(live, later)?;
        }
        let first = self.wait(live);
        let heard = said(&first);
        self.log.push(format!("first run: {} after {:.1?}; {heard:?}", first.codes(), began.elapsed()));
        let injected = self.disk.count_all();
        let counts = self.disk.with(|state| state.injector.counts().clone());
        self.log.push(format!("injected: {counts:?}"));
        let retreats = self.disk.with(|state| state.remade("staging"));
        self.log.push(format!("inodes made anew: {retreats}"));
        let mut verdict = self.judge_first(&first)?;
        let (mut is_done, mut is_back) = (first.is_good(), false);
        let mut is_closed = first.is_closed();
        for round in 0..RERUNS_MAX {
            if is_done || verdict != Verdict::Good {
                break;
            }
            self.recover()?;
            let again = self.again(round, is_closed);
            is_closed = again.is_closed();
            self.log.push(format!("without faults: {}; {:?}", again.codes(), said(&again)));
            is_done = again.is_good();
            is_back = is_done;
        }
        if verdict == Verdict::Good && !is_done {
            verdict = Verdict::Stuck("it does not succeed after the faults have stopped".to_owned());
        }
        let differences = self.final_differences()?;
        if is_done && !differences.is_empty() {
            verdict = verdict.and(Verdict::Wrong(differences.join("; ")));
        }
        let is_right = is_done && differences.is_empty();
        let signs = match self.case.sign {
            Sign::Mismatches => count_of(&heard, &["mismatch"]),
            Sign::Retreats => retreats + count_of(&heard, &["mismatch", "notice", "left-out", "error"]),
            Sign::Rewrites if is_right => injected,
            Sign::Rewrites => 0,
            Sign::Waits => count_of(&heard, &["waits receiver-disk", "waits sender-disk"]),
            Sign::Ends if first.is_good() => retreats + count_of(&heard, &["notice", "left-out", "error"]),
            Sign::Ends => injected,
            Sign::Returns if first.was_cut && is_back => injected,
            Sign::Returns => 0,
        };
        Ok(Report {
            fault: self.case.name.to_owned(),
            how: How::Fuse,
            injected,
            detected: signs.min(injected),
            repaired: if is_right { injected } else { 0 },
            verdict,
            plan: plan(&self.case, self.seed),
            log: self.log,
            reproduce: reproduction(&self.case, self.seed),
        })
    }

    /// What the run under faults must not have done.
    fn judge_first(&mut self, first: &Ended) -> std::io::Result<Verdict> {
        if first.is_hung {
            self.log.push(first.sender.describe());
            self.log.push(first.receiver.describe());
            return Ok(Verdict::Stuck("a side does not end".to_owned()));
        }
        if self.case.must_succeed && !first.is_good() {
            self.log.push(first.sender.describe());
            self.log.push(first.receiver.describe());
            return Ok(Verdict::Stuck(format!("it gives up where it had to go on: {}", first.codes())));
        }
        if self.case.side == Side::Sender || first.is_acknowledged() || first.was_cut {
            return Ok(Verdict::Good);
        }
        // Not acknowledged: names may be missing, but what stands under a name is right.
        self.disk.with(|state| state.settle())?;
        let wrong = self.wrong_names();
        Ok(if wrong.is_empty() { Verdict::Good } else { Verdict::Wrong(format!("published: {}", wrong.join("; "))) })
    }

    /// Regular files in BACKING under final names whose bytes are not those of the source.
    fn wrong_names(&self) -> Vec<String> {
        let below = self.arrived();
        if !below.exists() {
            return vec![];
        }
        let found = oracle::snapshot(&below);
        let files = found.iter().filter(|(_, node)| node.kind == FileType::RegularFile);
        let is_wrong = |path: &Vec<u8>, node: &oracle::Node| {
            self.before.get(path).is_none_or(|own| own.digest != node.digest || own.size_bytes != node.size_bytes)
        };
        files.filter(|(path, node)| is_wrong(path, node)).map(|(path, _)| path.escape_ascii().to_string()).collect()
    }

    /// Where the copy stands when nothing is between: in BACKING, or in the target.
    fn arrived(&self) -> PathBuf {
        match self.case.side {
            Side::Receiver => self.disk.backing().join("target/source"),
            Side::Sender => self.setup.target.join("source"),
        }
    }

    /// The power goes and the copy is compared with what was sent.
    fn final_differences(&mut self) -> std::io::Result<Vec<String>> {
        let loss = self.disk.cut()?;
        self.log.push(format!("power cut at the end: {loss:?}"));
        if !self.arrived().exists() {
            return Ok(vec!["nothing arrived".to_owned()]);
        }
        let mut found =
            oracle::differences(&self.before, &oracle::snapshot(&self.arrived()), &oracle::Rules::default());
        found.truncate(8);
        Ok(found)
    }

    /// The same transfer once more; a new one to the same place where the last one ended with a receipt.
    fn again(&mut self, round: u32, is_closed: bool) -> Ended {
        if !is_closed {
            return self.wait(self.setup.restart());
        }
        let sources: Vec<&Path> = self.setup.sources.iter().map(PathBuf::as_path).collect();
        let mut fresh = Setup::new(&self.scratch, &format!("again-{round}"), &sources, Listens::Receiver);
        fresh.target.clone_from(&self.setup.target);
        fresh.sender_options.clone_from(&self.setup.sender_options);
        fresh.receiver_options.clone_from(&self.setup.receiver_options);
        self.setup = fresh;
        self.wait(self.setup.start())
    }

    /// After a run that failed: no faults, and power again if it was cut.
    fn recover(&mut self) -> std::io::Result<()> {
        self.disk.clear(None);
        if self.disk.with(|state| state.is_off()) {
            self.disk.boot()?;
        }
        Ok(())
    }

    /// Kills the sender when all is hashed, changes the faults, and starts it again.
    fn restarted(&mut self, mut live: Live, later: &[&str]) -> std::io::Result<Live> {
        let is_hashed = |running: &Running| {
            let last = running.stdout().lines().rev().find(|line| line.contains("\"progress\"")).map(str::to_owned);
            let event: Option<serde_json::Value> = last.and_then(|line| serde_json::from_str(&line).ok());
            event.is_some_and(|event| event["is_total"] == true && event["hashed_bytes"] == event["known_bytes"])
        };
        live.sender.wait_until("all is hashed", PATIENCE, is_hashed);
        let killed = live.sender.kill();
        self.log.push(format!("the sender was killed: {}", killed.was_killed()));
        self.disk.clear(None);
        faults(later)?.into_iter().for_each(|fault| self.disk.set(fault));
        self.setup.relay().rate(0);
        Ok(Live { sender: self.setup.command(Side::Sender).start(), receiver: live.receiver })
    }

    /// Waits for both. Where the power goes, or one side hangs, both are killed.
    fn wait(&self, mut live: Live) -> Ended {
        let began = Instant::now();
        loop {
            let is_over = live.sender.has_ended() && live.receiver.has_ended();
            let was_cut = self.disk.with(|state| state.is_off());
            let is_hung = began.elapsed() > PATIENCE;
            if is_over || was_cut || is_hung {
                let end = |running: Running| if is_over { running.wait(PATIENCE) } else { running.kill() };
                let (receiver, sender) = (end(live.receiver), end(live.sender));
                return Ended { sender, receiver, is_hung: is_hung && !is_over, was_cut };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Case {
    /// Its name as one word.
    pub fn word(&self) -> String {
        self.name.split([':', ' ']).next().unwrap_or(self.name).to_owned()
    }

    /// Whether a kind of fault occurs in it.
    pub fn has(&self, kind: Kind) -> bool {
        let all = self.faults.iter().chain(self.restart_with.unwrap_or_default());
        all.into_iter().any(|text| text.split(':').next() == Some(kind.word()))
    }
}
