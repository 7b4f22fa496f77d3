//! The beginning of a meeting: which transfer a command line means, its lock, its socket, its record on disk, and only
//! then, when the driver says so, its ticket.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::child::{self, Pipes, Ready, task_line};
use super::dial::Dialling;
use super::listen::Listening;
use super::parent::{Parenting, program_or_this};
use super::{Desk, Meet, Opened, Way, Wish, choose, dial, farewell, now_seconds};
use crate::disk::RealDisk;
use crate::error::Error;
use crate::event::{Event, Events, Notice, Start};
use crate::identity::TransferId;
use crate::limits::{DYING_MS, PORT_ATTEMPTS_MAX, PREDECESSOR_MS, RETRY_DELAY_MS_MIN};
use crate::net::{Accept, BindError, Endpoint, Identity, random};
use crate::options::{ChildCommand, CommonOptions, Meeting, Reach};
use crate::state::files::write_private;
use crate::state::home::Home;
use crate::state::lock::Lock;
use crate::state::transfer::{Closed, End, Side, TransferRecord};
use crate::ticket::Ticket;

/// Where a listener takes a port that nobody asked for: below what systems give to diallers, above what services have.
pub(super) const RANDOM_PORTS: RangeInclusive<u16> = 20_000..=29_999;

impl Meet {
    /// Finds or begins the transfer that is meant, locks it, binds its socket and saves its record. Must be called
    /// inside a tokio runtime.
    pub async fn open(
        common: &CommonOptions,
        wish: Wish,
        home: Home<RealDisk>,
        identity: Arc<Identity>,
        events: Events,
    ) -> Result<Opened, Error> {
        Meet::open_with(common, wish, home, identity, events, Pipes::of_process()).await
    }

    /// At a listener: gives out its ticket if nobody has taken it, else says where it is found when it was started again.
    /// To be called when nothing of this side's own stands in the way of the transfer.
    pub fn invite(&mut self) -> Result<(), Error> {
        match &mut self.way {
            Way::Listen(listening) if self.desk.record.side == Side::Listener && self.desk.record.peer.is_some() => {
                let notice = Notice::FoundAt { id: self.desk.record.id, addresses: listening.addresses() };
                self.desk.events.emit(Event::Notice(notice));
                Ok(())
            }
            Way::Listen(listening) if self.desk.record.shows_code => {
                let Some(ticket) = ticket(&self.desk, listening.addresses()) else { return Ok(()) };
                listening.open_door(&self.desk, &ticket)
            }
            Way::Listen(listening) => give_ticket(&self.desk, listening.addresses()),
            Way::Dial(_) => Ok(()),
        }
    }

    /// [`Meet::open`] with the pipes that a child has to its parent.
    pub(super) async fn open_with(
        common: &CommonOptions,
        wish: Wish,
        home: Home<RealDisk>,
        identity: Arc<Identity>,
        events: Events,
        pipes: Pipes,
    ) -> Result<Opened, Error> {
        if let Err(error) = home.prune(now_seconds()) {
            // Old state that cannot be removed stands in nobody's way.
            warn!(%error, "old state was not pruned");
        }
        let choose::Choice { chosen, abandoned, replaced } = choose::choose(common, &wish, &home, &events)?;
        let (record, start) = match chosen {
            choose::Chosen::Finished(record) => {
                if wish.selection.listed.is_some() || wish.selection.expected.is_some() {
                    // What is compared needs the lists, which may have been lost since.
                    let _held = lock(&home, &record).await?;
                    home.keep_lists(&record, &wish.selection)?;
                }
                return Ok(Opened::Finished(record));
            }
            choose::Chosen::New(record) => (*record, Start::New),
            choose::Chosen::Continued(record) => (*record, Start::Resumed),
        };
        let lock = lock(&home, &record).await?;
        let secret = record.secret.clone().or_else(|| choose::supplied_secret(common));
        let mut desk = Desk { home, identity: Arc::clone(&identity), events, record, secret, _lock: lock };
        let is_open = start == Start::New || still_as_chosen(&mut desk)?;
        desk.home.keep_lists(&desk.record, &wish.selection)?;
        if !is_open {
            return Ok(Opened::Finished(Box::new(desk.record)));
        }
        let (id, role) = (desk.record.id, desk.record.role);
        let reach = match &common.meeting {
            Meeting::Child { reach, .. } => *reach,
            _ => Reach::Machine,
        };
        let way = way(&mut desk, pipes, reach)?;
        if let Some((_held, mut old)) = replaced {
            desk.home.close(&mut old, Closed { seconds: now_seconds(), end: End::Abandoned })?;
        }
        desk.events.emit(Event::Transfer { id, role, start });
        Ok(Opened::Meet(Box::new(Meet {
            desk,
            way,
            start,
            current: None,
            alone_since: Instant::now(),
            last_cause: "nobody has answered yet".to_owned(),
            doom: None,
            greetings: JoinSet::new(),
            greeting_count: 0,
            farewells: farewell::begin(&identity, abandoned),
        })))
    }
}

/// Takes the transfer's lock. A child waits for its predecessor, which may not have found out yet that its parent is
/// gone.
async fn lock(home: &Home<RealDisk>, record: &TransferRecord) -> Result<Lock, Error> {
    let patience = if record.side == Side::Child { PREDECESSOR_MS } else { DYING_MS };
    patiently(Duration::from_millis(patience), || home.lock(record.id, record.role)).await
}

/// Takes a lock that is free, or will be soon: a process that was killed holds its locks until the kernel has taken it
/// down, and the same command may be there before.
pub(crate) async fn patiently(
    patience: Duration,
    mut take: impl FnMut() -> Result<Lock, Error>,
) -> Result<Lock, Error> {
    let deadline = Instant::now() + patience;
    loop {
        let taken = take();
        let is_passing = match &taken {
            Err(Error::Locked { .. }) => true,
            // What held the lock file was removed just now.
            Err(Error::State { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        };
        if !is_passing || Instant::now() >= deadline {
            return taken;
        }
        sleep(Duration::from_millis(RETRY_DELAY_MS_MIN)).await;
    }
}

/// Between the choice and the lock another process may have gone on with the transfer: what it wrote about the peer
/// holds. Returns whether there is still something to do.
fn still_as_chosen(desk: &mut Desk) -> Result<bool, Error> {
    let Some(saved) = desk.home.load(desk.record.id, desk.record.role)? else { return Ok(true) };
    let wished = std::mem::replace(&mut desk.record, saved);
    desk.record.settings = wished.settings;
    desk.record.listen = wished.listen;
    // A port that the command line names replaces the one that was saved.
    let asked = wished.listen.map(|address| address.port()).filter(|port| *port != 0);
    desk.record.port = asked.or(desk.record.port);
    desk.record.write_ticket = wished.write_ticket;
    desk.record.shows_code = wished.shows_code;
    desk.record.child = wished.child;
    if desk.record.side != Side::Parent {
        desk.record.addresses = dial::union(&[&wished.addresses, &desk.record.addresses]);
    }
    // A child answers its parent as long as that asks.
    let is_asked = desk.record.side == Side::Child;
    Ok(is_asked || desk.record.closed.is_none_or(|closed| closed.end == End::Unconfirmed))
}

/// Binds what the record's side needs, and makes the record durable.
fn way(desk: &mut Desk, pipes: Pipes, reach: Reach) -> Result<Way, Error> {
    match desk.record.side {
        Side::Listener => {
            let endpoint = bind_listener(desk)?;
            desk.record.port = Some(endpoint.port());
            desk.home.save(&desk.record)?;
            Ok(Way::Listen(Box::new(Listening::new(reachable(&endpoint)?, endpoint, None))))
        }
        Side::Child => {
            let endpoint = match reach {
                Reach::Network => bind_listener(desk)?,
                Reach::Machine | Reach::Pipes => {
                    bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), desk, Accept::Incoming)?
                }
            };
            desk.record.port = (reach == Reach::Network).then(|| endpoint.port());
            desk.home.save(&desk.record)?;
            let mut addresses = reachable(&endpoint)?;
            if reach == Reach::Network {
                addresses = dial::union(&[&child::address_of_login(endpoint.port()), &addresses]);
            }
            let (id, key) = (desk.record.id, desk.identity.public_key());
            let relayed_to = addresses.first().copied().filter(|_| reach == Reach::Pipes);
            let parent = pipes.announce(&Ready { id, key, addresses: addresses.clone() }, relayed_to)?;
            Ok(Way::Listen(Box::new(Listening::new(addresses, endpoint, Some(parent)))))
        }
        Side::Dialler => {
            let endpoint = bind_dialler(desk)?;
            desk.home.save(&desk.record)?;
            Ok(Way::Dial(Box::new(Dialling::new(endpoint, None))))
        }
        Side::Parent => {
            let endpoint = bind_dialler(desk)?;
            desk.home.save(&desk.record)?;
            let parenting = parenting(desk)?;
            Ok(Way::Dial(Box::new(Dialling::new(endpoint, Some(parenting)))))
        }
    }
}

fn parenting(desk: &Desk) -> Result<Parenting, Error> {
    let (Some(command), Some(secret)) = (desk.record.child.clone(), desk.secret.as_ref()) else {
        let source =
            std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not say how to start the other side");
        return Err(Error::State { path: desk.home.path().to_owned(), source });
    };
    let mut options = command.options.clone();
    if let Some(options) = options.as_object_mut() {
        desk.home.selection(&desk.record)?.put_lists(options);
    }
    let line = task_line(desk.identity.public_key(), secret, &options);
    let program = match &command.remote {
        Some(_) => command.program.clone(),
        None => program_or_this(command.program.clone()),
    };
    Ok(Parenting::new(ChildCommand { program, ..command }, line))
}

/// The listener's socket: on the port that was asked for, also where it was another one before; else on the one that
/// it had; else on a random one.
fn bind_listener(desk: &Desk) -> Result<Endpoint, Error> {
    let asked = desk.record.listen;
    let fixed = asked.map(|address| address.port()).filter(|port| *port != 0).or(desk.record.port);
    if let Some(port) = fixed {
        match bind_port(asked, port, desk) {
            // No ticket names a child's port.
            Err(BindError::InUse { .. }) if desk.record.side == Side::Child => {}
            other => return other.map_err(|error| bind_error(error, asked, port)),
        }
    }
    let mut tries = PORT_ATTEMPTS_MAX;
    loop {
        let port = random_port()?;
        tries -= 1;
        match bind_port(asked, port, desk) {
            Err(BindError::InUse { .. }) if tries > 0 => {}
            other => return other.map_err(|error| bind_error(error, asked, port)),
        }
    }
}

fn bind_port(asked: Option<SocketAddr>, port: u16, desk: &Desk) -> Result<Endpoint, BindError> {
    let identity = Arc::clone(&desk.identity);
    match asked {
        Some(address) => Endpoint::bind(SocketAddr::new(address.ip(), port), identity, Accept::Incoming),
        None => Endpoint::bind_everywhere(port, identity, Accept::Incoming),
    }
}

fn bind(address: SocketAddr, desk: &Desk, accept: Accept) -> Result<Endpoint, Error> {
    let bound = Endpoint::bind(address, Arc::clone(&desk.identity), accept);
    bound.map_err(|error| bind_error(error, Some(address), address.port()))
}

fn bind_dialler(desk: &Desk) -> Result<Endpoint, Error> {
    let bound = Endpoint::bind_everywhere(0, Arc::clone(&desk.identity), Accept::Nothing);
    bound.map_err(|error| bind_error(error, None, 0))
}

fn bind_error(error: BindError, asked: Option<SocketAddr>, port: u16) -> Error {
    let ip = asked.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
    let address = SocketAddr::new(ip, port);
    match error {
        BindError::InUse { .. } => Error::Bind { address, source: std::io::ErrorKind::AddrInUse.into() },
        BindError::Io { source, .. } => Error::Bind { address, source },
    }
}

fn random_port() -> Result<u16, Error> {
    let bytes = random().map_err(no_randomness)?;
    let ports = u32::from(RANDOM_PORTS.end() - RANDOM_PORTS.start()) + 1;
    let offset = u32::from_be_bytes(bytes) % ports;
    Ok(RANDOM_PORTS.start() + u16::try_from(offset).expect("fewer ports than a u16 counts"))
}

pub(super) fn no_randomness(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Local {
        what: "device",
        object: PathBuf::from("/dev/urandom"),
        problem: "gave no random bytes",
        source: Some(std::io::Error::other(error)),
    }
}

fn reachable(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    let port = endpoint.port();
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    endpoint.local_addrs().map_err(|source| Error::Bind { address, source })
}

/// The ticket, the same each time, for as long as nobody has taken it.
fn ticket(desk: &Desk, addresses: Vec<SocketAddr>) -> Option<Ticket> {
    let record = &desk.record;
    let (None, Some(secret)) = (record.peer, &record.secret) else { return None };
    Some(Ticket {
        role: record.role,
        key: desk.identity.public_key(),
        secret: secret.clone(),
        addresses,
        expiry_seconds: record.expiry_seconds,
    })
}

/// Shows or writes the ticket.
pub(super) fn give_ticket(desk: &Desk, addresses: Vec<SocketAddr>) -> Result<(), Error> {
    let record = &desk.record;
    let Some(ticket) = ticket(desk, addresses) else { return Ok(()) };
    let text = ticket.encode();
    if let Some(path) = &record.write_ticket {
        write_ticket(path, &text)?;
    }
    desk.events.emit(Event::Ticket { text, expires: record.expiry_seconds, written_to: record.write_ticket.clone() });
    Ok(())
}

fn write_ticket(path: &Path, text: &str) -> Result<(), Error> {
    write_private(path, format!("{text}\n").as_bytes()).map_err(|source| Error::Local {
        what: "ticket file",
        object: path.to_owned(),
        problem: "could not be written",
        source: Some(source),
    })
}

/// What messages list.
pub(super) fn list(ids: &[TransferId]) -> String {
    ids.iter().map(TransferId::to_string).collect::<Vec<_>>().join(", ")
}
