//! Reading past the page cache, and the proof of how far that succeeded. Owns the second descriptor that such reads
//! go through: with O_DIRECT where the file system states its alignment for it, else buffered and probed. A short file is
//! read directly by the descriptor that is held ([`read_once`]).
//! Bytes that a file system keeps inside its own metadata (ext4 with `inline_data`, files of btrfs up to 2 KiB) are in
//! memory whatever is done here, and get a level that says so; reserving space before writing keeps them out of it.
//! Not here: when to read back and what to do with a level; whether the data was synced (a page that is dirty
//! cannot be evicted, so a probed read of it proves nothing, and says so).

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::kernel::{open_beneath, stat_descriptor, statx_descriptor, through_procfs};
use super::real::is_volatile;
use super::real_file::read_up_to;
use super::{AlignedBuffer, RealDir};
use crate::attributes::Level;
use crate::limits::{DIRECT_ALIGNMENT_BYTES, DIRECT_STALLS_MAX, EVICTION_PAUSE_MS, EVICTION_PROBES_MAX};

/// More than a page-cache folio can be long, and a multiple of it: dropping a page that lies in a larger folio
/// needs the whole folio inside the range.
const FOLIO_NEIGHBOURHOOD_BYTES: u64 = 4 << 20;

/// Smallest block of any file system: pages are filled in blocks.
const BLOCK_BYTES_MIN: u64 = 512;

/// How uncached reads of one file are made.
#[derive(Debug)]
pub(super) enum Bypass {
    /// By O_DIRECT on this descriptor.
    Direct(File),
    /// Through the cache, by a descriptor of its own (advice is the descriptor's), after eviction and probing.
    Probed(Probed),
    /// Through the held descriptor: memory is all there is.
    Memory,
}

/// A buffered descriptor, and how finely its file system fills pages.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) file: File,
    /// Bytes from probe to probe: a page, or a block where several share a page.
    pub(super) step_bytes: u64,
    /// What eviction can prove at best.
    pub(super) level_max: Level,
}

impl Bypass {
    /// Opens the second descriptor. `file` is the held one, `name` in `dir` where it was opened.
    /// What the file system states is asked here and not at creation: a file may be moved from inside its inode
    /// (where direct reads are quietly buffered) to the device when it grows, but not back.
    pub(super) fn open(file: &File, dir: &RealDir, name: &[u8]) -> io::Result<Bypass> {
        let stat = statx_descriptor(file.as_fd(), StatxFlags::DIOALIGN | StatxFlags::BLOCKS | StatxFlags::SIZE)?;
        if is_direct_stated(&stat) {
            match reopen(file, dir, name, OFlags::DIRECT) {
                Ok(direct) => return Ok(Bypass::Direct(direct)),
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let space = rustix::fs::fstatfs(file)?;
        if is_volatile(&space) {
            return Ok(Bypass::Memory);
        }
        let page_bytes = rustix::param::page_size() as u64;
        let block_bytes = u64::try_from(space.f_bsize).unwrap_or(page_bytes);
        let step_bytes = match block_bytes {
            BLOCK_BYTES_MIN.. if block_bytes < page_bytes && page_bytes.is_multiple_of(block_bytes) => block_bytes,
            _ => page_bytes,
        };
        let level_max = match is_inside_inode(file, &stat, step_bytes) {
            true => Level::Requested,
            false => Level::Evicted,
        };
        let file = match reopen(file, dir, name, OFlags::empty()) {
            Ok(second) => second,
            // Shares its advice with the held descriptor, which costs that one its read-ahead.
            Err(error) if is_refusal(&error) => file.try_clone()?,
            Err(error) => return Err(error),
        };
        Ok(Bypass::Probed(Probed { file, step_bytes, level_max }))
    }

    /// Reads up to `len` bytes into `buffer`, short only at the end of the file. `held` is the file's other
    /// descriptor.
    pub(super) fn read(&self, held: &File, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        if offset.checked_add(len as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::OVERFLOW.into());
        }
        match self {
            Bypass::Direct(file) => read_direct(file, buffer, offset, len),
            Bypass::Probed(probed) => probed.read(buffer, offset, len),
            Bypass::Memory => {
                fill(held, buffer, offset, len)?;
                Ok(Level::Cache)
            }
        }
    }
}

/// Whether the file system states that it reads this file by O_DIRECT at our alignment. Silence is no.
pub(super) fn is_direct_stated(stat: &Statx) -> bool {
    let divides = |alignment: u32| alignment != 0 && (DIRECT_ALIGNMENT_BYTES as u64).is_multiple_of(alignment.into());
    let is_stated = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    is_stated && divides(stat.stx_dio_mem_align) && divides(stat.stx_dio_offset_align)
}

/// Whether the bytes are kept inside the inode, which is in memory while the file is open: data, and less than a
/// block of the device to hold it.
fn is_inside_inode(file: &File, stat: &Statx, block_bytes: u64) -> bool {
    let is_without_block = stat.stx_blocks.saturating_mul(512) < block_bytes;
    is_without_block && stat.stx_size > 0 && matches!(rustix::fs::seek(file, SeekFrom::Data(0)), Ok(0))
}

/// Errors that say "not this way"; all others (no descriptors left, a failing disk) are the caller's to hear.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    const REFUSALS: [Errno; 7] =
        [Errno::INVAL, Errno::OPNOTSUPP, Errno::ACCESS, Errno::PERM, Errno::NOENT, Errno::LOOP, Errno::STALE];
    error.kind() == io::ErrorKind::Unsupported
        || REFUSALS.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A second descriptor of the same inode: for reading, unless the flags say otherwise. Where the file is ours, reading by
/// it does not count as access: else each read-back would dirty an inode that was just synced.
pub(super) fn reopen(file: &File, dir: &RealDir, name: &[u8], flags: OFlags) -> io::Result<File> {
    match reopen_with(file, dir, name, flags | OFlags::NOATIME) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => reopen_with(file, dir, name, flags),
        opened => opened,
    }
}

fn reopen_with(file: &File, dir: &RealDir, name: &[u8], flags: OFlags) -> io::Result<File> {
    let flags = OFlags::CLOEXEC | flags;
    let through = through_procfs(file.as_fd(), |table, entry| rustix::fs::openat(table, entry, flags, Mode::empty()));
    match through {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => reopen_by_name(file, dir, name, flags),
        opened => Ok(File::from(opened?)),
    }
}

/// The same without procfs: the name must still lead to the same inode (`ESTALE` if not).
pub(super) fn reopen_by_name(file: &File, dir: &RealDir, name: &[u8], flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let second: OwnedFd = open_beneath(dir.fd(), name, flags, Mode::empty())?;
    let (held, found) = (stat_descriptor(file.as_fd())?, stat_descriptor(second.as_fd())?);
    match (held.device, held.inode) == (found.device, found.inode) {
        true => Ok(File::from(second)),
        false => Err(Errno::STALE.into()),
    }
}

/// Reads what is read but once, directly, by the held descriptor: to open and close another one costs as much as the read.
/// It is direct meanwhile, so nobody else may read or write by it. `None` where the file system does not state that it
/// can.
pub(super) fn read_once(held: &File, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Option<Level>> {
    if !is_direct_stated(&statx_descriptor(held.as_fd(), StatxFlags::DIOALIGN)?) {
        return Ok(None);
    }
    let flags = rustix::fs::fcntl_getfl(held)?;
    let direct = flags | OFlags::DIRECT;
    // Without NOATIME where the file is somebody else's, as in [`reopen`].
    let set =
        rustix::fs::fcntl_setfl(held, direct | OFlags::NOATIME).or_else(|_| rustix::fs::fcntl_setfl(held, direct));
    if set.is_err() {
        return Ok(None);
    }
    let level = read_direct(held, buffer, offset, len);
    rustix::fs::fcntl_setfl(held, flags)?;
    level.map(Some)
}

/// Reads whole units that cover the range, and moves the wanted bytes to the front of the buffer.
fn read_direct(file: &File, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
    let start = offset - offset % DIRECT_ALIGNMENT_BYTES as u64;
    let skip = usize::try_from(offset - start).expect("less than the alignment");
    let wanted = skip + len;
    let slice = buffer.prepare(wanted);
    let (mut filled, mut stalls) = (0, 0);
    while filled < wanted {
        match file.read_at(&mut slice[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let excess = filled % DIRECT_ALIGNMENT_BYTES;
        if excess == 0 || filled >= wanted {
            continue;
        }
        if start + filled as u64 >= file.metadata()?.len() {
            break;
        }
        // Cut short inside a unit and not at the end, as when the file grows: from the last whole unit again.
        filled -= excess;
        stalls += 1;
        if stalls > DIRECT_STALLS_MAX {
            return Err(io::Error::other("direct reads end inside a unit again and again, and not at the end"));
        }
    }
    let count = filled.min(wanted).saturating_sub(skip);
    slice.copy_within(skip..skip + count, 0);
    buffer.set_filled(count);
    Ok(Level::Device)
}

/// Reads through the cache.
fn fill(file: &File, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<()> {
    let count = read_up_to(file, &mut buffer.prepare(len)[..len], offset)?;
    buffer.set_filled(count);
    Ok(())
}

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Not in the cache: what a read returns after this moment was fetched after it.
    Absent,
    /// In the cache.
    Present,
    /// Nothing is stored on the device up to this offset, and nothing that would be is in the cache.
    HoleUntil(u64),
    /// The file ends before it.
    End,
    /// The file system has no reads that do not wait.
    Unsupported,
}

impl Probed {
    /// Evicts, proves that nothing of the range was in the cache, and reads it.
    pub(super) fn read(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        let level = self.evict(offset, len as u64)?.min(self.level_max);
        fill(&self.file, buffer, offset, len)?;
        Ok(level)
    }

    /// Drops the range from the cache and probes every step of it. A probe may itself start to fetch its page:
    /// that page comes from the device, after the proof, and having been advised "random" nothing else with it;
    /// so probing all and then reading all is one proof, and keeps many fetches under way at once.
    fn evict(&self, offset: u64, len: u64) -> io::Result<Level> {
        let page_bytes = rustix::param::page_size() as u64;
        let (start, end) = (offset - offset % page_bytes, offset.saturating_add(len).max(offset + 1));
        let is_advised = rustix::fs::fadvise(&self.file, 0, None, Advice::Random).is_ok();
        if !is_advised || self.drop_range(start, end, page_bytes).is_err() {
            return Ok(Level::Cache);
        }
        let mut position = start;
        while position < end {
            match self.probe_until_absent(position)? {
                Probe::Absent => position += self.step_bytes,
                Probe::HoleUntil(until) => position = until - until % self.step_bytes,
                Probe::End => break,
                Probe::Present | Probe::Unsupported => return Ok(Level::Requested),
            }
        }
        Ok(Level::Evicted)
    }

    fn probe_until_absent(&self, position: u64) -> io::Result<Probe> {
        for attempt in 1..EVICTION_PROBES_MAX {
            let probe = self.probe(position)?;
            if probe != Probe::Present {
                return Ok(probe);
            }
            // Perhaps a part of a folio that reaches beyond the range: drop the neighbourhood.
            if self.drop_range(position, position + 1, FOLIO_NEIGHBOURHOOD_BYTES).is_err() {
                return Ok(Probe::Present);
            }
            if let Some(until) = self.hole_at(position) {
                return Ok(Probe::HoleUntil(until));
            }
            // Or somebody holds it for a moment: memory that is being compacted moves pages, and they stay meanwhile.
            if attempt > 1 {
                std::thread::sleep(Duration::from_millis(EVICTION_PAUSE_MS));
            }
        }
        self.probe(position)
    }

    /// A hole that covers the whole step at a position, and its end. The probe of a hole finds the zeros that it
    /// has just made up itself, at once, so holes are told by the file system's map. What is dirty counts as data.
    fn hole_at(&self, position: u64) -> Option<u64> {
        let until = match rustix::fs::seek(&self.file, SeekFrom::Data(position)) {
            Ok(data) => data,
            Err(Errno::NXIO) => stat_descriptor(self.file.as_fd()).ok()?.size.next_multiple_of(self.step_bytes),
            Err(_) => return None,
        };
        (until >= position + self.step_bytes).then_some(until)
    }

    /// Drops whole units that cover a range. Dirty pages stay, and start to be written.
    fn drop_range(&self, start: u64, end: u64, unit: u64) -> Result<(), Errno> {
        let start = start - start % unit;
        rustix::fs::fadvise(&self.file, start, NonZeroU64::new(end.next_multiple_of(unit) - start), Advice::DontNeed)
    }

    fn probe(&self, position: u64) -> io::Result<Probe> {
        let mut byte = [0];
        let probed = rustix::io::retry_on_intr(|| {
            let mut byte = [IoSliceMut::new(&mut byte)];
            rustix::io::preadv2(&self.file, &mut byte, position, ReadWriteFlags::NOWAIT)
        });
        match probed {
            Ok(0) => Ok(Probe::End),
            Ok(_) => Ok(Probe::Present),
            Err(Errno::AGAIN) => Ok(Probe::Absent),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(Probe::Unsupported),
            Err(errno) => Err(errno.into()),
        }
    }
}
