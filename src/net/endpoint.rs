//! The endpoint: one UDP socket, any number of links. Whether it listens is settled when it is bound.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::TokioRuntime;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept::FrontDoor;
use super::error::{BindError, CloseCode, LinkError};
use super::identity::{Identity, random};
use super::link::NewLink;
use super::{addresses, config, dial};
use crate::identity::PeerKey;
use crate::limits::{FAREWELL_MS, FLUSH_MS, HANDSHAKE_MS_MAX, SOCKET_BUFFER_BYTES};

/// Links that wait for the driver beyond those that still hold a stranger's place: as good as none, so that a
/// driver without time is seen at the front door.
const READY_LINKS: usize = 1;

/// Whether strangers may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Links come in through [`Endpoint::accept`].
    Incoming,
    /// This endpoint only dials.
    Nothing,
}

/// One UDP socket with all its links. Must be made inside a tokio runtime.
pub struct Endpoint {
    quinn: quinn::Endpoint,
    identity: Arc<Identity>,
    address: SocketAddr,
    ready: mpsc::Receiver<NewLink>,
    /// Owns the front door's task, so that it ends with the endpoint.
    _front_door: JoinSet<()>,
}

impl Endpoint {
    /// Binds a socket to exactly that address; port 0 takes any that is free. An IPv6 wildcard takes IPv4 too.
    pub fn bind(address: SocketAddr, identity: Arc<Identity>, accept: Accept) -> Result<Endpoint, BindError> {
        Endpoint::bind_with_deadline(address, identity, accept, Duration::from_millis(HANDSHAKE_MS_MAX))
    }

    /// Binds a socket to that port on all addresses of the machine, IPv6 and IPv4, or IPv4 alone where there is no
    /// IPv6.
    pub fn bind_everywhere(port: u16, identity: Arc<Identity>, accept: Accept) -> Result<Endpoint, BindError> {
        let (v6, v4) =
            (SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        match Endpoint::bind(v6, identity.clone(), accept) {
            Err(BindError::Io { .. }) => Endpoint::bind(v4, identity, accept),
            other => other,
        }
    }

    /// [`Endpoint::bind`] with another deadline for strangers.
    pub(super) fn bind_with_deadline(
        address: SocketAddr,
        identity: Arc<Identity>,
        accept: Accept,
        deadline: Duration,
    ) -> Result<Endpoint, BindError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Io { address, source },
        };
        let socket = bind_socket(address).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let server = match accept {
            Accept::Incoming => Some(config::listener(&identity)),
            Accept::Nothing => None,
        };
        let id_key = random().map_err(|error| failed(io::Error::other(error)))?;
        let settings = config::endpoint(&identity, bound.port(), id_key);
        let quinn = quinn::Endpoint::new(settings, server, socket, Arc::new(TokioRuntime)).map_err(failed)?;
        let (links, ready) = mpsc::channel(READY_LINKS);
        let mut front_door = JoinSet::new();
        if accept == Accept::Incoming {
            front_door.spawn(FrontDoor::new(quinn.clone(), deadline, links).run());
        }
        Ok(Endpoint { quinn, identity, address: bound, ready, _front_door: front_door })
    }

    /// The address and port to which the socket is bound.
    pub fn bound(&self) -> SocketAddr {
        self.address
    }

    /// The port that the socket has.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where this endpoint can be reached, best first: for the ticket. Loopback comes last.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        addresses::reachable(self.address)
    }

    /// Dials the addresses of one peer, each a little after the one before it, for at most `patience`, and returns
    /// the first link whose peer holds the pinned key. The peer has not judged *our* key yet: we are connected when
    /// its first frame arrives.
    pub async fn dial(
        &self,
        addresses: &[SocketAddr],
        pinned: PeerKey,
        patience: Duration,
    ) -> Result<NewLink, LinkError> {
        dial::dial(&self.quinn, &self.identity, addresses, pinned, patience).await
    }

    /// The next link whose handshake is done and whose first frame is there; its peer is anybody until the driver
    /// has judged that frame. `None` once the endpoint is closed, its socket has failed, or it accepts nothing.
    /// May be cancelled.
    pub async fn accept(&mut self) -> Option<NewLink> {
        self.ready.recv().await
    }

    /// Closes all links with that code, and takes no more.
    pub fn close(&self, code: CloseCode) {
        self.quinn.close(code.to_varint(), code.reason());
    }

    /// Waits until the peers of all closed links have had time to hear of it: a few round trips, never long. To be
    /// called before the process ends, or they find out by their idle timeout.
    pub async fn wait_idle(&self) {
        // QUIC waits for three probe timeouts, which are many seconds where a slow link has filled its queues.
        drop(timeout(Duration::from_millis(FAREWELL_MS), self.quinn.wait_idle()).await);
    }

    /// Waits until the word that a closed link leaves behind is on its way. Enough where the peer does not depend on it.
    pub async fn flush(&self) {
        drop(timeout(Duration::from_millis(FLUSH_MS), self.quinn.wait_idle()).await);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, {:?})", self.address, self.identity)
    }
}

/// A socket of our own: no address is shared with another process, so that a ticket's port means one listener.
fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // The system gives less than what is asked for where an administrator has set a limit; both calls then succeed.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    // Linux tells twice what it gave, for its own bookkeeping (socket(7)).
    let (receive, send) = (socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2);
    tracing::info!("socket buffers: {receive} bytes to receive, {send} to send");
    for (got, limit) in [(receive, "rmem_max"), (send, "wmem_max")] {
        if got < SOCKET_BUFFER_BYTES {
            tracing::info!("more would lose fewer packets: `sysctl -w net.core.{limit}={SOCKET_BUFFER_BYTES}`");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
