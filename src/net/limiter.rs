//! A limit on the rate of content: a token bucket above QUIC that the data streams of a side share. It paces what a
//! sender writes, or what a receiver reads, and QUIC's flow control holds the peer back; control messages pass freely. It
//! may be changed at any time.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::limits::{LIMIT_BURST_MS, LIMIT_PIECE_BYTES_MAX, LIMIT_PIECE_BYTES_MIN};

/// The limit of one side, or none. Clones share it.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    account: Mutex<Account>,
    changed: Notify,
}

#[derive(Debug)]
struct Account {
    bytes_per_s: Option<NonZeroU64>,
    /// When everything that was taken so far is paid for.
    paid: Instant,
}

impl Limiter {
    /// So many bytes of content per second; `None` is no limit.
    pub fn new(bytes_per_s: Option<NonZeroU64>) -> Limiter {
        let account = Mutex::new(Account { bytes_per_s, paid: Instant::now() });
        Limiter(Arc::new(Bucket { account, changed: Notify::new() }))
    }

    /// Another limit from now on. What was taken before, a piece for each stream at most, is paid for: at a rate that is
    /// much lower nobody would hear of the next change before that has gone.
    pub fn set(&self, bytes_per_s: Option<NonZeroU64>) {
        *self.account() = Account { bytes_per_s, paid: Instant::now() };
        self.0.changed.notify_waiters();
    }

    /// How much of a body of `rest` bytes goes at once: what the rate allows in the time of a burst.
    pub(super) fn piece_bytes(&self, rest: usize) -> usize {
        let Some(rate) = self.account().bytes_per_s else { return rest };
        let burst = rate.get().saturating_mul(LIMIT_BURST_MS) / 1000;
        rest.min(usize::try_from(burst).unwrap_or(rest).clamp(LIMIT_PIECE_BYTES_MIN, LIMIT_PIECE_BYTES_MAX))
    }

    /// Waits until so many more bytes are within the limit, or the limit changes.
    pub(super) async fn take(&self, bytes: usize) {
        // Made before the account is looked at: a change in between is not missed.
        let changed = self.0.changed.notified();
        let Some(until) = self.charge(bytes) else { return };
        tokio::select! {
            () = sleep_until(until) => {}
            () = changed => {}
        }
    }

    /// When so many more bytes are paid for; `None` where nothing costs.
    fn charge(&self, bytes: usize) -> Option<Instant> {
        let mut account = self.account();
        let cost = Duration::from_secs_f64(bytes as f64 / account.bytes_per_s?.get() as f64);
        // A time in which nothing went is worth one burst and no more.
        let burst = Duration::from_millis(LIMIT_BURST_MS);
        let earliest = Instant::now().checked_sub(burst).unwrap_or(account.paid);
        account.paid = account.paid.max(earliest) + cost;
        Some(account.paid)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter::new(None)
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

    /// Bytes that two streams get through in these milliseconds, as whole pieces.
    async fn passed(limiter: &Limiter, ms: u64) -> usize {
        let count = std::cell::Cell::new(0);
        let stream = || async {
            loop {
                let piece = limiter.piece_bytes(1 << 20);
                limiter.take(piece).await;
                count.set(count.get() + piece);
                // Without a limit nothing else lets the clock go on.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let both = async { tokio::join!(stream(), stream()) };
        drop(tokio::time::timeout(Duration::from_millis(ms), both).await);
        count.get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_changed_holds_from_then_on() {
        let limiter = Limiter::new(NonZeroU64::new(1_000_000));
        let assert_rate = |bytes: usize, rate: usize| {
            let wanted = rate * 20;
            assert!(bytes.abs_diff(wanted) * 20 <= wanted, "{bytes} bytes in 20 s at {rate} a second");
        };
        assert_rate(passed(&limiter, 20_000).await, 1_000_000);
        for rate in [50_000, 20_000_000, 3_000_000] {
            limiter.set(NonZeroU64::new(rate));
            assert_rate(passed(&limiter, 20_000).await, usize::try_from(rate).unwrap());
        }
        limiter.set(None);
        assert!(passed(&limiter, 1_000).await > 1 << 30);
        limiter.set(NonZeroU64::new(1_000_000));
        assert_rate(passed(&limiter, 20_000).await, 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_of_a_change_at_once() {
        let limiter = Limiter::new(NonZeroU64::new(1_000));
        for next in [NonZeroU64::new(2_000), None] {
            let start = Instant::now();
            let change = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                limiter.set(next);
            };
            tokio::join!(limiter.take(1 << 30), limiter.take(1), change);
            assert_eq!(start.elapsed().as_millis(), 1000);
        }
    }

    #[test]
    fn pieces_are_neither_crumbs_nor_loaves() {
        let piece = |rate| Limiter::new(NonZeroU64::new(rate)).piece_bytes(1 << 30);
        assert_eq!((piece(1), piece(u64::MAX)), (LIMIT_PIECE_BYTES_MIN, LIMIT_PIECE_BYTES_MAX));
        assert_eq!(Limiter::new(NonZeroU64::new(1)).piece_bytes(5), 5);
    }
}
