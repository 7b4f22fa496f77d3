//! The sender's process: the real brain with its driver, a producer that makes the records of one file, a server
//! that answers wants, and the receipt's check and storing. Its hands need no opinion: the source never changes.

use std::collections::VecDeque;
use std::time::Instant;

use landfall::digest::{ChainValue, OutcomeDigest};
use landfall::manifest::Position;
use landfall::session::sender::Sender;
use landfall::task::sender::{End, Input, PeerReceipt, Production, ReceiptVerdict, Task};
use landfall::wire::{Message, Want};

use super::disk::{CHUNKS, Kept, RECORDS, SenderDisk};
use super::receiving::Flying;
use super::{Broken, Violation};

/// Records that the producer makes in one step.
const RECORDS_PER_STEP: u8 = 2;

/// What the process does to the world.
#[derive(Clone, Debug, Hash)]
pub(super) enum Said {
    Frame(Message),
    Chunk(Flying),
    End(End),
}

#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Line {
    pub id: u8,
    sent: u8,
}

/// Wants of one link, and how far they are answered.
#[derive(Clone, Debug, Hash)]
struct Job {
    link: u8,
    chunks: VecDeque<u32>,
    unreported: u32,
}

/// Work on the receipt.
#[derive(Clone, Copy, Debug, Hash)]
enum Errand {
    Check,
    Store { is_named: bool },
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(super) struct Sending {
    brain: Sender,
    is_settled: bool,
    is_news: bool,
    jobs: VecDeque<Job>,
    reports: VecDeque<(u8, Input)>,
    errands: VecDeque<Errand>,
    pub line: Option<Line>,
    pub said: Vec<Said>,
}

/// The place in the log after so many records: the source never changes, so neither does the chain.
pub(super) fn position(records: u8) -> Position {
    Position { record_count: u64::from(records), chain: ChainValue([records; 32]) }
}

impl Sending {
    pub(super) fn start(now: Instant, disk: &SenderDisk) -> Sending {
        Sending {
            brain: Sender::new(now, position(disk.records)),
            is_settled: false,
            is_news: false,
            jobs: VecDeque::new(),
            reports: VecDeque::new(),
            errands: VecDeque::new(),
            line: None,
            said: vec![],
        }
    }

    pub(super) fn has_producer_work(&self) -> bool {
        !self.is_settled
    }

    pub(super) fn has_server_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        self.is_news || !self.reports.is_empty()
    }

    pub(super) fn has_errand(&self) -> bool {
        !self.errands.is_empty()
    }

    /// Whether something that is still to be heard or done speaks of that link.
    pub(super) fn remembers(&self, link: u8) -> bool {
        self.line.is_some_and(|line| line.id == link)
            || self.jobs.iter().any(|job| job.link == link)
            || self.reports.iter().any(|(of, _)| *of == link)
    }

    pub(super) fn connect(&mut self, now: Instant, id: u8, hello: (u8, bool), disk: &SenderDisk) {
        self.lose(now);
        let (records, has_receipt) = hello;
        let shared = records.min(disk.records);
        self.line = Some(Line { id, sent: shared });
        let receipt = if has_receipt { PeerReceipt::Held } else { PeerReceipt::None };
        self.tell(now, Input::Connected(position(shared), receipt), disk);
    }

    pub(super) fn lose(&mut self, now: Instant) {
        if self.line.take().is_some() {
            self.brain.handle(now, Input::LinkLost);
            // All that follows is to forget wants, and those of a link that is gone are not served.
            while self.brain.poll().is_some() {}
        }
    }

    pub(super) fn control(&mut self, now: Instant, message: Message, disk: &SenderDisk) {
        let input = match message {
            Message::Want(want) => Input::Wanted(want),
            Message::Progress(progress) => Input::Progress(progress),
            Message::Receipt { .. } => Input::ReceiptArrived,
            Message::Stop(stop) => Input::PeerStopped(stop),
            _ => Input::Unexpected,
        };
        self.tell(now, input, disk);
    }

    fn tell(&mut self, now: Instant, input: Input, disk: &SenderDisk) {
        self.brain.handle(now, input);
        while let Some(task) = self.brain.poll() {
            match task {
                Task::Send(message) => self.said.push(Said::Frame(message)),
                Task::SendPage => self.send_page(disk),
                Task::Serve(want) => self.serve(&want),
                Task::DropWants | Task::Renew(..) => (),
                Task::CheckReceipt => self.errands.push_back(Errand::Check),
                Task::StoreReceipt => self.errands.push_back(Errand::Store { is_named: false }),
                Task::Misbehaved(_) => {
                    self.said.push(Said::End(End::Stopped(landfall::wire::StopReason::Misbehaved)));
                }
                Task::End(end) => self.said.push(Said::End(end)),
            }
        }
    }

    fn send_page(&mut self, disk: &SenderDisk) {
        let Some(line) = &mut self.line else { return };
        line.sent = disk.records;
        self.said.push(Said::Frame(Message::Records(vec![disk.records])));
        self.reports.push_back((line.id, Input::PageSent(u64::from(disk.records))));
    }

    fn serve(&mut self, want: &Want) {
        let Some(line) = &self.line else { return };
        let chunks: VecDeque<u32> = want.runs.iter().flat_map(|run| run.first..run.first + run.count).collect();
        if !chunks.is_empty() {
            self.jobs.push_back(Job { link: line.id, chunks, unreported: 0 });
        }
    }

    /// The producer makes the next records, or finds that there are no more.
    pub(super) fn run_producer(&mut self, disk: &mut SenderDisk) {
        if disk.records < RECORDS {
            disk.records = (disk.records + RECORDS_PER_STEP).min(RECORDS);
        } else {
            self.is_settled = true;
        }
        self.is_news = true;
    }

    /// The server answers its next want.
    pub(super) fn run_server(&mut self) -> Result<(), Violation> {
        let Some(mut job) = self.jobs.pop_front() else { return Ok(()) };
        if self.line.is_none_or(|line| line.id != job.link) {
            return Ok(());
        }
        match job.chunks.pop_front() {
            Some(chunk) if chunk >= CHUNKS => Err(Violation::Stuck("a chunk is wanted that is not there".into())),
            Some(chunk) => {
                self.said.push(Said::Chunk(Flying { chunk, is_damaged: false, is_copy: false }));
                job.unreported += 1;
                self.jobs.push_front(job);
                Ok(())
            }
            None => {
                self.reports.push_back((job.link, Input::Served(job.unreported)));
                Ok(())
            }
        }
    }

    /// The driver hears the next news.
    pub(super) fn run_driver(&mut self, now: Instant, disk: &SenderDisk) {
        if std::mem::take(&mut self.is_news) {
            let production = if self.is_settled { Production::Settled } else { Production::Busy };
            return self.tell(now, Input::Produced(position(disk.records), production), disk);
        }
        match self.reports.pop_front() {
            Some((link, input)) if self.line.is_some_and(|line| line.id == link) => self.tell(now, input, disk),
            _ => (),
        }
    }

    /// Work on the receipt is done: compared, then made durable in two steps.
    pub(super) fn run_errand(&mut self, now: Instant, disk: &mut SenderDisk, broken: Option<Broken>) {
        match self.errands.pop_front() {
            None => (),
            Some(Errand::Check) => {
                let verdict = ReceiptVerdict::Agrees(OutcomeDigest([7; 32]));
                self.tell(now, Input::ReceiptChecked(verdict), disk);
            }
            Some(Errand::Store { is_named: false }) if broken != Some(Broken::AcknowledgedBeforeStored) => {
                disk.receipt = if disk.receipt == Kept::Durable { Kept::Durable } else { Kept::Named };
                self.errands.push_front(Errand::Store { is_named: true });
            }
            Some(Errand::Store { is_named }) => {
                if is_named {
                    disk.receipt = Kept::Durable;
                }
                self.tell(now, Input::ReceiptStored, disk);
            }
        }
    }
}
