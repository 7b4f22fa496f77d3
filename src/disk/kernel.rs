//! What directories and files both need of the kernel: confined opening, names of one component, stats and times
//! in our own types, and the way back from a held descriptor to its inode through procfs.
//! Not here: anything that reads, writes or changes a name.

use std::ffi::CString;
use std::io;
use std::sync::OnceLock;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Stat;
use crate::attributes::{FileKind, Timestamp};
use crate::limits::OPEN_ATTEMPTS_MAX;
use crate::path::Escaped;

/// How many descriptors this process may have open, after its soft limit was raised to the hard one.
pub fn descriptors_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // `None` stands for no limit at all.
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Has the kernel make room for descriptors below `count` at once. Later, when the process has several threads, each
/// doubling of the table holds up whoever opens a file until all processors have let go of the old one (Linux, `fs/file.c`).
pub fn widen_descriptor_table(count: u64) {
    let last = i32::try_from(count.min(descriptors_max()).saturating_sub(1)).unwrap_or(i32::MAX);
    // Only speed depends on it.
    drop(rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last));
}

/// No way out of the directory: not by `..`, not by a link, not by procfs.
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The permission bits that are ever set.
pub(super) const PERMISSION_BITS: u32 = 0o777;

/// Why nothing can be opened on this system.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system call openat2 is refused ({cause}): Linux 5.6 or newer is needed, and a sandbox that lets it through"
)]
struct OpenRefused {
    cause: Errno,
}

/// A name that is not one plain component; a bug of the caller or a file system that lists such names.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not the name of one file or directory", Escaped(name))]
struct NotOneComponent {
    name: Vec<u8>,
}

/// Opens below `dir`, following no link of any kind. `path` is relative, shorter than `PATH_MAX`.
pub(super) fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut attempts = 1;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, CONFINED) {
            Ok(fd) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if attempts < OPEN_ATTEMPTS_MAX => attempts += 1,
            Err(errno @ (Errno::NOSYS | Errno::PERM)) => {
                // An immutable file says EPERM too, so only a refusal of what always works counts as one.
                check_openat2(dir)?;
                return Err(errno.into());
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Tells whether openat2 exists and is let through: old kernels and old sandboxes answer with these two errors.
pub(super) fn check_openat2(dir: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::io::retry_on_intr(|| rustix::fs::openat2(dir, ".", flags, Mode::empty(), CONFINED)) {
        Err(cause @ (Errno::NOSYS | Errno::PERM)) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, OpenRefused { cause }))
        }
        _ => Ok(()),
    }
}

/// The name, if it is one component that stays in its directory. The calls that take a name and not a path rely
/// on it, because they are not confined by `openat2`.
pub(super) fn component(name: &[u8]) -> io::Result<&[u8]> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NotOneComponent { name: name.to_vec() }));
    }
    Ok(name)
}

/// Stat of a component, not following it.
pub(super) fn stat_component(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(dir, component(name)?, flags, StatxFlags::BASIC_STATS)?;
    Ok(stat_from(&stat))
}

/// Stat of what a descriptor holds.
pub(super) fn stat_descriptor(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    statx_descriptor(fd, StatxFlags::BASIC_STATS).map(|stat| stat_from(&stat))
}

/// The kernel's own answer about what a descriptor holds.
pub(super) fn statx_descriptor(fd: BorrowedFd<'_>, mask: StatxFlags) -> io::Result<Statx> {
    Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, mask)?)
}

fn stat_from(stat: &Statx) -> Stat {
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Special,
    };
    Stat {
        kind,
        size: stat.stx_size,
        mode: u32::from(stat.stx_mode) & 0o7777,
        mtime: Timestamp { seconds: stat.stx_mtime.tv_sec, nanos: stat.stx_mtime.tv_nsec },
        ctime: Timestamp { seconds: stat.stx_ctime.tv_sec, nanos: stat.stx_ctime.tv_nsec },
        inode: stat.stx_ino,
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        links: u64::from(stat.stx_nlink),
        owner: stat.stx_uid,
    }
}

/// What sets the modification time. The access time becomes now: leaving it out makes many FUSE file systems ignore
/// the call and report success. Nanoseconds of a second or more are refused: two such values mean "now" and "leave
/// it" to the kernel, and a peer may send any.
pub(super) fn times_from(mtime: Timestamp) -> io::Result<Timestamps> {
    if mtime.nanos >= 1_000_000_000 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the time has a second or more of nanoseconds"));
    }
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    })
}

/// Calls `act` with procfs's directory of our descriptors and the entry that leads to the inode of `fd`, whatever
/// became of its name. Fails with `Unsupported` where procfs is not mounted.
pub(super) fn through_procfs<T>(
    fd: BorrowedFd<'_>,
    act: impl FnOnce(BorrowedFd<'_>, &str) -> Result<T, Errno>,
) -> io::Result<T> {
    Ok(act(descriptor_table()?, &fd.as_raw_fd().to_string())?)
}

/// Sets the permission bits of the inode of `fd`, which may be opened by path only.
pub(super) fn set_permission_bits(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let stat = stat_descriptor(fd)?;
    // The other bits of a directory (setgid, sticky) are its owner's or inherited; a file of ours has none.
    let mode = match stat.kind {
        FileKind::Directory => mode & PERMISSION_BITS | stat.mode & !PERMISSION_BITS,
        FileKind::Regular | FileKind::Special => mode & PERMISSION_BITS,
        FileKind::Symlink => return Err(Errno::LOOP.into()),
    };
    if mode == stat.mode {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::fchmod(fd, mode) {
        Err(Errno::BADF) => {
            through_procfs(fd, |table, entry| rustix::fs::chmodat(table, entry, mode, AtFlags::empty()))
        }
        done => Ok(done?),
    }
}

/// The path by which a name below `dir` is reached in calls that know no directory descriptors.
pub(super) fn procfs_path(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(component(name)?);
    Ok(CString::new(path)?)
}

/// A held `/proc/self/fd` that really is procfs. One for the process, since it is a fact about the process.
fn descriptor_table() -> io::Result<BorrowedFd<'static>> {
    static TABLE: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(table) = TABLE.get() {
        return Ok(table.as_fd());
    }
    let absent = |cause: &str| io::Error::new(io::ErrorKind::Unsupported, format!("procfs is not at `/proc`: {cause}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let table = match rustix::fs::open("/proc/self/fd", flags, Mode::empty()) {
        Ok(table) => table,
        Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)) => return Err(absent(&errno.to_string())),
        Err(errno) => return Err(errno.into()),
    };
    if rustix::fs::fstatfs(&table)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(absent("another file system is mounted there"));
    }
    Ok(TABLE.get_or_init(|| table).as_fd())
}
