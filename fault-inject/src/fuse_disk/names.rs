//! Names of the lying disk. A change of a directory is made in BACKING at once and remembered until the directory is
//! synced, so that a power cut can take it back. What was removed waits in a hidden directory as long. Owns that
//! directory and the list of changes; knows no faults.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// The hidden directory, at the top of BACKING.
pub(super) const ATTIC: &str = ".fault-inject-attic";

/// A name in a directory that is held.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) dir: Arc<OwnedFd>,
    /// Inode of that directory.
    pub(super) dir_inode: u64,
    pub(super) name: OsString,
}

impl Name {
    /// The number of the inode that has this name now.
    fn inode(&self) -> Option<u64> {
        rustix::fs::statat(&*self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_ino)
    }

    fn is_free(&self) -> bool {
        self.inode().is_none()
    }
}

/// A change that no sync has settled.
#[derive(Debug)]
enum Change {
    /// A name was given to an inode.
    Made { name: Name, inode: u64 },
    /// A name was removed; what it stood for waits in the attic.
    Gone { name: Name, kept: String },
    /// A name was changed; what had the new one before waits in the attic.
    Moved { from: Name, to: Name, inode: u64, kept: Option<String> },
    /// Two names were exchanged.
    Exchanged { from: Name, to: Name, inode: u64 },
}

impl Change {
    fn touches(&self, dir_inode: u64) -> bool {
        match self {
            Change::Made { name, .. } | Change::Gone { name, .. } => name.dir_inode == dir_inode,
            Change::Moved { from, to, .. } | Change::Exchanged { from, to, .. } => {
                from.dir_inode == dir_inode || to.dir_inode == dir_inode
            }
        }
    }

    fn kept(&self) -> Option<&str> {
        match self {
            Change::Gone { kept, .. } => Some(kept),
            Change::Moved { kept, .. } => kept.as_deref(),
            Change::Made { .. } | Change::Exchanged { .. } => None,
        }
    }
}

/// All unsettled changes of names, in their order.
#[derive(Debug)]
pub(super) struct Names {
    attic: OwnedFd,
    serial: u64,
    pending: Vec<Change>,
}

impl Names {
    /// Makes the attic; empties one that a killed process has left.
    pub(super) fn new(root: &OwnedFd) -> io::Result<Names> {
        match rustix::fs::mkdirat(root, ATTIC, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let attic = rustix::fs::openat(root, ATTIC, flags, Mode::empty())?;
        remove_below(&attic)?;
        Ok(Names { attic, serial: 0, pending: vec![] })
    }

    /// Changes that a power cut could take back.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Notes a name that was made.
    pub(super) fn made(&mut self, name: Name, inode: u64) {
        self.pending.push(Change::Made { name, inode });
    }

    /// Removes a name, after the same checks as the real call.
    pub(super) fn remove(&mut self, name: Name, is_directory: bool) -> io::Result<()> {
        let stat = rustix::fs::statat(&*name.dir, &name.name, AtFlags::SYMLINK_NOFOLLOW)?;
        match (FileType::from_raw_mode(stat.st_mode) == FileType::Directory, is_directory) {
            (true, false) => return Err(Errno::ISDIR.into()),
            (false, true) => return Err(Errno::NOTDIR.into()),
            (true, true) if !is_empty(&*name.dir, &name.name)? => return Err(Errno::NOTEMPTY.into()),
            _ => {}
        }
        let kept = self.store(&name)?;
        self.pending.push(Change::Gone { name, kept });
        Ok(())
    }

    fn store(&mut self, name: &Name) -> io::Result<String> {
        self.serial += 1;
        let inode = name.inode().ok_or(Errno::NOENT)?;
        let kept = format!("{}-{inode}", self.serial);
        rustix::fs::renameat(&*name.dir, &name.name, &self.attic, &kept)?;
        Ok(kept)
    }

    /// Renames.
    pub(super) fn rename(&mut self, from: Name, to: Name, flags: RenameFlags) -> io::Result<()> {
        let inode = from.inode().ok_or(Errno::NOENT)?;
        if flags.contains(RenameFlags::EXCHANGE) || flags.contains(RenameFlags::NOREPLACE) {
            rustix::fs::renameat_with(&*from.dir, &from.name, &*to.dir, &to.name, flags)?;
            self.pending.push(match flags.contains(RenameFlags::EXCHANGE) {
                true => Change::Exchanged { from, to, inode },
                false => Change::Moved { from, to, inode, kept: None },
            });
            return Ok(());
        }
        let replaced = to.inode();
        if replaced == Some(inode) {
            return Ok(rustix::fs::renameat(&*from.dir, &from.name, &*to.dir, &to.name)?);
        }
        let kept = match replaced {
            Some(_) => {
                check_replaceable(&from, &to)?;
                Some(self.store(&to)?)
            }
            None => None,
        };
        if let Err(error) = rustix::fs::renameat(&*from.dir, &from.name, &*to.dir, &to.name) {
            if let Some(kept) = kept {
                rustix::fs::renameat(&self.attic, &kept, &*to.dir, &to.name)?;
            }
            return Err(error.into());
        }
        self.pending.push(Change::Moved { from, to, inode, kept });
        Ok(())
    }

    /// The sync of a directory: no power cut takes its changes back any more.
    pub(super) fn settle(&mut self, dir_inode: u64) -> io::Result<()> {
        let (settled, pending) = std::mem::take(&mut self.pending).into_iter().partition(|c| c.touches(dir_inode));
        self.pending = pending;
        self.drop_kept(&settled)
    }

    /// All of them are settled, as by an orderly unmount.
    pub(super) fn settle_all(&mut self) -> io::Result<()> {
        let settled = std::mem::take(&mut self.pending);
        self.drop_kept(&settled)
    }

    fn drop_kept(&self, settled: &[Change]) -> io::Result<()> {
        for kept in settled.iter().filter_map(Change::kept) {
            match remove_whole(&self.attic, OsStr::new(kept)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// The power goes after the first `survive` unsettled changes: the later ones never happened. Gives how many were
    /// taken back.
    pub(super) fn cut(&mut self, survive: usize) -> io::Result<u64> {
        let mut pending = std::mem::take(&mut self.pending);
        let lost = pending.split_off(survive.min(pending.len()));
        let count = lost.len() as u64;
        for change in lost.into_iter().rev() {
            self.undo(change)?;
        }
        remove_below(&self.attic)?;
        Ok(count)
    }

    /// Takes one change back, unless something durable stands in its way: another name, or a directory that is gone.
    fn undo(&mut self, change: Change) -> io::Result<()> {
        let undone = match change {
            Change::Made { name, inode } if name.inode() == Some(inode) => self.store(&name).map(drop),
            Change::Gone { name, kept } if name.is_free() => self.bring_back(&kept, &name),
            Change::Moved { from, to, inode, kept } if to.inode() == Some(inode) && from.is_free() => {
                let moved = rustix::fs::renameat(&*to.dir, &to.name, &*from.dir, &from.name).map_err(io::Error::from);
                moved.and_then(|()| kept.map_or(Ok(()), |kept| self.bring_back(&kept, &to)))
            }
            Change::Exchanged { from, to, inode } if to.inode() == Some(inode) && !from.is_free() => {
                let flags = RenameFlags::EXCHANGE;
                let exchanged = rustix::fs::renameat_with(&*from.dir, &from.name, &*to.dir, &to.name, flags);
                exchanged.map_err(io::Error::from)
            }
            _ => Ok(()),
        };
        match undone {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn bring_back(&self, kept: &str, name: &Name) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.attic, kept, &*name.dir, &name.name)?)
    }

    /// How many of an inode's names are in the attic: to everybody else they are gone.
    pub(super) fn kept_links(&self, inode: u64) -> u64 {
        let is_it = |kept: &&str| kept.rsplit('-').next().is_some_and(|own| own.parse() == Ok(inode));
        self.pending.iter().filter_map(Change::kept).filter(is_it).count() as u64
    }
}

/// The refusals of `rename` over an existing name, told before it is put aside.
fn check_replaceable(from: &Name, to: &Name) -> io::Result<()> {
    let is_dir = |name: &Name| {
        rustix::fs::statat(&*name.dir, &name.name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    match (is_dir(from)?, is_dir(to)?) {
        (true, false) => Err(Errno::NOTDIR.into()),
        (false, true) => Err(Errno::ISDIR.into()),
        (true, true) if !is_empty(&*to.dir, &to.name)? => Err(Errno::NOTEMPTY.into()),
        _ => Ok(()),
    }
}

fn open_dir(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

fn is_empty(dir: impl AsFd, name: &OsStr) -> io::Result<bool> {
    Ok(list(&open_dir(dir, name)?)?.is_empty())
}

/// Names in a directory without `.` and `..`, with kind and inode.
pub(super) fn list(dir: impl AsFd) -> io::Result<Vec<(OsString, FileType, u64)>> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = vec![];
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push((OsStr::from_bytes(name).to_owned(), entry.file_type(), entry.ino()));
        }
    }
    Ok(found)
}

/// Removes a name with everything below it.
fn remove_whole(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {
            remove_below(&open_dir(dir, name)?)?;
            Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
        }
        done => Ok(done?),
    }
}

fn remove_below(dir: &OwnedFd) -> io::Result<()> {
    for (name, _, _) in list(dir)? {
        remove_whole(dir, &name)?;
    }
    Ok(())
}

/// Removes the attic after an orderly end.
pub(super) fn remove_attic(backing: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(backing.join(ATTIC)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
