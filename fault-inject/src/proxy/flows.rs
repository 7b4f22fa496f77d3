//! The proxy's sockets: one in front, where diallers find it, and one at the back for each dialler, so that the listener
//! sees a port of its own for each.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Socket buffers that are asked for, so that the proxy itself loses little.
const BUFFER_BYTES: usize = 8 << 20;
/// Diallers that are known at once. The one that was quiet longest makes room.
const DIALLERS_MAX: usize = 256;
/// How long a full send buffer is waited for.
const SEND_PATIENCE: Duration = Duration::from_millis(5);

/// What belongs to one dialler.
struct Flow {
    back: UdpSocket,
    upstream: SocketAddr,
    last_heard: Instant,
    /// Datagrams of each way so far.
    numbers: [u64; 2],
}

/// All sockets.
pub(super) struct Flows {
    front: UdpSocket,
    flows: HashMap<SocketAddr, Flow>,
}

impl Flows {
    pub(super) fn new(front: UdpSocket) -> Flows {
        Flows { front, flows: HashMap::new() }
    }

    pub(super) fn diallers(&self) -> Vec<SocketAddr> {
        self.flows.keys().copied().collect()
    }

    /// Waits until something can be read, at most so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let mut waited: Vec<PollFd<'_>> =
            self.flows.values().map(|flow| PollFd::new(&flow.back, PollFlags::IN)).collect();
        waited.push(PollFd::new(&self.front, PollFlags::IN));
        let limit = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        let _ = poll(&mut waited, Some(&limit)); // a signal that interrupts it only makes the next turn come earlier
    }

    /// The next datagram of a dialler that has arrived.
    pub(super) fn read_front(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.front.recv_from(buffer).ok()
    }

    /// The next datagram that the listener has sent to this dialler. An error that an earlier send has left is none.
    pub(super) fn read_back(&self, dialler: SocketAddr, buffer: &mut [u8]) -> Option<usize> {
        let back = &self.flows.get(&dialler)?.back;
        match back.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => back.recv(buffer).ok(),
            other => other.ok(),
        }
    }

    /// The number of a datagram in its flow and way, from 1; the flow is made if there is none.
    pub(super) fn number(
        &mut self,
        dialler: SocketAddr,
        way: usize,
        upstream: SocketAddr,
        now: Instant,
    ) -> io::Result<u64> {
        if !self.flows.contains_key(&dialler) {
            self.make_room();
            let flow = Flow { back: back(upstream)?, upstream, last_heard: now, numbers: [0; 2] };
            self.flows.insert(dialler, flow);
        }
        let flow = self.flows.get_mut(&dialler).expect("it was made just above");
        flow.last_heard = now;
        flow.numbers[way] += 1;
        Ok(flow.numbers[way])
    }

    fn make_room(&mut self) {
        if self.flows.len() < DIALLERS_MAX {
            return;
        }
        let quietest = self.flows.iter().min_by_key(|(_, flow)| flow.last_heard).map(|(dialler, _)| *dialler);
        quietest.and_then(|dialler| self.flows.remove(&dialler));
    }

    /// Sends to the dialler.
    pub(super) fn send_front(&self, dialler: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        patiently(&self.front, || self.front.send_to(bytes, dialler))
    }

    /// Sends to the listener, from the port of this dialler.
    pub(super) fn send_back(&mut self, dialler: SocketAddr, upstream: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let Some(flow) = self.flows.get_mut(&dialler) else { return Err(io::ErrorKind::NotConnected.into()) };
        if flow.upstream != upstream {
            flow.back = back(upstream)?;
            flow.upstream = upstream;
        }
        match patiently(&flow.back, || flow.back.send(bytes)) {
            // That is what an earlier datagram met; this one has not been sent yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                patiently(&flow.back, || flow.back.send(bytes))
            }
            other => other,
        }
    }

    /// Gives every dialler another port; what comes for the old ones finds nobody. Returns how many there are.
    pub(super) fn rebind(&mut self) -> io::Result<u64> {
        for flow in self.flows.values_mut() {
            flow.back = back(flow.upstream)?; // made before the old one is gone: never the same port
        }
        Ok(self.flows.len() as u64)
    }
}

fn patiently(socket: &UdpSocket, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    match send() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let mut waited = [PollFd::new(socket, PollFlags::OUT)];
            let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(SEND_PATIENCE.subsec_nanos()) };
            let _ = poll(&mut waited, Some(&limit));
            send().map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// A socket that speaks with the listener.
fn back(upstream: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = socket(any)?;
    socket.connect(upstream)?;
    Ok(socket)
}

/// A bound socket as the proxy needs it: with large buffers, and it never blocks.
pub fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv6() { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES); // the kernel grants what it grants
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
