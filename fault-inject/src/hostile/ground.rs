//! Where cases of `--lan` are played: networks of their own with a loopback each, in which the shipped binary announces and
//! finds, and from which sockets are used here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use super::exchange::Code;
use super::stage::{self, GROWTH_BYTES_MAX, Place, SOURCE, Seen};
use crate::rig::isolated::Isolated;
use crate::rig::process::{Finished, Landfall, Running, peak_bytes};

/// Where the receiver listens. Its network is its own.
pub const DOOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 28_170);
/// What a started process may take until it says something.
const START: Duration = Duration::from_secs(20);
/// How long an honest sender may take, with all that it does not find at once.
const HONEST: Duration = Duration::from_secs(30);

/// A network and directories.
pub struct Ground {
    /// The directories.
    pub place: Place,
    /// The network.
    pub network: Isolated,
}

impl Ground {
    /// `Err` names what this machine or this user lacks.
    pub fn new() -> Result<Ground, String> {
        Ok(Ground { network: Isolated::new()?, place: Place::new() })
    }

    fn below(network: &Isolated, command: Landfall) -> Landfall {
        let prefix = network.below();
        command.below(&prefix.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `recv --lan`, which shows a code.
    pub fn receiver(&self) -> Result<Receiver, String> {
        let command = Landfall::new("recv --lan", &self.place.home).arg("recv").arg(&self.place.target);
        let command = command.args(["--lan", "--yes", "--json", "--accept-level", "cache", "--patience", "60s"]);
        let mut running = Self::below(&self.network, command.arg("--listen").arg(DOOR.to_string())).start();
        if !running.wait_until("a code", START, |running| !codes(running).is_empty()) {
            return Err(running.describe("ended without a code"));
        }
        let base_bytes = peak_bytes(running.id()).unwrap_or_default();
        Ok(Receiver { running, base_bytes })
    }

    /// `send --lan` with this code, in a network.
    pub fn sender(&self, network: &Isolated, home: &Path, code: Code, patience: &str) -> Running {
        let command = Landfall::new("send --lan", home).env("LANDFALL_CODE", code.text()).arg("send");
        let command = command.arg(&self.place.source).args(["--lan", "--yes", "--json", "--patience", patience]);
        Self::below(network, command).start()
    }

    /// Calls the receiver.
    pub fn call(&self) -> Result<TcpStream, String> {
        let called = self.network.inside(|| TcpStream::connect_timeout(&DOOR, Duration::from_secs(5)));
        called.map_err(|error| format!("a call: {error}"))
    }

    /// Ports of TCP and UDP of one number, here.
    pub fn listen(&self) -> Result<(TcpListener, UdpSocket), String> {
        let bind = || {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let udp = UdpSocket::bind(tcp.local_addr()?)?;
            tcp.set_nonblocking(true)?;
            udp.set_nonblocking(true)?;
            Ok((tcp, udp))
        };
        self.network.inside(bind).map_err(|error: io::Error| format!("a listener: {error}"))
    }

    /// An honest sender with the code that is shown now: all of it arrives, and the receiver ends well.
    pub fn honest(&self, receiver: Receiver, seen: &mut Seen) {
        let Some(code) = receiver.codes().last().copied() else { return };
        let home = self.place.beside("honest-home");
        let sender = self.sender(&self.network, &home, code, "25s");
        let Some(sent) = stage::finish(sender, HONEST, seen) else { return };
        if sent.code() != Some(0) {
            seen.complaints.push(format!("an honest sender did not get through\n{}", sent.describe()));
        }
        let Some(received) = receiver.end(seen) else { return };
        if received.code() != Some(0) {
            seen.complaints.push(format!("the receiver did not end well\n{}", received.describe()));
        }
        if std::fs::read(self.place.target.join("source")).unwrap_or_default() == SOURCE {
            seen.survived = 1;
        } else {
            seen.wrongs.push("an honest sender's file did not arrive as it is".to_owned());
        }
    }
}

/// A receiver that shows codes.
pub struct Receiver {
    /// The process.
    pub running: Running,
    base_bytes: u64,
}

impl Receiver {
    /// All codes that it has shown.
    pub fn codes(&self) -> Vec<Code> {
        codes(&self.running)
    }

    /// The last of so many codes, once it is shown.
    pub fn code(&mut self, number: usize) -> Result<Code, String> {
        let until = Instant::now() + START;
        while Instant::now() < until && !self.running.has_ended() {
            if let Some(code) = self.codes().get(number - 1) {
                return Ok(*code);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(self.running.describe(&format!("shows no code number {number}")))
    }

    /// Its end, and what has to be true of it whatever happened.
    pub fn end(self, seen: &mut Seen) -> Option<Finished> {
        let finished = stage::finish(self.running, Duration::from_secs(30), seen)?;
        stage::judge_streams(&finished, seen);
        let growth = finished.peak_bytes.saturating_sub(self.base_bytes);
        if growth > GROWTH_BYTES_MAX {
            seen.wrongs.push(format!("its memory grew by {} MiB", growth >> 20));
        }
        Some(finished)
    }
}

fn codes(running: &Running) -> Vec<Code> {
    let text = running.stdout();
    let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let codes = events.filter(|event| event["event"] == "code");
    codes.filter_map(|event| Code::of(event["code"].as_str()?)).collect()
}
