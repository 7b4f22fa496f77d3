//! Everything at once, for as long as one likes: the commands of the harness in turn, each in a process of its own with
//! a seed that was never used before, several of them beside each other, so that load and chance do the rest.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::apart;
use crate::rng::stream;
use crate::verdict::{How, Report, Verdict};

/// A turn that takes longer has hung.
const TURN: Duration = Duration::from_secs(600);

/// What is run in turn: words of the command line, with a choice where there are several sets. Kept to a minute or two
/// each, so that a soak comes to all of them.
const TURNS: &[&[&str]] = &[
    &["simulate --seeds 5000 --first"],
    &["corrupt --layer all --seed"],
    &["kill --rounds 60 --seed"],
    &["kill --signals --seed", "kill --loop --seed", "kill --stop --seed"],
    &["crash --states 50000 --seed", "crash --fail-nth --seed", "crash --ext4 --cuts 40 --seed"],
    &["proxy --run --quick --scenario all --seed"],
    &["disk --run --seed"],
    &["syscalls --seed"],
    &["hostile --seed"],
    &["explore --states 1000000 --seed"],
    &["demo riva --seed", "demo fsyncgate --seed", "demo powercut --seed", "demo lost-write --seed"],
    &["mutants --seed"],
];

/// One turn that has ended.
pub struct Turn {
    /// What was run.
    pub report: Report,
    /// How long it took.
    pub took: Duration,
}

/// How often each command was run, and how often each way it ended, by exit code of the harness.
pub type Tally = BTreeMap<String, BTreeMap<u8, u64>>;

/// Runs turns until the time is over; each is told when it has ended. Gives the sum, and what was not good.
pub fn run(seed: u64, time: Duration, tell: &(dyn Fn(&Turn) + Sync)) -> (Tally, Vec<Report>) {
    let began = Instant::now();
    let next = Mutex::new(0_usize);
    let ended: Mutex<(Tally, Vec<Report>)> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while began.elapsed() < time {
                    let number = {
                        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                        *next += 1;
                        *next - 1
                    };
                    let turn = one(number, seed);
                    tell(&turn);
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    let code = turn.report.verdict.exit_code();
                    *ended.0.entry(turn.report.fault.clone()).or_default().entry(code).or_default() += 1;
                    if code != 0 {
                        ended.1.push(turn.report);
                    }
                }
            });
        }
    });
    ended.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The turn of that number: its command and its own seed follow from the seed of the soak.
fn one(number: usize, seed: u64) -> Turn {
    let mut stream = stream(seed, &format!("turn {number}"));
    let choice = TURNS[number % TURNS.len()].choose(&mut stream).copied().unwrap_or_default();
    // Half the range: what a command adds to it must not overflow.
    let own = format!("{:#x}", stream.random::<u64>() >> 1);
    let words: Vec<&str> = choice.split(' ').chain([&*own]).collect();
    let began = Instant::now();
    let ran = apart::run(&words, TURN);
    let name = choice.rsplit_once(' ').map_or(choice, |(name, _)| name);
    let (verdict, log) = match ran {
        Ok(apart) => {
            let code = apart.status.map(|status| status.code());
            (verdict(code, apart.said.last().map_or("", String::as_str)), apart.said)
        }
        Err(error) => (Verdict::Failed(error.to_string()), vec![]),
    };
    let report = Report {
        fault: name.to_owned(),
        injected: 1,
        verdict,
        plan: words.join(" "),
        log,
        reproduce: format!("cargo run --release -p fault-inject -- {}", words.join(" ")),
        ..Report::skipped(name, How::Script, "")
    };
    Turn { report, took: began.elapsed() }
}

/// What an exit code of the harness means. `None`: the process hung; `Some(None)`: a signal ended it.
fn verdict(code: Option<Option<i32>>, last: &str) -> Verdict {
    match code {
        None => Verdict::Stuck(format!("no end within {TURN:?}")),
        Some(Some(0)) => Verdict::Good,
        Some(Some(1)) => Verdict::Wrong(last.to_owned()),
        Some(Some(2)) => Verdict::Stuck(last.to_owned()),
        Some(Some(3)) => Verdict::Vacuous,
        Some(Some(5)) => Verdict::Skipped(last.to_owned()),
        Some(other) => Verdict::Failed(format!("it ended with {other:?}: {last}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_means_the_same_on_both_sides_of_a_process() {
        for code in [0_u8, 1, 2, 3, 4, 5] {
            assert_eq!(verdict(Some(Some(i32::from(code))), "x").exit_code(), code);
        }
        assert_eq!((verdict(None, "").exit_code(), verdict(Some(None), "").exit_code()), (2, 4));
    }
}
