//! Random runs: whatever happens in whatever order, what must hold holds, and once faults stop the end comes.

use proptest::prelude::*;
use rand::Rng;

use super::world::{Entry, Faults, World};
use crate::task::receiver::{End, Input};
use crate::wire::StopReason;

/// Runs so many steps with faults, then to the end without. `None` if a fault ended the run.
fn run(seed: u64, entries: u32, steps: u32, one_in: u32) -> Option<World> {
    let mut world = World::new(seed, World::random_log(seed, entries));
    world.hear(Input::Consented);
    world.faults = Faults { one_in };
    for _ in 0..steps {
        match world.dice.random_range(0..200) {
            0 => world.lose_link(),
            1..=20 => world.connect(),
            _ => world.step(),
        }
        if let Some(end) = world.end {
            // Two inodes whose sync fails end a run; nothing else here does.
            assert!(matches!(end, End::Stopped(StopReason::SyncFailed) | End::Acknowledged), "{end:?}");
            return None;
        }
    }
    // What the sender had to say of chunks it could not serve is that they are gone: a further link asks again.
    world.lose_link();
    world.run_to_end();
    // A sync that failed just before the faults stopped may be heard only now.
    (world.end != Some(End::Stopped(StopReason::SyncFailed))).then_some(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_run_with_faults_converges_once_they_stop(
        seed in any::<u64>(), entries in 1_u32..40, steps in 0_u32..3000, one_in in 3_u32..200,
    ) {
        if let Some(world) = run(seed, entries, steps, one_in) {
            prop_assert_eq!(world.end, Some(End::Acknowledged));
            prop_assert!(world.is_issued);
            let tally = world.brain.tally();
            // A file that was given up while its batch was settled may be there all the same.
            let is_counted = |entry: &&Entry| entry.is_sealed && !entry.is_withdrawn && !entry.is_left_out;
            let sealed = world.entries.iter().filter(is_counted).count();
            prop_assert_eq!(tally.sealed_files, sealed as u64);
            prop_assert_eq!(tally.in_flight_bytes, 0);
            prop_assert_eq!(tally.held_bytes, tally.verified_bytes);
        }
    }

    #[test]
    fn a_run_without_faults_ends(seed in any::<u64>(), entries in 1_u32..60) {
        let world = run(seed, entries, 0, 0).unwrap();
        prop_assert_eq!(world.end, Some(End::Acknowledged));
    }
}
