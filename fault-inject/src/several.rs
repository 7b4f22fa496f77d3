//! Several pieces of work at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};

/// Does `work` for each of `jobs`, `workers` at a time, and hands what came of each to `take` in the order of the jobs,
/// each as soon as all before it have ended. A panic in `work` goes on here once the other workers have ended.
pub fn in_order<J: Sync, R: Send>(jobs: &[J], workers: usize, work: impl Fn(&J) -> R + Sync, mut take: impl FnMut(R)) {
    let (next, (results, coming)) = (AtomicUsize::new(0), mpsc::channel());
    std::thread::scope(|scope| {
        for _ in 0..workers.min(jobs.len()) {
            let (results, next, work) = (results.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    results.send((number, work(job))).expect("the one that takes them waits for all");
                }
            });
        }
        drop(results);
        let (mut early, mut wanted) = (BTreeMap::new(), 0);
        for (number, result) in coming {
            early.insert(number, result);
            while let Some(result) = early.remove(&wanted) {
                take(result);
                wanted += 1;
            }
        }
    });
}

/// Room for so many at a time: others wait.
pub struct Room {
    free: Mutex<usize>,
    changed: Condvar,
}

/// A turn in a [`Room`], given back when it is dropped.
pub struct Turn<'a>(&'a Room);

impl Room {
    /// For so many.
    pub fn new(turns: usize) -> Room {
        Room { free: Mutex::new(turns), changed: Condvar::new() }
    }

    /// Waits for a turn.
    pub fn enter(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.changed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn results_come_in_order_and_no_more_work_at_once_than_there_is_room_for() {
        let (room, busy, most) = (Room::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let jobs: Vec<u64> = (0..40).collect();
        let work = |job: &u64| {
            let _turn = room.enter();
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(job * 7 % 5));
            busy.fetch_sub(1, Ordering::SeqCst);
            *job
        };
        let mut taken = vec![];
        in_order(&jobs, 8, work, |job| taken.push(job));
        assert_eq!(taken, jobs);
        assert_eq!(most.into_inner(), 3);
    }
}
