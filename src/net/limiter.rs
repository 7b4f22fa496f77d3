//! A limit on the rate of content: a token bucket above QUIC that the data streams of a side share. It paces what a
//! sender writes, or what a receiver reads, and QUIC's flow control holds the peer back; control messages pass freely.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::limits::{LIMIT_BURST_MS, LIMIT_PIECE_BYTES_MAX, LIMIT_PIECE_BYTES_MIN};

/// The limit of one side, or none. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Limiter(Option<Arc<Bucket>>);

#[derive(Debug)]
struct Bucket {
    bytes_per_s: NonZeroU64,
    /// When everything that was taken so far is paid for.
    paid: Mutex<Instant>,
}

impl Limiter {
    /// So many bytes of content per second; `None` is no limit.
    pub fn new(bytes_per_s: Option<NonZeroU64>) -> Limiter {
        Limiter(bytes_per_s.map(|bytes_per_s| Arc::new(Bucket { bytes_per_s, paid: Mutex::new(Instant::now()) })))
    }

    /// How much of a body of `rest` bytes goes at once: what the rate allows in the time of a burst.
    pub(super) fn piece_bytes(&self, rest: usize) -> usize {
        let Some(bucket) = &self.0 else { return rest };
        let burst = bucket.bytes_per_s.get().saturating_mul(LIMIT_BURST_MS) / 1000;
        rest.min(usize::try_from(burst).unwrap_or(rest).clamp(LIMIT_PIECE_BYTES_MIN, LIMIT_PIECE_BYTES_MAX))
    }

    /// Waits until so many more bytes are within the limit.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(bucket) = &self.0 else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / bucket.bytes_per_s.get() as f64);
        let until = {
            let mut paid = bucket.paid.lock().unwrap_or_else(PoisonError::into_inner);
            // A time in which nothing went is worth one burst and no more.
            let burst = Duration::from_millis(LIMIT_BURST_MS);
            let earliest = Instant::now().checked_sub(burst).unwrap_or(*paid);
            *paid = (*paid).max(earliest) + cost;
            *paid
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_share_a_rate_and_a_pause_earns_no_more_than_a_burst() {
        let limiter = Limiter::new(NonZeroU64::new(1_000_000));
        assert_eq!(limiter.piece_bytes(1 << 20), 20_000);
        let took = |pieces: u32| {
            let limiter = limiter.clone();
            async move {
                let start = Instant::now();
                let stream = || async {
                    for _ in 0..pieces {
                        limiter.take(20_000).await;
                    }
                };
                tokio::join!(stream(), stream());
                start.elapsed().as_millis()
            }
        };
        assert_eq!(took(50).await, 2000);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(took(50).await, 2000 - u128::from(LIMIT_BURST_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let start = Instant::now();
        Limiter::default().take(usize::MAX).await;
        assert_eq!((start.elapsed(), Limiter::default().piece_bytes(1 << 30)), (Duration::ZERO, 1 << 30));
    }

    #[test]
    fn pieces_are_neither_crumbs_nor_loaves() {
        let piece = |rate| Limiter::new(NonZeroU64::new(rate)).piece_bytes(1 << 30);
        assert_eq!((piece(1), piece(u64::MAX)), (LIMIT_PIECE_BYTES_MIN, LIMIT_PIECE_BYTES_MAX));
        assert_eq!(Limiter::new(NonZeroU64::new(1)).piece_bytes(5), 5);
    }
}
