//! Each layer of `corrupt` and some scripts of the matrix on small transfers: something is injected, it is met, and what
//! arrives is right. And the oracle sees what no check of the product can: a first read that was wrong.
#![allow(clippy::unwrap_used)]

use fault_inject::corrupt::{Corruption, Layer, run};
use fault_inject::verdict::Verdict;

const SEED: u64 = 0x1a_4df0;

#[test]
fn every_layer_is_met_and_cured() {
    for layer in Layer::ALL {
        let corruption = Corruption { layer, size: None, rate: layer.usual_rate() * 2, bytes: 12 << 20, seed: SEED };
        let report = run(&corruption, &mut |_| ());
        let told = report.log.join("\n");
        assert_eq!(report.verdict, Verdict::Good, "{layer:?}\n{told}\nREPRO: {}", report.reproduce);
        assert!(report.injected > 0 && report.detected > 0, "{layer:?}: {report:?}");
    }
}

#[test]
fn scripts_play_what_they_say() {
    for row in [5, 8, 11, 48, 53, 57] {
        let report = fault_inject::scripted::row(row, SEED).unwrap().unless_vacuous();
        let told = report.log.join("\n");
        assert_eq!(report.verdict, Verdict::Good, "row {row}\n{told}\nREPRO: {}", report.reproduce);
        assert!(report.injected > 0, "row {row}: {report:?}");
    }
}

#[test]
fn the_oracle_sees_what_was_read_wrongly() {
    let report = fault_inject::scripted::row(2, SEED).unwrap();
    assert!(matches!(report.verdict, Verdict::Limit(_)), "{report:?}");
    assert_eq!((report.injected, report.detected, report.repaired), (1, 1, 0), "{report:?}");
}
