//! The receipt as both drivers treat it, without keys: a digest stands for the signature. The simulator's copy of
//! `recv/receipt.rs` and `send/receipt.rs`, over any disk. It judges nothing by itself; the oracle reads receipt
//! files with code of its own.

use std::collections::HashMap;
use std::io;

use landfall::attributes::{Level, Timestamp};
use landfall::digest::{PathHash, path_hash};
use landfall::disk::Disk;
use landfall::geometry::EntryIndex;
use landfall::identity::{PeerKey, Role, TransferId};
use landfall::manifest::Record;
use landfall::outcome::Outcome;
use landfall::receipt::{Core, Line, VERSION, head_from_json, signing_bytes};
use landfall::source::log::SharedLog;
use landfall::state::home::Home;
use landfall::state::outcome::{Agreement, Live, Told, compare, store_receipt, tally};
use landfall::store::Shared;
use landfall::task::sender::ReceiptVerdict;
use landfall::wire::{Exception, Message};

/// What stands for a signature.
fn sign(core: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    blake3::Hasher::new().update(&signing_bytes(core)).finalize_xof().fill(&mut signature);
    signature
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Makes and persists the receipt for what the store holds.
pub(super) fn issue<D: Disk>(shared: &Shared<D>, live: &Live, home: &Home<D>, transfer: TransferId) -> io::Result<()> {
    let exceptions = shared.ledger().exceptions.clone();
    let outcome_of = |entry: EntryIndex| exceptions.get(&entry.0).copied();
    let (outcome, lines) = shared.with_log(|log| tally(log, live, outcome_of, |_, _| ()))?;
    let last = shared.with_log(|log| log.last())?;
    let Some(Record::Complete(counts)) = last else { return Err(other("the manifest is not complete")) };
    let mut bytes_by_level = [0; 4];
    for number in 0..shared.with_log(|log| log.entry_count()) {
        let entry = EntryIndex(number);
        let Some(level) = shared.ledger().level(entry) else { continue };
        if let Record::Begin { size, .. } = shared.with_log(|log| log.introduction(entry))? {
            let index = Level::ALL.iter().position(|found| *found == level).expect("all levels are listed");
            bytes_by_level[index] += size;
        }
    }
    let core = Core {
        version: VERSION,
        transfer,
        outcome: outcome.digest,
        counts,
        delivered_files: outcome.delivered_files,
        delivered_bytes: outcome.delivered_bytes,
        left_out: outcome.left_out,
        kept: outcome.kept,
        bytes_by_level,
        is_durable: true,
        started: Timestamp::default(),
        finished: Timestamp::default(),
        sender: PeerKey([1; 32]),
        receiver: PeerKey([2; 32]),
        sender_host: "sender".into(),
        receiver_host: "receiver".into(),
        sender_version: "0".into(),
        receiver_version: "0".into(),
    };
    let signature = sign(&core.encode());
    shared.with_log(|log| store_receipt(log, &lines, outcome_of, &core, &signature, home, Role::Receiver)).map(drop)
}

/// The disk's own word in an error about state, so that a full disk is known as one.
fn unwrapped(error: landfall::error::Error) -> io::Error {
    match error {
        landfall::error::Error::State { source, .. } => source,
        error => other(error),
    }
}

/// The messages that carry the persisted receipt; none if there is none.
pub(super) fn messages<D: Disk>(home: &Home<D>, transfer: TransferId) -> io::Result<Vec<Message>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the receipt is damaged");
    let Some(mut reader) = home.open_receipt(transfer, Role::Receiver).map_err(unwrapped)? else { return Ok(vec![]) };
    let head = reader.line()?.ok_or_else(damaged)?;
    let (core, signature) = head_from_json(&head).map_err(|_| damaged())?;
    let mut page = vec![];
    while let Some(text) = reader.line()? {
        let line = Line::from_json(&text).ok_or_else(damaged)?;
        if line.outcome != Outcome::Delivered {
            page.push(Exception { path: line.path, outcome: line.outcome });
        }
    }
    let mut messages = vec![];
    if !page.is_empty() {
        messages.push(Message::Exceptions(page));
    }
    messages.push(Message::Receipt { core, signature: signature.to_vec() });
    Ok(messages)
}

/// What arrived at the sender on one link.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    exceptions: HashMap<PathHash, Outcome>,
    core: Vec<u8>,
    signature: Vec<u8>,
}

/// A receipt that agrees with the sender's log.
#[derive(Debug)]
pub(super) struct Agreed {
    core: Core,
    signature: [u8; 64],
    told: Box<Told>,
}

impl Arrived {
    /// Takes a page of exceptions.
    pub(super) fn add(&mut self, exceptions: &[Exception]) {
        self.exceptions.extend(exceptions.iter().map(|exception| (path_hash(&exception.path), exception.outcome)));
    }

    /// Takes core and signature.
    pub(super) fn complete(&mut self, core: Vec<u8>, signature: Vec<u8>) {
        (self.core, self.signature) = (core, signature);
    }

    /// Compares what arrived with the log.
    pub(super) fn check<D: Disk>(&self, log: &SharedLog<D>) -> io::Result<(ReceiptVerdict, Option<Agreed>)> {
        let Ok(core) = Core::decode(&self.core) else { return Ok((ReceiptVerdict::Forged, None)) };
        let signature = sign(&self.core);
        if self.signature != signature {
            return Ok((ReceiptVerdict::Forged, None));
        }
        Ok(match log.with(|log| compare(log, &core, &self.exceptions, None))? {
            Agreement::Now(told) => (ReceiptVerdict::Agrees(told.tally.digest), Some(Agreed { core, signature, told })),
            Agreement::Before => (ReceiptVerdict::Outdated, None),
            Agreement::Never => (ReceiptVerdict::Differs, None),
        })
    }
}

/// Makes a receipt durable at the sender.
pub(super) fn store<D: Disk>(log: &SharedLog<D>, agreed: &Agreed, home: &Home<D>) -> io::Result<()> {
    let Told { exceptions, lines, .. } = &*agreed.told;
    let exceptions = |entry| exceptions.get(&entry).copied();
    log.with(|log| store_receipt(log, lines, exceptions, &agreed.core, &agreed.signature, home, Role::Sender).map(drop))
}
