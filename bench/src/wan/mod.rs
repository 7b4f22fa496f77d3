//! landfall over a long line that loses packets: goodput against what the line could carry, and rsync over ssh (the
//! kernel's TCP) beside it. What is not done in time is cut, and what had arrived by then is counted. What an outage costs is
//! in [`outage`], what is left for a TCP flow on the same line in [`fairness`].

pub mod emulator;
pub mod fairness;
pub mod link;
pub mod outage;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use fault_inject::rig::oracle::Snapshot;
use fault_inject::rig::state::data_bytes;
use fault_inject::rig::tree::{Content, Tree};

use crate::cli::{Common, Failure, Say};
use crate::measure::{Meter, spread};
use crate::pair;
use crate::plot::{Chart, Shape};
use crate::program::Ended;
use crate::table::{Table, figure, figure_or_dash};
use crate::tools::{Tool, Workshop};
use crate::{direct, oracle, program};
use emulator::Emulated;
use link::{Counts, Line};

/// Times transfers over an emulated long line (root).
#[derive(Debug, clap::Args)]
pub struct Wan {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    line: LineOptions,
    /// Lost packets, in percent, each in both directions.
    #[arg(long, value_delimiter = ',', default_value = "0,0.1,1,3")]
    loss: Vec<f64>,
    /// Size of the file that is sent.
    #[arg(long, default_value_t = 100)]
    mib: u64,
    /// Runs of each tool at each loss.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Seconds after which a run is cut; what has arrived counts.
    #[arg(long, default_value_t = 40)]
    limit: u64,
    /// Congestion control of the TCP below rsync.
    #[arg(long, default_value = "cubic")]
    tcp: String,
    /// Leaves rsync out.
    #[arg(long)]
    without_rsync: bool,
    /// Another emulator: a command in which {rate} {delay} {queue} {loss} {seed} {a} {b} {ip-a} {ip-b} are replaced;
    /// it makes the networks {a} and {b} of `ip netns`, joins them, and ends at SIGTERM.
    #[arg(long, value_name = "COMMAND")]
    emulator: Option<String>,
}

/// The line, but for what it loses.
#[derive(Clone, Copy, Debug, clap::Args)]
struct LineOptions {
    /// Rate of the line in Mbit/s.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Round trip in milliseconds.
    #[arg(long, default_value_t = 80.0)]
    rtt: f64,
    /// Queue in milliseconds at the rate [default: one round trip].
    #[arg(long)]
    queue: Option<f64>,
}

impl LineOptions {
    fn queue_ms(&self) -> f64 {
        self.queue.unwrap_or(self.rtt)
    }

    fn line(&self, loss_percent: f64) -> Line {
        let ns = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3).as_nanos().try_into().unwrap_or(u64::MAX);
        Line {
            rate_bits: self.rate * 1_000_000,
            delay_ns: ns(self.rtt / 2.0),
            queue_ns: ns(self.queue_ms()),
            loss: loss_percent / 100.0,
        }
    }
}

impl std::fmt::Display for LineOptions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} Mbit/s, {} ms round trip, queue {} ms", self.rate, self.rtt, self.queue_ms())
    }
}

/// What one tool did at one loss.
#[derive(Debug, Default)]
struct Cell {
    goodput: Vec<f64>,
    cuts: usize,
    failures: Vec<String>,
}

impl Wan {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// A row for each loss, said as soon as it is there.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        let mut tree = Tree::new(&work.join("source"), self.common.seed);
        tree.file("file", &Content::Random(self.mib << 20));
        let source = tree.finish();
        let wanted = oracle::look(&source);
        let tools = self.tools(say);
        say(&format!(
            "\n## {}, one file of {} MiB, runs cut at {} s; TCP: {}\n",
            self.line, self.mib, self.limit, self.tcp
        ));
        let mut table =
            Table::new(&["loss %", "landfall Mbit/s", "of the rate", "rsync Mbit/s", "× rsync", "the line, there"]);
        let mut series: Vec<(String, Vec<Option<f64>>)> =
            tools.iter().map(|tool| (tool.name().to_owned(), Vec::new())).collect();
        for loss in &self.loss {
            let mut cells: Vec<Cell> = tools.iter().map(|_| Cell::default()).collect();
            let mut passed = None;
            for run in 0..self.runs {
                for (tool, cell) in tools.iter().zip(&mut cells) {
                    let counts = self.once(*tool, *loss, run as u64, &source, &wanted, work, cell)?;
                    passed = if *tool == Tool::Landfall { counts } else { passed };
                }
            }
            for (cell, (name, values)) in cells.iter().zip(&mut series) {
                values.push(cell.median());
                for failure in &cell.failures {
                    say(&format!("failed: {name} at {loss} %: {failure}"));
                }
            }
            table.row(self.row(*loss, &cells, passed));
        }
        say(&table.markdown());
        Ok(Chart {
            title: format!("Goodput over {} Mbit/s, {} ms round trip", self.line.rate, self.line.rtt),
            unit: "Mbit/s".to_owned(),
            shape: Shape::Lines,
            groups: self.loss.iter().map(|loss| format!("{loss} % loss")).collect(),
            series,
        })
    }

    fn tools(&self, say: Say<'_>) -> Vec<Tool> {
        let mut tools = vec![Tool::Landfall];
        match Tool::Rsync.lacks() {
            _ if self.without_rsync => {}
            Some(what) => say(&format!("skipped: rsync: {what}")),
            None => tools.push(Tool::Rsync),
        }
        tools
    }

    /// One run over a line of its own.
    #[allow(clippy::too_many_arguments, reason = "what a run is made of")]
    fn once(
        &self,
        tool: Tool,
        loss: f64,
        run: u64,
        source: &Path,
        wanted: &Snapshot,
        work: &Path,
        cell: &mut Cell,
    ) -> Result<Option<[Counts; 2]>, Failure> {
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Failure::broken)?;
        let (line, seed) = (self.line.line(loss), self.common.seed.wrapping_add(run));
        let emulated = match &self.emulator {
            Some(command) => Emulated::by_command(command, line, seed, &scratch.path().join("emulator")),
            None => Emulated::own(line, seed),
        };
        let emulated = emulated.map_err(Failure::Lacks)?;
        emulated.set_tcp(&self.tcp).map_err(Failure::Lacks)?;
        let limit = Duration::from_secs(self.limit);
        let workshop = Workshop::new(scratch.path(), limit);
        let mut workshop =
            workshop.between(emulated.sender_below(), emulated.receiver_below(), emulator::receiver_address());
        if tool.needs_ssh() {
            workshop = workshop.with_ssh().map_err(Failure::Broken)?;
        }
        let target = scratch.path().join("target");
        std::fs::create_dir(&target).map_err(Failure::broken)?;
        let meter = Meter::start();
        let outcome = workshop.run_until(tool, source, &target, limit);
        let seconds = meter.stop().wall_seconds;
        match outcome {
            Ok(Ended::Well) => {
                if let Some(path) = oracle::wrong(wanted, &target).first() {
                    return Err(Failure::Wrong(format!("{}: `{path}` differs", tool.name())));
                }
                cell.goodput.push(megabits(self.mib << 20, seconds));
            }
            Ok(Ended::Cut) => {
                cell.cuts += 1;
                cell.goodput.push(megabits(arrived(&target).min(self.mib << 20), seconds));
            }
            Err(why) => cell.failures.push(why),
        }
        Ok(emulated.counts())
    }

    fn row(&self, loss: f64, cells: &[Cell], passed: Option<[Counts; 2]>) -> Vec<String> {
        let landfall = cells.first().and_then(Cell::median);
        let rsync = cells.get(1).and_then(Cell::median);
        let there = passed.map_or_else(String::new, |[there, _]| {
            format!("{} passed, {} dropped, {} lost", there.passed, there.dropped, there.lost)
        });
        vec![
            loss.to_string(),
            cells.first().map_or_else(String::new, Cell::text),
            landfall.map_or_else(
                || "-".to_owned(),
                |landfall| format!("{:.0} %", 100.0 * landfall / self.line.rate as f64),
            ),
            cells.get(1).map_or_else(|| "-".to_owned(), Cell::text),
            figure_or_dash(landfall.zip(rsync).filter(|(_, rsync)| *rsync > 0.0).map(|(ours, theirs)| ours / theirs)),
            there,
        ]
    }
}

impl Cell {
    fn median(&self) -> Option<f64> {
        spread(self.goodput.iter().copied()).map(|goodput| goodput.median)
    }

    fn text(&self) -> String {
        let cut = if self.cuts > 0 { " (cut)" } else { "" };
        let spread = spread(self.goodput.iter().copied());
        spread.map_or_else(
            || "failed".to_owned(),
            |found| match self.goodput.len() {
                1 => format!("{}{cut}", figure(found.median)),
                _ => format!("{} ({}-{}){cut}", figure(found.median), figure(found.least), figure(found.greatest)),
            },
        )
    }
}

fn megabits(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / 1e6 / seconds
}

/// Bytes that stand in files below a directory, staged ones and unfinished ones too.
fn arrived(target: &Path) -> u64 {
    let files = direct::files_below(target).unwrap_or_default();
    files.iter().map(|file| data_bytes(file)).sum()
}

impl Workshop {
    /// Runs one of the two tools that go over a line; to be cut is no failure.
    fn run_until(&self, tool: Tool, source: &Path, target: &Path, limit: Duration) -> Result<Ended, String> {
        match tool {
            Tool::Landfall => pair::wait(self.pair(source, target)?.start()?, limit),
            _ => {
                let (mut command, log) = self.rsync_command(source, target)?;
                // Its ssh is to end with it when it is cut.
                command.process_group(0);
                program::wait(program::start(command, &log)?, &log, limit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_is_bits_of_the_file_by_time() {
        assert!((megabits(12_500_000, 1.0) - 100.0).abs() < 1e-9);
        let cell = Cell { goodput: vec![90.0, 80.0, 85.0], cuts: 1, failures: vec![] };
        assert_eq!(cell.text(), "85.0 (80.0-90.0) (cut)");
        assert_eq!(Cell::default().text(), "failed");
    }
}
