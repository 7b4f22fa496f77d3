//! One state of the world: both processes, the links between them, what their disks hold, and what may still go
//! wrong. Sides that a move does not touch are shared with the state that it came from.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use landfall::task::receiver::End as ReceiverEnd;
use landfall::task::sender::End as SenderEnd;
use landfall::wire::{Message, Retry, StopReason};

use super::disk::{ALL, Disk, Kept, Page, SenderDisk, bit};
use super::fingerprint::Fingerprint;
use super::receiving::{Flying, Receiving, Said as ReceiverSaid, Scene};
use super::sending::{Said as SenderSaid, Sending};
use super::{Broken, Mark, Violation};

/// One link.
#[derive(Clone, Debug, Hash)]
pub(super) struct Link {
    pub id: u8,
    pub to_receiver: VecDeque<Message>,
    pub to_sender: VecDeque<Message>,
    /// In an order that does not depend on how they came.
    pub data: Vec<Flying>,
    pub is_lost: bool,
    /// What the receiver said first, until the sender has read it.
    pub hello_to_sender: Option<(u8, bool)>,
    pub hello_to_receiver: bool,
}

/// Whether a side still has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Open,
    Closed,
    Unconfirmed,
}

/// How often each thing may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub receiver_ends: u8,
    pub sender_ends: u8,
    pub losses: u8,
    pub doubles: u8,
    pub faults: u8,
}

/// See the module.
#[derive(Clone)]
pub(super) struct State {
    pub receiving: Option<Arc<Receiving>>,
    pub sending: Option<Arc<Sending>>,
    pub links: Vec<Arc<Link>>,
    pub disk: Disk,
    pub sender_disk: SenderDisk,
    pub receiver_fate: Fate,
    pub sender_fate: Fate,
    pub budget: Budget,
    /// The receiver's time; the sender's stands still, since nothing that it decides depends on it.
    pub now: Instant,
    /// A receiver has ended before its time.
    pub has_ended: bool,
}

/// What all moves of a search share.
pub(super) struct Course<'a> {
    pub began: Instant,
    pub broken: Option<Broken>,
    pub marks: &'a mut u64,
}

impl Course<'_> {
    pub(super) fn mark(&mut self, mark: Mark) {
        *self.marks |= 1 << mark as u64;
    }
}

impl State {
    pub(super) fn new(began: Instant, budget: Budget) -> State {
        State {
            receiving: None,
            sending: None,
            links: vec![],
            disk: Disk::default(),
            sender_disk: SenderDisk::default(),
            receiver_fate: Fate::Open,
            sender_fate: Fate::Open,
            budget,
            now: began,
            has_ended: false,
        }
    }

    /// What it is, but for the time of day. `None` where instants hash otherwise than is relied upon.
    pub(super) fn fingerprint(&self, began: Instant) -> Option<u64> {
        let mut sender = Fingerprint::at(began)?;
        self.sending.hash(&mut sender);
        let mut all = Fingerprint::at(self.now)?;
        (&self.receiving, &self.links, &self.disk, &self.sender_disk).hash(&mut all);
        (self.receiver_fate, self.sender_fate, self.budget, self.has_ended, sender.finish()).hash(&mut all);
        Some(all.finish())
    }

    pub(super) fn is_done(&self) -> bool {
        self.sender_fate == Fate::Closed && self.receiver_fate != Fate::Open
    }

    pub(super) fn link(&self, id: Option<u8>) -> Option<&Link> {
        self.links.iter().find(|link| Some(link.id) == id).map(Arc::as_ref)
    }

    pub(super) fn link_mut(&mut self, id: Option<u8>) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| Some(link.id) == id).map(Arc::make_mut)
    }

    pub(super) fn receiver_line(&self) -> Option<u8> {
        self.receiving.as_ref().and_then(|receiving| receiving.line).map(|line| line.id)
    }

    pub(super) fn sender_line(&self) -> Option<u8> {
        self.sending.as_ref().and_then(|sending| sending.line).map(|line| line.id)
    }

    pub(super) fn lose_links(&mut self) {
        for link in &mut self.links {
            Arc::make_mut(link).is_lost = true;
        }
        self.tidy_links();
    }

    /// Links that nobody uses any more are forgotten.
    pub(super) fn tidy_links(&mut self) {
        let used = [self.receiver_line(), self.sender_line()];
        self.links.retain(|link| {
            let is_met = link.hello_to_sender.is_none() && !link.hello_to_receiver;
            used.contains(&Some(link.id)) || (!link.is_lost && !is_met)
        });
    }

    /// Lets the receiver do something, and takes what it did.
    pub(super) fn with_receiver<T>(
        &mut self,
        course: &mut Course<'_>,
        act: impl FnOnce(&mut Receiving, &mut Scene<'_>) -> Result<T, Violation>,
    ) -> Result<(), Violation> {
        let Some(mut receiving) = self.receiving.take() else { return Ok(()) };
        let own = Arc::make_mut(&mut receiving);
        let mut scene = Scene { disk: &mut self.disk, now: self.now, broken: course.broken, marks: &mut *course.marks };
        act(own, &mut scene)?;
        self.disk.forget_unused(|slot| own.uses(slot));
        let said = std::mem::take(&mut own.said);
        self.receiving = Some(receiving);
        self.take_from_receiver(course, said)
    }

    fn take_from_receiver(&mut self, course: &mut Course<'_>, said: Vec<ReceiverSaid>) -> Result<(), Violation> {
        for said in said {
            let line = self.receiver_line();
            match said {
                ReceiverSaid::Frame(message) => {
                    self.check_want(&message)?;
                    if let Some(link) = self.link_mut(line).filter(|link| !link.is_lost) {
                        link.to_sender.push_back(message);
                    }
                }
                ReceiverSaid::Drop => self.lose_links(),
                ReceiverSaid::End(end) => return self.receiver_ended(course, end),
            }
        }
        self.tidy_links();
        Ok(())
    }

    /// P6.
    fn check_want(&self, message: &Message) -> Result<(), Violation> {
        let (Message::Want(want), Some(receiving)) = (message, &self.receiving) else { return Ok(()) };
        let kept = if self.disk.is_delivered() { ALL } else { self.disk.claimed() };
        let wanted = want.runs.iter().flat_map(|run| run.first..run.first + run.count);
        let thrown = wanted.fold(0, |set, chunk| set | bit(chunk)) & kept & !receiving.hands.excused;
        match thrown {
            0 => Ok(()),
            _ => Err(Violation::Stuck(format!("durable chunks {thrown:#b} are asked for again without a reason (P6)"))),
        }
    }

    fn receiver_ended(&mut self, course: &mut Course<'_>, end: ReceiverEnd) -> Result<(), Violation> {
        match end {
            ReceiverEnd::Acknowledged => self.receiver_fate = Fate::Closed,
            ReceiverEnd::Unconfirmed => {
                self.receiver_fate = Fate::Unconfirmed;
                course.mark(Mark::Unconfirmed);
            }
            ReceiverEnd::Stopped(StopReason::SyncFailed | StopReason::DiskFull | StopReason::StateFailed) => {
                course.mark(Mark::GaveUp);
            }
            other => return Err(Violation::Stuck(format!("the receiver ends: {other:?}"))),
        }
        self.receiving = None;
        self.disk.forget_unused(|_| false);
        self.lose_links();
        Ok(())
    }

    /// Lets the sender do something, and takes what it did.
    pub(super) fn with_sender(
        &mut self,
        course: &mut Course<'_>,
        act: impl FnOnce(&mut Sending, &mut SenderDisk) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(mut sending) = self.sending.take() else { return Ok(()) };
        let own = Arc::make_mut(&mut sending);
        act(own, &mut self.sender_disk)?;
        let said = std::mem::take(&mut own.said);
        self.sending = Some(sending);
        for said in said {
            let line = self.sender_line();
            match said {
                SenderSaid::Frame(message) => {
                    if let Some(link) = self.link_mut(line).filter(|link| !link.is_lost) {
                        link.to_receiver.push_back(message);
                    }
                }
                SenderSaid::Chunk(flying) => {
                    if let Some(link) = self.link_mut(line).filter(|link| !link.is_lost) {
                        link.data.push(flying);
                        link.data.sort_unstable();
                    }
                }
                SenderSaid::End(end) => return self.sender_ended(course, end),
            }
        }
        self.tidy_links();
        Ok(())
    }

    fn sender_ended(&mut self, course: &mut Course<'_>, end: SenderEnd) -> Result<(), Violation> {
        match end {
            SenderEnd::Acknowledged => self.acknowledged(course)?,
            SenderEnd::PeerStopped(stop) if stop.retry == Retry::Later => (),
            other => return Err(Violation::Stuck(format!("the sender ends: {other:?}"))),
        }
        self.sending = None;
        // The links stay until the receiver has read what was said last.
        self.lose_links();
        Ok(())
    }

    /// P4.
    pub(super) fn acknowledged(&mut self, course: &mut Course<'_>) -> Result<(), Violation> {
        let is_held = self.disk.receipt == Kept::Durable && self.sender_disk.receipt == Kept::Durable;
        if !is_held || !self.disk.is_delivered() {
            return Err(Violation::Wrong("the sender acknowledges what a power cut would take (P4)".into()));
        }
        course.mark(Mark::Acknowledged);
        self.sender_fate = Fate::Closed;
        Ok(())
    }

    /// P1 and P2, in whatever state.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let named = self.disk.target.live.and_then(|slot| self.disk.inodes[usize::from(slot)]);
        if let (Some(slot), None) = (self.disk.target.live, named) {
            return Err(Violation::Wrong(format!("the final name stands for inode {slot}, which is gone (P1)")));
        }
        if named.is_some_and(|inode| inode.device != [Page::Good; 2] || inode.dirty != 0) {
            return Err(Violation::Wrong(format!("the final name stands for {named:?} (P1)")));
        }
        if self.disk.receipt == Kept::Durable && !self.disk.is_delivered() {
            return Err(Violation::Wrong("a receipt stands for what a power cut would take (P2)".into()));
        }
        Ok(())
    }
}
