//! Many transfers of one tree, each struck, restarted, waited for and compared: the campaign that the `kill` command
//! and `tests/resume.rs` share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::everyday::Taken;
use super::jobs::{self, Job, Measured};
use crate::rig::kill::{Pair, Struck, Tally, Trigger, Victim};
use crate::rig::oracle::{self, Canary, Snapshot};
use crate::rig::process::{self, Finished};
use crate::rig::scratch::Scratch;
use crate::rig::state::{self, Places};
use crate::rig::transfer::{Listens, Setup, Side};
use crate::rig::{held, trees};
use crate::several::{self, Room};
use crate::verdict::{How, Report, Verdict};

/// Transfers at the same time, those included that only wait for the end of a linger.
const WORKERS: usize = 24;
/// Transfers that are hurt at the same time: they wait for disks and clocks more than they compute.
const BUSY: usize = 6;
/// From the last restart to the end of both sides. The receiver's linger of a minute is in it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a step, victim and direction is tried again that was not met often enough.
const MAKE_UP_TRIES: usize = 6;

/// What is sent, and where: made once for many transfers.
pub struct Ground {
    scratch: Scratch,
    canary: Canary,
    /// The tree.
    pub source: PathBuf,
    wanted: Snapshot,
    file_count: usize,
    seed: u64,
    taken: Option<Taken>,
}

impl Ground {
    /// A tree of every kind of entry, of about 20 MiB; the shipped program is built if cargo runs this.
    pub fn new(seed: u64) -> Result<Ground, String> {
        process::build_landfall()?;
        let scratch = Scratch::new("kills");
        let canary = Canary::new(&scratch.join("canary"));
        let source = trees::medley(&scratch.join("source"), seed);
        let wanted = oracle::snapshot(&source);
        let file_count = wanted.values().filter(|node| node.kind == rustix::fs::FileType::RegularFile).count();
        Ok(Ground { scratch, canary, source, wanted, file_count, seed, taken: None })
    }

    /// A tree of which the target has other things under many names, all to be put beside them.
    pub fn taken(seed: u64) -> Result<Ground, String> {
        process::build_landfall()?;
        let scratch = Scratch::new("taken");
        let canary = Canary::new(&scratch.join("canary"));
        let (source, taken) = Taken::new(&scratch, seed);
        let wanted = oracle::snapshot(&source);
        let file_count = wanted.values().filter(|node| node.kind == rustix::fs::FileType::RegularFile).count();
        Ok(Ground { scratch, canary, source, wanted, file_count, seed, taken: Some(taken) })
    }

    /// Fails if something outside the targets changed.
    pub fn assert_canary(&self) {
        self.canary.assert_unchanged();
    }
}

/// What a campaign has to come to.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Kills at each step.
    pub each_step: u64,
    /// Kills at each step, of each victim, in each direction.
    pub each_point: u64,
    /// Kills in all.
    pub kills: u64,
}

/// A kill's place: the step that it met, whom, and who was listening.
pub type Point = (state::Step, &'static str, &'static str);

/// What came of many transfers.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Kills by step.
    pub tally: Tally,
    /// Kills by step, victim and direction.
    pub points: BTreeMap<Point, u64>,
    /// Processes that were killed before their last word.
    pub killed: u64,
    /// Of these, how many the next life or the peer spoke of.
    pub noticed: u64,
    /// Of these, how many belong to transfers that ended well.
    pub repaired: u64,
    /// Transfers.
    pub transfers: u64,
    /// The longest time from the last restart to the end.
    pub slowest: Duration,
    /// Transfers that did not end well.
    pub failures: Vec<(Job, Verdict)>,
}

impl Outcome {
    /// Adds another one.
    pub fn add(&mut self, other: Outcome) {
        self.tally.add(&other.tally);
        other.points.into_iter().for_each(|(point, count)| *self.points.entry(point).or_default() += count);
        self.killed += other.killed;
        self.noticed += other.noticed;
        self.repaired += other.repaired;
        self.transfers += other.transfers;
        self.slowest = self.slowest.max(other.slowest);
        self.failures.extend(other.failures);
    }

    /// Kills at a step, of a victim, in a direction.
    pub fn at(&self, point: Point) -> u64 {
        self.points.get(&point).copied().unwrap_or(0)
    }

    /// As a report; `command` is what repeats it.
    pub fn report(&self, fault: &str, command: &str, seed: u64) -> Report {
        let verdict = self.failures.iter().fold(Verdict::Good, |worst, (_, verdict)| worst.and(verdict.clone()));
        let job = self.failures.first().map_or_else(String::new, |(job, _)| format!(" --job {}", job.number));
        let mut log = vec![self.tally.summary()];
        log.push(format!(
            "{} points of step, victim and direction; {} transfers, the slowest ended {:.1} s after its last restart",
            self.points.len(),
            self.transfers,
            self.slowest.as_secs_f64()
        ));
        log.extend(
            self.points.iter().map(|((step, victim, listens), count)| {
                format!("{count:5}  {step}, {victim} killed, {listens} listens")
            }),
        );
        log.extend(self.failures.iter().map(|(job, verdict)| format!("{job:?}: {verdict}")));
        let report = Report {
            fault: fault.to_owned(),
            how: How::Signal,
            injected: self.killed,
            detected: self.noticed,
            repaired: self.repaired,
            verdict,
            plan: format!("{} transfers of a tree of every kind, {} strikes", self.transfers, self.tally.kills()),
            log,
            reproduce: format!("cargo run --release -p fault-inject -- {command} --seed {seed:#x}{job}"),
        };
        report.unless_vacuous()
    }
}

/// See the module.
pub struct Campaign<'a> {
    ground: &'a Ground,
}

impl Campaign<'_> {
    /// On a ground.
    pub fn on(ground: &Ground) -> Campaign<'_> {
        Campaign { ground }
    }

    fn setup(&self, name: &str, listens: Listens) -> (Setup, Places) {
        let mut setup = Setup::new(&self.ground.scratch, name, &[&self.ground.source], listens);
        let mut places = setup.places(self.ground.file_count);
        if let Some(taken) = &self.ground.taken {
            places.there_before = taken.prepare(&mut setup);
        }
        (setup, places)
    }

    /// How many visible changes of state a run without kills makes, and how long it takes.
    pub fn measure(&self) -> Result<Measured, String> {
        let (setup, places) = self.setup("measure", Listens::Receiver);
        let start = Instant::now();
        let mut pair = Pair::of(setup.start());
        let (mut last, mut changes) = (places.look(), 0);
        while pair.is_running() {
            let look = places.look();
            changes += u64::from(look != last);
            last = look;
            if start.elapsed() > PATIENCE {
                return Err(format!("a run without kills does not end\n{}", pair.describe()));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let took = start.elapsed();
        pair.success()?;
        if changes < 20 {
            return Err(format!("{changes} changes of state were seen: the watcher is blind"));
        }
        Ok(Measured { changes, took })
    }

    /// Runs all jobs, several at a time.
    pub fn run(&self, jobs: &[Job]) -> Outcome {
        let mut jobs = jobs.iter();
        let mut sum = Outcome::default();
        self.run_while(&mut sum, |_, _| jobs.next().cloned());
        sum
    }

    /// More strikes, with new transfers, until what is wanted is there, as far as a few tries bring it.
    pub fn make_up(&self, sum: &mut Outcome, victims: &[Victim], wanted: Wanted, took: Duration) {
        let mut tries = [0; jobs::MAKE_UP_KINDS];
        self.run_while(sum, |sum, under_way| {
            let is_missed = |kind: &usize| {
                let Some((step, victim, listens)) = jobs::make_up_point(*kind) else { return false };
                let aimed =
                    under_way.iter().filter(|job| matches!(job.strikes[..], [(Trigger::AtStep(at), _)] if at == step));
                let (mut at_step, mut at_point) = (sum.tally.at(step), sum.at(point(step, victim, listens)));
                for job in aimed {
                    at_step += 1;
                    at_point += u64::from(job.listens == listens && job.strikes[0].1 == victim);
                }
                victims.contains(&victim) && (at_step < wanted.each_step || at_point < wanted.each_point)
            };
            let by_time = jobs::MAKE_UP_KINDS - 1;
            let is_more_wanted = sum.tally.kills() + (under_way.len() as u64) < wanted.kills;
            let mut kinds = (0..by_time).filter(|kind| tries[*kind] < MAKE_UP_TRIES);
            let kind = kinds.find(is_missed).or(is_more_wanted.then_some(by_time))?;
            tries[kind] += 1;
            let is_in_vain = tries[kind] as u64 > 2 * wanted.kills + MAKE_UP_TRIES as u64;
            (!is_in_vain && sum.failures.is_empty()).then(|| jobs::make_up(kind, tries[kind] - 1, took))
        });
    }

    /// Runs what `next` gives, which knows what came out so far and what is under way, until it gives no more.
    fn run_while(&self, sum: &mut Outcome, next: impl FnMut(&Outcome, &[Job]) -> Option<Job> + Send) {
        struct State<'a, F> {
            sum: &'a mut Outcome,
            next: F,
            under_way: Vec<Job>,
        }
        let state = Mutex::new(State { sum, next, under_way: vec![] });
        let room = Room::new(BUSY);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let busy = room.enter();
                        let job = {
                            let State { sum, next, under_way } =
                                &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
                            let Some(job) = next(sum, under_way) else { return };
                            under_way.push(job.clone());
                            job
                        };
                        let outcome = self.run_one(&job, busy);
                        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.under_way.retain(|other| other.number != job.number);
                        state.sum.add(outcome);
                    }
                });
            }
        });
    }

    /// `busy` is given back when one side has ended after the last strike.
    fn run_one(&self, job: &Job, busy: several::Turn<'_>) -> Outcome {
        let name = format!("job-{}", job.number);
        let (setup, places) = self.setup(&name, job.listens);
        let mut outcome = Outcome { transfers: 1, ..Outcome::default() };
        let mut pair = Pair::of(setup.start());
        let verdict = self.hurt(job, &setup, &places, &mut pair, &mut outcome, busy);
        outcome.killed = pair.killed.len() as u64;
        outcome.noticed = [Side::Sender, Side::Receiver].into_iter().map(|side| noticed(&pair, side)).sum();
        match verdict {
            Verdict::Good => {
                outcome.repaired = outcome.killed;
                held::remove_all_below(&held::open_dir(&self.ground.scratch.join(&name)));
            }
            bad => outcome.failures.push((job.clone(), bad)),
        }
        outcome
    }

    /// Runs a job to its end, and judges it.
    fn hurt(
        &self,
        job: &Job,
        setup: &Setup,
        places: &Places,
        pair: &mut Pair,
        outcome: &mut Outcome,
        busy: several::Turn<'_>,
    ) -> Verdict {
        let mut rng = ChaCha8Rng::seed_from_u64(self.ground.seed ^ job.number as u64);
        let mut receipt = None;
        let mut last_start = Instant::now();
        for (trigger, victim) in &job.strikes {
            let struck = match pair.strike(places, *trigger, *victim) {
                Ok(struck) => struck,
                Err(stuck) => return Verdict::Stuck(stuck),
            };
            outcome.tally.count(&struck);
            receipt = receipt.or_else(|| state::receipts(&setup.receiver_home).first().map(std::fs::read));
            // `landfall resume` continues what is on record: before that there is only the command itself.
            pair.revive(setup, |side| rng.random_range(0..3) == 0 && setup.has_record(side));
            last_start = Instant::now();
            match struck {
                Struck::Killed(step) => *outcome.points.entry(point(step, *victim, job.listens)).or_default() += 1,
                Struck::TooLate => break,
            }
        }
        if let Err(stuck) = pair.wait_for_one(PATIENCE) {
            return Verdict::Stuck(stuck);
        }
        drop(busy);
        if let Err(stuck) = pair.wait(PATIENCE).and_then(|()| pair.success()) {
            return Verdict::Stuck(stuck);
        }
        outcome.slowest = last_start.elapsed();
        let early = receipt.and_then(Result::ok);
        self.judge(setup, early.as_deref())
            .map_or(Verdict::Good, |what| Verdict::Wrong(format!("{what}\n{}", pair.describe())))
    }

    /// What is wrong with a transfer that both sides call finished.
    fn judge(&self, setup: &Setup, early_receipt: Option<&[u8]>) -> Option<String> {
        let name = self.ground.source.file_name().expect("the source has a name");
        let wrong = match &self.ground.taken {
            Some(taken) => taken.judge(&self.ground.wanted, setup),
            None => arrived(&self.ground.wanted, &setup.target, Path::new(name)),
        };
        if wrong.is_some() {
            return wrong;
        }
        let receipts = [state::receipts(&setup.receiver_home), state::receipts(&setup.sender_home)];
        if receipts.iter().any(|held| held.len() != 1) {
            return Some(format!("each side should hold one receipt: {receipts:?}"));
        }
        let is_new = early_receipt.is_some_and(|early| std::fs::read(&receipts[0][0]).ok().as_deref() != Some(early));
        is_new.then(|| "the receipt was made a second time".to_owned())
    }
}

/// What is wrong with what arrived: a difference, working state that is left, or something that was never sent.
pub(crate) fn arrived(wanted: &Snapshot, target: &Path, name: &Path) -> Option<String> {
    if target.join(name).symlink_metadata().is_err() {
        return Some(format!("nothing arrived in {}", target.display()));
    }
    let found = oracle::differences(wanted, &oracle::snapshot(&target.join(name)), &oracle::Rules::default());
    if !found.is_empty() {
        return Some(format!("differs:\n  {}", oracle::in_lines(&found)));
    }
    let others = state::entries(target).len() - 1;
    let stranger = || (others > 0).then(|| format!("{others} names in the target that were never sent"));
    state::work_left(target).or_else(stranger)
}

fn point(step: state::Step, victim: Victim, listens: Listens) -> Point {
    let victim = match victim {
        Victim::Sender => "sender",
        Victim::Receiver => "receiver",
        Victim::Both => "both",
    };
    (step, victim, if listens == Listens::Receiver { "receiver" } else { "sender" })
}

/// How many kills of a side were spoken of: by its next life, which resumes or answers from a receipt, or by the
/// peer, which lost its link.
fn noticed(pair: &Pair, side: Side) -> u64 {
    let other = if side == Side::Sender { Side::Receiver } else { Side::Sender };
    let links_lost = pair.lives(other).into_iter().map(|life| life.stdout_text().matches("\"link-lost\"").count());
    let lives = pair.lives(side);
    let kills = lives.iter().filter(|life| !is_last_word(life)).count();
    let resumed = lives.iter().skip(1).filter(|life| is_second_life(life)).count();
    kills.min(resumed.max(links_lost.sum())) as u64
}

fn is_second_life(life: &Finished) -> bool {
    let text = life.stdout_text();
    text.contains("\"start\":\"resumed\"") || (life.summary().is_some() && !text.contains("\"start\":\"new\""))
}

fn is_last_word(life: &Finished) -> bool {
    life.summary().is_some() || life.code().is_some()
}
