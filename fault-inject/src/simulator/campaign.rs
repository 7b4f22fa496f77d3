//! Many seeds: spread over the machine's processors, counted together, the first failing one shrunk to the fewest
//! classes of faults. It prints nothing; whoever runs it does.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Class, Coverage, Options, Report, Violation, run_seed};

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong; `None` if the harness or the product panicked.
    pub violation: Option<Violation>,
    /// The plan's line, or the harness's own error.
    pub plan: String,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Seeds that were run.
    pub seeds: u64,
    /// Classes of faults were left out: then nothing is asked of what was seen.
    pub is_partial: bool,
    /// Steps of all of them.
    pub steps: u64,
    /// What was seen.
    pub coverage: Coverage,
    /// Seeds that failed, in their order.
    pub failures: Vec<Failure>,
    /// Exclusive or of all traces: equal campaigns have equal ones.
    pub trace: [u8; 32],
}

impl Campaign {
    /// 0 good, 1 something wrong was acknowledged, 2 no convergence, 3 vacuous, 4 the harness failed.
    pub fn exit_code(&self) -> u8 {
        let code = |failure: &Failure| match failure.violation {
            Some(Violation::Wrong(_)) => 1,
            Some(Violation::Stuck(_)) => 2,
            None => 4,
        };
        let is_vacuous = !self.is_partial && !self.coverage.missing(self.seeds).is_empty();
        let vacuous = if is_vacuous { 3 } else { 0 };
        self.failures.iter().map(code).min().unwrap_or(vacuous)
    }
}

/// Runs the seeds `first .. first + count`.
pub fn run(first: u64, count: u64, options: &Options) -> Campaign {
    let is_partial = !options.dropped.is_empty() || !options.only.is_empty();
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Campaign { seeds: count, is_partial, ..Campaign::default() }));
    let work = || {
        let mut own = Campaign::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            own.take(first.wrapping_add(number), options);
        }
        sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(own);
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut campaign = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    campaign.failures.sort_by_key(|failure| failure.seed);
    campaign
}

impl Campaign {
    fn take(&mut self, seed: u64, options: &Options) {
        match catch_unwind(|| run_seed(seed, options)) {
            Ok(Ok(report)) => self.take_report(seed, report),
            Ok(Err(plan)) => self.failures.push(Failure { seed, violation: None, plan }),
            Err(_) => self.failures.push(Failure { seed, violation: None, plan: "a panic".into() }),
        }
    }

    fn take_report(&mut self, seed: u64, report: Report) {
        self.steps += report.steps;
        self.coverage.merge(&report.coverage);
        self.trace.iter_mut().zip(report.trace).for_each(|(sum, byte)| *sum ^= byte);
        if let Err(violation) = report.result {
            self.failures.push(Failure { seed, violation: Some(violation), plan: report.plan });
        }
    }

    fn add(&mut self, other: Campaign) {
        self.steps += other.steps;
        self.coverage.merge(&other.coverage);
        self.failures.extend(other.failures);
        self.trace.iter_mut().zip(other.trace).for_each(|(sum, byte)| *sum ^= byte);
    }
}

/// The largest set of classes that can be left out of a failing seed so that it still fails.
pub fn shrink(seed: u64, options: &Options) -> BTreeSet<Class> {
    let mut kept = options.clone();
    for class in Class::ALL {
        let mut tried = kept.clone();
        let is_failing = tried.dropped.insert(class)
            && !catch_unwind(|| matches!(run_seed(seed, &tried), Ok(Report { result: Ok(()), .. }))).unwrap_or(false);
        if is_failing {
            kept = tried;
        }
    }
    kept.dropped
}
