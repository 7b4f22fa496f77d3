//! `$LANDFALL_HOME`: the identity, the records of transfers, and receipts. Everything that is written here is
//! durable before the call returns. It does not decide what a record should say, or who may take a ticket.
//!
//! ```text
//! identity                        this installation's key
//! transfers/<id>/<role>/transfer  the record
//! transfers/<id>/<role>/lock      held while a process works on it
//! transfers/<id>/<role>/limit     a new limit for that process, until it has taken it
//! transfers/<id>/<role>/...       a sender's manifest log and stamps
//! receipts/<id>.<role>.receipt    kept when the rest is pruned
//! receipts/<id>.<role>.deleted    what `--delete` has removed after it (`deletions`)
//! streams/<key>/...               standard input or output as a file (`stream`)
//! ```

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::identity::{Role, TransferId};
use crate::limits::{CLOSED_STATE_DAYS, RECORD_FILE_BYTES_MAX};
use crate::net::{Identity, IdentityError};
use crate::state::deletions::{self, DeletionLog};
use crate::state::files::{empty_dir, ensure_dir, find_dir, read_small, write_atomic};
use crate::state::lock::Lock;
use crate::state::receipts::{self, ReceiptReader, ReceiptWriter, Written, file_name};
use crate::state::stream;
use crate::state::transfer::{Closed, End, TransferRecord};

const TRANSFERS: &str = "transfers";
const RECEIPTS: &str = "receipts";
const RECORD: &str = "transfer";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const SECONDS_PER_DAY: u64 = 24 * 3600;

/// The state of this installation.
#[derive(Clone, Debug)]
pub struct Home<D: Disk> {
    pub(super) disk: D,
    root: D::Dir,
    path: PathBuf,
}

/// All records, and what could not be read of them.
#[derive(Debug, Default)]
pub struct Listing {
    /// Readable records, by time of creation.
    pub records: Vec<TransferRecord>,
    /// Files that are there and are no records any more, with the reason.
    pub damaged: Vec<(PathBuf, io::Error)>,
}

impl Home<RealDisk> {
    /// Opens the home at a path, making it (0700) with its parents if it is not there.
    pub fn open(path: &Path) -> Result<Home<RealDisk>, Error> {
        let failed = |source| Error::State { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let root = RealDisk::open_root(path).map_err(failed)?;
        Ok(Home::new(RealDisk::new(), root, path.to_owned()))
    }

    /// This installation's key, made now if there is none.
    pub fn identity(&self) -> Result<Identity, Error> {
        let path = self.path.join(IDENTITY);
        Identity::load_or_create(&path).map_err(|error| {
            let source = match error {
                IdentityError::Io { source, .. } => source,
                other => io::Error::new(io::ErrorKind::InvalidData, other),
            };
            Error::State { path, source }
        })
    }

    /// Takes the lock of a transfer, making its directory if it is not there. A limit that was left for whoever held it
    /// before is gone then.
    pub fn lock(&self, id: TransferId, role: Role) -> Result<Lock, Error> {
        self.transfer_dir(id, role)?;
        let held = Lock::take(&self.lock_path(id, role), || format!("transfer {id}"))?;
        self.drop_limit(id, role)?;
        Ok(held)
    }

    /// Process id of whoever works on a transfer, if anybody does.
    pub fn lock_holder(&self, id: TransferId, role: Role) -> Result<Option<String>, Error> {
        Lock::holder(&self.lock_path(id, role))
    }

    fn lock_path(&self, id: TransferId, role: Role) -> PathBuf {
        self.transfer_path(id, role).join(LOCK)
    }
}

impl<D: Disk> Home<D> {
    /// The home in a held directory; `path` is what messages call it.
    pub fn new(disk: D, root: D::Dir, path: PathBuf) -> Home<D> {
        Home { disk, root, path }
    }

    /// What messages call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a receipt is or will be.
    pub fn receipt_path(&self, id: TransferId, role: Role) -> PathBuf {
        self.path.join(RECEIPTS).join(file_name(id, role))
    }

    pub(super) fn transfer_path(&self, id: TransferId, role: Role) -> PathBuf {
        self.path.join(TRANSFERS).join(id.to_string()).join(role.word())
    }

    /// The directory for a transfer's state, made if it is not there. A sender keeps its manifest log in it.
    pub fn transfer_dir(&self, id: TransferId, role: Role) -> Result<D::Dir, Error> {
        let make = || {
            let transfers = ensure_dir(&self.disk, &self.root, TRANSFERS.as_bytes())?;
            let transfer = ensure_dir(&self.disk, &transfers, id.to_string().as_bytes())?;
            ensure_dir(&self.disk, &transfer, role.word().as_bytes())
        };
        make().map_err(self.failed(self.transfer_path(id, role)))
    }

    pub(super) fn find_transfer_dir(&self, id: TransferId, role: Role) -> io::Result<Option<D::Dir>> {
        let path = format!("{TRANSFERS}/{id}/{role}");
        find_dir(&self.disk, &self.root, path.as_bytes())
    }

    fn failed(&self, path: PathBuf) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::State { path, source }
    }

    /// The record of a transfer, if there is one. A damaged one is an error that names it.
    pub fn load(&self, id: TransferId, role: Role) -> Result<Option<TransferRecord>, Error> {
        self.read_record(id, role).map_err(self.failed(self.transfer_path(id, role).join(RECORD)))
    }

    fn read_record(&self, id: TransferId, role: Role) -> io::Result<Option<TransferRecord>> {
        let Some(dir) = self.find_transfer_dir(id, role)? else { return Ok(None) };
        let Some(bytes) = read_small(&self.disk, &dir, RECORD.as_bytes(), RECORD_FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let record = TransferRecord::decode(&bytes)?;
        match (record.id, record.role) == (id, role) {
            true => Ok(Some(record)),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it belongs to another transfer")),
        }
    }

    /// Replaces the record, atomically and durably. Only the holder of the transfer's lock may.
    pub fn save(&self, record: &TransferRecord) -> Result<(), Error> {
        let dir = self.transfer_dir(record.id, record.role)?;
        write_atomic(&self.disk, &dir, RECORD.as_bytes(), &record.encode())
            .map_err(self.failed(self.transfer_path(record.id, record.role).join(RECORD)))
    }

    /// Closes a transfer: the fact is durable when this returns. What was closed stays so; an unconfirmed end may
    /// become a finished one.
    pub fn close(&self, record: &mut TransferRecord, closed: Closed) -> Result<(), Error> {
        let is_settled = record.closed.is_some_and(|old| old.end != End::Unconfirmed || old.end == closed.end);
        if is_settled {
            return Ok(());
        }
        record.closed = Some(closed);
        record.secret = None;
        self.save(record)
    }

    /// All records, open and closed.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        let path = self.path.join(TRANSFERS);
        let listed = find_dir(&self.disk, &self.root, TRANSFERS.as_bytes())
            .and_then(|dir| dir.map_or(Ok(vec![]), |dir| self.disk.list(&dir)))
            .map_err(self.failed(path))?;
        for listed in listed {
            let Some(id) = std::str::from_utf8(&listed.name).ok().and_then(|name| name.parse().ok()) else { continue };
            for role in [Role::Sender, Role::Receiver] {
                match self.read_record(id, role) {
                    Ok(record) => listing.records.extend(record),
                    Err(error) => listing.damaged.push((self.transfer_path(id, role).join(RECORD), error)),
                }
            }
        }
        listing.records.sort_by_key(|record| (record.created_seconds, record.id));
        Ok(listing)
    }

    /// Removes the state of one transfer and role; its receipt stays. Only the holder of the lock may.
    pub fn remove(&self, id: TransferId, role: Role) -> Result<(), Error> {
        let remove = || {
            let Some(dir) = self.find_transfer_dir(id, role)? else { return Ok(()) };
            // The record goes first: without it the rest is nobody's.
            match self.disk.remove(&dir, RECORD.as_bytes()) {
                Ok(()) => self.disk.sync_dir(&dir)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(error),
            }
            empty_dir(&self.disk, &dir)?;
            let parent = format!("{TRANSFERS}/{id}");
            let transfer = self.disk.open_dir(&self.root, parent.as_bytes())?;
            self.disk.remove_dir(&transfer, role.word().as_bytes())?;
            if self.disk.list(&transfer)?.is_empty() {
                let transfers = self.disk.open_dir(&self.root, TRANSFERS.as_bytes())?;
                self.disk.remove_dir(&transfers, id.to_string().as_bytes())?;
            }
            Ok(())
        };
        remove().map_err(self.failed(self.transfer_path(id, role)))
    }

    /// A new receipt, to be written line by line.
    pub fn create_receipt(&self, id: TransferId, role: Role) -> Result<ReceiptWriter<D>, Error> {
        ensure_dir(&self.disk, &self.root, RECEIPTS.as_bytes())
            .and_then(|dir| ReceiptWriter::create(self.disk.clone(), dir, file_name(id, role).into_bytes()))
            .map_err(self.failed(self.receipt_path(id, role)))
    }

    /// Whether the stored receipt still is what this process wrote.
    pub fn is_receipt_whole(&self, id: TransferId, role: Role, written: &Written) -> Result<bool, Error> {
        let look = || {
            let Some(dir) = find_dir(&self.disk, &self.root, RECEIPTS.as_bytes())? else { return Ok(false) };
            receipts::is_whole(&self.disk, &dir, file_name(id, role).as_bytes(), written)
        };
        look().map_err(self.failed(self.receipt_path(id, role)))
    }

    /// Where it is logged what was deleted after a transfer.
    pub fn deletion_log_path(&self, id: TransferId, role: Role) -> PathBuf {
        self.path.join(RECEIPTS).join(deletions::file_name(id, role))
    }

    /// That log, to be written on.
    pub fn open_deletion_log(&self, id: TransferId, role: Role) -> Result<DeletionLog<D>, Error> {
        ensure_dir(&self.disk, &self.root, RECEIPTS.as_bytes())
            .and_then(|dir| DeletionLog::open(&self.disk, &dir, deletions::file_name(id, role).as_bytes()))
            .map_err(self.failed(self.deletion_log_path(id, role)))
    }

    /// The stored receipt, if there is one. It is durable: the process that wrote it may have ended before its name
    /// was, and what is read from here is told to the other side.
    pub fn open_receipt(&self, id: TransferId, role: Role) -> Result<Option<ReceiptReader<D::File>>, Error> {
        let open = || {
            let Some(dir) = find_dir(&self.disk, &self.root, RECEIPTS.as_bytes())? else { return Ok(None) };
            let reader = ReceiptReader::open(&self.disk, &dir, file_name(id, role).as_bytes())?;
            if reader.is_some() {
                self.disk.sync_dir(&dir)?;
            }
            Ok(reader)
        };
        open().map_err(self.failed(self.receipt_path(id, role)))
    }
}

impl Home<RealDisk> {
    /// Removes what was closed long ago, and streams that no open transfer is about. A transfer that somebody works on is left for the next time.
    pub fn prune(&self, now_seconds: u64) -> Result<(), Error> {
        let is_old = |record: &TransferRecord| {
            record.closed.is_some_and(|closed| closed.seconds + CLOSED_STATE_DAYS * SECONDS_PER_DAY < now_seconds)
        };
        for record in self.list()?.records.iter().filter(|record| is_old(record)) {
            match self.lock(record.id, record.role) {
                Ok(_held) => self.remove(record.id, record.role)?,
                Err(Error::Locked { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        stream::sweep(self)
    }
}
