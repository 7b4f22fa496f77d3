//! A world at rest: both machines have stopped in the middle of some operation, and nothing of it is left but disks.
//! From there on there are as many futures as wanted, one for each state that a power cut may leave. What the crash
//! enumeration needs of the simulator beside a seed's run.

use super::resent::Resent;
use super::world::{LIVENESS_STEPS_MAX, Stage, Violation, World};
use crate::sim_disk::{CrashCounts, FailAt, SimDisk, Stop, StopAt, View};

/// A disk on which something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Machine {
    /// The disk with the target.
    Receiver,
    /// The disk with the receiver's home.
    Home,
    /// The disk with the sender's state.
    Sender,
}

impl Machine {
    /// All of them.
    pub const ALL: [Machine; 3] = [Machine::Receiver, Machine::Home, Machine::Sender];
}

impl World {
    /// One of its disks.
    pub fn disk(&self, machine: Machine) -> &SimDisk {
        match machine {
            Machine::Receiver => &self.receiver_setting.disk,
            Machine::Home => &self.receiver_setting.home,
            Machine::Sender => &self.sender_setting.disk,
        }
    }

    /// The power goes at the n-th operation from now on.
    pub fn stop_at(&self, machine: Machine, nth: u64) {
        let disk = self.disk(machine);
        disk.set_stop_at(Some(StopAt { operation: disk.operations() + nth, how: Stop::PowerCut }));
    }

    /// Runs the schedule, without faults of its own, until a machine stops (`true`) or both sides have ended well.
    pub fn run_to_stop(&mut self) -> Result<bool, Violation> {
        self.stage = Stage::Liveness;
        let limit = self.step + LIVENESS_STEPS_MAX;
        while !self.is_done() {
            if self.step >= limit {
                return Err(self.stuck("too many steps"));
            }
            self.step_once()?;
            if Machine::ALL.into_iter().any(|machine| self.disk(machine).stopped().is_some()) {
                return Ok(true);
            }
            self.look()?;
        }
        self.conclude()?;
        Ok(false)
    }

    /// The same for so many steps, with whatever fails by then, and then without until the end.
    pub fn run_with_failure(&mut self, machine: Machine, fail: FailAt, steps: u64) -> Result<(), Violation> {
        self.stage = Stage::Liveness;
        self.disk(machine).set_fail_at(Some(fail));
        // An inode that an error makes doubtful is left with all that is in it: nothing is watched for being sent twice.
        self.resent = Resent::default();
        for _ in 0..steps {
            if self.is_done() {
                break;
            }
            self.step_once()?;
            self.look()?;
        }
        self.disk(machine).set_fail_at(None);
        self.run_to_stop().map(drop)
    }

    /// Both processes are no more, in the middle of what they did.
    pub fn rest(&mut self) {
        self.note(|| "both machines stop".into());
        (self.receiving, self.sending) = (None, None);
        self.links.clear();
        self.resent.ended();
    }

    /// An independent copy of a world at rest.
    pub fn fork(&self) -> World {
        assert!(self.receiving.is_none() && self.sending.is_none(), "only a world at rest can be copied");
        let (mut receiver_setting, mut sender_setting) = (self.receiver_setting.clone(), self.sender_setting.clone());
        for disk in [&mut receiver_setting.disk, &mut receiver_setting.home] {
            *disk = disk.fork();
        }
        for disk in [&mut sender_setting.disk, &mut sender_setting.source] {
            *disk = disk.fork();
        }
        World {
            plan: self.plan.clone(),
            schedule: self.schedule.clone(),
            faults: self.faults.clone(),
            strangers: self.strangers.clone(),
            receiver_setting,
            sender_setting,
            receiving: None,
            sending: None,
            receiver_fate: self.receiver_fate.clone(),
            sender_fate: self.sender_fate.clone(),
            links: vec![],
            next_link: self.next_link,
            began: self.began,
            elapsed: self.elapsed,
            step: self.step,
            stage: self.stage,
            oracle: self.oracle.clone(),
            coverage: self.coverage.clone(),
            resent: self.resent.clone(),
            sender_began: self.sender_began,
            settled_since: self.settled_since,
            issuing_since: self.issuing_since,
            last_error: self.last_error.clone(),
            is_cut: self.is_cut,
            bad_entries: self.bad_entries.clone(),
            log: self.log.clone(),
            trace: self.trace.clone(),
        }
    }

    /// What the power cut leaves on the receiver's machine, drawn from a number; the sender's loses power as well or
    /// is only killed. What is left is held against the oracle.
    pub fn cut(&mut self, outcome: u64) -> Result<CrashCounts, Violation> {
        let mut counts = CrashCounts::default();
        for disk in [&self.receiver_setting.disk, &self.receiver_setting.home] {
            disk.stop(Stop::PowerCut);
            counts += disk.reboot_with(outcome);
        }
        let is_sender_cut = self.sender_setting.disk.stopped().is_some() || outcome.is_multiple_of(2);
        self.sender_setting.disk.stop(if is_sender_cut { Stop::PowerCut } else { Stop::Kill });
        self.sender_setting.disk.reboot_with(outcome);
        self.sender_setting.source.stop(Stop::Kill);
        self.sender_setting.source.reboot();
        self.is_cut = true;
        if counts.renames_half_kept > 0 {
            self.resent.lost_names();
        }
        self.oracle.excuses.receiver_state += 1;
        let disk = &self.receiver_setting.disk;
        self.oracle.check_names(disk, View::Cached).map_err(Violation::Wrong)?;
        self.oracle.check_promise(disk, View::Cached).map_err(Violation::Wrong)?;
        Ok(counts)
    }

    /// A digest of everything that the next processes can find on the disks of both machines.
    pub fn found_digest(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for machine in Machine::ALL {
            for (path, seen) in self.disk(machine).tree(View::Cached) {
                let header = (path.len(), seen.kind, seen.mode, seen.mtime, seen.inode, seen.bytes.len());
                hasher.update(&path).update(format!("{header:?}").as_bytes()).update(&seen.bytes);
            }
        }
        let digest = hasher.finalize();
        u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("a digest has more than eight bytes"))
    }

    /// Whether a start has found what a cut left: claims that stood, bytes that were adopted, a log or journal that
    /// was torn, a receipt.
    pub fn has_resumed(&self) -> bool {
        const SEEN: [&str; 6] = [
            "claims of an earlier run stood",
            "candidate adopted",
            "torn claim",
            "journal cut",
            "manifest log cut",
            "sender ended between its receipt and its record",
        ];
        self.coverage.all().any(|(mark, times)| times > 0 && SEEN.contains(&mark))
    }

    /// Whether a process has said that something failed, or what was met by a failure was done again.
    pub fn has_noticed(&self) -> bool {
        const SAID: [&str; 6] =
            ["new inode", "full disk met", "entry left out", "read-back mismatch", "journal cut", "manifest log cut"];
        !self.last_error.is_empty() || self.coverage.all().any(|(mark, times)| times > 0 && SAID.contains(&mark))
    }
}
