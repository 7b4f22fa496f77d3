//! What can happen in a state: the moves of both processes and of the link, and what can go wrong. The ordinary
//! course is one fixed choice among the first kind; everything else is a departure from it.

use std::sync::Arc;

use landfall::wire::Message;

use super::disk::Kept;
use super::intake::DiskFault;
use super::receiving::{Receiving, Scene};
use super::sending::Sending;
use super::state::{Course, Fate, Link, State};
use super::{Mark, Violation};

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    StartReceiver,
    StartSender,
    Connect,
    MeetReceiver,
    MeetSender,
    NoticeReceiver,
    NoticeSender,
    ReceiverDriver,
    Intake(DiskFault),
    Syncer(DiskFault),
    Settler(DiskFault),
    SenderDriver,
    Errand,
    Server,
    FrameToReceiver,
    Chunk(u8),
    FrameToSender,
    Producer,
    Time,
    LoseLink,
    Double(u8),
    Damage(u8),
    KillReceiver,
    CutReceiver(u32),
    KillSender,
    CutSender(u32),
}

impl State {
    /// The ordinary course: the one move that happens if nothing goes wrong and nobody is in a hurry.
    pub(super) fn ordinary(&self) -> Option<Move> {
        self.possible().into_iter().next()
    }

    /// Everything that may follow, the ordinary course first.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = self.possible();
        self.add_faults(&mut moves);
        moves
    }

    /// What can move without anything going wrong, the ordinary course first.
    fn possible(&self) -> Vec<Move> {
        let mut moves = Vec::with_capacity(24);
        let mut late = vec![];
        let mut offer = |is_possible: bool, what: Move| {
            if is_possible {
                moves.push(what);
            }
        };
        let is_receiver_needed = self.receiver_fate == Fate::Open
            || (self.receiver_fate == Fate::Unconfirmed && self.sender_fate == Fate::Open);
        offer(self.receiving.is_none() && is_receiver_needed, Move::StartReceiver);
        offer(self.sending.is_none() && self.sender_fate == Fate::Open, Move::StartSender);
        let is_new = |link: &&Arc<Link>| !link.is_lost && (link.hello_to_receiver || link.hello_to_sender.is_some());
        let are_both_up = self.receiving.is_some() && self.sending.is_some();
        offer(are_both_up && self.sender_line().is_none() && !self.links.iter().any(|l| is_new(&l)), Move::Connect);
        if let Some(receiving) = &self.receiving {
            let link = self.link(receiving.line.map(|line| line.id));
            let has_frames = link.is_some_and(|link| !link.to_receiver.is_empty());
            let chunks = link.map_or(0, |link| link.data.len());
            offer(self.links.iter().any(|link| link.hello_to_receiver && !link.is_lost), Move::MeetReceiver);
            offer(receiving.has_news(), Move::ReceiverDriver);
            offer(receiving.has_intake_work(), Move::Intake(DiskFault::None));
            offer(receiving.syncer_work().is_some(), Move::Syncer(DiskFault::None));
            offer(receiving.settler_work().is_some(), Move::Settler(DiskFault::None));
            offer(has_frames, Move::FrameToReceiver);
            (0..chunks.min(2)).for_each(|at| offer(true, Move::Chunk(u8::try_from(at).unwrap_or(u8::MAX))));
            let is_lost = receiving.line.is_some() && link.is_none_or(|link| link.is_lost);
            match has_frames || chunks > 0 {
                true if is_lost => late.push(Move::NoticeReceiver),
                _ => offer(is_lost, Move::NoticeReceiver),
            }
            let is_reported =
                link.is_some_and(|link| link.to_sender.iter().any(|message| matches!(message, Message::Progress(_))));
            if receiving.due().is_some() && !is_reported {
                late.push(Move::Time);
            }
        }
        if let Some(sending) = &self.sending {
            let link = self.link(self.sender_line());
            let has_frames = link.is_some_and(|link| !link.to_sender.is_empty());
            offer(self.links.iter().any(|link| link.hello_to_sender.is_some() && !link.is_lost), Move::MeetSender);
            offer(sending.has_news(), Move::SenderDriver);
            offer(sending.has_errand(), Move::Errand);
            offer(sending.has_server_work(), Move::Server);
            offer(has_frames, Move::FrameToSender);
            offer(sending.has_producer_work(), Move::Producer);
            let is_lost = self.sender_line().is_some() && link.is_none_or(|link| link.is_lost);
            match has_frames {
                true if is_lost => late.push(Move::NoticeSender),
                _ => offer(is_lost, Move::NoticeSender),
            }
        }
        moves.extend(late);
        moves
    }

    fn add_faults(&self, moves: &mut Vec<Move>) {
        let budget = self.budget;
        if budget.receiver_ends > 0 && self.receiving.is_some() {
            moves.push(Move::KillReceiver);
            moves.extend((0..self.disk.outcomes()).map(Move::CutReceiver));
        }
        if budget.sender_ends > 0 && self.sending.is_some() {
            moves.push(Move::KillSender);
            moves.extend((0..self.sender_disk.outcomes()).map(Move::CutSender));
        }
        if budget.losses > 0 && self.links.iter().any(|link| !link.is_lost) {
            moves.push(Move::LoseLink);
        }
        let data = self.link(self.receiver_line()).map_or(&[][..], |link| &link.data);
        for (at, flying) in (0..2).zip(data) {
            if budget.doubles > 0 && !flying.is_copy {
                moves.push(Move::Double(at));
            }
            if budget.faults > 0 && !flying.is_damaged {
                moves.push(Move::Damage(at));
            }
        }
        if let Some(receiving) = self.receiving.as_ref().filter(|_| budget.faults > 0) {
            if receiving.will_write() {
                moves.push(Move::Intake(DiskFault::Full));
            }
            if let Some(work) = receiving.syncer_work() {
                moves.extend(work.faults(&self.disk).into_iter().map(Move::Syncer));
            }
            if let Some(work) = receiving.settler_work() {
                moves.extend(work.faults(&self.disk).into_iter().map(Move::Settler));
            }
        }
    }

    /// Makes a move.
    pub(super) fn act(&mut self, course: &mut Course<'_>, what: Move) -> Result<(), Violation> {
        let began = course.began;
        match what {
            Move::StartReceiver => self.start_receiver(course)?,
            Move::StartSender => self.start_sender(course)?,
            Move::Connect => self.connect(),
            Move::MeetReceiver => self.meet_receiver(course)?,
            Move::MeetSender => self.meet_sender(course)?,
            Move::NoticeReceiver => self.with_receiver(course, |receiving, scene| {
                receiving.lose(scene);
                Ok(())
            })?,
            Move::NoticeSender => self.with_sender(course, |sending, _| {
                sending.lose(began);
                Ok(())
            })?,
            Move::ReceiverDriver => self.with_receiver(course, |receiving, scene| {
                receiving.run_driver(scene);
                Ok(())
            })?,
            Move::Intake(fault) => {
                self.strike(course, fault);
                self.with_receiver(course, |receiving, scene| receiving.run_intake(scene, fault))?;
            }
            Move::Syncer(fault) => {
                self.strike(course, fault);
                self.with_receiver(course, |receiving, scene| {
                    receiving.run_syncer(scene, fault);
                    Ok(())
                })?;
            }
            Move::Settler(fault) => {
                self.strike(course, fault);
                self.with_receiver(course, |receiving, scene| receiving.run_settler(scene, fault))?;
            }
            Move::SenderDriver => self.with_sender(course, |sending, disk| {
                sending.run_driver(began, disk);
                Ok(())
            })?,
            Move::Errand => {
                let broken = course.broken;
                self.with_sender(course, |sending, disk| {
                    sending.run_errand(began, disk, broken);
                    Ok(())
                })?;
            }
            Move::Server => self.with_sender(course, |sending, _| sending.run_server())?,
            Move::Producer => self.with_sender(course, |sending, disk| {
                sending.run_producer(disk);
                Ok(())
            })?,
            Move::FrameToReceiver | Move::FrameToSender => self.deliver(course, what)?,
            Move::Chunk(at) => self.deliver_chunk(course, usize::from(at))?,
            Move::Time => self.pass_time(course)?,
            Move::LoseLink | Move::Double(_) | Move::Damage(_) => self.meddle(course, what),
            Move::KillReceiver | Move::CutReceiver(_) => self.end_receiver(course, what)?,
            Move::KillSender | Move::CutSender(_) => self.end_sender(course, what),
        }
        self.check()
    }

    fn strike(&mut self, course: &mut Course<'_>, fault: DiskFault) {
        let mark = match fault {
            DiskFault::None => return,
            DiskFault::Full => Mark::Full,
            DiskFault::SyncFails => Mark::SyncFailed,
            DiskFault::Corrupt(_) => Mark::Corrupted,
        };
        self.budget.faults -= 1;
        course.mark(mark);
    }

    fn start_receiver(&mut self, course: &mut Course<'_>) -> Result<(), Violation> {
        if self.disk.receipt == Kept::Named {
            // What a start finds under its name it makes durable before it speaks of it.
            self.disk.receipt = Kept::Durable;
        }
        let mut scene = Scene { disk: &mut self.disk, now: self.now, broken: course.broken, marks: &mut *course.marks };
        let receiving = Receiving::start(&mut scene);
        self.receiving = Some(Arc::new(receiving));
        self.with_receiver(course, |_, _| Ok(()))
    }

    fn start_sender(&mut self, course: &mut Course<'_>) -> Result<(), Violation> {
        if self.sender_disk.receipt != Kept::None {
            // As at the receiver.
            self.sender_disk.receipt = Kept::Durable;
            course.mark(Mark::AnsweredFromReceipt);
            return self.acknowledged(course);
        }
        self.sending = Some(Arc::new(Sending::start(course.began, &self.sender_disk)));
        Ok(())
    }

    fn connect(&mut self) {
        let is_free = |id: &u8| {
            let is_remembered = self.sending.as_ref().is_some_and(|sending| sending.remembers(*id));
            !is_remembered && self.receiver_line() != Some(*id) && self.links.iter().all(|link| link.id != *id)
        };
        let id = (0..u8::MAX).find(is_free).expect("few links live at once");
        let Some(receiving) = &mut self.receiving else { return };
        let hello = Arc::make_mut(receiving).hello(&self.disk);
        self.links.push(Arc::new(Link {
            id,
            to_receiver: [].into(),
            to_sender: [].into(),
            data: vec![],
            is_lost: false,
            hello_to_sender: Some(hello),
            hello_to_receiver: true,
        }));
    }

    fn meet_receiver(&mut self, course: &mut Course<'_>) -> Result<(), Violation> {
        let Some(link) = self.links.iter_mut().find(|link| link.hello_to_receiver && !link.is_lost) else {
            return Ok(());
        };
        Arc::make_mut(link).hello_to_receiver = false;
        let id = link.id;
        self.with_receiver(course, |receiving, scene| {
            receiving.connect(scene, id);
            Ok(())
        })
    }

    fn meet_sender(&mut self, course: &mut Course<'_>) -> Result<(), Violation> {
        let began = course.began;
        let Some(link) = self.links.iter_mut().find(|link| link.hello_to_sender.is_some() && !link.is_lost) else {
            return Ok(());
        };
        let Some(hello) = Arc::make_mut(link).hello_to_sender.take() else { return Ok(()) };
        let id = link.id;
        self.with_sender(course, |sending, disk| {
            sending.connect(began, id, hello, disk);
            Ok(())
        })
    }

    fn deliver(&mut self, course: &mut Course<'_>, what: Move) -> Result<(), Violation> {
        let began = course.began;
        if what == Move::FrameToReceiver {
            let line = self.receiver_line();
            let Some(message) = self.link_mut(line).and_then(|link| link.to_receiver.pop_front()) else {
                return Ok(());
            };
            return self.with_receiver(course, |receiving, scene| receiving.control(scene, message));
        }
        let line = self.sender_line();
        let Some(message) = self.link_mut(line).and_then(|link| link.to_sender.pop_front()) else { return Ok(()) };
        self.with_sender(course, |sending, disk| {
            sending.control(began, message, disk);
            Ok(())
        })
    }

    fn deliver_chunk(&mut self, course: &mut Course<'_>, at: usize) -> Result<(), Violation> {
        let line = self.receiver_line();
        let Some(link) = self.link_mut(line).filter(|link| at < link.data.len()) else { return Ok(()) };
        let flying = link.data.remove(at);
        self.with_receiver(course, |receiving, _| {
            receiving.chunk(flying);
            Ok(())
        })
    }

    fn pass_time(&mut self, course: &mut Course<'_>) -> Result<(), Violation> {
        if let Some(due) = self.receiving.as_ref().and_then(|receiving| receiving.due()) {
            self.now = self.now.max(due);
        }
        self.with_receiver(course, |receiving, scene| {
            receiving.tick(scene);
            Ok(())
        })
    }

    fn meddle(&mut self, course: &mut Course<'_>, what: Move) {
        let line = self.receiver_line();
        match what {
            Move::Double(at) => {
                self.budget.doubles -= 1;
                course.mark(Mark::Doubled);
                if let Some(link) = self.link_mut(line) {
                    let mut copy = link.data[usize::from(at)];
                    copy.is_copy = true;
                    link.data.push(copy);
                    link.data.sort_unstable();
                }
            }
            Move::Damage(at) => {
                self.budget.faults -= 1;
                course.mark(Mark::Damaged);
                if let Some(link) = self.link_mut(line) {
                    link.data[usize::from(at)].is_damaged = true;
                    link.data.sort_unstable();
                }
            }
            _ => {
                self.budget.losses -= 1;
                course.mark(Mark::LinkLost);
                self.lose_links();
            }
        }
    }

    fn end_receiver(&mut self, course: &mut Course<'_>, what: Move) -> Result<(), Violation> {
        self.budget.receiver_ends -= 1;
        if std::mem::replace(&mut self.has_ended, true) {
            course.mark(Mark::EndedAgain);
        }
        self.receiving = None;
        if self.sending.is_none() && self.sender_fate == Fate::Open {
            course.mark(Mark::BothDown);
        }
        match what {
            Move::CutReceiver(outcome) => {
                course.mark(Mark::ReceiverCut);
                self.disk = self.disk.cut(outcome);
            }
            _ => {
                course.mark(Mark::ReceiverKilled);
                self.disk.forget_unused(|_| false);
            }
        }
        self.lose_links();
        self.check()
    }

    fn end_sender(&mut self, course: &mut Course<'_>, what: Move) {
        self.budget.sender_ends -= 1;
        self.sending = None;
        if self.receiving.is_none() && self.receiver_fate == Fate::Open {
            course.mark(Mark::BothDown);
        }
        match what {
            Move::CutSender(outcome) => {
                course.mark(Mark::SenderCut);
                self.sender_disk = self.sender_disk.cut(outcome);
            }
            _ => course.mark(Mark::SenderKilled),
        }
        self.lose_links();
    }
}
