//! The harness's face: one file for each command, which parses, runs what is in the library, prints, and gives the
//! exit code. Every run begins with a line of seed, version and dials; a failure ends with a command that repeats it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

mod child;
mod corrupt;
mod crash;
mod demo;
mod disk;
mod explore;
mod hostile;
mod kill;
mod matrix;
mod mutants;
mod proxy;
mod row;
mod simulate;
mod soak;
mod syscalls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::verdict::{Report, Verdict};

/// Turns faults on landfall and shows what it does about them. Exit: 0 good, 1 something wrong was acknowledged, 2 no
/// convergence, 3 vacuous (nothing was injected), 4 the harness failed, 5 skipped for lack of a facility.
#[derive(Debug, Parser)]
#[command(name = "fault-inject", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Child(child::Child),
    Corrupt(corrupt::Corrupt),
    Matrix(matrix::Matrix),
    #[command(hide = true)]
    Row(row::RowCommand),
    Crash(crash::Crash),
    Explore(explore::Explore),
    Proxy(Box<proxy::ProxyCommand>),
    Kill(kill::Kill),
    Mutants(mutants::Mutants),
    Hostile(hostile::Hostile),
    Demo(demo::Demo),
    Disk(disk::Disk),
    Simulate(simulate::Simulate),
    Soak(soak::Soak),
    Syscalls(syscalls::Syscalls),
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Seed of everything random (0x... or decimal) [default: drawn, and printed].
    #[arg(long, value_parser = number)]
    pub(crate) seed: Option<u64>,
    /// One JSON object to a line instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Child(child) => child.run(),
        Command::Corrupt(corrupt) => corrupt.run(),
        Command::Matrix(matrix) => matrix.run(),
        Command::Row(row) => row.run(),
        Command::Crash(crash) => crash.run(),
        Command::Explore(explore) => explore.run(),
        Command::Proxy(proxy) => proxy.run(),
        Command::Kill(kill) => kill.run(),
        Command::Mutants(mutants) => mutants.run(),
        Command::Hostile(hostile) => hostile.run(),
        Command::Demo(demo) => demo.run(),
        Command::Disk(disk) => disk.run(),
        Command::Simulate(simulate) => simulate.run(),
        Command::Soak(soak) => soak.run(),
        Command::Syscalls(syscalls) => syscalls.run(),
    }
}

/// A number, decimal or hexadecimal.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

impl Common {
    /// The seed that was given, or one of the moment.
    pub(crate) fn seed(&self) -> u64 {
        let moment = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            since.as_secs().rotate_left(32) ^ u64::from(since.subsec_nanos()) ^ u64::from(std::process::id())
        };
        self.seed.unwrap_or_else(moment)
    }

    /// The first line of a run.
    pub(crate) fn begin(&self, seed: u64, dials: &str) {
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            println!("{}", serde_json::json!({ "event": "begin", "seed": seed, "version": version, "dials": dials }));
        } else {
            println!("seed={seed:#x} version={version} {dials}");
        }
    }

    /// Shows one report.
    pub(crate) fn show(&self, report: &Report) {
        if self.json {
            println!("{}", json_of(report));
            return;
        }
        let counts = format!("injected {} detected {} repaired {}", report.injected, report.detected, report.repaired);
        println!("{:<44} {:<9} {counts}  {}", report.fault, report.how.word(), report.verdict);
    }

    /// The last lines of a run, and its exit code: the worst verdict, with the command that repeats what failed.
    pub(crate) fn end(&self, reports: &[Report]) -> ExitCode {
        let worst = reports.iter().fold(Verdict::Good, |worst, report| worst.and(report.verdict.clone()));
        if self.json {
            println!("{}", serde_json::json!({ "event": "end", "exit": worst.exit_code() }));
        }
        for report in reports.iter().filter(|report| !matches!(report.verdict.exit_code(), 0 | 5)) {
            eprintln!("{}: {}\n  {}", report.fault, report.verdict, report.plan);
            report.log.iter().rev().take(20).rev().for_each(|line| eprintln!("  {line}"));
            eprintln!("REPRO: {}", report.reproduce);
        }
        ExitCode::from(worst.exit_code())
    }
}

/// A report as one JSON object.
fn json_of(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "event": "report", "fault": report.fault, "how": report.how.word(), "injected": report.injected,
        "detected": report.detected, "repaired": report.repaired, "verdict": report.verdict.to_string(),
        "exit": report.verdict.exit_code(), "plan": report.plan, "reproduce": report.reproduce,
    })
}
