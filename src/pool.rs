//! A bounded number of threads for one parallel disk phase. Nothing outlives the call; order of results is the order
//! of items. A pool of one thread runs everything inline, which is what a simulator wants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads a phase may use.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool of that many threads, at least one.
    pub fn new(threads: usize) -> Pool {
        Pool { threads: threads.max(1) }
    }

    /// A pool that runs everything on the caller's thread, in order.
    pub fn inline() -> Pool {
        Pool::new(1)
    }

    /// Applies `work` to each item.
    pub fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let threads = self.threads.min(items.len());
        if threads <= 1 {
            return items.into_iter().map(work).collect();
        }
        let slots: Vec<Mutex<(Option<T>, Option<R>)>> =
            items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
        let next = AtomicUsize::new(0);
        let run = || {
            while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let item = slot.lock().ok().and_then(|mut slot| slot.0.take());
                let result = item.map(&work);
                if let Ok(mut slot) = slot.lock() {
                    slot.1 = result;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(run);
            }
            run();
        });
        let result = |slot: Mutex<(Option<T>, Option<R>)>| slot.into_inner().ok()?.1;
        slots.into_iter().map(|slot| result(slot).expect("a panic in the work has ended the scope")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_items() {
        for threads in [1, 2, 16] {
            let squares = Pool::new(threads).map((0..1000_u64).collect(), |number| number * number);
            assert_eq!(squares, (0..1000).map(|number| number * number).collect::<Vec<u64>>());
        }
        assert!(Pool::new(4).map(Vec::<u8>::new(), |byte| byte).is_empty());
    }
}
