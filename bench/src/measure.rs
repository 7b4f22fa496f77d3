//! One timed run, and what several of them come to. Wall time by the monotonic clock; processor time of the whole
//! machine, so that nothing that a tool leaves to the kernel or to another process is missed; memory of the largest
//! process that the bench has started.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fault_inject::rig::process;

/// Pause between two looks at the memory of the processes below this one.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What one run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Seconds until the tool said that it was done.
    pub wall_seconds: f64,
    /// Processor seconds of the whole machine meanwhile, without waiting.
    pub cpu_seconds: f64,
    /// Bytes that were in memory only when it said so: what a power cut would have taken.
    pub owed_bytes: u64,
    /// Most memory that one of its processes held.
    pub peak_bytes: u64,
}

/// A run that is being timed.
pub struct Meter {
    started: Instant,
    cpu_seconds: f64,
    dirty_bytes: u64,
    watch: Watch,
}

impl Meter {
    /// Writes back what others have left, then starts the clock.
    pub fn start() -> Meter {
        rustix::fs::sync();
        let (dirty_bytes, cpu_seconds) = (dirty_bytes(), cpu_seconds());
        Meter { started: Instant::now(), cpu_seconds, dirty_bytes, watch: Watch::start() }
    }

    /// Stops it: to be called as soon as the tool says that it is done.
    pub fn stop(self) -> Sample {
        let wall_seconds = self.started.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds() - self.cpu_seconds;
        let owed_bytes = dirty_bytes().saturating_sub(self.dirty_bytes);
        Sample { wall_seconds, cpu_seconds, owed_bytes, peak_bytes: self.watch.end() }
    }
}

/// User, nice, system and interrupt time of all cores since the start of the machine.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = busy_ticks(text.lines().next().unwrap_or_default());
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Sum of the fields that are work, of the first line of `/proc/stat`.
fn busy_ticks(line: &str) -> u64 {
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum()
}

fn dirty_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    (field("Dirty:").unwrap_or(0) + field("Writeback:").unwrap_or(0)) << 10
}

/// Looks at the processes below this one until it is told to end.
struct Watch {
    is_over: Arc<AtomicBool>,
    peak_bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start() -> Watch {
        let (is_over, peak_bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, peak) = (is_over.clone(), peak_bytes.clone());
        let own = words_of(std::process::id());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                // Between its birth and its first program a child has the memory, and the words, of this process.
                let others = descendants().into_iter().filter(|id| words_of(*id) != own);
                let largest = others.filter_map(process::peak_bytes).max();
                peak.fetch_max(largest.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(LOOK_PAUSE);
            }
        });
        Watch { is_over, peak_bytes, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

/// The command line of a process; empty if it is gone.
fn words_of(id: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

/// Every process that this one has started, and those that they have.
fn descendants() -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = VecDeque::from([std::process::id()]);
    while let Some(parent) = open.pop_front() {
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse::<u32>().ok());
            open.extend(children.clone());
            found.extend(children);
        }
    }
    found
}

/// Median, least and greatest of several values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The value in the middle; the mean of the two in the middle of an even number.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

/// `None` where there is no value.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (least, greatest) = (*values.first()?, *values.last()?);
    let upper = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[upper] } else { (values[upper - 1] + values[upper]) / 2.0 };
    Some(Spread { median, least, greatest })
}

/// How many times the baseline a value is; `None` without a baseline.
pub fn ratio(value: f64, baseline: Option<f64>) -> Option<f64> {
    baseline.filter(|baseline| *baseline > 0.0).map(|baseline| value / baseline)
}

/// Median of one figure over samples.
pub fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    spread(samples.iter().map(figure)).map_or(0.0, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(spread([]), None);
        assert_eq!(spread([3.0]), Some(Spread { median: 3.0, least: 3.0, greatest: 3.0 }));
        assert_eq!(spread([9.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, greatest: 9.0 }));
        assert_eq!(spread([4.0, 1.0, 2.0, 30.0]), Some(Spread { median: 3.0, least: 1.0, greatest: 30.0 }));
    }

    #[test]
    fn a_ratio_needs_a_baseline() {
        assert_eq!(ratio(3.0, Some(2.0)), Some(1.5));
        assert_eq!(ratio(3.0, None), None);
        assert_eq!(ratio(3.0, Some(0.0)), None);
    }

    #[test]
    fn waiting_is_not_work() {
        assert_eq!(busy_ticks("cpu  1 20 300 4000 50000 600000 7000000 8 9 10"), 1 + 20 + 300 + 600_000 + 7_000_000);
        assert_eq!(busy_ticks(""), 0);
    }

    #[test]
    fn a_child_of_this_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("`sleep` can be started");
        let seen = descendants();
        child.kill().expect("it still sleeps");
        child.wait().expect("it was killed");
        assert!(seen.contains(&child.id()), "{seen:?}");
    }
}
