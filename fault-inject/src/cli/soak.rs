//! `soak`: everything at once, for so many minutes.

use std::process::ExitCode;
use std::time::Duration;

use super::Common;
use crate::soak::{Turn, run};

/// Every command of the harness in turn, several beside each other, each with a seed of its own, for so many minutes.
#[derive(Debug, clap::Args)]
pub(super) struct Soak {
    /// No turn begins after that; those that run are waited for.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    #[command(flatten)]
    common: Common,
}

impl Soak {
    pub(super) fn run(self) -> ExitCode {
        let seed = self.common.seed();
        self.common.begin(seed, &format!("minutes={}", self.minutes));
        let is_json = self.common.json;
        let tell = |turn: &Turn| {
            if is_json {
                println!("{}", super::json_of(&turn.report));
            } else {
                println!("{:>6.1} s  {}: {}", turn.took.as_secs_f64(), turn.report.plan, turn.report.verdict);
            }
        };
        let (tally, bad) = run(seed, Duration::from_secs(self.minutes * 60), &tell);
        if !is_json {
            println!("\n{:<40} {:>6} {:>6} {:>8} {:>6}", "", "runs", "good", "skipped", "bad");
            for (name, codes) in &tally {
                let [good, skipped] = [0, 5].map(|code| codes.get(&code).copied().unwrap_or(0));
                let runs: u64 = codes.values().sum();
                println!("{name:<40} {runs:>6} {good:>6} {skipped:>8} {:>6}", runs - good - skipped);
            }
        }
        self.common.end(&bad)
    }
}
