//! Two batches that are settled at once: what the first says of a file that the second is to seal.

use std::time::Duration;

use super::transitions::{Bench, SEALED, bad, kept, one, place};
use crate::geometry::EntryIndex;
use crate::limits::{BATCH_AGE_MS, CHUNK_BYTES};
use crate::task::receiver::{Disposition, Input, SettleResult, WriteError};

/// A file of two chunks: the first was written in a batch that is being read back, the second in one that is being synced
/// and is to seal it.
fn straddling() -> Bench {
    let mut bench = Bench::begun(&one(2));
    assert_eq!(bench.examined(Disposition::Fresh), ["want 0.0", "want 0.1"]);
    assert!(bench.written(0).is_empty());
    assert_eq!(bench.after(Duration::from_millis(BATCH_AGE_MS)), ["settle"]);
    // The next one is closed once this one is synced.
    assert_eq!(bench.written(1), ["finish 0"]);
    assert_eq!(bench.hear(Input::BatchSynced), ["settle"]);
    bench
}

#[test]
fn a_chunk_that_came_back_bad_is_asked_for_once_the_batch_that_cannot_seal_its_file_is_settled() {
    let mut bench = straddling();
    assert!(bench.settled(bad(&[0])).is_empty(), "nothing comes into a file that is being sealed");
    assert_eq!(bench.settled(bad(&[])), ["want 0.0"]);
    assert_eq!(bench.written(0), ["finish 0", "settle"]);
    assert_eq!(bench.settled(SEALED), ["finishtree"]);
}

#[test]
fn an_inode_is_left_once_the_batch_that_was_to_seal_it_is_settled() {
    for failure in [SettleResult::SyncFailed, SettleResult::InodeLost] {
        let mut bench = straddling();
        assert!(bench.settled(failure.clone()).is_empty(), "not under the settler's hands");
        assert_eq!(bench.settled(bad(&[])), ["renew 0"], "{failure:?}");
        assert_eq!(bench.hear(Input::Renewed(EntryIndex(0), Ok(kept(&[0, 1])))), ["finish 0", "settle"]);
        assert_eq!(bench.settled(SEALED), ["finishtree"]);
    }
}

#[test]
fn what_waits_is_not_forgotten_where_the_file_could_not_be_put_into_its_batch() {
    let mut bench = straddling();
    assert!(bench.settled(bad(&[0])).is_empty());
    assert!(bench.hear(Input::FinishFailed(EntryIndex(0), WriteError::Full)).is_empty());
    assert_eq!(bench.hear(Input::Space(u64::MAX, u64::MAX)), ["want 0.0"]);
}

#[test]
fn a_chunk_that_the_store_lacks_is_asked_for_again() {
    let mut bench = straddling();
    assert!(bench.settled(bad(&[])).is_empty());
    assert_eq!(bench.hear(Input::Missing(vec![(EntryIndex(0), vec![1])])), ["want 0.1"]);
    // What is missed already is not asked for twice.
    assert!(bench.hear(Input::Missing(vec![(EntryIndex(0), vec![1])])).is_empty());
    assert!(bench.settled(bad(&[])).is_empty());
    assert_eq!(bench.hear(Input::Written(place(1), CHUNK_BYTES)), ["finish 0", "settle"]);
    assert_eq!(bench.settled(SEALED), ["finishtree"]);
}
