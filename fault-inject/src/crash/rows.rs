//! What the enumerations found, in the words that all commands share, and the rows of the fault matrix that they and
//! the search of states answer.

use super::fail::{FailOptions, Failures, fail_each};
use super::power::{Found, Options, enumerate};
use crate::explore;
use crate::sim_disk::CrashCounts;
use crate::simulator::{self, Class, Violation, campaign};
use crate::verdict::{How, Report, Verdict};

/// Distinct states for one row of the matrix.
const ROW_STATES: u64 = 1500;
/// Seeds for one row of the matrix.
const ROW_SEEDS: u64 = 600;
/// States of a search for one row of the matrix.
const ROW_SEARCH: usize = 300_000;

fn verdict_of(violation: Option<&Violation>, error: Option<&String>, case: &str) -> Verdict {
    match (violation, error) {
        (Some(Violation::Wrong(what)), _) => Verdict::Wrong(format!("{what} ({case})")),
        (Some(Violation::Stuck(what)), _) => Verdict::Stuck(format!("{what} ({case})")),
        (None, Some(why)) => Verdict::Failed(why.clone()),
        (None, None) => Verdict::Good,
    }
}

impl Found {
    fn lines(&self) -> Vec<String> {
        let CrashCounts { torn_pages, name_without_data, size_without_data, renames_half_kept, .. } = self.crash;
        vec![
            format!(
                "{} distinct states after one cut, {} after two, {} after three",
                self.states[0], self.states[1], self.states[2]
            ),
            format!(
                "{} moments, {} outcomes drawn, {} transfers enumerated to their end",
                self.moments, self.drawn, self.workloads
            ),
            format!(
                "{torn_pages} pages torn, {name_without_data} names without data, {size_without_data} lengths without data, {renames_half_kept} renames half kept"
            ),
            format!("{} states whose next start used or cut what was left", self.noticed.iter().sum::<u64>()),
        ]
    }
}

/// Enumerates the states after power cuts and judges. Too few distinct ones say nothing.
pub fn report(options: &Options) -> Report {
    report_as("power cut at each disk operation, every state left", options, |found| {
        (found.total(), found.noticed.iter().sum())
    })
}

fn report_as(fault: &str, options: &Options, counts: impl Fn(&Found) -> (u64, u64)) -> Report {
    let found = enumerate(options);
    let (violation, seed, case) = match &found.violation {
        Some((violation, seed, case)) => (Some(violation), *seed, case.as_str()),
        None => (None, options.seed, ""),
    };
    let mut verdict = verdict_of(violation, found.error.as_ref(), case);
    if verdict == Verdict::Good && found.total() < options.states_max.min(options.workloads_max.saturating_mul(100)) {
        verdict = Verdict::Vacuous;
    }
    let (injected, detected) = counts(&found);
    let repaired = if verdict == Verdict::Good { injected } else { 0 };
    let plan = format!("seed={:#x} states={} transfers<={}", options.seed, options.states_max, options.workloads_max);
    let reproduce = format!("fault-inject crash --seed {seed:#x} --states {}", options.states_max);
    let (fault, how, log) = (fault.to_owned(), How::Simulator, found.lines());
    Report { fault, how, injected, detected, repaired, verdict, plan, log, reproduce }.unless_vacuous()
}

impl Failures {
    fn lines(&self) -> Vec<String> {
        let kinds = self.kinds.iter().map(|(kind, runs)| format!("{runs:8}  {kind:?}"));
        [format!("{} runs, {} failed operations", self.runs, self.failed)].into_iter().chain(kinds).collect()
    }
}

/// Runs the loops over failing operations and judges.
pub fn fail_report(options: FailOptions) -> Report {
    let found = fail_each(options);
    let (violation, case) = match &found.violation {
        Some((violation, case)) => (Some(violation), case.as_str()),
        None => (None, ""),
    };
    let verdict = verdict_of(violation, found.error.as_ref(), case);
    let repaired = if verdict == Verdict::Good { found.runs } else { 0 };
    Report {
        fault: "the n-th disk operation fails, for each n, once and lastingly".into(),
        how: How::Simulator,
        injected: found.runs,
        detected: found.noticed,
        repaired,
        verdict,
        plan: format!("seed={:#x} transfers={} every={}", options.seed, options.workloads, options.stride),
        log: found.lines(),
        reproduce: format!("fault-inject crash --fail-nth --seed {:#x}", options.seed),
    }
    .unless_vacuous()
}

/// Seeds of the simulation in which only the sender ends and its state is damaged, while it is down.
fn damaged_sender_state(seed: u64) -> Report {
    let kept = [Class::DamageSenderState, Class::KillSender, Class::CutSender];
    let dropped = Class::ALL.into_iter().filter(|class| !kept.contains(class)).collect();
    let options = simulator::Options { dropped, ..simulator::Options::default() };
    let campaign = campaign::run(seed, ROW_SEEDS, &options);
    let times = |mark: &str| campaign.coverage.all().find(|(what, _)| *what == mark).map_or(0, |(_, times)| times);
    let failure = campaign.failures.first();
    let verdict = match failure {
        Some(failure) => verdict_of(failure.violation.as_ref(), Some(&failure.plan), &failure.plan),
        None => Verdict::Good,
    };
    let injected = times("sender's state damaged");
    let first = failure.map_or(seed, |failure| failure.seed);
    Report {
        fault: "the sender's log or stamps flipped, cut, deleted or swapped".into(),
        how: How::Simulator,
        injected,
        // The receiver's log is cut back to what the sender's damaged one still shares with it.
        detected: times("log rewound").min(injected),
        repaired: if verdict == Verdict::Good { injected } else { 0 },
        verdict,
        plan: format!("seeds={seed:#x}+{ROW_SEEDS}"),
        log: vec![format!("{} seeds, {} steps", campaign.seeds, campaign.steps)],
        reproduce: format!("fault-inject simulate --seed {first:#x}"),
    }
    .unless_vacuous()
}

/// The rows of the fault matrix that are answered here, by their number: 13 (damaged state of the sender), 62 (both
/// sides at once), 63 (during recovery), 65 (power cut, torn), 66 (name or length without data), 73 (lost or repeated
/// acknowledgement).
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let options = Options { seed, states_max: ROW_STATES, workloads_max: u64::MAX, skip: None };
    Some(match number {
        13 => damaged_sender_state(seed),
        62 | 73 => {
            let options = explore::Options { states_max: ROW_SEARCH, ..explore::Options::default() };
            let fault = match number {
                62 => "both sides end, at every pair of steps",
                _ => "acknowledgement lost, repeated, asked for again after an end",
            };
            Report { fault: fault.into(), ..explore::report(options) }
        }
        63 => report_as("crash during recovery, twice and thrice", &options, |found| {
            (found.states[1] + found.states[2], found.noticed[1] + found.noticed[2])
        }),
        65 => report_as("power cut: any subset of what was not synced, torn", &options, |found| {
            (found.total(), found.noticed.iter().sum())
        }),
        66 => report_as("power cut: name or length durable, data not", &options, |found| {
            (found.without_data, found.without_data_noticed)
        }),
        _ => return None,
    })
}
