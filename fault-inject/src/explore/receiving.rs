//! The receiver's process: the real brain, its driver, and hands that do to the model's disk what `store/` does to a
//! real one, step by step, so that a crash can come between any two. Two threads as there: the intake (here) and the
//! settler (`settler.rs`), with the same queues between them and the driver.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use landfall::geometry::{ChunkRun, EntryIndex};
use landfall::limits::SIMULATED_CHUNK_BYTES;
use landfall::session::receiver::{Ending, Receiver, Settings};
use landfall::task::receiver::{
    AdoptItem, AdoptedItem, Disposition, End, Input, Noted, SealClaim, SettleResult, SettledFile, Task, WriteError,
};
use landfall::wire::{Message, Place, StopReason};

use super::disk::{ALL, CHUNKS, Disk, Kept, Page, RECORDS, bit, chunks_of};
use super::settler::Work;
use super::{Broken, Mark, Violation};

/// How long a receipt is lingered with: one tick, so that its time adds no states.
const LINGER: Duration = Duration::from_millis(500);
const FILE: EntryIndex = EntryIndex(0);

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

/// What can go wrong with a piece of work on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DiskFault {
    None,
    /// There is no space.
    Full,
    /// A sync fails, and what was dirty is gone.
    SyncFails,
    /// A page reaches the drive damaged.
    Corrupt(u32),
}

/// What the hands know of the file.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Hands {
    /// The inode that is being received into, or the target that was adopted.
    pub slot: Option<u8>,
    pub is_target: bool,
    pub held: u8,
    pub verified: u8,
    pub is_frozen: bool,
    is_accepted: bool,
    candidate: Option<Candidate>,
    pub batch: u8,
    pub is_finishing: bool,
    pub is_sealed: bool,
    pub is_left_out: bool,
    /// Chunks that there is a reason on record to fetch again.
    pub excused: u8,
}

/// What the file is compared with.
#[derive(Clone, Copy, Debug, Hash)]
struct Candidate {
    target: Option<u8>,
    is_comparing: bool,
    may_replace: bool,
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub(super) struct Receiving {
    brain: Receiver,
    pub hands: Hands,
    to_intake: VecDeque<Command>,
    pub to_settler: VecDeque<Work>,
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

fn place(chunk: u32) -> Place {
    Place { entry: FILE.0, chunk }
}

fn run_of(run: ChunkRun) -> u8 {
    (run.first..run.first + run.count).fold(0, |set, chunk| set | bit(chunk))
}

fn bytes_of(set: u8) -> u64 {
    u64::from(set.count_ones()) * u64::from(SIMULATED_CHUNK_BYTES)
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

    /// The store and the brain anew from an earlier place of the log, after both threads have done what they were
    /// told. Of that, only a receipt that was made is heard.
    fn rewind(&mut self, scene: &mut Scene<'_>, records: u8) -> Result<(), Violation> {
        self.run_dry(scene)?;
        let is_issued = self.heard.drain(..).any(|input| input == Input::ReceiptIssued);
        self.has_receipt |= is_issued;
        self.hands = Hands::default();
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

    /// Lets both threads do what they were told, as a process that ends by itself does.
    pub(super) fn run_dry(&mut self, scene: &mut Scene<'_>) -> Result<(), Violation> {
        while self.has_intake_work() || !self.to_settler.is_empty() {
            self.run_intake(scene, DiskFault::None)?;
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
        for file in files {
            match file.result {
                SettleResult::Sealed { .. } => {
                    let (is_sealed, excused) = (self.hands.is_sealed, self.hands.excused);
                    self.hands = Hands { is_sealed, excused, ..Hands::default() };
                }
                SettleResult::LeftOut(_) => self.abandon(),
                _ => self.hands.is_frozen = false,
            }
        }
    }

    fn abandon(&mut self) {
        self.hands = Hands { is_left_out: true, excused: ALL, ..Hands::default() };
    }

    fn perform(&mut self, scene: &mut Scene<'_>, task: Task) -> Option<Input> {
        Some(match task {
            Task::Examine(first, count) => {
                let found = (0..count).map(|_| match scene.disk.journal.sealed {
                    Some(_) => Disposition::Placed,
                    None => self.examine(scene),
                });
                Input::Examined(first, found.collect())
            }
            Task::ExamineClaims(entries) => {
                let found = entries.into_iter().map(|entry| (entry, self.examine_claim(scene)));
                Input::ClaimsExamined(found.collect())
            }
            Task::Adopt(items) => {
                let adopted = items.into_iter().map(|item| self.adopt(scene, &item)).collect();
                scene.mark(Mark::Adopted);
                Input::Adopted(adopted)
            }
            Task::Finish(_) => {
                self.hands.is_finishing = self.hands.slot.is_some();
                return None;
            }
            Task::Settle => {
                let hands = &mut self.hands;
                hands.is_frozen |= hands.is_finishing && hands.held == ALL;
                let (chunks, is_finish) = (std::mem::take(&mut hands.batch), std::mem::take(&mut hands.is_finishing));
                self.to_settler.push_back(Work::settle(hands.slot, hands.is_target, chunks, is_finish));
                return None;
            }
            Task::ReadBack(entry, run) => match self.hands.slot {
                Some(slot) => {
                    self.to_settler.push_back(Work::ReadBack { slot, run });
                    return None;
                }
                None => Input::ReadBackDone(entry, run, vec![]),
            },
            Task::NewInode(_) => self.renew(scene),
            Task::Abandon(..) => {
                self.abandon();
                return None;
            }
            Task::CheckLog => Input::LogChecked(true),
            Task::LookAtSpace => Input::Space(u64::MAX, u64::MAX),
            Task::FinishTree => return self.pass_on(Work::FinishTree),
            Task::IssueReceipt => return self.pass_on(Work::IssueReceipt { step: 0 }),
            Task::Close => return self.pass_on(Work::Close),
            Task::Send(_) | Task::SendReceipt | Task::Misbehaved(_) | Task::Restart | Task::End(_) => return None,
        })
    }

    fn pass_on(&mut self, work: Work) -> Option<Input> {
        self.to_settler.push_back(work);
        None
    }

    /// Looks at where the file goes, as `store/examine.rs`.
    fn examine(&mut self, scene: &mut Scene<'_>) -> Disposition {
        self.hands.is_accepted = true;
        let (disk, journal) = (&scene.disk, scene.disk.journal);
        let is_ours = |slot: u8| journal.sealed == Some(slot) || journal.is_sealing;
        let target = disk.target.live;
        let candidate =
            target.map(|slot| Candidate { target, is_comparing: true, may_replace: is_ours(slot) });
        let Some(slot) = disk.staging.live.filter(|slot| target != Some(*slot)) else {
            self.hands.candidate = candidate;
            return if target.is_some() { Disposition::Candidate } else { Disposition::Fresh };
        };
        let claims = if scene.broken == Some(Broken::ForgottenClaims) { 0 } else { journal.durable[usize::from(slot)] };
        self.hands.slot = Some(slot);
        self.hands.held = claims;
        if scene.broken == Some(Broken::ForgottenClaims) {
            return Disposition::Fresh;
        }
        if claims == 0 || target.is_some() {
            let copying = Candidate { target: None, is_comparing: false, may_replace: true };
            let beside = candidate.map(|found| Candidate { is_comparing: !found.may_replace, ..found });
            self.hands.candidate = Some(beside.unwrap_or(copying));
            return Disposition::Candidate;
        }
        scene.mark(Mark::Resumed);
        let runs = chunks_of(claims).map(|chunk| ChunkRun { first: chunk, count: 1 });
        Disposition::Staged(runs.collect())
    }

    fn examine_claim(&mut self, scene: &mut Scene<'_>) -> Disposition {
        if scene.disk.target.live.is_some() && scene.disk.target.live == scene.disk.journal.sealed {
            self.hands.is_sealed = true;
            scene.mark(Mark::ClaimStood);
            return Disposition::Sealed;
        }
        scene.mark(Mark::ClaimFell);
        self.examine(scene)
    }

    /// Compares with a candidate and takes what matches, as `store/adopt.rs`.
    fn adopt(&mut self, scene: &mut Scene<'_>, item: &AdoptItem) -> AdoptedItem {
        let run = item.run;
        let mut result =
            AdoptedItem { entry: FILE, run, missing: vec![], copied_bytes: 0, is_restarted: false, refused: None };
        let Some(candidate) = self.hands.candidate else { return result };
        if let Some(target) = candidate.target {
            scene.disk.sync(target, scene.broken);
        }
        let set = run_of(run);
        let is_good = |disk: &mut Disk, slot: Option<u8>, chunk| slot.is_some_and(|slot| disk.inode(slot).is_good(chunk));
        if candidate.is_comparing {
            if chunks_of(set).all(|chunk| is_good(scene.disk, candidate.target, chunk)) {
                (self.hands.slot, self.hands.is_target) = (candidate.target, true);
                self.hands.held |= set;
                self.hands.verified |= set;
            } else if candidate.may_replace {
                self.hands.candidate = Some(Candidate { is_comparing: false, ..candidate });
                (self.hands.slot, self.hands.is_target, self.hands.held) = (None, false, 0);
                result.is_restarted = true;
            } else {
                result.refused = Some(landfall::outcome::Reason::ExistsDifferent);
                self.abandon();
            }
            return result;
        }
        for chunk in chunks_of(set) {
            if is_good(scene.disk, self.hands.slot, chunk) {
                self.hands.held |= bit(chunk);
                self.hands.batch |= bit(chunk);
            } else if is_good(scene.disk, candidate.target, chunk) {
                self.write(scene, chunk);
            } else {
                result.missing.push(chunk);
                self.hands.held &= !bit(chunk);
                continue;
            }
            result.copied_bytes += u64::from(SIMULATED_CHUNK_BYTES);
        }
        if run.first + run.count >= CHUNKS {
            self.hands.candidate = None;
        }
        result
    }

    fn write(&mut self, scene: &mut Scene<'_>, chunk: u32) {
        let slot = match self.hands.slot {
            Some(slot) => slot,
            None => {
                let slot = scene.disk.make_inode(|slot| self.uses(slot));
                scene.disk.staging.live = Some(slot);
                self.hands.slot = Some(slot);
                slot
            }
        };
        let inode = scene.disk.inode(slot);
        inode.cache[chunk as usize] = Page::Good;
        inode.dirty |= bit(chunk);
        self.hands.held |= bit(chunk);
        self.hands.verified &= !bit(chunk);
        self.hands.batch |= bit(chunk);
    }

    fn receive(&mut self, scene: &mut Scene<'_>, flying: Flying, fault: DiskFault) -> Input {
        let (at, hands) = (place(flying.chunk), &self.hands);
        let is_closed = hands.is_sealed || hands.is_left_out || !hands.is_accepted || hands.is_target;
        if flying.is_copy {
            scene.mark(Mark::DuplicateTaken);
        }
        if is_closed {
            return Input::WriteFailed(at, WriteError::Stale);
        }
        if hands.held & bit(flying.chunk) != 0 {
            return Input::Written(at, 0);
        }
        if hands.is_frozen {
            return Input::WriteFailed(at, WriteError::Stale);
        }
        if flying.is_damaged && scene.broken != Some(Broken::UnverifiedArrival) {
            scene.mark(Mark::DamageSeen);
            return Input::Differed(at);
        }
        if fault == DiskFault::Full {
            scene.mark(Mark::FullSeen);
            return Input::WriteFailed(at, WriteError::Full);
        }
        self.write(scene, flying.chunk);
        if flying.is_damaged {
            let slot = self.hands.slot.unwrap_or_default();
            scene.disk.inode(slot).cache[flying.chunk as usize] = Page::Bad;
        }
        Input::Written(at, SIMULATED_CHUNK_BYTES)
    }

    /// Leaves the inode for a new one, as `store/renew.rs`.
    fn renew(&mut self, scene: &mut Scene<'_>) -> Input {
        scene.mark(Mark::Renewed);
        let all: Vec<u32> = (0..CHUNKS).collect();
        let was_held = self.hands.held;
        self.hands.excused = ALL;
        (self.hands.batch, self.hands.is_finishing, self.hands.is_frozen) = (0, false, false);
        self.hands.candidate = None;
        let Some(old) = self.hands.slot.take() else { return Input::Renewed(FILE, Ok((0, all))) };
        if !self.hands.is_target && scene.disk.staging.live == Some(old) {
            scene.disk.staging.live = None;
        }
        (self.hands.is_target, self.hands.held, self.hands.verified) = (false, 0, 0);
        let is_good: Vec<bool> = all
            .iter()
            .map(|chunk| was_held & bit(*chunk) != 0 && scene.disk.inode(old).is_good(*chunk))
            .collect();
        let slot = scene.disk.make_inode(|slot| slot == old || self.uses(slot));
        scene.disk.staging.live = Some(slot);
        self.hands.slot = Some(slot);
        let mut missing = vec![];
        for (chunk, is_good) in (0..CHUNKS).zip(is_good) {
            if is_good { self.write(scene, chunk) } else { missing.push(chunk) }
        }
        Input::Renewed(FILE, Ok((bytes_of(self.hands.held), missing)))
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
