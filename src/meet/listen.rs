//! The listener's way: every dialler is heard and judged, all the time; ownership is durable before it is answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::child::ParentWatch;
use super::greet::{self, Introduced};
use super::{Desk, HelloExtras, Leave, Meet, Step, Way, fate, now_seconds};
use crate::error::Error;
use crate::event::{Event, Notice};
use crate::lan::{Door, Visit};
use crate::limits::REFUSAL_NOTICE_MS;
use crate::net::{CloseCode, Endpoint, NewLink};
use crate::session::admission::{self, Admission, Dialler, Listener, Refusal, TicketState};
use crate::state::transfer::End;
use crate::ticket::Ticket;
use crate::wire::{Hello, Retry, Stop, StopReason};

/// The listener's socket.
#[derive(Debug)]
pub(super) struct Listening {
    endpoint: Endpoint,
    addresses: Vec<SocketAddr>,
    /// At a child: finds out when the parent is gone.
    parent: Option<ParentWatch>,
    noticed: Option<Instant>,
    /// Shows a code in place of the ticket, until that is taken.
    door: Option<Door>,
}

/// What happens on this way.
#[derive(Debug)]
pub(super) enum Input {
    Stranger(NewLink),
    SocketFailed,
    ParentGone,
    Visit(Visit),
}

impl Listening {
    pub(super) fn new(addresses: Vec<SocketAddr>, endpoint: Endpoint, parent: Option<ParentWatch>) -> Listening {
        Listening { endpoint, addresses, parent, noticed: None, door: None }
    }

    /// Where this listener can be reached, now if that can be told.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoint.local_addrs().unwrap_or_else(|_| self.addresses.clone())
    }

    pub(super) async fn next_input(&mut self) -> Input {
        let parent_gone = async {
            match &mut self.parent {
                Some(parent) => parent.gone().await,
                None => std::future::pending().await,
            }
        };
        let visit = async {
            match &mut self.door {
                Some(door) => door.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            visit = visit => Input::Visit(visit),
            stranger = self.endpoint.accept() => stranger.map_or(Input::SocketFailed, Input::Stranger),
            () = parent_gone => Input::ParentGone,
        }
    }

    /// Announces a code for this ticket, and shows it.
    pub(super) fn open_door(&mut self, desk: &Desk, ticket: &Ticket) -> Result<(), Error> {
        let opened = Door::open(self.endpoint.bound(), desk.identity.public_key(), ticket.encode());
        let door = opened.map_err(|error| Error::Unannounced { source: Box::new(error) })?;
        show_code(desk, door.code());
        self.door = Some(door);
        Ok(())
    }

    pub(super) async fn finish(self, code: CloseCode, leave: Leave) {
        self.endpoint.close(code);
        leave.wait(&self.endpoint).await;
    }

    /// Whether a refusal is to be shown: not every one of a flood.
    fn is_notice_due(&mut self) -> bool {
        let pause = Duration::from_millis(REFUSAL_NOTICE_MS);
        if self.noticed.is_some_and(|last| last.elapsed() < pause) {
            return false;
        }
        self.noticed = Some(Instant::now());
        true
    }
}

fn show_code(desk: &Desk, code: &str) {
    desk.events.emit(Event::Code { code: code.to_owned(), expires: desk.record.expiry_seconds });
}

impl Meet {
    pub(super) fn listen(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Stranger(new) => {
                self.greetings.spawn(async { Step::Introduced(Box::new(greet::introduce(new).await)) });
                Ok(())
            }
            Input::Visit(visit) => self.visited(visit),
            Input::SocketFailed => Err(self.no_link("the socket failed")),
            Input::ParentGone => Err(Error::ParentGone),
        }
    }

    /// Tells what happened at the door, and shows what takes the place of a code that is burnt.
    fn visited(&mut self, visit: Visit) -> Result<(), Error> {
        let Way::Listen(listening) = &mut self.way else { return Ok(()) };
        let desk = &self.desk;
        let tell = |notice| desk.events.emit(Event::Notice(notice));
        match visit {
            Visit::Given(address) => tell(Notice::TicketGiven { address }),
            Visit::Wrong(address, Some(code)) => {
                tell(Notice::WrongCode { address, is_last: false });
                show_code(desk, &code);
            }
            Visit::Wrong(address, None) => {
                listening.door = None;
                tell(Notice::WrongCode { address, is_last: true });
                return Err(self.no_link("too many wrong codes were typed"));
            }
            Visit::Unannounced(error) => return Err(Error::Unannounced { source: Box::new(error) }),
        }
        Ok(())
    }

    fn no_link(&self, cause: &str) -> Error {
        let seconds = if self.current.is_some() { 0 } else { self.alone_since.elapsed().as_secs() };
        Error::NoLink { peer: self.desk.record.role.other(), seconds, cause: cause.to_owned() }
    }

    /// Judges a dialler: refuses it, or makes it the owner and answers.
    pub(super) fn judge(&mut self, introduced: Introduced, extras: &impl Fn() -> HelloExtras) -> Result<(), Error> {
        let Introduced { new, said } = introduced;
        let theirs = match said {
            Ok(hello) => hello,
            Err(error) => {
                debug!(address = %new.link.remote_addr(), %error, "no hello");
                new.link.close(CloseCode::Misbehaved);
                return Ok(());
            }
        };
        // A dialler that gave up meanwhile must not take a link away from its own newer one.
        if new.link.close_reason().is_some() {
            return Ok(());
        }
        let extras = extras();
        match self.verdict(&new, &theirs, extras.chunk_bytes) {
            Ok(admission) => {
                if admission == Admission::Takes {
                    self.give_to(&new)?;
                }
                let ours = self.hello(&new, extras);
                let number = self.begin_greeting();
                let answer = async move { Step::Greeted(number, Box::new(greet::answer(new, ours, theirs).await)) };
                self.greetings.spawn(answer);
            }
            Err(refusal) => self.refuse(new, &theirs, refusal)?,
        }
        Ok(())
    }

    fn verdict(&self, new: &NewLink, theirs: &Hello, chunk_bytes: u32) -> Result<Admission, Refusal> {
        let record = &self.desk.record;
        let ticket = match (record.peer, &record.secret) {
            (Some(owner), _) => TicketState::Taken(owner),
            (None, Some(secret)) => TicketState::Open { secret, expiry_seconds: record.expiry_seconds },
            (None, None) => return Err(Refusal::UnknownTransfer),
        };
        let listener = Listener {
            key: self.desk.identity.public_key(),
            role: record.role,
            transfer: record.id,
            ticket,
            chunk_bytes,
            now_seconds: now_seconds(),
        };
        let dialler = Dialler { key: new.link.peer_key(), exporter: new.link.exporter(), hello: theirs };
        admission::admit(&listener, &dialler)
    }

    /// The ticket is taken: one atomic synced write, and only then an answer. Done at once and not in a task, so that
    /// of two diallers that come together one is judged after the other's ownership stands.
    fn give_to(&mut self, new: &NewLink) -> Result<(), Error> {
        self.desk.record.peer = Some(new.link.peer_key());
        self.desk.record.secret = None;
        self.desk.secret = None;
        self.alone_since = Instant::now();
        let saved = self.desk.home.save(&self.desk.record);
        if let Way::Listen(listening) = &mut self.way {
            // With the ticket taken, the code is of no use to anybody.
            listening.door = None;
        }
        saved.inspect_err(|_| new.link.close(CloseCode::Interrupted))
    }

    fn refuse(&mut self, mut new: NewLink, theirs: &Hello, refusal: Refusal) -> Result<(), Error> {
        let (key, address) = (new.link.peer_key(), new.link.remote_addr());
        if refusal == Refusal::UnknownTransfer && self.was_closed_for(&new, theirs)? {
            let stop = Stop { reason: StopReason::Closed, retry: Retry::Never };
            self.greetings.spawn(async move {
                // The peer that does not hear it finds no such transfer instead.
                let told = greet::say_stop(&mut new.sender, stop).await;
                new.link.close(CloseCode::UnknownTransfer);
                Step::Told(told)
            });
            return Ok(());
        }
        new.link.close(fate::code(refusal));
        debug!(%address, ?refusal, "refused");
        let Way::Listen(listening) = &mut self.way else { return Ok(()) };
        if listening.is_notice_due() {
            let why = fate::notice(refusal, &format!("the key {}", key.fingerprint()));
            self.desk.events.emit(Event::Notice(Notice::Refused { address, why }));
        }
        Ok(())
    }

    /// Whether the dialler asks for a transfer of its own that `--new` closed here.
    fn was_closed_for(&self, new: &NewLink, theirs: &Hello) -> Result<bool, Error> {
        if theirs.transfer == self.desk.record.id {
            return Ok(false);
        }
        // A damaged record is no record of anybody.
        let old = self.desk.home.load(theirs.transfer, self.desk.record.role).unwrap_or_default();
        let is_abandoned = |end| end == End::Abandoned;
        Ok(old.is_some_and(|old| {
            old.peer == Some(new.link.peer_key()) && old.closed.is_some_and(|closed| is_abandoned(closed.end))
        }))
    }
}
