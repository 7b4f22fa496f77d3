//! Many seeds: what failed, what was seen, and the verdict over all of them.

use std::fmt;

use super::{Coverage, Report, Violation};

/// The verdict over a campaign; its number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong.
    Good,
    /// Something that was to be injected never was.
    Vacuous,
    /// It did not converge once the faults had stopped.
    Stuck,
    /// Something wrong was published or acknowledged.
    Wrong,
}

impl Verdict {
    /// Exit code.
    pub fn code(self) -> u8 {
        match self {
            Verdict::Good => 0,
            Verdict::Wrong => 1,
            Verdict::Stuck => 2,
            Verdict::Vacuous => 3,
        }
    }
}

/// One seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub violation: Violation,
    /// The plan, as one line.
    pub plan: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {:#x}: {:?}\n  {}", self.seed, self.violation, self.plan)
    }
}

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Seeds run.
    pub seeds: u64,
    /// Steps of all of them.
    pub steps: u64,
    /// What was seen.
    pub coverage: Coverage,
    /// Those that failed.
    pub failures: Vec<Failure>,
}

impl Campaign {
    /// Takes the report of one seed.
    pub fn take(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.coverage.merge(&report.coverage);
        if let Err(violation) = report.result {
            self.failures.push(Failure { seed, violation, plan: report.plan });
        }
    }

    /// The worst of the failures.
    pub fn worst(&self) -> Verdict {
        let verdict = |failure: &Failure| match failure.violation {
            Violation::Wrong(_) => Verdict::Wrong,
            Violation::Stuck(_) => Verdict::Stuck,
        };
        self.failures.iter().map(verdict).max().unwrap_or(Verdict::Good)
    }

    /// What was seen too seldom: name, seen, needed.
    pub fn missing(&self) -> Vec<(&'static str, u64, u64)> {
        self.coverage.missing(self.seeds)
    }

    /// The counts as one JSON object.
    pub fn json(&self) -> String {
        let counts: Vec<String> = self.coverage.all().map(|(what, times)| format!("\"{what}\":{times}")).collect();
        let head = format!("\"seeds\":{},\"failed\":{},\"steps\":{}", self.seeds, self.failures.len(), self.steps);
        format!("{{{head},\"seen\":{{{}}}}}", counts.join(","))
    }
}
