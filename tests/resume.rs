//! SIGKILL of either side and of both, after each durable step and at random moments; then the same command again, or
//! `landfall resume`, and a comparison. What a kill met is read from the state on the disks, and each kind of step has
//! to be met. What is sent and read again is counted in `resume/again.rs`, outside the product.
#![allow(clippy::unwrap_used)]

#[path = "resume/again.rs"]
mod again;
use fault_inject::rig as common;
#[path = "resume/whole.rs"]
mod whole;

use std::time::Duration;

use common::scratch::Scratch;
use common::seed::Seed;
use common::state::{KILLABLE, Step};
use common::transfer::{self, BOTH_DIRECTIONS, Setup, Side};
use common::{facility, trees};
use fault_inject::kills::campaign::{Campaign, Ground, Wanted};
use fault_inject::kills::jobs;

/// Kills that the default run must reach.
const KILLS_MIN: u64 = 200;
/// From the last restart to the end of both sides. The receiver's linger of a minute is in it.
const RESUME_PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn any_kill_is_survived() {
    let seed = Seed::of("resume", "any_kill_is_survived");
    let ground = Ground::new(seed.value).unwrap();
    facility::assert_locked(&ground.source.join("locked"));
    let campaign = Campaign::on(&ground);
    let measured = campaign.measure().unwrap();
    let mut all = jobs::at_every_step(0, &jobs::VICTIMS, 1);
    all.extend(jobs::after_changes(all.len(), &jobs::VICTIMS, measured, 80));
    all.extend(jobs::chains(all.len(), &jobs::VICTIMS, measured, 40, seed.value));
    let only = std::env::var("LANDFALL_TEST_JOB").ok();
    all.retain(|job| only.as_ref().is_none_or(|only| job.number.to_string() == *only));
    let number = only.as_ref().and_then(|only| only.parse().ok());
    all.extend(number.and_then(|number| jobs::make_up_numbered(number, measured.took)));
    let mut sum = campaign.run(&all);
    if only.is_none() && sum.failures.is_empty() {
        let wanted = Wanted { each_step: 1, each_point: 0, kills: KILLS_MIN };
        campaign.make_up(&mut sum, &jobs::VICTIMS, wanted, measured.took);
    }
    let told: Vec<String> = sum.failures.iter().map(|(job, verdict)| format!("{job:?}: {verdict}")).collect();
    let first = sum.failures.first().map_or(0, |(job, _)| job.number);
    let again = format!("reproduce the first alone: LANDFALL_TEST_JOB={first} {}", seed.command());
    assert!(told.is_empty(), "{}\n{again}", told.join("\n"));
    if only.is_none() {
        assert!(sum.tally.kills() >= KILLS_MIN, "{}", sum.tally.summary());
        let missed = sum.tally.below(1, &KILLABLE);
        assert_eq!(missed, Vec::<Step>::new(), "steps that no kill met; {}", sum.tally.summary());
    }
    ground.assert_canary();
    let (changes, summary) = (measured.changes, sum.tally.summary());
    facility::say(&format!("resume: {changes} changes of state in a run without kills; {summary}"));
}

#[test]
fn a_side_that_was_not_killed_needs_nothing() {
    let scratch = Scratch::new("untouched");
    let source = trees::medley(&scratch.join("source"), 1);
    for listens in BOTH_DIRECTIONS {
        for victim in [Side::Sender, Side::Receiver] {
            let mut setup = Setup::new(&scratch, &format!("{listens:?}-{victim:?}"), &[&source], listens);
            setup.through_relay(1).rate(8 << 20);
            let mut live = setup.start();
            let places = setup.places(usize::MAX);
            let is_under_way = live.receiver.wait_until("staged bytes", RESUME_PATIENCE, |_| {
                places.look().staging_files > 0 && setup.relay().all_bytes() > 2 << 20
            });
            assert!(is_under_way, "{}", live.receiver.describe("ended"));
            let live = live.kill_and_restart(victim, &setup, || ());
            setup.relay().rate(0);
            let done = live.wait(RESUME_PATIENCE);
            done.assert_success();
            transfer::assert_arrived(&source, &setup.target);
        }
    }
}
