//! Links over real sockets on loopback: what honest peers do.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::test_support::{
    PATIENCE, Pair, address_of, dial, dialler, end_of, identity, listener, listener_key, loopback, round_trip,
};
use super::{
    Accept, BindError, CloseCode, DataReceiver, DataSender, Endpoint, Limiter, Link, LinkError, Next, random_secret,
};
use crate::identity::Role;
use crate::limits::{CHUNK_BYTES, DATA_STREAMS, FRAME_BYTES_MAX, MTU_BYTES_MAX, STREAM_WINDOW_BYTES};

const HEADER_BYTES: usize = 8;

async fn send_chunks(link: Link, chunk: Bytes, count: u64, sent: Arc<AtomicU64>) {
    let mut stream: DataSender = link.open_data(&Limiter::default()).await.unwrap();
    for index in 0..count {
        stream.send(&index.to_be_bytes(), Some(chunk.clone())).await.unwrap();
        sent.fetch_add(1, Ordering::Relaxed);
    }
    stream.finish();
}

async fn receive_chunks(mut stream: DataReceiver, chunk: Bytes) -> u64 {
    let mut index = 0_u64;
    let mut header = [0; HEADER_BYTES];
    while stream.read_header(&mut header).await.unwrap() == Next::Header {
        assert_eq!(u64::from_be_bytes(header), index);
        assert!(stream.read_body(chunk.len()).await.unwrap() == chunk);
        index += 1;
    }
    index
}

fn sample_chunk() -> Bytes {
    (0..CHUNK_BYTES).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

async fn send_over_all_streams(link: &Link, chunk_count: u64) {
    let mut senders = JoinSet::new();
    for _ in 0..DATA_STREAMS {
        let count = chunk_count / DATA_STREAMS as u64;
        senders.spawn(send_chunks(link.clone(), sample_chunk(), count, Arc::default()));
    }
    senders.join_all().await;
}

async fn receive_over_all_streams(link: &Link) -> u64 {
    let mut receivers = JoinSet::new();
    for _ in 0..DATA_STREAMS {
        receivers.spawn(receive_chunks(link.accept_data(&Limiter::default()).await.unwrap(), sample_chunk()));
    }
    receivers.join_all().await.into_iter().sum()
}

/// Megabytes per second.
#[allow(clippy::cast_precision_loss)]
fn rate(chunk_count: u64, elapsed: Duration) -> f64 {
    (chunk_count * u64::from(CHUNK_BYTES)) as f64 / elapsed.as_secs_f64() / 1e6
}

#[tokio::test]
async fn frames_of_every_length_arrive_in_order_both_ways() {
    let Pair { near, far, listener: _listener, dialler: _dialler } = &mut Pair::proved().await;
    for length in [0, 1, 4, 1000, 65_536, FRAME_BYTES_MAX] {
        let frame = vec![7; length];
        near.sender.send(&frame).await.unwrap();
        far.sender.send(&frame).await.unwrap();
        assert!(far.receiver.recv(FRAME_BYTES_MAX).await.unwrap() == frame);
        assert!(near.receiver.recv(FRAME_BYTES_MAX).await.unwrap() == frame);
    }
}

#[tokio::test]
async fn both_ends_agree_about_who_meets_whom() {
    let pair = Pair::unproved().await;
    assert_eq!(pair.near.link.peer_key(), identity(1).public_key());
    assert_eq!(pair.far.link.peer_key(), identity(2).public_key());
    assert_eq!(pair.near.link.exporter(), pair.far.link.exporter());
    assert_eq!(pair.near.link.remote_addr(), address_of(&pair.listener));
    assert_eq!(pair.far.link.remote_addr(), address_of(&pair.dialler));
    let near = pair.near.link.meeting(identity(2).public_key(), Role::Sender);
    let far = pair.far.link.meeting(identity(1).public_key(), Role::Receiver);
    let secret = random_secret().unwrap();
    assert!(secret.proof(&near) == secret.proof(&far));
    assert_eq!((near.listener, near.dialler_role), (identity(1).public_key(), Role::Sender));
    let other = Pair::unproved().await;
    assert_ne!(pair.near.link.exporter(), other.near.link.exporter());
}

#[tokio::test]
async fn a_hundred_mebibytes_arrive_over_two_data_streams_at_the_widest_packets() {
    let everywhere = |seed, accept| Endpoint::bind_everywhere(0, identity(seed), accept).unwrap();
    let dual = Pair::between(everywhere(1, Accept::Incoming), everywhere(2, Accept::Nothing)).await;
    for (name, pair) in [("IPv4", Pair::unproved().await), ("dual", dual)] {
        pair.near.link.raise_windows(Role::Sender);
        pair.far.link.raise_windows(Role::Receiver);
        let start = Instant::now();
        let ((), received) =
            tokio::join!(send_over_all_streams(&pair.near.link, 100), receive_over_all_streams(&pair.far.link));
        assert_eq!(received, 100);
        let stats = pair.near.link.stats();
        println!("100 MiB, {name} sockets, one thread: {:.0} MB/s, {stats:?}", rate(100, start.elapsed()));
        assert_eq!(stats.mtu_bytes, MTU_BYTES_MAX);
    }
}

#[tokio::test]
#[ignore = "a measurement, for release builds"]
async fn throughput_on_loopback() {
    for _ in 0..5 {
        let (address_out, address_in) = std::sync::mpsc::channel();
        let theirs = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut listener = listener();
                address_out.send(address_of(&listener)).unwrap();
                let mut far = listener.accept().await.unwrap();
                far.link.raise_windows(Role::Receiver);
                let received = receive_over_all_streams(&far.link).await;
                far.sender.send(b"done").await.unwrap();
                end_of(&far.link).await;
                received
            })
        });
        let dialler = dialler();
        let address = address_in.recv().unwrap();
        let mut near = dialler.dial(&[address], listener_key(), PATIENCE).await.unwrap();
        near.sender.send(b"hello").await.unwrap();
        let start = Instant::now();
        send_over_all_streams(&near.link, 1024).await;
        assert_eq!(near.receiver.recv(4).await.unwrap()[..], b"done"[..]);
        println!("1 GiB, a thread for each end: {:.0} MB/s, {:?}", rate(1024, start.elapsed()), near.link.stats());
        near.link.close(CloseCode::Finished);
        dialler.wait_idle().await;
        assert_eq!(theirs.join().unwrap(), 1024);
    }
}

#[tokio::test]
async fn control_moves_while_data_streams_are_full_and_nobody_reads_them() {
    let mut pair = Pair::proved().await;
    let (chunk, sent) = (sample_chunk(), Arc::new(AtomicU64::new(0)));
    let stream_chunks = STREAM_WINDOW_BYTES / u64::from(CHUNK_BYTES);
    let mut senders = JoinSet::new();
    for _ in 0..DATA_STREAMS {
        senders.spawn(send_chunks(pair.near.link.clone(), chunk.clone(), 3 * stream_chunks, sent.clone()));
    }
    // The last chunk of a window finds no room for the end of its body: every window that data can fill is full.
    while sent.load(Ordering::Relaxed) < (stream_chunks - 1) * DATA_STREAMS as u64 {
        round_trip(&mut pair.near, &mut pair.far).await;
    }
    for _ in 0..100 {
        round_trip(&mut pair.near, &mut pair.far).await;
    }
    let mut receivers = JoinSet::new();
    for _ in 0..DATA_STREAMS {
        receivers.spawn(receive_chunks(pair.far.link.accept_data(&Limiter::default()).await.unwrap(), chunk.clone()));
    }
    assert_eq!(receivers.join_all().await, vec![3 * stream_chunks; DATA_STREAMS]);
    senders.join_all().await;
}

#[tokio::test]
async fn a_cancelled_recv_or_send_loses_nothing() {
    let mut pair = Pair::proved().await;
    let frame = vec![9; FRAME_BYTES_MAX];
    for _ in 0..50 {
        // Polled once and dropped: the whole frame is queued, whatever part of it has left.
        let mut send = Box::pin(pair.near.sender.send(&frame));
        std::future::poll_fn(|context| Poll::Ready(send.as_mut().poll(context).is_ready())).await;
    }
    pair.near.sender.flush().await.unwrap();
    for _ in 0..50 {
        let received = loop {
            let mut recv = Box::pin(pair.far.receiver.recv(FRAME_BYTES_MAX));
            let polled = std::future::poll_fn(|context| Poll::Ready(recv.as_mut().poll(context))).await;
            if let Poll::Ready(received) = polled {
                break received.unwrap();
            }
            drop(recv);
            tokio::task::yield_now().await;
        };
        assert!(received == frame);
    }
}

#[tokio::test]
async fn the_last_frames_arrive_when_their_stream_is_finished_before_the_close() {
    let mut pair = Pair::proved().await;
    let frame = vec![3; FRAME_BYTES_MAX];
    let finish = async {
        for _ in 0..100 {
            pair.near.sender.send(&frame).await.unwrap();
        }
        pair.near.sender.finish().await.unwrap();
    };
    let receive = async {
        for _ in 0..100 {
            assert!(pair.far.receiver.recv(FRAME_BYTES_MAX).await.unwrap() == frame);
        }
        pair.far.receiver.recv(FRAME_BYTES_MAX).await.unwrap_err()
    };
    let ((), after) = tokio::join!(finish, receive);
    assert_eq!(after, LinkError::Ended);
    pair.near.link.close(CloseCode::Finished);
    assert_eq!(end_of(&pair.far.link).await, LinkError::Refused(CloseCode::Finished));
    assert_eq!(end_of(&pair.near.link).await, LinkError::ClosedHere);
    assert_eq!(pair.far.link.close_reason(), Some(LinkError::Refused(CloseCode::Finished)));
    tokio::time::timeout(PATIENCE, pair.dialler.wait_idle()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_reaches_the_dialler_with_the_key_it_names() {
    let mut pair = Pair::unproved().await;
    let refused = CloseCode::Taken(Some(identity(7).public_key()));
    pair.far.link.close(refused);
    assert_eq!(pair.near.receiver.recv(100).await.unwrap_err(), LinkError::Refused(refused));
    tokio::time::timeout(PATIENCE, pair.listener.wait_idle()).await.unwrap();
}

#[tokio::test]
async fn closing_the_endpoint_ends_its_links_and_its_accept() {
    let mut pair = Pair::unproved().await;
    pair.listener.close(CloseCode::Interrupted);
    assert_eq!(end_of(&pair.near.link).await, LinkError::Refused(CloseCode::Interrupted));
    assert!(pair.listener.accept().await.is_none());
    assert!(pair.dialler.accept().await.is_none(), "an endpoint that only dials accepts nothing");
}

#[tokio::test]
async fn letting_go_of_a_link_tells_the_peer() {
    let pair = Pair::unproved().await;
    drop(pair.near);
    assert_eq!(end_of(&pair.far.link).await, LinkError::Refused(CloseCode::Dropped));
}

#[tokio::test]
async fn a_wrong_key_is_named() {
    let (listener, dialler) = (listener(), dialler());
    let (expected, found) = (identity(9).public_key(), listener_key());
    let error = dialler.dial(&[address_of(&listener)], expected, PATIENCE).await.unwrap_err();
    assert_eq!(error, LinkError::WrongKey { expected, found });
}

#[tokio::test]
async fn one_good_address_among_dead_and_wrong_ones_is_enough() {
    let (mut listener, dialler) = (listener(), dialler());
    let dead = UdpSocket::bind(loopback()).await.unwrap();
    let wrong = Endpoint::bind(loopback(), identity(9), Accept::Incoming).unwrap();
    let addresses = [dead.local_addr().unwrap(), "[::1]:9".parse().unwrap(), address_of(&wrong), address_of(&listener)];
    let mut near = dialler.dial(&addresses, listener_key(), PATIENCE).await.unwrap();
    assert_eq!(near.link.remote_addr(), address_of(&listener));
    near.sender.send(b"hello").await.unwrap();
    assert_eq!(listener.accept().await.unwrap().link.peer_key(), identity(2).public_key());

    let error = dialler.dial(&addresses[..3], listener_key(), Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error, LinkError::WrongKey { expected: listener_key(), found: identity(9).public_key() });
}

#[tokio::test]
async fn silence_and_no_address_at_all_are_unreachable() {
    let dialler = dialler();
    let dead = UdpSocket::bind(loopback()).await.unwrap();
    let addresses = vec![dead.local_addr().unwrap()];
    let error = dialler.dial(&addresses, listener_key(), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error, LinkError::Unreachable { addresses });
    assert!(error.is_retryable());
    let sixth: SocketAddr = "[::1]:9".parse().unwrap();
    let error = dialler.dial(&[sixth], listener_key(), PATIENCE).await.unwrap_err();
    assert_eq!(error, LinkError::Undialable { address: sixth }, "an IPv4 socket reaches no IPv6 address");
    dialler.close(CloseCode::Interrupted);
    let error = dialler.dial(&[loopback()], listener_key(), PATIENCE).await.unwrap_err();
    assert_eq!(error, LinkError::ClosedHere);
    let error = dialler.dial(&[], listener_key(), PATIENCE).await.unwrap_err();
    assert_eq!(error, LinkError::Unreachable { addresses: vec![] });
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let listener = listener();
    let error = Endpoint::bind(address_of(&listener), identity(1), Accept::Incoming).unwrap_err();
    assert!(matches!(error, BindError::InUse { address } if address == address_of(&listener)), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_on_all_addresses_is_reached_at_each_that_it_names() {
    let mut listener = Endpoint::bind_everywhere(0, identity(1), Accept::Incoming).unwrap();
    let dialler = Endpoint::bind_everywhere(0, identity(2), Accept::Nothing).unwrap();
    let addresses = listener.local_addrs().unwrap();
    assert!(addresses.last().unwrap().ip().is_loopback(), "{addresses:?}");
    for address in addresses {
        let mut near = dialler.dial(&[address], listener_key(), PATIENCE).await.unwrap();
        assert_eq!(near.link.remote_addr(), address);
        near.sender.send(b"hello").await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_eq!(far.link.remote_addr().ip().is_ipv4(), address.is_ipv4());
    }
}

#[tokio::test]
async fn many_links_live_side_by_side() {
    let (mut listener, dialler) = (listener(), dialler());
    let mut links = Vec::new();
    for index in 0..20_u8 {
        let mut near = dial(&dialler, &listener).await.unwrap();
        near.sender.send(&[index]).await.unwrap();
        let mut far = listener.accept().await.unwrap();
        assert_eq!(far.receiver.recv(1).await.unwrap()[..], [index]);
        far.link.raise_windows(Role::Receiver);
        links.push((near, far));
    }
    for (near, far) in &mut links {
        round_trip(near, far).await;
    }
}
