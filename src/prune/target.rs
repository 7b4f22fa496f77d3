//! The side of the target: what is below some of its directories, and the removal of what was listed. It follows no link,
//! enters no mount, and leaves landfall's own state alone.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::{Entry, Fate, Seen, Stays};
use crate::attributes::{FileKind, Timestamp};
use crate::disk::{Disk, Rooted, Stat};
use crate::error::Error;
use crate::limits::{DELETE_BATCH_BYTES, DELETE_BATCH_ENTRIES};
use crate::path::RelPath;
use crate::plan::open_root;

/// What of a directory's mode lets its owner change it.
const OWNER_BITS: u32 = 0o700;
const PERMISSION_BITS: u32 = 0o777;

/// Looks at one directory, and removes from it.
pub(super) struct Pruner<D: Disk> {
    disk: D,
    /// The directory, its mount and its device, if it is there.
    root: Option<(D::Dir, (u64, u64))>,
    /// This side's own state, by (device, inode).
    own: Option<(u64, u64)>,
}

/// Names of one directory that are still to be told of, the first one last.
struct Frame {
    path: Option<RelPath>,
    names: Vec<(Vec<u8>, io::Result<Stat>)>,
}

/// A directory from which something was removed, and what it was like before.
struct Touched<D: Disk> {
    dir: D::Dir,
    mode: u32,
    mtime: Timestamp,
    /// Something was removed from it.
    is_changed: bool,
}

impl<D: Rooted> Pruner<D> {
    /// Of a directory that need not be there. This side's state in `home` stays, should it lie below.
    pub(super) fn open(disk: &D, dir: &Path, home: &Path) -> Result<Pruner<D>, Error> {
        let root = open_root(disk, dir, |root| Ok((disk.mount_of(root)?, disk.stat_dir(root)?.device)))?;
        let id = |home: D::Dir| disk.stat_dir(&home).ok().map(|stat| (stat.device, stat.inode));
        let own = disk.open_root(home).ok().and_then(id);
        Ok(Pruner { disk: disk.clone(), root, own })
    }
}

impl<D: Disk> Pruner<D> {
    /// Tells what is below these directories, in as many parts as it takes: names sorted, a directory before what is in it.
    pub(super) fn scan<E>(
        &self,
        below: &[Option<RelPath>],
        tell: impl FnMut(Vec<Seen>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut out = Batches { seen: vec![], bytes: 0, tell };
        let Some((root, ..)) = &self.root else { return Ok(()) };
        for start in below {
            match self.open_dir(root, start.as_ref()) {
                Ok(dir) if self.is_mount(&dir) => out.put(Seen::Stays(start.clone(), Stays::Mount))?,
                Ok(dir) => self.scan_one(root, start.as_ref(), &dir, &mut out)?,
                Err(error) if is_no_directory(&error) => {}
                Err(_) => out.put(Seen::Stays(start.clone(), Stays::Unlisted))?,
            }
        }
        out.flush()
    }

    fn scan_one<E, T: FnMut(Vec<Seen>) -> Result<(), E>>(
        &self,
        root: &D::Dir,
        start: Option<&RelPath>,
        dir: &D::Dir,
        out: &mut Batches<T>,
    ) -> Result<(), E> {
        let mut stack = vec![];
        match self.frame(start.cloned(), dir) {
            Ok(frame) => stack.push(frame),
            Err(_) => return out.put(Seen::Stays(start.cloned(), Stays::Unlisted)),
        }
        while let Some(frame) = stack.last_mut() {
            let Some((name, stat)) = frame.names.pop() else {
                stack.pop();
                continue;
            };
            let above = frame.path.clone();
            let path = above.as_ref().map_or_else(|| RelPath::parse(&name), |above| above.join(&name));
            // Landfall's own state, or a path that no source can have.
            let Ok(path) = path else {
                out.put(Seen::Stays(above, Stays::Own))?;
                continue;
            };
            let stat = match stat {
                Ok(stat) => stat,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => {
                    out.put(Seen::Stays(Some(path), Stays::Unlisted))?;
                    continue;
                }
            };
            let entry = Seen::Entry(Entry {
                path: path.clone(),
                kind: stat.kind,
                size: if stat.kind == FileKind::Regular { stat.size } else { 0 },
                mtime: stat.mtime,
                inode: stat.inode,
            });
            if stat.kind != FileKind::Directory {
                out.put(entry)?;
                continue;
            }
            match self.open_dir(root, Some(&path)) {
                Ok(dir) if self.is_mount(&dir) => out.put(Seen::Stays(Some(path), Stays::Mount))?,
                Ok(_) if self.own == Some((stat.device, stat.inode)) => out.put(Seen::Stays(Some(path), Stays::Own))?,
                Ok(dir) => {
                    out.put(entry)?;
                    match self.frame(Some(path.clone()), &dir) {
                        Ok(frame) => stack.push(frame),
                        Err(_) => out.put(Seen::Stays(Some(path), Stays::Unlisted))?,
                    }
                }
                Err(_) => out.put(Seen::Stays(Some(path), Stays::Unlisted))?,
            }
        }
        Ok(())
    }

    fn frame(&self, path: Option<RelPath>, dir: &D::Dir) -> io::Result<Frame> {
        let mut names: Vec<Vec<u8>> = self.disk.list(dir)?.into_iter().map(|listed| listed.name).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.dedup();
        let find = |name: &[u8]| self.disk.stat(dir, name).ok().map(|stat| (stat.device, stat.inode));
        if folds_case(&names, find) {
            // A name that the source does not have may be another way to write one that it has.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let stat = |name: Vec<u8>| {
            let stat = self.disk.stat(dir, &name);
            (name, stat)
        };
        Ok(Frame { path, names: names.into_iter().map(stat).collect() })
    }

    fn open_dir(&self, root: &D::Dir, path: Option<&RelPath>) -> io::Result<D::Dir> {
        self.disk.open_dir(root, path.map_or(b"", RelPath::as_bytes))
    }

    /// Whether a directory is of another mount than the target. One of which that cannot be told is not entered either.
    fn is_mount(&self, dir: &D::Dir) -> bool {
        let Some((_, (mount, device))) = &self.root else { return true };
        // A subvolume is one too, which has the mount of what it lies in.
        let is_here = |dir: &D::Dir| {
            Ok::<_, io::Error>(self.disk.mount_of(dir)? == *mount && self.disk.stat_dir(dir)?.device == *device)
        };
        !is_here(dir).unwrap_or(false)
    }

    /// Removes entries one after another, and makes that durable. What became of each.
    pub(super) fn remove(&self, entries: &[Entry]) -> Vec<Fate> {
        let mut touched: BTreeMap<Option<RelPath>, Touched<D>> = BTreeMap::new();
        let mut fates: Vec<Fate> = vec![];
        for entry in entries {
            let fate = match self.remove_one(entry, &mut touched) {
                Ok(fate) => fate,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Fate::Gone,
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Fate::NotEmpty,
                Err(error) => Fate::Failed(error.to_string()),
            };
            if fate == Fate::Removed {
                touched.remove(&Some(entry.path.clone()));
                if let Some(above) = touched.get_mut(&entry.path.parent()) {
                    above.is_changed = true;
                }
            }
            fates.push(fate);
        }
        for (path, Touched { dir, mode, mtime, .. }) in touched.iter().filter(|(_, touched)| touched.is_changed) {
            // A directory keeps the time that it has at the source. Where that cannot be set, it is a time and no content.
            drop(self.disk.set_dir_metadata(dir, mode & PERMISSION_BITS, *mtime));
            if let Err(error) = self.disk.sync_dir(dir) {
                let below = entries.iter().zip(&mut fates).filter(|(entry, _)| entry.path.parent() == *path);
                let undone = below.filter(|(_, fate)| **fate == Fate::Removed);
                undone.for_each(|(_, fate)| *fate = Fate::Failed(format!("it may come back after a crash: {error}")));
            }
        }
        fates
    }

    fn remove_one(&self, entry: &Entry, touched: &mut BTreeMap<Option<RelPath>, Touched<D>>) -> io::Result<Fate> {
        let Some((root, ..)) = &self.root else { return Ok(Fate::Gone) };
        let parent = entry.path.parent();
        let dir = match touched.get(&parent) {
            Some(touched) => touched.dir.clone(),
            None => {
                let dir = match self.open_dir(root, parent.as_ref()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound && is_no_directory(&error) => {
                        return Ok(Fate::Changed);
                    }
                    opened => opened?,
                };
                if self.is_mount(&dir) {
                    return Ok(Fate::Changed);
                }
                let Stat { mode, mtime, .. } = self.disk.stat_dir(&dir)?;
                touched.insert(parent.clone(), Touched { dir: dir.clone(), mode, mtime, is_changed: false });
                dir
            }
        };
        let name = entry.path.name();
        if !is_still(entry, &self.disk.stat(&dir, name)?) {
            return Ok(Fate::Changed);
        }
        let remove = || match entry.kind {
            FileKind::Directory => self.disk.remove_dir(&dir, name),
            FileKind::Regular | FileKind::Symlink | FileKind::Special => self.disk.remove(&dir, name),
        };
        match (remove(), touched.get(&parent)) {
            (Err(error), Some(Touched { mode, mtime, .. })) if error.kind() == io::ErrorKind::PermissionDenied => {
                // The directory may be locked by a mode that it has from the source.
                let is_locked = mode & OWNER_BITS != OWNER_BITS;
                if !is_locked || self.disk.set_dir_metadata(&dir, mode & PERMISSION_BITS | OWNER_BITS, *mtime).is_err()
                {
                    return Err(error);
                }
                let removed = remove();
                // At once: whoever ends this process leaves no directory open.
                let locked = self.disk.set_dir_metadata(&dir, mode & PERMISSION_BITS, *mtime);
                removed.and(locked)?;
            }
            (removed, _) => removed?,
        }
        Ok(Fate::Removed)
    }
}

/// Whether a directory with these names finds one of them in other letters too, where that is no name of its own.
fn folds_case(names: &[Vec<u8>], find: impl Fn(&[u8]) -> Option<(u64, u64)>) -> bool {
    let pairs = names.iter().map(|name| (name, swapped(name)));
    // One name tells.
    let first = pairs.filter(|(name, other)| *name != other && !names.contains(other)).take(1);
    first.into_iter().any(|(name, other)| find(&other).is_some_and(|id| find(name) == Some(id)))
}

/// A name with small letters for capitals and capitals for small ones, of any script if it is text.
fn swapped(name: &[u8]) -> Vec<u8> {
    let swap = |letter: char| -> String {
        if letter.is_lowercase() { letter.to_uppercase().collect() } else { letter.to_lowercase().collect() }
    };
    let swap_byte =
        |byte: &u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    match std::str::from_utf8(name) {
        Ok(text) => text.chars().map(swap).collect::<String>().into_bytes(),
        Err(_) => name.iter().map(swap_byte).collect(),
    }
}

/// Whether a name still stands for what was listed. What is in a directory changes as it is emptied.
fn is_still(entry: &Entry, stat: &Stat) -> bool {
    let is_same = stat.kind == entry.kind && stat.inode == entry.inode;
    match entry.kind {
        FileKind::Directory => is_same,
        FileKind::Regular => is_same && stat.size == entry.size && stat.mtime == entry.mtime,
        FileKind::Symlink | FileKind::Special => is_same && stat.mtime == entry.mtime,
    }
}

/// Whether there is no directory of that name: nothing, a file, or a link.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Collects what was seen until a line is full.
struct Batches<T> {
    seen: Vec<Seen>,
    bytes: usize,
    tell: T,
}

impl<E, T: FnMut(Vec<Seen>) -> Result<(), E>> Batches<T> {
    fn put(&mut self, seen: Seen) -> Result<(), E> {
        let path = match &seen {
            Seen::Entry(entry) => Some(&entry.path),
            Seen::Stays(path, _) => path.as_ref(),
        };
        self.bytes += path.map_or(0, |path| path.as_bytes().len());
        self.seen.push(seen);
        let is_full = self.seen.len() >= DELETE_BATCH_ENTRIES || self.bytes >= DELETE_BATCH_BYTES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), E> {
        self.bytes = 0;
        match std::mem::take(&mut self.seen) {
            seen if seen.is_empty() => Ok(()),
            seen => (self.tell)(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_does_not_tell_letters_apart_is_noticed() {
        let names = |all: &[&str]| -> Vec<Vec<u8>> { all.iter().map(|name| name.as_bytes().to_vec()).collect() };
        let folding = |name: &[u8]| Some((1, name.to_ascii_lowercase().iter().map(|byte| u64::from(*byte)).sum()));
        assert!(folds_case(&names(&["1", "README"]), folding));
        assert!(!folds_case(&names(&["1", "2"]), folding));
        let exact = |name: &[u8]| (name == b"README").then_some((1, 1));
        assert!(!folds_case(&names(&["README"]), exact));
        assert!(folds_case(&names(&["лето"]), |_| Some((1, 1))));
        // Two names of one file.
        assert!(!folds_case(&names(&["a", "A"]), |_| Some((1, 1))));
    }
}
