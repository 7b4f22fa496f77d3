//! One cheap strike of each kind: a deletion, a plan, a renaming transfer and both ends of a pipe, killed and run again.
#![allow(clippy::unwrap_used)]

use fault_inject::kills::everyday::{Everyday, cheap};
use fault_inject::rig::facility;
use fault_inject::verdict::Verdict;

const SEED: u64 = 0x0e_7e27;

fn survives(what: Everyday) {
    let report = cheap(what, SEED);
    report.log.iter().filter(|line| line.contains("skipped")).for_each(|line| facility::skipped("everyday", line));
    assert_eq!(report.verdict, Verdict::Good, "{}\nREPRO: {}", report.log.join("\n"), report.reproduce);
    assert!(report.injected > 0 && report.repaired == report.injected, "{report:?}");
}

#[test]
fn a_deletion_that_was_killed_removes_nothing_unnoted_and_is_finished_by_the_same_command() {
    survives(Everyday::Deletion);
}

#[test]
fn a_plan_that_was_killed_has_changed_nothing() {
    survives(Everyday::Plan);
}

#[test]
fn a_renaming_transfer_that_was_killed_leaves_what_stood_there_and_makes_no_second_copy() {
    survives(Everyday::Renaming);
}

#[test]
fn a_pipe_of_which_an_end_was_killed_is_whole_or_says_that_it_is_not() {
    survives(Everyday::Pipes);
}
