//! SIGKILL at chosen and at random moments. When to strike is decided from the state on the disks, and what was hit is
//! read from there afterwards; a process that had ended before the signal came does not count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::process::{Finished, Running};
use super::state::{Look, Places, Step};
use super::transfer::{Live, Setup, Side};

/// Pause between two looks at the disks.
const LOOK_PAUSE: Duration = Duration::from_micros(100);
/// A trigger that was not met by then will not be.
const TRIGGER_PATIENCE: Duration = Duration::from_secs(60);

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// `landfall send`.
    Sender,
    /// `landfall recv`.
    Receiver,
    /// Both, the receiver first.
    Both,
}

impl Victim {
    /// Any of the three.
    pub fn random(rng: &mut ChaCha8Rng) -> Victim {
        [Victim::Sender, Victim::Receiver, Victim::Both][rng.random_range(0..3)]
    }

    /// Is this side one of those to be killed?
    pub fn includes(self, side: Side) -> bool {
        self == Victim::Both || (self == Victim::Sender) == (side == Side::Sender)
    }
}

/// When to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// When the state on the disks has visibly changed this many times since the (re)start.
    AfterChanges(u64),
    /// As soon as the disks show this step (or a later one).
    AtStep(Step),
    /// This long after the (re)start.
    AfterTime(Duration),
}

/// What a strike came to.
#[derive(Debug)]
pub enum Struck {
    /// The signal ended at least one victim: at this step.
    Killed(Step),
    /// All victims had ended before.
    TooLate,
}

/// Both sides in the hands of the killer; `None` where a side is down or has ended.
pub struct Pair {
    /// `landfall send`.
    pub sender: Option<Running>,
    /// `landfall recv`.
    pub receiver: Option<Running>,
    /// How sides ended by themselves.
    pub ended: Vec<(Side, Finished)>,
    /// Lives that a strike ended, in their order.
    pub killed: Vec<(Side, Finished)>,
}

impl Pair {
    /// Takes over a transfer that runs.
    pub fn of(live: Live) -> Pair {
        Pair { sender: Some(live.sender), receiver: Some(live.receiver), ended: vec![], killed: vec![] }
    }

    fn slot(&mut self, side: Side) -> &mut Option<Running> {
        if side == Side::Sender { &mut self.sender } else { &mut self.receiver }
    }

    /// Puts sides that ended by themselves aside; `true` while one still runs.
    pub fn is_running(&mut self) -> bool {
        for side in [Side::Sender, Side::Receiver] {
            if self.slot(side).as_mut().is_some_and(Running::has_ended) {
                let finished = self.slot(side).take().expect("just seen").wait(Duration::from_secs(20));
                self.ended.push((side, finished));
            }
        }
        self.sender.is_some() || self.receiver.is_some()
    }

    /// How a side ended by itself, the last time.
    pub fn ending(&self, side: Side) -> Option<&Finished> {
        self.ended.iter().rev().find(|(who, _)| *who == side).map(|(_, finished)| finished)
    }

    /// Every life of a side that has ended, in their order.
    pub fn lives(&self, side: Side) -> Vec<&Finished> {
        let all = self.killed.iter().chain(&self.ended);
        all.filter(|(who, _)| *who == side).map(|(_, finished)| finished).collect()
    }

    /// Waits for the trigger, strikes, and reads from the disks what was hit. An error is a trigger that never comes
    /// although both sides live: the transfer stands still.
    pub fn strike(&mut self, places: &Places, trigger: Trigger, victim: Victim) -> Result<Struck, String> {
        self.await_trigger(places, trigger, victim)?;
        let mut count = 0;
        for side in [Side::Receiver, Side::Sender] {
            if victim.includes(side)
                && let Some(running) = self.slot(side).take()
            {
                let finished = running.kill();
                if finished.was_killed() && finished.summary().is_none() {
                    self.killed.push((side, finished));
                    count += 1;
                } else {
                    self.ended.push((side, finished)); // it had said its last word: nothing is left to resume
                }
            }
        }
        Ok(if count > 0 { Struck::Killed(places.step(&places.look())) } else { Struck::TooLate })
    }

    fn await_trigger(&mut self, places: &Places, trigger: Trigger, victim: Victim) -> Result<(), String> {
        let start = Instant::now();
        let mut changes = 0;
        let mut last: Option<Look> = None;
        loop {
            let is_due = match trigger {
                Trigger::AfterTime(time) => start.elapsed() >= time,
                Trigger::AtStep(step) => places.step(&places.look()) >= step,
                Trigger::AfterChanges(wanted) => {
                    let look = places.look();
                    if last.as_ref().is_some_and(|last| *last != look) {
                        changes += 1;
                    }
                    last = Some(look);
                    changes >= wanted
                }
            };
            if is_due {
                return Ok(());
            }
            let is_alive = self.is_running();
            let has_victim = [Side::Sender, Side::Receiver]
                .into_iter()
                .any(|side| victim.includes(side) && self.slot(side).is_some());
            if !is_alive || !has_victim {
                return Ok(());
            }
            if start.elapsed() > TRIGGER_PATIENCE {
                return Err(format!("{trigger:?} did not come\n{}", self.describe()));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Starts every side that is down and has not ended by itself: with its command, or with `landfall resume` where
    /// `resumes` says so.
    pub fn revive(&mut self, setup: &Setup, mut resumes: impl FnMut(Side) -> bool) {
        for side in [setup.listening_side(), setup.dialling_side()] {
            let is_done = self.ended.iter().any(|(who, _)| *who == side);
            if self.slot(side).is_none() && !is_done {
                let command = if resumes(side) { setup.resume_command(side) } else { setup.command(side) };
                *self.slot(side) = Some(command.start());
            }
        }
    }

    /// Ends both, whatever they are at.
    pub fn kill(&mut self) {
        for running in [self.sender.take(), self.receiver.take()].into_iter().flatten() {
            running.kill();
        }
    }

    /// Waits until one of them has ended by itself: what the other still does is to wait for its word, at most.
    pub fn wait_for_one(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while self.is_running() && self.sender.is_some() && self.receiver.is_some() {
            if Instant::now() > deadline {
                return Err(format!("neither side ended within {patience:?}\n{}", self.describe()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until both have ended by themselves. An error tells of those that did not.
    pub fn wait(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() > deadline {
                return Err(format!("did not end within {patience:?}\n{}", self.describe()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Did both sides end by themselves with 0, the last time that they ran?
    pub fn success(&self) -> Result<(), String> {
        for side in [Side::Sender, Side::Receiver] {
            let ending = self.ending(side).ok_or_else(|| format!("{side:?} has not ended\n{}", self.describe()))?;
            let said = ending.summary().and_then(|summary| summary["exit"].as_i64());
            if ending.code() != Some(0) && !(ending.was_killed() && said == Some(0)) {
                return Err(format!("{side:?} did not succeed\n{}", self.describe()));
            }
        }
        Ok(())
    }

    /// Everything known of both sides.
    pub fn describe(&self) -> String {
        let running = [&self.sender, &self.receiver].into_iter().flatten().map(|side| side.describe("is running"));
        let ended = self.ended.iter().map(|(_, finished)| finished.describe());
        running.chain(ended).collect::<Vec<_>>().join("\n")
    }
}

/// How many kills met which step.
#[derive(Debug, Default)]
pub struct Tally {
    hits: BTreeMap<Step, u64>,
    late: u64,
}

impl Tally {
    /// Counts one strike. Returns whether it was a kill.
    pub fn count(&mut self, struck: &Struck) -> bool {
        match struck {
            Struck::Killed(step) => *self.hits.entry(*step).or_default() += 1,
            Struck::TooLate => self.late += 1,
        }
        matches!(struck, Struck::Killed(_))
    }

    /// Adds the strikes of another tally.
    pub fn add(&mut self, other: &Tally) {
        for (step, count) in &other.hits {
            *self.hits.entry(*step).or_default() += count;
        }
        self.late += other.late;
    }

    /// Kills that counted.
    pub fn kills(&self) -> u64 {
        self.hits.values().sum()
    }

    /// Kills that met this step.
    pub fn at(&self, step: Step) -> u64 {
        self.hits.get(&step).copied().unwrap_or(0)
    }

    /// Steps that fewer kills than these met.
    pub fn below(&self, least: u64, wanted: &[Step]) -> Vec<Step> {
        wanted.iter().copied().filter(|step| self.at(*step) < least).collect()
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let each: Vec<String> = self.hits.iter().map(|(step, count)| format!("{step} {count}")).collect();
        format!("{} kills ({}), {} too late", self.kills(), each.join(", "), self.late)
    }
}
