//! The receiver's driver: the one place where its brain, its store and its links meet. It moves messages, tasks and
//! inputs; it decides nothing that the brain could decide.

mod engine;
mod intake_link;
mod mends;
mod news;
mod question;
mod receipt;
mod setup;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::disk::Rooted;
use crate::error::Error;
use crate::event::{Event, Events, Notice};
use crate::identity::Role;
use crate::limits::{FRAME_BYTES_MAX, PROGRESS_MS};
use crate::manifest::Position;
use crate::meet::{HelloExtras, Meet, Met};
use crate::net::{CloseCode, LinkError};
use crate::options::{Answer, RecvOptions};
use crate::session::receiver::Receiver;
use crate::state::{closing::Concluded, log::AppendError, transfer};
use crate::task::receiver::{End, Input, Task};
use crate::wire::{FEATURE_REUSED, Message, StopReason};

use engine::{Command, Engine, Heard, Parts};
use intake_link::{Channel, DataNews, permits, spawn_readers};
use news::Watch;
use setup::{Setup, Start};

/// Pages of records that wait for the intake. Costs a frame's bytes each.
const PAGES_WAITING_MAX: usize = 64;

/// Receives one transfer, onto `disk`. `shutdown` ends with the number of a signal.
pub async fn run<D: Rooted>(
    disk: D,
    options: RecvOptions,
    events: Events,
    shutdown: impl Future<Output = i32>,
) -> Result<Concluded, Error> {
    let setup = match setup::open(disk, options, events).await? {
        Start::Finished(concluded) => return Ok(*concluded),
        Start::Work(setup) => *setup,
    };
    let mut shutdown = pin!(shutdown);
    let (heard_in, heard) = unbounded_channel();
    let mut driver = Driver::start(setup, heard_in, heard)?;
    let outcome = loop {
        if let Err(error) = driver.drain().await {
            break Err(error);
        }
        if let Some(end) = driver.end.take() {
            break driver.ended(end);
        }
        match driver.next_input(&mut shutdown).await {
            Ok(event) => {
                if let Err(error) = driver.apply(event) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    driver.finish(outcome).await
}

/// What the driver waits for.
enum Turn {
    Link(Box<Result<Met, Error>>),
    Control(Result<Bytes, LinkError>),
    Data(DataNews),
    Heard(Heard),
    Answer(Answer),
    Shutdown(i32),
    Time,
}

struct Driver<D: Rooted> {
    setup: Setup<D>,
    meet: Option<Box<Meet>>,
    parts: Parts<D>,
    engine: Engine<D>,
    brain: Receiver,
    heard: UnboundedReceiver<Heard>,
    channel: Option<Channel>,
    /// Links that the brain is still to be told of.
    connects: u32,
    data: (UnboundedSender<DataNews>, UnboundedReceiver<DataNews>),
    permits: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    watch: Watch,
    answers: (UnboundedSender<Answer>, UnboundedReceiver<Answer>),
    progress_due: Instant,
    end: Option<End>,
    /// The sender has not confirmed that it has the receipt.
    is_unconfirmed: bool,
    /// No further link is waited for.
    is_patience_over: bool,
    /// The signal that asked to stop.
    signal: Option<i32>,
}

impl<D: Rooted> Driver<D> {
    fn start(
        mut setup: Setup<D>,
        heard_in: UnboundedSender<Heard>,
        heard: UnboundedReceiver<Heard>,
    ) -> Result<Driver<D>, Error> {
        let mut meet = setup.meet.take();
        let parts = setup.parts(heard_in);
        let now = Instant::now();
        let mut brain = setup.brain(now);
        let engine = Engine::start(&parts, None, &mut brain).map_err(|error| setup.state_error(error))?;
        setup.look_at_level(&engine.shared)?;
        if let Some(meet) = &mut meet {
            meet.invite()?;
        }
        let mut watch = Watch::new(setup.events.clone(), now);
        watch.replayed(engine.shared.with_log(|log| log.entry_count()));
        watch.tell_damage(engine.is_log_cut, engine.is_journal_cut);
        let mut driver = Driver {
            setup,
            meet,
            parts,
            engine,
            brain,
            heard,
            channel: None,
            connects: 0,
            data: unbounded_channel(),
            permits: permits(),
            pages: Arc::new(Semaphore::new(PAGES_WAITING_MAX)),
            watch,
            answers: unbounded_channel(),
            progress_due: now,
            end: None,
            is_unconfirmed: false,
            is_patience_over: false,
            signal: None,
        };
        if driver.setup.is_agreed {
            driver.hear(Input::Consented);
        }
        Ok(driver)
    }

    fn hear(&mut self, input: Input) {
        self.brain.handle(Instant::now(), input);
    }

    /// Does what the brain asks, until it asks nothing more.
    async fn drain(&mut self) -> Result<(), Error> {
        while let Some(task) = self.brain.poll() {
            match task {
                Task::Send(message) => self.send(&message).await,
                Task::SendReceipt => match self.setup.receipt(&self.engine.shared)? {
                    Some(held) => {
                        self.tell_reused().await;
                        for message in held.into_messages() {
                            self.send(&message).await;
                        }
                    }
                    None => self.rewind(None)?,
                },
                Task::Misbehaved(what) => self.misbehaved(what)?,
                Task::Restart => self.rewind(None)?,
                Task::End(end) => self.end = Some(end),
                Task::Abandon(entry, Some(reason)) => {
                    self.watch.left_out(&self.engine.shared, entry, reason);
                    self.engine.tell(Command::Task(Task::Abandon(entry, Some(reason))));
                }
                task => self.engine.tell(Command::Task(task)),
            }
        }
        Ok(())
    }

    /// A message that cannot be sent any more is lost with its link; the loss itself is met by the reading half.
    async fn send(&mut self, message: &Message) {
        if let Some(channel) = &mut self.channel
            && let Err(error) = channel.sender.send(&message.encode()).await
        {
            tracing::debug!(%error, "a control message was lost with its link");
        }
    }

    async fn tell_reused(&mut self) {
        if self.channel.as_ref().is_some_and(|channel| channel.hears_reused) {
            let reused = setup::reused(self.brain.tally(), &self.engine.shared);
            self.send(&Message::Reused(reused)).await;
        }
    }

    /// The only place that waits.
    async fn next_input(&mut self, shutdown: &mut (impl Future<Output = i32> + Unpin)) -> Result<Turn, Error> {
        let due = [self.brain.poll_timeout(), Some(self.progress_due)];
        let due = due.into_iter().flatten().min().unwrap_or(self.progress_due);
        let extras = || HelloExtras {
            ladder: self.engine.shared.with_log(|log| log.rungs()),
            has_receipt: self.setup.say_receipt(),
            chunk_bytes: crate::limits::CHUNK_BYTES,
        };
        let meet = self.meet.as_mut().expect("only finishing takes it");
        // Frames are read as fast as the intake takes records, which goes to disk and waits for nobody else.
        let is_room = self.pages.available_permits() > 0;
        let control = async {
            match &mut self.channel {
                Some(channel) if is_room => channel.receiver.recv(FRAME_BYTES_MAX).await,
                _ => std::future::pending().await,
            }
        };
        Ok(tokio::select! {
            number = shutdown, if self.signal.is_none() => Turn::Shutdown(number),
            Some(heard) = self.heard.recv() => Turn::Heard(heard),
            Some(news) = self.data.1.recv() => Turn::Data(news),
            frame = control => Turn::Control(frame),
            met = meet.next(extras), if !self.is_patience_over => Turn::Link(Box::new(met)),
            Some(answer) = self.answers.1.recv() => Turn::Answer(answer),
            () = sleep_until(due.into()) => Turn::Time,
        })
    }

    fn apply(&mut self, turn: Turn) -> Result<(), Error> {
        match turn {
            Turn::Link(met) => match *met {
                Ok(met) => self.connect(met)?,
                // What is not known then is only whether the sender knows: this side's work is done.
                Err(error) if error.is_about_the_peer() && self.setup.has_receipt() => {
                    self.is_patience_over = true;
                    self.hear(Input::PatienceOver);
                }
                Err(error) => return Err(error),
            },
            Turn::Control(Ok(frame)) => self.control(&frame)?,
            Turn::Control(Err(LinkError::Misbehaved(what))) => self.misbehaved(what)?,
            Turn::Control(Err(error)) => self.lose(&error),
            Turn::Data(DataNews::Bytes(bytes)) => self.watch.wire_bytes += bytes,
            Turn::Data(DataNews::Misbehaved(what)) => self.misbehaved(what)?,
            Turn::Heard(heard) => self.heard(heard)?,
            Turn::Answer(answer) => self.answer(answer)?,
            Turn::Shutdown(number) => {
                self.signal = Some(number);
                self.hear(Input::StopRequested(StopReason::Interrupted));
            }
            Turn::Time => self.look_at_time(),
        }
        Ok(())
    }

    fn look_at_time(&mut self) {
        let now = Instant::now();
        self.hear(Input::Tick);
        if now >= self.progress_due {
            self.progress_due = now + Duration::from_millis(PROGRESS_MS);
            self.setup.look_at_limit();
            self.watch.progress(now, &self.brain, &self.engine.shared, self.channel.is_some());
        }
        self.ask_if_due(now);
    }

    fn connect(&mut self, met: Met) -> Result<(), Error> {
        if self.channel.take().is_some_and(|channel| channel.is_continued) {
            self.hear(Input::LinkLost);
        }
        let known = self.setup.met(&met);
        self.watch.linked(met.link.peer_key(), &met.hello.host);
        self.channel = Some(Channel {
            link: met.link,
            sender: met.sender,
            receiver: met.receiver,
            is_continued: false,
            hears_reused: met.hello.features & FEATURE_REUSED != 0,
            readers: JoinSet::new(),
        });
        known
    }

    fn lose(&mut self, error: &LinkError) {
        tracing::debug!(%error, "the link is lost");
        if let Some(channel) = self.channel.take()
            && channel.is_continued
        {
            self.hear(Input::LinkLost);
        }
    }

    fn misbehaved(&mut self, what: &'static str) -> Result<(), Error> {
        if let Some(channel) = &self.channel {
            channel.link.close(CloseCode::Misbehaved);
        }
        Err(Error::Misbehaved { peer: Role::Sender, what: what.to_owned() })
    }

    fn control(&mut self, frame: &[u8]) -> Result<(), Error> {
        let Ok(message) = Message::decode(frame) else { return self.misbehaved("a control message") };
        let is_continued = self.channel.as_ref().is_some_and(|channel| channel.is_continued);
        match message {
            Message::Continue(position) if !is_continued => self.continue_from(position)?,
            Message::Stop(stop) => self.hear(Input::PeerStopped(stop.reason)),
            _ if !is_continued => return self.misbehaved("a message before its place"),
            Message::Records(page) => {
                let permit = Arc::clone(&self.pages).try_acquire_owned();
                let permit = permit.expect("frames are read only while a permit is free, and nobody else takes one");
                self.engine.tell(Command::Records(page.into(), permit));
            }
            Message::Settled(position) => self.engine.tell(Command::SettledAt(position)),
            Message::Acknowledge(_) => self.hear(Input::Acknowledged),
            _ => return self.misbehaved("a message that only a receiver sends"),
        }
        Ok(())
    }

    /// Records continue from here: at the end of the copy at hand, or it is cut to that place first.
    fn continue_from(&mut self, position: Position) -> Result<(), Error> {
        // Pages and other news of the link before may still be on their way to the log and to the brain: what
        // arrives from now on stands behind them.
        let is_caught_up = self.engine.catch_up();
        while let Ok(heard) = self.heard.try_recv() {
            self.heard(heard)?;
        }
        let own = self.engine.shared.with_log(|log| log.position());
        let is_found = is_caught_up && {
            let found = self.engine.shared.with_log(|log| log.find(position));
            found.map_err(|error| self.setup.state_error(error))?.is_some()
        };
        if !is_found || self.setup.has_unsaid_receipt() {
            // What the hello said was overtaken on the link before, by a rewind or by a receipt, or is still on its
            // way to a full disk: the next link's is new.
            if let Some(channel) = self.channel.take() {
                channel.link.close(CloseCode::Dropped);
            }
            return Ok(());
        }
        if own != position {
            self.rewind(Some(position))?;
        }
        let Some(channel) = &mut self.channel else { return Ok(()) };
        channel.is_continued = true;
        let commands = self.engine.commander();
        let (readers, limiter) = (&mut channel.readers, &self.setup.limiter);
        spawn_readers(readers, &channel.link, limiter, &self.permits, &commands, &self.data.0);
        // The brain counts what is on its way: chunks of the last link that still wait for the intake come first.
        self.connects += 1;
        self.engine.tell(Command::Connected);
        Ok(())
    }

    /// Starts the store and the brain anew, with the log cut to a position; without one, the link is dropped too. A
    /// receipt that was made meanwhile stands, and so does the log that it speaks of.
    fn rewind(&mut self, mut rung: Option<Position>) -> Result<(), Error> {
        self.engine.stop();
        while let Ok(heard) = self.heard.try_recv() {
            if matches!(heard, Heard::Input(Input::ReceiptIssued)) {
                self.setup.issued();
                rung = None;
            }
        }
        self.connects = 0;
        self.brain = self.setup.brain(Instant::now());
        self.engine =
            Engine::start(&self.parts, rung, &mut self.brain).map_err(|error| self.setup.state_error(error))?;
        self.watch.tell_damage(self.engine.is_log_cut, self.engine.is_journal_cut);
        self.watch.replayed(self.engine.shared.with_log(|log| log.entry_count()));
        if rung.is_none() {
            self.setup.mended(&self.engine.shared)?;
            self.channel.take().into_iter().for_each(|channel| channel.link.close(CloseCode::Dropped));
        }
        if self.setup.is_agreed {
            self.hear(Input::Consented);
        }
        Ok(())
    }

    fn heard(&mut self, heard: Heard) -> Result<(), Error> {
        match heard {
            Heard::Records(notes, error) => {
                self.watch.noted(&self.engine.shared, &notes);
                self.hear(Input::Noted(notes));
                match error {
                    None => (),
                    Some(AppendError::Parted) => self.hear(Input::LogChecked(false)),
                    Some(AppendError::Io(error)) => {
                        tracing::warn!(%error, "the manifest log could not be written");
                        self.hear(Input::StateFailed);
                    }
                    Some(_) => return self.misbehaved("a manifest record"),
                }
            }
            Heard::Observed(observed) => self.watch.observed(&self.engine.shared, &observed),
            Heard::LeftOut(entries) => {
                entries.iter().for_each(|(entry, reason)| self.watch.left_out(&self.engine.shared, *entry, *reason));
            }
            Heard::Input(Input::Connected) => {
                self.connects -= 1;
                let is_up = self.channel.as_ref().is_some_and(|channel| channel.is_continued);
                if is_up && self.connects == 0 {
                    self.hear(Input::Connected);
                }
            }
            Heard::Input(input) => {
                self.watch.look_at(&self.engine.shared, &input);
                if input == Input::ReceiptIssued {
                    self.setup.issued();
                }
                if let Input::BatchSettled(files) = &input {
                    self.engine.tell(Command::Settled(files.clone()));
                }
                self.hear(input);
            }
        }
        Ok(())
    }

    /// Asks the user, once the first records are there, or all of them.
    fn ask_if_due(&mut self, now: Instant) {
        if !self.setup.is_asking() || self.channel.as_ref().is_none_or(|channel| !channel.is_continued) {
            return;
        }
        if !self.setup.is_question_due(now, self.brain.tally().is_total) {
            return;
        }
        let Some((sender, host)) = self.watch.sender.clone() else { return };
        let question = question::ask(&self.engine.shared, &self.brain.tally(), sender, host, &self.setup.dir);
        self.setup.put_question(question, self.answers.0.clone());
    }

    fn answer(&mut self, answer: Answer) -> Result<(), Error> {
        match answer {
            Answer::Accept => {
                self.setup.is_agreed = true;
                if let Some(meet) = &mut self.meet {
                    meet.agree()?;
                }
                self.hear(Input::Consented);
            }
            Answer::Decline => self.hear(Input::Declined),
        }
        Ok(())
    }

    /// What the end of the brain means for the run.
    fn ended(&mut self, end: End) -> Result<Concluded, Error> {
        match end {
            End::Acknowledged | End::Unconfirmed => {
                self.is_unconfirmed = end == End::Unconfirmed;
                if self.is_unconfirmed {
                    self.setup.events.emit(Event::Notice(Notice::SenderMayNotKnow));
                }
                let (exit, summary) = self.setup.summary(&self.watch, self.brain.tally(), &self.engine.shared)?;
                let meet = self.meet.as_ref().expect("only finishing takes it");
                let (home, record) = (meet.home().clone(), meet.record().clone());
                let end = if self.is_unconfirmed { transfer::End::Unconfirmed } else { transfer::End::Finished };
                Ok(Concluded::new(exit, summary, home, record, end))
            }
            End::PeerStopped(reason) => {
                Err(Error::StoppedByPeer { peer: Role::Sender, reason, exit: news::exit_of_stop(reason) })
            }
            End::Stopped(StopReason::Interrupted) => Err(news::interrupted(self.signal.unwrap_or(15))),
            End::Stopped(reason) => Err(self.setup.stopped(reason, self.brain.tally(), &self.engine.shared)),
        }
    }

    /// Tells the summary, says goodbye. The record is closed by whoever shows the summary.
    async fn finish(mut self, outcome: Result<Concluded, Error>) -> Result<Concluded, Error> {
        self.watch.tell_untold(&self.engine.shared);
        let meet = self.meet.take().expect("only finishing takes it");
        let code = match &outcome {
            Ok(concluded) => {
                self.setup.events.emit(Event::Summary(concluded.summary.clone()));
                if let Some(channel) = &mut self.channel {
                    channel.part().await;
                }
                CloseCode::Finished
            }
            Err(error) => {
                if let Some(channel) = &mut self.channel {
                    channel.say_all().await;
                }
                news::close_code(error)
            }
        };
        self.engine.stop();
        meet.finish(code).await;
        outcome
    }
}

#[cfg(test)]
mod tests;
