//! Deaths and pauses of real processes of the shipped program: SIGKILL at each step and at random, in recovery, in a
//! loop, other signals, SIGSTOP with a second process that wants the same transfer, and in [`everyday`] what is no plain
//! transfer. Whether a fault happened is
//! read from how the process ended; whether it was noticed, from what the next life and the peer say; whether it was
//! cured, by the oracle.

pub mod campaign;
pub mod everyday;
pub mod jobs;
mod life_loop;
pub mod operations;
mod pauses;
pub mod signals;

use std::time::Duration;

pub use life_loop::kill_loop;
pub use pauses::pauses;

use crate::rig::kill::Victim;
use crate::rig::state::{KILLABLE, Step};
use crate::rig::transfer::Listens;
use crate::verdict::{How, Report, Verdict};

use campaign::{Campaign, Ground};
use jobs::Job;

/// Pauses of the row on SIGSTOP: long enough for a second process to be refused, too short for a link to be lost.
const ROW_PAUSES: [Duration; 1] = [Duration::from_secs(3)];

/// The rows of the fault matrix on deaths and pauses: 59 and 60 (one side at each step), 62 (both), 63 (in recovery),
/// 64 (a loop), 67 (SIGSTOP), 68 (signals), 69 (abort and the like), and those of [`everyday`].
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let report = match number {
        59 => at_each_step("SIGKILL of the receiver at each step", Victim::Receiver, seed),
        60 => at_each_step("SIGKILL of the sender at each step", Victim::Sender, seed),
        62 => at_each_step("SIGKILL of both at each step", Victim::Both, seed),
        63 => in_recovery(seed),
        64 => kill_loop(seed),
        67 => pauses(seed, &ROW_PAUSES),
        68 => signals::signals("signals and a closed stdout", &signals::POLITE, seed),
        69 => signals::signals("abort, segmentation fault, no memory", &signals::DEADLY, seed),
        _ => return everyday::row(number, seed),
    };
    Some(report)
}

/// What several cases with one process each came to.
#[derive(Default)]
struct Counts {
    injected: u64,
    noticed: u64,
    good: u64,
}

/// One report of cases that were played beside each other, each by its name.
fn summed(report: Report, results: Vec<(String, Counts, Verdict)>) -> Report {
    let mut report = Report { verdict: Verdict::Good, ..report };
    for (what, counts, verdict) in results {
        report.log.push(format!("{what}: {verdict}"));
        report.injected += counts.injected;
        report.detected += counts.noticed;
        report.repaired += counts.good;
        report.verdict = report.verdict.and(verdict);
    }
    report.unless_vacuous()
}

fn run(fault: &str, seed: u64, jobs: &[Job]) -> Report {
    let ground = match Ground::new(seed) {
        Ok(ground) => ground,
        Err(why) => return failed(fault, why),
    };
    let outcome = Campaign::on(&ground).run(jobs);
    outcome.report(fault, "kill", seed)
}

fn at_each_step(fault: &str, victim: Victim, seed: u64) -> Report {
    // A sender that holds its receipt answers by itself, and the receiver then lingers for a minute: the full
    // campaign meets that step, a row does not wait for it.
    let is_wanted = |step: &&Step| victim == Victim::Receiver || **step < Step::Receipt;
    let steps = KILLABLE.iter().filter(is_wanted);
    let jobs = steps.enumerate().map(|(number, step)| jobs::at_step(number, *step, victim, Listens::Receiver));
    run(fault, seed, &jobs.collect::<Vec<_>>())
}

fn in_recovery(seed: u64) -> Report {
    run("SIGKILL again and again in recovery", seed, &jobs::in_recovery(0, 6, seed))
}

/// A report of a harness that could not do its work.
pub(crate) fn failed(fault: &str, why: String) -> Report {
    let verdict = crate::verdict::Verdict::Failed(why);
    Report { verdict, ..Report::skipped(fault, How::Signal, "") }
}
