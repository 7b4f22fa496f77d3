//! Where the receiver's working state lies: `DIR/.landfall/<transfer id>/{manifest, journal, staging/}`, on the
//! target's own file system, so that sealing is a rename.

use std::io;

use data_encoding::HEXLOWER;

use crate::attributes::FileKind;
use crate::digest::PathHash;
use crate::disk::Disk;
use crate::identity::TransferId;
use crate::path::STATE_DIR_NAME;
use crate::state::files::find_dir;

/// Name of the manifest log.
pub(super) const MANIFEST_NAME: &[u8] = b"manifest";
/// Name of the journal.
pub(super) const JOURNAL_NAME: &[u8] = b"journal";
const STAGING_NAME: &[u8] = b"staging";
/// The file whose lock says that somebody works in DIR; `state/lock.rs` holds it.
pub(super) const LOCK_NAME: &[u8] = b"lock";
/// Suffix of a staging file that is being left for a new inode.
pub(super) const LEFT_SUFFIX: &[u8] = b".left";

/// The held directories.
pub struct Layout<D: Disk> {
    /// The target directory.
    pub root: D::Dir,
    /// `.landfall` in it.
    pub state: D::Dir,
    /// This transfer's directory in that.
    pub transfer: D::Dir,
    /// Staging.
    pub staging: D::Dir,
    id: TransferId,
}

impl<D: Disk> Layout<D> {
    /// Opens the layout below an open target directory, making what is not there. Whatever stands in the place of
    /// one of its directories and is not one is an error, never followed or removed.
    pub fn open(disk: &D, root: D::Dir, id: TransferId) -> io::Result<Layout<D>> {
        let state = make_and_open(disk, &root, STATE_DIR_NAME.as_bytes())?;
        let transfer = make_and_open(disk, &state, id.to_string().as_bytes())?;
        let staging = make_and_open(disk, &transfer, STAGING_NAME)?;
        let layout = Layout { root, state, transfer, staging, id };
        layout.take_over_orphans(disk)?;
        Ok(layout)
    }

    /// Staging files that an abandoned transfer left in this DIR become candidates of this one.
    fn take_over_orphans(&self, disk: &D) -> io::Result<()> {
        let own = self.id.to_string();
        for listed in disk.list(&self.state)? {
            let is_other = listed.name != own.as_bytes() && std::str::from_utf8(&listed.name).is_ok_and(is_id);
            if !is_other || disk.stat(&self.state, &listed.name)?.kind != FileKind::Directory {
                continue;
            }
            let other = disk.open_dir(&self.state, &listed.name)?;
            if let Ok(staging) = disk.open_dir(&other, STAGING_NAME) {
                for file in disk.list(&staging)? {
                    match disk.rename_noreplace(&staging, &file.name, &self.staging, &file.name) {
                        Ok(()) => (),
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                            disk.remove(&staging, &file.name)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                disk.remove_dir(&other, STAGING_NAME)?;
            }
            for file in disk.list(&other)? {
                disk.remove(&other, &file.name)?;
            }
            disk.remove_dir(&self.state, &listed.name)?;
        }
        Ok(())
    }

    /// Removes everything of this transfer, and `.landfall` itself when nothing else is in it. The lock file goes
    /// last of all: whoever waits for it looks whether it was unlinked.
    pub fn remove(&self, disk: &D) -> io::Result<()> {
        for listed in disk.list(&self.staging)? {
            disk.remove(&self.staging, &listed.name)?;
        }
        disk.remove_dir(&self.transfer, STAGING_NAME)?;
        remove_rest(disk, &self.root, &self.state, (&self.transfer, self.id))
    }
}

/// What a target directory holds of a transfer, besides what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// `.landfall` with nothing but the lock: what is left of one that was removed almost to the end, or another's beginning.
    Lock,
    /// Its working state.
    State,
}

/// What a target directory holds of a transfer.
pub fn kept<D: Disk>(disk: &D, root: &D::Dir, id: TransferId) -> io::Result<Kept> {
    let Some(state) = find_dir(disk, root, STATE_DIR_NAME.as_bytes())? else { return Ok(Kept::Nothing) };
    let own = id.to_string();
    let names = disk.list(&state)?;
    if names.iter().any(|listed| listed.name == own.as_bytes()) {
        return Ok(Kept::State);
    }
    let is_empty = names.iter().all(|listed| listed.name == LOCK_NAME);
    Ok(if is_empty { Kept::Lock } else { Kept::Nothing })
}

/// Removes the working state of a transfer that nobody will continue, as far as it is there, and `.landfall` itself when
/// nothing else is in it. Only for the holder of the directory's lock.
pub fn forget<D: Disk>(disk: &D, root: &D::Dir, id: TransferId) -> io::Result<()> {
    let Some(state) = find_dir(disk, root, STATE_DIR_NAME.as_bytes())? else { return Ok(()) };
    let Some(transfer) = find_dir(disk, &state, id.to_string().as_bytes())? else {
        return remove_state_dir(disk, root, &state);
    };
    if let Some(staging) = find_dir(disk, &transfer, STAGING_NAME)? {
        for listed in disk.list(&staging)? {
            disk.remove(&staging, &listed.name)?;
        }
        disk.remove_dir(&transfer, STAGING_NAME)?;
    }
    remove_rest(disk, root, &state, (&transfer, id))
}

/// The end of removing: what is left is plain files. The lock file goes last of all.
fn remove_rest<D: Disk>(disk: &D, root: &D::Dir, state: &D::Dir, of: (&D::Dir, TransferId)) -> io::Result<()> {
    let (transfer, id) = of;
    for listed in disk.list(transfer)? {
        disk.remove(transfer, &listed.name)?;
    }
    disk.remove_dir(state, id.to_string().as_bytes())?;
    remove_state_dir(disk, root, state)
}

/// Removes `.landfall`, if nothing but the lock is in it.
fn remove_state_dir<D: Disk>(disk: &D, root: &D::Dir, state: &D::Dir) -> io::Result<()> {
    let rest = disk.list(state)?;
    if rest.iter().any(|listed| listed.name != LOCK_NAME) {
        return Ok(());
    }
    if !rest.is_empty() {
        disk.remove(state, LOCK_NAME)?;
    }
    match disk.remove_dir(root, STATE_DIR_NAME.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        // A power cut must not bring it back when nobody comes to remove it again.
        _ => disk.sync_dir(root),
    }
}

/// Name of a path's staging file.
pub(super) fn staging_name(path: PathHash) -> Vec<u8> {
    HEXLOWER.encode(&path.0).into_bytes()
}

fn is_id(name: &str) -> bool {
    name.parse::<TransferId>().is_ok()
}

fn make_and_open<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<D::Dir> {
    match disk.make_dir(dir, name, 0o700) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        // It may have been made by an earlier run that ended before its name was synced.
        _ => disk.sync_dir(dir)?,
    }
    disk.open_dir(dir, name)
}
