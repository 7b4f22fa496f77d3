//! Making the receipt, and reading it again to send it: it is persisted before it is first sent and never made anew.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::attributes::{Level, Timestamp};
use crate::digest::{OutcomeDigest, OutcomeHasher};
use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::geometry::EntryIndex;
use crate::identity::{PeerKey, Role, TransferId};
use crate::limits::{EXCEPTION_PAGE_BYTES, STATE_MENDS_ROUNDS_MAX};
use crate::manifest::Record;
use crate::meet::Met;
use crate::net::{Identity, verify_signature};
use crate::outcome::{Counts, Outcome};
use crate::receipt::{Core, Line, VERSION, head_from_json, signing_bytes};
use crate::state::home::Home;
use crate::state::outcome::{Lines, Live, store_receipt, tally};
use crate::state::receipts::Written;
use crate::store::Shared;
use crate::wire::{Exception, Message};

/// What the receipt says about the two sides; the peer is known from the first link on.
#[derive(Clone, Debug)]
pub(super) struct Parties {
    pub(super) sender: PeerKey,
    pub(super) sender_host: String,
    pub(super) sender_version: String,
}

impl Parties {
    /// Those of a link.
    pub(super) fn of(met: &Met) -> Parties {
        Parties {
            sender: met.link.peer_key(),
            sender_host: met.hello.host.clone(),
            sender_version: met.hello.version.clone(),
        }
    }
}

/// Makes receipts of one transfer.
pub(super) struct Issuer {
    pub(super) home: Home<RealDisk>,
    pub(super) identity: Arc<Identity>,
    pub(super) transfer: TransferId,
    pub(super) host: String,
    pub(super) started_seconds: u64,
    pub(super) parties: Arc<Mutex<Option<Parties>>>,
    /// The receipt that this process made. It is never made a second time: a damaged file is written again from it.
    pub(super) issued: Mutex<Option<Issued>>,
}

impl Issuer {
    /// Makes, signs and persists the receipt for what the store holds: `live` is all of the log.
    pub(super) fn issue<D: Disk>(&self, shared: &Shared<D>, live: &Live) -> io::Result<()> {
        let parties = self.parties.lock().ok().and_then(|parties| parties.clone());
        let parties = parties.ok_or_else(|| io::Error::other("no sender was ever met"))?;
        let exceptions = shared.ledger().exceptions.clone();
        let outcome_of = |entry: EntryIndex| exceptions.get(&entry.0).copied();
        // How many bytes were read back at each level. The ledger is locked below the log here, and above it where records
        // are appended: the gate keeps the two apart.
        let (mut bytes_by_level, mut pages) = ([0; 4], Pages::default());
        let count = |entry, line: &Line| {
            pages.add(line);
            if let Some(level) = shared.ledger().level(entry) {
                let index = Level::ALL.iter().position(|other| *other == level).expect("all levels are listed");
                bytes_by_level[index] += line.size;
            }
        };
        let (outcome, lines, counts) = shared.with_log(|log| {
            let (outcome, lines) = tally(log, live, outcome_of, count)?;
            io::Result::Ok((outcome, lines, last_counts(log)?))
        })?;
        let space = shared.space()?;
        let core = Core {
            version: VERSION,
            transfer: self.transfer,
            outcome: outcome.digest,
            counts,
            delivered_files: outcome.delivered_files,
            delivered_bytes: outcome.delivered_bytes,
            left_out: outcome.left_out,
            kept: outcome.kept,
            bytes_by_level,
            is_durable: !space.is_volatile,
            started: Timestamp { seconds: i64::try_from(self.started_seconds).unwrap_or(i64::MAX), nanos: 0 },
            finished: now(),
            sender: parties.sender,
            receiver: self.identity.public_key(),
            sender_host: parties.sender_host,
            receiver_host: self.host.clone(),
            sender_version: parties.sender_version,
            receiver_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let signature = self.identity.sign(&signing_bytes(&core.encode()));
        let written = self.persist(shared, &lines, outcome_of, &core, &signature)?;
        let outcomes = Arc::new(exceptions);
        let held = Held {
            core_bytes: core.encode(),
            core,
            signature,
            attributes_not_applied: outcome.attributes_not_applied,
            renamed: outcome.renamed,
            lines: outcome.digest,
            exceptions: Arc::new(pages.0),
        };
        if let Ok(mut issued) = self.issued.lock() {
            *issued = Some(Issued { held, lines: Lines::of(live.clone()), outcomes, written });
        }
        Ok(())
    }

    fn persist<D: Disk>(
        &self,
        shared: &Shared<D>,
        lines: &Lines,
        outcome_of: impl Fn(EntryIndex) -> Option<Outcome>,
        core: &Core,
        signature: &[u8; 64],
    ) -> io::Result<Written> {
        shared.with_log(|log| store_receipt(log, lines, outcome_of, core, signature, &self.home, Role::Receiver))
    }

    /// The receipt as it stands on disk, whole; written again, the same, if the file was damaged or lost since this
    /// process made it. `None` if there is none that can be had.
    pub(super) fn held<D: Disk>(&self, shared: &Shared<D>) -> Result<Option<Held>, Error> {
        let issued = self.issued.lock().ok().and_then(|issued| issued.clone());
        let Some(mut issued) = issued else {
            return Ok(load_whole(&self.home, self.transfer, &self.identity.public_key())?.0);
        };
        for _ in 0..STATE_MENDS_ROUNDS_MAX {
            if self.home.is_receipt_whole(self.transfer, Role::Receiver, &issued.written)? {
                return Ok(Some(issued.held));
            }
            self.write_again(shared, &mut issued)?;
        }
        Ok(None)
    }

    /// Writes the receipt that this process made once more.
    fn write_again<D: Disk>(&self, shared: &Shared<D>, issued: &mut Issued) -> Result<(), Error> {
        let exceptions = Arc::clone(&issued.outcomes);
        let outcome_of = |entry: EntryIndex| exceptions.get(&entry.0).copied();
        let path = self.home.receipt_path(self.transfer, Role::Receiver);
        let (core, signature) = (&issued.held.core, &issued.held.signature);
        let written = self.persist(shared, &issued.lines, outcome_of, core, signature);
        issued.written = written.map_err(|source| Error::State { path, source })?;
        if let Ok(mut kept) = self.issued.lock() {
            *kept = Some(issued.clone());
        }
        Ok(())
    }
}

/// A receipt that this process made, and by what its file is known.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    held: Held,
    lines: Lines,
    /// What it says of the entries that were not simply delivered.
    outcomes: Arc<BTreeMap<u32, Outcome>>,
    written: Written,
}

/// The exceptions of a receipt, in pages, as they are sent.
#[derive(Debug, Default)]
struct Pages(Vec<Vec<Exception>>, usize);

impl Pages {
    /// Takes a line, if it is one of an exception.
    fn add(&mut self, line: &Line) {
        if line.outcome == Outcome::Delivered {
            return;
        }
        let Pages(pages, page_bytes) = self;
        if pages.is_empty() || *page_bytes >= EXCEPTION_PAGE_BYTES {
            pages.push(vec![]);
            *page_bytes = 0;
        }
        *page_bytes += line.path.as_bytes().len() + 16;
        let page = pages.last_mut().expect("the first line makes the first page");
        page.push(Exception { path: line.path.clone(), outcome: line.outcome });
    }
}

/// The counts of the log's last record, which is a `Complete` when a receipt is made.
fn last_counts<D: Disk>(log: &crate::state::log::ManifestLog<D>) -> io::Result<Counts> {
    match log.last()? {
        Some(Record::Complete(counts)) => Ok(counts),
        _ => Err(io::Error::other("the manifest is not complete")),
    }
}

/// A persisted receipt.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) core_bytes: Vec<u8>,
    pub(super) core: Core,
    pub(super) signature: [u8; 64],
    pub(super) attributes_not_applied: u64,
    /// Entries that stand under another name.
    pub(super) renamed: u64,
    /// What the lines of the file hash to.
    pub(super) lines: OutcomeDigest,
    /// What was not delivered, in pages, as it is sent.
    exceptions: Arc<Vec<Vec<Exception>>>,
}

/// Reads the receipt of a transfer, if there is one.
pub(super) fn load(home: &Home<RealDisk>, transfer: TransferId) -> Result<Option<Held>, Error> {
    let path = home.receipt_path(transfer, Role::Receiver);
    let failed = |source| Error::State { path: path.clone(), source };
    let damaged = || failed(io::Error::new(io::ErrorKind::InvalidData, "the receipt is damaged"));
    let Some(mut reader) = home.open_receipt(transfer, Role::Receiver)? else { return Ok(None) };
    let Some(head) = reader.line().map_err(failed)? else { return Err(damaged()) };
    let (core_bytes, signature) = head_from_json(&head).map_err(|_| damaged())?;
    let core = Core::decode(&core_bytes).map_err(|_| damaged())?;
    let (mut attributes_not_applied, mut renamed, mut lines) = (0, 0, OutcomeHasher::default());
    let mut pages = Pages::default();
    while let Some(text) = reader.line().map_err(failed)? {
        let line = Line::from_json(&text).ok_or_else(damaged)?;
        lines.line(&line.canonical());
        attributes_not_applied += u64::from(line.outcome.is_without_attributes());
        renamed += u64::from(line.outcome.number().is_some());
        pages.add(&line);
    }
    let (lines, exceptions) = (lines.finish(), Arc::new(pages.0));
    Ok(Some(Held { core_bytes, core, signature, attributes_not_applied, renamed, lines, exceptions }))
}

impl Held {
    /// Tells which entries stand under another name.
    pub(super) fn tell_renamed(&self, events: &Events) {
        for Exception { path, outcome } in self.exceptions.iter().flatten() {
            if let Some(renamed_to) = outcome.number().and_then(|number| path.numbered(number)) {
                events.emit(Event::Renamed { path: path.clone(), renamed_to });
            }
        }
    }

    /// The messages that carry the receipt: its exceptions in pages, then core and signature.
    pub(super) fn into_messages(self) -> impl Iterator<Item = Message> {
        let receipt = Message::Receipt { core: self.core_bytes, signature: self.signature.to_vec() };
        let pages = self.exceptions;
        (0..pages.len()).map(move |page| Message::Exceptions(pages[page].clone())).chain([receipt])
    }
}

/// As [`load`], but a receipt that was damaged or forged on disk counts as none: it is made again from what can be
/// read back. `true` says that one was there.
pub(super) fn load_whole(
    home: &Home<RealDisk>,
    transfer: TransferId,
    receiver: &PeerKey,
) -> Result<(Option<Held>, bool), Error> {
    match load(home, transfer) {
        Err(Error::State { source, .. }) if source.kind() == io::ErrorKind::InvalidData => Ok((None, true)),
        Err(error) => Err(error),
        Ok(None) => Ok((None, false)),
        Ok(Some(held)) => {
            let is_signed = verify_signature(receiver, &signing_bytes(&held.core_bytes), &held.signature);
            let is_of_this = held.core.transfer == transfer && held.core.receiver == *receiver;
            let is_whole = is_signed && is_of_this && held.lines == held.core.outcome;
            Ok((is_whole.then_some(held), !is_whole))
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}
