//! The rows of the fault matrix that are about the network, each in seconds.

use std::time::Duration;

use super::run::Trial;
use super::scenarios::{Pace, Scenario};
use crate::rig::transfer::Listens;
use crate::verdict::Report;

/// Bytes of a row's transfer.
const SIZE_BYTES: u64 = 2 << 20;

/// Row, what it is called in the matrix, and the scenarios that make it up.
const ROWS: &[(u8, &str, &[&str])] = &[
    (15, "loss 2 % and 30 %, at most 3 in a row", &["transfer-loss", "handshake-loss"]),
    (16, "duplicates and late replays", &["duplicates"]),
    (17, "reordering, jitter to 1 s", &["reordering", "jitter"]),
    (18, "bits flipped in 2 % and 30 % of packets", &["transfer-corruption", "handshake-corruption"]),
    (19, "truncated, padded, glued, empty, 65,507 bytes", &["hostile"]),
    (20, "black hole: periodic, long, for ever", &["black-hole", "blackout", "blackout-for-ever"]),
    (21, "one direction dead", &["one-way"]),
    (22, "port changes in the middle", &["rebinding"]),
    (23, "MTU shrinks to 1200 in the middle", &["mtu"]),
    (26, "link lost between last chunk and answer", &["last-answer"]),
];

/// The rows that there are.
pub fn numbers() -> impl Iterator<Item = u8> {
    ROWS.iter().map(|(number, ..)| *number)
}

/// Runs one row of the matrix. `None`: it is not about the network. Rows 20 to 22 take as long as landfall takes to call
/// a silent link lost; nothing shared keeps several rows from running at once.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let (_, name, scenarios) = ROWS.iter().find(|(row, ..)| *row == number)?;
    let trials: Vec<Trial> =
        scenarios.iter().filter_map(|name| Scenario::named(name)).map(|it| quick(it, seed)).collect();
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let running: Vec<_> = trials.iter().map(|trial| scope.spawn(|| trial.run())).collect();
        running.into_iter().map(|trial| trial.join().expect("a trial shows its own panic")).collect()
    });
    let whole = reports.into_iter().reduce(Report::with)?;
    Some(Report { fault: (*name).to_owned(), ..whole })
}

/// A scenario as the matrix runs it.
pub fn quick(scenario: &'static Scenario, seed: u64) -> Trial {
    let (blackout, listens) = (Duration::from_secs(60), Listens::Receiver);
    Trial { scenario, seed, pace: Pace::Quick, size_bytes: SIZE_BYTES, blackout, listens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_scenarios_that_exist() {
        for (number, _, scenarios) in ROWS {
            assert!(scenarios.iter().all(|name| Scenario::named(name).is_some()), "row {number}");
        }
        assert!(row(1, 0).is_none() && numbers().count() == ROWS.len());
    }
}
