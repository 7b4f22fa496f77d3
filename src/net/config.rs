//! QUIC's settings, all explicit: quinn's own defaults let an unauthenticated peer hold hundreds of megabytes.
//! Numbers live in `limits.rs`. What this file does not do: TLS (`tls.rs`).

use std::sync::Arc;
use std::time::Duration;

use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, ValidationTokenConfig, VarInt,
};

use super::congestion::Factory;
use super::identity::Identity;
use super::tls::{self, Found};
use crate::digest;
use crate::identity::PeerKey;
use crate::limits::{
    IDLE_MS_MAX, INCOMING_MAX, KEEP_ALIVE_MS, MTU_BYTES_MAX, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES,
    UNPROVED_WINDOW_BYTES,
};

const CONNECTION_ID_BYTES: usize = 8;
const CONNECTION_ID_CONTEXT: &str = "landfall connection id v1";

/// Settings of the endpoint on a port: its resets are those of a predecessor there.
pub(super) fn endpoint(identity: &Identity, port: u16, id_key: [u8; 32]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::from(identity.reset_key(port)));
    config.cid_generator(move || Box::new(ConnectionIds { key: id_key, count: 0 }));
    config.max_udp_payload_size(MTU_BYTES_MAX).expect("limits.rs keeps it within what UDP carries");
    config
}

/// Connection ids that look random and never repeat within a process. quinn's own generator would recognise the
/// ids of a predecessor and leave noise unanswered, but it has so few ids that the reset token of each could be
/// asked for beforehand; resets need no recognition, and their rate is limited.
struct ConnectionIds {
    key: [u8; 32],
    count: u64,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.count += 1;
        let material = [&self.key[..], &self.count.to_be_bytes()].concat();
        ConnectionId::new(&digest::derive_key(CONNECTION_ID_CONTEXT, &material)[..CONNECTION_ID_BYTES])
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Settings for connections that come in.
pub(super) fn listener(identity: &Identity) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(tls::listener(identity));
    // The one stream is the control stream, which the dialler opens.
    config.transport_config(Arc::new(transport(1)));
    config.migration(false);
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(UNPROVED_WINDOW_BYTES);
    config.incoming_buffer_size_total(UNPROVED_WINDOW_BYTES * INCOMING_MAX as u64);
    let mut tokens = ValidationTokenConfig::default();
    // Tokens for later connections would save a round trip and let two visits be linked.
    tokens.sent(0);
    config.validation_token_config(tokens);
    config
}

/// Settings for one dial, and where it leaves the key that it found.
pub(super) fn dialler(identity: &Identity, pinned: PeerKey) -> (ClientConfig, Found) {
    let (crypto, found) = tls::dialler(identity, pinned);
    let mut config = ClientConfig::new(crypto);
    config.transport_config(Arc::new(transport(0)));
    (config, found)
}

fn transport(streams_of_peer: u32) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BYTES_MAX);
    let idle = IdleTimeout::try_from(Duration::from_millis(IDLE_MS_MAX)).expect("limits.rs keeps it small");
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_of_peer))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(window(STREAM_WINDOW_BYTES))
        .receive_window(window(UNPROVED_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(Factory));
    config
}

/// A window of `limits.rs` in QUIC's integer.
pub(super) fn window(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).expect("limits.rs keeps windows far below 2^62")
}
