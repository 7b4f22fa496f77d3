//! The receiver's process: the real brain, its driver, and three threads of hands as in the product, the
//! intake (`intake.rs`), the syncer and the settler (`settler.rs`), with the same queues between them and the driver.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use landfall::limits::SIMULATED_CHUNK_BYTES;
use landfall::session::receiver::{Ending, Receiver, Settings};
use landfall::task::receiver::{End, Input, Noted, SealClaim, SettleResult, SettledFile, Task};
use landfall::wire::{Message, StopReason};

use super::disk::{ALL, CHUNKS, Disk, Kept, RECORDS};
use super::intake::{DiskFault, Hands};
use super::settler::Work;
use super::{Broken, Mark, Violation};

/// How long a receipt is lingered with: one tick, so that its time adds no states.
const LINGER: Duration = Duration::from_millis(500);

/// A chunk on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Flying {
    pub chunk: u32,
    pub is_damaged: bool,
    pub is_copy: bool,
}

/// What the intake is told.
#[derive(Clone, Debug, Hash)]
enum Command {
    Task(Task),
    Records(u8),
    Chunk(Flying),
    Settled(u64),
    AfterSettle(Vec<SettledFile>),
}

#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Line {
    pub id: u8,
    pub is_continued: bool,
}

/// What the process does to the world.
#[derive(Clone, Debug, Hash)]
pub(super) enum Said {
    Frame(Message),
    Drop,
    End(End),
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(super) struct Receiving {
    brain: Receiver,
    pub hands: Hands,
    to_intake: VecDeque<Command>,
    pub to_settler: VecDeque<Work>,
    /// Batches that were closed, and those of them that the intake knows to be settled.
    pub closed: u8,
    pub settled: u8,
    /// Inodes of which a sync has failed.
    pub sync_failed: u8,
    heard: VecDeque<Input>,
    pub line: Option<Line>,
    pub has_receipt: bool,
    said_receipt: bool,
    pub said: Vec<Said>,
    is_over: bool,
}

/// What a step of the process sees of the world: its disk, the time, and where to note what happened.
pub(super) struct Scene<'a> {
    pub disk: &'a mut Disk,
    pub now: Instant,
    pub broken: Option<Broken>,
    pub marks: &'a mut u64,
}

impl Scene<'_> {
    pub(super) fn mark(&mut self, mark: Mark) {
        *self.marks |= 1 << mark as u64;
    }
}

fn new_brain(has_receipt: bool, now: Instant) -> Receiver {
    let ending = if has_receipt { Ending::issued(now, LINGER) } else { Ending::open(LINGER) };
    let batch_files = landfall::limits::BATCH_FILES_MAX;
    let settings =
        Settings { chunk_bytes: SIMULATED_CHUNK_BYTES, max_bytes: None, patience: None, linger: LINGER, batch_files };
    Receiver::new(settings, ending)
}

impl Receiving {
    /// Starts a process from what the disk holds.
    pub(super) fn start(scene: &mut Scene<'_>) -> Receiving {
        let has_receipt = scene.disk.receipt != Kept::None;
        let mut receiving = Receiving {
            brain: new_brain(has_receipt, scene.now),
            hands: Hands::default(),
            to_intake: VecDeque::new(),
            to_settler: VecDeque::new(),
            closed: 0,
            settled: 0,
            sync_failed: 0,
            heard: VecDeque::new(),
            line: None,
            has_receipt,
            said_receipt: false,
            said: vec![],
            is_over: false,
        };
        receiving.replay(scene);
        receiving
    }

    fn replay(&mut self, scene: &mut Scene<'_>) {
        for record in 0..scene.disk.records {
            self.brain.note(noted(record, scene.disk));
        }
        self.hear(scene, Input::Consented);
    }

    pub(super) fn has_intake_work(&self) -> bool {
        !self.to_intake.is_empty()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.heard.is_empty()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.brain.poll_timeout()
    }

    /// Whether the next piece of the intake writes.
    pub(super) fn will_write(&self) -> bool {
        matches!(self.to_intake.front(), Some(Command::Chunk(_)))
    }

    /// Inodes that this process has open.
    pub(super) fn uses(&self, slot: u8) -> bool {
        let candidate = self.hands.candidate.and_then(|candidate| candidate.target);
        let is_work = self.to_settler.iter().any(|work| work.slot() == Some(slot));
        self.hands.slot == Some(slot) || candidate == Some(slot) || is_work
    }

    /// Its first message on a new link: how many records it has, and whether it holds a receipt.
    pub(super) fn hello(&mut self, disk: &Disk) -> (u8, bool) {
        self.said_receipt = self.has_receipt;
        (disk.records, self.has_receipt)
    }

    pub(super) fn connect(&mut self, scene: &mut Scene<'_>, id: u8) {
        self.lose(scene);
        self.line = Some(Line { id, is_continued: false });
    }

    pub(super) fn lose(&mut self, scene: &mut Scene<'_>) {
        if self.line.take().is_some_and(|line| line.is_continued) {
            self.hear(scene, Input::LinkLost);
        }
    }

    pub(super) fn tick(&mut self, scene: &mut Scene<'_>) {
        self.hear(scene, Input::Tick);
    }

    pub(super) fn chunk(&mut self, flying: Flying) {
        self.to_intake.push_back(Command::Chunk(flying));
    }

    pub(super) fn control(&mut self, scene: &mut Scene<'_>, message: Message) -> Result<(), Violation> {
        let is_continued = self.line.is_some_and(|line| line.is_continued);
        match message {
            Message::Continue(position) if !is_continued => self.continue_from(scene, position.record_count)?,
            Message::Stop(stop) => self.hear(scene, Input::PeerStopped(stop.reason)),
            _ if !is_continued => return Err(Violation::Stuck("a message before its place".into())),
            Message::Records(page) => self.to_intake.extend(page.first().map(|to| Command::Records(*to))),
            Message::Settled(position) => self.to_intake.push_back(Command::Settled(position.record_count)),
            Message::Acknowledge(_) => self.hear(scene, Input::Acknowledged),
            other => return Err(Violation::Stuck(format!("the sender sends {other:?}"))),
        }
        Ok(())
    }

    fn continue_from(&mut self, scene: &mut Scene<'_>, position: u64) -> Result<(), Violation> {
        while self.has_intake_work() {
            self.run_intake(scene, DiskFault::None)?;
        }
        while self.has_news() && !self.is_over {
            self.run_driver(scene);
        }
        let is_found = position <= u64::from(scene.disk.records);
        if !is_found || (self.has_receipt && !self.said_receipt) {
            self.line = None;
            self.said.push(Said::Drop);
            return Ok(());
        }
        if position < u64::from(scene.disk.records) {
            scene.mark(Mark::Rewound);
            self.rewind(scene, u8::try_from(position).expect("a few records"))?;
        }
        if let Some(line) = &mut self.line {
            line.is_continued = true;
            self.hear(scene, Input::Connected);
        }
        Ok(())
    }

    /// The store and the brain anew from an earlier place of the log, after the threads have done what they were
    /// told. Of that, only a receipt that was made is heard.
    fn rewind(&mut self, scene: &mut Scene<'_>, records: u8) -> Result<(), Violation> {
        self.run_dry(scene)?;
        let is_issued = self.heard.drain(..).any(|input| input == Input::ReceiptIssued);
        self.has_receipt |= is_issued;
        self.hands = Hands::default();
        (self.closed, self.settled) = (0, 0);
        self.brain = new_brain(self.has_receipt, scene.now);
        if is_issued {
            self.line = None;
            self.said.push(Said::Drop);
        } else {
            scene.disk.records = records;
        }
        self.replay(scene);
        Ok(())
    }

    /// Lets the threads do what they were told, as a process that ends by itself does.
    pub(super) fn run_dry(&mut self, scene: &mut Scene<'_>) -> Result<(), Violation> {
        while self.has_intake_work() || !self.to_settler.is_empty() {
            self.run_intake(scene, DiskFault::None)?;
            self.run_syncer(scene, DiskFault::None);
            self.run_settler(scene, DiskFault::None)?;
        }
        Ok(())
    }

    fn hear(&mut self, scene: &mut Scene<'_>, input: Input) {
        self.brain.handle(scene.now, input);
        while let Some(task) = self.brain.poll() {
            match task {
                Task::Send(message) => self.said.push(Said::Frame(message)),
                Task::SendReceipt => {
                    let receipt = Message::Receipt { core: vec![], signature: vec![] };
                    self.said.push(Said::Frame(receipt));
                }
                Task::Misbehaved(_) | Task::Restart => self.said.push(Said::End(End::Stopped(StopReason::Misbehaved))),
                Task::End(end) => {
                    self.is_over = true;
                    self.said.push(Said::End(end));
                }
                task => self.to_intake.push_back(Command::Task(task)),
            }
        }
    }

    /// The driver hears the next news.
    pub(super) fn run_driver(&mut self, scene: &mut Scene<'_>) {
        let Some(input) = self.heard.pop_front() else { return };
        if input == Input::ReceiptIssued {
            self.has_receipt = true;
        }
        if let Input::BatchSettled(files) = &input {
            self.to_intake.push_back(Command::AfterSettle(files.clone()));
        }
        self.hear(scene, input);
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.heard.push_back(input);
    }

    /// The intake's thread does its next piece.
    pub(super) fn run_intake(&mut self, scene: &mut Scene<'_>, fault: DiskFault) -> Result<(), Violation> {
        let Some(command) = self.to_intake.pop_front() else { return Ok(()) };
        let input = match command {
            Command::Task(task) => match self.perform(scene, task) {
                Some(input) => input,
                None => return Ok(()),
            },
            Command::Records(to) => {
                let from = scene.disk.records;
                let notes = (from..to).map(|record| noted(record, scene.disk)).collect();
                scene.disk.records = to.max(from);
                Input::Noted(notes)
            }
            Command::Chunk(flying) => self.receive(scene, flying, fault),
            Command::Settled(position) => Input::Settled(position),
            Command::AfterSettle(files) => {
                self.after_settle(&files);
                return Ok(());
            }
        };
        self.heard.push_back(input);
        Ok(())
    }

    fn after_settle(&mut self, files: &[SettledFile]) {
        self.settled += 1;
        for file in files {
            match file.result {
                SettleResult::Sealed { .. } => {
                    let (is_sealed, excused) = (self.hands.is_sealed, self.hands.excused);
                    self.hands = Hands { is_sealed, excused, ..Hands::default() };
                }
                SettleResult::LeftOut(_) => self.abandon(),
                _ => self.hands.sealed_by = self.hands.sealed_by.filter(|batch| *batch > self.settled),
            }
        }
    }

    pub(super) fn abandon(&mut self) {
        self.hands = Hands { is_left_out: true, excused: ALL, ..Hands::default() };
    }
}

/// What the brain hears of a record.
fn noted(record: u8, disk: &Disk) -> Noted {
    let claim = if disk.journal.sealed.is_some() { SealClaim::Claimed } else { SealClaim::None };
    match record {
        0 => Noted::File { size: u64::from(CHUNKS) * u64::from(SIMULATED_CHUNK_BYTES), claim },
        1 => Noted::DigestsTo(CHUNKS),
        2 => Noted::Ended,
        _ => {
            debug_assert!(record < RECORDS);
            Noted::Complete
        }
    }
}
