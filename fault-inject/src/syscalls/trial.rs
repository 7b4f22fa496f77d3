//! One transfer of real processes, of which one is struck at one system call. Then the same commands again, as their
//! user would give them, until both have said 0. Every end is looked at: what was acknowledged is there and right, and
//! nothing wrong ever stands under a final name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::points::{Fault, Point, word};
use super::trace::{Calls, Hits, Trace};
use crate::rig::kill::Pair;
use crate::rig::oracle::{self, Canary, Rules, Snapshot};
use crate::rig::process::{self, Finished, Landfall, Running};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Listens, Setup, Side};
use crate::rig::tree::{Content, Tree};
use crate::rig::{held, state};
use crate::verdict::Verdict;

/// A life of both sides that takes longer has hung.
const LIFE: Duration = Duration::from_secs(90);
/// How often a side is started at most.
const LIVES_MAX: u32 = 8;
/// How long a side waits for the other before it ends: longer than a sender that holds its receipt asks for its receiver.
const PATIENCE: &str = "8s";
/// A receiver that was restarted and holds the receipt, as its sender does, lingers for a minute in case the sender does
/// not know. After this long alone it is not waited for.
const ALONE: Duration = Duration::from_secs(2);
/// A side that is struck and lives longer is stopped, as its user would stop it: each new thread of it is met again, so
/// that a fault that should come once may last.
const STRUCK_LIFE: Duration = Duration::from_secs(20);
/// Between two looks at running sides.
const PAUSE: Duration = Duration::from_millis(2);
/// Notices that say nothing about a fault.
const USUAL_NOTICES: [&str; 2] = ["named-twice", "state-skipped"];

/// What is sent, made once for many trials.
pub struct Ground {
    scratch: Scratch,
    canary: Canary,
    source: PathBuf,
    wanted: Snapshot,
}

/// What came of one trial.
pub struct Ended {
    /// The calls that were hit.
    pub hits: Hits,
    /// Exit code of the side that was struck, in the life in which it was; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Whether anybody spoke of it.
    pub is_noticed: bool,
    /// Whether a check found wrong bytes.
    pub is_mismatch: bool,
    /// How it ended.
    pub verdict: Verdict,
}

impl Ground {
    /// Three chunks, two small files, a directory and a link; the shipped program is built if cargo runs this.
    pub fn new(seed: u64) -> Result<Ground, String> {
        process::build_landfall()?;
        let scratch = Scratch::new("syscalls");
        let canary = Canary::new(&scratch.join("canary"));
        let mut tree = Tree::new(&scratch.join("source"), seed);
        tree.file("large", &Content::Random(2_500_000));
        tree.small("small");
        tree.small("directory/small");
        tree.symlink("link", "small");
        let source = tree.finish();
        let wanted = oracle::snapshot(&source);
        Ok(Ground { scratch, canary, source, wanted })
    }

    /// The file that has several chunks.
    pub fn source_file(&self) -> PathBuf {
        self.source.join("large")
    }

    /// What changed that no transfer may change: the source, and what lies beside the targets.
    pub fn changes(&self) -> Vec<String> {
        let mut found = self.canary.changes();
        let source = oracle::differences(&self.wanted, &oracle::snapshot(&self.source), &Rules::default());
        found.extend(source.into_iter().map(|what| format!("source: {what}")));
        found
    }

    fn setup(&self, name: &str) -> Setup {
        let mut setup = Setup::new(&self.scratch, name, &[&self.source], Listens::Receiver);
        let patience = ["--patience", PATIENCE].map(str::to_owned).to_vec();
        setup.sender_options.clone_from(&patience);
        setup.receiver_options = patience;
        setup
    }

    /// The calls of one side in a transfer without faults.
    pub fn count(&self, side: Side, on_source: bool) -> Result<Calls, String> {
        let name = format!("count-{}", word(side));
        let trace = self.trace(&name)?;
        let mut trial = Trial::new(self, self.setup(&name), side, trace.counting());
        if let Err(bad) = trial.run_on() {
            return Err(format!("a traced run without faults: {bad}"));
        }
        if trial.past.len() + trial.pair.ended.len() > 2 || trial.is_noticed(None) {
            return Err(format!("a traced run without faults is not a clean one\n{}", trial.pair.describe()));
        }
        let source_file = self.source_file();
        Ok(trace.calls(on_source.then_some(source_file.as_path())))
    }

    fn trace(&self, name: &str) -> Result<Trace, String> {
        Trace::new(self.scratch.join(&format!("{name}-trace"))).map_err(|error| format!("{name}: {error}"))
    }

    /// Strikes once. `lie` is what a lying call reports.
    pub fn strike(&self, number: usize, point: &Point, lie: i64) -> Result<Ended, String> {
        let name = format!("trial-{number}");
        let trace = self.trace(&name)?;
        let below = trace.hurting(point, &self.source_file(), lie);
        let mut trial = Trial::new(self, self.setup(&name), point.side, below);
        let end = trial.run_on();
        let hits = trace.hits(point);
        let end = end.and_then(|()| trial.judge(point.fault));
        let is_excused = hits.is_void(point.fault) || hits.is_impossible();
        let first = trial.lives(point.side).next();
        let code = first.and_then(Finished::code);
        let crash = match trial.was_stopped {
            _ if is_excused => None,
            // It lasted because each new thread was met; what met one thread or two must come to an end.
            true if hits.lines.len() <= 2 && !hits.is_on_ticket() => {
                first.map(|life| format!("it hung\n{}", life.describe()))
            }
            true => None,
            false => first.and_then(|life| crash(life, point)),
        };
        let verdict = match (end, crash) {
            (Err(wrong @ Verdict::Wrong(_)), _) => wrong,
            (Err(_), _) if is_excused => Verdict::Good,
            (Err(bad), _) => bad,
            (Ok(()), Some(what)) => Verdict::Stuck(what),
            (Ok(()), None) => Verdict::Good,
        };
        let (is_noticed, is_mismatch) = (trial.is_noticed(Some(point)), trial.has_said("mismatch"));
        trial.stop(&[Side::Receiver, Side::Sender]);
        if verdict == Verdict::Good {
            for below in [&name, &format!("{name}-trace")] {
                held::remove_all_below(&held::open_dir(&self.scratch.join(below)));
            }
        }
        Ok(Ended { hits, code, is_noticed, is_mismatch, verdict })
    }
}

/// An end that no fault of a call excuses: a signal that nobody sent, a panic, a word about a wrong command line.
fn crash(life: &Finished, point: &Point) -> Option<String> {
    let is_ours = point.fault == Fault::Kill && life.was_killed();
    let is_bad = matches!(life.code(), None | Some(2 | 101 | 134));
    (is_bad && !is_ours).then(|| format!("it crashed\n{}", life.describe()))
}

/// A transfer under way.
struct Trial<'a> {
    ground: &'a Ground,
    setup: Setup,
    pair: Pair,
    /// Lives that ended without success and were followed by another one.
    past: Vec<(Side, Finished)>,
    victim: Side,
    /// The command of the side that is struck, in its first life.
    struck: Option<Landfall>,
    seen: usize,
    again: u32,
    /// Both hold the receipt, and the receiver waits for nobody.
    lingers: bool,
    /// The side that was struck did not end by itself.
    was_stopped: bool,
}

impl Trial<'_> {
    fn new(ground: &Ground, mut setup: Setup, victim: Side, below: Vec<String>) -> Trial<'_> {
        setup.below = below;
        let struck = Some(setup.command(victim));
        setup.below = vec![];
        let pair = Pair { sender: None, receiver: None, ended: vec![], killed: vec![] };
        Trial {
            ground,
            setup,
            pair,
            past: vec![],
            victim,
            struck,
            seen: 0,
            again: 0,
            lingers: false,
            was_stopped: false,
        }
    }

    /// All lives of a side that have ended, in their order.
    fn lives(&self, side: Side) -> impl Iterator<Item = &Finished> {
        let all = self.past.iter().chain(&self.pair.ended);
        all.filter(move |(who, _)| *who == side).map(|(_, finished)| finished)
    }

    /// Starts each side that is down and has not succeeded; no sender where there is no ticket yet.
    fn start(&mut self) {
        for side in [Side::Receiver, Side::Sender] {
            let is_done = self.pair.ended.iter().any(|(who, _)| *who == side);
            let slot = if side == Side::Sender { &mut self.pair.sender } else { &mut self.pair.receiver };
            if is_done || slot.is_some() {
                continue;
            }
            let is_first = side == self.victim;
            let command = self.struck.take_if(|_| is_first).unwrap_or_else(|| self.setup.command(side));
            let running = slot.insert(command.start());
            if side == Side::Receiver {
                let ticket = self.setup.dialled_ticket();
                let is_there = running.wait_until("a ticket", LIFE, |_| ticket.exists());
                if !is_there {
                    return; // it ended before: the next life writes one
                }
            }
        }
    }

    /// Until both have said 0, through as many lives as it takes.
    fn run_on(&mut self) -> Result<(), Verdict> {
        for _ in 0..LIVES_MAX {
            self.start();
            self.await_end()?;
            if self.lingers {
                return Ok(());
            }
            if self.pair.ended.len() == 2 && self.pair.ended.iter().all(|(_, finished)| is_success(finished)) {
                return Ok(());
            }
            self.make_way()?;
        }
        Err(Verdict::Stuck(format!("not done after {LIVES_MAX} lives\n{}", self.describe())))
    }

    /// Waits until both have ended, or one of them without success.
    fn await_end(&mut self) -> Result<(), Verdict> {
        let began = Instant::now();
        let mut is_alone_since = None;
        loop {
            let is_running = self.pair.is_running();
            while self.seen < self.pair.ended.len() {
                self.look(&self.pair.ended[self.seen].1)?;
                self.seen += 1;
            }
            if !is_running || self.pair.ended.iter().any(|(_, finished)| !is_success(finished)) {
                return Ok(());
            }
            let is_alone = self.pair.sender.is_none() && self.lives(Side::Receiver).next().is_some();
            if is_alone && is_alone_since.get_or_insert_with(Instant::now).elapsed() > ALONE && self.hold_receipts() {
                self.lingers = true;
                return Ok(());
            }
            if self.is_first_life() && began.elapsed() > STRUCK_LIFE {
                self.stop(&[self.victim]);
                continue;
            }
            if began.elapsed() > LIFE {
                return Err(Verdict::Stuck(format!("no end within {LIFE:?}\n{}", self.describe())));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Puts ends without success aside. A transfer that ended with some entries left out is closed, and so is one of
    /// which a side says that it needs a new ticket: what follows is a new one to the same place.
    fn make_way(&mut self) -> Result<(), Verdict> {
        let is_closed = self.pair.ended.iter().any(|(_, finished)| finished.code() == Some(5) || is_over(finished));
        if is_closed {
            self.pair.wait(LIFE).map_err(Verdict::Stuck)?;
            self.again += 1;
            let mut fresh = self.ground.setup(&format!("{}-{}", self.setup_name(), self.again));
            fresh.target.clone_from(&self.setup.target);
            self.setup = fresh;
        }
        if self.pair.ended.iter().any(|(_, finished)| finished.code() == Some(2)) {
            // What the listener wrote is no ticket: its user starts it again.
            let _ = std::fs::remove_file(self.setup.ticket());
            self.stop(&[Side::Receiver]);
        }
        let (done, failed) = self.pair.ended.drain(..).partition(|(_, finished)| !is_closed && is_success(finished));
        self.pair.ended = done;
        self.past.extend::<Vec<_>>(failed);
        self.seen = self.pair.ended.len();
        Ok(())
    }

    fn setup_name(&self) -> String {
        let base = self.setup.target.parent().and_then(Path::file_name);
        base.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// What one end says must be true at that moment.
    fn look(&self, finished: &Finished) -> Result<(), Verdict> {
        let copy = self.setup.target.join("source");
        let target = if copy.is_dir() { oracle::snapshot(&copy) } else { Snapshot::new() };
        let left_out = self.left_out();
        let left_out: Vec<&[u8]> = left_out.iter().map(Vec::as_slice).collect();
        let rules = Rules { left_out: &left_out, ..Rules::default() };
        let mut found = oracle::differences(&self.ground.wanted, &target, &rules);
        found.retain(|line| !line.contains("should have been left out"));
        self.excuse_attributes(&mut found);
        let is_acknowledged = is_success(finished) || finished.code() == Some(5);
        if !is_acknowledged {
            found
                .retain(|line| [": bytes ", ": size ", ": kind ", "never sent"].iter().any(|what| line.contains(what)));
        }
        if found.is_empty() {
            return Ok(());
        }
        let what = if is_acknowledged { "acknowledged, and" } else { "under final names:" };
        Err(Verdict::Wrong(format!("{what} {}\n{}", oracle::in_lines(&found), finished.describe())))
    }

    /// Takes out modes and times that differ, as far as a side has said that those of so many entries were not applied.
    fn excuse_attributes(&self, found: &mut Vec<String>) {
        let told = self.events().filter_map(|event| event["attributes_not_applied"].as_u64()).max().unwrap_or(0);
        let is_attribute = |line: &String| line.contains(": mode ") || line.contains(": mtime ");
        let entry = |line: &String| line.split(": m").next().unwrap_or_default().to_owned();
        let entries: BTreeSet<String> = found.iter().filter(|line| is_attribute(line)).map(entry).collect();
        if entries.len() as u64 <= told {
            found.retain(|line| !is_attribute(line));
        }
    }

    /// Paths below the source that somebody has named as left out.
    fn left_out(&self) -> Vec<Vec<u8>> {
        let named = self.events().filter(|event| event["event"] == "left-out");
        let mut paths = vec![];
        for event in named {
            match event["path"].as_str().and_then(|path| path.strip_prefix("source")) {
                Some("") => paths.extend(self.ground.wanted.keys().cloned()),
                Some(below) => paths.push(below.trim_start_matches('/').as_bytes().to_vec()),
                None => {}
            }
        }
        paths
    }

    fn events(&self) -> impl Iterator<Item = serde_json::Value> {
        let all = self.past.iter().chain(&self.pair.ended);
        all.flat_map(|(_, finished)| {
            let text = finished.stdout_text();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<_>>()
        })
    }

    fn has_said(&self, event: &str) -> bool {
        self.events().any(|said| said["event"] == event)
    }

    /// Whether a side that was struck failed, said so, or went on from what was there.
    fn is_noticed(&self, point: Option<&Point>) -> bool {
        let is_notice = |event: &serde_json::Value| {
            let kind = event["kind"].as_str().unwrap_or_default();
            event["event"] == "notice" && !USUAL_NOTICES.contains(&kind)
        };
        let told = ["mismatch", "left-out", "link-lost", "error"].iter().any(|event| self.has_said(event));
        let is_resumed = self.events().any(|event| event["start"] == "resumed");
        let has_failed = point.is_some_and(|point| {
            point.fault != Fault::Kill && self.lives(point.side).next().is_some_and(|life| life.code() != Some(0))
        });
        told || is_resumed || has_failed || self.events().any(|event| is_notice(&event))
    }

    /// What both call finished: the tree, nothing besides, one receipt, the same on both sides, that verifies.
    fn judge(&self, fault: Fault) -> Result<(), Verdict> {
        let wrong = |what: String| Err(Verdict::Wrong(format!("{what}\n{}", self.describe())));
        let target = &self.setup.target;
        let mut found =
            oracle::differences(&self.ground.wanted, &oracle::snapshot(&target.join("source")), &Rules::default());
        self.excuse_attributes(&mut found);
        // Where removing it failed it stays, and so it does with a receiver that was not waited for.
        let may_stay = self.lingers || matches!(fault, Fault::Eio | Fault::Enospc);
        let strangers = state::entries(target)
            .into_iter()
            .filter(|path| !(path.ends_with("source") || may_stay && path.ends_with(".landfall")));
        found.extend(strangers.map(|path| format!("{} was never sent", path.display())));
        if !found.is_empty() {
            return wrong(oracle::in_lines(&found));
        }
        let held = [&self.setup.receiver_home, &self.setup.sender_home].map(|home| state::receipts(home));
        if held.iter().any(|receipts| receipts.len() != 1) {
            return wrong(format!("each side should hold one receipt: {held:?}"));
        }
        let read = |at: usize| std::fs::read(&held[at][0]).map_err(|error| Verdict::Failed(error.to_string()));
        if read(0)? != read(1)? {
            return wrong("the receipts of the two sides differ".to_owned());
        }
        let home = &self.setup.receiver_home;
        let verified = Landfall::new("verify", home).arg("verify").arg(&held[0][0]).arg(target).run();
        if verified.code() == Some(0) { Ok(()) } else { wrong(verified.describe()) }
    }

    fn hold_receipts(&self) -> bool {
        [&self.setup.receiver_home, &self.setup.sender_home].iter().all(|home| !state::receipts(home).is_empty())
    }

    fn describe(&self) -> String {
        let word_of = |(side, finished): &(Side, Finished)| {
            let said = finished.stderr_text();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(3)..].join(" | ");
            format!("{} {}: {last}", word(*side), finished.status)
        };
        let past: Vec<String> = self.past.iter().map(word_of).collect();
        format!("{}\n{}", past.join("\n"), self.pair.describe())
    }

    /// Whether the life that is struck is still under way.
    fn is_first_life(&self) -> bool {
        let is_running =
            if self.victim == Side::Sender { self.pair.sender.is_some() } else { self.pair.receiver.is_some() };
        is_running && self.lives(self.victim).next().is_none()
    }

    /// Ends these sides if they still run, and what they trace: that would live on without its tracer.
    fn stop(&mut self, sides: &[Side]) {
        for side in sides {
            self.was_stopped |= *side == self.victim && self.is_first_life();
            let slot = if *side == Side::Sender { &mut self.pair.sender } else { &mut self.pair.receiver };
            let Some(running) = slot.take() else { continue };
            children(&running).into_iter().for_each(|child| {
                let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
            });
            self.pair.ended.push((*side, running.kill()));
        }
    }
}

fn children(running: &Running) -> Vec<rustix::process::Pid> {
    let id = running.id();
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|id| rustix::process::Pid::from_raw(id.parse().ok()?)).collect()
}

/// It said that only a new ticket helps.
fn is_over(finished: &Finished) -> bool {
    finished.stderr_text().contains("hint: start both sides again for a new ticket")
}

/// It said 0; a kill may have come after its last word.
fn is_success(finished: &Finished) -> bool {
    let said = || finished.summary().and_then(|summary| summary["exit"].as_i64());
    finished.code() == Some(0) || (finished.was_killed() && said() == Some(0))
}
