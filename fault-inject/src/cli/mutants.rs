//! `mutants`: seeded bugs of landfall's own code, each of which some other command has to find.

use std::process::ExitCode;

use super::Common;
use crate::mutants::{self, Mutant, Workshop};
use crate::verdict::{How, Report, Verdict};

/// Breaks landfall on purpose, in a copy of the tree, and sees that this harness notices. A mutant that lives is a
/// failure of the harness (4).
#[derive(Debug, clap::Args)]
pub(super) struct Mutants {
    #[command(flatten)]
    common: Common,
    /// Only this one: its whole name, or its number.
    #[arg(long, conflicts_with_all = ["rotate", "all"])]
    only: Option<String>,
    /// So many, chosen by the seed: seeds that follow each other choose those that follow each other.
    #[arg(long, default_value_t = 5)]
    rotate: usize,
    /// All of them.
    #[arg(long, visible_alias = "long", conflicts_with = "rotate")]
    all: bool,
}

impl Mutants {
    /// Hunts the chosen ones.
    pub(super) fn run(&self) -> ExitCode {
        let seed = self.common.seed();
        let chosen = mutants::all().map(|all| self.choose(all, seed));
        let count = chosen.as_ref().map_or(0, Vec::len);
        self.common.begin(seed, &format!("mutants={count}"));
        let reports = match chosen {
            Ok(chosen) if !chosen.is_empty() => self.hunt(&chosen, seed),
            Ok(_) => vec![failed("there is no such mutant".to_owned())],
            Err(why) => vec![failed(why)],
        };
        self.common.end(&reports)
    }

    fn choose(&self, all: Vec<Mutant>, seed: u64) -> Vec<Mutant> {
        let count = all.len().max(1);
        let is_named =
            |mutant: &Mutant, name: &str| mutant.name == name || mutant.name.starts_with(&format!("{name}-"));
        match &self.only {
            Some(name) => all.into_iter().filter(|mutant| is_named(mutant, name)).collect(),
            None if self.all => all,
            None => {
                let first = usize::try_from(seed % count as u64).unwrap_or(0) * self.rotate % count;
                all.into_iter().cycle().skip(first).take(self.rotate.min(count)).collect()
            }
        }
    }

    fn hunt(&self, chosen: &[Mutant], seed: u64) -> Vec<Report> {
        let mut told = |line: &str| {
            if !self.common.json {
                println!("{line}");
            }
        };
        let workshop = match Workshop::open(chosen, &mut told) {
            Ok(workshop) => workshop,
            Err(why) => return vec![failed(why)],
        };
        let mut reports = vec![];
        for mutant in chosen {
            let report = workshop.try_one(mutant, seed);
            self.common.show(&report);
            told(&format!("    breaks: {}", mutant.breaks));
            report.log.iter().for_each(|line| told(&format!("    {line}")));
            reports.push(report);
        }
        reports
    }
}

fn failed(why: String) -> Report {
    Report { verdict: Verdict::Failed(why), ..Report::skipped("mutants", How::Script, "") }
}
