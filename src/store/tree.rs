//! Finishing the tree: symlinks, then modes and times of every directory of the manifest, deepest first. Repeatable.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU16;

use super::directories::reason_of;
use super::settle::Settler;
use super::{is_full, locked};
use crate::attributes::{FileKind, Timestamp};
use crate::digest::path_hash;
use crate::disk::{Access, Disk, DiskFile};
use crate::geometry::EntryIndex;
use crate::manifest::Record;
use crate::options::Existing;
use crate::outcome::{Outcome, Reason};
use crate::path::RelPath;

/// Directories that are held open at once.
const HANDLES_MAX: usize = 512;

impl<D: Disk> Settler<D> {
    /// Makes symlinks and gives directories their final mode and times, and makes all of it durable.
    pub fn finish_tree(&mut self) -> io::Result<()> {
        let (mut directories, mut touched, mut has_links) = (vec![], BTreeMap::new(), false);
        let others = self.shared.ledger().others.clone();
        for number in others {
            let entry = EntryIndex(number);
            if self.is_out(entry) {
                continue;
            }
            match self.shared.with_log(|log| log.introduction(entry))? {
                Record::Symlink { path, target, mtime } => match self.make_symlink(entry, &path, &target, mtime) {
                    Ok(dir) => {
                        has_links = true;
                        touched.insert(path.parent().map_or(vec![], |parent| parent.as_bytes().to_vec()), dir);
                    }
                    Err(Failed::Full(error)) => return Err(error),
                    Err(Failed::Reason(reason)) => self.leave_out(entry, reason),
                },
                Record::Directory { path, .. } => directories.push((path.components().count(), entry)),
                _ => (),
            }
            if touched.len() >= HANDLES_MAX {
                self.sync_names(std::mem::take(&mut touched).into_values().collect())?;
            }
        }
        self.sync_names(touched.into_values().collect())?;
        if has_links {
            // A link's own time belongs to an inode that nothing else can sync.
            self.shared.disk.sync_file_system(&self.shared.layout.root)?;
        }
        directories.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        for some in directories.chunks(HANDLES_MAX) {
            self.finish_directories(some.iter().map(|(_, entry)| *entry))?;
        }
        Ok(())
    }

    fn finish_directories(&mut self, entries: impl Iterator<Item = EntryIndex>) -> io::Result<()> {
        let mut handles = vec![];
        for entry in entries {
            let Record::Directory { path, mode, mtime } = self.shared.with_log(|log| log.introduction(entry))? else {
                continue;
            };
            let opened = locked(&self.shared.directories).open(&path);
            let dir = match opened {
                Ok(parent) => parent.dir,
                Err(reason) => {
                    self.leave_out(entry, reason);
                    continue;
                }
            };
            if self.shared.disk.set_dir_metadata(&dir, u32::from(mode), mtime).is_err() {
                self.shared.ledger().exceptions.insert(entry.0, Outcome::AttributesNotApplied);
            }
            handles.push(dir);
        }
        self.sync_names(handles)
    }

    fn leave_out(&mut self, entry: EntryIndex, reason: Reason) {
        self.shared.leave_out(entry, reason);
        self.left_out.push((entry, reason));
    }

    fn is_out(&self, entry: EntryIndex) -> bool {
        let ledger = self.shared.ledger();
        let is_left_out = matches!(ledger.exceptions.get(&entry.0), Some(Outcome::LeftOut(_)));
        ledger.is_withdrawn(entry) || is_left_out
    }

    /// Makes one symlink, or finds that it is there already. Gives the directory that holds it.
    fn make_symlink(
        &self,
        entry: EntryIndex,
        path: &RelPath,
        target: &[u8],
        mtime: Timestamp,
    ) -> Result<D::Dir, Failed> {
        let (shared, name) = (&self.shared, path.name());
        let dir = locked(&shared.directories).parent_of(path).map_err(Failed::Reason)?.dir;
        let made = shared.disk.make_symlink(target, &dir, name).or_else(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            locked(&shared.directories).let_in(path.parent())?;
            shared.disk.make_symlink(target, &dir, name)
        });
        let number = match made {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.meet_existing(&dir, path, target)?,
            Err(error) => return Err(failed(error)),
        };
        let place = path.under(number).ok_or(Failed::Reason(Reason::NamesTaken))?;
        let stat = shared.disk.stat(&dir, place.name());
        let is_right = stat.as_ref().is_ok_and(|stat| stat.mtime == mtime);
        // One that is another entry's too keeps the time of that one.
        let is_shared = stat.is_ok_and(|stat| shared.is_shared(stat.stamps(), entry));
        // A file system without times of links is no reason to leave the link out, but one to say so.
        let is_failed = !is_right && (is_shared || shared.disk.set_mtime(&dir, place.name(), mtime).is_err());
        let mut ledger = shared.ledger();
        match Outcome::arrived(number, is_failed) {
            Outcome::Delivered => ledger.exceptions.remove(&entry.0),
            outcome => ledger.exceptions.insert(entry.0, outcome),
        };
        drop(ledger);
        Ok(dir)
    }

    /// Gives the number in the name under which the link stands, if it is not its own.
    fn meet_existing(&self, dir: &D::Dir, path: &RelPath, target: &[u8]) -> Result<Option<NonZeroU16>, Failed> {
        let (shared, name) = (&self.shared, path.name());
        if shared.disk.read_link(dir, name).is_ok_and(|found| found == target) {
            return Ok(None);
        }
        let is_directory = shared.disk.stat(dir, name).is_ok_and(|stat| stat.kind == FileKind::Directory);
        let may_replace = shared.policy.existing == Existing::Replace || self.is_earlier_version(dir, path);
        match shared.policy.existing {
            _ if may_replace && !is_directory => self.replace_by_symlink(dir, path, target).map(|()| None),
            Existing::Rename => self.make_numbered(dir, path, target).map(Some),
            Existing::Keep => Err(Failed::Reason(Reason::Kept)),
            Existing::Refuse | Existing::Replace => Err(Failed::Reason(Reason::ExistsDifferent)),
        }
    }

    /// Makes a symlink under the first name with a number that is free, or finds an equal one.
    fn make_numbered(&self, dir: &D::Dir, path: &RelPath, target: &[u8]) -> Result<NonZeroU16, Failed> {
        let disk = &self.shared.disk;
        for (number, place) in path.names() {
            let Some(number) = number else { continue };
            match disk.make_symlink(target, dir, place.name()) {
                Ok(()) => return Ok(number),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                Err(_) if disk.read_link(dir, place.name()).is_ok_and(|found| found == target) => return Ok(number),
                Err(_) => (),
            }
        }
        Err(Failed::Reason(Reason::NamesTaken))
    }

    /// Whether what has the name of a symlink is what the source had there before: a file that this transfer sealed,
    /// or a symlink of an entry that was withdrawn.
    fn is_earlier_version(&self, dir: &D::Dir, path: &RelPath) -> bool {
        let (shared, name) = (&self.shared, path.name());
        if let Ok(found) = shared.disk.read_link(dir, name) {
            let withdrawn: Vec<EntryIndex> = shared.ledger().withdrawn.iter().copied().map(EntryIndex).collect();
            return withdrawn.into_iter().any(|entry| {
                let introduction = shared.with_log(|log| log.introduction(entry));
                matches!(introduction, Ok(Record::Symlink { path: of, target, .. }) if of == *path && target == found)
            });
        }
        let opened = shared.disk.open(dir, name, Access::Read);
        opened.is_ok_and(|file| file.stat().is_ok_and(|stat| shared.is_ours(path_hash(path), &file, &stat)))
    }

    fn replace_by_symlink(&self, dir: &D::Dir, path: &RelPath, target: &[u8]) -> Result<(), Failed> {
        const TEMPORARY: &[u8] = b"symlink";
        let (shared, name, staging) = (&self.shared, path.name(), &self.shared.layout.staging);
        match shared.disk.remove(staging, TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => (),
        }
        shared.disk.make_symlink(target, staging, TEMPORARY).map_err(failed)?;
        let replace = || shared.disk.replace(staging, TEMPORARY, dir, name);
        let replaced = replace().or_else(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            locked(&shared.directories).let_in(path.parent())?;
            replace()
        });
        replaced.map_err(failed)
    }
}

enum Failed {
    Full(io::Error),
    Reason(Reason),
}

fn failed(error: io::Error) -> Failed {
    if is_full(&error) { Failed::Full(error) } else { Failed::Reason(reason_of(&error)) }
}
