//! The one seam for storage, on both sides. Synchronous on purpose: positioned I/O on held handles is one hop to
//! a thread away from any runtime, and a simulator can run the very same callers inline.
//!
//! Everything is relative to a held directory. Names are single components unless a doc says *path*; no operation
//! follows a symlink, leaves the directory it is given, or opens what is not of the kind it asks for.
//! Implementations: [`RealDisk`] here; `SimDisk` and `FaultyDisk` in the fault-inject crate.
//! What this floor does not do: decide. No retry, no policy, no order of steps.

mod buffer;
mod bypass;
mod direct;
mod kernel;
mod real;
mod real_dir;
mod real_file;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use crate::attributes::{FileKind, Level, Stamps, Timestamp};

pub use buffer::AlignedBuffer;
pub use kernel::{descriptors_max, widen_descriptor_table};
pub use real::RealDisk;
pub use real_dir::RealDir;
pub use real_file::RealFile;

/// Result of a stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Kind of the object itself; links are not followed.
    pub kind: FileKind,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of the inode.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// Number of names.
    pub links: u64,
    /// Owner.
    pub owner: u32,
}

impl Stat {
    /// The stamps in it.
    pub fn stamps(&self) -> Stamps {
        Stamps { size: self.size, mtime: self.mtime, ctime: self.ctime, inode: self.inode, device: self.device }
    }
}

/// One name of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name: raw bytes, one component, neither `.` nor `..`.
    pub name: Vec<u8>,
}

/// Free space, and what kind of file system it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an unprivileged user may still write.
    pub bytes_free: u64,
    /// Size of the file system in bytes.
    pub bytes_total: u64,
    /// Inodes left; `None` where the file system does not count them.
    pub inodes_free: Option<u64>,
    /// One `syncfs` is known to make many new files durable (ext4, XFS, btrfs, F2FS).
    pub is_syncfs_good: bool,
    /// Contents do not survive a power cut by design (tmpfs, ramfs).
    pub is_volatile: bool,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// Where data and holes lie, as far as the file system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Data, or not known to be a hole, up to this offset (exclusive).
    DataUntil(u64),
    /// A hole up to this offset (exclusive; the end of the file counts as the end of its last hole).
    HoleUntil(u64),
}

/// A storage. Cheap to clone; all state is behind it.
pub trait Disk: Clone + Send + Sync + 'static {
    /// A held directory: cheap to clone, valid whatever becomes of its name.
    type Dir: Clone + Send + Sync + 'static;
    /// An open regular file.
    type File: DiskFile;

    /// Opens a directory below `dir`. `path` may have several components and be longer than `PATH_MAX`; the
    /// empty path opens `dir` again. Symlinks anywhere in it are an error (`ELOOP`), as is a mount crossing only
    /// if the kernel says so.
    fn open_dir(&self, dir: &Self::Dir, path: &[u8]) -> io::Result<Self::Dir>;
    /// Makes a directory with exactly that mode (umask not applied). An existing name is `AlreadyExists`.
    fn make_dir(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()>;
    /// All names, in no order. Names are bytes.
    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<Listed>>;
    /// Stat of a name, not following it.
    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Stat>;
    /// Stat of the held directory itself.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat>;
    /// What tells a mount from what surrounds it: directories of one mount have the same. Where the system does not number
    /// mounts, it is the device, and a directory that is bound to another place of the same file system looks like any other.
    fn mount_of(&self, dir: &Self::Dir) -> io::Result<u64> {
        Ok(self.stat_dir(dir)?.device)
    }
    /// Opens a regular file. Anything else is an error, without waiting (a FIFO does not block) and without
    /// side effects of opening a device.
    fn open(&self, dir: &Self::Dir, name: &[u8], access: Access) -> io::Result<Self::File>;
    /// The same of a name at which the caller has just looked, and `seen` is what was there: spares a look before opening.
    fn open_seen(&self, dir: &Self::Dir, name: &[u8], access: Access, _seen: &Stat) -> io::Result<Self::File> {
        self.open(dir, name, access)
    }
    /// Makes a new regular file open for reading and writing, mode 0600. An existing name is `AlreadyExists`.
    fn create_exclusive(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::File>;
    /// Renames; an existing target is `AlreadyExists` and nothing changes. Where the file system cannot do that
    /// in one step, a regular file is linked and unlinked.
    fn rename_noreplace(&self, from: &Self::Dir, name: &[u8], to: &Self::Dir, new: &[u8]) -> io::Result<()>;
    /// Renames over whatever file or link has the name.
    fn replace(&self, from: &Self::Dir, name: &[u8], to: &Self::Dir, new: &[u8]) -> io::Result<()>;
    /// Makes a symbolic link with that target text. An existing name is `AlreadyExists`.
    fn make_symlink(&self, target: &[u8], dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    /// Target text of a symbolic link.
    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>>;
    /// Removes a name that is not a directory.
    fn remove(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Makes everything of the file system durable that was written before the call (`syncfs`), and reports any
    /// write-back error since the directory was opened.
    fn sync_file_system(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Mode (0777 only; setgid and sticky stay as they are) and modification time of the held directory itself.
    fn set_dir_metadata(&self, dir: &Self::Dir, mode: u32, mtime: Timestamp) -> io::Result<()>;
    /// Mode (as above) of a name below: recovery of a file or directory whose mode locks us out. A link is refused.
    fn set_mode(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()>;
    /// Modification time of a name below, not following links. Access times are not kept by any of these.
    fn set_mtime(&self, dir: &Self::Dir, name: &[u8], mtime: Timestamp) -> io::Result<()>;
    /// Free space where the directory lies.
    fn space(&self, dir: &Self::Dir) -> io::Result<Space>;
    /// Whether a name carries POSIX ACLs, file capabilities or extended attributes that somebody set (beyond the
    /// system's own `security.*` labels and made-up `system.*` views): what a copy would not preserve. `false` where
    /// that cannot be told.
    fn has_extended_attributes(&self, dir: &Self::Dir, name: &[u8]) -> bool;
}

/// A disk on which directories are found by an ordinary path. Everything else starts from what this gives.
pub trait Rooted: Disk {
    /// Opens an existing directory by a path that the user or the home has named, following links.
    fn open_root(&self, path: &Path) -> io::Result<Self::Dir>;
}

/// An open regular file. Positioned; any number of threads at once.
pub trait DiskFile: Send + Sync + 'static {
    /// Stat of the open file.
    fn stat(&self) -> io::Result<Stat>;
    /// Stat of the file as it was opened or made: opening has looked anyway. Whatever was done to the file since does
    /// not show in it.
    fn stat_at_open(&self) -> io::Result<Stat> {
        self.stat()
    }
    /// Reads up to `buffer.len()` bytes at an offset, through the cache. Short only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills `buffer` with up to `len` bytes at an offset, past the page cache as far as it can be had, and says
    /// how far it is proved. Short only at the end of the file. Works whatever mode was set through this
    /// descriptor. Never claims more than what its own probes found: what is not synced cannot be evicted, and small
    /// files for which no space was reserved before they were written may live in metadata, which cannot either.
    fn read_uncached_at(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level>;
    /// Writes all bytes at an offset. On an error an unknown part may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a range read as zeros, as a hole where the file system can. The length does not change.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Reserves space for a range without changing the length. `Unsupported` is not an error: `Ok`.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Starts write-back of a range and returns at once; what is clean may leave the cache. A hint: no result means
    /// anything.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Makes data and metadata durable. After an error nothing written through this inode may be trusted.
    fn sync(&self) -> io::Result<()>;
    /// Makes data durable, and the length; times may stay behind.
    fn sync_data(&self) -> io::Result<()>;
    /// Mode (0777 only) and modification time.
    fn set_metadata(&self, mode: u32, mtime: Timestamp) -> io::Result<()>;
    /// What lies at an offset below the length.
    fn extent_at(&self, offset: u64) -> io::Result<Extent>;
}
