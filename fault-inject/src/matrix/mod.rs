//! The fault matrix: each row by whichever part of the harness can inject it here, and what came of it.

pub mod page;
pub mod rows;

use std::time::{Duration, Instant};

use crate::apart::{self, Apart};
use crate::several;
use crate::verdict::{How, Report, Verdict};
use rows::{ROWS, Row};

/// A row that takes longer has hung.
const ROW: Duration = Duration::from_secs(300);

/// Rows at the same time: most wait for clocks and links more than they compute.
const WORKERS: usize = 4;

/// A part of the harness that may know a row.
type Provider = fn(u8, u64) -> Option<Report>;

/// The parts, in the order in which they are asked: what runs the shipped program comes first.
const PROVIDERS: &[Provider] = &[
    crate::corrupt::row,
    crate::fuse_disk::row,
    crate::proxy::row,
    crate::kills::row,
    crate::syscalls::row,
    crate::hostile::row,
    crate::scripted::row,
    crate::crash::row,
    crate::simulator::rows::row,
];

/// What a row came to.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The row.
    pub row: Row,
    /// Each part that injected it, or could not.
    pub reports: Vec<Report>,
    /// How long it took.
    pub took: Duration,
}

impl Cell {
    /// The worst of its verdicts. A part that lacks a facility counts only if no other part ran.
    pub fn verdict(&self) -> Verdict {
        let ran = self.reports.iter().filter(|report| !matches!(report.verdict, Verdict::Skipped(_)));
        let worst = ran.map(|report| report.verdict.clone()).reduce(Verdict::and);
        let skipped = || self.reports.first().map(|report| report.verdict.clone());
        worst.or_else(skipped).unwrap_or_else(|| Verdict::Failed("no part of the harness injects this row".to_owned()))
    }

    /// Faults of all its parts: injected, detected, repaired.
    pub fn counts(&self) -> [u64; 3] {
        let sum = |count: fn(&Report) -> u64| self.reports.iter().map(count).sum();
        [sum(|report| report.injected), sum(|report| report.detected), sum(|report| report.repaired)]
    }

    /// From where it was injected.
    pub fn how(&self) -> String {
        let ran = self.reports.iter().filter(|report| report.injected > 0);
        let words: Vec<&str> = ran.map(|report| report.how.word()).collect();
        words.join(", ")
    }
}

/// Runs rows, several at a time; `take` has the cells in the order of the rows.
pub fn run_all(rows: &[Row], seed: u64, take: impl FnMut(Cell)) {
    several::in_order(rows, WORKERS, |row| run_apart(*row, seed), take);
}

/// Runs one row in a process of its own: a part of the harness that falls over, or hangs, takes no other row with it.
fn run_apart(row: Row, seed: u64) -> Cell {
    let began = Instant::now();
    let (number, seed) = (row.number.to_string(), format!("{seed:#x}"));
    let ran = apart::run(&["row", &number, "--seed", &seed], ROW);
    let (why, log) = match ran {
        Ok(Apart { status: Some(status), stdout, said }) if status.success() => match serde_json::from_str(&stdout) {
            Ok(reports) => return Cell { row, reports, took: began.elapsed() },
            Err(error) => (format!("its answer makes no sense: {error}"), said),
        },
        Ok(Apart { status: Some(status), said, .. }) => (format!("its process ended with {status}"), said),
        Ok(Apart { status: None, said, .. }) => (format!("it did not end within {ROW:?}"), said),
        Err(error) => (format!("its process: {error}"), vec![]),
    };
    let reproduce = format!("cargo run --release -p fault-inject -- row {number} --seed {seed}");
    let report =
        Report { verdict: Verdict::Failed(why), log, reproduce, ..Report::skipped(row.fault, How::Script, "") };
    Cell { row, reports: vec![report], took: began.elapsed() }
}

/// Runs one row here, with each part that knows it.
pub fn run(row: Row, seed: u64) -> Cell {
    let began = Instant::now();
    let known = PROVIDERS.iter().filter_map(|provider| provider(row.number, seed));
    let reports: Vec<Report> = known.map(Report::unless_vacuous).collect();
    Cell { row, reports, took: began.elapsed() }
}

/// The rows of these numbers; all without one.
pub fn chosen(numbers: &[u8]) -> Vec<Row> {
    ROWS.iter().filter(|row| numbers.is_empty() || numbers.contains(&row.number)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(verdicts: &[Verdict]) -> Cell {
        let report = |verdict: &Verdict| Report { verdict: verdict.clone(), ..Report::skipped("", How::Child, "") };
        Cell { row: ROWS[0], reports: verdicts.iter().map(report).collect(), took: Duration::ZERO }
    }

    #[test]
    fn a_part_that_cannot_run_excuses_nobody() {
        let skipped = Verdict::Skipped("FUSE".into());
        assert_eq!(cell(&[skipped.clone(), Verdict::Good]).verdict(), Verdict::Good);
        assert_eq!(cell(&[skipped.clone(), Verdict::Vacuous]).verdict(), Verdict::Vacuous);
        assert_eq!(cell(std::slice::from_ref(&skipped)).verdict(), skipped);
        assert_eq!(cell(&[]).verdict().exit_code(), 4, "a row that nothing injects is a hole in the harness");
    }
}
