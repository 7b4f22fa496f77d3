//! `landfall forget`: drops what this machine keeps of a transfer, so that nothing continues it. What has arrived under
//! its name stays there, and so do receipts.

use std::io;
use std::path::Path;

use super::arguments::ForgetArguments;
use super::console::Console;
use super::failure::Failure;
use super::screen::short;
use super::text::quoted;
use super::{settings, which};
use crate::disk::{RealDisk, Rooted};
use crate::error::Error;
use crate::identity::{Role, TransferId};
use crate::path::STATE_DIR_NAME;
use crate::state::home::Home;
use crate::state::lock::Lock;
use crate::state::transfer::TransferRecord;
use crate::store;

/// Drops a transfer on the sides of it that are on this machine.
pub(super) fn run(arguments: &ForgetArguments, console: &Console) -> Result<(), Failure> {
    let home = Home::open(&settings::home()?).map_err(|error| Failure::from(&error))?;
    let listing = home.list().map_err(|error| Failure::from(&error))?;
    for record in which::meant(&arguments.id, &listing.records)? {
        drop_state(&home, record).map_err(|error| Failure::from(&error))?;
        let paths = record.paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ");
        console.result(&format!("{}, {} of {paths}: forgotten\n", short(record.id), record.role));
    }
    Ok(())
}

/// Not while a process works on it. The record goes last: while it is there, the same command can be given again.
fn drop_state(home: &Home<RealDisk>, record: &TransferRecord) -> Result<(), Error> {
    let _held = home.lock(record.id, record.role)?;
    if let (Role::Receiver, Some(dir)) = (record.role, record.paths.first()) {
        clear(dir, record.id)?;
    }
    home.remove(record.id, record.role)
}

/// Removes what a target directory holds of a transfer, besides what has arrived.
fn clear(dir: &Path, id: TransferId) -> Result<(), Error> {
    let failed = |source| Error::State { path: dir.join(STATE_DIR_NAME), source };
    let disk = RealDisk::new();
    let root = match disk.open_root(dir) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !store::has_state(&disk, &root, id).map_err(failed)? {
        return Ok(());
    }
    let _held = Lock::take(&dir.join(STATE_DIR_NAME).join("lock"), || format!("`{}`", dir.display()))?;
    store::forget(&disk, &root, id).map_err(failed)
}
