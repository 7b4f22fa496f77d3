//! What the proxy's owner and its thread share: dials, switches and counters.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counts::Counters;
use super::dials::Dials;

pub(super) struct Shared {
    pub(super) is_over: AtomicBool,
    pub(super) is_silent: AtomicBool,
    /// Falls silent when so many bytes have arrived from both sides.
    pub(super) silent_after_bytes: AtomicU64,
    pub(super) counters: Counters,
    dials: Mutex<Arc<Dials>>,
    generation: AtomicU64,
    upstream: Mutex<SocketAddr>,
}

/// A lock whose last holder panicked still holds whole values: each is replaced in one step.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(upstream: SocketAddr, dials: Dials) -> Shared {
        Shared {
            is_over: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            silent_after_bytes: AtomicU64::new(u64::MAX),
            counters: Counters::default(),
            dials: Mutex::new(Arc::new(dials)),
            generation: AtomicU64::new(0),
            upstream: Mutex::new(upstream),
        }
    }

    /// The dials, and how often they have been turned.
    pub(super) fn dials(&self) -> (Arc<Dials>, u64) {
        let held = locked(&self.dials);
        (Arc::clone(&held), self.generation.load(Ordering::Acquire))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn turn(&self, turn: impl FnOnce(&mut Dials)) {
        let mut held = locked(&self.dials);
        let mut dials = Dials::clone(&held);
        turn(&mut dials);
        *held = Arc::new(dials);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn upstream(&self) -> SocketAddr {
        *locked(&self.upstream)
    }

    pub(super) fn redirect(&self, upstream: SocketAddr) {
        *locked(&self.upstream) = upstream;
    }
}
