//! Power cuts at each operation: which moments, which outcomes of each, and what must follow.

use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::Rng;

use crate::rng::stream;
use crate::sim_disk::{CrashCounts, SkipSync};
use crate::simulator::{Class, Machine, Plan, Violation, World};

/// Outcomes that are drawn of one moment, at most.
const OUTCOMES_MAX: u64 = 256;
/// So many outcomes in a row that were seen before: there are hardly more.
const STALE_MAX: u32 = 16;
/// Cuts in a row, recovery from a cut included.
const CUTS_MAX: usize = 3;
/// Of so many distinct states, the recovery from one is cut again.
const AGAIN_ONE_IN: u64 = 6;
/// Outcomes that are drawn of a moment within a recovery.
const OUTCOMES_AGAIN: u64 = 8;
/// Operations of a recovery within which it is cut.
const RECOVERY_OPERATIONS: u64 = 120;

/// How an enumeration is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the first transfer; the next ones follow.
    pub seed: u64,
    /// Distinct states after which it ends.
    pub states_max: u64,
    /// Transfers after which it ends.
    pub workloads_max: u64,
    /// A sync that the receiver's disks skip: shows that the enumeration sees it.
    pub skip: Option<SkipSync>,
}

/// What an enumeration has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Distinct states after a cut, by how many cuts led to them.
    pub states: [u64; CUTS_MAX],
    /// Outcomes that were drawn.
    pub drawn: u64,
    /// Moments at which the power was cut.
    pub moments: u64,
    /// Transfers of which every operation was visited.
    pub workloads: u64,
    /// What the cuts did.
    pub crash: CrashCounts,
    /// Of these, those whose next start found its log or journal cut, or used claims or bytes that were left.
    pub noticed: [u64; CUTS_MAX],
    /// States in which a name or a length lasted and its data did not.
    pub without_data: u64,
    /// Of these, those whose next start noticed it.
    pub without_data_noticed: u64,
    /// What is wrong first, with the seed of its transfer and the moments.
    pub violation: Option<(Violation, u64, String)>,
    /// The harness's own error.
    pub error: Option<String>,
}

impl Found {
    /// Distinct states.
    pub fn total(&self) -> u64 {
        self.states.iter().sum()
    }

    /// Counts a state that so many cuts led to, the last of which left that, and whether the next start noticed.
    fn take_state(&mut self, cuts: usize, left: CrashCounts, is_noticed: bool) {
        self.states[cuts - 1] += 1;
        self.noticed[cuts - 1] += u64::from(is_noticed);
        self.crash += left;
        if left.name_without_data + left.size_without_data > 0 {
            self.without_data += 1;
            self.without_data_noticed += u64::from(is_noticed);
        }
    }

    fn add(&mut self, other: Found) {
        self.states.iter_mut().zip(other.states).for_each(|(sum, more)| *sum += more);
        self.drawn += other.drawn;
        self.moments += other.moments;
        self.workloads += other.workloads;
        self.crash += other.crash;
        self.noticed.iter_mut().zip(other.noticed).for_each(|(sum, more)| *sum += more);
        self.without_data += other.without_data;
        self.without_data_noticed += other.without_data_noticed;
        self.violation = self.violation.take().or(other.violation);
        self.error = self.error.take().or(other.error);
    }
}

/// The plan of one small transfer: nothing goes wrong by itself.
pub(super) fn small_plan(seed: u64) -> Plan {
    let kept = [Class::Reorder, Class::OlderTree];
    let dropped: BTreeSet<Class> = Class::ALL.into_iter().filter(|class| !kept.contains(class)).collect();
    let mut plan = Plan::drawn(seed, &dropped);
    plan.files_max = 1 + usize::from(seed.is_multiple_of(2));
    plan
}

/// Enumerates on all processors.
pub fn enumerate(options: &Options) -> Found {
    let shared = Shared { options, known: Mutex::default(), next: AtomicU64::new(0), is_over: Mutex::new(false) };
    let sum = Mutex::new(Found::default());
    let work = || {
        loop {
            let number = shared.next.fetch_add(1, Ordering::Relaxed);
            if number >= options.workloads_max || shared.is_over() {
                break;
            }
            let found = shared.workload(options.seed.wrapping_add(number));
            if found.violation.is_some() || found.error.is_some() {
                *locked(&shared.is_over) = true;
            }
            locked(&sum).add(found);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Shared<'a> {
    options: &'a Options,
    known: Mutex<HashSet<u64>>,
    next: AtomicU64,
    is_over: Mutex<bool>,
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        *locked(&self.is_over) || locked(&self.known).len() as u64 >= self.options.states_max
    }

    /// Every operation of every disk of one transfer.
    fn workload(&self, seed: u64) -> Found {
        let mut found = Found::default();
        let run = catch_unwind(AssertUnwindSafe(|| self.each_moment(seed, &mut found)));
        match run {
            Ok(Ok(())) => (),
            Ok(Err(why)) => found.error = Some(why),
            Err(_) => found.error = Some(format!("a panic in the transfer of seed {seed:#x}")),
        }
        found
    }

    fn world(&self, seed: u64) -> Result<World, String> {
        World::new(small_plan(seed), self.options.skip.clone())
    }

    /// Every operation of every disk of a transfer, in an order in which a few of them are a fair sample.
    fn moments(&self, seed: u64) -> Result<Vec<(Machine, u64)>, String> {
        let mut world = World::new(small_plan(seed), None)?;
        let before = Machine::ALL.map(|machine| world.disk(machine).operations());
        world.run_to_stop().map_err(|violation| format!("without a cut, seed {seed:#x}: {violation:?}"))?;
        let each = Machine::ALL.into_iter().zip(before).flat_map(|(machine, before)| {
            let count = world.disk(machine).operations() - before;
            (1..=count).map(move |nth| (machine, nth))
        });
        let mut moments: Vec<(Machine, u64)> = each.collect();
        let mut dice = stream(seed, "order of moments");
        for at in (1..moments.len()).rev() {
            moments.swap(at, dice.random_range(0..=at));
        }
        Ok(moments)
    }

    fn each_moment(&self, seed: u64, found: &mut Found) -> Result<(), String> {
        for (machine, nth) in self.moments(seed)? {
            if self.is_over() || found.violation.is_some() {
                return Ok(());
            }
            let mut world = self.world(seed)?;
            world.stop_at(machine, nth);
            let moments = [format!("{machine:?} {nth}")];
            match world.run_to_stop() {
                Ok(true) => {
                    world.rest();
                    self.outcomes(seed, &world, &moments, OUTCOMES_MAX, found);
                }
                Ok(false) => (),
                Err(violation) => found.violation = Some((violation, seed, moments.join(", "))),
            }
        }
        found.workloads += 1;
        Ok(())
    }

    /// Every outcome of one moment, as far as drawing gives new ones.
    fn outcomes(&self, seed: u64, world: &World, moments: &[String], outcomes_max: u64, found: &mut Found) {
        found.moments += 1;
        let cuts = moments.len();
        let mut dice = stream(seed, &moments.join(","));
        let mut stale = 0;
        for number in 0..outcomes_max {
            if stale >= STALE_MAX || found.violation.is_some() || self.is_over() {
                return;
            }
            let outcome = dice.random();
            found.drawn += 1;
            let mut after = world.fork();
            let cut = after.cut(outcome);
            if cut.is_ok() && !locked(&self.known).insert(after.found_digest()) {
                stale += 1;
                continue;
            }
            stale = 0;
            if cuts < CUTS_MAX && number.is_multiple_of(AGAIN_ONE_IN) && cut.is_ok() {
                let nth = dice.random_range(1..=RECOVERY_OPERATIONS);
                self.cut_again(seed, &after, moments, (outcome, nth), found);
            }
            let left = cut.as_ref().copied().unwrap_or_default();
            let ended = cut.and_then(|_| after.run_to_stop().map(drop));
            found.take_state(cuts, left, after.has_resumed());
            if let Err(violation) = ended {
                found.violation = Some((violation, seed, format!("{}, outcome {outcome:#x}", moments.join(", "))));
            }
        }
    }

    /// A recovery that is cut itself.
    fn cut_again(&self, seed: u64, after: &World, moments: &[String], (outcome, nth): (u64, u64), found: &mut Found) {
        let mut again = after.fork();
        again.stop_at(Machine::Receiver, nth);
        let mut moments = moments.to_vec();
        moments.push(format!("outcome {outcome:#x} then Receiver {nth}"));
        match again.run_to_stop() {
            Ok(false) => (),
            Ok(true) => {
                again.rest();
                self.outcomes(seed, &again, &moments, OUTCOMES_AGAIN, found);
            }
            Err(violation) => found.violation = Some((violation, seed, moments.join(", "))),
        }
    }
}
