//! The meeting of two sides, used by both drivers: it keeps a transfer's record, its lock and its endpoint, and
//! yields authenticated links, one after another, for as long as the driver wants them. What travels on a link is
//! the driver's business, as is what a lost link means for what is under way.
//!
//! ```text
//! match Meet::open(&common, wish, home, identity, events).await? {
//!     Opened::Finished(record) => ...              closed before: answer from the receipt
//!     Opened::Meet(meet) => meet.invite()?,        the ticket, when nothing stands in the way
//! }
//! loop { select! {                                 poll `next` in every turn, with a link or without
//!     met = meet.next(|| extras) => ...            the link to use from now on; an older one is closed
//!     ...                                          everything on the link in use
//! }}
//! meet.close(End::Finished)?;                      after the summary was printed
//! meet.finish(CloseCode::Finished).await;          says goodbye; then drop it
//! ```
//!
//! [`Meet::next`] may be cancelled at any time. On the dialler's side it waits while a link lives, then dials again
//! with backoff; on the listener's side it accepts and refuses all the time, so that a newer link of the owner takes
//! over (the older is closed with [`CloseCode::Superseded`]). It fails when patience ends, the ticket expires, or the
//! other side refuses. Events that it emits itself: `Ticket`, `Transfer`, `Connected`, `LinkLost`, `Notice::Refused`.

mod child;
mod choose;
mod dial;
mod farewell;
mod fate;
mod greet;
mod lines;
mod listen;
mod open;
mod parent;
#[cfg(test)]
mod tests;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::disk::RealDisk;
use crate::error::Error;
use crate::event::{Event, Events, Start};
use crate::identity::{PeerKey, Role, Secret};
use crate::limits::{EXPIRY_LOOK_MS, LINK_VERDICT_MS};
use crate::manifest::Position;
use crate::net::{CloseCode, ControlReceiver, ControlSender, Endpoint, Identity, Link, LinkError, NewLink};
use crate::options::Selection;
use crate::state::home::Home;
use crate::state::lock::Lock;
use crate::state::transfer::{Closed, End, Settings, TransferRecord};
use crate::wire::Hello;

use dial::Dialling;
use greet::{GreetFailure, Introduced};
use listen::Listening;

pub(crate) use child::plan_line;
pub use child::{ChildTask, Task, read_task};
pub use choose::has_ticket;
pub(crate) use open::patiently;
pub(crate) use parent::{ended_before_ready, fatal_exit};

/// What a command line asks for, besides how to meet. Ignored where the meeting resumes a record.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What this side does.
    pub role: Role,
    /// Canonical sources of a sender, or the one canonical target directory of a receiver, which exists.
    pub paths: Vec<PathBuf>,
    /// What of a sender's sources goes; at a receiver, of those of the sender that it starts.
    pub selection: Selection,
    /// Options that `resume` needs again.
    pub settings: Settings,
}

/// What the driver adds to this side's hello, as it is when the hello is sent.
#[derive(Clone, Debug, Default)]
pub struct HelloExtras {
    /// A receiver's ladder; empty at a sender.
    pub ladder: Vec<Position>,
    /// A receiver holds a receipt.
    pub has_receipt: bool,
    /// Chunk size that this side speaks.
    pub chunk_bytes: u32,
}

/// A link whose peer is who it should be, and whose windows are raised. Both hellos were exchanged.
#[derive(Debug)]
pub struct Met {
    /// The link. The driver closes it, with a code, when it is done with it.
    pub link: Link,
    /// Outgoing half of the control stream.
    pub sender: ControlSender,
    /// Incoming half of the control stream.
    pub receiver: ControlReceiver,
    /// The peer's hello. Its texts are the peer's and have to be escaped where they are shown.
    pub hello: Hello,
}

/// What opening a meeting gives.
#[derive(Debug)]
pub enum Opened {
    /// A transfer to be worked on.
    Meet(Box<Meet>),
    /// The transfer that was named is finished on this side: its receipt is the answer.
    Finished(Box<TransferRecord>),
}

/// One side of a meeting.
#[derive(Debug)]
pub struct Meet {
    desk: Desk,
    way: Way,
    start: Start,
    /// The link that was handed to the driver, while it lives.
    current: Option<Current>,
    /// Since when there is no link.
    alone_since: Instant,
    /// Why there is none, as far as known.
    last_cause: String,
    /// The peer ended a link for good; the driver is given time to find out by itself and say it better.
    doom: Option<(Instant, Error)>,
    /// Exchanges of hellos that are under way. At most one at a dialler.
    greetings: JoinSet<Step>,
    /// How many were begun: the newest wins.
    greeting_count: u64,
    /// Tell listeners whose transfers were closed here.
    farewells: JoinSet<()>,
}

#[derive(Debug)]
struct Current {
    link: Link,
    number: u64,
    since: Instant,
}

/// What both ways of meeting share.
#[derive(Debug)]
struct Desk {
    home: Home<RealDisk>,
    identity: Arc<Identity>,
    events: Events,
    record: TransferRecord,
    /// The ticket's secret, where this run still has it: the record forgets it when the ticket is taken.
    secret: Option<Secret>,
    /// Held as long as this process works on the transfer.
    _lock: Lock,
}

/// How the links that end with the process are left.
#[derive(Clone, Copy, Debug)]
enum Leave {
    /// The link is gone: there is nobody to tell.
    Silently,
    /// The peer has heard the last word.
    AtOnce,
    /// It gets the time to hear of it.
    WhenHeard,
}

impl Leave {
    async fn wait(self, endpoint: &Endpoint) {
        match self {
            Leave::Silently => (),
            Leave::AtOnce => endpoint.flush().await,
            Leave::WhenHeard => endpoint.wait_idle().await,
        }
    }
}

#[derive(Debug)]
enum Way {
    Listen(Box<Listening>),
    Dial(Box<Dialling>),
}

/// What a task of `greetings` brings.
#[derive(Debug)]
enum Step {
    Introduced(Box<Introduced>),
    Greeted(u64, Box<Result<Met, GreetFailure>>),
    /// A peer was told that this side stops, as far as it could be told.
    Told(Result<(), GreetFailure>),
}

/// What a dialler does for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// It dials, and keeps a child.
    Everything,
    /// It keeps a child; there is a link, or about to be one.
    Child,
    /// The end has come.
    Nothing,
}

/// What `next` waits for.
#[derive(Debug)]
enum Input {
    Nothing,
    LinkLost(LinkError),
    Step(Step),
    Time,
    Listen(listen::Input),
    Dial(dial::Input),
}

impl Meet {
    /// The transfer's record as it was last saved: paths and settings to work with, whatever the meeting.
    pub fn record(&self) -> &TransferRecord {
        &self.desk.record
    }

    /// Whether state of an earlier run was found.
    pub fn start(&self) -> Start {
        self.start
    }

    /// This side's identity, which signs receipts.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.desk.identity
    }

    /// Where the state is.
    pub fn home(&self) -> &Home<RealDisk> {
        &self.desk.home
    }

    /// The peer's key, once it is known: always after the first link.
    pub fn peer(&self) -> Option<PeerKey> {
        self.desk.record.peer
    }

    /// Remembers that the user agreed, so that nobody is asked again. Durable when it returns.
    pub fn agree(&mut self) -> Result<(), Error> {
        self.desk.record.is_agreed = true;
        self.desk.home.save(&self.desk.record)
    }

    /// Closes the transfer, after its summary was printed. Durable when it returns.
    pub fn close(&mut self, end: End) -> Result<(), Error> {
        let closed = Closed { seconds: now_seconds(), end };
        self.desk.home.close(&mut self.desk.record, closed)
    }

    /// Ends all links with that code, gives the peers time to hear of it, and lets a child end.
    pub async fn finish(mut self, code: CloseCode) {
        // Somebody may be about to come back, and is to hear that this is over.
        let is_somebody_coming = !self.greetings.is_empty();
        self.greetings.abort_all();
        self.farewells.abort_all();
        // The receiver has acknowledged the sender's last word, and ends once it hears that this was heard: where the
        // packet that closes the link is lost, it stays for a while and says the same again.
        let is_closed = self.current.as_ref().is_none_or(|current| current.link.close_reason().is_some());
        let leave = match (self.desk.record.role, code) {
            (_, CloseCode::Finished) if is_closed && !is_somebody_coming => Leave::Silently,
            (Role::Sender, CloseCode::Finished) => Leave::AtOnce,
            _ => Leave::WhenHeard,
        };
        match self.way {
            Way::Listen(listening) => listening.finish(code, leave).await,
            Way::Dial(dialling) => dialling.finish(code, leave).await,
        }
    }

    /// The next link to use. Fails when there will be none. May be cancelled at any time, and is to be polled also
    /// while a link is in use; `extras` is called when a hello is sent.
    pub async fn next(&mut self, extras: impl Fn() -> HelloExtras) -> Result<Met, Error> {
        loop {
            let input = self.next_input().await;
            if let Some(met) = self.apply(input, &extras)? {
                return Ok(met);
            }
        }
    }

    async fn next_input(&mut self) -> Input {
        let deadline = self.deadline();
        let effort = match (&self.doom, &self.current) {
            (Some(_), _) => Effort::Nothing,
            (None, None) if self.greetings.is_empty() => Effort::Everything,
            (None, _) => Effort::Child,
        };
        let lost = async {
            match &self.current {
                Some(current) => current.link.closed().await,
                None => std::future::pending().await,
            }
        };
        let way = async {
            match &mut self.way {
                Way::Listen(listening) => Input::Listen(listening.next_input().await),
                Way::Dial(dialling) => Input::Dial(dialling.next_input(effort).await),
            }
        };
        tokio::select! {
            error = lost => Input::LinkLost(error),
            Some(done) = self.greetings.join_next() => joined(done).map_or(Input::Nothing, Input::Step),
            input = way => input,
            () = sleep_until_some(deadline) => Input::Time,
        }
    }

    fn apply(&mut self, input: Input, extras: &impl Fn() -> HelloExtras) -> Result<Option<Met>, Error> {
        match input {
            Input::Nothing => {}
            Input::LinkLost(error) => self.lose(&error),
            Input::Step(Step::Introduced(introduced)) => self.judge(*introduced, extras)?,
            Input::Step(Step::Greeted(number, greeted)) => match *greeted {
                Ok(met) => return self.install(number, met),
                Err(failure) => self.not_greeted(failure)?,
            },
            Input::Step(Step::Told(told)) => debug!(?told, "said goodbye"),
            Input::Time => self.look_at_clock()?,
            Input::Listen(input) => self.listen(input)?,
            Input::Dial(input) => self.dial(input, extras)?,
        }
        Ok(None)
    }

    /// A link that was in use is gone. Whatever the peer meant by that, the driver may still have unread words of it.
    fn lose(&mut self, error: &LinkError) {
        let Some(lost) = self.current.take() else { return };
        self.alone_since = Instant::now();
        self.last_cause = error.to_string();
        // A peer that has finished is no loss: this side is about to end as well.
        if *error != LinkError::Refused(CloseCode::Finished) {
            self.desk.events.emit(Event::LinkLost { cause: self.last_cause.clone() });
        }
        if let Some(fatal) = fate::of_used_link(self.desk.record.role.other(), error) {
            self.doom = Some((Instant::now() + Duration::from_millis(LINK_VERDICT_MS), fatal));
        }
        if let Way::Dial(dialling) = &mut self.way {
            dialling.schedule_after(lost.since.elapsed());
        }
    }

    /// Hands a link to the driver, unless a newer one was handed over before.
    fn install(&mut self, number: u64, met: Met) -> Result<Option<Met>, Error> {
        if let Some(current) = &self.current {
            if current.number > number {
                met.link.close(CloseCode::Superseded);
                return Ok(None);
            }
            current.link.close(CloseCode::Superseded);
        }
        if let Way::Dial(_) = &self.way {
            dial::remember_peer(&mut self.desk, &met)?;
        }
        self.doom = None;
        if let Way::Dial(dialling) = &mut self.way
            && let Some(parenting) = &mut dialling.parenting
        {
            parenting.met();
        }
        self.current = Some(Current { link: met.link.clone(), number, since: Instant::now() });
        self.desk.events.emit(Event::Connected {
            peer: met.link.peer_key(),
            host: met.hello.host.clone(),
            address: met.link.remote_addr(),
        });
        Ok(Some(met))
    }

    /// When the clock has to be looked at next.
    fn deadline(&self) -> Option<Instant> {
        if self.current.is_some() {
            return None;
        }
        let doom = self.doom.as_ref().map(|(when, _)| *when);
        let alone = match self.is_ticket_open() {
            // In short steps, since this clock stands still while the machine sleeps and the ticket's does not.
            true => Some(Instant::now() + Duration::from_secs(self.ticket_seconds()).min(EXPIRY_LOOK)),
            false => self.desk.record.settings.patience.and_then(|patience| self.alone_since.checked_add(patience)),
        };
        [doom, alone, self.blockade_due()].into_iter().flatten().min()
    }

    /// When it is to be told that nothing comes back from the other machine.
    fn blockade_due(&self) -> Option<Instant> {
        let Way::Dial(dialling) = &self.way else { return None };
        dialling.parenting.as_ref().filter(|_| self.greetings.is_empty())?.blockade_due()
    }

    fn look_at_clock(&mut self) -> Result<(), Error> {
        if self.blockade_due().is_some_and(|due| due <= Instant::now()) {
            self.tell_blockade();
        }
        if let Some((when, error)) = self.doom.take() {
            if when <= Instant::now() {
                return Err(error);
            }
            self.doom = Some((when, error));
        }
        if self.is_ticket_open() {
            if self.ticket_seconds() == 0 {
                self.close(End::Abandoned)?;
                return Err(Error::Expired);
            }
            return Ok(());
        }
        let waited = self.alone_since.elapsed();
        match self.desk.record.settings.patience {
            Some(patience) if waited >= patience => Err(Error::NoLink {
                peer: self.desk.record.role.other(),
                seconds: waited.as_secs(),
                cause: self.last_cause.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether this side waits for somebody to take its ticket.
    fn is_ticket_open(&self) -> bool {
        matches!(self.way, Way::Listen(_)) && self.desk.record.peer.is_none()
    }

    /// How long the ticket can still be taken.
    fn ticket_seconds(&self) -> u64 {
        self.desk.record.expiry_seconds.saturating_sub(now_seconds())
    }

    fn begin_greeting(&mut self) -> u64 {
        self.greeting_count += 1;
        self.greeting_count
    }

    /// This side's hello on one link.
    fn hello(&self, new: &NewLink, extras: HelloExtras) -> Hello {
        let addresses = match &self.way {
            Way::Listen(listening) => listening.addresses(),
            Way::Dial(_) => vec![],
        };
        let Desk { identity, record, secret, .. } = &self.desk;
        greet::hello(identity, record, secret.as_ref(), &new.link, addresses, extras)
    }
}

const EXPIRY_LOOK: Duration = Duration::from_millis(EXPIRY_LOOK_MS);

async fn sleep_until_some(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// What a task brought, unless it was aborted. A panic in it is a panic here.
fn joined<T>(done: Result<T, JoinError>) -> Option<T> {
    match done {
        Ok(done) => Some(done),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// The wall clock, in seconds since 1970. A clock before that is as good as 1970.
fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
