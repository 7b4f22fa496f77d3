//! The receipt on the sender's side: what arrived of it, whether it says what this side's log says, and its file.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::digest::{PathHash, path_hash};
use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::geometry::EntryIndex;
use crate::identity::{PeerKey, Role, TransferId};
use crate::manifest::Record;
use crate::net::verify_signature;
use crate::outcome::Outcome;
use crate::receipt::{Core, signing_bytes};
use crate::source::log::SharedLog;
use crate::state::home::Home;
use crate::state::outcome::{Agreement, Expected, Told, compare, copy_receipt, store_receipt};
use crate::task::sender::ReceiptVerdict;
use crate::wire::Exception;

/// What arrived on one link.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    exceptions: HashMap<PathHash, Outcome>,
    core: Vec<u8>,
    signature: Vec<u8>,
}

impl Arrived {
    pub(super) fn add(&mut self, exceptions: &[Exception]) {
        self.exceptions.extend(exceptions.iter().map(|exception| (path_hash(&exception.path), exception.outcome)));
    }

    /// The core, if it can be read. Nobody has compared it.
    pub(super) fn core(&self) -> Option<Core> {
        Core::decode(&self.core).ok()
    }

    pub(super) fn complete(&mut self, core: Vec<u8>, signature: Vec<u8>) {
        (self.core, self.signature) = (core, signature);
    }
}

/// A receipt that agrees with the log.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) core: Core,
    pub(super) told: Box<Told>,
    signature: [u8; 64],
}

/// With whom and about what.
#[derive(Clone, Debug)]
pub(super) struct Parties {
    pub(super) transfer: TransferId,
    pub(super) sender: PeerKey,
    pub(super) receiver: PeerKey,
}

/// Compares a receipt with the log. An error is one of this side's own state.
pub(super) fn check<D: Disk>(
    log: &SharedLog<D>,
    arrived: &Arrived,
    parties: &Parties,
    expected: Option<&Expected>,
) -> std::io::Result<(ReceiptVerdict, Option<Agreed>)> {
    let signature: Option<[u8; 64]> = arrived.signature.as_slice().try_into().ok();
    let (Ok(core), Some(signature)) = (Core::decode(&arrived.core), signature) else {
        return Ok((ReceiptVerdict::Forged, None));
    };
    let is_about_us = core.transfer == parties.transfer
        && core.sender == parties.sender
        && core.receiver == parties.receiver
        && core.encode() == arrived.core;
    if !is_about_us || !verify_signature(&parties.receiver, &signing_bytes(&arrived.core), &signature) {
        return Ok((ReceiptVerdict::Forged, None));
    }
    Ok(match log.with(|log| compare(log, &core, &arrived.exceptions, expected))? {
        Agreement::Now(told) => (ReceiptVerdict::Agrees(told.tally.digest), Some(Agreed { core, told, signature })),
        Agreement::Before => (ReceiptVerdict::Outdated, None),
        Agreement::Never => (ReceiptVerdict::Differs, None),
    })
}

impl Agreed {
    /// Tells which entries the receiver left out or put under another name, in the order of the log: what this side left
    /// out was told before.
    pub(super) fn tell_exceptions<D: Disk>(&self, log: &SharedLog<D>, events: &Events) -> std::io::Result<()> {
        let mut exceptions: Vec<(EntryIndex, Outcome)> =
            self.told.exceptions.iter().map(|(at, what)| (*at, *what)).collect();
        exceptions.sort_unstable_by_key(|(entry, _)| *entry);
        for (entry, outcome) in exceptions {
            let record = log.introduction(entry)?;
            let Some(path) = record.path().filter(|_| !matches!(record, Record::LeftOut { .. })).cloned() else {
                continue;
            };
            if let Outcome::LeftOut(reason) = outcome {
                events.emit(Event::LeftOut { path, reason, side: Role::Receiver });
            } else if let Some(renamed_to) = outcome.number().and_then(|number| path.numbered(number)) {
                events.emit(Event::Renamed { path, renamed_to });
            }
        }
        Ok(())
    }
}

/// Makes the receipt durable, and a copy where the user wants one.
pub(super) fn store<D: Disk>(
    log: &SharedLog<D>,
    agreed: &Agreed,
    home: &Home<RealDisk>,
    copy: Option<&PathBuf>,
) -> Result<(), Error> {
    let path = home.receipt_path(agreed.core.transfer, Role::Sender);
    let Told { exceptions, lines, .. } = &*agreed.told;
    let exceptions = |entry| exceptions.get(&entry).copied();
    let stored = log.with(|log| {
        store_receipt(log, lines, exceptions, &agreed.core, &agreed.signature, home, Role::Sender).map(drop)
    });
    stored.map_err(|source| Error::State { path: path.clone(), source })?;
    match copy {
        Some(to) => copy_receipt(&path, to).map_err(|source| Error::State { path: to.clone(), source }),
        None => Ok(()),
    }
}
