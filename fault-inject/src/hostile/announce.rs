//! Announcements by hand: DNS messages (RFC 1035) over multicast (RFC 6762) that say a service of `--lan` is here, or say
//! what no such message may.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::ground::Ground;

const SERVICE: [&[u8]; 3] = [b"_landfall", b"_udp", b"local"];
/// Group and port of multicast DNS.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353);
/// A response of somebody who may say so.
const RESPONSE: u16 = 0x8400;
/// Types of records.
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;
/// Class IN, and IN that takes the place of what was said before.
const IN: u16 = 1;
const IN_ALONE: u16 = 0x8001;
/// Between two sayings of the same.
const AGAIN: Duration = Duration::from_millis(300);
/// What is said has come by then.
const HEARD: Duration = Duration::from_millis(20);

/// One record: its name, type, class, and data.
type Record = (Vec<u8>, u16, u16, Vec<u8>);

/// A service that is announced.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name of the instance.
    pub name: Vec<u8>,
    /// What it says of itself, in order.
    pub says: Vec<Vec<u8>>,
    /// Where it says that it is.
    pub address: Ipv4Addr,
}

impl Service {
    /// One that shows this nameplate and is at this port, here.
    pub fn of(name: &str, nameplate: &str, port: &str) -> Service {
        let says = ["v=1".to_owned(), format!("n={nameplate}"), format!("p={port}"), "f=abcdefghi".to_owned()];
        let says = says.into_iter().map(String::into_bytes).collect();
        Service { name: name.as_bytes().to_vec(), says, address: Ipv4Addr::LOCALHOST }
    }

    /// The message that says all of it.
    pub fn message(&self) -> Vec<u8> {
        let service = name(&SERVICE);
        let instance = [&label(&self.name)[..], &service].concat();
        let host = name(&[&[b"h-", &self.name[..]].concat()[..], b"local"]);
        let text: Vec<u8> = self.says.iter().flat_map(|text| label(text)).collect();
        let place = [&[0, 0, 0, 0][..], &28_170_u16.to_be_bytes(), &host].concat();
        let records = [
            (service, PTR, IN, instance.clone()),
            (instance.clone(), SRV, IN_ALONE, place),
            (instance, TXT, IN_ALONE, text),
            (host, A, IN_ALONE, self.address.octets().to_vec()),
        ];
        message(&records)
    }
}

/// A label with its length, cut to what the length can say.
fn label(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(255)];
    [&[u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes].concat()
}

fn name(labels: &[&[u8]]) -> Vec<u8> {
    [labels.iter().flat_map(|one| label(one)).collect(), vec![0]].concat()
}

fn header(answers: u16) -> Vec<u8> {
    [0, RESPONSE, 0, answers, 0, 0].iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn message(records: &[Record]) -> Vec<u8> {
    let mut out = header(u16::try_from(records.len()).unwrap_or(u16::MAX));
    for (name, kind, class, data) in records {
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        out.extend([&name[..], &kind.to_be_bytes(), &class.to_be_bytes(), &120_u32.to_be_bytes()].concat());
        out.extend([&length.to_be_bytes(), &data[..]].concat());
    }
    out
}

/// Messages that name so many instances each, of which nothing else is said.
pub fn crowds(messages: usize, names: usize) -> Vec<Vec<u8>> {
    let service = name(&SERVICE);
    // The first name of the message is the service's.
    let pointer = [0xc0, 12];
    let one = |crowd: usize| {
        let instance = |number: usize| [label(format!("{crowd}-{number}").as_bytes()), pointer.to_vec()].concat();
        let first = (service.clone(), PTR, IN, instance(0));
        let others = (1..names).map(|number| (pointer.to_vec(), PTR, IN, instance(number)));
        message(&std::iter::once(first).chain(others).collect::<Vec<_>>())
    };
    (0..messages).map(one).collect()
}

/// Messages whose numbers do not fit what they hold, made of a right one.
pub fn broken(right: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..right.len()).step_by(3).map(|length| right[..length].to_vec()).collect();
    for at in 0..right.len() {
        for value in [0, 0xff, right[at] ^ 0x80, right[at].wrapping_add(1)] {
            let mut changed = right.to_vec();
            changed[at] = value;
            all.push(changed);
        }
    }
    // A name that leads to itself, one that leads beyond the end, and counts of what is not there.
    let service = name(&SERVICE);
    for pointer in [[0xc0, 12], [0xff, 0xff], [0xc0, 0]] {
        all.push(message(&[(pointer.to_vec(), PTR, IN, pointer.to_vec())]));
        all.push(message(&[(service.clone(), PTR, IN, pointer.to_vec())]));
    }
    all.push([header(u16::MAX), right[12..].to_vec()].concat());
    all.push(vec![0xff; 8900]);
    all
}

/// Says messages again and again until it is dropped, and is a member of the group that hears them.
pub struct Announcer {
    is_over: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// In the network of a ground.
    pub fn start(ground: &Ground, messages: Vec<Vec<u8>>) -> Result<Announcer, String> {
        let sockets = ground.network.inside(|| Ok((socket()?, member()?)));
        let (socket, member) = sockets.map_err(|error: io::Error| format!("multicast: {error}"))?;
        let (is_over, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            let mut were_heard = vec![false; messages.len()];
            while !over.load(Ordering::Relaxed) {
                for (message, was_heard) in messages.iter().zip(&mut were_heard) {
                    let is_said = socket.send_to(message, GROUP).is_ok();
                    if is_said && !*was_heard && hears(&member, message) {
                        *was_heard = true;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(AGAIN);
            }
        });
        Ok(Announcer { is_over, heard, thread: Some(thread) })
    }

    /// How many of the messages have come to a member of the group, who joined it as those do who look for a service.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a member hears these words soon. Others speak to the group as well, and their words are passed over.
fn hears(member: &UdpSocket, words: &[u8]) -> bool {
    let (until, mut buffer) = (Instant::now() + HEARD, [0; 1 << 14]);
    while Instant::now() < until {
        match member.recv(&mut buffer) {
            Ok(length) if buffer[..length] == *words => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Somebody who looks for a service, and waits no longer than a word takes.
fn member() -> io::Result<UdpSocket> {
    let member = socket()?;
    member.join_multicast_v4(GROUP.ip(), &Ipv4Addr::LOCALHOST)?;
    member.set_read_timeout(Some(HEARD))?;
    Ok(member)
}

/// At the port of those who answer, on the loopback.
fn socket() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, GROUP.port())).into())?;
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
    socket.set_multicast_loop_v4(true)?;
    Ok(socket.into())
}
