//! `crash`: every state that a power cut may leave of a small transfer, and every disk operation that may fail.

use std::process::ExitCode;
use std::time::Instant;

use super::Common;
use crate::crash::{FailOptions, Options, ext4_report, fail_report, report};

/// States of `--long`.
const LONG_STATES: u64 = 5_000_000;
/// Transfers of `--long` with `--fail-nth`.
const LONG_TRANSFERS: u64 = 12;
/// Cuts of `--long` with `--ext4`.
const LONG_CUTS: u64 = 10_000;

/// Crash-state enumeration with the real store and the real session machines on simulated disks.
#[derive(Debug, clap::Args)]
pub(super) struct Crash {
    #[command(flatten)]
    common: Common,
    /// Distinct states after which the enumeration ends.
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// Five million states; twelve transfers with --fail-nth, ten thousand cuts with --ext4.
    #[arg(long, conflicts_with_all = ["states", "transfers", "cuts"])]
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
            let cuts = if self.long { LONG_CUTS } else { self.cuts };
            self.common.begin(seed, &format!("ext4 cuts={cuts}"));
            ext4_report(seed, cuts)
        } else if self.fail_nth {
            let workloads = if self.long { LONG_TRANSFERS } else { self.transfers };
            self.common.begin(seed, &format!("fail-nth transfers={workloads}"));
            fail_report(FailOptions { seed, workloads, stride: 1 })
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
