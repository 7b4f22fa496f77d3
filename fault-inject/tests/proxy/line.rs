//! Without the product: a sender of numbered datagrams, the proxy, and a collector that notes what came, from which
//! port, and when.

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fault_inject::proxy::{Counts, Dials, Direction, Kind, Outage, Proxy, Rebind, Way, hostile};
use fault_inject::rng::Odds;

/// A datagram that came, when, and from which port.
#[derive(Clone, Debug)]
struct Came {
    at: Instant,
    from: SocketAddr,
    bytes: Vec<u8>,
}

impl Came {
    fn number(&self) -> u64 {
        u64::from_le_bytes(self.bytes[..8].try_into().unwrap())
    }
}

/// Notes what comes and, if it is to, sends it back.
struct Collector {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn new(host: &str, is_echo: bool) -> Collector {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (came, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, over) = (Arc::clone(&came), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 70_000];
            while !over.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                into.lock().unwrap().push(Came { at: Instant::now(), from, bytes: buffer[..len].to_vec() });
                if is_echo {
                    socket.send_to(&buffer[..len], from).unwrap();
                }
            }
        });
        Collector { address, came, is_over, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.came.lock().unwrap().len()
    }

    fn all(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.count() < count {
            assert!(Instant::now() < deadline, "{} of {count} datagrams came", self.count());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![7; len];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn percent(percent: u32) -> Odds {
    Odds::per_million(percent * 10_000)
}

fn to_listener(way: Way) -> Dials {
    Dials { to_listener: way, ..Dials::default() }
}

struct Bench {
    collector: Collector,
    proxy: Proxy,
    client: UdpSocket,
}

impl Bench {
    fn new(seed: u64, dials: Dials) -> Bench {
        let collector = Collector::new("127.0.0.1", false);
        let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), collector.address, seed, dials).unwrap();
        Bench { client: UdpSocket::bind("127.0.0.1:0").unwrap(), collector, proxy }
    }

    fn send(&self, number: u64, len: usize) {
        self.client.send_to(&numbered(number, len), self.proxy.address()).unwrap();
    }

    /// Sends so many, never more at once than any socket holds, and waits until the proxy has seen them all.
    fn send_all(&self, numbers: std::ops::RangeInclusive<u64>, len: usize) -> Counts {
        let before = self.proxy.counts().arrived_bytes(Direction::ToListener) / len as u64;
        let first = *numbers.start();
        for number in numbers.clone() {
            self.send(number, len);
            self.wait_until(|counts| {
                let seen = counts.arrived_bytes(Direction::ToListener) / len as u64;
                let collected = self.collector.count() as u64;
                seen + 20 >= number - first + before && collected + 20 >= counts.of(Kind::Passed)
            });
        }
        let all = before + numbers.count() as u64;
        self.wait_until(|counts| counts.arrived_bytes(Direction::ToListener) / len as u64 == all);
        self.proxy.counts()
    }

    fn wait_until(&self, is_so: impl Fn(&Counts) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so(&self.proxy.counts()) {
            let (came, line) = (self.collector.count(), self.proxy.counts().line());
            assert!(Instant::now() < deadline, "some are lost without a count: {came} came, {line}");
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

#[test]
fn an_undisturbed_line_loses_changes_and_reorders_nothing() {
    let bench = Bench::new(1, Dials::default());
    let counts = bench.send_all(1..=5000, 1200);
    bench.collector.wait_for(5000);
    let came = bench.collector.all();
    assert!(came.iter().zip(1u64..).all(|(came, number)| came.bytes == numbered(number, 1200)));
    assert_eq!((counts.of(Kind::Passed), counts.of(Kind::Unsent), counts.of(Kind::Reordered)), (5000, 0, 0));
}

#[test]
fn losses_come_at_their_rate_in_runs_no_longer_than_allowed() {
    let way = Way { drop: percent(30), burst: 3, ..Way::default() };
    let bench = Bench::new(2, to_listener(way));
    let counts = bench.send_all(1..=6000, 64);
    let lost = counts.of(Kind::Dropped);
    bench.collector.wait_for(6000 - lost as usize);
    let came: HashSet<u64> = bench.collector.all().iter().map(Came::number).collect();
    assert_eq!(came.len() as u64, 6000 - lost);
    assert!((1650..1950).contains(&lost), "{lost} of 6,000 at 30 %");
    let gone: Vec<bool> = (1..=6000).map(|number| !came.contains(&number)).collect();
    let longest = gone.split(|is_gone| !is_gone).map(<[bool]>::len).max().unwrap();
    assert_eq!(longest, 3);
}

#[test]
fn the_same_seed_hits_the_same_datagrams() {
    let survivors = |seed: u64| {
        let way = Way { drop: percent(20), duplicate: percent(20), corrupt: percent(10), ..Way::default() };
        let bench = Bench::new(seed, to_listener(way));
        let counts = bench.send_all(1..=1000, 64);
        bench.collector.wait_for(counts.of(Kind::Passed) as usize);
        bench.collector.all().into_iter().map(|came| came.bytes).collect::<Vec<_>>()
    };
    let first = survivors(3);
    assert_eq!(first, survivors(3));
    assert_ne!(first, survivors(4));
}

#[test]
fn bits_are_flipped_and_sizes_changed() {
    let way = Way { corrupt: percent(50), corrupt_bits: 3, ..Way::default() };
    let bench = Bench::new(5, to_listener(way));
    let counts = bench.send_all(1..=1000, 100);
    bench.collector.wait_for(1000);
    let flipped = |came: &Came, number: u64| -> u32 {
        came.bytes.iter().zip(numbered(number, 100)).map(|(a, b)| (a ^ b).count_ones()).sum()
    };
    let bits: Vec<u32> = bench.collector.all().iter().zip(1u64..).map(|(came, at)| flipped(came, at)).collect();
    assert_eq!(bits.iter().filter(|bits| **bits > 0).count() as u64, counts.of(Kind::Corrupted));
    assert_eq!(bits.iter().max(), Some(&3));
    let way = Way { truncate: percent(30), pad: percent(30), ..Way::default() };
    let bench = Bench::new(5, to_listener(way));
    let counts = bench.send_all(1..=1000, 100);
    bench.collector.wait_for(1000);
    let lens: Vec<usize> = bench.collector.all().iter().map(|came| came.bytes.len()).collect();
    assert!(lens.iter().any(|len| *len < 20) && lens.iter().any(|len| *len > 1000));
    assert!(counts.of(Kind::Truncated) > 200 && counts.of(Kind::Padded) > 200, "{}", counts.line());
}

#[test]
fn hostile_datagrams_come_beside_the_real_ones() {
    let bench = Bench::new(6, to_listener(Way { garbage: Odds::ALWAYS, ..Way::default() }));
    bench.send_all(1..=20, 300);
    bench.collector.wait_for(40);
    let came = bench.collector.all();
    let real = came.iter().filter(|came| came.bytes.len() == 300 && came.bytes[8..].iter().all(|byte| *byte == 7));
    assert_eq!(real.count(), 20);
    for len in [0, 1, hostile::LARGEST_BYTES, 600] {
        assert!(came.iter().any(|came| came.bytes.len() == len), "none of {len} bytes");
    }
}

#[test]
fn copies_come_at_once_and_replays_late() {
    let bench = Bench::new(7, to_listener(Way { duplicate: Odds::ALWAYS, ..Way::default() }));
    bench.send_all(1..=50, 64);
    bench.collector.wait_for(100);
    let late = Duration::from_millis(1500);
    let bench = Bench::new(7, to_listener(Way { replay: Odds::ALWAYS, replay_late: late, ..Way::default() }));
    let start = Instant::now();
    bench.send_all(1..=200, 64);
    bench.collector.wait_for(400);
    let mut seen: BTreeMap<u64, Vec<Instant>> = BTreeMap::new();
    bench.collector.all().iter().for_each(|came| seen.entry(came.number()).or_default().push(came.at));
    assert!(seen.values().all(|times| times.len() == 2));
    let gaps: Vec<Duration> = seen.values().map(|times| times[1] - times[0]).collect();
    assert!(gaps.iter().any(|gap| *gap > Duration::from_millis(1200)), "none was really late");
    assert!(gaps.iter().any(|gap| *gap < Duration::from_millis(300)), "none was early");
    assert!(start.elapsed() < late + Duration::from_secs(2));
    assert_eq!(bench.proxy.counts().of(Kind::Replayed), 200);
}

#[test]
fn delay_is_kept_and_jitter_reorders() {
    let delay = Duration::from_millis(80);
    let bench = Bench::new(8, to_listener(Way { delay, ..Way::default() }));
    for number in 1..=20 {
        let start = Instant::now();
        bench.send(number, 64);
        bench.collector.wait_for(number as usize);
        let took = bench.collector.all().last().unwrap().at - start;
        assert!((80..120).contains(&took.as_millis()), "{took:?}");
    }
    assert_eq!(bench.proxy.counts().of(Kind::Reordered), 0);
    let bench = Bench::new(8, to_listener(Way { jitter: Duration::from_millis(50), ..Way::default() }));
    bench.send_all(1..=300, 64);
    bench.collector.wait_for(300);
    let numbers: Vec<u64> = bench.collector.all().iter().map(Came::number).collect();
    let late = (0..300).filter(|at| numbers[..*at].iter().any(|earlier| *earlier > numbers[*at])).count() as u64;
    assert!(late > 50, "{late}");
    assert_eq!(bench.proxy.counts().of(Kind::Reordered), late);
}

#[test]
fn a_line_has_its_speed_and_a_full_queue_loses() {
    let way = Way { rate_bytes_per_s: 100_000, queue_datagrams: 25, ..Way::default() };
    let bench = Bench::new(9, to_listener(way));
    let start = Instant::now();
    let counts = bench.send_all(1..=60, 1000);
    let waiting = 60 - counts.of(Kind::Queued);
    assert!((25..35).contains(&waiting), "{waiting} of 60 found room at once");
    bench.collector.wait_for(waiting as usize);
    let took = start.elapsed().as_secs_f64();
    let wanted = waiting as f64 * 0.01;
    assert!((wanted * 0.9..wanted + 0.3).contains(&took), "{waiting} kB at 100 kB/s took {took} s");
}

#[test]
fn too_large_a_datagram_is_lost_from_a_byte_count_on() {
    let way = Way { mtu_bytes: Some(1200), ..Way::default() };
    let bench = Bench::new(10, Dials { from_bytes: 14_000, ..to_listener(way) });
    bench.send_all(1..=10, 1400);
    bench.collector.wait_for(10);
    let counts = bench.send_all(11..=20, 1400);
    assert_eq!((bench.collector.count(), counts.of(Kind::TooLarge)), (10, 10));
    bench.send(21, 1200);
    bench.collector.wait_for(11);
}

#[test]
fn outages_of_both_ways_and_of_one() {
    let ms = Duration::from_millis;
    let bench = Bench::new(11, Dials { outage: Some(Outage::periodic(ms(300), ms(200))), ..Dials::default() });
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < ms(1600) {
        number += 1;
        bench.send(number, 64);
        std::thread::sleep(ms(4));
    }
    let counts = bench.proxy.counts();
    assert_eq!(counts.on(Direction::ToListener, Kind::Outages), 3);
    let lost = counts.of(Kind::BlackedOut) as f64 / number as f64;
    assert!((0.3..0.46).contains(&lost), "{lost} of the time is 600 of 1,600 ms");
    let only = Some(Direction::ToDialler);
    let collector = Collector::new("127.0.0.1", true);
    let dials = Dials { outage: Some(Outage { only, ..Outage::for_ever(ms(0)) }), ..Dials::default() };
    let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), collector.address, 1, dials).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(ms(300))).unwrap();
    client.send_to(&numbered(1, 64), proxy.address()).unwrap();
    collector.wait_for(1);
    assert!(client.recv_from(&mut [0; 100]).is_err(), "an answer crossed the dead way");
    assert_eq!(proxy.counts().on(Direction::ToDialler, Kind::BlackedOut), 1);
    proxy.turn(|dials| dials.outage = None);
    client.send_to(&numbered(2, 64), proxy.address()).unwrap();
    assert!(client.recv_from(&mut [0; 100]).is_ok(), "dials may be turned while it runs");
}

#[test]
fn the_listener_sees_another_port_after_a_rebind() {
    let ms = Duration::from_millis;
    let rebind = Some(Rebind { first: ms(200), every: Some(ms(300)) });
    let bench = Bench::new(12, Dials { rebind, ..Dials::default() });
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < ms(1000) {
        number += 1;
        bench.send(number, 64);
        std::thread::sleep(ms(5));
    }
    bench.collector.wait_for(number as usize);
    let mut ports: Vec<SocketAddr> = bench.collector.all().iter().map(|came| came.from).collect();
    ports.dedup();
    assert_eq!(ports.len(), 4, "at 0.2, 0.5 and 0.8 s: {ports:?}");
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 4, "an old port came back: {ports:?}");
    assert_eq!(bench.proxy.counts().of(Kind::Rebound), 3);
}

#[test]
fn a_list_counts_in_each_flow_by_itself_and_answers_find_their_dialler() {
    let collector = Collector::new("::1", true);
    let way = Way { drop_list: vec![(2, 7)], ..Way::default() };
    let proxy = Proxy::start("[::1]:0".parse().unwrap(), collector.address, 1, to_listener(way)).unwrap();
    for dialler in 0..3u64 {
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        (1..=9).for_each(|number| {
            client.send_to(&numbered(100 * dialler + number, 64), proxy.address()).unwrap();
        });
        let mut buffer = [0; 100];
        let answers: Vec<u64> = std::iter::from_fn(|| client.recv_from(&mut buffer).ok().map(|_| buffer))
            .map(|buffer| u64::from_le_bytes(buffer[..8].try_into().unwrap()))
            .collect();
        assert_eq!(answers, [1, 8, 9].map(|number| 100 * dialler + number));
    }
    assert_eq!(proxy.counts().of(Kind::Listed), 18);
}
