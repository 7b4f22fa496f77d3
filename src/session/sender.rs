//! The sender's brain. A sender is a server of its manifest: it says what there is, answers what is wanted, and
//! compares the receipt. The life of a link, and of a receipt on it:
//!
//! ```text
//! Connected ─► Continue ─► pages as the log grows, Settled once, answers to wants ─► LinkLost ─► (a new link)
//!
//! none ─ arrived ─► Arrived ─ settled, all records sent ─► Checking ─ agrees ─► Storing ─► Acknowledge, the end
//!                                                                   └ differs, forged ─► Stop, the end
//! ```
//!
//! No clock, no I/O, no names and no bytes. Wants die with their link. What it does not do: find the rung that both
//! logs share, or look up chunks; its hands do, since that needs the log.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::digest::OutcomeDigest;
use crate::event::WaitsFor;
use crate::geometry::EntryIndex;
use crate::limits::{ENTRIES_MAX, IN_FLIGHT_CHUNKS_MAX, STALL_MS};
use crate::manifest::Position;
use crate::outcome::Reason;
use crate::task::sender::{End, Input, PeerReceipt, Production, ReceiptVerdict, Task};
use crate::wire::{Message, Phase, Progress, Retry, Stop, StopReason, Want};

/// How far a receipt has come on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Receipt {
    None,
    Arrived,
    Checking,
    Storing(OutcomeDigest),
}

/// What is true of the present link only.
#[derive(Clone, Debug, Hash)]
struct Link {
    sent_records: u64,
    is_page_under_way: bool,
    is_settled_sent: bool,
    unanswered: u32,
    exceptions: u64,
    peer_receipt: PeerReceipt,
    receipt: Receipt,
    progress: Option<Progress>,
}

/// What the hands wait for, for the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Bodies are queued for the network.
    Queued,
    /// None is.
    Idle,
}

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What is being done.
    pub phase: Phase,
    /// What the receiver said last.
    pub progress: Progress,
    /// Since when nothing moves, and whose turn it is.
    pub stalled: Option<(Duration, WaitsFor)>,
}

/// The sender's brain.
#[derive(Clone, Debug, Hash)]
pub struct Sender {
    tasks: VecDeque<Task>,
    link: Option<Link>,
    produced: Position,
    production: Production,
    /// Set when the stat pass of this process is done for the first time.
    settled: Option<Position>,
    renewed: BTreeSet<EntryIndex>,
    last_progress: Progress,
    was_connected: bool,
    moved_at: Instant,
    has_ended: bool,
}

impl Sender {
    /// A brain for a log that ends at `produced`.
    pub fn new(now: Instant, produced: Position) -> Sender {
        Sender {
            tasks: VecDeque::new(),
            link: None,
            produced,
            production: Production::Busy,
            settled: None,
            renewed: BTreeSet::new(),
            last_progress: Progress::default(),
            was_connected: false,
            moved_at: now,
            has_ended: false,
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// When the screen has to be told that nothing moves. The brain itself waits for nothing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.has_ended).then(|| self.moved_at + Duration::from_millis(STALL_MS))
    }

    /// What is to be shown now.
    pub fn view(&self, now: Instant, outgoing: Outgoing) -> View {
        let still = now.saturating_duration_since(self.moved_at);
        let is_stalled = still >= Duration::from_millis(STALL_MS);
        let stalled = is_stalled.then(|| (still, self.waits_for(outgoing)));
        View { phase: self.phase(), progress: self.last_progress, stalled }
    }

    fn phase(&self) -> Phase {
        match &self.link {
            _ if self.has_ended => Phase::Done,
            None => Phase::Connecting,
            Some(link) if link.receipt != Receipt::None => Phase::Receipt,
            Some(Link { progress: Some(progress), .. }) => progress.phase,
            Some(_) if self.settled.is_none() => Phase::Scanning,
            Some(_) => Phase::Transferring,
        }
    }

    fn waits_for(&self, outgoing: Outgoing) -> WaitsFor {
        let Some(link) = &self.link else {
            return if self.was_connected { WaitsFor::Link } else { WaitsFor::Peer };
        };
        match (link.progress.map(|progress| progress.phase), outgoing) {
            (Some(Phase::Consent), _) => WaitsFor::Consent,
            (Some(Phase::DiskFull), _) => WaitsFor::Space,
            (_, Outgoing::Queued) => WaitsFor::Network,
            _ if link.unanswered > 0 || self.production == Production::Busy => WaitsFor::SenderDisk,
            _ => WaitsFor::ReceiverDisk,
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.has_ended {
            return;
        }
        match input {
            Input::Connected(position, peer_receipt) => self.connect(now, position, peer_receipt),
            Input::LinkLost => self.lose_link(now),
            Input::Produced(position, production) => self.produced(now, position, production),
            // Whoever was interrupted is started again; this side needs nothing. The link ends by itself.
            Input::PeerStopped(stop) if stop.reason == StopReason::Interrupted => {}
            Input::PeerStopped(stop) => self.end(End::PeerStopped(stop)),
            Input::StopRequested(reason) => self.stop(reason, retry_of(reason)),
            Input::Unservable(entry, reason) => self.renew(entry, reason),
            // What is said of a link that is gone matters no more.
            _ if self.link.is_none() => {}
            on_link => self.handle_on_link(now, on_link),
        }
        self.go_on();
    }

    fn handle_on_link(&mut self, now: Instant, input: Input) {
        let link = self.link.as_mut().expect("the caller has seen it");
        match input {
            Input::PageSent(records) => {
                link.is_page_under_way = false;
                link.sent_records = records;
                self.moved_at = now;
            }
            Input::Wanted(want) => self.wanted(now, want),
            Input::Served(count) => {
                link.unanswered = link.unanswered.saturating_sub(count);
                self.moved_at = now;
            }
            Input::WantedOutside => self.misbehaved("it wants a chunk that the manifest does not have"),
            Input::Progress(progress) => {
                if link.progress != Some(progress) {
                    self.moved_at = now;
                }
                link.progress = Some(progress);
                self.last_progress = progress;
            }
            Input::Exceptions(count) => {
                link.exceptions = link.exceptions.saturating_add(count);
                // While the source is read anew after a loss of the log, the receiver may know more entries.
                let is_settled = self.production == Production::Settled;
                let known = if is_settled { self.produced.record_count } else { u64::from(ENTRIES_MAX) };
                if link.exceptions > known {
                    self.take_too_many_exceptions();
                }
            }
            Input::ReceiptArrived if link.receipt == Receipt::None => {
                link.receipt = Receipt::Arrived;
                self.moved_at = now;
            }
            Input::ReceiptChecked(verdict) if link.receipt == Receipt::Checking => self.judge(verdict),
            Input::ReceiptStored => self.acknowledge(),
            Input::ReceiptArrived | Input::Unexpected => self.misbehaved("it sent a message that has no place here"),
            // The link on which the receipt came is gone; the receiver sends it again.
            _ => {}
        }
    }

    fn connect(&mut self, now: Instant, position: Position, peer_receipt: PeerReceipt) {
        if self.link.is_some() {
            self.lose_link(now);
        }
        self.link = Some(Link {
            sent_records: position.record_count,
            is_page_under_way: false,
            is_settled_sent: false,
            unanswered: 0,
            exceptions: 0,
            peer_receipt,
            receipt: Receipt::None,
            progress: None,
        });
        (self.was_connected, self.moved_at) = (true, now);
        self.tasks.push_back(Task::Send(Message::Continue(position)));
    }

    fn lose_link(&mut self, now: Instant) {
        if self.link.take().is_some() {
            self.moved_at = now;
            self.tasks.retain(|task| matches!(task, Task::Renew(..)));
            self.tasks.push_back(Task::DropWants);
        }
    }

    fn produced(&mut self, now: Instant, position: Position, production: Production) {
        if position != self.produced {
            self.moved_at = now;
        }
        (self.produced, self.production) = (position, production);
        if production == Production::Settled {
            self.settled.get_or_insert(position);
            self.renewed.clear();
        }
    }

    fn wanted(&mut self, now: Instant, want: Want) {
        let link = self.link.as_mut().expect("the caller has seen it");
        let chunks = want.runs.iter().try_fold(link.unanswered, |sum, run| sum.checked_add(run.count));
        match chunks {
            Some(chunks) if chunks <= IN_FLIGHT_CHUNKS_MAX => {
                link.unanswered = chunks;
                self.moved_at = now;
                self.tasks.push_back(Task::Serve(want));
            }
            _ => self.misbehaved("it wants more chunks at once than it may"),
        }
    }

    /// Asks for a new version once, however many chunks of the old one were wanted.
    fn renew(&mut self, entry: EntryIndex, reason: Reason) {
        if self.renewed.insert(entry) {
            self.production = Production::Busy;
            self.tasks.push_back(Task::Renew(entry, reason));
        }
    }

    fn judge(&mut self, verdict: ReceiptVerdict) {
        let link = self.link.as_mut().expect("the caller has seen it");
        match (verdict, link.peer_receipt) {
            (ReceiptVerdict::Agrees(digest), _) => {
                link.receipt = Receipt::Storing(digest);
                self.tasks.push_back(Task::StoreReceipt);
            }
            (ReceiptVerdict::Outdated, _) | (ReceiptVerdict::Differs, PeerReceipt::Held) => {
                self.stop(StopReason::Finished, Retry::Never)
            }
            (ReceiptVerdict::Differs, PeerReceipt::None) => self.stop(StopReason::OutcomeDiffers, Retry::Never),
            (ReceiptVerdict::Forged, _) => self.misbehaved("its receipt is not its own"),
        }
    }

    /// No receipt with these exceptions can agree with this log. One from before this link may speak of a log that this
    /// side has lost, of a source that had more in it.
    fn take_too_many_exceptions(&mut self) {
        match self.link.as_ref().map(|link| link.peer_receipt) {
            Some(PeerReceipt::Held) => self.stop(StopReason::Finished, Retry::Never),
            _ => self.misbehaved("it names more exceptions than there are entries"),
        }
    }

    fn acknowledge(&mut self) {
        if let Some(Link { receipt: Receipt::Storing(digest), .. }) = self.link {
            self.tasks.push_back(Task::Send(Message::Acknowledge(digest)));
            self.end(End::Acknowledged);
        }
    }

    /// What follows from the state alone, after every input.
    fn go_on(&mut self) {
        let Some(link) = self.link.as_mut().filter(|_| !self.has_ended) else { return };
        if let (Some(position), false) = (self.settled, link.is_settled_sent) {
            link.is_settled_sent = true;
            self.tasks.push_back(Task::Send(Message::Settled(position)));
        }
        if link.sent_records < self.produced.record_count && !link.is_page_under_way {
            link.is_page_under_way = true;
            self.tasks.push_back(Task::SendPage);
        }
        let is_all_sent = link.is_settled_sent && link.sent_records == self.produced.record_count;
        if link.receipt == Receipt::Arrived && is_all_sent && self.production == Production::Settled {
            link.receipt = Receipt::Checking;
            self.tasks.push_back(Task::CheckReceipt);
        }
    }

    fn stop(&mut self, reason: StopReason, retry: Retry) {
        if self.link.is_some() {
            self.tasks.push_back(Task::Send(Message::Stop(Stop { reason, retry })));
        }
        self.end(End::Stopped(reason));
    }

    fn misbehaved(&mut self, what: &'static str) {
        self.tasks.push_back(Task::Misbehaved(what));
        self.has_ended = true;
    }

    fn end(&mut self, end: End) {
        self.tasks.push_back(Task::End(end));
        self.has_ended = true;
    }
}

/// Whether a run that stops for this reason may be continued.
fn retry_of(reason: StopReason) -> Retry {
    match reason {
        StopReason::Interrupted | StopReason::StateFailed | StopReason::DiskFull | StopReason::SyncFailed => {
            Retry::Later
        }
        _ => Retry::Never,
    }
}

#[cfg(test)]
mod tests;
