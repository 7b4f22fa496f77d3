//! Large reads and writes past the page cache. They mean what the buffered ones mean, and cost neither a copy nor pages
//! that nobody will read: what is received is read back past the cache anyway, and a large source is read once.
//! Only where the file system states that it can, and where offset, length and memory are aligned; else buffered.
//! Nothing is more durable by this: the device may hold it in a cache of its own until the sync.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fd::AsFd;
use rustix::fs::{Advice, FallocateFlags, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::RealDir;
use super::bypass::{is_direct_stated, is_refusal, reopen};
use super::kernel::statx_descriptor;
use super::real_file::read_up_to;
use crate::limits::{ALLOCATED_AHEAD_BYTES, CACHE_PROBE_BYTES, DIRECT_ALIGNMENT_BYTES, DIRECT_BYTES_MIN};

/// Whether a range of a file and the memory for it are large enough, and aligned.
pub(super) fn is_eligible(memory: &[u8], offset: u64) -> bool {
    let is_aligned = memory.len().is_multiple_of(DIRECT_ALIGNMENT_BYTES)
        && (memory.as_ptr() as usize).is_multiple_of(DIRECT_ALIGNMENT_BYTES)
        && offset.is_multiple_of(DIRECT_ALIGNMENT_BYTES as u64);
    memory.len() >= DIRECT_BYTES_MIN && is_aligned
}

/// The descriptor for direct writes of one file, opened at the first of them, and the blocks that are allocated ahead
/// of them. Where blocks are to be allocated a direct write waits for every read of the file that is on its way (ext4
/// takes the inode's lock for itself then), and what was written last is being read back all the time.
#[derive(Debug)]
pub(super) struct Writer {
    direct: OnceLock<Option<File>>,
    /// Blocks are allocated ahead for a file that is known to have no holes yet: it was made here and nothing was punched.
    is_whole: AtomicBool,
    /// Blocks are allocated from the one offset to the other.
    allocated: Mutex<(u64, u64)>,
}

impl Writer {
    /// For a file that may have holes, or for a new one.
    pub(super) fn new(is_whole: bool) -> Writer {
        Writer { direct: OnceLock::new(), is_whole: AtomicBool::new(is_whole), allocated: Mutex::new((0, 0)) }
    }

    /// Takes note that the file has a hole from now on.
    pub(super) fn punched(&self) {
        self.is_whole.store(false, Ordering::Relaxed);
    }

    /// Writes all bytes, directly if that can be. Where it cannot after all, and for what a short write leaves, the
    /// held descriptor writes.
    pub(super) fn write_all_at(
        &self,
        held: &File,
        dir: &RealDir,
        name: &[u8],
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let is_eligible = is_eligible(bytes, offset);
        let direct = if is_eligible { self.direct.get_or_init(|| open(held, dir, name)).as_ref() } else { None };
        let Some(direct) = direct else { return held.write_all_at(bytes, offset) };
        self.allocate(held, offset, bytes.len() as u64);
        let written = loop {
            match direct.write_at(bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_refusal(&error) => break 0,
                other => break other?,
            }
        };
        held.write_all_at(&bytes[written..], offset + written as u64)
    }

    /// Allocates blocks for a range and what follows it, inside the file's length. Only a hint: the write itself has
    /// the error.
    fn allocate(&self, held: &File, offset: u64, len: u64) {
        let mut allocated = self.allocated.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = allocated.0 <= offset && offset + len <= allocated.1;
        if is_there || !self.is_whole.load(Ordering::Relaxed) {
            return;
        }
        let end = (offset + ALLOCATED_AHEAD_BYTES).min(held.metadata().map_or(0, |metadata| metadata.len()));
        if end >= offset + len && rustix::fs::fallocate(held, FallocateFlags::KEEP_SIZE, offset, end - offset).is_ok() {
            *allocated = (offset, end);
        }
    }
}

/// `None` where there is none to be had: the buffered way has the error, if there is one.
fn open(held: &File, dir: &RealDir, name: &[u8]) -> Option<File> {
    let is_writable = rustix::fs::fcntl_getfl(held).ok()?.contains(OFlags::RDWR);
    let is_stated = is_direct_stated(&statx_descriptor(held.as_fd(), StatxFlags::DIOALIGN).ok()?);
    if is_writable && is_stated { reopen(held, dir, name, OFlags::WRONLY | OFlags::DIRECT).ok() } else { None }
}

/// Finds out of a file's large reads which are in the page cache already.
#[derive(Debug, Default)]
pub(super) struct Reader {
    is_advised: OnceLock<bool>,
    /// Where nothing was cached when it was probed last: below this it is not probed again.
    absent_until: AtomicU64,
}

impl Reader {
    /// Whether a range is better read through the cache: its last page is there. A probe of a page that is not there
    /// starts to fetch it, alone, since the descriptor is advised so; a read of a whole range fetches it as a whole
    /// nevertheless.
    pub(super) fn is_cached(&self, held: &File, offset: u64, len: usize) -> bool {
        if offset < self.absent_until.load(Ordering::Relaxed) {
            return false;
        }
        let is_advised = self.is_advised.get_or_init(|| rustix::fs::fadvise(held, 0, None, Advice::Random).is_ok());
        let (mut byte, last) = ([0], offset + len as u64 - 1);
        let mut probe = [IoSliceMut::new(&mut byte)];
        let is_cached = *is_advised
            && !matches!(rustix::io::preadv2(held, &mut probe, last, ReadWriteFlags::NOWAIT), Err(Errno::AGAIN));
        if !is_cached {
            self.absent_until.store(offset + CACHE_PROBE_BYTES, Ordering::Relaxed);
        }
        is_cached
    }
}

/// Reads until the buffer is full or the file ends. The last unit of a file, and whatever is not read directly after
/// all, comes by the held descriptor.
pub(super) fn read(direct: &File, held: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() && filled.is_multiple_of(DIRECT_ALIGNMENT_BYTES) {
        match direct.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_refusal(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled + read_up_to(held, &mut buffer[filled..], offset + filled as u64)?)
}
