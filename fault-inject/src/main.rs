//! The command line of the harness: runs campaigns and says how to repeat what failed. Verdicts are the library's.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fault_inject::simulator::{Campaign, Options, Verdict, run_seed};

/// Turns faults on landfall and shows what it does about them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Both sides over disks that forget what was not synced and a link that loses, doubles and reorders.
    /// Exit 0: all good; 1: a wrong file was acknowledged; 2: no convergence; 3: vacuous; 4: harness error
    Simulate {
        /// How many seeds.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed; with it alone, that one seed is run with all its steps.
        #[arg(long, value_parser = number)]
        seed: Option<u64>,
        /// One JSON object at the end instead of the table.
        #[arg(long)]
        json: bool,
    },
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let Command::Simulate { seeds, seed, json } = Arguments::parse().command;
    match seed {
        Some(seed) if seeds == 1000 => one(seed),
        first => many(first.unwrap_or(0), seeds, json),
    }
}

/// Runs one seed and tells everything.
fn one(seed: u64) -> ExitCode {
    let report = match run_seed(seed, &Options { is_verbose: true, ..Options::default() }) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("harness error: {error}");
            return ExitCode::from(4);
        }
    };
    println!("seed={seed:#x} version={} {}", env!("CARGO_PKG_VERSION"), report.plan);
    report.log.iter().for_each(|line| println!("{line}"));
    let trace: String = report.trace.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("steps={} trace={trace} result={:?}", report.steps, report.result);
    let mut campaign = Campaign::default();
    campaign.take(seed, report);
    ExitCode::from(campaign.worst().code())
}

fn many(first: u64, seeds: u64, json: bool) -> ExitCode {
    println!("seed={first:#x} seeds={seeds} version={}", env!("CARGO_PKG_VERSION"));
    let mut campaign = Campaign::default();
    for seed in first..first.saturating_add(seeds) {
        match run_seed(seed, &Options::default()) {
            Ok(report) => campaign.take(seed, report),
            Err(error) => {
                eprintln!("harness error at seed {seed:#x}: {error}");
                return ExitCode::from(4);
            }
        }
    }
    for failure in &campaign.failures {
        println!("{failure}");
        println!("REPRO: cargo run --release -p fault-inject -- simulate --seed {:#x}", failure.seed);
    }
    if json {
        println!("{}", campaign.json());
    } else {
        campaign.coverage.all().for_each(|(what, times)| println!("{times:>9}  {what}"));
        println!("{:>9}  steps", campaign.steps);
    }
    let missing = campaign.missing();
    missing.iter().for_each(|(what, seen, needed)| println!("vacuous: {what}: seen {seen}, needed {needed}"));
    let verdict = match campaign.worst() {
        Verdict::Good if !missing.is_empty() => Verdict::Vacuous,
        worst => worst,
    };
    println!("{} of {} seeds failed: {verdict:?}", campaign.failures.len(), campaign.seeds);
    ExitCode::from(verdict.code())
}
