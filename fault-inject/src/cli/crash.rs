//! `crash`: every state that a power cut may leave of a small transfer, and every disk operation that may fail.

use std::process::ExitCode;
use std::time::Instant;

use super::Common;
use crate::crash::{FailOptions, Options, ext4_report, fail_report, report};

/// States of `--long`.
const LONG_STATES: u64 = 5_000_000;

/// Crash-state enumeration with the real store and the real session machines on simulated disks.
#[derive(Debug, clap::Args)]
pub(super) struct Crash {
    #[command(flatten)]
    common: Common,
    /// Distinct states after which the enumeration ends.
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// Five million states.
    #[arg(long, conflicts_with = "states")]
    long: bool,
    /// Instead: fail the n-th disk operation, for each n, once and lastingly.
    #[arg(long)]
    fail_nth: bool,
    /// Transfers of --fail-nth.
    #[arg(long, default_value_t = 3)]
    transfers: u64,
    /// Instead: cut the power of the shipped program's receiver on a real ext4 in a loop image (needs root).
    #[arg(long, conflicts_with = "fail_nth")]
    ext4: bool,
    /// Cuts of --ext4.
    #[arg(long, default_value_t = 300)]
    cuts: u64,
}

impl Crash {
    /// Enumerates and shows what was found.
    pub(super) fn run(&self) -> ExitCode {
        let seed = self.common.seed();
        let states_max = if self.long { LONG_STATES } else { self.states };
        let began = Instant::now();
        let report = if self.ext4 {
            self.common.begin(seed, &format!("ext4 cuts={}", self.cuts));
            ext4_report(seed, self.cuts)
        } else if self.fail_nth {
            self.common.begin(seed, &format!("fail-nth transfers={}", self.transfers));
            fail_report(FailOptions { seed, workloads: self.transfers, stride: 1 })
        } else {
            self.common.begin(seed, &format!("states={states_max}"));
            report(&Options { seed, states_max, workloads_max: u64::MAX, skip: None })
        };
        self.common.show(&report);
        if !self.common.json {
            report.log.iter().for_each(|line| println!("  {line}"));
            println!("  {:.1} s", began.elapsed().as_secs_f64());
        }
        self.common.end(&[report])
    }
}
