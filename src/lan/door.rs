//! The listener's side: an announcement, a TCP socket, and one code at a time. Callers are heard side by side up to their
//! first frame, and one after the other from there, so that a code that was guessed wrong is gone before the next guess.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tracing::debug;

use super::announce::{AnnounceError, Announcement, Place, one_address};
use super::code::Code;
use super::exchange::{Answered, Fault};
use super::frames;
use crate::identity::PeerKey;
use crate::limits::{LAN_ACCEPT_DELAY_MS, LAN_ATTEMPTS_MAX, LAN_INCOMING_MAX};

/// Connections that the kernel keeps for a door that is busy.
const BACKLOG: i32 = 16;

/// What happened at a door.
#[derive(Debug)]
pub enum Visit {
    /// Somebody who knew the code has the ticket now.
    Given(SocketAddr),
    /// Somebody typed a wrong code, which is burnt. `None` in the place of a new one: there were too many.
    Wrong(SocketAddr, Option<String>),
    /// The new code could not be announced.
    Unannounced(AnnounceError),
}

/// A listener that gives its ticket to whoever knows the code. Closed when it is dropped.
pub struct Door {
    socket: TcpListener,
    announcement: Announcement,
    inside: Arc<Inside>,
    callers: JoinSet<io::Result<Option<Guess>>>,
    text: String,
}

/// What the callers' tasks share.
struct Inside {
    key: PeerKey,
    ticket: String,
    /// Held from the answer to a first frame to the end of that exchange.
    shown: Mutex<Shown>,
}

struct Shown {
    /// `None` once there were too many wrong ones.
    code: Option<Code>,
    guesses: u32,
}

/// What a caller has shown.
struct Guess {
    address: SocketAddr,
    /// The code that takes the place of the one that was guessed wrong, if it was wrong.
    wrong: Option<Option<Code>>,
}

impl Door {
    /// Opens a door beside a listener that is bound to `bound`, at the same port if TCP has it free, and announces it. Needs a
    /// tokio runtime.
    pub fn open(bound: SocketAddr, key: PeerKey, ticket: String) -> Result<Door, AnnounceError> {
        let failed = |error: &dyn fmt::Display| AnnounceError(error.to_string());
        let socket = listen(bound).map_err(|error| failed(&error))?;
        let tcp_port = socket.local_addr().map_err(|error| failed(&error))?.port();
        let place = Place { bound: one_address(bound), udp_port: bound.port(), tcp_port, key };
        let mut announcement = Announcement::new(place)?;
        let code = Code::random().map_err(|error| failed(&error))?;
        announcement.show(code.nameplate())?;
        let shown = Mutex::new(Shown { code: Some(code), guesses: 0 });
        let inside = Arc::new(Inside { key, ticket, shown });
        Ok(Door { socket, announcement, inside, callers: JoinSet::new(), text: code.text() })
    }

    /// The code that is to be shown now.
    pub fn code(&self) -> &str {
        &self.text
    }

    /// What happens next. May be cancelled.
    pub async fn next(&mut self) -> Visit {
        loop {
            tokio::select! {
                Some(done) = self.callers.join_next() => {
                    let done = done.unwrap_or_else(|error| match error.is_panic() {
                        true => resume_unwind(error.into_panic()),
                        false => Ok(None),
                    });
                    match done {
                        Ok(Some(guess)) => return self.judge(guess),
                        Ok(None) => {}
                        Err(error) => debug!(%error, "a caller left"),
                    }
                }
                accepted = self.socket.accept(), if self.callers.len() < LAN_INCOMING_MAX => match accepted {
                    Ok((stream, address)) => {
                        let inside = Arc::clone(&self.inside);
                        self.callers.spawn(async move { inside.hear(stream, address).await });
                    }
                    // Out of descriptors, or the caller is gone: the next one may be heard.
                    Err(error) => {
                        debug!(%error, "no caller");
                        tokio::time::sleep(Duration::from_millis(LAN_ACCEPT_DELAY_MS)).await;
                    }
                },
            }
        }
    }

    fn judge(&mut self, guess: Guess) -> Visit {
        let address = SocketAddr::new(guess.address.ip().to_canonical(), guess.address.port());
        match guess.wrong {
            None => Visit::Given(address),
            Some(None) => Visit::Wrong(address, None),
            Some(Some(code)) => {
                self.text = code.text();
                match self.announcement.show(code.nameplate()) {
                    Ok(()) => Visit::Wrong(address, Some(self.text.clone())),
                    Err(error) => Visit::Unannounced(error),
                }
            }
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl Inside {
    /// One caller from its first frame to its last. `None` if it has guessed nothing.
    async fn hear(&self, mut stream: TcpStream, address: SocketAddr) -> io::Result<Option<Guess>> {
        let first = frames::read(&mut stream).await?;
        let mut shown = self.shown.lock().await;
        let Some(code) = shown.code else { return Ok(None) };
        let (answered, second) = match Answered::to(&code, self.key, &first) {
            Ok(answered) => answered,
            Err(fault) => {
                debug!(%address, %fault, "no exchange");
                return Ok(None);
            }
        };
        frames::write(&mut stream, &second).await?;
        let confirmation = frames::read(&mut stream).await?;
        match answered.confirmed(&confirmation, self.ticket.as_bytes()) {
            Ok(grant) => {
                frames::write(&mut stream, &grant).await?;
                Ok(Some(Guess { address, wrong: None }))
            }
            Err(Fault::WrongCode | Fault::Malformed | Fault::Version(_) | Fault::OtherCode) => {
                shown.guesses += 1;
                // Without randomness there is no further code either.
                let may_go_on = shown.guesses < LAN_ATTEMPTS_MAX;
                shown.code = may_go_on.then(Code::random).and_then(Result::ok);
                Ok(Some(Guess { address, wrong: Some(shown.code) }))
            }
        }
    }
}

/// A socket on the same addresses as the listener's.
fn listen(bound: SocketAddr) -> io::Result<TcpListener> {
    let anywhere = bound.ip().is_unspecified();
    let alternatives = match bound.ip() {
        IpAddr::V6(ip) if anywhere => [ip.into(), IpAddr::from(Ipv4Addr::UNSPECIFIED)],
        ip => [ip, ip],
    };
    let ports = [bound.port(), 0];
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (ip, port) in ports.into_iter().flat_map(|port| alternatives.map(|ip| (ip, port))) {
        match bind(SocketAddr::new(ip, port)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A process that was started again takes the port of its predecessor, whose connections are not forgotten yet.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
