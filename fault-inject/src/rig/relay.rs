//! The proxy as the black-box tests use it: a relay between the two processes that counts what crosses it, and drops,
//! delays, corrupts, throttles or silences it, the same both ways.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::proxy::{BOTH, Dials, Kind, Proxy, Way};
use crate::rng::Odds;

pub use crate::proxy::Direction;

/// A relay that runs until it is dropped.
pub struct Relay(Proxy);

impl Relay {
    /// Listens on `address` and passes everything on to `upstream` and back. The seed decides who is harmed.
    pub fn new(address: SocketAddr, upstream: SocketAddr, seed: u64) -> io::Result<Relay> {
        Ok(Relay(Proxy::start(address, upstream, seed, Dials::default())?))
    }

    /// The same with a socket in front that is there already, perhaps in another network.
    pub fn on(front: UdpSocket, upstream: SocketAddr, seed: u64) -> io::Result<Relay> {
        Ok(Relay(Proxy::start_on(front, upstream, seed, Dials::default())?))
    }

    /// All that it can do.
    pub fn proxy(&self) -> &Proxy {
        &self.0
    }

    /// Where the dialling side finds it.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Passes on to another address from now on.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.0.redirect(upstream);
    }

    /// Payload bytes that arrived at the relay from the other side of this direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.0.counts().arrived_bytes(direction)
    }

    /// Bytes in both directions.
    pub fn all_bytes(&self) -> u64 {
        BOTH.into_iter().map(|direction| self.bytes(direction)).sum()
    }

    /// Datagrams that were dropped, corrupted or sent twice: a test of faults must see some.
    pub fn harmed(&self) -> u64 {
        let counts = self.0.counts();
        [Kind::Dropped, Kind::Corrupted, Kind::Duplicated].into_iter().map(|kind| counts.of(kind)).sum()
    }

    /// Of 1,000 datagrams, how many are lost.
    pub fn drop_permille(&self, permille: u32) {
        self.both(|way| way.drop = Odds::per_million(permille * 1000));
    }

    /// Of 1,000 datagrams, how many arrive with a flipped bit.
    pub fn corrupt_permille(&self, permille: u32) {
        self.both(|way| way.corrupt = Odds::per_million(permille * 1000));
    }

    /// Of 1,000 datagrams, how many arrive twice.
    pub fn duplicate_permille(&self, permille: u32) {
        self.both(|way| way.duplicate = Odds::per_million(permille * 1000));
    }

    /// Every datagram stays this long.
    pub fn delay(&self, delay: Duration) {
        self.both(|way| way.delay = delay);
    }

    /// No more than this passes in both directions together; 0: no limit. What does not fit waits in the socket, then
    /// is lost, as at a slow link.
    pub fn rate(&self, bytes_per_s: u64) {
        self.0.turn(|dials| dials.shared_bytes_per_s = bytes_per_s);
    }

    /// Nothing passes from now on: neither side hears of it.
    pub fn silence(&self) {
        self.0.silence();
    }

    /// Falls silent by itself after that many bytes in both directions.
    pub fn silence_after(&self, bytes: u64) {
        self.0.silence_after(bytes);
    }

    /// Is it silent?
    pub fn is_silent(&self) -> bool {
        self.0.is_silent()
    }

    /// Passes datagrams again.
    pub fn speak(&self) {
        self.0.speak();
    }

    fn both(&self, turn: impl Fn(&mut Way)) {
        self.0.turn(|dials| BOTH.into_iter().for_each(|direction| turn(dials.way_mut(direction))));
    }
}
