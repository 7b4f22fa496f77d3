//! The message-level simulation in the default run: enough seeds, no violation, nothing vacuous; the same trace in
//! two processes; and proof that a skipped sync is seen.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::Command;

use fault_inject::sim_disk::SkipSync;
use fault_inject::simulator::campaign::{Campaign, run};
use fault_inject::simulator::{Class, Options};

/// Seeds of the default run.
const SEEDS: u64 = 10_000;

fn failures(campaign: &Campaign) -> String {
    let shown = campaign.failures.iter().take(5);
    shown.map(|failure| format!("{:#x}: {:?}\n  {}\n", failure.seed, failure.violation, failure.plan)).collect()
}

#[test]
fn no_seed_acknowledges_what_is_wrong_or_fails_to_converge() {
    let campaign = run(0, SEEDS, &Options::default());
    assert_eq!(campaign.coverage.missing(SEEDS), [], "the run has shown too little");
    assert!(campaign.failures.is_empty(), "{} seeds failed:\n{}", campaign.failures.len(), failures(&campaign));
}

#[test]
fn two_processes_give_one_trace() {
    let trace = |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fault-inject"));
        let output = command.args(["simulate", "--seeds", "50", "--json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split("\"trace\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let traces: Vec<String> = (0..2).map(trace).collect();
    assert_eq!(traces[0], traces[1]);
    assert_eq!(traces[0].len(), 64);
}

#[test]
fn a_skipped_sync_turns_the_run_red() {
    let only = [Class::CutReceiver, Class::KillReceiver];
    let dropped: BTreeSet<Class> = Class::ALL.into_iter().filter(|class| !only.contains(class)).collect();
    let clean = run(0, 200, &Options { dropped: dropped.clone(), ..Options::default() });
    assert!(clean.failures.is_empty(), "without a skipped sync these seeds are good:\n{}", failures(&clean));
    for skip in [SkipSync::Data, SkipSync::Directory, SkipSync::All] {
        let options = Options { dropped: dropped.clone(), skip: Some(skip.clone()), ..Options::default() };
        assert_eq!(run(0, 200, &options).exit_code(), 1, "{skip:?} was not seen");
    }
}
