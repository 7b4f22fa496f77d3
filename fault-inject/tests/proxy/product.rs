//! With the shipped program: a few quick scenarios, each judged as the matrix judges it.

use fault_inject::proxy::rows::quick;
use fault_inject::proxy::scenarios::Scenario;
use fault_inject::rig::isolated::Isolated;
use fault_inject::rig::{facility, process};
use fault_inject::verdict::{Report, Verdict};

/// `None`, with a word on stderr, where this machine or this user cannot do it.
fn run(name: &str) -> Option<Report> {
    process::build_landfall().unwrap();
    let report = quick(Scenario::named(name).unwrap(), 0x1a4d).run();
    if let Verdict::Skipped(needs) = &report.verdict {
        facility::skipped(name, needs);
        return None;
    }
    assert_eq!(report.verdict, Verdict::Good, "{}\n{}", report.log.join("\n"), report.reproduce);
    assert!(report.injected > 0);
    Some(report)
}

#[test]
fn losses_of_thirty_percent_and_a_lossy_transfer_are_cured() {
    for name in ["handshake-loss", "transfer-loss"] {
        let report = run(name).unwrap();
        assert!(report.detected > 0 && report.repaired == report.detected, "{report:?}");
    }
}

#[test]
fn copies_and_hostile_datagrams_have_no_effect() {
    for name in ["duplicates", "hostile"] {
        let report = run(name).unwrap();
        assert_eq!(report.detected, report.injected, "{report:?}");
    }
}

#[test]
fn nothing_leads_out_of_an_isolated_network() {
    match Isolated::new() {
        Ok(network) => assert!(!network.reaches("127.0.0.1:0".parse().unwrap()).unwrap()),
        Err(needs) => facility::skipped("nothing_leads_out_of_an_isolated_network", &needs),
    }
}

#[test]
fn an_answer_that_was_cut_off_is_asked_for_again_without_the_content() {
    if let Some(report) = run("last-answer") {
        assert!(report.detected > 0, "{report:?}");
    }
}
