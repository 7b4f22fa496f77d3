//! What the calls on names do: lookup, creation, rename, removal, and the sync of a directory. A change of a name is
//! live at once and stays pending until its directory is synced.

use std::io;

use landfall::attributes::{FileKind, Timestamp};
use landfall::disk::{Access, Listed};
use landfall::limits::COMPONENT_BYTES_MAX;
use rand::seq::SliceRandom;

use super::dials::SimFault;
use super::inode::{Body, Change, Content, Directory, RenameHalf};
use super::state::State;
use crate::errno::{EACCES, EEXIST, EINVAL, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, error};
use crate::operation::Operation;

/// Mode bits of the owner.
const READ: u32 = 0o400;
const WRITE: u32 = 0o200;
const SEARCH: u32 = 0o100;
/// Mode bits that a program may set.
const PERMISSION_BITS: u32 = 0o777;

/// What a rename does about an existing target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Keep,
    Replace,
}

/// One name in one directory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: u64,
    pub(super) name: &'a [u8],
}

fn parse_name(name: &[u8]) -> io::Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(error(EINVAL));
    }
    if name.len() > COMPONENT_BYTES_MAX { Err(error(ENAMETOOLONG)) } else { Ok(()) }
}

impl State {
    /// The inode of a name.
    pub(super) fn lookup(&self, place: Place<'_>) -> io::Result<u64> {
        self.entry(place)?.ok_or_else(|| error(ENOENT))
    }

    fn entry(&self, place: Place<'_>) -> io::Result<Option<u64>> {
        parse_name(place.name)?;
        let directory = self.directory(place.dir)?;
        self.permit(place.dir, SEARCH)?;
        Ok(directory.live.get(place.name).copied())
    }

    fn permit(&self, inode: u64, bits: u32) -> io::Result<()> {
        if self.inode(inode).meta.mode & bits == bits { Ok(()) } else { Err(error(EACCES)) }
    }

    /// A directory below another; the empty path is that one again.
    pub(super) fn walk(&self, dir: u64, path: &[u8]) -> io::Result<u64> {
        let mut at = dir;
        if path.is_empty() {
            return Ok(at);
        }
        path.split(|&byte| byte == b'/').try_for_each(parse_name)?;
        for name in path.split(|&byte| byte == b'/') {
            at = self.lookup(Place { dir: at, name })?;
            match self.inode(at).kind() {
                FileKind::Directory => {}
                FileKind::Symlink => return Err(error(ELOOP)),
                FileKind::Regular | FileKind::Special => return Err(error(ENOTDIR)),
            }
        }
        Ok(at)
    }

    /// The names of a directory in an order that nobody may rely on.
    pub(super) fn list(&mut self, dir: u64) -> io::Result<Vec<Listed>> {
        self.permit(dir, READ)?;
        let mut names: Vec<Listed> =
            self.directory(dir)?.live.keys().map(|name| Listed { name: name.clone() }).collect();
        names.shuffle(self.dice.stream("list"));
        Ok(names)
    }

    /// A regular file to be opened.
    pub(super) fn open(&self, place: Place<'_>, access: Access) -> io::Result<u64> {
        let inode = self.lookup(place)?;
        match self.inode(inode).kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(error(EISDIR)),
            FileKind::Symlink => return Err(error(ELOOP)),
            FileKind::Special => return Err(error(EINVAL)),
        }
        self.permit(inode, if access == Access::Read { READ } else { READ | WRITE })?;
        Ok(inode)
    }

    /// A place where a name may be made, removed or replaced.
    fn writable(&self, place: Place<'_>) -> io::Result<Option<u64>> {
        let existing = self.entry(place)?;
        self.permit(place.dir, WRITE | SEARCH)?;
        if self.inode(place.dir).links == 0 { Err(error(ENOENT)) } else { Ok(existing) }
    }

    fn make(&mut self, place: Place<'_>, body: Body, mode: u32) -> io::Result<u64> {
        if self.writable(place)?.is_some() {
            return Err(error(EEXIST));
        }
        self.fails_by(SimFault::NameFails)?;
        let inode = self.make_inode(body, mode)?;
        self.set_entry(place, Some(inode), None);
        Ok(inode)
    }

    pub(super) fn make_file(&mut self, place: Place<'_>) -> io::Result<u64> {
        self.make(place, Body::File(Content::default()), 0o600)
    }

    pub(super) fn make_dir(&mut self, place: Place<'_>, mode: u32) -> io::Result<u64> {
        self.make(place, Body::Directory(Directory::default()), mode & PERMISSION_BITS)
    }

    pub(super) fn make_symlink(&mut self, target: &[u8], place: Place<'_>) -> io::Result<u64> {
        parse_name(place.name)?;
        if target.is_empty() {
            return Err(error(ENOENT));
        }
        if target.contains(&0) {
            return Err(error(EINVAL));
        }
        self.make(place, Body::Symlink(target.to_vec()), 0o777)
    }

    pub(super) fn make_special(&mut self, place: Place<'_>) -> io::Result<u64> {
        self.make(place, Body::Special, 0o600)
    }

    pub(super) fn read_link(&self, place: Place<'_>) -> io::Result<Vec<u8>> {
        match &self.inode(self.lookup(place)?).body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(error(EINVAL)),
        }
    }

    pub(super) fn remove(&mut self, place: Place<'_>) -> io::Result<()> {
        let inode = self.writable(place)?.ok_or_else(|| error(ENOENT))?;
        if self.inode(inode).kind() == FileKind::Directory {
            return Err(error(EISDIR));
        }
        self.fails_by(SimFault::NameFails)?;
        self.set_entry(place, None, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, place: Place<'_>) -> io::Result<()> {
        let inode = self.writable(place)?.ok_or_else(|| error(ENOENT))?;
        if !self.directory(inode)?.live.is_empty() {
            return Err(error(ENOTEMPTY));
        }
        self.fails_by(SimFault::NameFails)?;
        self.set_entry(place, None, None);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: Place<'_>, to: Place<'_>, existing: Target) -> io::Result<()> {
        parse_name(from.name)?;
        parse_name(to.name)?;
        let inode = self.writable(from)?.ok_or_else(|| error(ENOENT))?;
        let target = self.writable(to)?;
        if target.is_some() && existing == Target::Keep {
            return Err(error(EEXIST));
        }
        let is_directory = self.inode(inode).kind() == FileKind::Directory;
        if is_directory && self.lies_within(to.dir, inode) {
            return Err(error(EINVAL));
        }
        if let Some(target) = target.filter(|&target| target != inode) {
            self.permit_replacing(target, from, is_directory)?;
        }
        self.fails_by(SimFault::NameFails)?;
        if target == Some(inode) {
            // Two names of one file, or one name twice: rename(2) does nothing and says yes.
            return Ok(());
        }
        self.renames += 1;
        let half = |other: u64| RenameHalf { id: self.renames, inseparable_from: is_directory.then_some(other) };
        let (here, there) = (half(to.dir), half(from.dir));
        self.set_entry(to, Some(inode), Some(there));
        self.set_entry(from, None, Some(here));
        let now = self.tick();
        self.inode_mut(inode).meta.ctime = now;
        Ok(())
    }

    fn permit_replacing(&self, target: u64, from: Place<'_>, by_directory: bool) -> io::Result<()> {
        let Body::Directory(directory) = &self.inode(target).body else {
            return if by_directory { Err(error(ENOTDIR)) } else { Ok(()) };
        };
        if self.lies_within(from.dir, target) {
            return Err(error(ENOTEMPTY));
        }
        match (by_directory, directory.live.is_empty()) {
            (false, _) => Err(error(EISDIR)),
            (true, false) => Err(error(ENOTEMPTY)),
            (true, true) => Ok(()),
        }
    }

    fn lies_within(&self, dir: u64, ancestor: u64) -> bool {
        let mut unseen = vec![ancestor];
        while let Some(at) = unseen.pop() {
            if at == dir {
                return true;
            }
            if let Body::Directory(directory) = &self.inode(at).body {
                unseen.extend(directory.live.values());
            }
        }
        false
    }

    /// The one place where a name changes: live now, durable after the next sync of the directory.
    pub(super) fn set_entry(&mut self, place: Place<'_>, to: Option<u64>, rename: Option<RenameHalf>) {
        let now = self.tick();
        let name = place.name.to_vec();
        let directory = self.directory_mut(place.dir);
        directory.pending.push(Change { name: name.clone(), to, rename });
        let before = match to {
            Some(inode) => directory.live.insert(name, inode),
            None => directory.live.remove(&name),
        };
        let meta = &mut self.inode_mut(place.dir).meta;
        meta.mtime = now;
        meta.ctime = now;
        if let Some(inode) = to {
            let object = self.inode_mut(inode);
            object.links += 1;
            object.kept += 1;
        }
        if let Some(inode) = before {
            let object = self.inode_mut(inode);
            object.links -= 1;
            object.meta.ctime = now;
            self.release(inode);
        }
    }

    /// What a sync of a directory promises, with the faults that break the promise.
    pub(super) fn sync_dir(&mut self, dir: u64) -> io::Result<()> {
        if self.skips(Operation::SyncDir, b"") || self.strikes(SimFault::SyncLies) {
            return Ok(());
        }
        self.fails_by(SimFault::SyncDirFails)?;
        self.settle_dir(dir);
        Ok(())
    }

    /// Makes the names and the metadata of a directory durable.
    pub(super) fn settle_dir(&mut self, dir: u64) {
        let object = self.inode_mut(dir);
        object.durable_meta = object.meta;
        let pending = std::mem::take(&mut self.directory_mut(dir).pending);
        let mut partners = Vec::new();
        for change in pending {
            partners.extend(change.rename.and_then(|half| half.inseparable_from));
            self.settle_change(dir, change);
        }
        for partner in partners.into_iter().filter(|&partner| partner != dir) {
            if self.inodes.contains_key(&partner) {
                self.settle_dir(partner);
            }
        }
    }

    fn settle_change(&mut self, dir: u64, change: Change) {
        let directory = self.directory_mut(dir);
        let before = match change.to {
            Some(inode) => directory.durable.insert(change.name, inode),
            None => directory.durable.remove(&change.name),
        };
        if let Some(inode) = before {
            self.unkeep(inode);
        }
    }

    /// Makes one name durable and leaves the other changes of its directory pending. For set-up by the oracle.
    pub(super) fn settle_name(&mut self, place: Place<'_>) {
        let directory = self.directory_mut(place.dir);
        let (ours, others): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut directory.pending).into_iter().partition(|change| change.name == place.name);
        directory.pending = others;
        for change in ours {
            self.settle_change(place.dir, change);
        }
    }

    /// Mode and time of an object. Only the bits that a program may set arrive.
    pub(super) fn set_metadata(&mut self, inode: u64, mode: Option<u32>, mtime: Option<Timestamp>) -> io::Result<()> {
        if mtime.is_some_and(|mtime| mtime.nanos >= 1_000_000_000) {
            return Err(error(EINVAL));
        }
        let now = self.tick();
        let meta = &mut self.inode_mut(inode).meta;
        meta.mode = mode.map_or(meta.mode, |mode| mode & PERMISSION_BITS);
        meta.mtime = mtime.unwrap_or(meta.mtime);
        meta.ctime = now;
        Ok(())
    }

    pub(super) fn set_mode(&mut self, place: Place<'_>, mode: u32) -> io::Result<()> {
        let inode = self.lookup(place)?;
        if self.inode(inode).kind() == FileKind::Symlink {
            return Err(error(ELOOP));
        }
        self.set_metadata(inode, Some(mode), None)
    }

    /// Makes everything durable, as one sync of the whole file system; one file may fail.
    pub(super) fn sync_file_system(&mut self, seen_errors: &mut u64) -> io::Result<()> {
        if self.skips(Operation::SyncFileSystem, b"") || self.strikes(SimFault::SyncLies) {
            return Ok(());
        }
        let numbers: Vec<u64> = self.inodes.keys().copied().collect();
        let dirty: Vec<u64> = numbers.iter().copied().filter(|&number| self.has_dirty_pages(number)).collect();
        let victim = if !dirty.is_empty() && self.strikes(SimFault::SyncFails) {
            Some(dirty[self.dice.below("sync victim", dirty.len())])
        } else {
            None
        };
        for number in numbers {
            // Settling one directory may release what another name kept.
            let Some(object) = self.inodes.get(&number) else { continue };
            let kind = object.kind();
            if Some(number) == victim {
                self.lose_dirty_pages(number);
                continue;
            }
            match kind {
                FileKind::Regular => self.settle_file(number),
                FileKind::Directory => self.settle_dir(number),
                FileKind::Symlink | FileKind::Special => {
                    let object = self.inode_mut(number);
                    object.durable_meta = object.meta;
                }
            }
        }
        if *seen_errors == self.write_back_errors {
            return Ok(());
        }
        *seen_errors = self.write_back_errors;
        Err(error(EIO))
    }
}
