//! A UDP relay between the two processes: counts what crosses it, and drops, delays, corrupts, throttles or silences
//! it. It knows nothing of what it carries.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Socket buffers that are asked for, so that the relay itself loses little.
const BUFFER_BYTES: usize = 8 << 20;
/// Datagrams read from one socket before the others have their turn.
const TURN_DATAGRAMS: usize = 64;

/// Pause when nothing came: short against a round trip, long against a system call.
const IDLE_PAUSE: Duration = Duration::from_micros(150);

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side that dials to the side that listens.
    ToListener,
    /// Back.
    ToDialler,
}

/// Counters and dials, shared with the thread that relays.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    is_silent: AtomicBool,
    to_listener_bytes: AtomicU64,
    to_dialler_bytes: AtomicU64,
    datagrams: AtomicU64,
    harmed: AtomicU64,
    drop_permille: AtomicU32,
    corrupt_permille: AtomicU32,
    duplicate_permille: AtomicU32,
    delay_us: AtomicU64,
    rate_bytes_per_s: AtomicU64,
    silent_after_bytes: AtomicU64,
    upstream: Mutex<Option<SocketAddr>>,
}

/// A relay that runs until it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on `address` and passes everything on to `upstream` and back. The seed decides who is harmed.
    pub fn new(address: SocketAddr, upstream: SocketAddr, seed: u64) -> io::Result<Relay> {
        let front = socket(address)?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared::default());
        shared.silent_after_bytes.store(u64::MAX, Ordering::Relaxed);
        *shared.upstream.lock().unwrap() = Some(upstream);
        let worker = Worker {
            front,
            backs: HashMap::new(),
            shared: Arc::clone(&shared),
            rng: ChaCha8Rng::seed_from_u64(seed),
            delayed: VecDeque::new(),
            sent_from: Instant::now(),
            sent_bytes: 0,
        };
        let thread = std::thread::spawn(move || worker.run());
        Ok(Relay { address, shared, thread: Some(thread) })
    }

    /// Where the dialling side finds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes on to another address from now on.
    pub fn redirect(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = Some(upstream);
    }

    /// Payload bytes that arrived at the relay from the other side of this direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToListener => self.shared.to_listener_bytes.load(Ordering::Relaxed),
            Direction::ToDialler => self.shared.to_dialler_bytes.load(Ordering::Relaxed),
        }
    }

    /// Bytes in both directions.
    pub fn all_bytes(&self) -> u64 {
        self.bytes(Direction::ToListener) + self.bytes(Direction::ToDialler)
    }

    /// Datagrams that were dropped, corrupted or sent twice: a test of faults must see some.
    pub fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::Relaxed)
    }

    /// Of 1,000 datagrams, how many are lost.
    pub fn drop_permille(&self, permille: u32) {
        self.shared.drop_permille.store(permille, Ordering::Relaxed);
    }

    /// Of 1,000 datagrams, how many arrive with a flipped bit.
    pub fn corrupt_permille(&self, permille: u32) {
        self.shared.corrupt_permille.store(permille, Ordering::Relaxed);
    }

    /// Of 1,000 datagrams, how many arrive twice.
    pub fn duplicate_permille(&self, permille: u32) {
        self.shared.duplicate_permille.store(permille, Ordering::Relaxed);
    }

    /// Every datagram stays this long.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_us.store(delay.as_micros() as u64, Ordering::Relaxed);
    }

    /// No more than this passes in both directions together; 0: no limit. What does not fit waits in the socket, then
    /// is lost, as at a slow link.
    pub fn rate(&self, bytes_per_s: u64) {
        self.shared.rate_bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }

    /// Nothing passes from now on: neither side hears of it.
    pub fn silence(&self) {
        self.shared.is_silent.store(true, Ordering::Relaxed);
    }

    /// Falls silent by itself after that many bytes in both directions.
    pub fn silence_after(&self, bytes: u64) {
        self.shared.silent_after_bytes.store(self.all_bytes() + bytes, Ordering::Relaxed);
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

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    front: UdpSocket,
    backs: HashMap<SocketAddr, UdpSocket>,
    shared: Arc<Shared>,
    rng: ChaCha8Rng,
    delayed: VecDeque<(Instant, Direction, SocketAddr, Vec<u8>)>,
    sent_from: Instant,
    sent_bytes: u64,
}

impl Worker {
    fn run(mut self) {
        let mut buffer = vec![0u8; DATAGRAM_BYTES_MAX];
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.release();
            if !self.may_send() {
                std::thread::sleep(Duration::from_micros(500));
                continue;
            }
            let mut taken = 0;
            for _ in 0..TURN_DATAGRAMS {
                let Ok((len, from)) = self.front.recv_from(&mut buffer) else { break };
                self.take(Direction::ToListener, from, &mut buffer[..len]);
                taken += 1;
            }
            let diallers: Vec<SocketAddr> = self.backs.keys().copied().collect();
            for dialler in diallers {
                for _ in 0..TURN_DATAGRAMS {
                    let Ok(len) = self.backs[&dialler].recv(&mut buffer) else { break };
                    self.take(Direction::ToDialler, dialler, &mut buffer[..len]);
                    taken += 1;
                }
            }
            if taken == 0 {
                std::thread::sleep(IDLE_PAUSE);
            }
        }
    }

    fn may_send(&mut self) -> bool {
        let rate = self.shared.rate_bytes_per_s.load(Ordering::Relaxed);
        if rate == 0 {
            return true;
        }
        let allowed = self.sent_from.elapsed().as_secs_f64() * rate as f64;
        if allowed > self.sent_bytes as f64 + 0.1 * rate as f64 {
            self.sent_from = Instant::now(); // no credit for a time in which nothing was sent
            self.sent_bytes = 0;
            return true;
        }
        self.sent_bytes as f64 <= allowed
    }

    fn take(&mut self, direction: Direction, dialler: SocketAddr, datagram: &mut [u8]) {
        let shared = Arc::clone(&self.shared);
        if shared.is_silent.load(Ordering::Relaxed) {
            return;
        }
        let counter =
            if direction == Direction::ToListener { &shared.to_listener_bytes } else { &shared.to_dialler_bytes };
        counter.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        shared.datagrams.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes += datagram.len() as u64;
        let all = shared.to_listener_bytes.load(Ordering::Relaxed) + shared.to_dialler_bytes.load(Ordering::Relaxed);
        if all >= shared.silent_after_bytes.load(Ordering::Relaxed) {
            shared.is_silent.store(true, Ordering::Relaxed);
        }
        if self.strikes(&shared.drop_permille) {
            return;
        }
        if self.strikes(&shared.corrupt_permille) && !datagram.is_empty() {
            let at = self.rng.random_range(0..datagram.len());
            datagram[at] ^= 1 << self.rng.random_range(0..8);
        }
        let copies = if self.strikes(&shared.duplicate_permille) { 2 } else { 1 };
        let delay_us = shared.delay_us.load(Ordering::Relaxed);
        for _ in 0..copies {
            if delay_us == 0 {
                self.pass(direction, dialler, datagram);
            } else {
                let due = Instant::now() + Duration::from_micros(delay_us);
                self.delayed.push_back((due, direction, dialler, datagram.to_vec()));
            }
        }
    }

    fn strikes(&mut self, permille: &AtomicU32) -> bool {
        let permille = permille.load(Ordering::Relaxed);
        let strikes = permille > 0 && self.rng.random_range(0..1000) < permille;
        if strikes {
            self.shared.harmed.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    fn release(&mut self) {
        while self.delayed.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let (_, direction, dialler, datagram) = self.delayed.pop_front().expect("there is a first one");
            self.pass(direction, dialler, &datagram);
        }
    }

    /// A datagram that cannot be sent now is a lost one: that is what a link does.
    fn pass(&mut self, direction: Direction, dialler: SocketAddr, datagram: &[u8]) {
        let upstream = self.shared.upstream.lock().unwrap().expect("set when the relay was made");
        if direction == Direction::ToDialler {
            let _ = self.front.send_to(datagram, dialler);
            return;
        }
        let any: SocketAddr = if upstream.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }.parse().unwrap();
        let back = self.backs.entry(dialler).or_insert_with(|| socket(any).expect("a socket more"));
        if back.peer_addr().ok() != Some(upstream) {
            let _ = back.connect(upstream);
        }
        let _ = back.send(datagram);
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv6() { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES); // the kernel grants what it grants
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
