//! The search over the session machines in the default run: every state within its bounds is as it must be, everything
//! that it is about was reached, and each model that is wrong on purpose is caught.
#![allow(clippy::unwrap_used)]

use fault_inject::explore::{Broken, Mark, Options, Violation, report, search};
use fault_inject::verdict::Verdict;

#[test]
fn every_state_within_the_bounds_is_as_it_must_be() {
    let report = report(Options { states_max: 400_000, ..Options::default() });
    assert_eq!(report.verdict, Verdict::Good, "{}\n{}", report.plan, report.log.join("\n"));
    assert!(report.injected > 10_000 && report.detected == report.injected, "{report:?}");
}

#[test]
fn two_searches_visit_the_same_states() {
    let options = Options { states_max: 30_000, ..Options::default() };
    let (one, two) = (search(options).unwrap(), search(options).unwrap());
    assert_eq!((one.states, one.moves, one.depth_max), (two.states, two.moves, two.depth_max));
}

#[test]
fn without_anything_going_wrong_nothing_of_that_is_reached() {
    let options = Options { ends: 0, losses: 0, doubles: 0, faults: 0, departures_max: 2, ..Options::default() };
    let found = search(options).unwrap();
    assert_eq!(found.violation, None);
    assert!(found.has(Mark::Sealed) && found.has(Mark::Acknowledged) && !found.has(Mark::ReceiverCut));
    assert_ne!(report(options).verdict, Verdict::Good, "a search in which nothing goes wrong says nothing");
}

/// Each of these acknowledges, publishes or throws away something that it must not.
#[test]
fn each_model_that_is_wrong_on_purpose_is_caught() {
    for broken in Broken::ALL {
        let found = search(Options { broken: Some(broken), states_max: 400_000, ..Options::default() }).unwrap();
        let (violation, trace) = found.violation.unwrap_or_else(|| panic!("{broken:?} was not caught"));
        let is_wrong = matches!(violation, Violation::Wrong(_));
        assert!(is_wrong || broken == Broken::ForgottenClaims, "{broken:?} was caught as {violation:?}");
        assert!(!trace.is_empty(), "{broken:?} has no trace");
    }
}
