//! SQLite's counter loop: the n-th operation fails, for n = 1, 2, 3, ... until the transfer ends without reaching it;
//! once, and from then on until the fault is cured; on each disk; with each error. Then both sides must converge, and
//! nothing wrong may have been acknowledged.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::power::small_plan;
use crate::errno::{EIO, ENOSPC};
use crate::operation::Operation;
use crate::sim_disk::{FailAt, Repeat};
use crate::simulator::{Machine, Violation, World};

/// Steps of the schedule after which a lasting fault is cured.
const FAILING_STEPS: u64 = 1500;

/// How the loops are run.
#[derive(Clone, Copy, Debug)]
pub struct FailOptions {
    /// Seed of the first transfer; the next ones follow.
    pub seed: u64,
    /// Transfers.
    pub workloads: u64,
    /// Only each so-manieth operation; 1 for all.
    pub stride: u64,
}

/// What the loops have found.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Runs in which the operation was reached and failed.
    pub runs: u64,
    /// Operations that failed in all of them.
    pub failed: u64,
    /// Kinds of operations of which the first failure of a run was one, with how many runs.
    pub kinds: BTreeMap<Operation, u64>,
    /// Runs in which a process ended by it and was started again, or an entry met it and was done again.
    pub noticed: u64,
    /// What is wrong first, with its case.
    pub violation: Option<(Violation, String)>,
    /// The harness's own error.
    pub error: Option<String>,
}

/// Runs all loops.
pub fn fail_each(options: FailOptions) -> Failures {
    let mut found = Failures::default();
    for seed in (0..options.workloads).map(|number| options.seed.wrapping_add(number)) {
        for machine in Machine::ALL {
            for errno in [EIO, ENOSPC] {
                for repeat in [Repeat::Once, Repeat::FromThenOn] {
                    one_loop(seed, machine, (errno, repeat), options.stride, &mut found);
                    if found.violation.is_some() || found.error.is_some() {
                        return found;
                    }
                }
            }
        }
    }
    found
}

fn one_loop(seed: u64, machine: Machine, (errno, repeat): (i32, Repeat), stride: u64, found: &mut Failures) {
    let mut nth = 1;
    loop {
        let mut world = match World::new(small_plan(seed), None) {
            Ok(world) => world,
            Err(why) => {
                found.error = Some(why);
                return;
            }
        };
        let operation = world.disk(machine).operations() + nth;
        let fail = FailAt { operation, errno, repeat };
        let case = format!("seed {seed:#x} {machine:?} operation {nth} errno {errno} {repeat:?}");
        let ended = catch_unwind(AssertUnwindSafe(|| world.run_with_failure(machine, fail, FAILING_STEPS)));
        match ended {
            Ok(Ok(())) => (),
            Ok(Err(violation)) => {
                found.violation = Some((violation, case));
                return;
            }
            Err(_) => {
                found.error = Some(format!("a panic: {case}"));
                return;
            }
        }
        let counts = world.disk(machine).counts();
        if counts.failed_at == 0 {
            return;
        }
        found.runs += 1;
        found.failed += counts.failed_at;
        if let Some(kind) = counts.first_failed {
            *found.kinds.entry(kind).or_default() += 1;
        }
        found.noticed += u64::from(world.has_noticed());
        nth += stride;
    }
}
