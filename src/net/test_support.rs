//! What the tests of this floor share: identities, endpoints on loopback, pairs of links.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Accept, Endpoint, Identity, Link, LinkError, NewLink};
use crate::identity::{PeerKey, Role};
use crate::limits::FRAME_BYTES_MAX;

/// Longer than anything here takes on a machine that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed([seed; 32]))
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) fn listener() -> Endpoint {
    Endpoint::bind(loopback(), identity(1), Accept::Incoming).unwrap()
}

pub(super) fn listener_key() -> PeerKey {
    identity(1).public_key()
}

pub(super) fn dialler() -> Endpoint {
    Endpoint::bind(loopback(), identity(2), Accept::Nothing).unwrap()
}

pub(super) fn address_of(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], endpoint.port()))
}

pub(super) async fn dial(dialler: &Endpoint, listener: &Endpoint) -> Result<NewLink, LinkError> {
    dialler.dial(&[address_of(listener)], listener_key(), PATIENCE).await
}

/// Two endpoints and a link between them, after one frame in each direction.
pub(super) struct Pair {
    pub(super) listener: Endpoint,
    pub(super) dialler: Endpoint,
    pub(super) near: NewLink,
    pub(super) far: NewLink,
}

impl Pair {
    /// `near` is the dialler's end, `far` the listener's; windows are as small as for strangers.
    pub(super) async fn unproved() -> Pair {
        Pair::between(listener(), dialler()).await
    }

    pub(super) async fn between(mut listener: Endpoint, dialler: Endpoint) -> Pair {
        let mut near = dial(&dialler, &listener).await.unwrap();
        near.sender.send(b"hello").await.unwrap();
        let mut far = listener.accept().await.unwrap();
        assert_eq!(&far.receiver.recv(5).await.unwrap()[..], b"hello");
        far.sender.send(b"welcome").await.unwrap();
        assert_eq!(&near.receiver.recv(7).await.unwrap()[..], b"welcome");
        Pair { listener, dialler, near, far }
    }

    /// The dialler sends, the listener receives, and both have the room for it.
    pub(super) async fn proved() -> Pair {
        let pair = Pair::unproved().await;
        pair.near.link.raise_windows(Role::Sender);
        pair.far.link.raise_windows(Role::Receiver);
        pair
    }
}

/// One frame there and one back: what was sent before is then known to have been handled.
pub(super) async fn round_trip(near: &mut NewLink, far: &mut NewLink) {
    near.sender.send(b"ping").await.unwrap();
    assert_eq!(&far.receiver.recv_within(FRAME_BYTES_MAX, PATIENCE).await.unwrap()[..], b"ping");
    far.sender.send(b"pong").await.unwrap();
    assert_eq!(&near.receiver.recv_within(FRAME_BYTES_MAX, PATIENCE).await.unwrap()[..], b"pong");
}

/// Waits for the end of a link.
pub(super) async fn end_of(link: &Link) -> LinkError {
    tokio::time::timeout(PATIENCE, link.closed()).await.unwrap()
}
