//! `explore`: a search over all states that the two session machines can reach within some departures from the
//! ordinary course, with everything that a state must satisfy.

use std::process::ExitCode;
use std::time::Instant;

use super::Common;
use crate::explore::{self, Options};

/// States of `--long`.
const LONG_STATES: usize = 20_000_000;

/// Search of the states of both session machines, over a model of link and disks, for what must never be.
#[derive(Debug, clap::Args)]
pub(super) struct Explore {
    #[command(flatten)]
    common: Common,
    /// Distinct states after which the search ends.
    #[arg(long, default_value_t = 1_000_000)]
    states: usize,
    /// Twenty million states.
    #[arg(long, conflicts_with = "states")]
    long: bool,
    /// Departures from the ordinary course on one path, at most.
    #[arg(long, default_value_t = 64)]
    departures: u32,
}

impl Explore {
    /// Searches and shows what was found.
    pub(super) fn run(&self) -> ExitCode {
        let states_max = if self.long { LONG_STATES } else { self.states };
        let options = Options { states_max, departures_max: self.departures, ..Options::default() };
        self.common.begin(self.common.seed.unwrap_or_default(), &options.to_string());
        let began = Instant::now();
        let report = explore::report(options);
        self.common.show(&report);
        if !self.common.json {
            report.log.iter().for_each(|line| println!("  {line}"));
            println!("  {:.1} s", began.elapsed().as_secs_f64());
        }
        self.common.end(&[report])
    }
}
