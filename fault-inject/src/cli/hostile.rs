//! `hostile`: peers that break every rule, against the shipped binary.

use std::process::ExitCode;
use std::time::Instant;

use super::Common;
use crate::hostile;
use crate::rig::process;
use crate::verdict::Verdict;

/// Peers that break every rule: hostile names, lies about lengths and counts, forged receipts, floods, planted links,
/// races. Each case runs against the shipped binary and says what it has to answer.
#[derive(Debug, clap::Args)]
pub(super) struct Hostile {
    /// Run only cases of this name, in which `*` stands for anything.
    #[arg(long, value_name = "NAME|PATTERN")]
    case: Vec<String>,
    /// Run only cases of this class (S1 to S28).
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Vec<u8>,
    /// Show the names of the cases, and run none.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    common: Common,
}

fn class(text: &str) -> Result<u8, String> {
    let number = text.strip_prefix(['S', 's']).and_then(|digits| digits.parse().ok());
    number.filter(|number| (1..=28).contains(number)).ok_or_else(|| format!("there is no class `{text}`"))
}

impl Hostile {
    /// Lists or runs what was asked for.
    pub(super) fn run(&self) -> ExitCode {
        let is_meant = |case: &hostile::Case| {
            let is_named = self.case.is_empty() || self.case.iter().any(|one| hostile::matches(one, &case.name));
            is_named && (self.class.is_empty() || self.class.contains(&case.class))
        };
        let cases: Vec<hostile::Case> = hostile::cases().into_iter().filter(is_meant).collect();
        if self.list {
            cases.iter().for_each(|case| println!("S{:<3} {}", case.class, case.name));
            return ExitCode::SUCCESS;
        }
        let seed = self.common.seed();
        self.common.begin(seed, &format!("cases={}", cases.len()));
        if let Err(why) = process::build_landfall() {
            eprintln!("{why}");
            return ExitCode::from(Verdict::Failed(why).exit_code());
        }
        if cases.is_empty() {
            eprintln!("no case has such a name");
            return ExitCode::from(Verdict::Vacuous.exit_code());
        }
        let began = Instant::now();
        let reports = hostile::run(&cases, seed, &|report| self.common.show(report));
        if !self.common.json {
            let good = reports.iter().filter(|report| report.verdict == Verdict::Good).count();
            println!("{good} of {} cases are good, in {:.1} s", reports.len(), began.elapsed().as_secs_f64());
        }
        self.common.end(&reports)
    }
}
