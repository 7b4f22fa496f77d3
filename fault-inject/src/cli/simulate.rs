//! `simulate`: many seeds of the message-level simulation, or one with every step shown.

use std::process::ExitCode;
use std::time::Instant;

use super::number;
use crate::simulator::campaign::{self, Campaign};
use crate::simulator::{Class, Options, run_seed};

/// Seeds of a long run.
const LONG_SEEDS: u64 = 10_000_000;

/// Message-level simulation of both sides, with the real store on a simulated disk.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// Seeds to run.
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// Ten million seeds instead.
    #[arg(long, conflicts_with_all = ["seeds", "seed"])]
    long: bool,
    /// Run only this seed (0x... or decimal), with every step shown.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// First of the seeds.
    #[arg(long, value_parser = number, default_value = "0")]
    first: u64,
    /// Classes of faults to leave out, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = class)]
    drop: Vec<Class>,
    /// Classes of faults that are on in every seed, and no others.
    #[arg(long, value_delimiter = ',', value_parser = class)]
    only: Vec<Class>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn class(text: &str) -> Result<Class, String> {
    Class::of_word(text).ok_or_else(|| format!("there is no class `{text}`"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Simulate {
    /// Seeds of the campaign.
    fn count(&self) -> u64 {
        if self.long { LONG_SEEDS } else { self.seeds }
    }

    /// Runs one seed or a campaign.
    pub(super) fn run(&self) -> ExitCode {
        let set = |classes: &[Class]| classes.iter().copied().collect();
        let options = Options { dropped: set(&self.drop), only: set(&self.only), ..Options::default() };
        match self.seed {
            Some(seed) => show_one(seed, options),
            None => show_many(self, &options),
        }
    }
}

fn show_one(seed: u64, options: Options) -> ExitCode {
    let report = match run_seed(seed, &Options { is_verbose: true, ..options }) {
        Ok(report) => report,
        Err(error) => {
            println!("the harness failed: {error}");
            return ExitCode::from(4);
        }
    };
    println!("{}", report.plan);
    report.log.iter().for_each(|line| println!("{line}"));
    println!("trace {}", hex(&report.trace));
    match report.result {
        Ok(()) => ExitCode::SUCCESS,
        Err(violation) => {
            println!("{violation:?}");
            let is_wrong = matches!(violation, crate::simulator::Violation::Wrong(_));
            ExitCode::from(if is_wrong { 1 } else { 2 })
        }
    }
}

fn show_many(simulate: &Simulate, options: &Options) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if !simulate.json {
        println!("seeds={:#x}+{} version={version}", simulate.first, simulate.count());
    }
    let began = Instant::now();
    let campaign = campaign::run(simulate.first, simulate.count(), options);
    let rate = simulate.count() as f64 / began.elapsed().as_secs_f64();
    if simulate.json {
        print_json(&campaign);
    } else {
        print_text(&campaign, options, rate);
    }
    ExitCode::from(campaign.exit_code())
}

fn print_json(campaign: &Campaign) {
    let counts: Vec<String> = campaign.coverage.all().map(|(what, times)| format!("\"{what}\":{times}")).collect();
    let failed: Vec<String> = campaign.failures.iter().map(|failure| format!("\"{:#x}\"", failure.seed)).collect();
    println!(
        "{{\"seeds\":{},\"steps\":{},\"exit\":{},\"trace\":\"{}\",\"failed\":[{}],\"counts\":{{{}}}}}",
        campaign.seeds,
        campaign.steps,
        campaign.exit_code(),
        hex(&campaign.trace),
        failed.join(","),
        counts.join(",")
    );
}

fn print_text(campaign: &Campaign, options: &Options, rate: f64) {
    for (what, times) in campaign.coverage.all() {
        println!("{times:10}  {what}");
    }
    let missing = if campaign.is_partial { vec![] } else { campaign.coverage.missing(campaign.seeds) };
    for (what, seen, needed) in missing {
        println!("too seldom: {what}: {seen} of {needed}");
    }
    for failure in &campaign.failures {
        println!("{:#x}: {:?}\n    {}", failure.seed, failure.violation, failure.plan);
    }
    println!("{} seeds, {} steps, {rate:.0} seeds/s, trace {}", campaign.seeds, campaign.steps, hex(&campaign.trace));
    if let Some(first) = campaign.failures.first() {
        let is_meant = |class: &Class| options.only.is_empty() || options.only.contains(class);
        let words: Vec<&str> =
            campaign::shrink(first.seed, options).into_iter().filter(is_meant).map(Class::word).collect();
        let only: Vec<&str> = options.only.iter().map(|class| class.word()).collect();
        let said = |option: &str, words: &[&str]| match words {
            [] => String::new(),
            words => format!(" {option} {}", words.join(",")),
        };
        let (drop, only) = (said("--drop", &words), said("--only", &only));
        println!("REPRO: cargo run --release -p fault-inject -- simulate --seed {:#x}{only}{drop}", first.seed);
    }
}
