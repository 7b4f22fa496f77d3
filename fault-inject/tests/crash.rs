//! The crash-state enumeration and the loops over failing operations in the default run, and proof that a skipped
//! sync is seen.
#![allow(clippy::unwrap_used)]

use fault_inject::crash::{FailOptions, Options, enumerate, ext4_report, fail_each, fail_report, report, row};
use fault_inject::operation::Operation;
use fault_inject::sim_disk::SkipSync;
use fault_inject::simulator::Violation;
use fault_inject::verdict::Verdict;

const SMALL: Options = Options { seed: 1, states_max: 3000, workloads_max: 40, skip: None };

#[test]
fn every_state_that_a_power_cut_leaves_is_recovered_from() {
    let report = report(&SMALL);
    assert_eq!(report.verdict, Verdict::Good, "{}\n{}", report.plan, report.log.join("\n"));
    assert!(report.injected >= SMALL.states_max && report.detected > 0, "{report:?}");
}

#[test]
fn cuts_during_recovery_names_without_data_and_torn_pages_are_among_them() {
    let found = enumerate(&SMALL);
    assert!(found.states.iter().all(|states| *states > 0), "{found:?}");
    assert!(found.without_data > 0 && found.crash.torn_pages > 0 && found.crash.removed_names_back > 0, "{found:?}");
}

#[test]
fn a_skipped_sync_is_seen() {
    for skip in [SkipSync::Data, SkipSync::Directory, SkipSync::All] {
        let found = enumerate(&Options { skip: Some(skip.clone()), ..SMALL });
        assert!(matches!(found.violation, Some((Violation::Wrong(_), ..))), "{skip:?}: {found:?}");
    }
}

#[test]
fn a_symlink_whose_time_cannot_be_set_is_named_so_in_the_receipt() {
    let found = fail_each(FailOptions { seed: 1, workloads: 1, stride: 1 });
    assert!(found.kinds.contains_key(&Operation::SetMtime), "no time of a link was to be set: {:?}", found.kinds);
    assert_eq!((found.violation, found.error), (None, None));
}

#[test]
fn an_operation_that_fails_costs_work_and_nothing_else() {
    let report = fail_report(FailOptions { seed: 2, workloads: 1, stride: 1 });
    assert_eq!(report.verdict, Verdict::Good, "{}\n{}", report.plan, report.log.join("\n"));
    assert!(report.injected > 100 && report.detected > 0, "{report:?}");
}

#[test]
fn rows_of_the_matrix_are_answered() {
    for number in [13, 62, 63, 65, 66, 73] {
        let report = row(number, 5).unwrap();
        assert_eq!(report.verdict, Verdict::Good, "row {number}: {}", report.log.join("\n"));
        assert!(report.injected > 0 && report.repaired > 0, "row {number}: {report:?}");
    }
    assert!(row(1, 5).is_none());
}

#[test]
fn power_cuts_on_a_real_ext4_leave_nothing_wrong_under_a_final_name() {
    let report = ext4_report(3, 10);
    match report.verdict {
        Verdict::Skipped(needs) => fault_inject::rig::facility::skipped("power cuts on ext4", &needs),
        verdict => {
            assert_eq!(verdict, Verdict::Good, "{}\n{}", report.plan, report.log.join("\n"));
            assert!(report.injected >= 10 && report.detected > 0, "{}", report.log.join("\n"));
        }
    }
}
