//! The shipped program under `strace -e inject`: killed, refused or lied to at the N-th system call of each kind about a
//! disk or the link, on either side. Which calls there are is counted in a first run without faults; whether a fault
//! happened is read from the log of `strace`.

pub mod points;
pub mod trace;
pub mod trial;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use points::{Fault, Filter, Point};
use points::{groups, sampled, word};
use trace::Calls;
use trial::{Ended, Ground};

use crate::rig::transfer::Side;
use crate::verdict::{How, Report, Verdict};

/// Trials at the same time: a traced process computes more than it waits.
const WORKERS: usize = 2;
/// Both sides, in the order in which they are struck.
const SIDES: [Side; 2] = [Side::Receiver, Side::Sender];

/// What is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the tree and of the choice.
    pub seed: u64,
    /// What is struck.
    pub filter: Filter,
    /// So many trials of all that are meant; without it every one.
    pub runs: Option<usize>,
}

/// What came of many trials.
#[derive(Default)]
struct Sum {
    trials: u64,
    injected: u64,
    detected: u64,
    repaired: u64,
    /// Calls that were hit: as many as threads got so far.
    calls: u64,
    /// Points that this run of the program did not reach.
    unreached: u64,
    /// Points at which only what no kernel does was done.
    void: u64,
    /// Lies about writes of staged bytes, and trials of those in which a check found wrong bytes.
    lost_writes: [u64; 2],
    by_fault: BTreeMap<(&'static str, &'static str), BTreeMap<String, u64>>,
    failures: Vec<(Point, Verdict)>,
    /// The trials that took longest.
    slowest: Vec<(Duration, String)>,
}

impl Sum {
    fn add(&mut self, point: &Point, took: Duration, ended: Result<Ended, String>) {
        self.trials += 1;
        self.slowest.push((took, point.to_string()));
        self.slowest.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        self.slowest.truncate(3);
        let ended = match ended {
            Ok(ended) => ended,
            Err(why) => return self.failures.push((point.clone(), Verdict::Failed(why))),
        };
        if ended.verdict != Verdict::Good {
            self.failures.push((point.clone(), ended.verdict.clone()));
        }
        if ended.hits.lines.is_empty() {
            self.unreached += 1;
            return;
        }
        if ended.hits.is_void(point.fault) || ended.hits.is_impossible() {
            self.void += 1;
            return;
        }
        self.injected += 1;
        self.calls += ended.hits.lines.len() as u64;
        self.detected += u64::from(ended.is_noticed);
        self.repaired += u64::from(ended.verdict == Verdict::Good);
        if point.fault == Fault::Lie
            && point.side == Side::Receiver
            && ended.hits.on("/staging/") > 0
            && point.call.starts_with("pwrite")
        {
            self.lost_writes[0] += 1;
            self.lost_writes[1] += u64::from(ended.is_mismatch);
        }
        let code = ended.code.map_or("signal".to_owned(), |code| code.to_string());
        let codes = self.by_fault.entry((word(point.side), point.fault.word())).or_default();
        *codes.entry(code).or_default() += 1;
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} trials: {} faults in {} calls, {} not reached this time, {} void (on what no kernel does)",
            self.trials, self.injected, self.calls, self.unreached, self.void
        )];
        for ((side, fault), codes) in &self.by_fault {
            let ends: Vec<String> = codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
            let total: u64 = codes.values().sum();
            lines.push(format!("{side} {fault:<6} {total:5}  first ended with {}", ends.join(", ")));
        }
        if self.lost_writes[0] > 0 {
            let [lost, found] = self.lost_writes;
            lines.push(format!("{lost} trials lost a write of staged bytes, the read-back named it in {found}"));
        }
        let slow: Vec<String> = self.slowest.iter().map(|(took, point)| format!("{point} ({took:.1?})")).collect();
        lines.push(format!("slowest: {}", slow.join(", ")));
        let first = |verdict: &Verdict| verdict.to_string().lines().next().unwrap_or_default().to_owned();
        lines.extend(self.failures.iter().map(|(point, verdict)| format!("{point}: {}", first(verdict))));
        lines
    }
}

fn counted(side: Side, calls: &Calls) -> String {
    let kinds: Vec<String> =
        calls.iter().map(|(name, kind)| format!("{name} {} ({})", kind.calls, kind.results.len())).collect();
    let total: u64 = calls.values().map(|kind| kind.calls).sum();
    format!("{}: {total} calls of {} kinds (most of one thread): {}", word(side), kinds.len(), kinds.join(", "))
}

/// Counts, strikes and judges. `tell` hears what is going on.
pub fn run(fault: &str, options: &Options, tell: &(dyn Fn(&str) + Sync)) -> Report {
    if let Some(needs) = trace::missing() {
        return Report::skipped(fault, How::Strace, &needs);
    }
    match guarded(|| struck(fault, options, tell)) {
        Ok(report) => report.unless_vacuous(),
        Err(why) => {
            let reproduce = command(options.seed, "");
            Report { verdict: Verdict::Failed(why), reproduce, ..Report::skipped(fault, How::Strace, "") }
        }
    }
}

/// The rig panics where the machine fails.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

fn command(seed: u64, point: &str) -> String {
    format!(
        "cargo run --release -p fault-inject -- syscalls {point}{}--seed {seed:#x}",
        if point.is_empty() { "" } else { " " }
    )
}

fn struck(fault: &str, options: &Options, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, String> {
    let began = Instant::now();
    let ground = Ground::new(options.seed)?;
    let (mut all, mut log, mut known) = (vec![], vec![], BTreeMap::new());
    for side in SIDES.into_iter().filter(|side| options.filter.side.is_none_or(|only| only == *side)) {
        let calls = ground.count(side, options.filter.on_source)?;
        log.push(counted(side, &calls));
        tell(&log[log.len() - 1]);
        all.extend(groups(side, &calls, &options.filter));
        known.insert(word(side), calls);
    }
    let total: usize = all.iter().map(Vec::len).sum();
    let chosen = sampled(&all, options.runs.unwrap_or(usize::MAX), options.seed);
    let plan = format!("{} of {total} points, {} kinds of call and fault", chosen.len(), all.len());
    tell(&plan);
    let sum = strike_all(&ground, &chosen, &known, &|point, bad| {
        tell(&format!("{point}: {bad}\nREPRO: {}", command(options.seed, &point.to_string())));
    });
    let mut verdict = sum.failures.iter().fold(Verdict::Good, |worst, (_, verdict)| worst.and(verdict.clone()));
    let changes = ground.changes();
    if !changes.is_empty() {
        verdict = verdict.and(Verdict::Wrong(format!("outside the target: {}", changes.join("; "))));
    }
    log.extend(sum.lines());
    log.push(format!("{:.1} s", began.elapsed().as_secs_f64()));
    let worst = sum.failures.iter().find(|(_, bad)| *bad == verdict).map(|(point, _)| point.to_string());
    Ok(Report {
        fault: fault.to_owned(),
        how: How::Strace,
        injected: sum.injected,
        detected: sum.detected,
        repaired: sum.repaired,
        verdict,
        plan,
        log,
        reproduce: command(options.seed, &worst.unwrap_or_default()),
    })
}

/// Strikes at each point, several at a time.
fn strike_all(
    ground: &Ground,
    points: &[Point],
    known: &BTreeMap<&str, Calls>,
    tell: &(dyn Fn(&Point, &str) + Sync),
) -> Sum {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(number) else { break };
                    let results = known.get(word(point.side)).and_then(|calls| calls.get(&point.call));
                    let lie = results.and_then(|kind| kind.results.get(point.nth as usize - 1).copied()).unwrap_or(0);
                    let began = Instant::now();
                    let mut ended = guarded(|| ground.strike(number, point, lie));
                    if ended.as_ref().is_ok_and(|ended| ended.hits.is_impossible()) {
                        // Writes came in another order than when they were counted: tell of as little as any of them.
                        let all = results.iter().flat_map(|kind| &kind.results);
                        let least = all.copied().filter(|bytes| *bytes > 0).min().unwrap_or(1);
                        ended = guarded(|| ground.strike(points.len() + number, point, least));
                    }
                    let bad = ended.as_ref().map_or_else(
                        |why| Some(why.clone()),
                        |ended| match &ended.verdict {
                            Verdict::Good => None,
                            bad => Some(bad.to_string()),
                        },
                    );
                    if let Some(bad) = bad {
                        tell(point, &bad);
                    }
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(point, began.elapsed(), ended);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The rows of the fault matrix that are struck here, by their number.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let at = |side, fault, calls: &[&str]| Filter {
        side,
        fault: Some(fault),
        calls: calls.iter().map(|call| (*call).to_owned()).collect(),
        ..Filter::default()
    };
    let (fault, runs, filter) = match number {
        4 => return Some(source_errors(seed)),
        35 => ("EIO of the N-th write", 8, at(Some(Side::Receiver), Fault::Eio, &["pwrite64"])),
        38 => ("the N-th write is lost", 8, at(Some(Side::Receiver), Fault::Lie, &["pwrite64"])),
        41 => ("the N-th sync fails", 8, at(Some(Side::Receiver), Fault::Eio, &["fsync", "fdatasync", "syncfs"])),
        61 => ("SIGKILL at the N-th system call of each kind", 80, at(None, Fault::Kill, &[])),
        _ => return None,
    };
    Some(run(fault, &Options { seed, filter, runs: Some(runs) }, &|_| ()))
}

/// EIO where the sender reads one file of the source: once, and lastingly.
fn source_errors(seed: u64) -> Report {
    let fault = "EIO of reads of one file of the source";
    let part = |is_lasting| {
        let filter = Filter {
            side: Some(Side::Sender),
            calls: vec!["pread64".to_owned()],
            fault: Some(Fault::Eio),
            on_source: true,
            is_lasting,
            nth: None,
        };
        run(fault, &Options { seed, filter, runs: Some(4) }, &|_| ())
    };
    let (mut once, lasting) = (part(false), part(true));
    once.injected += lasting.injected;
    once.detected += lasting.detected;
    once.repaired += lasting.repaired;
    if once.verdict == Verdict::Good {
        once.reproduce = lasting.reproduce;
    }
    once.verdict = once.verdict.and(lasting.verdict);
    once.plan = format!("once: {}; lastingly: {}", once.plan, lasting.plan);
    once.log.extend(lasting.log);
    once
}
