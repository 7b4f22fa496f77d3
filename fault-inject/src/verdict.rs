//! What a run of faults came to: the words and the exit codes that every command of the harness shares.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a fault was injected from. None of them is a hook of the shipped program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum How {
    /// A process of the harness that runs the product's library over another disk, source or link.
    Child,
    /// The message-level simulation over the simulated disk.
    Simulator,
    /// A search of all states of the session machines.
    Search,
    /// The shipped program behind the UDP proxy.
    Proxy,
    /// The shipped program on a FUSE file system that lies.
    Fuse,
    /// The shipped program on a loop image whose blocks are altered from below.
    LoopImage,
    /// The shipped program under `strace -e inject`.
    Strace,
    /// Signals to the shipped program.
    Signal,
    /// Another program, or another peer, that does what the shipped program must survive.
    Script,
}

impl How {
    /// Its name in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            How::Child => "child",
            How::Simulator => "simulator",
            How::Search => "search",
            How::Proxy => "proxy",
            How::Fuse => "fuse",
            How::LoopImage => "loop",
            How::Strace => "strace",
            How::Signal => "signal",
            How::Script => "script",
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing wrong was acknowledged, and the run ended as the promise says.
    Good,
    /// Nothing was broken that is promised: what came out wrong is a limit that is stated, by this name.
    Limit(String),
    /// A wrong file was acknowledged, or stands under a final name: what is wrong.
    Wrong(String),
    /// The run did not end, or not as it had to: what is missing.
    Stuck(String),
    /// Nothing was injected.
    Vacuous,
    /// The harness itself failed: why.
    Failed(String),
    /// This machine or this user lacks a facility: which.
    Skipped(String),
}

impl Verdict {
    /// Exit code of the harness: 0 good, 1 something wrong was acknowledged, 2 no convergence, 3 vacuous, 4 the
    /// harness failed, 5 skipped.
    pub fn exit_code(&self) -> u8 {
        match self {
            Verdict::Good | Verdict::Limit(_) => 0,
            Verdict::Wrong(_) => 1,
            Verdict::Stuck(_) => 2,
            Verdict::Vacuous => 3,
            Verdict::Failed(_) => 4,
            Verdict::Skipped(_) => 5,
        }
    }

    /// How bad it is among others: something wrong acknowledged is worst, skipped is the least that is not good.
    fn badness(&self) -> u8 {
        match self {
            Verdict::Good | Verdict::Limit(_) => 0,
            Verdict::Skipped(_) => 1,
            Verdict::Vacuous => 2,
            Verdict::Failed(_) => 3,
            Verdict::Stuck(_) => 4,
            Verdict::Wrong(_) => 5,
        }
    }

    /// The worse of two.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        if other.badness() > self.badness() { other } else { self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Good => f.write_str("good"),
            Verdict::Limit(which) => write!(f, "a stated limit: {which}"),
            Verdict::Wrong(what) => write!(f, "WRONG: {what}"),
            Verdict::Stuck(what) => write!(f, "no convergence: {what}"),
            Verdict::Vacuous => f.write_str("vacuous: nothing was injected"),
            Verdict::Failed(why) => write!(f, "the harness failed: {why}"),
            Verdict::Skipped(needs) => write!(f, "skipped: needs {needs}"),
        }
    }
}

/// One fault, injected so many times, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What was done, in a few words.
    pub fault: String,
    /// From where.
    pub how: How,
    /// Faults that really happened.
    pub injected: u64,
    /// Of these, how many the product noticed, by its own words or by what it did.
    pub detected: u64,
    /// Of these, how many it cured.
    pub repaired: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// The dials of the run, on one line.
    pub plan: String,
    /// What happened, line by line.
    pub log: Vec<String>,
    /// One command that does it again.
    pub reproduce: String,
}

impl Report {
    /// A run that this machine cannot do.
    pub fn skipped(fault: &str, how: How, needs: &str) -> Report {
        Report {
            fault: fault.to_owned(),
            how,
            injected: 0,
            detected: 0,
            repaired: 0,
            verdict: Verdict::Skipped(needs.to_owned()),
            plan: String::new(),
            log: vec![],
            reproduce: String::new(),
        }
    }

    /// This run and a further one of the same fault as one. The command that repeats it is that of the worse.
    #[must_use]
    pub fn with(self, other: Report) -> Report {
        let verdict = self.verdict.clone().and(other.verdict.clone());
        let is_worse = verdict != self.verdict;
        Report {
            injected: self.injected + other.injected,
            detected: self.detected + other.detected,
            repaired: self.repaired + other.repaired,
            plan: format!("{} | {}", self.plan, other.plan),
            log: [self.log, other.log].concat(),
            reproduce: if is_worse { other.reproduce } else { self.reproduce },
            verdict,
            ..self
        }
    }

    /// The same, with a good verdict turned into "vacuous" where nothing was injected.
    #[must_use]
    pub fn unless_vacuous(mut self) -> Report {
        if self.injected == 0 && self.verdict == Verdict::Good {
            self.verdict = Verdict::Vacuous;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_verdicts_counts() {
        let skipped = Verdict::Skipped("FUSE".into());
        assert_eq!(Verdict::Good.and(skipped.clone()), skipped);
        assert_eq!(Verdict::Wrong("a".into()).and(Verdict::Stuck("b".into())).exit_code(), 1);
        assert_eq!(skipped.and(Verdict::Vacuous), Verdict::Vacuous);
    }

    #[test]
    fn of_two_runs_the_one_that_failed_is_the_one_that_is_run_again() {
        let part = |verdict: Verdict, reproduce: &str| Report {
            verdict,
            reproduce: reproduce.to_owned(),
            injected: 1,
            ..Report::skipped("x", How::Proxy, "")
        };
        let parts = [part(Verdict::Stuck("b".into()), "b"), part(Verdict::Good, "c")];
        let whole = parts.into_iter().fold(part(Verdict::Good, "a"), Report::with);
        assert_eq!((whole.injected, whole.verdict.exit_code(), &*whole.reproduce), (3, 2, "b"));
    }

    #[test]
    fn what_injects_nothing_is_not_good() {
        let report = Report { verdict: Verdict::Good, ..Report::skipped("x", How::Proxy, "") };
        assert_eq!(report.clone().unless_vacuous().verdict, Verdict::Vacuous);
        assert_eq!(Report { injected: 1, ..report }.unless_vacuous().verdict, Verdict::Good);
    }
}
