//! The dialler's way: rounds of dialling that overlap, so that a listener that comes back is found within one pause,
//! however long its first packets went unanswered. The first that stands is used; only on it is anything said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::greet::{self, GreetFailure};
use super::parent::{self, Parenting};
use super::{Desk, Effort, HelloExtras, Leave, Meet, Met, Step, Way, fate, joined, now_seconds};
use crate::error::Error;
use crate::identity::PeerKey;
use crate::limits::{HANDSHAKE_MS_MAX, RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN, TICKET_ADDRESSES_MAX};
use crate::net::{CloseCode, Endpoint, LinkError, NewLink, random};
use crate::state::transfer::Side;

const DELAY_MIN: Duration = Duration::from_millis(RETRY_DELAY_MS_MIN);
const DELAY_MAX: Duration = Duration::from_millis(RETRY_DELAY_MS_MAX);

/// The dialler's socket, and the rounds that are under way.
#[derive(Debug)]
pub(super) struct Dialling {
    endpoint: Arc<Endpoint>,
    rounds: JoinSet<Result<NewLink, RoundFailure>>,
    backoff: Backoff,
    /// Where the peer is started by this side.
    pub(super) parenting: Option<Parenting>,
}

/// What happens on this way.
#[derive(Debug)]
pub(super) enum Input {
    Nothing,
    RoundIsDue,
    Round(Box<Result<NewLink, RoundFailure>>),
    Child(parent::Input),
}

/// Why a round gave no link.
#[derive(Debug)]
pub(super) struct RoundFailure {
    pub(super) error: LinkError,
    pub(super) extent: Extent,
}

/// How many of a peer's addresses failed with the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    Some,
}

/// Growing pauses with jitter, so that two sides that fail together do not retry together.
#[derive(Debug)]
pub(super) struct Backoff {
    due: Instant,
    delay: Duration,
    delay_max: Duration,
}

impl Backoff {
    /// Due at once.
    pub(super) fn new() -> Backoff {
        Backoff::up_to(DELAY_MAX)
    }

    /// The same with pauses that grow to another length.
    pub(super) fn up_to(delay_max: Duration) -> Backoff {
        Backoff { due: Instant::now(), delay: DELAY_MIN, delay_max }
    }

    /// When it is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The next time is after the pause, and the pause after that is longer.
    pub(super) fn step(&mut self) {
        self.due = Instant::now() + jittered(self.delay);
        self.delay = (self.delay * 2).min(self.delay_max);
    }

    /// What was tried has worked for so long: if that was not nothing, the pauses are short again.
    pub(super) fn step_after(&mut self, worked: Duration) {
        if worked >= self.delay_max {
            self.delay = DELAY_MIN;
        }
        self.step();
    }
}

/// Between half and all of a pause. Without randomness it is all of it.
fn jittered(delay: Duration) -> Duration {
    let part = random::<1>().map_or(u8::MAX, |[byte]| byte);
    delay / 2 + delay / 2 * u32::from(part) / u32::from(u8::MAX)
}

impl Dialling {
    pub(super) fn new(endpoint: Endpoint, parenting: Option<Parenting>) -> Dialling {
        Dialling { endpoint: Arc::new(endpoint), rounds: JoinSet::new(), backoff: Backoff::new(), parenting }
    }

    /// Waits for what happens next.
    pub(super) async fn next_input(&mut self, effort: Effort) -> Input {
        let is_there = self.parenting.as_ref().is_none_or(Parenting::is_ready);
        let due = self.backoff.due();
        let child = async {
            match &mut self.parenting {
                Some(parenting) => parenting.next_input(effort).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.rounds.join_next() => {
                joined(done).map_or(Input::Nothing, |done| Input::Round(Box::new(done)))
            }
            () = sleep_until(due), if effort == Effort::Everything && is_there => Input::RoundIsDue,
            input = child => Input::Child(input),
        }
    }

    /// A link was lost after that time: dial again soon.
    pub(super) fn schedule_after(&mut self, lived: Duration) {
        self.backoff.step_after(lived);
    }

    /// Dials at once: the peer has just said where it is.
    pub(super) fn schedule_now(&mut self) {
        self.rounds = JoinSet::new();
        self.backoff = Backoff::new();
    }

    pub(super) async fn finish(mut self, code: CloseCode, leave: Leave) {
        // The tasks hold the endpoint too.
        self.rounds.shutdown().await;
        self.endpoint.close(code);
        leave.wait(&self.endpoint).await;
        if let Some(parenting) = self.parenting {
            parenting.finish(code).await;
        }
    }
}

impl Meet {
    pub(super) fn dial(&mut self, input: Input, extras: &impl Fn() -> HelloExtras) -> Result<(), Error> {
        match input {
            Input::Nothing => Ok(()),
            Input::RoundIsDue => {
                self.begin_round();
                Ok(())
            }
            Input::Round(done) => match *done {
                Ok(new) => {
                    self.call(new, extras());
                    Ok(())
                }
                Err(failure) => self.round_failed(&failure),
            },
            Input::Child(input) => self.tend_child(input),
        }
    }

    fn begin_round(&mut self) {
        let Way::Dial(dialling) = &mut self.way else { return };
        dialling.backoff.step();
        let record = &self.desk.record;
        let Some(pinned) = record.peer else { return };
        let endpoint = Arc::clone(&dialling.endpoint);
        dialling.rounds.spawn(round(endpoint, record.addresses.clone(), pinned));
    }

    fn call(&mut self, new: NewLink, extras: HelloExtras) {
        let Way::Dial(dialling) = &mut self.way else { return };
        // The others end here, before they have said anything.
        dialling.rounds = JoinSet::new();
        let ours = self.hello(&new, extras);
        let number = self.begin_greeting();
        self.greetings.spawn(async move { Step::Greeted(number, Box::new(greet::call(new, ours).await)) });
    }

    pub(super) fn round_failed(&mut self, failure: &RoundFailure) -> Result<(), Error> {
        self.last_cause = failure.error.to_string();
        debug!(cause = self.last_cause, "not reached");
        let peer = self.desk.record.role.other();
        match (&failure.error, failure.extent) {
            (LinkError::WrongKey { .. }, Extent::All) => {
                let address = self.desk.record.addresses.first();
                let address = *address.expect("a round over no address has no wrong key");
                Err(Error::WrongKey { address })
            }
            (LinkError::OtherVersion, Extent::Some) => Ok(()),
            // A listener that can be reached says so itself, by its own clock; one that gave up cannot.
            (error, _) if error.is_retryable() && self.desk.is_ticket_spent() => Err(Error::Expired),
            (error, _) => fate::of_new_link(peer, error).map_or(Ok(()), Err),
        }
    }

    /// An exchange of hellos failed.
    pub(super) fn not_greeted(&mut self, failure: GreetFailure) -> Result<(), Error> {
        let Way::Dial(dialling) = &mut self.way else {
            debug!(?failure, "an admitted dialler was not answered");
            return Ok(());
        };
        dialling.backoff.step();
        let peer = self.desk.record.role.other();
        match failure {
            GreetFailure::Link(error) => {
                self.last_cause = error.to_string();
                fate::of_new_link(peer, &error).map_or(Ok(()), Err)
            }
            GreetFailure::Stopped(stop) => Err(fate::stopped(peer, stop)),
            GreetFailure::Unfit(refusal) => Err(fate::unfit(peer, refusal)),
        }
    }
}

impl Desk {
    /// Whether this dialler was never admitted, and by its own clock can no longer be.
    fn is_ticket_spent(&self) -> bool {
        let record = &self.record;
        record.side == Side::Dialler && record.secret.is_some() && now_seconds() >= record.expiry_seconds
    }
}

/// One round over all addresses. A wrong key, or a wrong protocol, at one of them is the end only if it is the same at
/// each: a loopback address of the ticket, say, is also an address of this machine.
async fn round(endpoint: Arc<Endpoint>, addresses: Vec<SocketAddr>, pinned: PeerKey) -> Result<NewLink, RoundFailure> {
    let patience = Duration::from_millis(HANDSHAKE_MS_MAX);
    let error = match endpoint.dial(&addresses, pinned, patience).await {
        Ok(new) => return Ok(new),
        Err(error) if is_other(&error) => error,
        Err(error) => return Err(RoundFailure { error, extent: Extent::Some }),
    };
    let mut extent = Extent::All;
    for address in addresses {
        match endpoint.dial(&[address], pinned, patience).await {
            Ok(new) => return Ok(new),
            Err(error) if is_other(&error) => {}
            Err(_) => extent = Extent::Some,
        }
    }
    Err(RoundFailure { error, extent })
}

/// Whether somebody else answered.
fn is_other(error: &LinkError) -> bool {
    matches!(error, LinkError::WrongKey { .. } | LinkError::OtherVersion)
}

/// The dialler was admitted: the ticket's secret has done its work, and the peer has said where it can be reached. The
/// address that worked comes first, since a peer behind address translation does not know it.
pub(super) fn remember_peer(desk: &mut Desk, met: &Met) -> Result<(), Error> {
    let addresses = union(&[&[met.link.remote_addr()], &met.hello.addresses, &desk.record.addresses]);
    let keeps_secret = desk.record.side == Side::Parent;
    if addresses == desk.record.addresses && (keeps_secret || desk.record.secret.is_none()) {
        return Ok(());
    }
    desk.record.addresses = addresses;
    if !keeps_secret {
        desk.record.secret = None;
    }
    desk.home.save(&desk.record)
}

/// All addresses that can be dialled, each once, as many as a ticket may have.
pub(super) fn union(lists: &[&[SocketAddr]]) -> Vec<SocketAddr> {
    let mut all = vec![];
    for address in lists.iter().copied().flatten().filter(|address| is_dialable(address)) {
        if all.len() < TICKET_ADDRESSES_MAX && !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

fn is_dialable(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again_after_what_worked() {
        let mut backoff = Backoff::new();
        let mut delays = vec![];
        for _ in 0..8 {
            delays.push(backoff.delay);
            backoff.step();
        }
        assert_eq!(delays[0], DELAY_MIN);
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(backoff.delay, DELAY_MAX);
        backoff.step_after(DELAY_MIN);
        assert_eq!(backoff.delay, DELAY_MAX, "a link that falls at once does not count");
        backoff.step_after(DELAY_MAX);
        assert_eq!(backoff.delay, DELAY_MIN * 2);
    }

    #[test]
    fn jitter_keeps_at_least_half_of_the_pause() {
        for _ in 0..1000 {
            let pause = jittered(DELAY_MAX);
            assert!(pause >= DELAY_MAX / 2 && pause <= DELAY_MAX, "{pause:?}");
        }
    }
}
