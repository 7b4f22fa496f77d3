//! The sender's brain as tables: what goes in, what comes out.
#![allow(clippy::cloned_ref_to_slice_refs, clippy::unwrap_used)]

use super::*;
use crate::digest::ChainValue;
use crate::wire::{Place, WantRun};

const DIGEST: OutcomeDigest = OutcomeDigest([3; 32]);

fn at(record_count: u64) -> Position {
    Position { record_count, chain: ChainValue([u8::try_from(record_count % 256).unwrap(); 32]) }
}

fn want(counts: &[u32]) -> Want {
    let runs = counts.iter().map(|count| WantRun { entry: EntryIndex(0), first: 0, count: *count }).collect();
    Want { considered_through: Place { entry: 1, chunk: 0 }, runs }
}

fn stop(reason: StopReason, retry: Retry) -> Task {
    Task::Send(Message::Stop(Stop { reason, retry }))
}

/// A brain, its clock, and all that it has asked for since last looked at.
struct Brain {
    sender: Sender,
    now: Instant,
}

impl Brain {
    /// A brain for a log of ten records.
    fn new() -> Brain {
        let now = Instant::now();
        Brain { sender: Sender::new(now, at(10)), now }
    }

    /// One whose log was wholly sent on a link, and settled.
    fn settled(peer_receipt: PeerReceipt) -> Brain {
        let mut brain = Brain::new();
        brain.hear(Input::Produced(at(10), Production::Settled));
        brain.hear(Input::Connected(at(10), peer_receipt));
        brain
    }

    fn hear(&mut self, input: Input) -> Vec<Task> {
        self.sender.handle(self.now, input);
        std::iter::from_fn(|| self.sender.poll()).collect()
    }

    fn waits_for(&mut self, outgoing: Outgoing) -> Option<WaitsFor> {
        let later = self.now + Duration::from_millis(STALL_MS);
        assert_eq!(self.sender.view(later - Duration::from_millis(1), outgoing).stalled, None);
        self.sender.view(later, outgoing).stalled.map(|(_, waits_for)| waits_for)
    }
}

#[test]
fn a_link_begins_where_the_logs_part_and_gets_pages_one_by_one() {
    let mut brain = Brain::new();
    assert_eq!(brain.hear(Input::Produced(at(11), Production::Busy)), []);
    let begun = brain.hear(Input::Connected(at(4), PeerReceipt::None));
    assert_eq!(begun, [Task::Send(Message::Continue(at(4))), Task::SendPage]);
    assert_eq!(brain.hear(Input::Produced(at(20), Production::Busy)), []);
    assert_eq!(brain.hear(Input::PageSent(15)), [Task::SendPage]);
    assert_eq!(brain.hear(Input::PageSent(20)), []);
    assert_eq!(brain.hear(Input::Produced(at(21), Production::Busy)), [Task::SendPage]);
}

#[test]
fn settled_is_said_once_on_each_link_with_the_position_of_the_stat_pass() {
    let mut brain = Brain::new();
    brain.hear(Input::Connected(at(10), PeerReceipt::None));
    let settled = Task::Send(Message::Settled(at(10)));
    assert_eq!(brain.hear(Input::Produced(at(10), Production::Settled)), std::slice::from_ref(&settled));
    assert_eq!(brain.hear(Input::Produced(at(12), Production::Settled)), [Task::SendPage]);
    assert_eq!(brain.hear(Input::LinkLost), [Task::DropWants]);
    let again = brain.hear(Input::Connected(at(12), PeerReceipt::None));
    assert_eq!(again, [Task::Send(Message::Continue(at(12))), settled]);
}

#[test]
fn a_newer_link_takes_the_place_of_the_older() {
    let mut brain = Brain::settled(PeerReceipt::None);
    brain.hear(Input::Wanted(want(&[8])));
    let tasks = brain.hear(Input::Connected(at(10), PeerReceipt::None));
    assert_eq!(tasks[..2], [Task::DropWants, Task::Send(Message::Continue(at(10)))]);
    // What was unanswered on the old link does not count on the new one.
    let most = want(&[IN_FLIGHT_CHUNKS_MAX]);
    assert_eq!(brain.hear(Input::Wanted(most.clone())), [Task::Serve(most)]);
}

#[test]
fn wants_are_served_up_to_the_bound_and_beyond_it_is_misbehaviour() {
    let too_many = [Task::Misbehaved("it wants more chunks at once than it may")];
    let mut brain = Brain::settled(PeerReceipt::None);
    for counts in [&[1, 2][..], &[], &[IN_FLIGHT_CHUNKS_MAX - 3]] {
        assert_eq!(brain.hear(Input::Wanted(want(counts))), [Task::Serve(want(counts))]);
    }
    brain.hear(Input::Served(1));
    assert_eq!(brain.hear(Input::Wanted(want(&[1]))), [Task::Serve(want(&[1]))]);
    assert_eq!(brain.hear(Input::Wanted(want(&[1]))), too_many);
    for counts in [&[u32::MAX, 1][..], &[IN_FLIGHT_CHUNKS_MAX + 1]] {
        let mut brain = Brain::settled(PeerReceipt::None);
        assert_eq!(brain.hear(Input::Wanted(want(counts))), too_many, "{counts:?}");
        assert_eq!(brain.hear(Input::Wanted(want(&[1]))), [], "nothing follows the end");
    }
}

#[test]
fn what_a_receiver_does_not_say_ends_the_link() {
    let mut brain = Brain::settled(PeerReceipt::None);
    brain.hear(Input::ReceiptArrived);
    for (mut brain, input) in [
        (Brain::settled(PeerReceipt::None), Input::Unexpected),
        (Brain::settled(PeerReceipt::None), Input::WantedOutside),
        (Brain::settled(PeerReceipt::None), Input::Exceptions(11)),
        (brain, Input::ReceiptArrived),
    ] {
        assert!(matches!(brain.hear(input.clone())[..], [Task::Misbehaved(_)]), "{input:?}");
    }
}

#[test]
fn an_older_receipt_with_more_exceptions_than_the_log_has_entries_ends_the_run_as_finished() {
    let mut brain = Brain::settled(PeerReceipt::Held);
    let finished = [stop(StopReason::Finished, Retry::Never), Task::End(End::Stopped(StopReason::Finished))];
    assert_eq!(brain.hear(Input::Exceptions(10)), []);
    assert_eq!(brain.hear(Input::Exceptions(1)), finished);
}

#[test]
fn an_entry_is_renewed_once_until_the_source_is_settled_again() {
    let mut brain = Brain::settled(PeerReceipt::None);
    let (entry, reason) = (EntryIndex(7), Reason::Changed);
    assert_eq!(brain.hear(Input::Unservable(entry, reason)), [Task::Renew(entry, reason)]);
    assert_eq!(brain.hear(Input::Unservable(entry, reason)), []);
    assert_eq!(brain.hear(Input::Produced(at(13), Production::Settled)), [Task::SendPage]);
    assert_eq!(brain.hear(Input::Unservable(entry, reason)), [Task::Renew(entry, reason)]);
    // The link may be gone meanwhile; the source has changed all the same.
    brain.hear(Input::LinkLost);
    let other = EntryIndex(8);
    assert_eq!(brain.hear(Input::Unservable(other, reason)), [Task::Renew(other, reason)]);
}

#[test]
fn a_receipt_is_compared_stored_and_acknowledged_in_that_order() {
    let mut brain = Brain::settled(PeerReceipt::None);
    assert_eq!(brain.hear(Input::Exceptions(10)), []);
    assert_eq!(brain.hear(Input::ReceiptArrived), [Task::CheckReceipt]);
    assert_eq!(brain.hear(Input::ReceiptStored), [], "nothing was to be stored yet");
    assert_eq!(brain.hear(Input::ReceiptChecked(ReceiptVerdict::Agrees(DIGEST))), [Task::StoreReceipt]);
    let acknowledged = [Task::Send(Message::Acknowledge(DIGEST)), Task::End(End::Acknowledged)];
    assert_eq!(brain.hear(Input::ReceiptStored), acknowledged);
    assert_eq!(brain.hear(Input::LinkLost), []);
}

#[test]
fn a_receipt_waits_until_the_source_is_settled_and_all_records_are_sent() {
    let mut brain = Brain::new();
    brain.hear(Input::Connected(at(5), PeerReceipt::Held));
    assert_eq!(brain.hear(Input::ReceiptArrived), []);
    assert_eq!(brain.hear(Input::PageSent(10)), []);
    let settled = brain.hear(Input::Produced(at(11), Production::Settled));
    assert_eq!(settled, [Task::Send(Message::Settled(at(11))), Task::SendPage]);
    assert_eq!(brain.hear(Input::PageSent(11)), [Task::CheckReceipt]);
    let mut brain = Brain::settled(PeerReceipt::None);
    brain.hear(Input::Unservable(EntryIndex(1), Reason::Changed));
    assert_eq!(brain.hear(Input::ReceiptArrived), [], "a new version is being made");
}

#[test]
fn a_receipt_that_does_not_agree_ends_the_run_with_the_reason() {
    let finished = [stop(StopReason::Finished, Retry::Never), Task::End(End::Stopped(StopReason::Finished))];
    let differs = [stop(StopReason::OutcomeDiffers, Retry::Never), Task::End(End::Stopped(StopReason::OutcomeDiffers))];
    let forged = [Task::Misbehaved("its receipt is not its own")];
    for (verdict, peer_receipt, expected) in [
        (ReceiptVerdict::Differs, PeerReceipt::Held, &finished[..]),
        (ReceiptVerdict::Outdated, PeerReceipt::None, &finished[..]),
        (ReceiptVerdict::Differs, PeerReceipt::None, &differs),
        (ReceiptVerdict::Forged, PeerReceipt::Held, &forged),
    ] {
        let mut brain = Brain::settled(peer_receipt);
        brain.hear(Input::ReceiptArrived);
        assert_eq!(brain.hear(Input::ReceiptChecked(verdict)), expected, "{verdict:?}");
    }
}

#[test]
fn a_verdict_about_a_receipt_of_a_lost_link_says_nothing() {
    let mut brain = Brain::settled(PeerReceipt::None);
    brain.hear(Input::ReceiptArrived);
    brain.hear(Input::LinkLost);
    assert_eq!(brain.hear(Input::ReceiptChecked(ReceiptVerdict::Agrees(DIGEST))), []);
    brain.hear(Input::Connected(at(10), PeerReceipt::Held));
    assert_eq!(brain.hear(Input::ReceiptChecked(ReceiptVerdict::Agrees(DIGEST))), []);
    assert_eq!(brain.hear(Input::ReceiptStored), []);
    assert_eq!(brain.hear(Input::ReceiptArrived), [Task::CheckReceipt]);
}

#[test]
fn either_side_may_stop_at_any_time() {
    let reason = StopReason::Interrupted;
    let end = Task::End(End::Stopped(reason));
    assert_eq!(Brain::new().hear(Input::StopRequested(reason)), std::slice::from_ref(&end));
    let mut brain = Brain::settled(PeerReceipt::None);
    assert_eq!(brain.hear(Input::StopRequested(reason)), [stop(reason, Retry::Later), end]);
    let theirs = Stop { reason: StopReason::DiskFull, retry: Retry::Later };
    let mut brain = Brain::settled(PeerReceipt::None);
    assert_eq!(brain.hear(Input::PeerStopped(theirs)), [Task::End(End::PeerStopped(theirs))]);
    assert_eq!(brain.sender.poll_timeout(), None);
}

#[test]
fn an_interrupted_receiver_is_waited_for() {
    let mut brain = Brain::settled(PeerReceipt::None);
    let stop = Stop { reason: StopReason::Interrupted, retry: Retry::Later };
    assert_eq!(brain.hear(Input::PeerStopped(stop)), []);
    assert_eq!(brain.hear(Input::LinkLost), [Task::DropWants], "it goes on as after any other end of a link");
}

#[test]
fn a_stall_names_whose_turn_it_is() {
    let mut brain = Brain::new();
    assert_eq!(brain.waits_for(Outgoing::Idle), Some(WaitsFor::Peer));
    brain.hear(Input::Connected(at(10), PeerReceipt::None));
    assert_eq!(brain.waits_for(Outgoing::Idle), Some(WaitsFor::SenderDisk));
    brain.hear(Input::Produced(at(10), Production::Blocked));
    assert_eq!(brain.waits_for(Outgoing::Idle), Some(WaitsFor::ReceiverDisk));
    brain.hear(Input::Wanted(want(&[3])));
    assert_eq!(brain.waits_for(Outgoing::Idle), Some(WaitsFor::SenderDisk));
    assert_eq!(brain.waits_for(Outgoing::Queued), Some(WaitsFor::Network));
    for (phase, expected) in [(Phase::Consent, WaitsFor::Consent), (Phase::DiskFull, WaitsFor::Space)] {
        brain.hear(Input::Progress(Progress { phase, ..Progress::default() }));
        assert_eq!(brain.waits_for(Outgoing::Idle), Some(expected));
    }
    brain.hear(Input::LinkLost);
    assert_eq!(brain.waits_for(Outgoing::Idle), Some(WaitsFor::Link));
}
