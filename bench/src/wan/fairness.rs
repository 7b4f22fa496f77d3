//! One landfall and one TCP flow (the kernel's) on the same line, and one landfall alone that keeps a limit.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fault_inject::rig::process::Running;
use fault_inject::rig::tree::{Content, Tree};

use super::emulator::{self, Emulated};
use super::link::Counts;
use super::{LineOptions, megabits};
use crate::cli::{Common, Failure, Say};
use crate::plot::{Chart, Shape};
use crate::program::Ended;
use crate::table::{Table, figure};
use crate::tools::Workshop;
use crate::{oracle, pair};

/// How long whoever is first has the line alone.
const HEAD_START: Duration = Duration::from_secs(5);
/// Bytes that the TCP flow writes at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Time that the limited transfer may take, times what its limit asks for.
const LIMIT_PATIENCE: u32 = 3;

/// Measures what is left for a TCP flow on the same line, and whether `--limit` holds (root).
#[derive(Debug, clap::Args)]
pub struct Fairness {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    line: LineOptions,
    /// Seconds for which both share the line.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Congestion control of the TCP flow.
    #[arg(long, default_value = "cubic")]
    tcp: String,
    /// Bytes a second of the limited transfer.
    #[arg(long, default_value_t = 5_000_000)]
    limit: u64,
}

/// Who is on the line first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Tcp,
    Landfall,
}

impl Fairness {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// A row for each of the two who may be first, then the limit.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        say(&format!("\n## {}, no loss, {} s together; TCP: {}\n", self.line, self.seconds, self.tcp));
        let mut table = Table::new(&["who was there first", "landfall Mbit/s", "TCP Mbit/s", "landfall's share"]);
        let (mut ours, mut theirs) = (vec![], vec![]);
        // More than the line carries: it does not end before the clock stops.
        let seconds = self.seconds + 2 * HEAD_START.as_secs();
        let source = file(work, "long", self.common.seed, self.line.rate * 1_000_000 / 8 * seconds);
        for (what, first) in [("TCP", First::Tcp), ("landfall", First::Landfall)] {
            let (landfall, tcp) = self.beside(first, &source, work)?;
            let share = format!("{:.0} %", 100.0 * landfall / (landfall + tcp));
            table.row([what.to_owned(), figure(landfall), figure(tcp), share]);
            ours.push(Some(landfall));
            theirs.push(Some(tcp));
        }
        say(&table.markdown());
        let held = self.limited(work)?;
        let limit = self.limit as f64 / 1e6;
        say(&format!("--limit {limit} MB/s, alone on the line: {} MB/s, {:.3} of it\n", figure(held), held / limit));
        Ok(Chart {
            title: "One landfall and one TCP flow on one line".to_owned(),
            unit: "Mbit/s".to_owned(),
            shape: Shape::Bars,
            groups: vec!["TCP first".to_owned(), "landfall first".to_owned()],
            series: vec![("landfall".to_owned(), ours), ("TCP".to_owned(), theirs)],
        })
    }

    /// What both got of the line while they shared it, in Mbit/s with all headers.
    fn beside(&self, first: First, source: &Path, work: &Path) -> Result<(f64, f64), Failure> {
        let ground = Ground::new(self, work)?;
        let (sides, flow) = match first {
            First::Tcp => {
                let flow = Flow::start(&ground.emulated)?;
                std::thread::sleep(HEAD_START);
                (ground.start(source, &[])?, flow)
            }
            First::Landfall => {
                let sides = ground.start(source, &[])?;
                std::thread::sleep(HEAD_START);
                (sides, Flow::start(&ground.emulated)?)
            }
        };
        let (started, before) = (Instant::now(), ground.there());
        std::thread::sleep(Duration::from_secs(self.seconds));
        let (took, after) = (started.elapsed().as_secs_f64(), ground.there());
        let (mut sender, mut receiver) = sides;
        let is_cut_short = sender.has_ended() || receiver.has_ended();
        let said = sender.kill().stderr_text();
        receiver.kill();
        flow.end();
        if is_cut_short {
            return Err(Failure::Broken(format!("landfall ended early: {}", said.trim())));
        }
        let rate = |bytes: fn(&Counts) -> u64| megabits(bytes(&after) - bytes(&before), took);
        Ok((rate(|counts| counts.udp_bytes), rate(|counts| counts.tcp_bytes)))
    }

    /// Megabytes of the file that came in a second, from the start of the sender to its end.
    fn limited(&self, work: &Path) -> Result<f64, Failure> {
        let bytes = self.limit * self.seconds;
        let source = file(work, "limited", self.common.seed, bytes);
        let ground = Ground::new(self, work)?;
        let patience = Duration::from_secs(self.seconds) * LIMIT_PATIENCE;
        let started = Instant::now();
        let sides = ground.start(&source, &["--limit", &self.limit.to_string()])?;
        match pair::wait(sides, patience).map_err(Failure::Broken)? {
            Ended::Well => {}
            Ended::Cut => return Err(Failure::Broken(format!("not done within {} s", patience.as_secs()))),
        }
        let took = started.elapsed().as_secs_f64();
        match oracle::wrong(&oracle::look(&source), &ground.target()).first() {
            Some(path) => Err(Failure::Wrong(format!("`{path}` differs"))),
            None => Ok(bytes as f64 / 1e6 / took),
        }
    }
}

/// A tree of one file.
fn file(work: &Path, name: &str, seed: u64, bytes: u64) -> std::path::PathBuf {
    let mut tree = Tree::new(&work.join(name), seed);
    tree.file("file", &Content::Random(bytes));
    tree.finish()
}

/// A line of its own, and a place for one transfer.
struct Ground {
    emulated: Emulated,
    scratch: tempfile::TempDir,
}

impl Ground {
    fn new(options: &Fairness, work: &Path) -> Result<Ground, Failure> {
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Failure::broken)?;
        let emulated = Emulated::own(options.line.line(0.0), options.common.seed).map_err(Failure::Lacks)?;
        emulated.set_tcp(&options.tcp).map_err(Failure::Lacks)?;
        Ok(Ground { emulated, scratch })
    }

    fn target(&self) -> std::path::PathBuf {
        self.scratch.path().join("target")
    }

    fn start(&self, source: &Path, options: &[&str]) -> Result<(Running, Running), Failure> {
        std::fs::create_dir(self.target()).map_err(Failure::broken)?;
        let (emulated, patience) = (&self.emulated, Duration::from_secs(60));
        let workshop = Workshop::new(self.scratch.path(), patience).between(
            emulated.sender_below(),
            emulated.receiver_below(),
            emulator::receiver_address(),
        );
        let mut pair = workshop.pair(source, &self.target()).map_err(Failure::Broken)?;
        pair.sender_options = options.iter().map(|option| (*option).to_owned()).collect();
        pair.start().map_err(Failure::Broken)
    }

    /// What has gone from the sender to the receiver.
    fn there(&self) -> Counts {
        self.emulated.counts().map_or_else(Counts::default, |[there, _]| there)
    }
}

/// A TCP flow that sends as fast as it may until it is ended.
struct Flow {
    ends: [TcpStream; 2],
    threads: [JoinHandle<()>; 2],
}

impl Flow {
    fn start(emulated: &Emulated) -> Result<Flow, Failure> {
        let ends = emulated.connect().map_err(Failure::Broken)?;
        let [mut here, mut there] =
            [ends[0].try_clone().map_err(Failure::broken)?, ends[1].try_clone().map_err(Failure::broken)?];
        let threads = [
            std::thread::spawn(move || while here.write_all(&[0; PIECE_BYTES]).is_ok() {}),
            std::thread::spawn(move || {
                let mut piece = vec![0; PIECE_BYTES];
                while there.read(&mut piece).is_ok_and(|count| count > 0) {}
            }),
        ];
        Ok(Flow { ends, threads })
    }

    fn end(self) {
        for end in &self.ends {
            // An end that is closed already is what is wanted.
            let _ = end.shutdown(Shutdown::Both);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}
