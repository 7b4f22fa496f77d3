//! The storage seam over the simulated state: directory and file handles, and the traits. Each call takes the lock,
//! passes the gate that counts and fails operations, and does one thing. Nothing is decided here.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use landfall::attributes::{Level, Timestamp};
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile, Extent, Listed, Space, Stat};

use super::names::{Place, Target};
use super::state::State;
use super::{SimDisk, lock};
use crate::errno::{EBADF, error};
use crate::operation::Operation;

/// A reference from a handle to an inode; keeps the inode alive while its generation lives.
#[derive(Debug)]
struct Hold {
    state: Arc<Mutex<State>>,
    inode: u64,
    generation: u64,
}

impl Hold {
    /// Must not be dropped while the lock is held: callers make it last.
    fn new(shared: &Arc<Mutex<State>>, state: &mut State, inode: u64) -> Hold {
        state.hold(inode);
        Hold { state: shared.clone(), inode, generation: state.generation }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.state).unhold(self.inode, self.generation);
    }
}

/// A held directory of a [`SimDisk`].
#[derive(Clone, Debug)]
pub struct SimDir {
    hold: Arc<Hold>,
    /// Write-back errors of the file system that this open directory has heard of.
    seen_errors: Arc<AtomicU64>,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    hold: Hold,
    name: Vec<u8>,
    access: Access,
    at_open: Stat,
    /// Write-back errors of the file that this handle has heard of.
    seen_errors: AtomicU64,
}

impl SimDir {
    pub(super) fn new(shared: &Arc<Mutex<State>>, state: &mut State, inode: u64) -> SimDir {
        let seen_errors = Arc::new(AtomicU64::new(state.write_back_errors));
        SimDir { hold: Arc::new(Hold::new(shared, state, inode)), seen_errors }
    }

    fn place<'a>(&self, name: &'a [u8]) -> Place<'a> {
        Place { dir: self.hold.inode, name }
    }
}

impl SimFile {
    fn new(shared: &Arc<Mutex<State>>, state: &mut State, inode: u64, name: &[u8], access: Access) -> SimFile {
        let seen = state.content(inode).map_or(0, |content| content.write_back_errors);
        let hold = Hold::new(shared, state, inode);
        SimFile { hold, name: name.to_vec(), access, at_open: state.stat(inode), seen_errors: AtomicU64::new(seen) }
    }

    fn act<T>(&self, operation: Operation, run: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = lock(&self.hold.state);
        state.begin(operation, self.hold.generation)?;
        run(&mut state, self.hold.inode)
    }

    fn change<T>(&self, operation: Operation, run: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        self.act(
            operation,
            |state, inode| {
                if self.access == Access::Write { run(state, inode) } else { Err(error(EBADF)) }
            },
        )
    }

    fn sync_as(&self, operation: Operation) -> io::Result<()> {
        self.act(operation, |state, inode| {
            let mut seen = self.seen_errors.load(Ordering::Relaxed);
            let result = state.sync(inode, &self.name, operation, &mut seen);
            self.seen_errors.store(seen, Ordering::Relaxed);
            result
        })
    }
}

/// One operation on a held directory.
fn act<T>(dir: &SimDir, operation: Operation, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
    let mut state = lock(&dir.hold.state);
    state.begin(operation, dir.hold.generation)?;
    run(&mut state)
}

/// One operation on two held directories.
fn act_on_both(
    from: &SimDir,
    to: &SimDir,
    operation: Operation,
    run: impl FnOnce(&mut State) -> io::Result<()>,
) -> io::Result<()> {
    assert!(Arc::ptr_eq(&from.hold.state, &to.hold.state), "both directories are of one simulated disk");
    // Of two handles the older generation decides: a dead one must not act.
    let dir = if from.hold.generation <= to.hold.generation { from } else { to };
    act(dir, operation, run)
}

impl Disk for SimDisk {
    type Dir = SimDir;
    type File = SimFile;

    fn open_dir(&self, dir: &SimDir, path: &[u8]) -> io::Result<SimDir> {
        act(dir, Operation::OpenDir, |state| {
            let inode = state.walk(dir.hold.inode, path)?;
            Ok(SimDir::new(&dir.hold.state, state, inode))
        })
    }

    fn make_dir(&self, dir: &SimDir, name: &[u8], mode: u32) -> io::Result<()> {
        act(dir, Operation::MakeDir, |state| state.make_dir(dir.place(name), mode).map(drop))
    }

    fn list(&self, dir: &SimDir) -> io::Result<Vec<Listed>> {
        act(dir, Operation::List, |state| state.list(dir.hold.inode))
    }

    fn stat(&self, dir: &SimDir, name: &[u8]) -> io::Result<Stat> {
        act(dir, Operation::Stat, |state| state.lookup(dir.place(name)).map(|inode| state.stat(inode)))
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<Stat> {
        act(dir, Operation::StatDir, |state| Ok(state.stat(dir.hold.inode)))
    }

    fn open(&self, dir: &SimDir, name: &[u8], access: Access) -> io::Result<SimFile> {
        act(dir, Operation::Open, |state| {
            let inode = state.open(dir.place(name), access)?;
            Ok(SimFile::new(&dir.hold.state, state, inode, name, access))
        })
    }

    fn create_exclusive(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        act(dir, Operation::Create, |state| {
            let inode = state.make_file(dir.place(name))?;
            Ok(SimFile::new(&dir.hold.state, state, inode, name, Access::Write))
        })
    }

    fn rename_noreplace(&self, from: &SimDir, name: &[u8], to: &SimDir, new: &[u8]) -> io::Result<()> {
        act_on_both(from, to, Operation::RenameNoReplace, |state| {
            state.rename(from.place(name), to.place(new), Target::Keep)
        })
    }

    fn replace(&self, from: &SimDir, name: &[u8], to: &SimDir, new: &[u8]) -> io::Result<()> {
        act_on_both(from, to, Operation::Replace, |state| {
            state.rename(from.place(name), to.place(new), Target::Replace)
        })
    }

    fn make_symlink(&self, target: &[u8], dir: &SimDir, name: &[u8]) -> io::Result<()> {
        act(dir, Operation::MakeSymlink, |state| state.make_symlink(target, dir.place(name)).map(drop))
    }

    fn read_link(&self, dir: &SimDir, name: &[u8]) -> io::Result<Vec<u8>> {
        act(dir, Operation::ReadLink, |state| state.read_link(dir.place(name)))
    }

    fn remove(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        act(dir, Operation::Remove, |state| state.remove(dir.place(name)))
    }

    fn remove_dir(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        act(dir, Operation::RemoveDir, |state| state.remove_dir(dir.place(name)))
    }

    fn sync_dir(&self, dir: &SimDir) -> io::Result<()> {
        act(dir, Operation::SyncDir, |state| state.sync_dir(dir.hold.inode))
    }

    fn sync_file_system(&self, dir: &SimDir) -> io::Result<()> {
        act(dir, Operation::SyncFileSystem, |state| {
            let mut seen = dir.seen_errors.load(Ordering::Relaxed);
            let result = state.sync_file_system(&mut seen);
            dir.seen_errors.store(seen, Ordering::Relaxed);
            result
        })
    }

    fn set_dir_metadata(&self, dir: &SimDir, mode: u32, mtime: Timestamp) -> io::Result<()> {
        act(dir, Operation::SetDirMetadata, |state| state.set_metadata(dir.hold.inode, Some(mode), Some(mtime)))
    }

    fn set_mode(&self, dir: &SimDir, name: &[u8], mode: u32) -> io::Result<()> {
        act(dir, Operation::SetMode, |state| state.set_mode(dir.place(name), mode))
    }

    fn set_mtime(&self, dir: &SimDir, name: &[u8], mtime: Timestamp) -> io::Result<()> {
        act(dir, Operation::SetMtime, |state| {
            let inode = state.lookup(dir.place(name))?;
            state.set_metadata(inode, None, Some(mtime))
        })
    }

    fn space(&self, dir: &SimDir) -> io::Result<Space> {
        act(dir, Operation::Space, |state| {
            let (bytes_free, bytes_total) = state.space_bytes();
            let living = state.living_inodes();
            Ok(Space {
                bytes_free,
                bytes_total,
                inodes_free: state.dials.capacity_inodes.map(|capacity| capacity.saturating_sub(living)),
                is_syncfs_good: state.dials.is_syncfs_good,
                is_volatile: state.dials.is_volatile,
            })
        })
    }

    fn has_extended_attributes(&self, dir: &SimDir, name: &[u8]) -> bool {
        act(dir, Operation::ExtendedAttributes, |state| {
            state.lookup(dir.place(name)).map(|inode| state.inode(inode).has_extended_attributes)
        })
        .unwrap_or(false)
    }
}

impl DiskFile for SimFile {
    fn stat(&self) -> io::Result<Stat> {
        self.act(Operation::FileStat, |state, inode| Ok(state.stat(inode)))
    }

    fn stat_at_open(&self) -> io::Result<Stat> {
        Ok(self.at_open)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.act(Operation::ReadCached, |state, inode| state.read(inode, buffer, offset))
    }

    fn read_uncached_at(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        self.act(Operation::ReadUncached, |state, inode| {
            let (filled, level) = state.read_uncached(inode, &mut buffer.prepare(len)[..len], offset)?;
            buffer.set_filled(filled);
            Ok(level)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = lock(&self.hold.state);
        if self.access == Access::Read {
            state.begin(Operation::Write, self.hold.generation)?;
            return Err(error(EBADF));
        }
        state.begin_write(self.hold.generation, self.hold.inode, bytes, offset)?;
        state.write(self.hold.inode, bytes, offset)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(Operation::Punch, |state, inode| state.punch(inode, offset, len))
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(Operation::Reserve, |state, inode| state.reserve(inode, offset, len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Operation::SetLen, |state, inode| state.set_len(inode, len))
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        // A hint: the traits say that no result of it means anything.
        let _ = self.act(Operation::StartWriteback, |state, inode| {
            state.write_back(inode, offset, len);
            Ok(())
        });
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_as(Operation::Sync)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_as(Operation::SyncData)
    }

    fn set_metadata(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.act(Operation::SetMetadata, |state, inode| state.set_metadata(inode, Some(mode), Some(mtime)))
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        self.act(Operation::ExtentAt, |state, inode| state.extent_at(inode, offset))
    }
}
