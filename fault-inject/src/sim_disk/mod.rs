//! A file system in memory, deterministic from one seed, that forgets what was not synced. Its model, in short:
//!
//! - A file has three layers: the cache (what [`landfall::disk::DiskFile::read_at`] sees), the device (what uncached
//!   reads see, the drive's volatile cache included) and what is durable. Each page carries the truth beside it
//!   where a fault changed it.
//! - Names are stored apart from what they name. `sync` of a file never makes its name durable, `sync_dir` never
//!   makes content durable. A power cut keeps any subset of the changes that no sync covered: see `crash`.
//! - Handles survive renames and removals, and die with the process ([`Stop`]).
//! - Everything that chance decides is drawn from streams of the seed by [`SimDials`]; time is a counter.
//!
//! Each operation of the seam is counted, so that a driver can stop or fail the n-th for each n. The oracle looks
//! and meddles through [`SimDisk::tree`] and its neighbours, which are not counted.
//!
//! It does not model: mounts (inject `EXDEV` with a faulty disk), ownership (one user, who is not root, owns
//! everything), access times, or locks.

mod content;
mod counts;
mod crash;
mod dials;
mod handle;
mod inode;
mod inspect;
mod names;
mod page;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use counts::{CrashCounts, SimCounts};
pub use dials::{FailAt, Repeat, SimDials, SimFault, SkipSync, Stop, StopAt};
pub use handle::{SimDir, SimFile};
pub use inspect::{DamagedPage, Seen, View};

use state::{ROOT, State};

use crate::rng::stream;

/// The simulated disk. Clones share one state.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A panic elsewhere while the lock was held is that test's failure; the state stays readable for its report.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDisk {
    /// An empty disk whose chance comes from that seed.
    pub fn new(seed: u64, dials: SimDials) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(State::new(seed, dials))) }
    }

    /// The root directory, for the processes that run now.
    pub fn root(&self) -> SimDir {
        let mut state = lock(&self.state);
        SimDir::new(&self.state, &mut state, ROOT)
    }

    /// The dials as they are set.
    pub fn dials(&self) -> SimDials {
        lock(&self.state).dials.clone()
    }

    /// Sets the dials, from the next operation on. [`SimDials::quiet`] ends the faults.
    pub fn set_dials(&self, dials: SimDials) {
        lock(&self.state).dials = dials;
    }

    /// Syncs to skip from now on; `None` for none.
    pub fn set_skip_sync(&self, skip: Option<SkipSync>) {
        lock(&self.state).skip_sync = skip;
    }

    /// The operation at which the machine or the process ends; `None` for none. Cleared when it happens, and by each
    /// other end of the process.
    pub fn set_stop_at(&self, at: Option<StopAt>) {
        lock(&self.state).stop_at = at;
    }

    /// The operation that fails; `None` for none. Cleared by each end of the process.
    pub fn set_fail_at(&self, at: Option<FailAt>) {
        lock(&self.state).fail_at = at;
    }

    /// Operations so far: the last one had this number, the first had 1. They go on across reboots.
    pub fn operations(&self) -> u64 {
        lock(&self.state).counts.operations
    }

    /// What really happened so far.
    pub fn counts(&self) -> SimCounts {
        lock(&self.state).counts.clone()
    }

    /// Ends all processes: every operation fails until [`SimDisk::reboot`].
    pub fn stop(&self, how: Stop) {
        lock(&self.state).stop(how);
    }

    /// How the processes ended, if they did and nothing has been started again.
    pub fn stopped(&self) -> Option<Stop> {
        lock(&self.state).stopped
    }

    /// Lets new processes run. After a power cut this is where chance decides what is left, from the disk's own
    /// seed; after a kill everything written is still there. While all is running it is a power cut and a reboot.
    pub fn reboot(&self) -> CrashCounts {
        let (seed, nth) = {
            let state = lock(&self.state);
            (state.dice.seed(), state.counts.crash.crashes)
        };
        self.reboot_as(seed, nth)
    }

    /// The same with the outcome drawn from another seed: many outcomes of one moment, with [`SimDisk::fork`].
    pub fn reboot_with(&self, seed: u64) -> CrashCounts {
        self.reboot_as(seed, 0)
    }

    fn reboot_as(&self, seed: u64, nth: u64) -> CrashCounts {
        let mut state = lock(&self.state);
        if state.stopped == Some(Stop::Kill) {
            state.counts.kills += 1;
            state.end_generation();
            return CrashCounts::default();
        }
        state.crash(&mut stream(seed, &format!("crash {nth}")))
    }

    /// An independent copy of everything stored, without open handles: the moment, for as many futures as wanted.
    pub fn fork(&self) -> SimDisk {
        let mut state = lock(&self.state).clone();
        let stopped = state.stopped;
        let (stop_at, fail_at) = (state.stop_at, state.fail_at);
        state.end_generation();
        (state.stopped, state.stop_at, state.fail_at) = (stopped, stop_at, fail_at);
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }
}
