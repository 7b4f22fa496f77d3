//! Rows of the fault matrix that hostile peers and local users cover: which cases stand for which row.

use super::{Case, cases_with, matches, run};
use crate::verdict::{How, Report, Verdict};

/// Swaps of a race within a row.
const SWAPS: u64 = 200;

/// What a row is called, and the patterns of its cases.
fn parts(number: u8) -> Option<(&'static str, &'static [&'static str])> {
    Some(match number {
        7 => ("path replaced between scan and open", &["race-source-*", "planted-in-source"]),
        25 => {
            let stale: &[&str] = &["receipt-of-*", "order-continue-*", "order-acknowledge-*", "*proof-of-another-link"];
            ("stale messages of an earlier session or transfer", stale)
        }
        27 => ("two peers come with one ticket", &["second-*"]),
        49 => {
            ("destination becomes a symlink, parent swapped", &["race-parent-*", "race-dir-itself", "planted-under-*"])
        }
        73 => ("acknowledgement lost, repeated, invented", &["acknowledgement-*", "order-acknowledge-*"]),
        74 => ("peer restarts with a changed source", &["changed-source-*", "receipt-of-an-earlier-source"]),
        75 => {
            ("hostile or buggy peer: any frame, any order", &["order-*", "frame-*", "sequence-*", "receiver-frame-*"])
        }
        76 => {
            ("another version on one side", &["door-of-*-protocol-*", "listening-*-chunks", "ladder-of-a-future-minor"])
        }
        81 => ("hostile caller at the door of `recv --lan`", &["lan-caller-*"]),
        82 => ("hostile host that `send --lan` finds", &["lan-host-*"]),
        83 => ("plan and deletion over a pipe whose far end lies", &["pipe-*"]),
        _ => return None,
    })
}

/// Runs the cases of a row of the fault matrix; `None` if it is not one of this room's.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let (name, patterns) = parts(number)?;
    let is_meant = |case: &Case| patterns.iter().any(|pattern| matches(pattern, &case.name));
    let chosen: Vec<Case> = cases_with(SWAPS).into_iter().filter(is_meant).collect();
    let reports = run(&chosen, seed, &|_| ());
    let worst = reports.iter().fold(Verdict::Good, |worst, report| worst.and(report.verdict.clone()));
    let failed = reports.iter().filter(|report| report.verdict != Verdict::Good);
    let failed: Vec<String> = failed.map(|report| format!("{}: {}", report.fault, report.reproduce)).collect();
    let options: Vec<String> = patterns.iter().map(|pattern| format!("--case '{pattern}'")).collect();
    let report = Report {
        fault: format!("row {number}: {name}"),
        how: How::Script,
        injected: reports.iter().map(|report| report.injected).sum(),
        detected: reports.iter().map(|report| report.detected).sum(),
        repaired: reports.iter().map(|report| report.repaired).sum(),
        verdict: worst,
        plan: format!("seed={seed:#x} row={number} cases={}", chosen.len()),
        log: failed,
        reproduce: format!("cargo run -p fault-inject -- hostile {} --seed {seed:#x}", options.join(" ")),
    };
    Some(report.unless_vacuous())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_a_row_has_a_case() {
        let all = cases_with(SWAPS);
        let rows: Vec<u8> = (0..=u8::MAX).filter(|number| parts(*number).is_some()).collect();
        assert_eq!(rows, [7, 25, 27, 49, 73, 74, 75, 76, 81, 82, 83]);
        for number in rows {
            for pattern in parts(number).map_or(&[][..], |(_, patterns)| patterns) {
                assert!(all.iter().any(|case| matches(pattern, &case.name)), "row {number}: no case is `{pattern}`");
            }
        }
    }
}
