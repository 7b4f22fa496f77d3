//! A transfer's state at the sender: opened, replayed, and handed to the threads that work on it.

use std::io;
use std::path::PathBuf;

use super::workers::Workers;
use crate::disk::{Disk, RealDisk, Rooted};
use crate::error::Error;
use crate::event::{Event, Events, Notice, Start};
use crate::identity::{Role, TransferId};
use crate::limits::CHUNK_BYTES;
use crate::manifest::Header;
use crate::meet::Meet;
use crate::source::log::SharedLog;
use crate::source::producer::{Producer, Purpose, Replay, Setup};
use crate::source::roots::{Roots, open_roots};
use crate::source::selection::Selector;
use crate::source::serve::Server;
use crate::source::stamps::StampFile;
use crate::source::walk::Exclusions;
use crate::state::home::Home;
use crate::state::log::{Found, ManifestLog};
use crate::state::transfer::TransferRecord;

const LOG_NAME: &[u8] = b"manifest";
const STAMPS_NAME: &[u8] = b"stamps";

/// Starts the threads on a transfer.
pub(super) fn start<D: Rooted>(disk: &D, meet: &Meet, events: &Events) -> Result<(SharedLog<D>, Workers), Error> {
    let (roots, notices) = open_roots(disk, &meet.record().paths)?;
    notices.into_iter().for_each(|notice| events.emit(Event::Notice(notice)));
    let (producer, found) = open_producer(disk, meet.home(), meet.record(), roots.clone(), Purpose::Produce)?;
    let was_there = meet.start() == Start::Resumed && meet.record().peer.is_some();
    if found == Found::Cut || (found == Found::Nothing && was_there) {
        let (what, instead) = ("manifest log", "the source is read again as far as it was lost");
        events.emit(Event::Notice(Notice::StateRebuilt { what, instead }));
    }
    let log = producer.log();
    let stamps = disk.open_root(&state_path(meet)).and_then(|dir| open_stamps(disk, &dir, meet.record().id));
    let stamps = stamps.map_err(|source| state_error(meet, source))?;
    let server = Server::new(roots, log.clone(), producer.ahead(), stamps);
    Ok((log, Workers::start(producer, server, events)))
}

/// A producer on the log and the stamps of a transfer, and how the log was found.
pub(super) fn open_producer<D: Rooted>(
    disk: &D,
    home: &Home<RealDisk>,
    record: &TransferRecord,
    roots: Roots<D>,
    purpose: Purpose,
) -> Result<(Producer<D>, Found), Error> {
    let transfer = record.id;
    // Makes it, and refuses what is not ours.
    home.transfer_dir(transfer, Role::Sender)?;
    let state_path = state_path_in(home, transfer);
    let failed = |source| Error::State { path: state_path.clone(), source };
    let dir = disk.open_root(&state_path).map_err(failed)?;
    let own = disk.stat_dir(&dir).map_err(failed)?;
    let above = state_path.parent().unwrap_or(&state_path);
    let above = disk.open_root(above).and_then(|dir| disk.stat_dir(&dir)).map_err(failed)?;
    let mut replay = Replay::default();
    let header = Header { chunk_bytes: CHUNK_BYTES, transfer };
    let (log, found) =
        ManifestLog::open(disk, &dir, LOG_NAME, header, |record, step| replay.note(record, step)).map_err(failed)?;
    let selection = home.selection(record)?;
    let selector = Selector::new(&selection).map_err(|bad| Error::Usage(bad.to_string()))?;
    let held = vec![(above.device, above.inode), (own.device, own.inode)];
    let setup = Setup {
        roots,
        exclusions: Exclusions {
            selector,
            listed: selection.listed.and_then(|given| given.list),
            transfer: Some(transfer),
            held,
        },
        expected: selection.expected.and_then(|given| given.list),
        log,
        replay,
        stamps: open_stamps(disk, &dir, transfer).map_err(failed)?,
        state_path: state_path.clone(),
        user: own.owner,
        reads_twice: record.settings.reads_twice,
        purpose,
    };
    Ok((Producer::new(setup)?, found))
}

fn open_stamps<D: Disk>(disk: &D, dir: &D::Dir, transfer: TransferId) -> io::Result<StampFile<D>> {
    StampFile::open(disk, dir, STAMPS_NAME, transfer)
}

/// Where the state is, for messages.
pub(super) fn state_path(meet: &Meet) -> PathBuf {
    state_path_in(meet.home(), meet.record().id)
}

fn state_path_in(home: &Home<RealDisk>, transfer: TransferId) -> PathBuf {
    home.path().join("transfers").join(transfer.to_string()).join(Role::Sender.word())
}

/// An error of the state.
pub(super) fn state_error(meet: &Meet, source: io::Error) -> Error {
    Error::State { path: state_path(meet), source }
}
