//! The end of a run: finish the tree, issue the receipt, wait for its acknowledgement, close.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::task::receiver::{End, Input, Task};
use crate::wire::{Phase, Retry, StopReason};

/// Where the end stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Files are still open.
    Open,
    /// Symlinks and directories are being made.
    Finishing,
    /// The receipt is being made.
    Issuing,
    /// The receipt is persisted; the sender has not confirmed that it has it.
    Issued,
    /// The state is being removed, after which the run ends like this.
    Closing(End),
    /// The run is over.
    Over,
}

/// How this side stands to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// There is no link.
    Alone,
    /// There is one.
    Linked,
    /// On this link the sender has said that the log is what the source is.
    Settled,
}

/// The end's own small machine.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Ending {
    stage: Stage,
    linger: Duration,
    linger_until: Option<Instant>,
    /// Records came while the tree was being finished: it is finished again.
    is_stale: bool,
    /// A step failed for lack of space and is to be tried again.
    is_stalled: bool,
}

impl Ending {
    /// For a run without a receipt.
    pub fn open(linger: Duration) -> Ending {
        Ending { stage: Stage::Open, linger, linger_until: None, is_stale: false, is_stalled: false }
    }

    /// For a run that holds a persisted receipt already.
    pub fn issued(now: Instant, linger: Duration) -> Ending {
        Ending { stage: Stage::Issued, linger, linger_until: Some(now + linger), is_stale: false, is_stalled: false }
    }

    pub(super) fn has_receipt(&self) -> bool {
        matches!(self.stage, Stage::Issued | Stage::Closing(_) | Stage::Over)
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn due(&self) -> Option<Instant> {
        if self.stage == Stage::Issued { self.linger_until } else { None }
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        match self.stage {
            Stage::Open => None,
            Stage::Finishing | Stage::Issuing => Some(Phase::Finishing),
            Stage::Issued => Some(Phase::Receipt),
            Stage::Closing(_) | Stage::Over => Some(Phase::Done),
        }
    }

    /// Records came: whatever was finished is not the end.
    pub(super) fn reopen(&mut self) {
        self.is_stale = matches!(self.stage, Stage::Finishing | Stage::Issuing);
    }

    /// All files are done. Returns whether that begins the end.
    pub(super) fn finish(&mut self, tasks: &mut VecDeque<Task>) -> bool {
        let is_begun = self.stage == Stage::Open;
        if is_begun {
            self.stage = Stage::Finishing;
            self.is_stale = false;
            tasks.push_back(Task::FinishTree);
        }
        is_begun
    }

    pub(super) fn on_connected(&mut self, tasks: &mut VecDeque<Task>) {
        if self.stage == Stage::Issued {
            tasks.push_back(Task::SendReceipt);
        }
    }

    pub(super) fn hear(&mut self, tasks: &mut VecDeque<Task>, now: Instant, input: &Input, standing: Standing) {
        match (self.stage, input) {
            // A receipt speaks of what the sender says now: without it, the source may be another by the time it is
            // back.
            (Stage::Finishing, Input::TreeFinished) if self.is_stale || standing != Standing::Settled => {
                self.stage = Stage::Open;
            }
            (Stage::Finishing, Input::TreeFinished) => {
                self.stage = Stage::Issuing;
                tasks.push_back(Task::IssueReceipt);
            }
            (Stage::Issuing, Input::ReceiptIssued) => {
                self.stage = Stage::Issued;
                self.linger_until = Some(now + self.linger);
                if standing != Standing::Alone {
                    tasks.push_back(Task::SendReceipt);
                }
            }
            (Stage::Issuing, Input::ReceiptRefused) => self.stage = Stage::Open,
            (Stage::Issued, Input::Acknowledged) => self.close(tasks, End::Acknowledged),
            // Nobody can come for it any more, and this side knows all that it needs.
            (Stage::Issued, Input::PatienceOver) => self.close(tasks, End::Unconfirmed),
            (Stage::Closing(end), Input::Closed) => self.end(tasks, end),
            _ => (),
        }
    }

    /// The step that was asked for last failed for lack of space.
    pub(super) fn stall(&mut self) {
        self.is_stalled = true;
    }

    pub(super) fn advance(&mut self, tasks: &mut VecDeque<Task>, now: Instant, is_full: bool) {
        if self.is_stalled && !is_full {
            self.is_stalled = false;
            match self.stage {
                Stage::Finishing => tasks.push_back(Task::FinishTree),
                // From the start: the sender on the link may be a later one, which has not settled yet.
                Stage::Issuing => self.stage = Stage::Open,
                Stage::Closing(_) => tasks.push_back(Task::Close),
                Stage::Open | Stage::Issued | Stage::Over => (),
            }
        }
        if self.stage == Stage::Issued && self.linger_until.is_some_and(|until| now >= until) {
            self.close(tasks, End::Unconfirmed);
        }
    }

    /// The peer stops. If it was interrupted it is started again, and this side needs nothing: the link ends by itself.
    /// With a receipt in hand any stop changes nothing, if the peer may come back for it.
    pub(super) fn peer_stopped(&mut self, tasks: &mut VecDeque<Task>, reason: StopReason) {
        if reason == StopReason::Interrupted {
            return;
        }
        if !(self.has_receipt() && retry_of(reason) == Retry::Later) {
            self.end(tasks, End::PeerStopped(reason));
        }
    }

    /// The state could not be removed: the run ends as it would have. `false` if it was not being removed.
    pub(super) fn give_up_closing(&mut self, tasks: &mut VecDeque<Task>) -> bool {
        let Stage::Closing(end) = self.stage else { return false };
        self.end(tasks, end);
        true
    }

    /// Ends the run.
    pub(super) fn end(&mut self, tasks: &mut VecDeque<Task>, end: End) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        tasks.push_back(Task::End(end));
    }

    fn close(&mut self, tasks: &mut VecDeque<Task>, end: End) {
        self.stage = Stage::Closing(end);
        tasks.push_back(Task::Close);
    }
}

/// Whether running again may help after a stop for this reason.
pub(super) fn retry_of(reason: StopReason) -> Retry {
    match reason {
        StopReason::Interrupted | StopReason::DiskFull | StopReason::SyncFailed | StopReason::StateFailed => {
            Retry::Later
        }
        _ => Retry::Never,
    }
}
