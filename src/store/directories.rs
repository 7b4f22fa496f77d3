//! The target's directories: opened below the held root, made when they are missing, remembered for a while.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use crate::attributes::FileKind;
use crate::digest::{PathHash, path_hash};
use crate::disk::Disk;
use crate::outcome::Reason;
use crate::path::RelPath;

/// Directory handles that stay open.
const CACHED_MAX: usize = 512;
/// Permission that a directory needs to be written in by its owner.
const OWNER_BITS: u32 = 0o700;

/// A directory that an entry goes into.
pub(crate) struct Parent<D: Disk> {
    pub(crate) dir: D::Dir,
    /// Made by this process, so that nothing of anybody else can be in it.
    pub(crate) is_new: bool,
}

/// Handles below the target's root.
pub(crate) struct Directories<D: Disk> {
    disk: D,
    root: D::Dir,
    /// Device and inode of our own state directory: reached under another name, it is still ours.
    state: (u64, u64),
    cached: HashMap<Vec<u8>, D::Dir>,
    made: HashSet<PathHash>,
    /// Paths of directories in which some were met whose names this process has not synced yet; the root's is empty.
    unsynced: BTreeSet<Vec<u8>>,
}

impl<D: Disk> Directories<D> {
    pub(crate) fn new(disk: D, root: D::Dir, state: &D::Dir) -> io::Result<Directories<D>> {
        let stat = disk.stat_dir(state)?;
        Ok(Directories {
            disk,
            root,
            state: (stat.device, stat.inode),
            cached: HashMap::new(),
            made: HashSet::new(),
            unsynced: BTreeSet::new(),
        })
    }

    /// The directory that an entry goes into, with its ancestors made if need be.
    pub(crate) fn parent_of(&mut self, path: &RelPath) -> Result<Parent<D>, Reason> {
        match path.parent() {
            Some(parent) => self.open(&parent),
            None => Ok(Parent { dir: self.root.clone(), is_new: false }),
        }
    }

    /// A directory of the manifest, made with its ancestors if need be.
    pub(crate) fn open(&mut self, path: &RelPath) -> Result<Parent<D>, Reason> {
        if let Some(dir) = self.cached.get(path.as_bytes()) {
            return Ok(Parent { dir: dir.clone(), is_new: self.made.contains(&path_hash(path)) });
        }
        // From the deepest ancestor that is at hand downwards, without recursion: paths may be thousands deep.
        let mut missing = vec![path.clone()];
        let mut dir = self.root.clone();
        while let Some(parent) = missing.last().and_then(RelPath::parent) {
            if let Some(cached) = self.cached.get(parent.as_bytes()) {
                dir = cached.clone();
                break;
            }
            missing.push(parent);
        }
        if self.cached.len() + missing.len() > CACHED_MAX {
            self.cached.clear();
        }
        while let Some(next) = missing.pop() {
            dir = self.step(&dir, &next)?;
            if missing.len() < CACHED_MAX {
                self.cached.insert(next.as_bytes().to_vec(), dir.clone());
            }
        }
        Ok(Parent { dir, is_new: self.made.contains(&path_hash(path)) })
    }

    fn step(&mut self, parent: &D::Dir, path: &RelPath) -> Result<D::Dir, Reason> {
        let name = path.name();
        let made = self.disk.make_dir(parent, name, OWNER_BITS).or_else(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            self.let_in(path.parent())?;
            self.disk.make_dir(parent, name, OWNER_BITS)
        });
        match made {
            Ok(()) => {
                self.made.insert(path_hash(path));
                self.note_unsynced(path);
            }
            // It may have been made by an earlier run that ended before its name was synced.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.note_unsynced(path),
            // A directory that is there already may lie in one that we may only read, or making it fails for another
            // reason before it is looked for. It is no more durable for that.
            Err(error) => {
                if self.disk.stat(parent, name).is_err() {
                    return Err(reason_of(&error));
                }
                self.note_unsynced(path);
            }
        }
        let dir = match self.disk.open_dir(parent, name) {
            Ok(dir) => dir,
            Err(error) => {
                let is_directory = self.disk.stat(parent, name).is_ok_and(|stat| stat.kind == FileKind::Directory);
                return Err(if is_directory { reason_of(&error) } else { Reason::ParentLeftOut });
            }
        };
        match self.disk.stat_dir(&dir) {
            Ok(stat) if (stat.device, stat.inode) == self.state => Err(Reason::Collision),
            Ok(_) => Ok(dir),
            Err(error) => Err(reason_of(&error)),
        }
    }

    fn note_unsynced(&mut self, path: &RelPath) {
        self.unsynced.insert(path.parent().map_or(vec![], |parent| parent.as_bytes().to_vec()));
    }

    /// Gives the owner's bits back to a directory of the manifest: an earlier run may have set its final mode.
    pub(crate) fn let_in(&mut self, path: Option<RelPath>) -> io::Result<()> {
        let Some(path) = path else { return Err(io::ErrorKind::PermissionDenied.into()) };
        let parent = match path.parent() {
            Some(parent) => self.cached.get(parent.as_bytes()).cloned(),
            None => Some(self.root.clone()),
        };
        let parent = match (parent, path.parent()) {
            (Some(parent), _) => parent,
            (None, Some(parent)) => self.disk.open_dir(&self.root, parent.as_bytes())?,
            (None, None) => self.root.clone(),
        };
        let stat = self.disk.stat(&parent, path.name())?;
        if stat.kind != FileKind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.disk.set_mode(&parent, path.name(), (stat.mode & 0o777) | OWNER_BITS)
    }

    /// The parents of directories made since the last call: their names are still to be made durable.
    pub(crate) fn take_unsynced(&mut self) -> BTreeSet<Vec<u8>> {
        std::mem::take(&mut self.unsynced)
    }

    /// Making them durable has failed.
    pub(crate) fn put_back_unsynced(&mut self, paths: BTreeSet<Vec<u8>>) {
        self.unsynced.extend(paths);
    }

    /// A handle of a directory that was there before; `None` if it is no longer.
    pub(crate) fn reopen(&self, path: &[u8]) -> io::Result<Option<D::Dir>> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        if let Some(dir) = self.cached.get(path) {
            return Ok(Some(dir.clone()));
        }
        match self.disk.open_dir(&self.root, path) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What an error on the target's side means for the entry.
pub(crate) fn reason_of(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Reason::TargetDenied,
        io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => Reason::NameRefused,
        io::ErrorKind::CrossesDevices => Reason::OtherFileSystem,
        io::ErrorKind::NotADirectory | io::ErrorKind::NotFound => Reason::TargetChanged,
        _ => Reason::WriteFailed,
    }
}
