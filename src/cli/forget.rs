//! `landfall forget`: drops what this machine keeps of a transfer, so that nothing continues it. What has arrived under
//! its name stays there, and so do receipts.

use std::io;
use std::path::Path;

use super::arguments::ForgetArguments;
use super::console::Console;
use super::failure::Failure;
use super::screen::short;
use super::text::quoted;
use super::{settings, shown, streams, which};
use crate::disk::{RealDisk, Rooted};
use crate::error::Error;
use crate::identity::{Role, TransferId};
use crate::path::STATE_DIR_NAME;
use crate::state::home::{Home, Listing};
use crate::state::lock::Lock;
use crate::state::stream;
use crate::state::transfer::TransferRecord;
use crate::store::{self, Kept};

/// Drops a transfer on the sides of it that are on this machine.
pub(super) fn run(arguments: &ForgetArguments, console: &Console) -> Result<(), Failure> {
    let home = Home::open(&settings::home()?).map_err(|error| Failure::from(&error))?;
    let listing = home.list().map_err(|error| Failure::from(&error))?;
    let records = match which::meant(&arguments.id, &listing.records) {
        Ok(records) => records,
        Err(failure) => return drop_damaged(&arguments.id, &home, &listing, console).unwrap_or(Err(failure)),
    };
    let streams: Vec<_> = records.iter().map(|record| streams::described(&home, record)).collect();
    drop_state(&home, &records).map_err(|error| Failure::from(&error))?;
    sweep(&home);
    for (record, stream) in records.into_iter().zip(streams) {
        let paths = || record.paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ");
        let paths = stream.unwrap_or_else(paths);
        console.result(&format!("{}, {} of {paths}: forgotten\n", short(record.id), record.role));
        if let Some(remote) = record.child.as_ref().and_then(|child| child.remote.as_ref()) {
            let host = shown::sentence(&remote.host);
            console
                .result(&format!("what `{host}` keeps of it goes with `landfall forget {}` there\n", short(record.id)));
        }
    }
    Ok(())
}

/// Not while a process works on either side. A record goes last: while it is there, the same command can be given again.
fn drop_state(home: &Home<RealDisk>, records: &[&TransferRecord]) -> Result<(), Error> {
    let held: Result<Vec<Lock>, Error> = records.iter().map(|record| home.lock(record.id, record.role)).collect();
    let _held = held?;
    for record in records {
        if let (Role::Receiver, Some(dir)) = (record.role, record.paths.first()) {
            clear(dir, record.id)?;
        }
        home.remove(record.id, record.role)?;
    }
    Ok(())
}

/// Streams that nothing is about any more. One that cannot be removed keeps nobody from forgetting.
fn sweep(home: &Home<RealDisk>) {
    if let Err(error) = stream::sweep(home) {
        tracing::warn!(%error, "a stream that is not needed any more was not removed");
    }
}

/// A record that cannot be read says nothing of its target: what is kept in the home goes. `None` if none is meant.
fn drop_damaged(id: &str, home: &Home<RealDisk>, listing: &Listing, console: &Console) -> Option<Result<(), Failure>> {
    let id: TransferId = id.parse().ok()?;
    let is_meant = |path: &Path| path.components().any(|part| part.as_os_str() == id.to_string().as_str());
    if !listing.damaged.iter().any(|(path, _)| is_meant(path)) {
        return None;
    }
    let dropped = [Role::Sender, Role::Receiver].into_iter().try_for_each(|role| {
        let _held = home.lock(id, role)?;
        home.remove(id, role)
    });
    if dropped.is_ok() {
        sweep(home);
        console.result(&format!("{}, whose record was damaged: forgotten\n", short(id)));
    }
    Some(dropped.map_err(|error| Failure::from(&error)))
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
    let kept = store::kept(&disk, &root, id).map_err(failed)?;
    if kept == Kept::Nothing {
        return Ok(());
    }
    let _held = match Lock::take(&dir.join(STATE_DIR_NAME).join("lock"), || format!("`{}`", dir.display())) {
        // Another transfer begins there.
        Err(Error::Locked { .. }) if kept == Kept::Lock => return Ok(()),
        other => other?,
    };
    store::forget(&disk, &root, id).map_err(failed)
}
