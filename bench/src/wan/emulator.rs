//! Two networks and a line between them: a device in user space in each, a thread for each end of each direction.
//! No kernel module is needed. An emulator of the user's own can take the place of the line.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fault_inject::rig::facility;
use fault_inject::rig::isolated::Isolated;
use tappers::{Interface, Tun};

use super::link::{Counts, Direction, Fate, Line, Protocol};
use crate::program;

/// Where the sender and the receiver are.
pub const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// See [`SENDER`].
pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// What is reached over the line.
const ROUTE: &str = "10.77.0.0/24";
/// Name of the device in both networks.
const DEVICE: &str = "bench0";
/// Longest packet.
const PACKET_BYTES_MAX: usize = 1 << 16;
/// Packets on the way, at most: many times what the queue and the delay hold of small ones.
const PACKETS_MAX: usize = 1 << 16;
/// How long an emulator of the user's own may take to be there.
const EMULATOR_PATIENCE: Duration = Duration::from_secs(15);

/// Two networks with a line between them.
pub struct Emulated {
    networks: Networks,
}

enum Networks {
    Own { ends: [End; 2], threads: Vec<JoinHandle<()>> },
    Foreign { emulator: Child, names: [String; 2] },
}

struct End {
    network: Isolated,
    direction: Arc<Mutex<Direction>>,
}

/// A packet and when it arrives.
type Packet = (Instant, Vec<u8>);

impl Emulated {
    /// The bench's own line.
    pub fn own(line: Line, seed: u64) -> Result<Emulated, String> {
        let (sender, sender_device) = network(SENDER)?;
        let (receiver, receiver_device) = network(RECEIVER)?;
        let (there, back) = (directed(line, seed), directed(line, !seed));
        let mut threads = carry(&sender_device, &receiver_device, &there);
        threads.extend(carry(&receiver_device, &sender_device, &back));
        let ends = [End { network: sender, direction: there }, End { network: receiver, direction: back }];
        Ok(Emulated { networks: Networks::Own { ends, threads } })
    }

    /// One made by a command of the user's, in which `{rate}` (Mbit/s), `{delay}` (ms, one way), `{queue}` (ms),
    /// `{loss}` (%), `{seed}`, `{a}` and `{b}` (names for `ip netns`), `{ip-a}` and `{ip-b}` are replaced.
    pub fn by_command(command: &str, line: Line, seed: u64, log: &Path) -> Result<Emulated, String> {
        let names = ["a", "b"].map(|side| format!("bench-{side}-{}", std::process::id()));
        let values = [
            ("{rate}", format!("{}", line.rate_bits as f64 / 1e6)),
            ("{delay}", format!("{}", line.delay_ns as f64 / 1e6)),
            ("{queue}", format!("{}", line.queue_ns as f64 / 1e6)),
            ("{loss}", format!("{}", line.loss * 100.0)),
            ("{seed}", seed.to_string()),
            ("{a}", names[0].clone()),
            ("{b}", names[1].clone()),
            ("{ip-a}", SENDER.to_string()),
            ("{ip-b}", RECEIVER.to_string()),
        ];
        let command = values.iter().fold(command.to_owned(), |command, (name, value)| command.replace(name, value));
        let emulator = program::start(program::command(&[], &["sh", "-c", &format!("exec {command}")]), log)?;
        let mut emulated = Emulated { networks: Networks::Foreign { emulator, names } };
        let deadline = Instant::now() + EMULATOR_PATIENCE;
        while !emulated.is_up() {
            if Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("`{command}` made no line: {}", said.trim()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(emulated)
    }

    fn is_up(&mut self) -> bool {
        let (below, address) = (self.sender_below(), RECEIVER.to_string());
        let words: Vec<&str> = below.iter().map(String::as_str).chain(["ping", "-c1", "-W1", &address]).collect();
        facility::run(words[0], &words[1..]).is_ok()
    }

    /// Chooses the congestion control of the kernel's TCP at both ends of the bench's own line, by the route: what the
    /// machine allows elsewhere stays as it is. Whoever brings an emulator sets it there.
    pub fn set_tcp(&self, name: &str) -> Result<(), String> {
        if let Networks::Own { ends, .. } = &self.networks {
            for end in ends {
                inside(&end.network, &["ip", "route", "replace", ROUTE, "dev", DEVICE, "congctl", name])?;
            }
        }
        Ok(())
    }

    /// What a program runs below to be at the sender's end.
    pub fn sender_below(&self) -> Vec<String> {
        self.below(0)
    }

    /// What a program runs below to be at the receiver's end.
    pub fn receiver_below(&self) -> Vec<String> {
        self.below(1)
    }

    fn below(&self, end: usize) -> Vec<String> {
        match &self.networks {
            Networks::Own { ends, .. } => ends[end].network.below(),
            Networks::Foreign { names, .. } => ["ip", "netns", "exec", &names[end]].map(str::to_owned).to_vec(),
        }
    }

    /// What passed from the sender to the receiver, and back; `None` of a foreign emulator.
    pub fn counts(&self) -> Option<[Counts; 2]> {
        let Networks::Own { ends, .. } = &self.networks else { return None };
        Some([0, 1].map(|end| lock(&ends[end].direction).counts()))
    }
}

/// Two networks with the bench's own line, which can be cut and over which the bench itself can speak.
impl Emulated {
    /// Cuts or mends a direction: 0 from the sender to the receiver, 1 back.
    pub fn cut(&self, direction: usize, is_cut: bool) {
        if let Networks::Own { ends, .. } = &self.networks {
            lock(&ends[direction].direction).cut(is_cut);
        }
    }

    /// A connection by the kernel's TCP, its end at the sender first.
    pub fn connect(&self) -> Result<[TcpStream; 2], String> {
        let Networks::Own { ends, .. } = &self.networks else { return Err("the line is a foreign one".to_owned()) };
        let failed = |error: io::Error| format!("a TCP connection over the line: {error}");
        let listener = ends[1].network.inside(|| TcpListener::bind((RECEIVER, 0))).map_err(failed)?;
        let to = listener.local_addr().map_err(failed)?;
        let here = ends[0].network.inside(move || TcpStream::connect(to)).map_err(failed)?;
        Ok([here, listener.accept().map_err(failed)?.0])
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        match &mut self.networks {
            Networks::Own { ends, threads } => {
                // Reading from a device that is gone ends the threads.
                for end in ends.iter() {
                    let _ = inside(&end.network, &["ip", "link", "delete", DEVICE]);
                }
                for thread in threads.drain(..) {
                    let _ = thread.join();
                }
            }
            Networks::Foreign { emulator, .. } => {
                // It deletes its networks itself when it is asked to end.
                if let Ok(id) = i32::try_from(emulator.id())
                    && let Some(id) = rustix::process::Pid::from_raw(id)
                {
                    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
                }
                let _ = emulator.wait();
            }
        }
    }
}

/// A network with one device and its address.
fn network(address: Ipv4Addr) -> Result<(Isolated, Arc<Tun>), String> {
    let network = Isolated::new()?;
    let device = network.inside(|| Tun::new_named(Interface::new(DEVICE)?));
    let device = device.map_err(|error| format!("a TUN device ({error})"))?;
    inside(&network, &["ip", "address", "add", &format!("{address}/24"), "dev", DEVICE])?;
    inside(&network, &["ip", "link", "set", DEVICE, "up"])?;
    Ok((network, Arc::new(device)))
}

fn inside(network: &Isolated, words: &[&str]) -> Result<Vec<u8>, String> {
    let below = network.below();
    let words: Vec<&str> = below.iter().map(String::as_str).chain(words.iter().copied()).collect();
    facility::run(words[0], &words[1..])
}

fn directed(line: Line, seed: u64) -> Arc<Mutex<Direction>> {
    Arc::new(Mutex::new(Direction::new(line, seed)))
}

fn lock(direction: &Mutex<Direction>) -> std::sync::MutexGuard<'_, Direction> {
    direction.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two threads: one takes packets as they come, the other puts them down when they are due.
fn carry(from: &Arc<Tun>, to: &Arc<Tun>, direction: &Arc<Mutex<Direction>>) -> Vec<JoinHandle<()>> {
    let (queue, due) = mpsc::sync_channel(PACKETS_MAX);
    let (from, to, direction) = (from.clone(), to.clone(), direction.clone());
    vec![
        std::thread::spawn(move || take_packets(&from, &direction, &queue)),
        std::thread::spawn(move || deliver_packets(&to, &due)),
    ]
}

fn take_packets(device: &Tun, direction: &Mutex<Direction>, queue: &SyncSender<Packet>) {
    let started = Instant::now();
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let length = match device.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return, // the device is gone
        };
        let now_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let fate = lock(direction).take(now_ns, length, Protocol::of(&buffer[..length]));
        if let Fate::Due(due_ns) = fate
            && queue.send((started + Duration::from_nanos(due_ns), buffer[..length].to_vec())).is_err()
        {
            return;
        }
    }
}

fn deliver_packets(device: &Tun, due: &Receiver<Packet>) {
    while let Ok((at, packet)) = due.recv() {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let _ = device.send(&packet); // a network that takes no packet has lost it
    }
}

/// The receiver's address, as tools take it.
pub fn receiver_address() -> IpAddr {
    IpAddr::V4(RECEIVER)
}
