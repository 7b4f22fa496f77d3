//! Links over real sockets on loopback: peers that stall, lie, take room, or vanish.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::net::UdpSocket;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::test_support::{
    PATIENCE, Pair, address_of, dial, dialler, end_of, identity, listener, listener_key, loopback, round_trip,
};
use super::tls::{self, Found, PinnedListener, SERVER_NAME};
use super::{Accept, CloseCode, Endpoint, Limiter, LinkError, NewLink};
use crate::identity::Role;
use crate::limits::{DATA_STREAMS, HELLO_BYTES_MAX, IDLE_MS_MAX, INCOMING_MAX, UNPROVED_WINDOW_BYTES};

fn impatient_listener() -> Endpoint {
    Endpoint::bind_with_deadline(loopback(), identity(1), Accept::Incoming, Duration::from_millis(300)).unwrap()
}

/// First packets of connections that will never be continued.
async fn first_packets(dialler: &Endpoint, count: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind(loopback()).await.unwrap();
    let address = sink.local_addr().unwrap();
    let mut packets = Vec::new();
    let mut buffer = [0; 2048];
    while packets.len() < count {
        let dialling = dialler.dial(std::slice::from_ref(&address), listener_key(), PATIENCE);
        tokio::select! {
            _ = dialling => panic!("a sink answered"),
            received = sink.recv_from(&mut buffer) => packets.push(buffer[..received.unwrap().0].to_vec()),
        }
    }
    packets
}

async fn frame_from(listener: &mut Endpoint, frame: &[u8]) -> NewLink {
    loop {
        let mut new = listener.accept().await.unwrap();
        if new.receiver.recv(HELLO_BYTES_MAX).await.unwrap() == frame {
            return new;
        }
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_after_the_handshake_is_closed_at_the_deadline() {
    let (listener, dialler) = (impatient_listener(), dialler());
    let near = dial(&dialler, &listener).await.unwrap();
    assert_eq!(end_of(&near.link).await, LinkError::Refused(CloseCode::TooSlow));
}

#[tokio::test]
async fn a_peer_that_trickles_its_first_frame_does_not_move_the_deadline() {
    let (listener, dialler) = (impatient_listener(), dialler());
    let mut near = dial(&dialler, &listener).await.unwrap();
    let start = Instant::now();
    let trickle = async {
        // A frame that claims to be long, a byte at a time, faster than any timeout on silence.
        let mut every = tokio::time::interval(Duration::from_millis(10));
        near.sender.send_raw(&8000_u32.to_be_bytes()).await?;
        loop {
            every.tick().await;
            near.sender.send_raw(&[0]).await?;
        }
    };
    let ended: Result<(), LinkError> = tokio::time::timeout(PATIENCE, trickle).await.unwrap();
    assert_eq!(ended.unwrap_err(), LinkError::Refused(CloseCode::TooSlow));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn forged_and_abandoned_handshakes_do_not_keep_an_honest_peer_out() {
    let (mut listener, dialler) = (listener(), dialler());
    let target = address_of(&listener);
    let packets = first_packets(&dialler, 3 * INCOMING_MAX).await;
    let attacker = UdpSocket::bind(loopback()).await.unwrap();
    for packet in &packets {
        attacker.send_to(packet, target).await.unwrap();
    }
    let start = Instant::now();
    let mut near = dial(&dialler, &listener).await.unwrap();
    near.sender.send(b"honest").await.unwrap();
    frame_from(&mut listener, b"honest").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    tokio::time::timeout(PATIENCE, attacker.readable()).await.unwrap().unwrap();
    let (mut answer, mut retries) = ([0; 2048], 0);
    while let Ok(length) = attacker.try_recv(&mut answer) {
        // A long header of type Retry (RFC 9000, section 17.2.5); the fixed bit may be greased.
        retries += usize::from(length > 0 && answer[0] & 0xB0 == 0xB0);
    }
    // A burst beyond the queue of the endpoint is dropped unanswered; all others but the first few are asked.
    assert!(retries > INCOMING_MAX / 2, "only {retries} packets had to show that they receive");
}

#[tokio::test]
async fn strangers_that_hold_all_places_make_room_for_an_honest_peer() {
    let (mut listener, hostile, honest) = (listener(), dialler(), dialler());
    let mut held = Vec::new();
    for _ in 0..INCOMING_MAX + 10 {
        held.push(dial(&hostile, &listener).await.unwrap());
    }
    let start = Instant::now();
    let mut near = dial(&honest, &listener).await.unwrap();
    near.sender.send(b"honest").await.unwrap();
    frame_from(&mut listener, b"honest").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(end_of(&held[0].link).await, LinkError::Refused(CloseCode::Dropped));
    assert_eq!(held.last().unwrap().link.close_reason(), None);
}

#[tokio::test]
async fn strangers_that_nobody_accepts_are_told_so_at_the_deadline() {
    let (listener, dialler) = (impatient_listener(), dialler());
    let mut links = Vec::new();
    for _ in 0..4 {
        let mut near = dial(&dialler, &listener).await.unwrap();
        near.sender.send(b"hello").await.unwrap();
        links.push(near);
    }
    assert_eq!(end_of(&links[3].link).await, LinkError::Refused(CloseCode::Busy));
    drop(listener);
}

#[tokio::test]
async fn a_stranger_gets_no_data_stream_and_one_small_window_until_it_is_proved() {
    let mut pair = Pair::unproved().await;
    let mut opening = JoinSet::new();
    for _ in 0..=DATA_STREAMS {
        let link = pair.near.link.clone();
        opening.spawn(async move { link.open_data(&Limiter::default()).await.unwrap() });
    }
    for _ in 0..10 {
        round_trip(&mut pair.near, &mut pair.far).await;
    }
    assert!(opening.try_join_next().is_none(), "a data stream was opened before the proof");
    pair.far.link.raise_windows(Role::Receiver);
    let mut streams = Vec::new();
    while streams.len() < DATA_STREAMS {
        streams.push(tokio::time::timeout(PATIENCE, opening.join_next()).await.unwrap());
    }
    for _ in 0..10 {
        round_trip(&mut pair.near, &mut pair.far).await;
    }
    assert!(opening.try_join_next().is_none(), "more data streams than agreed");
}

#[tokio::test]
async fn a_stranger_can_have_us_hold_no_more_than_its_window() {
    let mut pair = Pair::unproved().await;
    let flood = vec![0; usize::try_from(8 * UNPROVED_WINDOW_BYTES).unwrap()];
    let before = pair.near.link.stats().sent_bytes;
    let mut send = Box::pin(pair.near.sender.send(&flood));
    let frames_back = async {
        for _ in 0..100 {
            pair.far.sender.send(b"still here").await.unwrap();
            pair.near.receiver.recv(10).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        sent = &mut send => panic!("all was taken though nobody reads: {sent:?}"),
        () = frames_back => {}
    }
    let sent_bytes = pair.near.link.stats().sent_bytes - before;
    assert!(sent_bytes > UNPROVED_WINDOW_BYTES && sent_bytes < 2 * UNPROVED_WINDOW_BYTES, "{sent_bytes}");
    let (sent, received) = tokio::join!(send, pair.far.receiver.recv(flood.len()));
    sent.unwrap();
    assert!(received.unwrap() == flood, "what waited arrives once it is read");
}

#[tokio::test]
async fn a_listener_that_never_replies_is_silent_to_whoever_set_a_limit() {
    let (listener, dialler) = (listener(), dialler());
    let mut near = dial(&dialler, &listener).await.unwrap();
    let error = near.receiver.recv_within(100, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error, LinkError::Silent);
}

#[tokio::test]
async fn a_frame_longer_than_its_kind_may_be_is_misbehaviour_before_it_costs_memory() {
    let mut pair = Pair::proved().await;
    pair.near.sender.send_raw(&u32::MAX.to_be_bytes()).await.unwrap();
    let error = pair.far.receiver.recv_within(1 << 20, PATIENCE).await.unwrap_err();
    assert_eq!(error, LinkError::Misbehaved("a control frame is longer than its kind may be"));

    let (listener, dialler) = (listener(), dialler());
    let mut near = dial(&dialler, &listener).await.unwrap();
    near.sender.send(&vec![0; HELLO_BYTES_MAX + 1]).await.unwrap();
    assert_eq!(end_of(&near.link).await, LinkError::Refused(CloseCode::Misbehaved));
}

#[tokio::test]
async fn a_data_stream_that_ends_inside_is_misbehaviour() {
    let pair = Pair::proved().await;
    for (bytes, message) in [(5, "a data stream ended inside a header"), (12, "a data stream ended inside a body")] {
        let mut stream = pair.near.link.open_data(&Limiter::default()).await.unwrap();
        stream.send(&vec![0; bytes], None).await.unwrap();
        stream.finish();
        let mut stream = pair.far.link.accept_data(&Limiter::default()).await.unwrap();
        let mut header = [0; 8];
        let ended = async {
            stream.read_header(&mut header).await?;
            stream.read_body(100).await
        };
        assert_eq!(ended.await.unwrap_err(), LinkError::Misbehaved(message));
    }
}

fn quinn_client(config: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

#[tokio::test]
async fn a_listener_of_another_protocol_is_told_from_one_that_is_silent() {
    let mut tls = tls::listener_config(&identity(1));
    tls.alpn_protocols = vec![b"landfall/2".to_vec()];
    let server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let other = quinn::Endpoint::server(server, loopback()).unwrap();
    let address = other.local_addr().unwrap();
    let dialler = dialler();
    let dialling = dialler.dial(std::slice::from_ref(&address), listener_key(), PATIENCE);
    let (dialled, answered) = tokio::join!(dialling, async { other.accept().await.unwrap().await });
    assert_eq!(dialled.unwrap_err(), LinkError::OtherVersion);
    assert!(answered.is_err());
}

#[tokio::test]
async fn diallers_of_another_protocol_or_with_a_borrowed_key_are_never_delivered() {
    let mut listener = listener();
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let verifier = || Arc::new(PinnedListener::new(listener_key(), Found::default()));

    let mut other_protocol = tls::dialler_config(&identity(2), verifier());
    other_protocol.alpn_protocols = vec![b"landfall/2".to_vec()];
    let connecting = client.connect_with(quinn_client(other_protocol), address_of(&listener), SERVER_NAME).unwrap();
    assert_eq!(LinkError::from(connecting.await.unwrap_err()), LinkError::OtherVersion);

    // The dialler shows the key of identity 3 and signs with that of identity 2.
    let mut borrowed = tls::dialler_config(&identity(2), verifier());
    let shown = CertificateDer::from(tls::spki(identity(3).public_key()));
    let pair = CertifiedKey::new(vec![shown], tls::certified(&identity(2)).key.clone());
    borrowed.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(pair)));
    let connecting = client.connect_with(quinn_client(borrowed), address_of(&listener), SERVER_NAME).unwrap();
    let connection = connecting.await.unwrap();
    assert!(matches!(LinkError::from(connection.closed().await), LinkError::Transport(_)));

    let dialler = dialler();
    let mut near = dial(&dialler, &listener).await.unwrap();
    near.sender.send(b"honest").await.unwrap();
    assert_eq!(listener.accept().await.unwrap().link.peer_key(), identity(2).public_key());
}

#[tokio::test]
async fn noise_on_the_socket_disturbs_nobody() {
    let mut pair = Pair::unproved().await;
    let target = address_of(&pair.listener);
    let attacker = UdpSocket::bind(loopback()).await.unwrap();
    for length in [0, 1, 7, 20, 21, 40, 1199, 1200, 1452] {
        for first in [0x00, 0x40, 0x7F, 0x80, 0xC0, 0xFF] {
            attacker.send_to(&vec![first; length], target).await.unwrap();
        }
    }
    round_trip(&mut pair.near, &mut pair.far).await;
}

/// Runs a listener in a thread and a runtime of its own until it is told to die, and lets it die as a killed
/// process does: its tasks go first, and with them the socket's hands, so nothing is sent when the handles follow.
fn mortal_listener(address: std::sync::mpsc::Sender<SocketAddr>, killed: oneshot::Receiver<()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let held = runtime.block_on(async {
        let mut listener = listener();
        address.send(address_of(&listener)).unwrap();
        let mut far = listener.accept().await.unwrap();
        far.sender.send(b"welcome").await.unwrap();
        killed.await.unwrap();
        (listener, far)
    });
    drop(runtime);
    drop(held);
}

#[tokio::test]
async fn the_link_to_a_killed_listener_ends_as_soon_as_it_is_started_again() {
    let (address_out, address_in) = std::sync::mpsc::channel();
    let (kill, killed) = oneshot::channel();
    let theirs = std::thread::spawn(|| mortal_listener(address_out, killed));
    let (address, dialler) = (address_in.recv().unwrap(), dialler());
    let mut near = dialler.dial(&[address], listener_key(), PATIENCE).await.unwrap();
    near.sender.send(b"hello").await.unwrap();
    assert_eq!(near.receiver.recv(7).await.unwrap()[..], b"welcome"[..]);
    kill.send(()).unwrap();
    theirs.join().unwrap();

    assert_eq!(near.link.close_reason(), None, "a kill tells nobody");
    let again = Endpoint::bind(address, identity(1), Accept::Incoming).unwrap();
    let start = Instant::now();
    near.sender.send(b"are you there?").await.unwrap();
    assert_eq!(end_of(&near.link).await, LinkError::Reset);
    println!("reset after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(IDLE_MS_MAX / 4), "{:?}", start.elapsed());
    drop(again);
}
