//! The message-level simulator: the real brains of both sides, the real producer, server and store, over disks that
//! forget what was not synced and a link that loses, doubles and reorders. One seed draws everything; the same seed
//! gives the same trace in every process. Ownership, tickets and TLS are not simulated.

pub mod campaign;
mod coverage;
mod faults;
mod link;
mod opening;
mod oracle;
mod plan;
mod receipts;
mod receiving;
mod resent;
mod rest;
pub mod rows;
mod sending;
mod sights;
mod strangers;
mod tree;
mod verdicts;
mod world;

use std::collections::BTreeSet;

pub use coverage::{Coverage, MINIMUMS};
pub use plan::{Class, Plan};
pub use rest::Machine;
pub use world::{Violation, World};

use crate::sim_disk::SkipSync;

/// How seeds are run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Classes of faults that are left out.
    pub dropped: BTreeSet<Class>,
    /// These classes are on in every seed, and no other is; without any, each seed draws its own.
    pub only: BTreeSet<Class>,
    /// A sync that the receiver's disk skips: shows that the simulator sees it.
    pub skip: Option<SkipSync>,
    /// Keep a log of every step.
    pub is_verbose: bool,
}

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan, as one line.
    pub plan: String,
    /// What is wrong.
    pub result: Result<(), Violation>,
    /// What was seen.
    pub coverage: Coverage,
    /// Steps of both phases.
    pub steps: u64,
    /// Digest of everything that moved.
    pub trace: [u8; 32],
    /// The log of steps, if one was asked for.
    pub log: Vec<String>,
}

/// Runs one seed. An error is one of the harness.
pub fn run_seed(seed: u64, options: &Options) -> Result<Report, String> {
    let mut plan = Plan::drawn(seed, &options.dropped);
    if !options.only.is_empty() {
        plan.on = options.only.difference(&options.dropped).copied().collect();
    }
    let line = plan.to_string();
    let mut world = World::new(plan, options.skip.clone())?;
    if options.is_verbose {
        world.keep_log();
    }
    let result = world.run();
    Ok(Report {
        plan: line,
        result,
        coverage: world.coverage(),
        steps: world.steps(),
        trace: world.trace(),
        log: world.take_log(),
    })
}
