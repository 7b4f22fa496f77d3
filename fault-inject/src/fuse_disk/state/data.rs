//! What happens to the bytes of files: reading, writing, reserving and syncing, each with its faults.

use std::io;
use std::time::Duration;

use rand::Rng;
use rustix::io::Errno;

use super::State;
use crate::errno;
use crate::fuse_disk::faults::{Fault, Kind};
use crate::fuse_disk::injector::{Place, Written};
use crate::fuse_disk::node::Node;

/// Pages in memory from which on the disk writes back by itself, as a kernel does: 1 GiB.
const DIRTY_PAGES_MAX: usize = 1 << 18;

impl State {
    /// Opens a file's bytes.
    pub(in crate::fuse_disk) fn open(&mut self, inode: u64, is_truncating: bool) -> io::Result<()> {
        let path = self.node(inode)?.path.clone();
        if is_truncating {
            self.change(&path)?;
        }
        let node = self.node(inode)?;
        node.open()?;
        node.opens += 1;
        if is_truncating {
            node.set_size(0);
        }
        Ok(())
    }

    /// One descriptor less.
    pub(in crate::fuse_disk) fn release(&mut self, inode: u64) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        node.opens = node.opens.saturating_sub(1);
        node.rest();
        self.forget(inode, 0);
    }

    /// Reads.
    pub(in crate::fuse_disk) fn read(&mut self, inode: u64, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let node = self.node(inode)?;
        let mut data = node.read(offset, len)?;
        let (path, size) = (node.path.clone(), node.size());
        let place = Place { inode, path: &path, offset, size };
        self.injector.read(place, &mut data).map_err(errno::error)?;
        Ok(data)
    }

    /// Writes; gives how many bytes were taken.
    pub(in crate::fuse_disk) fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> io::Result<usize> {
        let node = self.node(inode)?;
        let (path, size) = (node.path.clone(), node.size());
        self.change(&path)?;
        let mut changed = data.to_vec();
        let place = Place { inode, path: &path, offset, size };
        let written = self.injector.write(place, &mut changed).map_err(errno::error)?;
        let node = self.node(inode)?;
        let before = node.dirty_pages();
        let taken = match written {
            Written::Stored(taken) => {
                node.write(offset, &changed[..taken])?;
                taken
            }
            Written::Lost => data.len(),
            Written::Elsewhere(target) => {
                node.write(target, &changed)?;
                data.len()
            }
        };
        node.grow(offset + taken as u64);
        self.dirty_pages += node.dirty_pages().saturating_sub(before);
        if self.dirty_pages > DIRTY_PAGES_MAX {
            self.nodes.values_mut().try_for_each(Node::flush)?;
            self.dirty_pages = 0;
        }
        Ok(taken)
    }

    /// Reserves, extends or punches.
    pub(in crate::fuse_disk) fn allocate(&mut self, inode: u64, offset: u64, len: u64, mode: i32) -> io::Result<()> {
        const KEEP_SIZE: i32 = 1;
        const PUNCH_HOLE: i32 = 2;
        let path = self.node(inode)?.path.clone();
        self.change(&path)?;
        if mode == KEEP_SIZE | PUNCH_HOLE {
            return self.node(inode)?.zero(offset, len);
        }
        if mode & !KEEP_SIZE != 0 {
            return Err(Errno::OPNOTSUPP.into());
        }
        if let Some(errno) = self.injector.full(&path, len) {
            return Err(errno::error(errno));
        }
        if mode & KEEP_SIZE == 0 {
            self.node(inode)?.grow(offset.saturating_add(len));
        }
        Ok(())
    }

    /// How long the next sync of that inode takes.
    pub(in crate::fuse_disk) fn sync_delay(&mut self, inode: u64) -> Option<Duration> {
        let path = self.node(inode).ok()?.path.clone();
        Some(self.injector.strike(Kind::SyncSlow, &path)?.delay)
    }

    /// Syncs a file.
    pub(in crate::fuse_disk) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let path = self.node(inode)?.path.clone();
        self.change(&path)?;
        if !self.node(inode)?.is_dirty() {
            return Ok(());
        }
        if let Some(fault) = self.injector.strike(Kind::SyncFail, &path) {
            self.node(inode)?.forget_pages()?;
            return Err(errno::error(fault.errno));
        }
        if self.injector.strike(Kind::SyncLie, &path).is_some() {
            return Ok(());
        }
        self.node(inode)?.flush()?;
        match self.injector.rot(&path) {
            Some(fault) => self.rot(inode, &fault),
            None => Ok(()),
        }
    }

    /// Bytes of a file change on the platter; of an empty one none.
    pub(in crate::fuse_disk) fn rot(&mut self, inode: u64, fault: &Fault) -> io::Result<()> {
        const REACH: usize = 64 << 10;
        let node = self.nodes.get_mut(&inode).ok_or(Errno::STALE)?;
        let size = node.platter_bytes();
        if size == 0 {
            return Ok(());
        }
        let path = node.path.clone();
        let chance = self.injector.dice().stream("rot");
        let at = chance.random_range(0..size);
        let start = at - at % REACH as u64;
        let within = usize::try_from(at - start).unwrap_or(0);
        let mut len = 0;
        let damage = |bytes: &mut [u8]| len = fault.size.apply_at(bytes, within, chance) as u64;
        node.alter(start, REACH, damage)?;
        self.injector.rotted(&path, at, len);
        Ok(())
    }

    /// Syncs a directory.
    pub(in crate::fuse_disk) fn sync_dir(&mut self, inode: u64) -> io::Result<()> {
        let path = self.node(inode)?.path.clone();
        self.change(&path)?;
        if let Some(fault) = self.injector.strike(Kind::DirSyncFail, &path) {
            return Err(errno::error(fault.errno));
        }
        if self.injector.strike(Kind::DirSyncLie, &path).is_some() {
            return Ok(());
        }
        self.names.settle(inode)
    }
}
