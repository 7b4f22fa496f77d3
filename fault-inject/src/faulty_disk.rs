//! A wrapper over any disk that does to its operations what a [`Plan`] says. It holds no state of its own but paths:
//! what is decided, counted and remembered is in the plan, which outlives reopened files and recreated wrappers.

use std::io;
use std::path::Path;
use std::sync::Arc;

use landfall::attributes::{Level, Timestamp};
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile, Extent, Listed, Rooted, Space, Stat};

use crate::errno::{EIO, error};
use crate::operation::Operation;
use crate::overlay::Identity;
use crate::plan::{Effect, Lasting, Plan, Unsynced};

/// A disk with planned faults.
#[derive(Clone, Debug)]
pub struct FaultyDisk<D> {
    inner: D,
    plan: Arc<Plan>,
}

/// A held directory of a [`FaultyDisk`].
#[derive(Clone, Debug)]
pub struct FaultyDir<D> {
    inner: D,
    /// Below the wrapped root; `/` between components.
    path: Arc<[u8]>,
}

/// An open file of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyFile<F> {
    inner: F,
    plan: Arc<Plan>,
    path: Vec<u8>,
    /// Known only where the plan alters what is stored.
    identity: Option<Identity>,
}

impl<D> FaultyDir<D> {
    fn child(&self, name: &[u8]) -> Vec<u8> {
        match (self.path.is_empty(), name.is_empty()) {
            (true, _) => name.to_vec(),
            (_, true) => self.path.to_vec(),
            (false, false) => [&self.path, &b"/"[..], name].concat(),
        }
    }

    /// The wrapped directory.
    pub fn inner(&self) -> &D {
        &self.inner
    }
}

/// Runs an operation that returns nothing, unless the plan has something else in mind.
fn run_plainly(
    plan: &Plan,
    operation: Operation,
    paths: &[&[u8]],
    run: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    match plan.consult(operation, paths) {
        None => run(),
        Some(strike) => {
            plan.note(&strike);
            match strike.effect {
                Effect::Errno(number) => Err(error(number)),
                Effect::Lie => Ok(()),
                other => unreachable!("the plan refused {other:?} for {operation:?} when it was made"),
            }
        }
    }
}

/// Fails an operation that returns something, if the plan says so.
fn fail_by_plan(plan: &Plan, operation: Operation, paths: &[&[u8]]) -> io::Result<()> {
    match plan.consult(operation, paths) {
        None => Ok(()),
        Some(strike) => {
            plan.note(&strike);
            match strike.effect {
                Effect::Errno(number) => Err(error(number)),
                other => unreachable!("the plan refused {other:?} for {operation:?} when it was made"),
            }
        }
    }
}

impl<D: Disk> FaultyDisk<D> {
    /// Puts a plan over a disk.
    pub fn new(inner: D, plan: Arc<Plan>) -> FaultyDisk<D> {
        FaultyDisk { inner, plan }
    }

    /// Puts the plan over a directory of the inner disk; paths in rules are relative to it.
    pub fn wrap_dir(&self, dir: D::Dir) -> FaultyDir<D::Dir> {
        FaultyDir { inner: dir, path: Arc::from(&b""[..]) }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The wrapped disk.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    fn wrap_file(&self, inner: D::File, path: Vec<u8>) -> io::Result<FaultyFile<D::File>> {
        let identity = if self.plan.alters_what_is_stored() {
            let stat = inner.stat()?;
            Some((stat.device, stat.inode))
        } else {
            None
        };
        Ok(FaultyFile { inner, plan: self.plan.clone(), path, identity })
    }

    fn plainly(
        &self,
        operation: Operation,
        dir: &FaultyDir<D::Dir>,
        name: &[u8],
        run: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        run_plainly(&self.plan, operation, &[&dir.child(name)], run)
    }

    fn ask(&self, operation: Operation, dir: &FaultyDir<D::Dir>, name: &[u8]) -> io::Result<()> {
        fail_by_plan(&self.plan, operation, &[&dir.child(name)])
    }
}

impl<D: Rooted> Rooted for FaultyDisk<D> {
    /// Paths in rules are relative to each directory that is opened so.
    fn open_root(&self, path: &Path) -> io::Result<FaultyDir<D::Dir>> {
        Ok(self.wrap_dir(self.inner.open_root(path)?))
    }
}

impl<D: Disk> Disk for FaultyDisk<D> {
    type Dir = FaultyDir<D::Dir>;
    type File = FaultyFile<D::File>;

    fn open_dir(&self, dir: &Self::Dir, path: &[u8]) -> io::Result<Self::Dir> {
        self.ask(Operation::OpenDir, dir, path)?;
        Ok(FaultyDir { inner: self.inner.open_dir(&dir.inner, path)?, path: Arc::from(dir.child(path)) })
    }

    fn make_dir(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()> {
        self.plainly(Operation::MakeDir, dir, name, || self.inner.make_dir(&dir.inner, name, mode))
    }

    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<Listed>> {
        self.ask(Operation::List, dir, b"")?;
        self.inner.list(&dir.inner)
    }

    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Stat> {
        self.ask(Operation::Stat, dir, name)?;
        self.inner.stat(&dir.inner, name)
    }

    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat> {
        self.ask(Operation::StatDir, dir, b"")?;
        self.inner.stat_dir(&dir.inner)
    }

    fn open(&self, dir: &Self::Dir, name: &[u8], access: Access) -> io::Result<Self::File> {
        self.ask(Operation::Open, dir, name)?;
        self.wrap_file(self.inner.open(&dir.inner, name, access)?, dir.child(name))
    }

    fn open_seen(&self, dir: &Self::Dir, name: &[u8], access: Access, seen: &Stat) -> io::Result<Self::File> {
        self.ask(Operation::Open, dir, name)?;
        self.wrap_file(self.inner.open_seen(&dir.inner, name, access, seen)?, dir.child(name))
    }

    fn create_exclusive(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::File> {
        self.ask(Operation::Create, dir, name)?;
        let file = self.wrap_file(self.inner.create_exclusive(&dir.inner, name)?, dir.child(name))?;
        if let Some(identity) = file.identity {
            self.plan.with_overlay(|overlay, _| overlay.forget(identity));
        }
        Ok(file)
    }

    fn rename_noreplace(&self, from: &Self::Dir, name: &[u8], to: &Self::Dir, new: &[u8]) -> io::Result<()> {
        let paths: [&[u8]; 2] = [&from.child(name), &to.child(new)];
        run_plainly(&self.plan, Operation::RenameNoReplace, &paths, || {
            self.inner.rename_noreplace(&from.inner, name, &to.inner, new)
        })
    }

    fn replace(&self, from: &Self::Dir, name: &[u8], to: &Self::Dir, new: &[u8]) -> io::Result<()> {
        let paths: [&[u8]; 2] = [&from.child(name), &to.child(new)];
        run_plainly(&self.plan, Operation::Replace, &paths, || self.inner.replace(&from.inner, name, &to.inner, new))
    }

    fn make_symlink(&self, target: &[u8], dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        self.plainly(Operation::MakeSymlink, dir, name, || self.inner.make_symlink(target, &dir.inner, name))
    }

    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>> {
        self.ask(Operation::ReadLink, dir, name)?;
        self.inner.read_link(&dir.inner, name)
    }

    fn remove(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        self.plainly(Operation::Remove, dir, name, || self.inner.remove(&dir.inner, name))
    }

    fn remove_dir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        self.plainly(Operation::RemoveDir, dir, name, || self.inner.remove_dir(&dir.inner, name))
    }

    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()> {
        self.plainly(Operation::SyncDir, dir, b"", || self.inner.sync_dir(&dir.inner))
    }

    fn sync_file_system(&self, dir: &Self::Dir) -> io::Result<()> {
        self.plainly(Operation::SyncFileSystem, dir, b"", || {
            self.inner.sync_file_system(&dir.inner)?;
            self.plan.with_overlay(|overlay, _| overlay.all_synced());
            Ok(())
        })
    }

    fn set_dir_metadata(&self, dir: &Self::Dir, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.plainly(Operation::SetDirMetadata, dir, b"", || self.inner.set_dir_metadata(&dir.inner, mode, mtime))
    }

    fn set_mode(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()> {
        self.plainly(Operation::SetMode, dir, name, || self.inner.set_mode(&dir.inner, name, mode))
    }

    fn set_mtime(&self, dir: &Self::Dir, name: &[u8], mtime: Timestamp) -> io::Result<()> {
        self.plainly(Operation::SetMtime, dir, name, || self.inner.set_mtime(&dir.inner, name, mtime))
    }

    fn space(&self, dir: &Self::Dir) -> io::Result<Space> {
        self.ask(Operation::Space, dir, b"")?;
        self.inner.space(&dir.inner)
    }

    fn has_extended_attributes(&self, dir: &Self::Dir, name: &[u8]) -> bool {
        self.ask(Operation::ExtendedAttributes, dir, name).is_ok()
            && self.inner.has_extended_attributes(&dir.inner, name)
    }
}

impl<F: DiskFile> FaultyFile<F> {
    fn plainly(&self, operation: Operation, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        run_plainly(&self.plan, operation, &[&self.path], run)
    }

    fn ask(&self, operation: Operation) -> io::Result<()> {
        fail_by_plan(&self.plan, operation, &[&self.path])
    }

    /// The wrapped file.
    pub fn inner(&self) -> &F {
        &self.inner
    }

    fn note_written(&self, offset: u64, len: u64) {
        if let Some(identity) = self.identity {
            self.plan.with_overlay(|overlay, _| overlay.written(identity, offset..offset.saturating_add(len)));
        }
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note_written(offset, bytes.len() as u64);
        self.inner.write_all_at(bytes, offset)
    }

    fn sync_by_plan(&self, operation: Operation, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Some(strike) = self.plan.consult(operation, &[&self.path]) else {
            run()?;
            if let Some(identity) = self.identity {
                self.plan.with_overlay(|overlay, _| overlay.synced(identity));
            }
            return Ok(());
        };
        self.plan.note(&strike);
        match strike.effect {
            Effect::Errno(number) => Err(error(number)),
            Effect::Lie => Ok(()),
            Effect::FailSync(Unsynced::Kept) => Err(error(EIO)),
            Effect::FailSync(Unsynced::Lost) => {
                let identity = self.identity.expect("a plan that loses pages tells files apart");
                self.plan.with_overlay(|overlay, _| overlay.lost(identity));
                Err(error(EIO))
            }
            other => unreachable!("the plan refused {other:?} for {operation:?} when it was made"),
        }
    }
}

impl<F: DiskFile> DiskFile for FaultyFile<F> {
    fn stat(&self) -> io::Result<Stat> {
        self.ask(Operation::FileStat)?;
        self.inner.stat()
    }

    fn stat_at_open(&self) -> io::Result<Stat> {
        self.inner.stat_at_open()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let strike = self.plan.consult(Operation::ReadCached, &[&self.path]);
        if let Some(strike) = &strike
            && let Effect::Errno(number) = strike.effect
        {
            self.plan.note(strike);
            return Err(error(number));
        }
        let filled = self.inner.read_at(buffer, offset)?;
        if let Some(strike) = strike
            && let Effect::CorruptCachedRead(damage) = strike.effect
            && filled > 0
        {
            self.plan.note(&strike);
            self.plan.damage(damage, &mut buffer[..filled]);
        }
        Ok(filled)
    }

    fn read_uncached_at(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        let strike = self.plan.consult(Operation::ReadUncached, &[&self.path]);
        if let Some(strike) = &strike
            && let Effect::Errno(number) = strike.effect
        {
            self.plan.note(strike);
            return Err(error(number));
        }
        let level = self.inner.read_uncached_at(buffer, offset, len)?;
        let bytes = buffer.bytes_mut();
        if let Some(strike) = strike
            && let Effect::CorruptUncachedRead(damage, lasting) = strike.effect
            && !bytes.is_empty()
        {
            self.plan.note(&strike);
            match (lasting, self.identity) {
                (Lasting::UntilRewritten | Lasting::Always, Some(identity)) => {
                    let read = offset..offset + bytes.len() as u64;
                    self.plan.with_overlay(|overlay, stream| overlay.alter(identity, read, damage, lasting, stream));
                }
                (Lasting::Once, _) | (_, None) => self.plan.damage(damage, bytes),
            }
        }
        if let Some(identity) = self.identity {
            self.plan.with_overlay(|overlay, _| overlay.apply(identity, offset, bytes));
        }
        Ok(level)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(strike) = self.plan.consult(Operation::Write, &[&self.path]) else {
            return self.write(bytes, offset);
        };
        self.plan.note(&strike);
        match strike.effect {
            Effect::Errno(number) => Err(error(number)),
            Effect::Lie => Ok(()),
            Effect::ShortWrite { kept_bytes } => self.write(&bytes[..kept_bytes.min(bytes.len())], offset),
            Effect::TornWrite { kept_bytes, errno } => {
                self.write(&bytes[..kept_bytes.min(bytes.len())], offset)?;
                Err(error(errno))
            }
            Effect::CorruptWrite(damage) => {
                let mut bytes = bytes.to_vec();
                self.plan.damage(damage, &mut bytes);
                self.write(&bytes, offset)
            }
            other => unreachable!("the plan refused {other:?} for a write when it was made"),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.plainly(Operation::Punch, || {
            self.note_written(offset, len);
            self.inner.punch(offset, len)
        })
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.plainly(Operation::Reserve, || self.inner.reserve(offset, len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plainly(Operation::SetLen, || {
            // What lies beyond the new end reads as zeros when the file grows again, damaged before or not.
            self.note_written(len, u64::MAX - len);
            self.inner.set_len(len)
        })
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        if self.ask(Operation::StartWriteback).is_ok() {
            self.inner.start_writeback(offset, len);
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_by_plan(Operation::Sync, || self.inner.sync())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_by_plan(Operation::SyncData, || self.inner.sync_data())
    }

    fn set_metadata(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.plainly(Operation::SetMetadata, || self.inner.set_metadata(mode, mtime))
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        self.ask(Operation::ExtentAt)?;
        self.inner.extent_at(offset)
    }
}

#[cfg(test)]
mod tests;
