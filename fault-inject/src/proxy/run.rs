//! Runs a scenario with the shipped program: real processes, a tree, the proxy between them, and a verdict from the
//! exit codes, the JSON events, the logs and the oracle.

use std::path::Path;
use std::time::{Duration, Instant};

use super::counts::{Counts, Kind};
use super::dials::Direction;
use super::observe::{self, Seen};
use super::scenarios::{Ask, Detection, Pace, Scenario, Terms};
use crate::rig::isolated::Isolated;
use crate::rig::process::Running;
use crate::rig::scratch::Scratch;
use crate::rig::state;
use crate::rig::transfer::{Listens, Live, Setup, Side};
use crate::rig::tree::{Content, Tree};
use crate::several;
use crate::verdict::{How, Report, Verdict};

/// From the start to the end of one transfer: what the QUIC interop runner allows.
const PATIENCE: Duration = Duration::from_secs(300);
/// Transfers of one scenario that run at the same time.
const WORKERS: usize = 4;
/// What the sender and the receiver are given without a link, where the line comes back.
const LONG_PATIENCE: &str = "10m";
/// And where it does not.
const SHORT_PATIENCE: &str = "3s";
/// One batch: what a lost link may move twice, by the design.
const SENT_TWICE_BYTES_MAX: u64 = 64 << 20;
/// Peak memory of either process: far above what it needs, far below what growth without bound would reach.
const PEAK_BYTES_MAX: u64 = 512 << 20;
/// Bytes towards the receiver in which an answer is asked for again; content would be more.
const ASKING_BYTES_MAX: u64 = 256 << 10;
/// Pause between two looks at the processes.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// A scenario with everything that it depends on.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Which.
    pub scenario: &'static Scenario,
    /// Decides which datagrams are hit, and what is in the files.
    pub seed: u64,
    /// How much time there is.
    pub pace: Pace,
    /// Bytes of the large file.
    pub size_bytes: u64,
    /// Length of the long outage at full pace.
    pub blackout: Duration,
    /// Which side prints the ticket.
    pub listens: Listens,
}

/// What one transfer came to.
struct Outcome {
    counts: Counts,
    seen: Seen,
    verdict: Verdict,
    log: Vec<String>,
}

impl Trial {
    /// Runs all transfers of the scenario, and judges them together.
    pub fn run(&self) -> Report {
        if self.scenario.loses_links()
            && let Err(needs) = Isolated::new()
        {
            return Report::skipped(&self.fault(), How::Proxy, &needs);
        }
        let numbers: Vec<u32> = (0..self.scenario.count(self.pace)).collect();
        let mut outcomes = vec![];
        several::in_order(&numbers, WORKERS, |number| self.one(*number), |outcome| outcomes.push(outcome));
        self.report(&outcomes)
    }

    /// What the dials depend on, for one of the transfers.
    pub fn terms(&self, number: u32) -> Terms {
        Terms { pace: self.pace, size_bytes: self.size_bytes, blackout: self.blackout, number }
    }

    /// One command that does it again.
    pub fn command(&self) -> String {
        let quick = if self.pace == Pace::Quick { " --quick" } else { "" };
        let listens = if self.listens == Listens::Sender { " --listens sender" } else { "" };
        format!(
            "cargo run --release -p fault-inject -- proxy --run --scenario {} --size {} --blackout-length {}ms{quick}{listens} \
             --seed {:#x}",
            self.scenario.name,
            self.size_bytes,
            self.blackout.as_millis(),
            self.seed
        )
    }

    fn fault(&self) -> String {
        format!("{}: {}", self.scenario.name, self.scenario.about)
    }

    fn report(&self, outcomes: &[Outcome]) -> Report {
        let is_good = |outcome: &&Outcome| outcome.verdict == Verdict::Good;
        let injected = |outcome: &Outcome| self.injected(&outcome.counts);
        let detected = |outcome: &Outcome| self.detected(outcome);
        let cures = self.scenario.ask != Ask::Unknown;
        Report {
            fault: self.fault(),
            how: How::Proxy,
            injected: outcomes.iter().map(injected).sum(),
            detected: outcomes.iter().map(detected).sum(),
            repaired: outcomes.iter().filter(is_good).filter(|_| cures).map(detected).sum(),
            verdict: outcomes.iter().fold(Verdict::Good, |worst, outcome| worst.and(outcome.verdict.clone())),
            plan: format!(
                "{} seed={:#x} size={} transfers={} {}",
                self.scenario.name,
                self.seed,
                self.size_bytes,
                outcomes.len(),
                self.scenario.dials(&self.terms(0))
            ),
            log: outcomes.iter().flat_map(|outcome| outcome.log.clone()).collect(),
            reproduce: self.command(),
        }
        .unless_vacuous()
    }

    fn injected(&self, counts: &Counts) -> u64 {
        let counted = self.scenario.kinds.iter().map(|kind| count(counts, *kind)).sum();
        if self.scenario.ask == Ask::LastAnswer { u64::min(counted, 1) } else { counted } // one cut, if it hit anything
    }

    fn detected(&self, outcome: &Outcome) -> u64 {
        let injected = self.injected(&outcome.counts);
        let seen = &outcome.seen;
        let noticed = match self.scenario.detection {
            Detection::LostPackets => seen.lost_packets,
            Detection::Ignored if seen.is_undisturbed() => injected,
            Detection::Ignored => 0,
            Detection::LostLinks => seen.lost_links.max(u64::from(seen.has_resumed)),
            Detection::RoundTrip if seen.round_trip >= self.scenario.dials(&self.terms(0)).to_listener.delay * 2 => {
                injected
            }
            Detection::RoundTrip => 0,
        };
        noticed.min(injected)
    }

    /// One transfer in a scratch of its own.
    fn one(&self, number: u32) -> Outcome {
        let began = Instant::now();
        let scratch = Scratch::new("proxy");
        let seed = self.seed.wrapping_add(u64::from(number));
        let source = self.tree(&scratch.join("source"), seed);
        let mut setup = Setup::new(&scratch, "run", &[&source], self.listens);
        let patience = if self.scenario.ask == Ask::Unknown { SHORT_PATIENCE } else { LONG_PATIENCE };
        let options = ["-v", "--patience", patience].map(str::to_owned).to_vec();
        (setup.sender_options, setup.receiver_options) = (options.clone(), options);
        let dials = self.scenario.dials(&self.terms(number));
        let network = self.scenario.loses_links().then(|| Isolated::new().expect("there was one just before"));
        let relay = match &network {
            Some(network) => setup.through_the_only_relay(seed, network),
            None => setup.through_relay(seed),
        };
        relay.proxy().turn(|held| *held = dials);
        let live = setup.start();
        let ended =
            if self.scenario.ask == Ask::LastAnswer { self.cut_before_the_answer(&setup, live) } else { Ok(live) };
        let ended = ended.and_then(|live| observe::wait(live, PATIENCE));
        let counts = setup.relay().proxy().counts();
        let (verdict, seen, mut log) = match ended {
            Ok((sender, receiver)) => {
                let seen = observe::look(&sender, &receiver);
                let judged = self.judge(&setup, &source, &seen);
                let text = if judged == Verdict::Good { vec![] } else { vec![sender.describe(), receiver.describe()] };
                (judged, seen, text)
            }
            Err(why) => (Verdict::Stuck(first_line(&why)), Seen::default(), vec![why]),
        };
        log.push(format!(
            "{} #{number}: {:.1} s, {verdict}; {seen}; {}",
            self.scenario.name,
            began.elapsed().as_secs_f64(),
            counts.line()
        ));
        Outcome { counts, seen, verdict, log }
    }

    fn tree(&self, root: &Path, seed: u64) -> std::path::PathBuf {
        let mut tree = Tree::new(root, seed);
        for name in ["a", "below/b", "below/deeper/c"] {
            tree.small(name);
        }
        if !self.scenario.is_small {
            tree.file("large", &Content::Random(self.size_bytes));
        }
        tree.finish()
    }

    fn judge(&self, setup: &Setup, source: &Path, seen: &Seen) -> Verdict {
        let wanted = if self.scenario.ask == Ask::Unknown { 3 } else { 0 };
        let is_whole = seen.codes.contains(&Some(0));
        let wrong = observe::differences(source, &setup.target, is_whole);
        if !wrong.is_empty() {
            return Verdict::Wrong(wrong.join("; "));
        }
        if seen.codes != [Some(wanted); 2] {
            return Verdict::Stuck(format!("sender and receiver exited with {:?}, not {wanted}", seen.codes));
        }
        let twice = seen.moved_bytes.saturating_sub(seen.content_bytes);
        if wanted == 0 && twice > SENT_TWICE_BYTES_MAX {
            return Verdict::Stuck(format!("{twice} bytes moved twice, {SENT_TWICE_BYTES_MAX} are allowed"));
        }
        if seen.peak_bytes > PEAK_BYTES_MAX {
            return Verdict::Stuck(format!("{} bytes of memory at the peak", seen.peak_bytes));
        }
        if self.scenario.ask == Ask::Reconnects && seen.lost_links == 0 {
            return Verdict::Stuck("no side says that its link was lost".to_owned());
        }
        if self.scenario.detection == Detection::Ignored && !seen.is_undisturbed() {
            return Verdict::Stuck(format!("what should be ignored had an effect: {seen}"));
        }
        Verdict::Good
    }

    /// Cuts the line when the receiver has its receipt. At quick pace the sender is then killed and started again, else
    /// both find out by themselves.
    fn cut_before_the_answer(&self, setup: &Setup, mut live: Live) -> Result<Live, String> {
        let deadline = Instant::now() + PATIENCE;
        while state::receipts(&setup.receiver_home).is_empty() {
            if Instant::now() > deadline || live.sender.has_ended() {
                return Err(live.sender.describe("and the receiver has no receipt"));
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        let proxy = setup.relay().proxy();
        proxy.silence();
        if live.sender.has_ended() || !state::receipts(&setup.sender_home).is_empty() {
            return Err("the harness was too slow: the sender had its answer before the cut".to_owned());
        }
        let lasts = if self.pace == Pace::Full {
            self.blackout.max(Duration::from_secs(22))
        } else {
            Duration::from_millis(500)
        };
        std::thread::sleep(lasts);
        let towards = if self.listens == Listens::Receiver { Direction::ToListener } else { Direction::ToDialler };
        let before = proxy.counts().passed_bytes(towards);
        if self.pace == Pace::Quick {
            let killed = live.sender.kill();
            if !killed.was_killed() {
                return Err(format!("the sender had ended before it was killed\n{}", killed.describe()));
            }
            live.sender = setup.command(Side::Sender).start();
        }
        proxy.speak();
        let mut is_told = |side: fn(&mut Live) -> &mut Running| {
            while !side(&mut live).has_ended() && Instant::now() < deadline {
                std::thread::sleep(LOOK_PAUSE);
            }
        };
        is_told(|live| &mut live.sender);
        let asked = proxy.counts().passed_bytes(towards) - before;
        if asked > ASKING_BYTES_MAX {
            return Err(format!("{asked} bytes went to the receiver after the cut: content was sent again"));
        }
        Ok(live)
    }
}

/// Outages are counted on each way, and are one for the line.
fn count(counts: &Counts, kind: Kind) -> u64 {
    match kind {
        Kind::Outages => super::BOTH.map(|way| counts.on(way, kind)).into_iter().max().unwrap_or_default(),
        other => counts.of(other),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
