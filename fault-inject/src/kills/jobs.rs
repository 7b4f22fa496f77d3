//! What is killed when: lists of transfers, each with its strikes, drawn from one seed.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::rig::kill::{Trigger, Victim};
use crate::rig::state::{KILLABLE, Step};
use crate::rig::transfer::{BOTH_DIRECTIONS, Listens};

/// One transfer that is struck one or several times.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number: with the seed it gives everything random.
    pub number: usize,
    /// Who prints the ticket.
    pub listens: Listens,
    /// When to strike whom, one after the other; each counts from the last restart.
    pub strikes: Vec<(Trigger, Victim)>,
}

/// A run without faults: what the moments of kills are taken from.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Visible changes of the state on the disks.
    pub changes: u64,
    /// From start to end.
    pub took: Duration,
}

/// One strike as soon as a step shows.
pub fn at_step(number: usize, step: Step, victim: Victim, listens: Listens) -> Job {
    Job { number, listens, strikes: vec![(Trigger::AtStep(step), victim)] }
}

/// Every step × victim × direction, `times` each.
pub fn at_every_step(first: usize, victims: &[Victim], times: usize) -> Vec<Job> {
    let mut jobs = vec![];
    for _ in 0..times {
        for listens in BOTH_DIRECTIONS {
            for victim in victims {
                jobs.extend(KILLABLE.iter().map(|step| at_step(0, *step, *victim, listens)));
            }
        }
    }
    numbered(first, jobs)
}

/// After each k-th visible change of state, `count` transfers.
pub fn after_changes(first: usize, victims: &[Victim], measured: Measured, count: u64) -> Vec<Job> {
    let stride = (measured.changes / count).max(1);
    let every = (1..=measured.changes).step_by(usize::try_from(stride).unwrap_or(1)).enumerate();
    let jobs = every.map(|(number, change)| {
        let victim = victims[number % victims.len()];
        Job { number, listens: BOTH_DIRECTIONS[number % 2], strikes: vec![(Trigger::AfterChanges(change), victim)] }
    });
    numbered(first, jobs.collect())
}

/// Chains of two to four kills at random times.
pub fn chains(first: usize, victims: &[Victim], measured: Measured, count: usize, seed: u64) -> Vec<Job> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let jobs = (0..count).map(|number| {
        let strikes = (0..rng.random_range(2..=4)).map(|_| {
            let time = measured.took.mul_f64(rng.random_range(0.0..0.5));
            (Trigger::AfterTime(time), victims[rng.random_range(0..victims.len())])
        });
        Job { number, listens: BOTH_DIRECTIONS[number % 2], strikes: strikes.collect() }
    });
    numbered(first, jobs.collect())
}

/// A kill once there is something to recover, then two more, each within the first moments of the next life.
pub fn in_recovery(first: usize, count: usize, seed: u64) -> Vec<Job> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x63);
    let begin = [Step::Claimed, Step::Sealing, Step::Staged, Step::Sealed];
    let jobs = (0..count).map(|number| {
        let again = (0..2).map(|_| Trigger::AfterTime(Duration::from_millis(rng.random_range(2..60))));
        let all = std::iter::once(Trigger::AtStep(begin[number % begin.len()])).chain(again);
        let victim = [Victim::Receiver, Victim::Both, Victim::Sender][number % 3];
        let strikes = all.map(|trigger| (trigger, victim)).collect();
        Job { number, listens: BOTH_DIRECTIONS[number % 2], strikes }
    });
    numbered(first, jobs.collect())
}

/// Whom to kill.
pub const VICTIMS: [Victim; 3] = [Victim::Sender, Victim::Receiver, Victim::Both];
/// Kinds of transfers that make up for what others missed: each step, victim and direction, and one at a time.
pub const MAKE_UP_KINDS: usize = KILLABLE.len() * VICTIMS.len() * BOTH_DIRECTIONS.len() + 1;
/// The first number of these: no list of others is as long.
const MAKE_UP_FIRST: usize = 10_000;

/// Step, victim and direction of a kind; `None` for the last, which goes by time.
pub fn make_up_point(kind: usize) -> Option<(Step, Victim, Listens)> {
    let step = KILLABLE.get(kind / (VICTIMS.len() * BOTH_DIRECTIONS.len()))?;
    Some((*step, VICTIMS[kind / BOTH_DIRECTIONS.len() % VICTIMS.len()], BOTH_DIRECTIONS[kind % BOTH_DIRECTIONS.len()]))
}

/// The transfer of that kind at that try.
pub fn make_up(kind: usize, tries: usize, took: Duration) -> Job {
    let number = MAKE_UP_FIRST + tries * MAKE_UP_KINDS + kind;
    if let Some((step, victim, listens)) = make_up_point(kind) {
        return at_step(number, step, victim, listens);
    }
    // Spread over the first third of a run alone: what comes later is too late more often than not.
    let time = took.mul_f64((tries * 37 % 100) as f64 / 300.0);
    let strikes = vec![(Trigger::AfterTime(time), VICTIMS[tries % VICTIMS.len()])];
    Job { number, listens: Listens::Receiver, strikes }
}

/// The transfer of that number, if it is one of these.
pub fn make_up_numbered(number: usize, took: Duration) -> Option<Job> {
    let at = number.checked_sub(MAKE_UP_FIRST)?;
    Some(make_up(at % MAKE_UP_KINDS, at / MAKE_UP_KINDS, took))
}

fn numbered(first: usize, mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.iter_mut().zip(first..).for_each(|(job, number)| job.number = number);
    jobs
}
