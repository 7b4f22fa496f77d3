//! Each transition of a chunk's and of a file's life, by hand: what is asked after what was heard.
#![allow(clippy::type_complexity)]

use std::time::{Duration, Instant};

use super::super::{Ending, Receiver, Settings};
use crate::attributes::Level;
use crate::geometry::{ChunkRun, EntryIndex};
use crate::limits::{ARRIVAL_STRIKES_MAX, CHUNK_BYTES, IN_FLIGHT_BYTES_MAX};
use crate::outcome::Reason;
use crate::task::receiver::{
    AdoptItem, AdoptedItem, Disposition, End, Input, Kept, Noted, OtherKind, SealClaim, SettleResult, SettledFile,
    Task, WriteError,
};
use crate::wire::{Message, Place, StopReason};

const CHUNK: u64 = CHUNK_BYTES as u64;
const FIRST: EntryIndex = EntryIndex(0);
const LINGER: Duration = Duration::from_secs(60);

pub(super) struct Bench {
    pub(super) brain: Receiver,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(None, Some(Duration::from_secs(100)))
    }

    fn with(max_bytes: Option<u64>, patience: Option<Duration>) -> Bench {
        let settings = Settings {
            chunk_bytes: CHUNK_BYTES,
            max_bytes,
            patience,
            linger: LINGER,
            batch_files: crate::limits::BATCH_FILES_MAX,
        };
        Bench { brain: Receiver::new(settings, Ending::open(LINGER)), now: Instant::now() }
    }

    /// Linked, consented, with this log, and settled at its end.
    pub(super) fn begun(log: &[Noted]) -> Bench {
        let mut bench = Bench::new();
        bench.hear(Input::Consented);
        bench.hear(Input::Connected);
        bench.hear(Input::Settled(log.len() as u64));
        bench.hear(Input::Noted(log.to_vec()));
        bench
    }

    /// The tasks that follow, without those for screens and free space. Wants as `entry.chunk`.
    pub(super) fn hear(&mut self, input: Input) -> Vec<String> {
        self.brain.handle(self.now, input);
        let mut said = vec![];
        while let Some(task) = self.brain.poll() {
            match task {
                Task::Send(Message::Progress(_)) | Task::LookAtSpace => (),
                Task::Send(Message::Want(want)) => {
                    for run in &want.runs {
                        let chunks = run.first..run.first + run.count;
                        said.extend(chunks.map(|chunk| format!("want {}.{chunk}", run.entry.0)));
                    }
                }
                Task::Send(message) => said.push(format!("send {message:?}").chars().take(9).collect()),
                Task::Examine(first, count) => said.push(format!("examine {} {count}", first.0)),
                Task::ExamineClaims(entries) => said.push(format!("claims {}", entries.len())),
                Task::Adopt(items) => {
                    said.extend(items.iter().map(|item| format!("adopt {}+{}", item.run.first, item.run.count)));
                }
                Task::Finish(entry) => said.push(format!("finish {}", entry.0)),
                Task::ReadBack(entry, run) => said.push(format!("read {}.{}+{}", entry.0, run.first, run.count)),
                Task::NewInode(entry) => said.push(format!("renew {}", entry.0)),
                Task::Abandon(entry, reason) => said.push(format!("abandon {} {reason:?}", entry.0)),
                Task::End(end) => said.push(format!("end {end:?}")),
                other => said.push(format!("{other:?}").to_lowercase()),
            }
        }
        said
    }

    pub(super) fn examined(&mut self, found: Disposition) -> Vec<String> {
        self.hear(Input::Examined(FIRST, vec![found]))
    }

    pub(super) fn settled(&mut self, result: SettleResult) -> Vec<String> {
        self.hear(Input::BatchSettled(vec![SettledFile { entry: FIRST, result }]))
    }

    pub(super) fn written(&mut self, chunk: u32) -> Vec<String> {
        self.hear(Input::Written(place(chunk), CHUNK_BYTES))
    }

    pub(super) fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.hear(Input::Tick)
    }
}

pub(super) fn place(chunk: u32) -> Place {
    Place { entry: 0, chunk }
}

pub(super) fn file(chunks: u32) -> Noted {
    Noted::File { size: u64::from(chunks) * CHUNK, claim: SealClaim::None }
}

/// A log of one file.
pub(super) fn one(chunks: u32) -> Vec<Noted> {
    vec![file(chunks), Noted::DigestsTo(chunks), Noted::Ended, Noted::Complete]
}

/// What a new inode has, of chunks that are full.
pub(super) fn kept(chunks: &[u32]) -> Kept {
    Kept { bytes: chunks.len() as u64 * CHUNK, chunks: chunks.to_vec() }
}

pub(super) fn bad(chunks: &[u32]) -> SettleResult {
    SettleResult::Durable { verified_bytes: 0, bad: chunks.to_vec() }
}

pub(super) const SEALED: SettleResult = SettleResult::Sealed { level: Level::Device };

#[test]
fn nothing_is_looked_at_or_wanted_before_consent() {
    let mut bench = Bench::new();
    assert!(bench.hear(Input::Connected).is_empty());
    assert!(bench.hear(Input::Noted(one(1))).is_empty());
    assert!(bench.hear(Input::Written(place(0), CHUNK_BYTES)).is_empty());
    assert!(bench.after(Duration::from_secs(5)).is_empty());
    assert!(bench.brain.poll_timeout().unwrap() > bench.now, "what waits for the user does not spin");
    assert_eq!(bench.hear(Input::Consented), ["examine 0 1"]);
}

#[test]
fn declining_says_so_to_the_sender_and_ends() {
    let mut bench = Bench::new();
    bench.hear(Input::Connected);
    assert_eq!(bench.hear(Input::Declined), ["send Stop", "end Stopped(Declined)"]);
}

#[test]
fn a_file_goes_from_examined_to_sealed_and_the_run_to_its_receipt() {
    let mut bench = Bench::begun(&one(2));
    assert_eq!(bench.examined(Disposition::Fresh), ["want 0.0", "want 0.1"]);
    assert!(bench.written(1).is_empty());
    assert_eq!(bench.brain.tally().held_bytes, CHUNK);
    assert_eq!(bench.written(0), ["finish 0", "settle"]);
    assert_eq!(bench.settled(SEALED), ["finishtree"]);
    assert_eq!(bench.hear(Input::TreeFinished), ["issuereceipt"]);
    assert_eq!(bench.hear(Input::ReceiptIssued), ["sendreceipt"]);
    assert_eq!(bench.hear(Input::Acknowledged), ["close"]);
    assert_eq!(bench.hear(Input::Closed), ["end Acknowledged"]);
    let tally = bench.brain.tally();
    assert_eq!((tally.held_bytes, tally.verified_bytes, tally.sealed_files), (2 * CHUNK, 2 * CHUNK, 1));
}

#[test]
fn an_empty_file_is_sealed_without_a_want() {
    let mut bench = Bench::begun(&[file(0), Noted::Ended, Noted::Complete]);
    assert_eq!(bench.examined(Disposition::Fresh), ["finish 0", "settle"]);
}

#[test]
fn a_file_that_could_not_be_put_into_the_batch_leaves_nothing_due_behind_the_receipt() {
    let mut bench = Bench::begun(&[file(0), Noted::Ended]);
    assert_eq!(bench.examined(Disposition::Fresh), ["finish 0"]);
    let failed = bench.hear(Input::FinishFailed(FIRST, WriteError::Failed));
    assert_eq!(failed, ["abandon 0 Some(WriteFailed)"]);
    assert_eq!(bench.hear(Input::Noted(vec![Noted::Complete])), ["settle"]);
    assert_eq!(bench.hear(Input::BatchSettled(vec![])), ["finishtree"]);
    bench.hear(Input::TreeFinished);
    bench.hear(Input::ReceiptIssued);
    bench.after(Duration::from_secs(10));
    assert!(bench.brain.poll_timeout().unwrap() > bench.now, "what is over does not spin");
}

#[test]
fn nothing_is_finished_before_the_sender_has_settled_at_a_position_that_came() {
    let mut bench = Bench::begun(&[]);
    bench.hear(Input::Settled(3));
    // An older `Complete` is there already; two more records are on their way.
    let log = [Noted::Other { kind: OtherKind::Directory }, Noted::Complete];
    assert_eq!(bench.hear(Input::Noted(log[..1].to_vec())), ["examine 0 1"]);
    assert!(bench.examined(Disposition::Placed).is_empty());
    assert!(bench.hear(Input::Noted(log[1..].to_vec())).is_empty(), "two records of three");
    assert!(bench.hear(Input::Noted(vec![Noted::Withdrawn(FIRST)])).iter().all(|said| said.starts_with("abandon")));
    assert_eq!(bench.hear(Input::Noted(vec![Noted::Complete])), ["finishtree"]);
}

#[test]
fn a_chunk_that_differs_on_arrival_is_wanted_again_a_bounded_number_of_times() {
    let mut bench = Bench::begun(&one(1));
    bench.examined(Disposition::Fresh);
    for strike in 1..ARRIVAL_STRIKES_MAX {
        let said = bench.hear(Input::Differed(place(0)));
        let expected = if strike == 2 { vec!["checklog", "want 0.0"] } else { vec!["want 0.0"] };
        assert_eq!(said, expected, "strike {strike}");
    }
    let said = bench.hear(Input::Differed(place(0)));
    assert_eq!(said, ["abandon 0 Some(ArrivalDiffers)", "finishtree"]);
    assert_eq!(bench.brain.tally().left_out, 1);
}

#[test]
fn a_damaged_log_restarts_the_run() {
    let mut bench = Bench::begun(&one(1));
    assert_eq!(bench.hear(Input::LogChecked(false)), ["restart"]);
}

#[test]
fn an_extent_that_is_bad_twice_costs_its_inode_and_two_inodes_cost_the_file() {
    let mut bench = Bench::begun(&one(2));
    bench.examined(Disposition::Fresh);
    bench.written(0);
    bench.written(1);
    assert_eq!(bench.settled(bad(&[1])), ["want 0.1"]);
    assert_eq!(bench.written(1), ["finish 0", "settle"]);
    assert_eq!(bench.settled(bad(&[1])), ["renew 0"]);
    assert_eq!(bench.hear(Input::Renewed(FIRST, Ok(kept(&[0])))), ["want 0.1"]);
    assert_eq!(bench.written(1), ["finish 0", "settle"]);
    assert_eq!(bench.settled(bad(&[1])), ["want 0.1"]);
    assert_eq!(bench.written(1), ["finish 0", "settle"]);
    assert_eq!(bench.settled(bad(&[1])), ["abandon 0 Some(DeviceDiffers)", "finishtree"]);
    let tally = bench.brain.tally();
    assert_eq!((tally.left_out, tally.held_bytes, tally.verified_bytes), (1, 0, 0));
}

#[test]
fn what_is_missed_already_is_no_further_strike() {
    let mut bench = Bench::begun(&one(2));
    bench.examined(Disposition::Fresh);
    bench.written(0);
    bench.written(1);
    assert_eq!(bench.settled(bad(&[1])), ["want 0.1"]);
    // The next batch speaks of the same chunk before it came again.
    assert!(bench.settled(bad(&[1])).is_empty());
    assert_eq!(bench.written(1), ["finish 0", "settle"]);
}

#[test]
fn a_second_failed_sync_ends_the_run() {
    let mut bench = Bench::begun(&one(1));
    bench.examined(Disposition::Fresh);
    bench.written(0);
    assert_eq!(bench.settled(SettleResult::SyncFailed), ["renew 0"]);
    assert_eq!(bench.hear(Input::Renewed(FIRST, Ok(kept(&[0])))), ["finish 0", "settle"]);
    assert_eq!(bench.settled(SettleResult::SyncFailed), ["send Stop", "end Stopped(SyncFailed)"]);
}

#[test]
fn what_is_said_of_an_inode_that_was_left_does_not_hold_for_the_new_one() {
    let mut bench = Bench::begun(&one(3));
    bench.examined(Disposition::Fresh);
    bench.written(0);
    bench.after(Duration::from_secs(2));
    assert_eq!(bench.hear(Input::WriteFailed(place(1), WriteError::Failed)), ["renew 0"]);
    assert_eq!(bench.hear(Input::Renewed(FIRST, Ok(kept(&[0])))), ["want 0.1"]);
    let held = bench.brain.tally().held_bytes;
    assert!(bench.settled(bad(&[0])).is_empty(), "chunk 0 of the old inode is nobody's business");
    assert_eq!(bench.brain.tally().held_bytes, held);
}

#[test]
fn a_renewed_candidate_is_wanted_not_forgotten() {
    let mut bench = Bench::begun(&one(100));
    assert_eq!(bench.examined(Disposition::Candidate), ["adopt 0+64"]);
    let run = ChunkRun { first: 0, count: 64 };
    let item = AdoptedItem { entry: FIRST, run, missing: vec![5], copied_bytes: 0, is_restarted: false, refused: None };
    assert_eq!(bench.hear(Input::Adopted(vec![item])), ["adopt 64+36", "want 0.5"]);
    assert_eq!(bench.hear(Input::WriteFailed(place(5), WriteError::Failed)), ["renew 0"]);
    let item = AdoptItem { entry: FIRST, run: ChunkRun { first: 64, count: 36 } };
    let missing = (64..100).collect();
    let item =
        AdoptedItem { entry: item.entry, run: item.run, missing, copied_bytes: 0, is_restarted: false, refused: None };
    bench.hear(Input::Adopted(vec![item]));
    let was_held: Vec<u32> = (0..60).collect();
    let wanted = bench.hear(Input::Renewed(FIRST, Ok(kept(&was_held))));
    assert_eq!(wanted, (60..100).map(|chunk| format!("want 0.{chunk}")).collect::<Vec<_>>());
    for chunk in 60..99 {
        assert!(bench.written(chunk).iter().all(|said| !said.starts_with("finish")));
    }
    assert!(bench.written(99).contains(&"finish 0".to_owned()));
}

#[test]
fn a_target_that_differs_at_its_end_is_compared_again_from_its_start() {
    let mut bench = Bench::begun(&one(2));
    assert_eq!(bench.examined(Disposition::Candidate), ["adopt 0+2"]);
    let run = ChunkRun { first: 0, count: 2 };
    let restarted =
        AdoptedItem { entry: FIRST, run, missing: vec![], copied_bytes: 0, is_restarted: true, refused: None };
    assert_eq!(bench.hear(Input::Adopted(vec![restarted.clone()])), ["adopt 0+2"]);
    let copied = AdoptedItem { missing: vec![1], copied_bytes: CHUNK, is_restarted: false, ..restarted };
    assert_eq!(bench.hear(Input::Adopted(vec![copied])), ["want 0.1"]);
    assert_eq!(bench.written(1), ["finish 0", "settle"]);
}

#[test]
fn a_claim_that_falls_before_its_digests_are_known_is_wanted_when_they_are() {
    let mut bench = Bench::begun(&[]);
    bench.hear(Input::Settled(4));
    let begin = Noted::File { size: 2 * CHUNK, claim: SealClaim::Claimed };
    assert_eq!(bench.hear(Input::Noted(vec![begin])), ["examine 0 1", "claims 1"]);
    assert!(bench.examined(Disposition::Placed).is_empty());
    assert!(bench.hear(Input::ClaimsExamined(vec![(FIRST, Disposition::Fresh)])).is_empty());
    assert_eq!(bench.hear(Input::Noted(vec![Noted::DigestsTo(2)])), ["want 0.0", "want 0.1"]);
}

#[test]
fn a_lost_link_asks_again_and_what_was_gone_only_then() {
    let mut bench = Bench::begun(&one(3));
    bench.examined(Disposition::Fresh);
    bench.written(0);
    assert!(bench.hear(Input::Gone(place(1), Reason::Changed)).is_empty());
    bench.hear(Input::LinkLost);
    assert_eq!(bench.brain.tally().in_flight_bytes, 0);
    let said = bench.hear(Input::Connected);
    assert_eq!(said, ["want 0.1", "want 0.2"]);
}

#[test]
fn claims_of_an_earlier_run_are_read_back_before_the_file_is_finished() {
    let mut bench = Bench::begun(&one(2));
    let staged = Disposition::Staged(vec![ChunkRun { first: 0, count: 1 }]);
    assert_eq!(bench.examined(staged), ["want 0.1"], "the first new chunk comes first");
    assert_eq!(bench.written(1), ["settle"]);
    let durable = SettleResult::Durable { verified_bytes: CHUNK, bad: vec![] };
    assert_eq!(bench.settled(durable), ["read 0.0+1"]);
    let run = ChunkRun { first: 0, count: 1 };
    assert_eq!(bench.hear(Input::ReadBackDone(FIRST, run, vec![])), ["finish 0", "settle"]);
    assert_eq!(bench.brain.tally().verified_bytes, 2 * CHUNK);
}

#[test]
fn a_full_disk_pauses_wants_and_ends_the_run_when_patience_does() {
    let mut bench = Bench::begun(&one(3));
    bench.examined(Disposition::Fresh);
    assert!(bench.hear(Input::WriteFailed(place(0), WriteError::Full)).is_empty());
    assert!(bench.hear(Input::Space(0, 9)).is_empty());
    assert_eq!(bench.hear(Input::Space(u64::MAX, 9)), ["want 0.0"]);
    // The file system says that there is space, and every write says that there is none.
    for _ in 0..40 {
        bench.hear(Input::WriteFailed(place(0), WriteError::Full));
        bench.hear(Input::Space(u64::MAX, 9));
        bench.after(Duration::from_secs(2));
    }
    assert_eq!(bench.after(Duration::from_secs(30)), ["send Stop", "end Stopped(DiskFull)"]);
}

#[test]
fn a_finish_without_space_is_tried_again_when_there_is_some() {
    let mut bench = Bench::begun(&one(1));
    bench.examined(Disposition::Fresh);
    bench.written(0);
    assert!(bench.settled(SettleResult::Full).is_empty());
    assert_eq!(bench.hear(Input::Space(u64::MAX, 9)), ["finish 0", "settle"]);
    assert_eq!(bench.settled(SEALED), ["finishtree"]);
    assert!(bench.hear(Input::StateFull).is_empty());
    assert_eq!(bench.hear(Input::Space(u64::MAX, 9)), ["finishtree"]);
    assert_eq!(bench.hear(Input::TreeFinished), ["issuereceipt"]);
    assert!(["", ""] == [Input::StateFull, Input::LinkLost].map(|input| bench.hear(input).concat()));
    bench.hear(Input::Connected); // of a sender that has not settled: what was complete may be older than its source
    assert!(bench.hear(Input::Space(u64::MAX, 9)).is_empty());
    assert_eq!(bench.hear(Input::Settled(0)), ["finishtree"]);
}

#[test]
fn a_transfer_that_is_too_large_is_refused_also_if_its_size_cannot_be_counted() {
    let mut bench = Bench::with(Some(CHUNK), None);
    bench.hear(Input::Connected);
    assert_eq!(bench.hear(Input::Noted(vec![file(2)])), ["send Stop", "end Stopped(TooLarge)"]);
    let mut bench = Bench::new();
    let huge = Noted::File { size: 1 << 50, claim: SealClaim::None };
    let log = (0..20_000).flat_map(|_| [huge, Noted::Ended]).collect();
    assert_eq!(bench.hear(Input::Noted(log)), ["end Stopped(TooLarge)"; 1]);
}

#[test]
fn wants_keep_to_the_budget_and_come_in_pieces() {
    let mut bench = Bench::begun(&one(200));
    let wanted = bench.examined(Disposition::Fresh);
    assert_eq!(wanted.len() as u64, IN_FLIGHT_BYTES_MAX / CHUNK);
    for chunk in 0..15 {
        assert!(bench.written(chunk).is_empty(), "{chunk}");
    }
    assert_eq!(bench.written(15).len(), 16, "a quarter is free");
}

#[test]
fn a_file_that_is_withdrawn_in_any_phase_leaves_nothing_behind() {
    let adopt = |bench: &mut Bench| drop(bench.examined(Disposition::Candidate));
    let want = |bench: &mut Bench| drop(bench.examined(Disposition::Fresh));
    let hold = |bench: &mut Bench| {
        bench.examined(Disposition::Fresh);
        bench.written(0);
    };
    let finish = |bench: &mut Bench| {
        bench.examined(Disposition::Fresh);
        bench.written(0);
        bench.written(1);
    };
    let seal = |bench: &mut Bench| {
        bench.examined(Disposition::Fresh);
        bench.written(0);
        bench.written(1);
        bench.settled(SEALED);
    };
    let keep = |bench: &mut Bench| drop(bench.examined(Disposition::LeftOut(Reason::Kept)));
    let leave = |bench: &mut Bench| drop(bench.examined(Disposition::LeftOut(Reason::TargetDenied)));
    let phases: [(&str, &dyn Fn(&mut Bench)); 8] = [
        ("unexamined", &|_| ()),
        ("adopting", &adopt),
        ("wanted", &want),
        ("held", &hold),
        ("finishing", &finish),
        ("sealed", &seal),
        ("kept", &keep),
        ("left out", &leave),
    ];
    for (phase, reach) in phases {
        let mut bench = Bench::begun(&one(2));
        reach(&mut bench);
        let said = bench.hear(Input::Noted(vec![Noted::Withdrawn(FIRST)]));
        assert_eq!(said.first().map(String::as_str), Some("abandon 0 None"), "{phase}");
        // Whatever was on its way is answered all the same.
        bench.written(1);
        bench.hear(Input::Examined(FIRST, vec![Disposition::Placed]));
        let run = ChunkRun { first: 0, count: 2 };
        let adopted =
            AdoptedItem { entry: FIRST, run, missing: vec![0], copied_bytes: 0, is_restarted: false, refused: None };
        bench.hear(Input::Adopted(vec![adopted]));
        bench.settled(SEALED);
        bench.settled(bad(&[0]));
        let tally = bench.brain.tally();
        let counts = (tally.known_bytes, tally.held_bytes, tally.verified_bytes, tally.in_flight_bytes);
        assert_eq!(counts, (0, 0, 0, 0), "{phase}");
        assert_eq!((tally.known_files, tally.sealed_files, tally.left_out), (0, 0, 0), "{phase}");
        let said = bench.hear(Input::Noted(vec![Noted::Complete]));
        let end = [bench.hear(Input::TreeFinished), bench.hear(Input::BatchSettled(vec![]))].concat();
        assert!(said.iter().chain(&end).any(|said| said == "finishtree"), "{phase}: {said:?} {end:?}");
    }
}

/// A run that has issued its receipt.
fn issued() -> Bench {
    let mut bench = Bench::begun(&[Noted::Complete]);
    bench.hear(Input::TreeFinished);
    assert_eq!(bench.hear(Input::ReceiptIssued), ["sendreceipt"]);
    bench
}

#[test]
fn records_that_come_while_the_tree_is_finished_finish_it_again() {
    let mut bench = Bench::begun(&[Noted::Complete]);
    assert_eq!(bench.hear(Input::Noted(vec![Noted::Other { kind: OtherKind::Symlink }])), ["examine 0 1"]);
    bench.examined(Disposition::Placed);
    assert!(bench.hear(Input::TreeFinished).is_empty());
    assert_eq!(bench.hear(Input::Noted(vec![Noted::Complete])), ["finishtree"]);
    assert_eq!(bench.hear(Input::TreeFinished), ["issuereceipt"]);
    assert_eq!(bench.hear(Input::ReceiptRefused), ["finishtree"], "it is looked at again");
}

#[test]
fn a_receipt_is_lingered_with_and_sent_again_on_each_link() {
    let mut bench = issued();
    bench.hear(Input::LinkLost);
    assert_eq!(bench.hear(Input::Connected), ["sendreceipt"]);
    assert!(bench.hear(Input::PeerStopped(StopReason::Interrupted)).is_empty(), "it may come back for it");
    assert!(bench.after(LINGER / 2).is_empty());
    assert_eq!(bench.after(LINGER / 2), ["close"]);
    assert_eq!(bench.hear(Input::StateFailed), ["end Unconfirmed"], "what is left of the state costs nobody anything");
}

#[test]
fn a_receiver_that_holds_its_receipt_ends_well_when_its_patience_is_over() {
    let mut bench = issued();
    bench.hear(Input::LinkLost);
    assert_eq!(bench.hear(Input::PatienceOver), ["close"]);
    assert_eq!(bench.hear(Input::Closed), ["end Unconfirmed"]);
    let mut bench = issued();
    assert_eq!(bench.hear(Input::Acknowledged), ["close"]);
    assert!(bench.hear(Input::PatienceOver).is_empty(), "it is about to end already");
    assert_eq!(bench.hear(Input::Closed), ["end Acknowledged"]);
}

#[test]
fn an_interrupted_sender_is_waited_for() {
    let mut bench = Bench::new();
    assert!(bench.hear(Input::PeerStopped(StopReason::Interrupted)).is_empty());
    let said = bench.hear(Input::PeerStopped(StopReason::StateFailed));
    assert_eq!(said, [format!("end {:?}", End::PeerStopped(StopReason::StateFailed))]);
}

#[test]
fn a_sender_that_disagrees_with_the_receipt_ends_the_run() {
    let mut bench = issued();
    let said = bench.hear(Input::PeerStopped(StopReason::OutcomeDiffers));
    assert_eq!(said, [format!("end {:?}", End::PeerStopped(StopReason::OutcomeDiffers))]);
}
