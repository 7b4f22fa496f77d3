//! The kernel's side: turns its requests into calls of [`State`] and results into replies. Slow operations are answered
//! from threads of their own, so that nothing else waits for them.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{OFlags, Stat, Timespec};

use super::state::{Caller, State, Wish};

/// How long the kernel may keep names. Attributes it asks for each time: a sync changes them.
const NAME_TIME: Duration = Duration::from_secs(1);
/// Bytes of one request to write or to read at most.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Where pages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Through the kernel's page cache, which stays when a file is opened again: as on a real disk.
    #[default]
    Kept,
    /// Past it: each read asks the disk, as under the worst pressure on memory.
    Never,
}

/// Serves one mount.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) cache: Cache,
}

/// The state, also after a panic of another thread: each request stands alone.
pub(super) fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(crate::errno::EIO))
}

fn moment(seconds: i64, nanos: u64) -> SystemTime {
    let nanos = Duration::from_nanos(nanos);
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds) + nanos,
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + nanos,
    }
}

/// A time of a request. Before 1970 the library gives the seconds and the nanoseconds both counted backwards.
fn timespec(time: TimeOrNow) -> Timespec {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let TimeOrNow::SpecificTime(time) = time else {
        let now = now();
        return Timespec { tv_sec: now.tv_sec, tv_nsec: now.tv_nsec };
    };
    let (is_before, since) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (false, since),
        Err(error) => (true, error.duration()),
    };
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: if is_before { -seconds } else { seconds }, tv_nsec: since.subsec_nanos().into() }
}

fn kind_of(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "stat's fields differ in width between machines")]
fn attributes(stat: &Stat) -> FileAttr {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    FileAttr {
        ino: INodeNo(stat.st_ino),
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: moment(stat.st_atime, stat.st_atime_nsec as u64),
        mtime: moment(stat.st_mtime, stat.st_mtime_nsec as u64),
        ctime: moment(stat.st_ctime, stat.st_ctime_nsec as u64),
        crtime: UNIX_EPOCH,
        kind: kind_of(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
        perm: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        nlink: narrow(stat.st_nlink as u64),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: narrow(stat.st_rdev as u64),
        blksize: 4096,
        flags: 0,
    }
}

fn entry(result: io::Result<Stat>, reply: ReplyEntry) {
    match result {
        Ok(stat) => reply.entry_with_ttls(&Duration::ZERO, &NAME_TIME, &attributes(&stat), Generation(0)),
        Err(error) => reply.error(errno_of(&error)),
    }
}

fn attr(result: io::Result<Stat>, reply: ReplyAttr) {
    match result {
        Ok(stat) => reply.attr(&Duration::ZERO, &attributes(&stat)),
        Err(error) => reply.error(errno_of(&error)),
    }
}

fn empty(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno_of(&error)),
    }
}

fn caller(request: &Request) -> Caller {
    Caller { user: request.uid(), group: request.gid() }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn open_flags(&self, flags: i32) -> FopenFlags {
        let is_direct = flags.cast_unsigned() & OFlags::DIRECT.bits() != 0;
        // The cache is kept also here: on a real disk a direct read does not drop what others have cached.
        match is_direct || self.cache == Cache::Never {
            true => FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_KEEP_CACHE,
            false => FopenFlags::FOPEN_KEEP_CACHE,
        }
    }

    /// Does it and answers, after a while if there is one to wait.
    fn after(
        &self,
        delay: Option<Duration>,
        reply: ReplyEmpty,
        act: impl FnOnce(&mut State) -> io::Result<()> + Send + 'static,
    ) {
        let Some(delay) = delay else { return empty(act(&mut self.state()), reply) };
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            let result = act(&mut locked(&state));
            empty(result, reply);
        });
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The nearest that the kernel allows, where it allows less.
        let _ = config.set_max_write(REQUEST_BYTES_MAX).or_else(|nearest| config.set_max_write(nearest));
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.state().lookup(parent.0, name), reply);
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.state().forget(ino.0, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(self.state().stat(ino.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(timespec), mtime.map(timespec));
        attr(self.state().set(ino.0, &Wish { mode, owner, group, size, atime, mtime }), reply);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.state().read_link(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        entry(self.state().make_node(parent.0, name, mode, caller(request)), reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(self.state().make_dir(parent.0, name, mode, caller(request)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.state().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.state().remove(parent.0, name, true), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        entry(self.state().make_link(parent.0, name, target, caller(request)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let delay = self.state().rename_delay(parent.0, name);
        let (from, to) = (name.to_owned(), new_name.to_owned());
        let flags = rustix::fs::RenameFlags::from_bits_truncate(flags.bits());
        self.after(delay, reply, move |state| state.rename((parent.0, &from), (new_parent.0, &to), flags));
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.state().link(ino.0, parent.0, name), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let is_truncating = flags.0.cast_unsigned() & OFlags::TRUNC.bits() != 0;
        match self.state().open(ino.0, is_truncating) {
            Ok(()) => reply.opened(FileHandle(ino.0), self.open_flags(flags.0)),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().read(ino.0, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.state().write(ino.0, offset, data) {
            Ok(taken) => reply.written(u32::try_from(taken).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state().release(ino.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let delay = self.state().sync_delay(ino.0);
        self.after(delay, reply, move |state| state.sync(ino.0));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.state().open_dir(ino.0) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.state();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (inode, kind, name)) in state.listing(handle.0).iter().enumerate().skip(from) {
            if reply.add(INodeNo(*inode), at as u64 + 1, kind_of(*kind), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.state().release_dir(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let delay = self.state().sync_delay(ino.0);
        self.after(delay, reply, move |state| state.sync_dir(ino.0));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.state().space() {
            Ok(space) => {
                let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                reply.statfs(
                    space.f_blocks,
                    space.f_bfree,
                    space.f_bavail,
                    space.f_files,
                    space.f_ffree,
                    narrow(space.f_bsize),
                    narrow(space.f_namemax),
                    narrow(space.f_frsize),
                );
            }
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let is_exclusive = flags.cast_unsigned() & OFlags::EXCL.bits() != 0;
        match self.state().create(parent.0, name, mode, is_exclusive, caller(request)) {
            Ok(stat) => {
                let handle = FileHandle(stat.st_ino);
                reply.created(&Duration::ZERO, &attributes(&stat), Generation(0), handle, self.open_flags(flags));
            }
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(self.state().allocate(ino.0, offset, length, mode), reply);
    }
}
