//! The sender's driver: where its brain (`session/sender.rs`) meets its hands. It opens the state, starts the
//! threads, and then does one thing at a time: what the brain asks for, or hearing the next input. The only place on
//! this side that awaits. What it does not do: decide, read the source, or print.

mod end;
mod line;
mod receipt;
mod work;
mod workers;

use std::future::Future;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};

use crate::disk::{RealDisk, Rooted};
use crate::error::Error;
use crate::event::{Event, Events, Notice, Snapshot};
use crate::identity::Role;
use crate::limits::{ANSWER_ALONE_MS, CHUNK_BYTES, FRAME_BYTES_MAX, PROGRESS_MS, STATE_MENDS_ROUNDS_MAX};
use crate::manifest::Position;
use crate::meet::{HelloExtras, Meet, Met, Opened, Wish};
use crate::net::{CloseCode, ControlReceiver, Limiter, LinkError};
use crate::options::{Meeting, SendOptions};
use crate::outcome::Reused;
use crate::path::RelPath;
use crate::session::sender::{Outgoing, Sender};
use crate::source::log::SharedLog;
use crate::source::roots;
use crate::source::selection::Selector;
use crate::state::closing::Concluded;
use crate::state::home::Home;
use crate::state::limit::LimitInbox;
use crate::state::outcome::Expected;
use crate::state::transfer::Settings;
use crate::task::sender::{End, Input, PeerReceipt, ReceiptVerdict, Task};
use crate::wire::{Message, Phase, StopReason};

use line::Line;
use receipt::{Agreed, Arrived, Parties};
use workers::{Job, Report, Workers};

/// Sends what the options name until the receiver's receipt is held, or fails with the reason. Source and log lie on
/// `disk`. `shutdown` gives the number of a signal that asks to stop. Needs a tokio runtime of the current-thread kind, with time and net.
pub async fn run<D: Rooted>(
    disk: D,
    options: SendOptions,
    events: Events,
    shutdown: impl Future<Output = i32>,
) -> Result<Concluded, Error> {
    let started = Instant::now();
    let is_resumed = matches!(options.common.meeting, Meeting::Resume(..));
    let paths = match is_resumed {
        true => vec![],
        false => roots::canonical(&options.paths)?,
    };
    // What is wrong with a source is said before anybody gets a ticket for it.
    let (looked_at, _) = roots::open_roots(&disk, &paths)?;
    let selector = Selector::new(&options.selection).map_err(|bad| Error::Usage(bad.to_string()))?;
    roots::refuse_nothing(&looked_at, &selector)?;
    if options.selection.listed.is_some() && !is_resumed {
        roots::refuse_all_but_a_directory(&looked_at)?;
    }
    let home = Home::open(&options.common.home)?;
    let identity = Arc::new(home.identity()?);
    let settings = Settings { reads_twice: options.reads_twice, ..Settings::from(&options.common) };
    let wish = Wish { role: Role::Sender, paths, selection: options.selection.clone(), settings };
    let mut meet = match Meet::open(&options.common, wish, home.clone(), identity, events.clone()).await? {
        Opened::Finished(record) => return end::answer_from_receipt(&disk, &home, &record, &events, started),
        Opened::Meet(meet) => meet,
    };
    let answers_at = match end::holds_receipt(&home, meet.record())? {
        true => Some(started + Duration::from_millis(ANSWER_ALONE_MS)),
        false => None,
    };
    let (log, workers) = work::start(&disk, &meet, &events)?;
    let limits = home.limit_inbox(meet.record().id, Role::Sender)?;
    meet.invite()?;
    let driver = Driver {
        disk,
        brain: Sender::new(Instant::now(), log.position()),
        meet,
        log,
        workers,
        line: None,
        line_count: 0,
        arrived: Arc::new(Arrived::default()),
        expected: Arc::default(),
        expected_at: None,
        agreed: None,
        reused: Reused::default(),
        jobs: JoinSet::new(),
        limiter: Limiter::new(options.common.limit_bytes_per_s),
        limits,
        wire_bytes: Arc::new(AtomicU64::new(0)),
        failure: None,
        mends: 0,
        ended: None,
        answers_at,
        shown_at: Instant::now(),
        events,
        started,
    };
    driver.run(shutdown).await
}

/// What work on the receipt has brought.
#[derive(Debug)]
enum Done {
    /// What the receipt should say was computed.
    Expected,
    Checked(ReceiptVerdict, Option<Box<Agreed>>),
    Stored,
}

/// How the loop ends.
#[derive(Debug)]
enum Ended {
    By(End),
    Misbehaved(&'static str),
}

struct Driver<D: Rooted> {
    disk: D,
    brain: Sender,
    meet: Box<Meet>,
    log: SharedLog<D>,
    workers: Workers,
    line: Option<Line>,
    line_count: u64,
    arrived: Arc<Arrived>,
    /// What the receipt should say, locked while that is computed, and of which log.
    expected: Arc<Mutex<Option<Expected>>>,
    expected_at: Option<Position>,
    agreed: Option<Box<Agreed>>,
    /// What the receiver says that it had, as far as it says.
    reused: Reused,
    jobs: JoinSet<Result<Done, Error>>,
    limiter: Limiter,
    limits: LimitInbox<RealDisk>,
    wire_bytes: Arc<AtomicU64>,
    /// Why this side stops, where the brain only knows that it does.
    failure: Option<Error>,
    /// How often state was found damaged by this run.
    mends: u32,
    ended: Option<Ended>,
    /// The receipt is held from an earlier run: when it answers by itself if the receiver was not met.
    answers_at: Option<Instant>,
    shown_at: Instant,
    events: Events,
    /// When this run was linked first; until then, when it began.
    started: Instant,
}

/// What the driver waits for.
enum Heard {
    Met(Result<Box<Met>, Error>),
    Frame(Result<Bytes, LinkError>),
    Writer(LinkError),
    Produced,
    Report(Report),
    Done(Result<Done, Error>),
    Signal(i32),
    Time,
    Nothing,
}

impl<D: Rooted> Driver<D> {
    async fn run(mut self, shutdown: impl Future<Output = i32>) -> Result<Concluded, Error> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut is_asked_to_stop = false;
        loop {
            while let Some(task) = self.brain.poll() {
                self.perform(task)?;
            }
            if let Some(ended) = self.ended.take() {
                return self.conclude(ended).await;
            }
            if self.line.is_none() && self.answers_at.is_some_and(|when| when <= Instant::now()) {
                return self.answer_alone().await;
            }
            let heard = self.next_input(&mut shutdown, is_asked_to_stop).await;
            is_asked_to_stop |= matches!(heard, Heard::Signal(_));
            self.apply(heard)?;
            self.show();
        }
    }

    async fn next_input(&mut self, shutdown: &mut (impl Future<Output = i32> + Unpin), is_asked: bool) -> Heard {
        let extras = || HelloExtras { ladder: vec![], has_receipt: false, chunk_bytes: CHUNK_BYTES };
        let Workers { reports, produced, .. } = &mut self.workers;
        let (frames, writers) = match &mut self.line {
            Some(line) => (Some(&mut line.receiver), Some(&mut line.writers)),
            None => (None, None),
        };
        let pause = Duration::from_millis(PROGRESS_MS).saturating_sub(self.shown_at.elapsed());
        tokio::select! {
            met = self.meet.next(extras) => Heard::Met(met.map(Box::new)),
            frame = next_frame(frames) => Heard::Frame(frame),
            ended = next_writer(writers) => Heard::Writer(ended),
            Ok(()) = produced.changed() => Heard::Produced,
            Some(report) = reports.recv() => Heard::Report(report),
            Some(done) = self.jobs.join_next() => unless_aborted(done).map_or(Heard::Nothing, Heard::Done),
            signal = shutdown, if !is_asked => Heard::Signal(signal),
            () = tokio::time::sleep(pause) => Heard::Time,
        }
    }

    fn apply(&mut self, heard: Heard) -> Result<(), Error> {
        match heard {
            Heard::Met(Ok(met)) => self.connect(*met)?,
            Heard::Met(Err(error)) => self.not_met(error)?,
            Heard::Frame(Ok(frame)) => self.hear(&frame),
            Heard::Frame(Err(error)) | Heard::Writer(error) => self.lose_line(&error)?,
            Heard::Produced => {
                let produced = self.workers.produced.borrow_and_update();
                let input = Input::Produced(produced.position, produced.production);
                drop(produced);
                self.tell(input);
            }
            Heard::Report(Report::Input(input)) => self.tell(input),
            Heard::Report(Report::OnLine(number, input)) => {
                if self.line.as_ref().is_some_and(|line| line.lanes.line == number) {
                    self.tell(input);
                }
            }
            Heard::Report(Report::Failed(error)) | Heard::Done(Err(error)) => self.fail(error)?,
            Heard::Done(Ok(Done::Checked(verdict, agreed))) => {
                self.agreed = agreed;
                self.tell(Input::ReceiptChecked(verdict));
            }
            Heard::Done(Ok(Done::Stored)) => self.tell(Input::ReceiptStored),
            Heard::Done(Ok(Done::Expected)) => {}
            Heard::Signal(number) => {
                self.failure.get_or_insert(end::interrupted(number));
                self.tell(Input::StopRequested(StopReason::Interrupted));
            }
            Heard::Time | Heard::Nothing => {}
        }
        Ok(())
    }

    fn tell(&mut self, input: Input) {
        self.brain.handle(Instant::now(), input);
    }

    /// There will be no link. Whoever is found in the receiver's place, what the receiver has signed is the answer.
    fn not_met(&mut self, error: Error) -> Result<(), Error> {
        match &mut self.answers_at {
            Some(when) if error.is_about_the_peer() => *when = Instant::now(),
            _ => return Err(error),
        }
        Ok(())
    }

    /// Something of this side's own failed. State that was changed on disk by something else costs work only: the
    /// run begins again with what is good of it, and so does the link.
    fn fail(&mut self, error: Error) -> Result<(), Error> {
        let is_damage = |source: &std::io::Error| {
            matches!(source.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        };
        if matches!(&error, Error::State { source, .. } if is_damage(source)) && self.mends < STATE_MENDS_ROUNDS_MAX {
            self.mends += 1;
            return self.mend();
        }
        let reason = match &error {
            Error::Local { .. } => StopReason::RootGone,
            _ => StopReason::StateFailed,
        };
        self.failure.get_or_insert(error);
        self.tell(Input::StopRequested(reason));
        Ok(())
    }

    fn mend(&mut self) -> Result<(), Error> {
        self.drop_line();
        self.workers.stop();
        self.jobs = JoinSet::new();
        (self.log, self.workers) = work::start(&self.disk, &self.meet, &self.events)?;
        self.brain = Sender::new(Instant::now(), self.log.position());
        Ok(())
    }

    /// Takes a new link into use: finds where the receiver's log and this one part.
    fn connect(&mut self, met: Met) -> Result<(), Error> {
        self.drop_line();
        let (rung, cursor) = match self.log.find_rung(&met.hello.ladder) {
            Ok(found) => found,
            Err(source) => {
                met.link.close(CloseCode::Dropped);
                return self.fail(work::state_error(&self.meet, source));
            }
        };
        let receipt = if met.hello.has_receipt { PeerReceipt::Held } else { PeerReceipt::None };
        if receipt == PeerReceipt::Held {
            self.workers.keep_nothing();
        }
        self.begin_line();
        self.arrived = Arc::new(Arrived::default());
        let (number, limiter) = (self.line_count, &self.limiter);
        self.line = Some(Line::open(met, number, cursor, limiter, &self.wire_bytes, &self.workers.report));
        self.tell(Input::Connected(rung, receipt));
        Ok(())
    }

    fn drop_line(&mut self) {
        if let Some(line) = self.line.take() {
            line.link.close(CloseCode::Dropped);
            self.tell(Input::LinkLost);
        }
    }

    fn lose_line(&mut self, error: &LinkError) -> Result<(), Error> {
        if let LinkError::Misbehaved(what) = error {
            if let Some(line) = &self.line {
                line.link.close(CloseCode::Misbehaved);
            }
            return Err(Error::Misbehaved { peer: Role::Receiver, what: (*what).to_owned() });
        }
        self.drop_line();
        Ok(())
    }

    /// Names and bytes of a message stay here; the brain hears the rest.
    fn hear(&mut self, frame: &[u8]) {
        let Ok(message) = Message::decode(frame) else { return self.tell(Input::Unexpected) };
        let input = match message {
            Message::Want(want) => Input::Wanted(want),
            Message::Progress(progress) => {
                if progress.phase == Phase::Finishing {
                    self.expect_receipt();
                }
                Input::Progress(progress)
            }

            Message::Exceptions(exceptions) => {
                let count = exceptions.len() as u64;
                if let Some(arrived) = Arc::get_mut(&mut self.arrived) {
                    arrived.add(&exceptions);
                }
                Input::Exceptions(count)
            }
            Message::Receipt { core, signature } => {
                if let Some(arrived) = Arc::get_mut(&mut self.arrived) {
                    arrived.complete(core, signature);
                }
                Input::ReceiptArrived
            }
            Message::Stop(stop) => Input::PeerStopped(stop),
            Message::Reused(reused) => {
                self.reused = reused;
                return;
            }
            Message::Hello(_)
            | Message::Continue(_)
            | Message::Records(_)
            | Message::Settled(_)
            | Message::Acknowledge(_) => Input::Unexpected,
        };
        self.tell(input);
    }

    fn perform(&mut self, task: Task) -> Result<(), Error> {
        match task {
            Task::Send(message) => {
                if let Some(line) = &self.line {
                    line.send(&message);
                }
            }
            Task::SendPage => {
                if let Some(line) = &mut self.line {
                    let page = self.log.page(&mut line.cursor);
                    let sent_records = line.cursor.record_count();
                    match page {
                        Ok(page) => line.send_page(page, sent_records),
                        Err(source) => self.fail(work::state_error(&self.meet, source))?,
                    }
                }
            }
            Task::Serve(want) => {
                if let Some(line) = &self.line {
                    self.workers.serve(Job { want, lanes: line.lanes.clone() });
                }
            }
            Task::DropWants => self.workers.drop_wants(),
            Task::Renew(entry, reason) => self.workers.renew(entry, reason),
            Task::CheckReceipt => self.check_receipt(),
            Task::StoreReceipt => self.store_receipt(),
            Task::Misbehaved(what) => self.ended = Some(Ended::Misbehaved(what)),
            Task::End(end) => self.ended = Some(Ended::By(end)),
        }
        Ok(())
    }

    /// Computes what the receipt should say while the receiver makes it: once for each state of the log.
    fn expect_receipt(&mut self) {
        let position = self.log.position();
        if self.expected_at == Some(position) || !self.log.with(|log| log.sequence().is_complete()) {
            return;
        }
        self.expected_at = Some(position);
        let (log, expected) = (self.log.clone(), Arc::clone(&self.expected));
        self.jobs.spawn_blocking(move || {
            let mut expected = expected.lock().unwrap_or_else(PoisonError::into_inner);
            // What cannot be read of the log now is met again, and told, when the receipt is compared.
            *expected = log.with(Expected::of).ok();
            Ok(Done::Expected)
        });
    }

    fn check_receipt(&mut self) {
        let Some(line) = &self.line else { return };
        let parties = Parties {
            transfer: self.meet.record().id,
            sender: self.meet.identity().public_key(),
            receiver: line.link.peer_key(),
        };
        let (log, arrived, expected) = (self.log.clone(), Arc::clone(&self.arrived), Arc::clone(&self.expected));
        let path = work::state_path(&self.meet);
        self.jobs.spawn_blocking(move || {
            let expected = expected.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (verdict, agreed) = receipt::check(&log, &arrived, &parties, expected.as_ref())
                .map_err(|source| Error::State { path, source })?;
            Ok(Done::Checked(verdict, agreed.map(Box::new)))
        });
    }

    fn store_receipt(&mut self) {
        let Some(agreed) = self.agreed.clone() else { return };
        let (log, home) = (self.log.clone(), self.meet.home().clone());
        let copy = self.meet.record().settings.receipt.clone();
        self.jobs.spawn_blocking(move || receipt::store(&log, &agreed, &home, copy.as_ref()).map(|()| Done::Stored));
    }

    /// Tells the screen how far things are, now and then, and hears of a new limit.
    fn show(&mut self) {
        if self.shown_at.elapsed() < Duration::from_millis(PROGRESS_MS) {
            return;
        }
        self.shown_at = Instant::now();
        if let Some(bytes_per_s) = self.limits.take() {
            self.limiter.set(bytes_per_s);
            self.events.emit(Event::Notice(Notice::Limited { bytes_per_s }));
        }
        let outgoing = if self.workers.is_queued() { Outgoing::Queued } else { Outgoing::Idle };
        let view = self.brain.view(self.shown_at, outgoing);
        let figures = self.workers.produced.borrow().figures.clone();
        let object = view.progress.entry.and_then(|entry| self.path_of(entry)).or(figures.object);
        self.events.emit(Event::Progress(Snapshot {
            phase: view.phase,
            object,
            known_bytes: figures.counts.bytes,
            known_files: figures.counts.files,
            is_total: figures.is_total,
            hashed_bytes: figures.hashed_bytes,
            held_bytes: view.progress.held_bytes,
            verified_bytes: view.progress.verified_bytes,
            sealed_files: view.progress.sealed_files,
            wire_bytes: self.wire_bytes.load(Ordering::Relaxed),
            stalled: view.stalled,
        }));
    }

    /// The peer's number of an entry may be nonsense, and a name is only for the screen.
    fn path_of(&self, entry: crate::geometry::EntryIndex) -> Option<RelPath> {
        self.log.introduction(entry).ok()?.path().cloned()
    }
}

async fn next_frame(receiver: Option<&mut ControlReceiver>) -> Result<Bytes, LinkError> {
    match receiver {
        Some(receiver) => receiver.recv(FRAME_BYTES_MAX).await,
        None => std::future::pending().await,
    }
}

/// Waits until a writer of the link fails. Writers that the driver itself has ended are no news.
async fn next_writer(writers: Option<&mut JoinSet<Result<(), LinkError>>>) -> LinkError {
    if let Some(writers) = writers {
        while let Some(ended) = writers.join_next().await {
            if let Some(Err(error)) = unless_aborted(ended) {
                return error;
            }
        }
    }
    std::future::pending().await
}

/// What a task brought, unless it was aborted. A panic in it is a panic here.
fn unless_aborted<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(brought) => Some(brought),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
