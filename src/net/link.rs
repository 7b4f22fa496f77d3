//! A link: one QUIC connection to a peer whose key is known. It starts unproved, with windows too small to hurt,
//! and is raised by the driver once the peer has shown what it may do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Side, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::config::window;
use super::congestion;
use super::control::{ControlReceiver, ControlSender};
use super::data::{DataReceiver, DataSender};
use super::error::{CloseCode, LinkError};
use super::limiter::Limiter;
use super::tls::peer_key;
use crate::identity::{Meeting, PeerKey, Role};
use crate::limits::{CONTROL_WINDOW_BYTES, DATA_STREAMS, FLUSH_MS, IDLE_MS_MAX, LINK_WINDOW_BYTES, UNANSWERED_LOOK_MS};

const EXPORTER_LABEL: &[u8] = b"EXPORTER-landfall-v1";

/// A link with its control stream.
#[derive(Debug)]
pub struct NewLink {
    /// The link.
    pub link: Link,
    /// The outgoing half of its control stream.
    pub sender: ControlSender,
    /// The incoming half. On the listener's side the first frame has already arrived.
    pub receiver: ControlReceiver,
}

/// One QUIC connection. Clones are handles to the same; when the last one and all its streams are gone, the peer
/// hears [`CloseCode::Dropped`].
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    peer: PeerKey,
    exporter: [u8; 32],
}

/// What QUIC measures on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// Current estimate of the round-trip time.
    pub round_trip: Duration,
    /// Bytes of a UDP datagram on this path, as discovered so far.
    pub mtu_bytes: u16,
    /// Bytes that may be on their way at once.
    pub congestion_window_bytes: u64,
    /// Bytes of UDP payload sent, with everything that QUIC adds.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets of these that were declared lost.
    pub lost_packets: u64,
    /// Bytes sent of which nothing is known yet.
    pub in_flight_bytes: u64,
    /// Bytes sent that were acknowledged on this path.
    pub acknowledged_bytes: u64,
}

impl Link {
    pub(super) fn new(connection: Connection) -> Result<Link, LinkError> {
        let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer = identity.as_ref().and_then(|certs| certs.first()).and_then(peer_key);
        let peer = peer.ok_or(LinkError::Misbehaved("it showed no key"))?;
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
            .map_err(|_| LinkError::Misbehaved("its TLS has no keying material"))?;
        Ok(Link(Arc::new(Inner { connection, peer, exporter })))
    }

    /// Opens the control stream. The listener hears of it with the first frame.
    pub(super) async fn open_control(self) -> Result<NewLink, LinkError> {
        let (send, recv) = self.0.connection.open_bi().await?;
        Ok(NewLink { link: self, sender: ControlSender::new(send), receiver: ControlReceiver::new(recv) })
    }

    /// Waits for the dialler's control stream.
    pub(super) async fn accept_control(&self) -> Result<NewLink, LinkError> {
        let (send, recv) = self.0.connection.accept_bi().await?;
        Ok(NewLink { link: self.clone(), sender: ControlSender::new(send), receiver: ControlReceiver::new(recv) })
    }

    /// The key that the peer has proved to hold.
    pub fn peer_key(&self) -> PeerKey {
        self.0.peer
    }

    /// Where the peer is.
    pub fn remote_addr(&self) -> SocketAddr {
        let address = self.0.connection.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// Keying material that both ends of this link share, and nobody between them.
    pub fn exporter(&self) -> [u8; 32] {
        self.0.exporter
    }

    /// What a proof on this link is bound to, the same on both ends: `us` is this side's key, `ours` its role.
    pub fn meeting(&self, us: PeerKey, ours: Role) -> Meeting {
        let (exporter, peer) = (self.0.exporter, self.0.peer);
        match self.0.connection.side() {
            Side::Client => Meeting { exporter, listener: peer, dialler: us, dialler_role: ours },
            Side::Server => Meeting { exporter, listener: us, dialler: peer, dialler_role: ours.other() },
        }
    }

    /// Gives an authenticated peer the room that its role needs: `ours` is the role of this side. A receiver takes
    /// data streams; a sender takes none, and needs room for control only.
    pub fn raise_windows(&self, ours: Role) {
        let connection = &self.0.connection;
        match ours {
            Role::Receiver => {
                let streams = u32::try_from(DATA_STREAMS).expect("limits.rs keeps it small");
                connection.set_receive_window(window(LINK_WINDOW_BYTES));
                connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams));
            }
            Role::Sender => connection.set_receive_window(window(CONTROL_WINDOW_BYTES)),
        }
    }

    /// Opens a data stream below a limit; waits until the receiver allows it.
    pub async fn open_data(&self, limiter: &Limiter) -> Result<DataSender, LinkError> {
        Ok(DataSender::new(self.0.connection.open_uni().await?, limiter.clone()))
    }

    /// Waits for a data stream that the sender opens, to be read below a limit. May be cancelled.
    pub async fn accept_data(&self, limiter: &Limiter) -> Result<DataReceiver, LinkError> {
        let stream = self.0.connection.accept_uni().await?;
        Ok(DataReceiver::new(stream, limiter.clone()))
    }

    /// Closes the link at once: what is not yet delivered is lost (see [`ControlSender::finish`]), operations on
    /// this side fail with [`LinkError::ClosedHere`], the peer hears the code. A second close changes nothing.
    pub fn close(&self, code: CloseCode) {
        self.0.connection.close(code.to_varint(), code.reason());
    }

    /// Closes the link and waits until the packet that says so is on its way. Enough where the peer has heard the last
    /// word: it does not depend on this one.
    pub async fn close_now(&self, code: CloseCode) {
        let before = self.0.connection.stats().udp_tx.datagrams;
        self.close(code);
        let is_sent = async {
            while self.0.connection.stats().udp_tx.datagrams == before {
                sleep(Duration::from_millis(1)).await;
            }
        };
        drop(timeout(Duration::from_millis(FLUSH_MS), is_sent).await);
    }

    /// Waits until the link is gone and says why. May be cancelled.
    pub async fn closed(&self) -> LinkError {
        self.0.connection.closed().await.into()
    }

    /// Why the link is gone, if it is.
    pub fn close_reason(&self) -> Option<LinkError> {
        self.0.connection.close_reason().map(LinkError::from)
    }

    /// Waits until nothing that this side sent was acknowledged for a whole idle timeout. The peer may be heard all the
    /// while: then only the way to it is dead, and QUIC would wait for a further timeout after the peer's. May be
    /// cancelled.
    pub async fn unanswered(&self) -> LinkError {
        let mut unanswered = Unanswered::default();
        loop {
            sleep(Duration::from_millis(UNANSWERED_LOOK_MS)).await;
            let LinkStats { in_flight_bytes, acknowledged_bytes, .. } = self.stats();
            if unanswered.is_over(Instant::now(), in_flight_bytes, acknowledged_bytes) {
                return LinkError::Silent;
            }
        }
    }

    /// What QUIC measures, now.
    pub fn stats(&self) -> LinkStats {
        self.0.stats()
    }
}

/// Since when what was sent waits for an acknowledgement.
#[derive(Debug, Default)]
struct Unanswered {
    acknowledged_bytes: u64,
    since: Option<Instant>,
}

impl Unanswered {
    /// Looks at how much is on its way, and how much was acknowledged by now. That acknowledgements come says nothing:
    /// QUIC repeats the last one with whatever the peer sends.
    fn is_over(&mut self, now: Instant, in_flight_bytes: u64, acknowledged_bytes: u64) -> bool {
        if acknowledged_bytes != self.acknowledged_bytes || in_flight_bytes == 0 {
            *self = Unanswered { acknowledged_bytes, since: None };
        } else {
            self.since.get_or_insert(now);
        }
        self.since.is_some_and(|since| now - since >= Duration::from_millis(IDLE_MS_MAX))
    }
}

impl Inner {
    fn stats(&self) -> LinkStats {
        let stats = self.connection.stats();
        let path = stats.path;
        let controller = self.connection.congestion_state();
        let (in_flight_bytes, acknowledged_bytes) = congestion::on_their_way_and_acknowledged(controller);
        LinkStats {
            round_trip: path.rtt,
            mtu_bytes: path.current_mtu,
            congestion_window_bytes: path.cwnd,
            sent_bytes: stats.udp_tx.bytes,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            in_flight_bytes,
            acknowledged_bytes,
        }
    }
}

/// The log gets what was measured: a slow or lossy network is told apart from a slow peer afterwards.
impl Drop for Inner {
    fn drop(&mut self) {
        let stats = self.stats();
        debug!(
            round_trip = ?stats.round_trip,
            mtu_bytes = stats.mtu_bytes,
            sent_bytes = stats.sent_bytes,
            sent_packets = stats.sent_packets,
            lost_packets = stats.lost_packets,
            "the link is over"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_unanswered_for_an_idle_timeout_is_over_and_nothing_else() {
        let (mut unanswered, start) = (Unanswered::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!unanswered.is_over(at(0), 0, 0));
        assert!(!unanswered.is_over(at(60_000), 0, 0), "nothing is on its way");
        assert!(!unanswered.is_over(at(61_000), 10, 0), "just sent");
        assert!(!unanswered.is_over(at(80_999), 20, 0), "sent again and again, not for so long");
        assert!(!unanswered.is_over(at(81_500), 21, 6), "answered at last");
        assert!(!unanswered.is_over(at(90_000), 22, 6));
        assert!(!unanswered.is_over(at(100_000), 0, 6), "the rest is known to be lost");
        assert!(!unanswered.is_over(at(110_000), 22, 6));
        assert!(!unanswered.is_over(at(110_000 + IDLE_MS_MAX - 1), 22, 6));
        assert!(unanswered.is_over(at(110_000 + IDLE_MS_MAX), 22, 6));
    }
}
