//! What the brain keeps is bounded by what has arrived, not by what a sender says of a file; and what was passed over
//! for that reason is asked for when it can be.

use super::transitions::{Bench, kept, place};
use crate::geometry::EntryIndex;
use crate::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use crate::outcome::Reason;
use crate::task::receiver::{Disposition, Input, Noted, SealClaim, WriteError};

const FIRST: EntryIndex = EntryIndex(0);
const ENORMOUS: u64 = FILE_BYTES_MAX;

/// The first records of an enormous file: so many of its digests.
fn begun(claim: SealClaim, known: u32) -> Bench {
    Bench::begun(&[Noted::File { size: ENORMOUS, claim }, Noted::DigestsTo(known)])
}

fn wants(chunks: std::ops::Range<u32>) -> Vec<String> {
    chunks.map(|chunk| format!("want 0.{chunk}")).collect()
}

#[test]
fn an_enormous_file_is_wanted_as_its_digests_come() {
    let mut bench = begun(SealClaim::None, 2);
    assert_eq!(bench.examined(Disposition::Fresh), wants(0..2));
    assert!(bench.written(0).is_empty());
    assert_eq!(bench.hear(Input::Noted(vec![Noted::DigestsTo(3)])), wants(2..3));
    assert_eq!(bench.brain.active[&0].held.len(), 1);
}

#[test]
fn a_claim_that_falls_does_not_make_a_place_of_every_chunk() {
    let mut bench = begun(SealClaim::Claimed, 2);
    let fallen = vec![(FIRST, Disposition::Fresh)];
    assert_eq!(bench.hear(Input::ClaimsExamined(fallen)), wants(0..2));
    assert!(bench.brain.rewants.is_empty());
    assert_eq!(bench.hear(Input::Noted(vec![Noted::DigestsTo(5)])), wants(2..5), "the scan has left them behind");
}

#[test]
fn a_new_inode_does_not_make_a_place_of_every_chunk() {
    let mut bench = begun(SealClaim::None, 2);
    assert_eq!(bench.examined(Disposition::Candidate), ["adopt 0+2"]);
    assert_eq!(bench.hear(Input::WriteFailed(place(0), WriteError::Failed)).len(), 0, "nobody asked for it");
    bench.brain.renew(0, Reason::WriteFailed);
    assert_eq!(bench.hear(Input::Renewed(FIRST, Ok(kept(&[1])))), ["renew 0", "want 0.0"]);
    assert!(bench.brain.rewants.is_empty());
    assert_eq!(bench.hear(Input::Noted(vec![Noted::DigestsTo(4)])), wants(2..4));
}

#[test]
fn what_nobody_asked_for_leaves_no_trace() {
    let mut bench = begun(SealClaim::None, 1);
    assert_eq!(bench.examined(Disposition::Fresh), wants(0..1));
    for chunk in 1..1000 {
        assert!(bench.hear(Input::Differed(place(chunk))).is_empty());
        assert!(bench.hear(Input::Gone(place(chunk), Reason::Vanished)).is_empty());
    }
    let active = &bench.brain.active[&0];
    assert!(bench.brain.rewants.is_empty() && active.arrivals.is_empty() && active.gone.is_empty());
    assert_eq!(bench.brain.tally().resent_chunks, 0);
    assert_eq!(bench.hear(Input::Differed(place(0))), wants(0..1), "what was asked for is asked for again");
    assert_eq!(bench.brain.tally().in_flight_bytes, u64::from(CHUNK_BYTES));
}
