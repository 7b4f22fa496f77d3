//! [`RealFile`]: an open regular file of the kernel. Owns opening without side effects on anything else, positioned
//! reading and writing, holes, syncs and the file's own mode and time.
//! Not here: how a read gets past the page cache and what it proves, see `bypass.rs`.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock};

use rustix::fd::AsFd;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::bypass::{Bypass, read_once};
use super::direct;
use super::kernel::{PERMISSION_BITS, component, open_beneath, stat_component, stat_descriptor, times_from};
use super::{Access, AlignedBuffer, DiskFile, Extent, RealDir, Stat};
use crate::attributes::{FileKind, Level, Timestamp};
use crate::limits::READ_BACK_BYTES;

/// Mode of a new file: its owner's alone until it is sealed.
const NEW_FILE_MODE: u32 = 0o600;
/// The owner's permission to read.
const OWNER_READS: u32 = 0o400;
/// The user that this process acts as, from its start to its end.
static USER: LazyLock<u32> = LazyLock::new(|| rustix::process::geteuid().as_raw());

/// An open regular file. All I/O is positioned; any number of threads at once.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// Where the name is, and the name, for a system without procfs.
    dir: RealDir,
    name: Box<[u8]>,
    /// Opened at the first read that is to go past the cache, and kept if more of them will come.
    bypass: OnceLock<Bypass>,
    writer: direct::Writer,
    reader: direct::Reader,
    /// Held exclusively while pages are probed (on some file systems a writer makes a probe say "absent"), and while the
    /// held descriptor is direct.
    changes: RwLock<()>,
    at_open: Stat,
}

impl RealFile {
    /// Opens a regular file. The kind is asked before opening, so that no device is opened, and after it, since
    /// the name may have changed hands in between; `NONBLOCK` keeps that moment from waiting for a FIFO's writer.
    pub(super) fn open(dir: &RealDir, name: &[u8], access: Access) -> io::Result<RealFile> {
        RealFile::open_seen(dir, name, access, &stat_component(dir.fd(), name)?)
    }

    /// The same, where the caller has asked for the kind.
    pub(super) fn open_seen(dir: &RealDir, name: &[u8], access: Access, seen: &Stat) -> io::Result<RealFile> {
        regular(seen)?;
        let name = component(name)?;
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let file = File::from(open_beneath(dir.fd(), name, flags, Mode::empty())?);
        let stat = stat_descriptor(file.as_fd())?;
        regular(&stat)?;
        Ok(RealFile::new(file, dir, name, stat, direct::Writer::new(false)))
    }

    /// Makes a new file.
    pub(super) fn create(dir: &RealDir, name: &[u8]) -> io::Result<RealFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(NEW_FILE_MODE);
        let file = File::from(open_beneath(dir.fd(), component(name)?, flags, mode)?);
        let mut stat = stat_descriptor(file.as_fd())?;
        if stat.mode & PERMISSION_BITS != NEW_FILE_MODE {
            rustix::fs::fchmod(&file, mode)?;
            stat = stat_descriptor(file.as_fd())?;
        }
        Ok(RealFile::new(file, dir, name, stat, direct::Writer::new(true)))
    }

    fn new(file: File, dir: &RealDir, name: &[u8], at_open: Stat, writer: direct::Writer) -> RealFile {
        let (bypass, reader, changes) = (OnceLock::new(), direct::Reader::default(), RwLock::new(()));
        RealFile { file, dir: dir.clone(), name: name.into(), bypass, writer, reader, changes, at_open }
    }

    fn open_bypass(&self) -> io::Result<Bypass> {
        Bypass::open(&self.file, &self.dir, &self.name)
    }

    /// Runs a change of content, or a read through the cache: never while pages are probed or `file` is direct.
    fn cached<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _shared = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    fn read_past_cache(
        &self,
        bypass: &Bypass,
        buffer: &mut AlignedBuffer,
        offset: u64,
        len: usize,
    ) -> io::Result<Level> {
        let _alone = match bypass {
            Bypass::Probed(_) => Some(self.changes.write().unwrap_or_else(PoisonError::into_inner)),
            Bypass::Direct(_) | Bypass::Memory => None,
        };
        bypass.read(&self.file, buffer, offset, len)
    }
}

impl DiskFile for RealFile {
    fn stat(&self) -> io::Result<Stat> {
        stat_descriptor(self.file.as_fd())
    }

    fn stat_at_open(&self) -> io::Result<Stat> {
        Ok(self.at_open)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !direct::is_eligible(buffer, offset) || self.reader.is_cached(&self.file, offset, buffer.len()) {
            return self.cached(|| read_up_to(&self.file, buffer, offset));
        }
        if self.bypass.get().is_none()
            && let Ok(bypass) = self.open_bypass()
        {
            self.bypass.get_or_init(|| bypass);
        }
        match self.bypass.get() {
            Some(Bypass::Direct(direct)) => self.cached(|| direct::read(direct, &self.file, buffer, offset)),
            _ => self.cached(|| read_up_to(&self.file, buffer, offset)),
        }
    }

    fn read_uncached_at(&self, buffer: &mut AlignedBuffer, offset: u64, len: usize) -> io::Result<Level> {
        if let Some(bypass) = self.bypass.get() {
            return self.read_past_cache(bypass, buffer, offset, len);
        }
        let is_read_once = offset == 0 && len < READ_BACK_BYTES;
        if is_read_once {
            let _alone = self.changes.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(level) = read_once(&self.file, buffer, offset, len)? {
                return Ok(level);
            }
        }
        let bypass = self.open_bypass()?;
        let level = self.read_past_cache(&bypass, buffer, offset, len);
        // Not keeping its second descriptor halves what a batch of thousands of small files holds.
        if !is_read_once {
            self.bypass.get_or_init(|| bypass);
        }
        level
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.cached(|| self.writer.write_all_at(&self.file, &self.dir, &self.name, bytes, offset))
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.writer.punched();
        self.cached(|| {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, offset, len)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&self.file, offset, len),
                done => Ok(done?),
            }
        })
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::KEEP_SIZE;
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, offset, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached(|| self.file.set_len(len))
    }

    /// The kernel's call for this (`sync_file_range`) has no safe wrapper; dropping the range from the cache starts
    /// write-back of what is dirty in it as its first step, and what is clean will only be read past the cache.
    fn start_writeback(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            // The trait calls this a hint: the sync that follows reports what matters.
            let _hint = rustix::fs::fadvise(&self.file, offset, Some(len), Advice::DontNeed);
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_metadata(&self, mode: u32, mtime: Timestamp) -> io::Result<()> {
        let times = times_from(mtime)?;
        let is_readable_after = mode & OWNER_READS != 0 && self.at_open.owner == *USER;
        if !is_readable_after && self.bypass.get().is_none() {
            let bypass = self.open_bypass()?;
            self.bypass.get_or_init(|| bypass);
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode & PERMISSION_BITS))?;
        Ok(rustix::fs::futimens(&self.file, &times)?)
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        let size = self.file.metadata()?.len();
        if offset >= size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no extent begins at or beyond the end of the file",
            ));
        }
        // The position that these calls move is used by nothing else, and their result does not depend on it.
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok(Extent::HoleUntil(data)),
            Ok(_) => match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(hole) if hole > offset => Ok(Extent::DataUntil(hole)),
                // Punched or cut between the two calls: what is not known to be a hole counts as data.
                Ok(_) | Err(Errno::NXIO) => Ok(Extent::DataUntil(size)),
                Err(errno) => Err(errno.into()),
            },
            Err(Errno::NXIO) => Ok(Extent::HoleUntil(size)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Extent::DataUntil(size)),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Refuses what is not a regular file, with the error that opening it would have had.
fn regular(stat: &Stat) -> io::Result<()> {
    match stat.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(Errno::ISDIR.into()),
        FileKind::Symlink => Err(Errno::LOOP.into()),
        FileKind::Special => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a FIFO, socket or device, and only regular files are opened",
        )),
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let (mut filled, mut position) = (0, offset);
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes zeros over a range, as far as the file goes: what punching does where holes cannot be made.
pub(super) fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let end = offset.saturating_add(len).min(file.metadata()?.len());
    let mut position = offset;
    while position < end {
        let count = usize::try_from(end - position).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        file.write_all_at(&ZEROS[..count], position)?;
        position += count as u64;
    }
    Ok(())
}
