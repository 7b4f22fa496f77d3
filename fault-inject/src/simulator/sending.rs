//! The sender's process: the real brain, producer and server, with the driver between them. The driver is a copy of
//! `send.rs` and `send/workers.rs` without runtime and sockets: what two threads and the writers of a link do there
//! are queues here, and the world decides which moves next. It does not know faults.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use landfall::disk::Disk;
use landfall::error::Error;
use landfall::geometry::EntryIndex;
use landfall::identity::{Role, TransferId};
use landfall::limits::SIMULATED_CHUNK_BYTES;
use landfall::manifest::Header;
use landfall::outcome::Reason;
use landfall::session::sender::{Outgoing, Sender};
use landfall::source::ahead::{Content, HashAhead};
use landfall::source::log::SharedLog;
use landfall::source::producer::{Producer, Purpose, Replay, Setup, Work};
use landfall::source::roots::{Root, Roots};
use landfall::source::selection::Selector;
use landfall::source::serve::{Answer, Server};
use landfall::source::stamps::StampFile;
use landfall::source::walk::Exclusions;
use landfall::state::home::Home;
use landfall::state::log::{Cursor, ManifestLog};
use landfall::task::sender::{End, Input, PeerReceipt, Production, Task};
use landfall::wire::{Body, ChunkHeader, Message, Phase, Place, StopReason, Want};

use super::link::{Flying, LinkId};
use super::receipts::{self, Agreed, Arrived};
use crate::sim_disk::SimDisk;

/// Where its home lies on the sender's disk.
pub(super) const HOME: &str = "home";
/// Name of the source on the disk that holds it.
pub(super) const SOURCE: &str = "tree";

const LOG_NAME: &[u8] = b"manifest";
const STAMPS_NAME: &[u8] = b"stamps";

/// How the source was named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// `tree`: it arrives under its name.
    Named,
    /// `tree/.`: what is in it arrives.
    Contents,
}

/// What stays the same over all processes of a seed.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Disk of the sender's state.
    pub disk: SimDisk,
    /// Disk of the source.
    pub source: SimDisk,
    /// The transfer.
    pub transfer: TransferId,
    /// How the source was named.
    pub naming: Naming,
}

/// What the process does to the world.
#[derive(Debug)]
pub(super) enum Said {
    /// Sends a control frame.
    Frame(Vec<u8>),
    /// Sends a chunk.
    Chunk(Flying),
    /// Ends as the brain says.
    End(End),
    /// Ends with an error that running again may cure.
    Failed(String),
    /// The peer broke the protocol.
    Misbehaved(String),
}

#[derive(Clone, Copy, Debug)]
struct Line {
    id: LinkId,
    cursor: Cursor,
}

/// Wants of one link, and how far they are answered.
struct Job {
    want: Want,
    link: LinkId,
    run: usize,
    done: u32,
    unreported: u32,
}

enum Report {
    Input(Input),
    OnLine(LinkId, Input),
}

/// Work on the receipt that has a thread of its own.
enum Errand {
    Check,
    Store,
}

/// See the module.
pub(super) struct Sending {
    home: Home<SimDisk>,
    brain: Sender,
    producer: Producer<SimDisk>,
    server: Server<SimDisk>,
    log: SharedLog<SimDisk>,
    ahead: Arc<HashAhead>,
    work: Work,
    renewals: VecDeque<(EntryIndex, Reason)>,
    jobs: VecDeque<Job>,
    reports: VecDeque<Report>,
    is_news: bool,
    errands: VecDeque<Errand>,
    line: Option<Line>,
    arrived: Arrived,
    agreed: Option<Agreed>,
    /// What it did, for the world to take.
    pub said: Vec<Said>,
    is_over: bool,
}

fn source(error: Error) -> io::Error {
    match error {
        Error::State { source, .. } => source,
        error => io::Error::other(error.to_string()),
    }
}

impl Sending {
    /// Starts a process.
    pub(super) fn start(setting: Setting, now: Instant) -> io::Result<Sending> {
        let disk = setting.disk.clone();
        let home = Home::new(disk.clone(), disk.open_dir(&disk.root(), HOME.as_bytes())?, PathBuf::from(HOME));
        let dir = home.transfer_dir(setting.transfer, Role::Sender).map_err(source)?;
        let header = Header { chunk_bytes: SIMULATED_CHUNK_BYTES, transfer: setting.transfer };
        let mut replay = Replay::default();
        let (log, _) = ManifestLog::open(&disk, &dir, LOG_NAME, header, |record, step| replay.note(record, step))?;
        let tree = setting.source.root();
        let root = match setting.naming {
            Naming::Named => Root::Named { name: SOURCE.into(), parent: tree, leaf: SOURCE.into() },
            Naming::Contents => {
                let dir = setting.source.open_dir(&tree, SOURCE.as_bytes())?;
                Root::Contents { dir, shown: PathBuf::from(SOURCE) }
            }
        };
        let roots = Roots::new(setting.source.clone(), vec![root]);
        let setup = Setup {
            roots: roots.clone(),
            // The source lies on a disk of its own, so that nothing of this side's state is in it.
            exclusions: Exclusions {
                selector: Selector::everything(),
                listed: None,
                transfer: Some(setting.transfer),
                held: vec![],
            },
            log,
            replay,
            stamps: StampFile::open(&disk, &dir, STAMPS_NAME, setting.transfer)?,
            state_path: PathBuf::from(HOME),
            user: 0,
            reads_twice: false,
            expected: None,
            purpose: Purpose::Produce,
        };
        let producer = Producer::new(setup).map_err(source)?;
        let (log, ahead) = (producer.log(), producer.ahead());
        let stamps = StampFile::open(&disk, &dir, STAMPS_NAME, setting.transfer)?;
        let server = Server::new(roots, log.clone(), Arc::clone(&ahead), stamps);
        Ok(Sending {
            home,
            brain: Sender::new(now, log.position()),
            producer,
            server,
            log,
            ahead,
            work: Work::Ready,
            renewals: VecDeque::new(),
            jobs: VecDeque::new(),
            reports: VecDeque::new(),
            is_news: false,
            errands: VecDeque::new(),
            line: None,
            arrived: Arrived::default(),
            agreed: None,
            said: vec![],
            is_over: false,
        })
    }

    /// The phase it is in.
    pub(super) fn phase(&self, now: Instant) -> Phase {
        self.brain.view(now, Outgoing::Idle).phase
    }

    /// The link in use.
    pub(super) fn line(&self) -> Option<LinkId> {
        self.line.map(|line| line.id)
    }

    /// Whether the producer can move.
    pub(super) fn has_producer_work(&self) -> bool {
        match self.work {
            Work::Ready => true,
            Work::Blocked => self.ahead.has_room(),
            Work::Settled(_) => !self.renewals.is_empty(),
        }
    }

    /// Whether wants wait for answers.
    pub(super) fn has_server_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether the driver has something to hear.
    pub(super) fn has_news(&self) -> bool {
        self.is_news || !self.reports.is_empty()
    }

    /// Whether work on the receipt waits.
    pub(super) fn has_errand(&self) -> bool {
        !self.errands.is_empty()
    }

    /// Takes a new link into use, with the receiver's first message.
    pub(super) fn connect(&mut self, now: Instant, id: LinkId, hello: &[u8]) -> io::Result<()> {
        self.lose(now);
        let Ok(Message::Hello(hello)) = Message::decode(hello) else {
            self.said.push(Said::Misbehaved("the hello".into()));
            return Ok(());
        };
        let (rung, cursor) = self.log.find_rung(&hello.ladder)?;
        let receipt = if hello.has_receipt { PeerReceipt::Held } else { PeerReceipt::None };
        self.arrived = Arrived::default();
        self.line = Some(Line { id, cursor });
        self.tell(now, Input::Connected(rung, receipt));
        self.drain(now);
        Ok(())
    }

    /// The link is gone.
    pub(super) fn lose(&mut self, now: Instant) {
        if self.line.take().is_some() {
            self.tell(now, Input::LinkLost);
            self.drain(now);
        }
    }

    /// A control frame arrived on the link in use.
    pub(super) fn control(&mut self, now: Instant, frame: &[u8]) {
        let input = match Message::decode(frame) {
            Ok(Message::Want(want)) => Input::Wanted(want),
            Ok(Message::Progress(progress)) => Input::Progress(progress),
            Ok(Message::Exceptions(exceptions)) => {
                self.arrived.add(&exceptions);
                Input::Exceptions(exceptions.len() as u64)
            }
            Ok(Message::Receipt { core, signature }) => {
                self.arrived.complete(core, signature);
                Input::ReceiptArrived
            }
            Ok(Message::Stop(stop)) => Input::PeerStopped(stop),
            _ => Input::Unexpected,
        };
        self.tell(now, input);
        self.drain(now);
    }

    fn tell(&mut self, now: Instant, input: Input) {
        self.brain.handle(now, input);
    }

    fn fail(&mut self, now: Instant, error: &Error) {
        let reason = match error {
            Error::Local { .. } => StopReason::RootGone,
            _ => StopReason::StateFailed,
        };
        self.tell(now, Input::StopRequested(reason));
        self.drain(now);
    }

    fn fail_state(&mut self, now: Instant, source: io::Error) {
        self.fail(now, &Error::State { path: PathBuf::from(HOME), source });
    }

    fn drain(&mut self, now: Instant) {
        while let Some(task) = self.brain.poll() {
            match task {
                Task::Send(message) => {
                    if self.line.is_some() {
                        self.said.push(Said::Frame(message.encode()));
                    }
                }
                Task::SendPage => self.send_page(),
                Task::Serve(want) => self.serve(want),
                Task::DropWants => self.ahead.forget_wants(),
                Task::Renew(entry, reason) => self.renewals.push_back((entry, reason)),
                Task::CheckReceipt => self.errands.push_back(Errand::Check),
                Task::StoreReceipt => self.errands.push_back(Errand::Store),
                Task::Misbehaved(what) => {
                    self.is_over = true;
                    self.said.push(Said::Misbehaved(what.to_owned()));
                }
                Task::End(end) => {
                    self.is_over = true;
                    self.said.push(Said::End(end));
                }
            }
        }
        let _ = now;
    }

    fn send_page(&mut self) {
        let Some(line) = &mut self.line else { return };
        match self.log.page(&mut line.cursor) {
            Ok(page) => {
                let sent = line.cursor.record_count();
                self.said.push(Said::Frame(Message::Records(page).encode()));
                self.reports.push_back(Report::OnLine(line.id, Input::PageSent(sent)));
            }
            Err(error) => {
                self.is_over = true;
                self.said.push(Said::Failed(format!("a page of the log: {error}")));
            }
        }
    }

    fn serve(&mut self, want: Want) {
        let Some(line) = &self.line else { return };
        self.ahead.considered(want.considered_through, &want.runs);
        if !want.runs.is_empty() {
            self.jobs.push_back(Job { want, link: line.id, run: 0, done: 0, unreported: 0 });
        }
    }

    /// The producer's thread does its next piece.
    pub(super) fn run_producer(&mut self, now: Instant) {
        if let Work::Settled(_) | Work::Blocked = self.work
            && let Some((entry, reason)) = self.renewals.pop_front()
        {
            self.producer.request(entry, reason);
        }
        match self.producer.step() {
            Ok(stepped) => {
                self.work = stepped.work;
                self.is_news = true;
                if stepped.work == Work::Ready
                    && let Some((entry, reason)) = self.renewals.pop_front()
                {
                    self.producer.request(entry, reason);
                }
            }
            Err(error) => self.fail(now, &error),
        }
    }

    /// The server's thread answers its next want.
    pub(super) fn run_server(&mut self, now: Instant) {
        let Some(mut job) = self.jobs.pop_front() else { return };
        // The lanes of a link that is gone are closed.
        if self.line.is_none_or(|line| line.id != job.link) {
            return;
        }
        let Some(run) = job.want.runs.get(job.run).copied() else {
            return self.reports.push_back(Report::OnLine(job.link, Input::Served(job.unreported)));
        };
        let chunk = run.first + job.done;
        let served = match self.server.serve(Place { entry: run.entry.0, chunk }) {
            Ok(served) => served,
            Err(error) => return self.fail_state(now, error),
        };
        if let Some((entry, reason)) = served.renew {
            self.reports.push_back(Report::Input(Input::Unservable(entry, reason)));
        }
        let (body, bytes) = match served.answer {
            Answer::Outside => return self.reports.push_back(Report::OnLine(job.link, Input::WantedOutside)),
            Answer::Gone(reason) => (Body::Gone(reason), None),
            Answer::Content(Content::Zero) => (Body::Zero, None),
            Answer::Content(Content::Bytes(bytes)) => {
                (Body::Bytes(u32::try_from(bytes.len()).expect("a chunk's length fits")), Some(bytes))
            }
        };
        let header = ChunkHeader { entry: run.entry, chunk, body };
        self.said.push(Said::Chunk(Flying::new(&header, bytes)));
        job.unreported += 1;
        job.done += 1;
        if job.done == run.count {
            (job.run, job.done) = (job.run + 1, 0);
        }
        self.jobs.push_front(job);
    }

    /// The driver hears the next news.
    pub(super) fn run_driver(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_news) {
            let production = match self.work {
                Work::Ready => Production::Busy,
                Work::Blocked => Production::Blocked,
                Work::Settled(_) => Production::Settled,
            };
            self.tell(now, Input::Produced(self.log.position(), production));
        } else {
            match self.reports.pop_front() {
                Some(Report::Input(input)) => self.tell(now, input),
                Some(Report::OnLine(link, input)) if self.line.is_some_and(|line| line.id == link) => {
                    self.tell(now, input);
                }
                _ => (),
            }
        }
        self.drain(now);
    }

    /// Work on the receipt is done.
    pub(super) fn run_errand(&mut self, now: Instant) {
        match self.errands.pop_front() {
            None => (),
            Some(Errand::Check) => match self.arrived.check(&self.log) {
                Ok((verdict, agreed)) => {
                    self.agreed = agreed;
                    self.tell(now, Input::ReceiptChecked(verdict));
                }
                Err(error) => self.fail_state(now, error),
            },
            Some(Errand::Store) => {
                let Some(agreed) = &self.agreed else { return };
                match receipts::store(&self.log, agreed, &self.home) {
                    Ok(()) => self.tell(now, Input::ReceiptStored),
                    Err(error) => self.fail_state(now, error),
                }
            }
        }
        self.drain(now);
    }
}
