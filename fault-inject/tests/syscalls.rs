//! The shipped program killed, refused and lied to at some of its system calls: it is really struck, and recovers.
#![allow(clippy::unwrap_used)]

use fault_inject::rig::facility;
use fault_inject::rig::transfer::Side;
use fault_inject::syscalls::{Fault, Filter, Options, row, run};
use fault_inject::verdict::{Report, Verdict};

const SEED: u64 = 0x51_5ca1;

/// `None`, with a word on stderr, where this machine cannot trace.
fn good(test: &str, report: Report) -> Option<Report> {
    if let Verdict::Skipped(needs) = &report.verdict {
        facility::skipped(test, needs);
        return None;
    }
    assert_eq!(report.verdict, Verdict::Good, "{}\nREPRO: {}", report.log.join("\n"), report.reproduce);
    Some(report)
}

fn struck(test: &str, filter: Filter, runs: usize) -> Option<Report> {
    good(test, run(test, &Options { seed: SEED, filter, runs: Some(runs) }, &|_| ()))
}

#[test]
fn a_kill_at_any_call_of_either_side_is_recovered_from() {
    let filter = Filter { fault: Some(Fault::Kill), ..Filter::default() };
    if let Some(report) = struck("kills at system calls", filter, 12) {
        assert!(report.injected >= 8 && report.repaired == report.injected, "{report:?}");
    }
}

#[test]
fn a_lost_write_of_staged_bytes_is_found_by_the_read_back() {
    let (calls, nth) = (vec!["pwrite64".to_owned()], None);
    let filter = Filter { side: Some(Side::Receiver), fault: Some(Fault::Lie), calls, nth, ..Filter::default() };
    if let Some(report) = struck("lost writes", filter, 8) {
        let told = report.log.join("\n");
        assert!(report.injected > 0 && report.detected > 0, "{report:?}");
        assert!(told.contains("the read-back named it in") && !told.contains("named it in 0"), "{told}");
    }
}

#[test]
fn a_source_file_that_cannot_be_read_once_arrives_and_for_ever_is_named() {
    if let Some(report) = good("errors of reads of the source", row(4, SEED).unwrap()) {
        assert!(report.injected >= 4 && report.detected > 0, "{report:?}");
        assert!(report.log.join("\n").contains("5: "), "nothing was left out: {}", report.log.join("\n"));
    }
}

#[test]
fn a_number_that_no_thread_reaches_injects_nothing() {
    let calls = vec!["pwrite64".to_owned()];
    let filter =
        Filter { side: Some(Side::Receiver), fault: Some(Fault::Eio), calls, nth: Some(9999), ..Filter::default() };
    let report = run("nothing", &Options { seed: SEED, filter, runs: Some(1) }, &|_| ());
    assert!(matches!(report.verdict, Verdict::Vacuous | Verdict::Skipped(_)), "{report:?}");
}
