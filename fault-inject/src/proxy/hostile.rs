//! Datagrams that nobody sent: what a listener on the open network gets from scanners, broken middle boxes and people
//! who guess. Each is made from chance and from the datagram beside which it is sent; none could be authenticated.

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

/// Largest payload of an IPv4 UDP datagram.
pub const LARGEST_BYTES: usize = 65_507;
/// Length of QUIC's smallest first datagram.
const INITIAL_BYTES: usize = 1200;

/// How many kinds [`make`] knows.
pub const KINDS: usize = 10;

/// A hostile datagram of one kind, beside a real one.
pub fn make(kind: usize, beside: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut random = |len: usize| {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    match kind % KINDS {
        0 => Vec::new(),
        1 => random(1),
        2 => random(LARGEST_BYTES),
        3 => with_head(random(INITIAL_BYTES), &[0xc0, 0, 0, 0, 1, 8]), // looks like an Initial
        4 => with_head(random(INITIAL_BYTES), &[0xc0, 0, 0, 0, 0, 8]), // looks like a version negotiation
        5 => with_head(random(INITIAL_BYTES), &[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]), // a version that nobody speaks
        6 => with_head(random(200), &[0xf0, 0, 0, 0, 1, 8]),           // looks like a Retry
        7 => keeping_head(beside, &random(beside.len().max(21))),      // the right connection, the rest is noise
        8 => [beside, beside].concat().into_iter().take(LARGEST_BYTES).collect(), // one glued to itself
        _ => {
            let len = rng.random_range(2..1500);
            let mut bytes = vec![0; len];
            rng.fill_bytes(&mut bytes);
            bytes
        }
    }
}

fn with_head(mut bytes: Vec<u8>, head: &[u8]) -> Vec<u8> {
    bytes[..head.len()].copy_from_slice(head);
    bytes
}

/// The first bytes of a real one: flags and connection id of a short header.
fn keeping_head(real: &[u8], noise: &[u8]) -> Vec<u8> {
    let kept = real.len().min(9);
    [&real[..kept], &noise[kept..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn every_kind_is_made_and_none_is_the_real_one() {
        let mut rng = rng::stream(1, "hostile");
        let real = [0x42; 900];
        let made: Vec<Vec<u8>> = (0..KINDS).map(|kind| make(kind, &real, &mut rng)).collect();
        assert!(made.iter().all(|bytes| bytes.len() <= LARGEST_BYTES && bytes[..] != real[..]));
        assert_eq!((made[0].len(), made[2].len(), made[8].len()), (0, LARGEST_BYTES, 1800));
        assert_eq!(made[7][..9], real[..9]);
        assert!(make(7, &[], &mut rng).len() >= 21);
    }
}
