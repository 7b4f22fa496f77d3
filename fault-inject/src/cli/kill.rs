//! `kill`: deaths and pauses of real processes.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::Common;
use crate::kills::campaign::{Campaign, Ground, Outcome, Wanted};
use crate::kills::operations::{Place, Which, at_operations};
use crate::kills::{self, everyday, jobs, signals};
use crate::rig::kill::Victim;
use crate::rig::state::KILLABLE;
use crate::verdict::{How, Report, Verdict};

/// Kills that must meet each step.
const LEAST_EACH: u64 = 5;
/// Places that so many kills must meet: a step, victim and direction, or a kind of operation on a side.
const PLACES: usize = 60;
/// Transfers that are killed after a visible change of state.
const BY_CHANGE: u64 = 80;
/// Transfers that are killed several times.
const CHAINS: usize = 40;
/// Transfers that are killed in recovery.
const RECOVERIES: usize = 24;
/// Kills at each kind of operation on each side.
const OF_EACH_KIND: u64 = 5;
/// Kills of `--long`.
const LONG_ROUNDS: u64 = 5000;
/// Pauses of `--stop`: one that nobody has to notice, and one after which the peer has given the link up.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(26)];

/// SIGKILL of real processes at chosen steps and at random, then the same command again until both are done. With
/// `--stop`, `--loop`, `--signals` or `--everyday` only those; without, all but `--stop`.
#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    #[command(flatten)]
    common: Common,
    /// Kills to reach.
    #[arg(long, default_value_t = 500)]
    rounds: u64,
    /// Whom to kill.
    #[arg(long, value_enum, default_value = "any")]
    side: Who,
    /// With `--rounds` of 5,000.
    #[arg(long, conflicts_with = "rounds")]
    long: bool,
    /// One kill as soon as each step shows, for each victim and direction, and one at every operation of the disk.
    #[arg(long)]
    every_step: bool,
    /// Only one kill, at that operation: SIDE:OPERATION:NTH, as in `recv:sync:2`.
    #[arg(long, conflicts_with_all = ["job", "every_step"])]
    operation: Option<Place>,
    /// Only this transfer of the campaign.
    #[arg(long)]
    job: Option<usize>,
    /// SIGSTOP with a second process meanwhile, then SIGCONT.
    #[arg(long)]
    stop: bool,
    /// Killed every 50 to 500 ms until done.
    #[arg(long = "loop")]
    kill_loop: bool,
    /// Signals other than SIGKILL, and limits of the system.
    #[arg(long)]
    signals: bool,
    /// In `--delete`, `--plan`, `--existing rename`, and at both ends of a pipe.
    #[arg(long)]
    everyday: bool,
}

/// Whom to kill.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Who {
    Sender,
    Receiver,
    /// Both at once.
    Both,
    /// Each of these.
    Any,
}

impl Kill {
    /// Runs what is asked for.
    pub(super) fn run(&self) -> ExitCode {
        let seed = self.common.seed();
        self.common
            .begin(seed, &format!("rounds={} side={:?} every_step={}", self.kills(), self.side, self.every_step));
        let mut met = vec![];
        let is_only = self.stop || self.kill_loop || self.signals || self.everyday || self.operation.is_some();
        let mut reports = vec![];
        let mut take = |report: Report| {
            self.common.show(&report);
            if !self.common.json {
                report.log.iter().for_each(|line| println!("    {line}"));
            }
            reports.push(report);
        };
        if !is_only {
            let (report, counts) = self.campaign(seed);
            met.extend(counts);
            take(report);
        }
        let is_whole = !is_only && !self.every_step && self.job.is_none();
        let which = match self.operation {
            Some(place) => Some(Which::Only(place)),
            None if self.every_step => Some(Which::All),
            None => is_whole.then_some(Which::Each(OF_EACH_KIND)),
        };
        if let Some(which) = which {
            let (report, counts) = at_operations(seed, which);
            met.extend(counts);
            take(report);
        }
        if is_whole {
            take(self.places(&met, seed));
        }
        if self.kill_loop || is_whole {
            take(kills::kill_loop(seed));
        }
        if self.signals || is_whole {
            take(signals::signals("signals and a closed stdout", &signals::POLITE, seed));
            take(signals::signals("abort, segmentation fault, no memory", &signals::DEADLY, seed));
        }
        if self.everyday || is_whole {
            everyday::all(seed).for_each(&mut take);
        }
        if self.stop {
            take(kills::pauses(seed, &PAUSES));
        }
        self.common.end(&reports)
    }

    /// Kills to reach.
    fn kills(&self) -> u64 {
        if self.long { LONG_ROUNDS } else { self.rounds }
    }

    /// Whether enough places were met often enough.
    fn places(&self, met: &[u64], seed: u64) -> Report {
        let often = met.iter().filter(|count| **count >= LEAST_EACH).count();
        let is_enough = often >= PLACES || !matches!(self.side, Who::Any);
        Report {
            injected: met.iter().sum(),
            verdict: if is_enough { Verdict::Good } else { Verdict::Vacuous },
            log: vec![format!("{often} of {} places were met at least {LEAST_EACH} times", met.len())],
            reproduce: format!("cargo run --release -p fault-inject -- kill --seed {seed:#x}"),
            ..Report::skipped("places that kills met", How::Signal, "")
        }
    }

    fn campaign(&self, seed: u64) -> (Report, Vec<u64>) {
        let fault = "SIGKILL at steps, at changes, in recovery, at random";
        let measured =
            Ground::new(seed).and_then(|ground| Campaign::on(&ground).measure().map(|found| (ground, found)));
        let (ground, measured) = match measured {
            Ok(both) => both,
            Err(why) => return (kills::failed(fault, why), vec![]),
        };
        let victims: &[Victim] = match self.side {
            Who::Sender => &[Victim::Sender],
            Who::Receiver => &[Victim::Receiver],
            Who::Both => &[Victim::Both],
            Who::Any => &jobs::VICTIMS,
        };
        let mut all = jobs::at_every_step(0, victims, if self.every_step { 1 } else { 2 });
        if !self.every_step {
            all.extend(jobs::after_changes(all.len(), victims, measured, BY_CHANGE));
            all.extend(jobs::chains(all.len(), victims, measured, CHAINS, seed));
            all.extend(jobs::in_recovery(all.len(), RECOVERIES, seed));
        }
        all.retain(|job| self.job.is_none_or(|only| job.number == only));
        all.extend(self.job.and_then(|number| jobs::make_up_numbered(number, measured.took)));
        let campaign = Campaign::on(&ground);
        let mut sum: Outcome = campaign.run(&all);
        let (least, kills) = if self.every_step { (1, 0) } else { (LEAST_EACH, self.kills()) };
        if self.job.is_none() && sum.failures.is_empty() {
            let each_point = if self.every_step { 1 } else { LEAST_EACH };
            campaign.make_up(&mut sum, victims, Wanted { each_step: least, each_point, kills }, measured.took);
        }
        ground.assert_canary();
        let mut report = sum.report(fault, "kill", seed);
        let missed = sum.tally.below(least, &KILLABLE);
        if self.job.is_none() && report.verdict == Verdict::Good && !missed.is_empty() {
            report.log.push(format!("too seldom: {missed:?}"));
            report.verdict = Verdict::Vacuous;
        }
        (report, sum.points.into_values().collect())
    }
}
