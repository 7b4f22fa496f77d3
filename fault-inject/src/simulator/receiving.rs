//! The receiver's process: the real brain and the real store, with the driver between them. The driver is a copy of
//! `recv.rs` and `recv/engine.rs` without runtime and sockets: each queue that has a thread at its end there is a
//! queue here, and the world decides which moves next. It does not know faults; when its disk stops, it is dropped.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use landfall::disk::Disk;
use landfall::identity::Role;
use landfall::limits::SIMULATED_CHUNK_BYTES;
use landfall::manifest::Position;
use landfall::session::receiver::Receiver;
use landfall::state::home::Home;
use landfall::state::log::AppendError;
use landfall::store::{Done, Intake, Proof, Settler, Shared, Syncer, Work};
use landfall::task::receiver::{End, Input, Noted, SettledFile, Task};
use landfall::wire::{ChunkHeader, Hello, Message, Phase};

use super::link::{Flying, LinkId};
use super::opening::{Setting, new_brain, open_store};
use super::receipts;
use super::resent::WrittenChunk;
use super::sights::Sight;
use crate::sim_disk::{SimDir, SimDisk};

/// Where the target directory lies on the receiver's disk.
pub(super) const TARGET: &str = "target";
/// Where its home lies.
pub(super) const HOME: &str = "home";

/// What the intake is told.
enum Command {
    Task(Task),
    Records(Vec<u8>),
    Chunk(Flying),
    SettledAt(Position),
    Settled(Vec<SettledFile>),
}

/// What the driver hears.
enum Heard {
    Input(Input),
    Records(Vec<Noted>, Option<AppendError>),
}

/// What the process does to the world.
#[derive(Debug)]
pub(super) enum Said {
    /// Sends a control frame.
    Frame(Vec<u8>),
    /// Closes the link.
    Drop,
    /// Ends well, with or without the sender's confirmation.
    End(End),
    /// Ends with an error that running again may cure.
    Failed(String),
    /// The peer broke the protocol.
    Misbehaved(String),
}

/// The link in use.
#[derive(Clone, Copy, Debug)]
struct Line {
    id: LinkId,
    is_continued: bool,
}

/// See the module.
pub(super) struct Receiving {
    setting: Setting,
    root: SimDir,
    home: Home<SimDisk>,
    brain: Receiver,
    intake: Intake<SimDisk>,
    syncer: Syncer<SimDisk>,
    settler: Settler<SimDisk>,
    shared: Arc<Shared<SimDisk>>,
    to_intake: VecDeque<Command>,
    to_syncer: VecDeque<Work<SimDisk>>,
    to_settler: VecDeque<Proof<SimDisk>>,
    heard: VecDeque<Heard>,
    line: Option<Line>,
    has_receipt: bool,
    /// What the last hello said of it.
    said_receipt: bool,
    /// What it did, for the world to take.
    pub said: Vec<Said>,
    /// What it saw, for the world to take.
    pub sights: Vec<Sight>,
    is_over: bool,
}

impl Receiving {
    /// Starts a process.
    pub(super) fn start(setting: Setting, now: Instant) -> io::Result<Receiving> {
        let disk = setting.disk.clone();
        let root = disk.open_dir(&disk.root(), TARGET.as_bytes())?;
        let at = setting.home.open_dir(&setting.home.root(), HOME.as_bytes())?;
        let home = Home::new(setting.home.clone(), at, PathBuf::from(HOME));
        let has_receipt = !receipts::messages(&home, setting.transfer)?.is_empty();
        let mut brain = new_brain(has_receipt, now);
        let mut sights = vec![];
        let store = open_store(&setting, &root, None, &mut brain, &mut sights)?;
        if !has_receipt {
            store.shared.probe_level()?;
        }
        let mut receiving = Receiving {
            setting,
            root,
            home,
            brain,
            intake: store.intake,
            syncer: store.syncer,
            settler: store.settler,
            shared: store.shared,
            to_intake: VecDeque::new(),
            to_syncer: VecDeque::new(),
            to_settler: VecDeque::new(),
            heard: VecDeque::new(),
            line: None,
            has_receipt,
            said_receipt: false,
            said: vec![],
            sights,
            is_over: false,
        };
        receiving.hear(now, Input::Consented);
        receiving.drain(now);
        Ok(receiving)
    }

    /// The phase it is in.
    pub(super) fn phase(&self) -> Phase {
        self.brain.tally().phase
    }

    /// Whether it holds a receipt.
    pub(super) fn has_receipt(&self) -> bool {
        self.has_receipt
    }

    /// The link in use.
    pub(super) fn line(&self) -> Option<LinkId> {
        self.line.map(|line| line.id)
    }

    /// Whether the intake has something to do.
    pub(super) fn has_intake_work(&self) -> bool {
        !self.to_intake.is_empty()
    }

    /// Whether the syncer has something to do.
    pub(super) fn has_syncer_work(&self) -> bool {
        !self.to_syncer.is_empty()
    }

    /// Whether the settler has something to do.
    pub(super) fn has_settler_work(&self) -> bool {
        !self.to_settler.is_empty()
    }

    /// Whether the driver has something to hear.
    pub(super) fn has_news(&self) -> bool {
        !self.heard.is_empty()
    }

    /// When time itself is news.
    pub(super) fn due(&self) -> Option<Instant> {
        self.brain.poll_timeout()
    }

    /// Its first message on a new link.
    pub(super) fn hello(&mut self) -> Vec<u8> {
        self.said_receipt = self.has_receipt;
        let hello = Hello {
            minor: landfall::wire::MINOR,
            features: 0,
            role: Role::Receiver,
            transfer: self.setting.transfer,
            proof: None,
            chunk_bytes: SIMULATED_CHUNK_BYTES,
            addresses: vec![],
            ladder: self.shared.with_log(|log| log.rungs()),
            has_receipt: self.has_receipt,
            host: "receiver".into(),
            version: "0".into(),
        };
        Message::Hello(hello).encode()
    }

    /// Takes a new link into use.
    pub(super) fn connect(&mut self, now: Instant, id: LinkId) {
        if self.line.take().is_some_and(|line| line.is_continued) {
            self.hear(now, Input::LinkLost);
        }
        self.line = Some(Line { id, is_continued: false });
        self.drain(now);
    }

    /// The link is gone.
    pub(super) fn lose(&mut self, now: Instant) {
        if self.line.take().is_some_and(|line| line.is_continued) {
            self.hear(now, Input::LinkLost);
        }
        self.drain(now);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        self.hear(now, Input::Tick);
        self.drain(now);
    }

    /// A chunk arrived on the link in use.
    pub(super) fn chunk(&mut self, chunk: Flying) {
        self.to_intake.push_back(Command::Chunk(chunk));
    }

    /// A control frame arrived on the link in use.
    pub(super) fn control(&mut self, now: Instant, frame: &[u8]) -> io::Result<()> {
        let Ok(message) = Message::decode(frame) else { return self.misbehaved("a control message") };
        let is_continued = self.line.is_some_and(|line| line.is_continued);
        match message {
            Message::Continue(position) if !is_continued => self.continue_from(now, position)?,
            Message::Stop(stop) => self.hear(now, Input::PeerStopped(stop.reason)),
            _ if !is_continued => return self.misbehaved("a message before its place"),
            Message::Records(page) => self.to_intake.push_back(Command::Records(page)),
            Message::Settled(position) => {
                self.to_intake.push_back(Command::SettledAt(position));
            }
            Message::Acknowledge(_) => self.hear(now, Input::Acknowledged),
            _ => return self.misbehaved("a message that only a receiver sends"),
        }
        self.drain(now);
        Ok(())
    }

    fn misbehaved(&mut self, what: &str) -> io::Result<()> {
        self.said.push(Said::Misbehaved(what.to_owned()));
        self.is_over = true;
        Ok(())
    }

    fn continue_from(&mut self, now: Instant, position: Position) -> io::Result<()> {
        while self.has_intake_work() {
            self.run_intake();
        }
        while self.has_news() && !self.is_over {
            self.run_driver_once(now);
        }
        let own = self.shared.with_log(|log| log.position());
        let is_found = own == position || self.shared.with_log(|log| log.find(position))?.is_some();
        if !is_found || (self.has_receipt && !self.said_receipt) {
            self.line = None;
            self.said.push(Said::Drop);
            return Ok(());
        }
        if own != position {
            self.sights.push(Sight::Rewound);
            self.rewind(now, Some(position))?;
        }
        if let Some(line) = &mut self.line {
            line.is_continued = true;
            self.intake.begin_link();
            self.hear(now, Input::Connected);
        }
        Ok(())
    }

    /// Starts the store and the brain anew, after the queues have run dry, as joining the threads does.
    fn rewind(&mut self, now: Instant, mut rung: Option<Position>) -> io::Result<()> {
        if self.run_dry() {
            (self.has_receipt, rung) = (true, None);
        }
        self.sights.push(Sight::Anew);
        self.brain = new_brain(self.has_receipt, now);
        let store = open_store(&self.setting, &self.root, rung, &mut self.brain, &mut self.sights)?;
        (self.intake, self.syncer, self.settler) = (store.intake, store.syncer, store.settler);
        self.shared = store.shared;
        if rung.is_none() {
            self.line = None;
            self.said.push(Said::Drop);
        }
        self.hear(now, Input::Consented);
        Ok(())
    }

    /// Lets the threads finish what they were told. Nobody hears of it any more, but of a receipt that was made.
    pub(super) fn run_dry(&mut self) -> bool {
        while self.has_intake_work() || self.has_syncer_work() || self.has_settler_work() {
            self.run_intake();
            self.run_syncer();
            self.run_settler();
        }
        self.heard.drain(..).any(|heard| matches!(heard, Heard::Input(Input::ReceiptIssued)))
    }

    fn hear(&mut self, now: Instant, input: Input) {
        self.brain.handle(now, input);
    }

    /// Does what the brain asks, until it asks nothing more.
    fn drain(&mut self, now: Instant) {
        while let Some(task) = self.brain.poll() {
            match task {
                Task::Send(message) => self.said.push(Said::Frame(message.encode())),
                Task::SendReceipt => match receipts::messages(&self.home, self.setting.transfer) {
                    Ok(messages) => {
                        self.said.extend(messages.iter().map(|message| Said::Frame(message.encode())));
                    }
                    Err(error) => return self.fail(&error),
                },
                Task::Misbehaved(what) => drop(self.misbehaved(what)),
                Task::Restart => {
                    if let Err(error) = self.rewind(now, None) {
                        return self.fail(&error);
                    }
                }
                Task::End(end) => {
                    self.is_over = true;
                    self.said.push(Said::End(end));
                }
                task => {
                    self.sights.extend((task == Task::IssueReceipt).then_some(Sight::Issuing));
                    self.to_intake.push_back(Command::Task(task));
                }
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.is_over = true;
        self.said.push(Said::Failed(error.to_string()));
    }

    /// The intake's thread does its next piece.
    pub(super) fn run_intake(&mut self) {
        let Some(command) = self.to_intake.pop_front() else { return };
        let said = match command {
            Command::Task(task) => match self.intake.perform(task) {
                Done::Input(input) => Heard::Input(input),
                Done::Work(piece) => {
                    if let Work::Settle(_) = piece {
                        self.sights.push(Sight::Closed);
                    }
                    self.heard.extend(self.intake.take_missing().map(Heard::Input));
                    return self.to_syncer.push_back(piece);
                }
                Done::Nothing | Done::NotMine(_) => return,
            },
            Command::Records(page) => {
                let mut notes = vec![];
                let error = self.intake.append(&page, &mut notes).err();
                Heard::Records(notes, error)
            }
            Command::Chunk(flying) => {
                let Ok(header) = ChunkHeader::decode(&flying.header, SIMULATED_CHUNK_BYTES) else {
                    self.said.push(Said::Misbehaved("a chunk header".into()));
                    return;
                };
                if flying.is_duplicate {
                    self.sights.push(Sight::Duplicate);
                }
                Heard::Input(self.receive(header, flying.body))
            }
            Command::SettledAt(position) => Heard::Input(self.intake.settled_at(position)),
            Command::Settled(files) => return self.intake.after_settle(&files),
        };
        self.heard.push_back(said);
    }

    fn receive(&mut self, header: ChunkHeader, body: Option<Bytes>) -> Input {
        let input = self.intake.receive(header, body.clone());
        // Of a chunk that was there already nothing is written.
        if let Input::Written(place, 1..) = input {
            self.sights.push(Sight::Written(WrittenChunk::new(place, body.as_deref())));
        }
        input
    }

    /// The syncer's thread does its next piece.
    pub(super) fn run_syncer(&mut self) {
        let Some(piece) = self.to_syncer.pop_front() else { return };
        match self.syncer.perform(piece) {
            Ok(proof) => {
                if let Proof::Batch(_) = proof {
                    self.heard.push_back(Heard::Input(Input::BatchSynced));
                }
                self.to_settler.push_back(proof);
            }
            Err(input) => {
                self.sights.extend((input == Input::StateFull).then_some(Sight::Full));
                self.heard.push_back(Heard::Input(input));
            }
        }
    }

    /// The settler's thread does its next piece.
    pub(super) fn run_settler(&mut self) {
        let Some(piece) = self.to_settler.pop_front() else { return };
        let (home, transfer) = (&self.home, self.setting.transfer);
        let input = self.settler.perform(piece, |shared, live| receipts::issue(shared, live, home, transfer));
        let observed = self.settler.take_observed();
        if !observed.is_empty() {
            self.sights.push(Sight::Observed(observed));
        }
        match &input {
            Input::BatchSettled(files) => self.sights.push(Sight::Settled(files.clone())),
            Input::ReceiptIssued => self.sights.push(Sight::Issued),
            Input::StateFull => self.sights.push(Sight::Full),
            _ => (),
        }
        self.heard.push_back(Heard::Input(input));
    }

    /// The driver hears the next news.
    pub(super) fn run_driver(&mut self, now: Instant) {
        self.run_driver_once(now);
        self.drain(now);
    }

    fn run_driver_once(&mut self, now: Instant) {
        match self.heard.pop_front() {
            None => (),
            Some(Heard::Records(notes, error)) => {
                self.sights.extend(notes.iter().filter_map(|noted| match noted {
                    Noted::Withdrawn(entry) => Some(Sight::Withdrawn(*entry)),
                    _ => None,
                }));
                self.hear(now, Input::Noted(notes));
                match error {
                    None => (),
                    Some(AppendError::Parted) => self.hear(now, Input::LogChecked(false)),
                    Some(AppendError::Io(_)) => self.hear(now, Input::StateFailed),
                    Some(error) => drop(self.misbehaved(&format!("a manifest record: {error}"))),
                }
            }
            Some(Heard::Input(input)) => {
                self.sights.extend(Sight::of(&input));
                if input == Input::ReceiptIssued {
                    self.has_receipt = true;
                }
                if let Input::BatchSettled(files) = &input {
                    self.to_intake.push_back(Command::Settled(files.clone()));
                }
                self.hear(now, input);
            }
        }
    }
}
