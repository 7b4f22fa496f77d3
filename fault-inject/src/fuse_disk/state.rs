//! What the lying disk does, one function for each request, without a word about the protocol of the kernel. Owns the
//! table of inodes and the power switch; faults come from the injector, names from [`Names`].

mod data;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, Timespec};
use rustix::io::Errno;

use super::faults::Kind;
use super::injector::Injector;
use super::names::{ATTIC, Name, Names, list};
use super::node::Node;
use crate::errno;

/// Number of the root below every mount of this kind.
pub(super) const ROOT: u64 = 1;
/// What a real inode 1 that is not the root is called.
const ONE: u64 = u64::MAX / 2;

/// A disk between a mount and BACKING.
#[derive(Debug)]
pub struct State {
    nodes: HashMap<u64, Node>,
    listings: HashMap<u64, Vec<(u64, FileType, OsString)>>,
    last_listing: u64,
    names: Names,
    device: u64,
    root_inode: u64,
    backing: PathBuf,
    dirty_pages: usize,
    is_off: bool,
    /// How often a file was made under each path.
    made: HashMap<String, u64>,
    /// Operations that changed something, since the mount.
    pub changes: u64,
    /// Faults and their counts.
    pub injector: Injector,
}

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Changes of names that never happened.
    pub names: u64,
    /// Pages that never reached the platter.
    pub pages: u64,
}

/// Which attributes a request changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<Timespec>,
    pub(super) mtime: Option<Timespec>,
}

/// Who asks: new inodes are theirs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) user: u32,
    pub(super) group: u32,
}

impl State {
    /// Over a directory that exists.
    pub(super) fn new(backing: &Path, injector: Injector) -> io::Result<State> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let held = rustix::fs::openat(CWD, backing, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&held)?;
        let names = Names::new(&held)?;
        let mut root = Node::new(held, &stat, String::new());
        root.lookups = 1;
        Ok(State {
            nodes: HashMap::from([(ROOT, root)]),
            listings: HashMap::new(),
            last_listing: 0,
            names,
            device: stat.st_dev,
            root_inode: stat.st_ino,
            backing: backing.to_owned(),
            dirty_pages: 0,
            is_off: false,
            made: HashMap::new(),
            changes: 0,
            injector,
        })
    }

    /// Has the power gone?
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// Files that were made under a path that had been used before, where the path contains this.
    pub fn remade(&self, part: &str) -> u64 {
        self.made.iter().filter(|(path, _)| path.contains(part)).map(|(_, times)| times - 1).sum()
    }

    /// Names that are not settled, and pages that are not synced.
    pub fn unsynced(&self) -> (usize, usize) {
        (self.names.pending(), self.nodes.values().map(Node::dirty_pages).sum())
    }

    fn number(&self, stat: &Stat) -> u64 {
        match stat.st_ino {
            own if own == self.root_inode => ROOT,
            1 => ONE,
            other => other,
        }
    }

    fn real_inode(&self, inode: u64) -> u64 {
        match inode {
            ROOT => self.root_inode,
            ONE => 1,
            other => other,
        }
    }

    fn node(&mut self, inode: u64) -> io::Result<&mut Node> {
        if self.is_off {
            return Err(errno::error(errno::EIO));
        }
        self.nodes.get_mut(&inode).ok_or_else(|| Errno::STALE.into())
    }

    fn name(&mut self, parent: u64, name: &OsStr) -> io::Result<(Name, String)> {
        if parent == ROOT && name == ATTIC {
            return Err(errno::error(errno::ENOENT));
        }
        let node = self.node(parent)?;
        let path = match node.path.as_str() {
            "" => name.to_string_lossy().into_owned(),
            above => format!("{above}/{}", name.to_string_lossy()),
        };
        Ok((Name { dir: Arc::clone(&node.held), dir_inode: parent, name: name.to_owned() }, path))
    }

    /// Asks before every change: a disk that is read-only refuses it, and the power may go.
    fn change(&mut self, path: &str) -> io::Result<()> {
        if self.is_off {
            return Err(errno::error(errno::EIO));
        }
        self.changes += 1;
        if self.injector.strike(Kind::PowerCut, path).is_some() {
            self.cut()?;
            return Err(errno::error(errno::EIO));
        }
        match self.injector.strike(Kind::ReadOnly, path) {
            Some(_) => Err(errno::error(errno::EROFS)),
            None => Ok(()),
        }
    }

    /// The power goes. BACKING holds what survives; everybody who has the disk open hears EIO from now on.
    pub fn cut(&mut self) -> io::Result<Loss> {
        if std::mem::replace(&mut self.is_off, true) {
            return Ok(Loss::default());
        }
        let pending = self.names.pending();
        let survive = match self.injector.dice().below("power", 3) {
            0 => 0,
            1 => self.injector.dice().below("power", pending + 1),
            _ => pending,
        };
        let mut loss = Loss { names: self.names.cut(survive)?, pages: 0 };
        let mut inodes: Vec<u64> = self.nodes.keys().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            let chance = self.injector.dice().stream("power");
            if let Some(node) = self.nodes.get_mut(&inode) {
                loss.pages += node.cut(chance)?;
            }
        }
        Ok(loss)
    }

    /// An orderly end: everything is synced, and nothing is left of the disk but what people put there.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !self.is_off {
            self.nodes.values_mut().try_for_each(Node::flush)?;
            self.names.settle_all()?;
            self.is_off = true;
        }
        super::names::remove_attic(&self.backing)
    }

    /// Everything that was written until now is synced, without a fault.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(errno::error(errno::EIO));
        }
        self.nodes.values_mut().try_for_each(Node::flush)?;
        self.dirty_pages = 0;
        self.names.settle_all()
    }

    /// Finds a name; it counts as one reference.
    pub(super) fn lookup(&mut self, parent: u64, name: &OsStr) -> io::Result<Stat> {
        let (name, path) = self.name(parent, name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(&*name.dir, &name.name, flags, Mode::empty())?;
        self.enter(held, path)
    }

    fn enter(&mut self, held: OwnedFd, path: String) -> io::Result<Stat> {
        let stat = rustix::fs::fstat(&held)?;
        if stat.st_dev != self.device {
            return Err(errno::error(errno::EXDEV));
        }
        let inode = self.number(&stat);
        let node = self.nodes.entry(inode).or_insert_with(|| Node::new(held, &stat, String::new()));
        node.lookups += 1;
        node.path = path;
        self.stat(inode)
    }

    /// Some references less.
    pub(super) fn forget(&mut self, inode: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 && node.opens == 0 && inode != ROOT && (self.is_off || !node.is_dirty()) {
            self.nodes.remove(&inode);
        }
    }

    /// What `stat` gives; `st_ino` is the number below the mount.
    pub(super) fn stat(&mut self, inode: u64) -> io::Result<Stat> {
        let mut stat = self.node(inode)?.stat()?;
        let hidden = self.names.kept_links(self.real_inode(inode));
        stat.st_nlink = stat.st_nlink.saturating_sub(hidden);
        stat.st_ino = inode;
        Ok(stat)
    }

    /// Changes attributes.
    pub(super) fn set(&mut self, inode: u64, wish: &Wish) -> io::Result<Stat> {
        let path = self.node(inode)?.path.clone();
        self.change(&path)?;
        let node = self.node(inode)?;
        if wish.owner.is_some() || wish.group.is_some() {
            let user = wish.owner.map(rustix::fs::Uid::from_raw);
            let group = wish.group.map(rustix::fs::Gid::from_raw);
            rustix::fs::chownat(&*node.held, "", user, group, AtFlags::EMPTY_PATH)?;
        }
        if let Some(size) = wish.size {
            node.open()?;
            node.set_size(size);
        }
        if let Some(mode) = wish.mode {
            node.set_mode(mode)?;
        }
        if wish.atime.is_some() || wish.mtime.is_some() {
            node.set_times(wish.atime, wish.mtime)?;
        }
        node.changed();
        self.stat(inode)
    }

    /// Where a link points.
    pub(super) fn read_link(&mut self, inode: u64) -> io::Result<Vec<u8>> {
        let node = self.node(inode)?;
        Ok(rustix::fs::readlinkat(&*node.held, "", Vec::new())?.into_bytes())
    }

    fn own(&self, held: &OwnedFd, caller: Caller) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() || (caller.user == 0 && caller.group == 0) {
            return Ok(());
        }
        let (user, group) = (rustix::fs::Uid::from_raw(caller.user), rustix::fs::Gid::from_raw(caller.group));
        Ok(rustix::fs::chownat(held, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?)
    }

    /// Asks before a name is made.
    fn making(&mut self, parent: u64, name: &OsStr) -> io::Result<(Name, String)> {
        let (name, path) = self.name(parent, name)?;
        self.change(&path)?;
        match self.injector.strike(Kind::CreateFail, &path) {
            Some(fault) => Err(errno::error(fault.errno)),
            None => Ok((name, path)),
        }
    }

    /// After a name was made: enters its inode.
    fn made(&mut self, name: Name, path: String, caller: Caller) -> io::Result<Stat> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(&*name.dir, &name.name, flags, Mode::empty())?;
        self.own(&held, caller)?;
        let inode = rustix::fs::fstat(&held)?.st_ino;
        self.names.made(name, inode);
        self.enter(held, path)
    }

    /// Makes a file and opens it; an existing one is only opened unless `is_exclusive`.
    pub(super) fn create(
        &mut self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        is_exclusive: bool,
        caller: Caller,
    ) -> io::Result<Stat> {
        let (name, path) = self.making(parent, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = Mode::RUSR | Mode::WUSR;
        let stat = match rustix::fs::openat(&*name.dir, &name.name, flags, own) {
            Ok(made) => {
                *self.made.entry(path.clone()).or_default() += 1;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o7777))?;
                let stat = self.made(name, path, caller)?;
                self.node(stat.st_ino)?.adopt(File::from(made));
                stat
            }
            Err(Errno::EXIST) if !is_exclusive => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let held = rustix::fs::openat(&*name.dir, &name.name, flags, Mode::empty())?;
                self.enter(held, path)?
            }
            Err(error) => return Err(error.into()),
        };
        self.node(stat.st_ino)?.opens += 1;
        Ok(stat)
    }

    /// Makes a special file, or an empty regular one.
    pub(super) fn make_node(&mut self, parent: u64, name: &OsStr, mode: u32, caller: Caller) -> io::Result<Stat> {
        let (name, path) = self.making(parent, name)?;
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM.into());
        }
        rustix::fs::mknodat(&*name.dir, &name.name, kind, Mode::from_raw_mode(mode & 0o7777), 0)?;
        rustix::fs::chmodat(&*name.dir, &name.name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
        self.made(name, path, caller)
    }

    /// Makes a directory.
    pub(super) fn make_dir(&mut self, parent: u64, name: &OsStr, mode: u32, caller: Caller) -> io::Result<Stat> {
        let (name, path) = self.making(parent, name)?;
        rustix::fs::mkdirat(&*name.dir, &name.name, Mode::RWXU)?;
        rustix::fs::chmodat(&*name.dir, &name.name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
        self.made(name, path, caller)
    }

    /// Makes a symlink.
    pub(super) fn make_link(&mut self, parent: u64, name: &OsStr, to: &Path, caller: Caller) -> io::Result<Stat> {
        let (name, path) = self.making(parent, name)?;
        rustix::fs::symlinkat(to, &*name.dir, &name.name)?;
        self.made(name, path, caller)
    }

    /// Gives an inode another name.
    pub(super) fn link(&mut self, inode: u64, parent: u64, name: &OsStr) -> io::Result<Stat> {
        let (name, path) = self.making(parent, name)?;
        let source = self.node(inode)?.proc_path();
        rustix::fs::linkat(CWD, source, &*name.dir, &name.name, AtFlags::SYMLINK_FOLLOW)?;
        self.node(inode)?.changed();
        self.made(name, path, Caller { user: 0, group: 0 })
    }

    /// Removes a name.
    pub(super) fn remove(&mut self, parent: u64, name: &OsStr, is_directory: bool) -> io::Result<()> {
        let (name, path) = self.name(parent, name)?;
        self.change(&path)?;
        let removed = rustix::fs::statat(&*name.dir, &name.name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.names.remove(name, is_directory)?;
        let number = self.number(&removed);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.changed();
        }
        Ok(())
    }

    /// How long the next rename of that name takes.
    pub(super) fn rename_delay(&mut self, parent: u64, name: &OsStr) -> Option<Duration> {
        let (_, path) = self.name(parent, name).ok()?;
        Some(self.injector.strike(Kind::RenameSlow, &path)?.delay)
    }

    /// Renames.
    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> io::Result<()> {
        let (old, old_path) = self.name(from.0, from.1)?;
        let (new, new_path) = self.name(to.0, to.1)?;
        self.change(&new_path)?;
        if let Some(fault) = self.injector.strike(Kind::RenameFail, &format!("{old_path}\n{new_path}")) {
            return Err(errno::error(fault.errno));
        }
        let moved = rustix::fs::statat(&*old.dir, &old.name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.names.rename(old, new, flags)?;
        let number = self.number(&moved);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.path = new_path;
            node.changed();
        }
        Ok(())
    }

    /// Opens a directory: its names as they are now, under a handle.
    pub(super) fn open_dir(&mut self, inode: u64) -> io::Result<u64> {
        let held = Arc::clone(&self.node(inode)?.held);
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let names = list(rustix::fs::openat(&*held, ".", flags, Mode::empty())?)?;
        let is_shown = |name: &OsStr| inode != ROOT || name != ATTIC;
        let shown = names.into_iter().filter(|(name, _, _)| is_shown(name));
        let mut entries: Vec<_> = shown.map(|(name, kind, number)| (number, kind, name)).collect();
        entries.push((inode, FileType::Directory, ".".into()));
        entries.push((inode, FileType::Directory, "..".into()));
        self.last_listing += 1;
        self.listings.insert(self.last_listing, entries);
        Ok(self.last_listing)
    }

    /// The names under a handle.
    pub(super) fn listing(&self, handle: u64) -> &[(u64, FileType, OsString)] {
        self.listings.get(&handle).map_or(&[], Vec::as_slice)
    }

    /// Closes a directory.
    pub(super) fn release_dir(&mut self, handle: u64) {
        self.listings.remove(&handle);
    }

    /// Space of BACKING, less where the disk is to be full.
    pub(super) fn space(&mut self) -> io::Result<rustix::fs::StatVfs> {
        let room = self.injector.room();
        let mut space = rustix::fs::fstatvfs(&*self.node(ROOT)?.held)?;
        if let Some(room) = room {
            let blocks = room / space.f_frsize.max(1);
            space.f_bavail = space.f_bavail.min(blocks);
            space.f_bfree = space.f_bfree.min(blocks);
        }
        Ok(space)
    }
}
