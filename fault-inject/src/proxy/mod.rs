//! A UDP proxy between any two processes: it drops, damages, copies, delays, reorders and throttles datagrams, cuts the
//! line, and changes ports, by dials that may be turned while it runs. It knows nothing of what it carries. With it come
//! the named scenarios of the QUIC interop runner, run with the shipped program and judged from outside.
//!
//! `dials` holds what is wanted, `fate` draws who is hit, `hostile` makes up what nobody sent, `line` knows what is on
//! its way, `flows` owns the sockets, `worker` is the loop; `scenarios` names dials and what must come of them, `run`
//! runs one, and `rows` gives the rows of the fault matrix that are about the network.

mod counts;
mod dials;
mod fate;
mod flows;
pub mod hostile;
mod line;
mod observe;
pub mod rows;
pub mod run;
pub mod scenarios;
mod shared;
mod worker;

pub use counts::{Counts, KINDS, Kind};
pub use dials::{BOTH, Dials, Direction, Outage, Rebind, Way};
pub use flows::socket;
pub use rows::row;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use flows::Flows;
use shared::Shared;
use worker::Worker;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on `listen` and passes everything on to `upstream` and back. The seed decides who is hit.
    pub fn start(listen: SocketAddr, upstream: SocketAddr, seed: u64, dials: Dials) -> io::Result<Proxy> {
        Proxy::start_on(flows::socket(listen)?, upstream, seed, dials)
    }

    /// The same with a socket from [`socket`] in front that is there already, perhaps in another network.
    pub fn start_on(front: UdpSocket, upstream: SocketAddr, seed: u64, dials: Dials) -> io::Result<Proxy> {
        let address = front.local_addr()?;
        let shared = Arc::new(Shared::new(upstream, dials));
        let worker = Worker::new(Flows::new(front), Arc::clone(&shared), seed);
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || worker.run())?;
        Ok(Proxy { address, shared, thread: Some(thread) })
    }

    /// Where the dialling side finds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes on to another address from now on.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.shared.redirect(upstream);
    }

    /// The dials as they stand.
    pub fn dials(&self) -> Dials {
        Dials::clone(&self.shared.dials().0)
    }

    /// Turns some dials. Outages and other schedules go on, unless it is them that are turned.
    pub fn turn(&self, turn: impl FnOnce(&mut Dials)) {
        self.shared.turn(turn);
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.snapshot()
    }

    /// Nothing passes from now on: neither side hears of it.
    pub fn silence(&self) {
        self.shared.is_silent.store(true, Ordering::Relaxed);
    }

    /// Falls silent by itself after that many more bytes in both directions.
    pub fn silence_after(&self, bytes: u64) {
        let so_far: u64 = BOTH.iter().map(|way| self.shared.counters.arrived_bytes(*way)).sum();
        self.shared.silent_after_bytes.store(so_far.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Is it silent?
    pub fn is_silent(&self) -> bool {
        self.shared.is_silent.load(Ordering::Relaxed)
    }

    /// Passes datagrams again.
    pub fn speak(&self) {
        self.shared.silent_after_bytes.store(u64::MAX, Ordering::Relaxed);
        self.shared.is_silent.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was shown when it happened
        }
    }
}
