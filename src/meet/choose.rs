//! Which transfer a command line means: a supplied ticket or id decides by itself, otherwise an open transfer of the
//! same description goes on, otherwise a new one begins. It closes what `--new` gives up, and writes nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::open::{list, no_randomness};
use super::{Wish, dial, now_seconds};
use crate::disk::RealDisk;
use crate::error::Error;
use crate::event::{Event, Events, Notice};
use crate::identity::{PeerKey, Role, Secret, TransferId};
use crate::limits::TICKET_SECONDS;
use crate::net::random_secret;
use crate::options::{ChildCommand, CommonOptions, Continue, Meeting, Resumption, Selection};
use crate::state::home::Home;
use crate::state::lock::Lock;
use crate::state::transfer::{Closed, Description, End, Settings, Side, TransferRecord};
use crate::ticket::Ticket;

/// The transfer that is meant.
#[derive(Debug)]
pub(super) enum Chosen {
    /// One that begins now and is not on disk yet.
    New(Box<TransferRecord>),
    /// One that goes on.
    Continued(Box<TransferRecord>),
    /// One that is finished.
    Finished(Box<TransferRecord>),
}

/// What a choice leads to.
#[derive(Debug)]
pub(super) struct Choice {
    /// The transfer.
    pub(super) chosen: Chosen,
    /// The records that were closed for it, as they were before.
    pub(super) abandoned: Vec<TransferRecord>,
    /// The record that is to be closed once that of the transfer is on disk.
    pub(super) replaced: Option<(Lock, TransferRecord)>,
}

/// The secret that came with the command line.
pub(super) fn supplied_secret(common: &CommonOptions) -> Option<Secret> {
    match &common.meeting {
        Meeting::Dial(ticket) => Some(ticket.secret.clone()),
        _ => None,
    }
}

/// Finds or invents the record.
pub(super) fn choose(
    common: &CommonOptions,
    wish: &Wish,
    home: &Home<RealDisk>,
    events: &Events,
) -> Result<Choice, Error> {
    let listing = home.list()?;
    for _ in &listing.damaged {
        let instead = "that transfer cannot be continued; it takes a new ticket";
        events.emit(Event::Notice(Notice::StateRebuilt { what: "the record of a transfer", instead }));
    }
    let continuation = common.continuation;
    let mut chooser = Chooser { wish, home, records: listing.records, continuation, abandoned: vec![], replaced: None };
    let chosen = match &common.meeting {
        Meeting::Resume(id, how) => chooser.resume(*id, *how),
        Meeting::Dial(ticket) => chooser.dial(ticket),
        Meeting::Continue => chooser.go_on(),
        Meeting::Listen { address, write_ticket, shows_code } => {
            chooser.listen(*address, write_ticket.as_deref(), *shows_code)
        }
        Meeting::Parent { child, other } => chooser.parent(child, other),
        Meeting::Child { owner, secret, .. } => chooser.child(*owner, secret),
    };
    let chosen = chosen?;
    Ok(Choice { chosen, abandoned: chooser.abandoned, replaced: chooser.replaced })
}

/// Whether an open transfer of these sources was begun with a ticket of the other side: the same command goes on with it.
pub fn has_ticket(home: &Home<RealDisk>, paths: &[PathBuf], selection: &Selection) -> Result<bool, Error> {
    let listing = home.list()?;
    let (role, now_seconds) = (Role::Sender, now_seconds());
    let description = Description { role, paths, selection: Some(selection), other: None, now_seconds };
    Ok(description.matching(&listing.records).iter().any(|record| record.side == Side::Dialler))
}

impl Wish {
    fn description<'a>(&'a self, other: Option<&'a Path>, now_seconds: u64) -> Description<'a> {
        Description { role: self.role, paths: &self.paths, selection: Some(&self.selection), other, now_seconds }
    }
}

struct Chooser<'a> {
    wish: &'a Wish,
    home: &'a Home<RealDisk>,
    records: Vec<TransferRecord>,
    continuation: Continue,
    abandoned: Vec<TransferRecord>,
    replaced: Option<(Lock, TransferRecord)>,
}

impl Chooser<'_> {
    fn resume(&mut self, id: TransferId, how: Resumption) -> Result<Chosen, Error> {
        let role = self.wish.role;
        let mut record = match self.home.load(id, role)? {
            None => return Err(Error::Usage(format!("there is no transfer {id} in which this side is the {role}"))),
            Some(record) if record.is_resumable() => record,
            Some(record) => return closed_before(record),
        };
        match how {
            Resumption::AsItWas => {}
            Resumption::PeerAt(address) if record.side == Side::Dialler => {
                record.addresses = dial::union(&[&[address], &record.addresses]);
            }
            Resumption::PeerAt(_) => {
                return Err(Error::Usage(format!("this side of transfer {id} dials no address that it is told")));
            }
            Resumption::NewTicket if record.side == Side::Listener && record.is_open() => {
                return self.renew_ticket(&record);
            }
            Resumption::NewTicket => {
                return Err(Error::Usage(format!("this side of transfer {id} has no ticket to give")));
            }
        }
        Ok(Chosen::Continued(Box::new(record)))
    }

    /// A new transfer in the place of one whose peer cannot come any more. The old one is closed when the new one is on
    /// disk: until then the same command can be given again.
    fn renew_ticket(&mut self, old: &TransferRecord) -> Result<Chosen, Error> {
        let held = self.home.lock(old.id, old.role)?;
        self.replaced = Some((held, old.clone()));
        let fresh = self.new_record(Side::Listener, new_secret()?);
        Ok(Chosen::New(Box::new(TransferRecord {
            listen: old.listen,
            port: old.port,
            paths: old.paths.clone(),
            selection: self.home.selection(old)?,
            write_ticket: old.write_ticket.clone(),
            shows_code: old.shows_code,
            settings: old.settings.clone(),
            ..fresh
        })))
    }

    fn dial(&mut self, ticket: &Ticket) -> Result<Chosen, Error> {
        let role = self.wish.role;
        if ticket.role == role {
            return Err(Error::Usage(format!(
                "this ticket is the {role}'s own: use it with `landfall {}` on the other side",
                verb(role.other())
            )));
        }
        let id = ticket.transfer_id();
        let known = self.records.iter().find(|record| record.id == id && record.role == role);
        if let Some(record) = known {
            if !record.has_paths(&self.wish.paths) {
                return Err(Error::Usage(format!("this ticket belongs to transfer {id} of {}", quoted(&record.paths))));
            }
            if record.selection != self.wish.selection {
                return Err(Error::Usage(format!(
                    "this ticket belongs to transfer {id}, which excludes something else: give the same options, or go on \
                     with `landfall resume {id}`"
                )));
            }
            if record.closed.is_some_and(|closed| closed.end != End::Unconfirmed) {
                return closed_before(record.clone());
            }
            let mut record = record.clone();
            record.settings = self.wish.settings.clone();
            record.addresses = dial::union(&[&ticket.addresses, &record.addresses]);
            return Ok(Chosen::Continued(Box::new(record)));
        }
        self.clear_dir(id)?;
        if role == Role::Sender && self.continuation == Continue::New {
            self.continued(None)?;
        }
        let mut record = self.new_record(Side::Dialler, ticket.secret.clone());
        record.peer = Some(ticket.key);
        record.addresses = ticket.addresses.clone();
        record.expiry_seconds = ticket.expiry_seconds;
        Ok(Chosen::New(Box::new(record)))
    }

    fn go_on(&mut self) -> Result<Chosen, Error> {
        let gone = || Error::Usage("the open transfer of this was closed a moment ago".to_owned());
        self.continued(None)?.map(|record| Chosen::Continued(Box::new(record))).ok_or_else(gone)
    }

    fn listen(
        &mut self,
        address: Option<SocketAddr>,
        write_ticket: Option<&Path>,
        shows_code: bool,
    ) -> Result<Chosen, Error> {
        let apply = |record: &mut TransferRecord| {
            if let Some(address) = address {
                // Another port that is asked for replaces the saved one.
                if address.port() != 0 {
                    record.port = Some(address.port());
                }
                record.listen = Some(address);
            }
            record.write_ticket = write_ticket.map(Path::to_owned);
            record.shows_code = shows_code;
        };
        if let Some(mut record) = self.continued(None)? {
            if record.side == Side::Listener {
                apply(&mut record);
            }
            return Ok(Chosen::Continued(Box::new(record)));
        }
        let port = self.port_of_closed();
        let mut record = self.new_record(Side::Listener, new_secret()?);
        self.clear_dir(record.id)?;
        record.port = port;
        apply(&mut record);
        Ok(Chosen::New(Box::new(record)))
    }

    fn parent(&mut self, child: &ChildCommand, other: &Path) -> Result<Chosen, Error> {
        if let Some(mut record) = self.continued(Some(other))? {
            record.child = Some(child.clone());
            return Ok(Chosen::Continued(Box::new(record)));
        }
        let mut record = self.new_record(Side::Parent, new_secret()?);
        self.clear_dir(record.id)?;
        record.other = Some(other.to_owned());
        record.child = Some(child.clone());
        Ok(Chosen::New(Box::new(record)))
    }

    /// A child goes on with what its parent says, also after it closed it: then it answers from its receipt.
    fn child(&mut self, owner: PeerKey, secret: &Secret) -> Result<Chosen, Error> {
        let (id, role) = (secret.transfer_id(), self.wish.role);
        if let Some(record) = self.records.iter().find(|record| record.id == id && record.role == role) {
            if record.selection != self.wish.selection {
                return Err(Error::Usage(format!("transfer {id} was begun with another choice of what goes")));
            }
            let mut record = record.clone();
            record.settings = self.wish.settings.clone();
            record.peer = Some(owner);
            return Ok(Chosen::Continued(Box::new(record)));
        }
        // A parent that lost its record comes with a new transfer; the old one is nobody's any more.
        let is_orphan = |record: &TransferRecord| record.side == Side::Child && record.peer == Some(owner);
        for orphan in self.sharing_dir(id).into_iter().filter(is_orphan) {
            self.abandon(&orphan)?;
        }
        self.clear_dir(id)?;
        let mut record = self.new_record(Side::Child, secret.clone());
        record.secret = None;
        record.peer = Some(owner);
        Ok(Chosen::New(Box::new(record)))
    }
}

impl Chooser<'_> {
    /// The open transfer of the wish's description, unless `--new` closes it.
    fn continued(&mut self, other: Option<&Path>) -> Result<Option<TransferRecord>, Error> {
        let now_seconds = now_seconds();
        let description = self.wish.description(other, now_seconds);
        if self.continuation == Continue::New {
            // Whatever it was to let go: what is given up is not gone on with by `resume` either.
            let matching = Description { selection: None, ..description }.matching(&self.records);
            let old: Vec<TransferRecord> = matching.into_iter().cloned().collect();
            old.iter().try_for_each(|record| self.abandon(record))?;
            return Ok(None);
        }
        match description.matching(&self.records).as_slice() {
            [] => Ok(None),
            [record] => {
                let mut record = (*record).clone();
                record.settings = self.wish.settings.clone();
                Ok(Some(record))
            }
            several => Err(Error::Usage(format!(
                "several open transfers are meant: {}; continue one with `landfall resume ID`, or close them with --new",
                list(&several.iter().map(|record| record.id).collect::<Vec<_>>())
            ))),
        }
    }

    /// One open transfer for each target directory: another that has been taken stands in the way.
    fn clear_dir(&mut self, id: TransferId) -> Result<(), Error> {
        for record in self.sharing_dir(id) {
            // Those of the same description are closed already; their copies here do not know it.
            let is_open = self.home.load(record.id, record.role)?.is_some_and(|record| record.is_open());
            if !is_open {
                continue;
            }
            if self.continuation == Continue::Open {
                return Err(Error::Usage(format!(
                    "{} has the open transfer {}; continue it with `landfall resume {}`, or close it with --new",
                    quoted(&record.paths),
                    record.id,
                    record.id
                )));
            }
            self.abandon(&record)?;
        }
        Ok(())
    }

    fn sharing_dir(&self, id: TransferId) -> Vec<TransferRecord> {
        self.records.iter().filter(|record| self.shares_dir(record, id)).cloned().collect()
    }

    fn shares_dir(&self, record: &TransferRecord, id: TransferId) -> bool {
        self.wish.role == Role::Receiver
            && record.role == Role::Receiver
            && record.id != id
            && record.is_open()
            && record.was_taken()
            && record.has_paths(&self.wish.paths)
    }

    /// Closes a transfer that nobody works on.
    fn abandon(&mut self, record: &TransferRecord) -> Result<(), Error> {
        let _held = self.home.lock(record.id, record.role)?;
        let closed = Closed { seconds: now_seconds(), end: End::Abandoned };
        self.home.close(&mut record.clone(), closed)?;
        self.abandoned.push(record.clone());
        Ok(())
    }

    /// The port of a listener that `--new` closes: its peer still calls there, and hears what has become of it.
    fn port_of_closed(&self) -> Option<u16> {
        self.abandoned.iter().find_map(|record| record.port)
    }

    fn new_record(&self, side: Side, secret: Secret) -> TransferRecord {
        let created_seconds = now_seconds();
        TransferRecord {
            id: secret.transfer_id(),
            role: self.wish.role,
            side,
            listen: None,
            port: None,
            secret: Some(secret),
            expiry_seconds: created_seconds + TICKET_SECONDS,
            peer: None,
            addresses: vec![],
            paths: self.wish.paths.clone(),
            selection: self.wish.selection.clone(),
            other: None,
            child: None,
            write_ticket: None,
            shows_code: false,
            settings: Settings::clone(&self.wish.settings),
            created_seconds,
            is_agreed: false,
            closed: None,
        }
    }
}

/// What a closed transfer means to whoever names it.
fn closed_before(record: TransferRecord) -> Result<Chosen, Error> {
    if record.closed.is_some_and(|closed| closed.end == End::Finished) {
        return Ok(Chosen::Finished(Box::new(record)));
    }
    Err(Error::Usage(format!("transfer {} was closed here, and a new one took its place", record.id)))
}

fn new_secret() -> Result<Secret, Error> {
    random_secret().map_err(no_randomness)
}

fn verb(role: Role) -> &'static str {
    match role {
        Role::Sender => "send",
        Role::Receiver => "recv",
    }
}

fn quoted(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}
