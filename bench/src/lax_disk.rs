//! A disk that promises less: syncs that return at once, and reads past the cache that are answered from a copy of what
//! was written. It says so itself ([`Level::Cache`]), and nothing but the bench may stand on it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use landfall::attributes::{Level, Timestamp};
use landfall::disk::{Access, AlignedBuffer, Disk, DiskFile, Extent, Listed, Rooted, Space, Stat};

/// What is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Laxity {
    /// No sync reaches the disk, and no write-back is started early.
    pub skips_sync: bool,
    /// What should come from the device comes from memory: once from a copy of what was written, then from the cache.
    pub reads_memory: bool,
}

/// Over any disk.
#[derive(Clone, Debug)]
pub struct LaxDisk<D> {
    inner: D,
    laxity: Laxity,
}

/// A file on it.
#[derive(Debug)]
pub struct LaxFile<F> {
    inner: F,
    laxity: Laxity,
    /// What was written and not read since, by offset.
    written: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl<D> LaxDisk<D> {
    /// Leaves that out.
    pub fn new(inner: D, laxity: Laxity) -> LaxDisk<D> {
        LaxDisk { inner, laxity }
    }
}

impl<F> LaxFile<F> {
    fn new(inner: F, laxity: Laxity) -> LaxFile<F> {
        LaxFile { inner, laxity, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Laxity {
    fn sync(self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.skips_sync { Ok(()) } else { sync() }
    }
}

impl<D: Rooted> Rooted for LaxDisk<D> {
    fn open_root(&self, path: &Path) -> io::Result<Self::Dir> {
        self.inner.open_root(path)
    }
}

impl<D: Disk> Disk for LaxDisk<D> {
    type Dir = D::Dir;
    type File = LaxFile<D::File>;

    fn open_dir(&self, dir: &Self::Dir, path: &[u8]) -> io::Result<Self::Dir> {
        self.inner.open_dir(dir, path)
    }

    fn make_dir(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()> {
        self.inner.make_dir(dir, name, mode)
    }

    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Stat> {
        self.inner.stat(dir, name)
    }

    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat> {
        self.inner.stat_dir(dir)
    }

    fn open(&self, dir: &Self::Dir, name: &[u8], access: Access) -> io::Result<Self::File> {
        Ok(LaxFile::new(self.inner.open(dir, name, access)?, self.laxity))
    }

    fn open_seen(&self, dir: &Self::Dir, name: &[u8], access: Access, seen: &Stat) -> io::Result<Self::File> {
        Ok(LaxFile::new(self.inner.open_seen(dir, name, access, seen)?, self.laxity))
    }

    fn create_exclusive(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::File> {
        Ok(LaxFile::new(self.inner.create_exclusive(dir, name)?, self.laxity))
    }

    fn rename_noreplace(&self, from: &Self::Dir, name: &[u8], to: &Self::Dir, new: &[u8]) -> io::Result<()> {
        self.inner.rename_noreplace(from, name, to, new)
    }

    fn replace(&self, from: &Self::Dir, name: &[u8], to: &Self::Dir, new: &[u8]) -> io::Result<()> {
        self.inner.replace(from, name, to, new)
    }

    fn make_symlink(&self, target: &[u8], dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        self.inner.make_symlink(target, dir, name)
    }

    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>> {
        self.inner.read_link(dir, name)
    }

    fn remove(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        self.inner.remove(dir, name)
    }

    fn remove_dir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()> {
        self.inner.remove_dir(dir, name)
    }

    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()> {
        self.laxity.sync(|| self.inner.sync_dir(dir))
    }

    fn sync_file_system(&self, dir: &Self::Dir) -> io::Result<()> {
        self.laxity.sync(|| self.inner.sync_file_system(dir))
    }

    fn set_dir_metadata(&self, dir: &Self::Dir, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.inner.set_dir_metadata(dir, mode, mtime)
    }

    fn set_mode(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()> {
        self.inner.set_mode(dir, name, mode)
    }

    fn set_mtime(&self, dir: &Self::Dir, name: &[u8], mtime: Timestamp) -> io::Result<()> {
        self.inner.set_mtime(dir, name, mtime)
    }

    fn space(&self, dir: &Self::Dir) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn has_extended_attributes(&self, dir: &Self::Dir, name: &[u8]) -> bool {
        self.inner.has_extended_attributes(dir, name)
    }
}

impl<F: DiskFile> DiskFile for LaxFile<F> {
    fn stat(&self) -> io::Result<Stat> {
        self.inner.stat()
    }

    fn stat_at_open(&self) -> io::Result<Stat> {
        self.inner.stat_at_open()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn read_uncached_at(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        if !self.laxity.reads_memory {
            return self.inner.read_uncached_at(buffer, offset, len);
        }
        let filled = match self.written().remove(&offset).filter(|bytes| bytes.len() == len) {
            Some(bytes) => {
                buffer.prepare(len)[..len].copy_from_slice(&bytes);
                len
            }
            None => self.inner.read_at(&mut buffer.prepare(len)[..len], offset)?,
        };
        buffer.set_filled(filled);
        Ok(Level::Cache)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.laxity.reads_memory {
            self.written().insert(offset, bytes.to_vec());
        }
        self.inner.write_all_at(bytes, offset)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.punch(offset, len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.reserve(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        if !self.laxity.skips_sync {
            self.inner.start_writeback(offset, len);
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.laxity.sync(|| self.inner.sync())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.laxity.sync(|| self.inner.sync_data())
    }

    fn set_metadata(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        self.inner.set_metadata(mode, mtime)
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        self.inner.extent_at(offset)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fault_inject::rig::scratch::Scratch;
    use landfall::disk::RealDisk;

    use super::*;

    #[test]
    fn what_comes_from_the_cache_says_so() {
        let scratch = Scratch::new("lax");
        let content: Vec<u8> = (0..10_000u32).map(|at| at.to_le_bytes()[0]).collect();
        let laxity = Laxity { skips_sync: true, reads_memory: true };
        let disk = LaxDisk::new(RealDisk::new(), laxity);
        let root = disk.open_root(scratch.path()).unwrap();
        let file = disk.create_exclusive(&root, b"file").unwrap();
        file.write_all_at(&content, 0).unwrap();
        file.sync().unwrap();
        let mut buffer = AlignedBuffer::default();
        assert_eq!(file.read_uncached_at(&mut buffer, 4096, 8192).unwrap(), Level::Cache);
        assert_eq!(buffer.bytes(), &content[4096..]);
        let strict = LaxDisk::new(RealDisk::new(), Laxity::default());
        let file = strict.open(&root, b"file", Access::Write).unwrap();
        file.sync().unwrap();
        assert_ne!(file.read_uncached_at(&mut buffer, 0, 4096).unwrap(), Level::Cache);
    }
}
