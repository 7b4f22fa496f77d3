//! One inode of the lying disk: what BACKING holds of it is on the platter, everything else is in memory until a sync.
//! Owns dirty pages, the size, mode and modification time that no sync has stored yet, and what a power cut leaves of
//! them. Knows no faults and no names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};

/// Unit of what is dirty.
const PAGE_BYTES: usize = 4096;
/// Unit of what is torn by a power cut.
const SECTOR_BYTES: usize = 512;

/// An inode.
#[derive(Debug)]
pub(super) struct Node {
    /// How it was called last, below the mount.
    pub(super) path: String,
    /// Holds it, without access to its bytes.
    pub(super) held: Arc<OwnedFd>,
    pub(super) kind: FileType,
    /// References of the kernel's.
    pub(super) lookups: u64,
    /// Open descriptors.
    pub(super) opens: u64,
    file: Option<File>,
    /// Size as everybody sees it.
    size: u64,
    /// Bytes of BACKING that count; beyond it there were others before a truncation.
    valid: u64,
    mode: Option<u32>,
    mtime: Option<Timespec>,
    /// When somebody last changed it by the mount. A sync moves bytes to BACKING later, which is no change of the file.
    ctime: Option<Timespec>,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Node {
    /// Of an inode that is held.
    pub(super) fn new(held: OwnedFd, stat: &Stat, path: String) -> Node {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let size = if kind == FileType::RegularFile { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        Node {
            path,
            held: Arc::new(held),
            kind,
            lookups: 0,
            opens: 0,
            file: None,
            size,
            valid: size,
            mode: None,
            mtime: None,
            ctime: None,
            pages: BTreeMap::new(),
        }
    }

    /// The inode by the descriptor table of this process: the only way to its times, mode and bytes from a descriptor
    /// that gives no access.
    pub(super) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.held.as_raw_fd())
    }

    /// Whether a sync has something to store.
    pub(super) fn is_dirty(&self) -> bool {
        !self.pages.is_empty() || self.size != self.valid || self.mode.is_some() || self.mtime.is_some()
    }

    /// Pages in memory.
    pub(super) fn dirty_pages(&self) -> usize {
        self.pages.len()
    }

    /// Size as everybody sees it.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What `stat` gives, with what only memory knows.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        let mut stat = rustix::fs::fstat(&*self.held)?;
        if self.kind == FileType::RegularFile {
            stat.st_size = i64::try_from(self.size).unwrap_or(i64::MAX);
            stat.st_blocks += i64::try_from(self.pages.len() * PAGE_BYTES / SECTOR_BYTES).unwrap_or(0);
        }
        if let Some(mode) = self.mode {
            stat.st_mode = stat.st_mode & !0o7777 | mode;
        }
        if let Some(mtime) = self.mtime {
            stat.st_mtime = mtime.tv_sec;
            stat.st_mtime_nsec = mtime.tv_nsec.try_into().unwrap_or(0);
        }
        if let Some(ctime) = self.ctime {
            stat.st_ctime = ctime.tv_sec;
            stat.st_ctime_nsec = ctime.tv_nsec.try_into().unwrap_or(0);
        }
        Ok(stat)
    }

    /// Takes over a file that was just made and opened.
    pub(super) fn adopt(&mut self, file: File) {
        self.file = Some(file);
    }

    /// Closes the descriptor of its bytes where nobody needs it.
    pub(super) fn rest(&mut self) {
        if self.opens == 0 && !self.is_dirty() {
            self.file = None;
        }
    }

    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let path = self.proc_path();
            let open = |access| rustix::fs::openat(CWD, path.as_str(), access | OFlags::CLOEXEC, Mode::empty());
            let opened = open(OFlags::RDWR).or_else(|_| open(OFlags::RDONLY))?;
            self.file = Some(File::from(opened));
        }
        Ok(self.file.as_ref().expect("opened just above"))
    }

    /// Opens it, so that an error is told where it belongs.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.file().map(|_| ())
    }

    /// Reads as everybody sees it: short only at the end.
    pub(super) fn read(&mut self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = self.size.min(offset.saturating_add(len as u64));
        let mut data = vec![0u8; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
        if data.is_empty() {
            return Ok(data);
        }
        self.read_platter(offset, &mut data)?;
        let first = offset / PAGE_BYTES as u64;
        for (number, page) in self.pages.range(first..=(end - 1) / PAGE_BYTES as u64) {
            let at = number * PAGE_BYTES as u64;
            let (from, to) = (at.max(offset), (at + PAGE_BYTES as u64).min(end));
            let source = &page[usize_of(from - at)..usize_of(to - at)];
            data[usize_of(from - offset)..usize_of(to - offset)].copy_from_slice(source);
        }
        Ok(data)
    }

    /// Reads what BACKING holds and counts; zeros beyond it.
    fn read_platter(&mut self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let valid = usize::try_from(self.valid.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
        let file = self.file()?;
        let mut filled = 0;
        while filled < valid {
            match file.read_at(&mut data[filled..valid], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts bytes into memory.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let mut at = offset;
        while at < end {
            let number = at / PAGE_BYTES as u64;
            let start = number * PAGE_BYTES as u64;
            let stop = (start + PAGE_BYTES as u64).min(end);
            let is_whole = at == start && stop == start + PAGE_BYTES as u64;
            if !self.pages.contains_key(&number) {
                let mut page = vec![0u8; PAGE_BYTES];
                if !is_whole {
                    self.read_platter(start, &mut page)?;
                }
                self.pages.insert(number, page.into());
            }
            let page = self.pages.get_mut(&number).expect("inserted just above");
            page[usize_of(at - start)..usize_of(stop - start)]
                .copy_from_slice(&data[usize_of(at - offset)..usize_of(stop - offset)]);
            at = stop;
        }
        self.size = self.size.max(end);
        self.touch();
        Ok(())
    }

    /// The size grows to hold a write whose bytes go nowhere.
    pub(super) fn grow(&mut self, end: u64) {
        self.size = self.size.max(end);
        self.touch();
    }

    /// Cuts or extends; what was cut reads as zeros when it comes back.
    pub(super) fn set_size(&mut self, size: u64) {
        let first_gone = size.div_ceil(PAGE_BYTES as u64);
        self.pages.split_off(&first_gone);
        let within = usize_of(size % PAGE_BYTES as u64);
        if within > 0
            && let Some(page) = self.pages.get_mut(&(size / PAGE_BYTES as u64))
        {
            page[within..].fill(0);
        }
        self.valid = self.valid.min(size);
        self.size = size;
        self.touch();
    }

    /// Makes zeros of a range within the size.
    pub(super) fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        const BLOCK: &[u8] = &[0; 64 << 10];
        let end = offset.saturating_add(len).min(self.size);
        let mut at = offset;
        // Where BACKING has nothing and memory neither, there is a hole already, however long.
        let first = offset / PAGE_BYTES as u64;
        if at >= self.valid && self.pages.range(first..end.div_ceil(PAGE_BYTES as u64)).next().is_none() {
            return Ok(());
        }
        while at < end {
            let part = (end - at).min(BLOCK.len() as u64);
            self.write(at, &BLOCK[..usize_of(part)])?;
            at += part;
        }
        Ok(())
    }

    fn touch(&mut self) {
        self.changed();
        self.mtime = self.ctime;
    }

    /// Something about the file changed now: an attribute, its names, or its bytes.
    pub(super) fn changed(&mut self) {
        if self.kind == FileType::RegularFile {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            self.ctime = Some(Timespec { tv_sec: now.tv_sec, tv_nsec: now.tv_nsec });
        }
    }

    /// Mode bits; of a file until its next sync only in memory.
    pub(super) fn set_mode(&mut self, mode: u32) -> io::Result<()> {
        if self.kind == FileType::RegularFile {
            self.mode = Some(mode & 0o7777);
            return Ok(());
        }
        Ok(rustix::fs::chmodat(CWD, self.proc_path(), Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())?)
    }

    /// Times; the modification time of a file until its next sync only in memory.
    pub(super) fn set_times(&mut self, atime: Option<Timespec>, mtime: Option<Timespec>) -> io::Result<()> {
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let is_file = self.kind == FileType::RegularFile;
        let now = if is_file { omitted } else { mtime.unwrap_or(omitted) };
        let times = Timestamps { last_access: atime.unwrap_or(omitted), last_modification: now };
        rustix::fs::utimensat(CWD, self.proc_path(), &times, rustix::fs::AtFlags::empty())?;
        if is_file {
            self.mtime = mtime.or(self.mtime);
        }
        Ok(())
    }

    /// A sync: everything goes to the platter.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.kind != FileType::RegularFile || !self.is_dirty() {
            return Ok(());
        }
        let pages = std::mem::take(&mut self.pages);
        let size = self.size;
        let stored = self.store(size, pages.iter().map(|(number, page)| (*number, &page[..])));
        if stored.is_err() {
            self.pages = pages;
            return stored;
        }
        let (mode, mtime) = (self.mode.take(), self.mtime.take());
        let file = self.file()?;
        if let Some(mode) = mode {
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
        }
        if let Some(last_modification) = mtime {
            let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?;
        }
        Ok(())
    }

    /// Gives the platter a size and pages of it.
    fn store<'a>(&mut self, size: u64, pages: impl Iterator<Item = (u64, &'a [u8])>) -> io::Result<()> {
        let valid = self.valid;
        let file = self.file()?;
        if file.metadata()?.len() != valid {
            file.set_len(valid)?;
        }
        for (number, page) in pages {
            let at = number * PAGE_BYTES as u64;
            let len = usize::try_from(size.saturating_sub(at)).unwrap_or(PAGE_BYTES).min(PAGE_BYTES);
            file.write_all_at(&page[..len], at)?;
        }
        file.set_len(size)?;
        self.valid = size;
        Ok(())
    }

    /// A failed sync: pages are clean and gone, the size is kept. Only the kernel's cache still knows the bytes.
    pub(super) fn forget_pages(&mut self) -> io::Result<()> {
        self.pages.clear();
        self.flush()
    }

    /// Bytes change on the platter, nowhere else. `damage` gets what is there and gives how much it changed.
    pub(super) fn alter(&mut self, offset: u64, len: usize, damage: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let len = usize::try_from(self.valid.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        let mut data = vec![0u8; len];
        self.read_platter(offset, &mut data)?;
        damage(&mut data);
        let mtime = {
            let stat = rustix::fs::fstat(&*self.held)?;
            Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) }
        };
        let file = self.file()?;
        file.write_all_at(&data, offset)?;
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Ok(rustix::fs::futimens(file, &Timestamps { last_access, last_modification: mtime })?)
    }

    /// Bytes on the platter that count.
    pub(super) fn platter_bytes(&self) -> u64 {
        self.valid
    }

    /// The power goes: of what was not synced chance keeps all, nothing, or some pages, some of them torn between
    /// sectors; and the size by itself. Gives how many pages are lost.
    pub(super) fn cut(&mut self, chance: &mut ChaCha8Rng) -> io::Result<u64> {
        if self.kind != FileType::RegularFile || !self.is_dirty() {
            return Ok(0);
        }
        let pages = std::mem::take(&mut self.pages);
        let (mode, mtime) = (self.mode.take(), self.mtime.take());
        let is_size_kept = chance.random_range(0..2) == 0;
        let keeps: u32 = [0, 0, 500, 1000][chance.random_range(0..4)];
        let size = if is_size_kept { self.size } else { self.valid };
        let mut kept = vec![];
        for (number, page) in &pages {
            let at = number * PAGE_BYTES as u64;
            if chance.random_range(0..1000) >= keeps || at >= size {
                continue;
            }
            let mut mixed = vec![0u8; PAGE_BYTES];
            self.read_platter(at, &mut mixed)?;
            let is_torn = chance.random_range(0..4) == 0;
            let sectors =
                if is_torn { chance.random_range(1..PAGE_BYTES / SECTOR_BYTES) } else { PAGE_BYTES / SECTOR_BYTES };
            mixed[..sectors * SECTOR_BYTES].copy_from_slice(&page[..sectors * SECTOR_BYTES]);
            kept.push((*number, mixed));
        }
        let lost = (pages.len() - kept.len()) as u64;
        self.store(size, kept.iter().map(|(number, page)| (*number, &page[..])))?;
        self.size = size;
        let is_attribute_kept = is_size_kept && chance.random_range(0..2) == 0;
        if is_attribute_kept {
            (self.mode, self.mtime) = (mode, mtime);
            self.flush()?;
        }
        Ok(lost)
    }
}

/// A position within a page or a request, which fits.
fn usize_of(value: u64) -> usize {
    usize::try_from(value).expect("lies within one request")
}
