//! A disk for tests that notes what is done to it and stops working after a number of steps, as a crash would. What
//! was done before stays: that unsynced data is lost is the simulator's business.

#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex};

use crate::attributes::{Level, Timestamp};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile, Extent, Listed, RealDir, RealDisk, RealFile, Space, Stat};

/// The real disk, with a count of the steps that are left.
#[derive(Clone, Debug)]
pub(super) struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: usize,
    /// Writes that succeed and do nothing.
    lost_writes: usize,
    done: Vec<&'static str>,
}

impl CrashDisk {
    /// Works for so many steps.
    pub(super) fn new(left: usize) -> CrashDisk {
        CrashDisk(Arc::new(Mutex::new(State { left, lost_writes: 0, done: vec![] })))
    }

    /// The next so many writes succeed and do nothing.
    pub(super) fn lose_writes(&self, count: usize) {
        self.0.lock().unwrap().lost_writes = count;
    }

    fn is_write_lost(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let is_lost = state.lost_writes > 0;
        state.lost_writes = state.lost_writes.saturating_sub(1);
        is_lost
    }

    /// What was done.
    pub(super) fn done(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().done.clone()
    }

    fn step(&self, name: &'static str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.left = state.left.checked_sub(1).ok_or_else(|| io::Error::other("crashed"))?;
        state.done.push(name);
        Ok(())
    }
}

/// A file of such a disk.
#[derive(Debug)]
pub(super) struct CrashFile(CrashDisk, RealFile);

impl Disk for CrashDisk {
    type Dir = RealDir;
    type File = CrashFile;

    fn open_dir(&self, dir: &RealDir, path: &[u8]) -> io::Result<RealDir> {
        RealDisk::new().open_dir(dir, path)
    }

    fn make_dir(&self, dir: &RealDir, name: &[u8], mode: u32) -> io::Result<()> {
        self.step("make_dir")?;
        RealDisk::new().make_dir(dir, name, mode)
    }

    fn list(&self, dir: &RealDir) -> io::Result<Vec<Listed>> {
        RealDisk::new().list(dir)
    }

    fn stat(&self, dir: &RealDir, name: &[u8]) -> io::Result<Stat> {
        RealDisk::new().stat(dir, name)
    }

    fn stat_dir(&self, dir: &RealDir) -> io::Result<Stat> {
        RealDisk::new().stat_dir(dir)
    }

    fn open(&self, dir: &RealDir, name: &[u8], access: Access) -> io::Result<CrashFile> {
        Ok(CrashFile(self.clone(), RealDisk::new().open(dir, name, access)?))
    }

    fn create_exclusive(&self, dir: &RealDir, name: &[u8]) -> io::Result<CrashFile> {
        self.step("create")?;
        Ok(CrashFile(self.clone(), RealDisk::new().create_exclusive(dir, name)?))
    }

    fn rename_noreplace(&self, from: &RealDir, name: &[u8], to: &RealDir, new: &[u8]) -> io::Result<()> {
        self.step("rename")?;
        RealDisk::new().rename_noreplace(from, name, to, new)
    }

    fn replace(&self, from: &RealDir, name: &[u8], to: &RealDir, new: &[u8]) -> io::Result<()> {
        self.step("replace")?;
        RealDisk::new().replace(from, name, to, new)
    }

    fn make_symlink(&self, target: &[u8], dir: &RealDir, name: &[u8]) -> io::Result<()> {
        RealDisk::new().make_symlink(target, dir, name)
    }

    fn read_link(&self, dir: &RealDir, name: &[u8]) -> io::Result<Vec<u8>> {
        RealDisk::new().read_link(dir, name)
    }

    fn remove(&self, dir: &RealDir, name: &[u8]) -> io::Result<()> {
        self.step("remove")?;
        RealDisk::new().remove(dir, name)
    }

    fn remove_dir(&self, dir: &RealDir, name: &[u8]) -> io::Result<()> {
        self.step("remove_dir")?;
        RealDisk::new().remove_dir(dir, name)
    }

    fn sync_dir(&self, dir: &RealDir) -> io::Result<()> {
        self.step("sync_dir")?;
        RealDisk::new().sync_dir(dir)
    }

    fn sync_file_system(&self, dir: &RealDir) -> io::Result<()> {
        RealDisk::new().sync_file_system(dir)
    }

    fn set_dir_metadata(&self, dir: &RealDir, mode: u32, mtime: Timestamp) -> io::Result<()> {
        RealDisk::new().set_dir_metadata(dir, mode, mtime)
    }

    fn set_mode(&self, dir: &RealDir, name: &[u8], mode: u32) -> io::Result<()> {
        RealDisk::new().set_mode(dir, name, mode)
    }

    fn set_mtime(&self, dir: &RealDir, name: &[u8], mtime: Timestamp) -> io::Result<()> {
        RealDisk::new().set_mtime(dir, name, mtime)
    }

    fn space(&self, dir: &RealDir) -> io::Result<Space> {
        RealDisk::new().space(dir)
    }

    fn has_extended_attributes(&self, dir: &RealDir, name: &[u8]) -> bool {
        RealDisk::new().has_extended_attributes(dir, name)
    }
}

impl DiskFile for CrashFile {
    fn stat(&self) -> io::Result<Stat> {
        self.1.stat()
    }

    fn stat_at_open(&self) -> io::Result<Stat> {
        self.1.stat_at_open()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buffer, offset)
    }

    fn read_uncached_at(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        self.1.read_uncached_at(buffer, offset, len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.0.is_write_lost() {
            return Ok(());
        }
        // Half of it may be there before the crash.
        self.1.write_all_at(&bytes[..bytes.len() / 2], offset)?;
        self.0.step("write")?;
        self.1.write_all_at(bytes, offset)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.1.punch(offset, len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.1.reserve(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.set_len(len)
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.1.start_writeback(offset, len);
    }

    fn sync(&self) -> io::Result<()> {
        self.0.step("sync")?;
        self.1.sync()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.sync_data()
    }

    fn set_metadata(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.1.set_metadata(mode, mtime)
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        self.1.extent_at(offset)
    }
}
