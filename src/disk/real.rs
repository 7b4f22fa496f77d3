//! [`RealDisk`]: the kernel's own storage, every name reached from a held directory. Owns what is done to names:
//! opening, making, renaming, removing, modes and times, free space. No retry beyond interrupted calls, no policy.
//! Not here: the bytes of files ([`super::RealFile`]), how directories are held ([`super::RealDir`]).

use std::io;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, StatFs, StatxFlags};
use rustix::io::Errno;

use super::kernel::{
    PERMISSION_BITS, component, open_beneath, procfs_path, set_permission_bits, stat_component, stat_descriptor,
    through_procfs, times_from,
};
use super::{Access, Disk, Listed, RealDir, RealFile, Rooted, Space, Stat};
use crate::attributes::{FileKind, Timestamp};

/// Magic numbers by which `statfs` names file systems (linux/magic.h).
const EXT4_MAGIC: u32 = 0xef53;
const XFS_MAGIC: u32 = 0x5846_5342;
const BTRFS_MAGIC: u32 = 0x9123_683e;
const F2FS_MAGIC: u32 = 0xf2f5_2010;
const TMPFS_MAGIC: u32 = 0x0102_1994;
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// Most bytes that a list of attribute names can have (`XATTR_LIST_MAX`).
const ATTRIBUTE_NAMES_BYTES_MAX: usize = 64 << 10;

/// The storage of this machine, through `openat2` and held descriptors. Linux 5.6 or newer.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// The storage; touches nothing.
    pub fn new() -> RealDisk {
        RealDisk
    }

    /// Opens an existing directory by an ordinary path, following links, since the user named it. Everything else
    /// starts from what this returns. Says so if the kernel or a sandbox refuses `openat2`.
    pub fn open_root(path: &Path) -> io::Result<RealDir> {
        RealDir::open_root(path)
    }
}

impl Rooted for RealDisk {
    fn open_root(&self, path: &Path) -> io::Result<RealDir> {
        RealDisk::open_root(path)
    }
}

impl Disk for RealDisk {
    type Dir = RealDir;
    type File = RealFile;

    fn mount_of(&self, dir: &RealDir) -> io::Result<u64> {
        let (flags, wanted) = (AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
        match rustix::io::retry_on_intr(|| rustix::fs::statx(dir.fd(), c"", flags, wanted)) {
            Ok(found) if found.stx_mask & wanted.bits() != 0 => Ok(found.stx_mnt_id),
            _ => Ok(self.stat_dir(dir)?.device),
        }
    }

    fn open_dir(&self, dir: &RealDir, path: &[u8]) -> io::Result<RealDir> {
        dir.open_below(path)
    }

    fn make_dir(&self, dir: &RealDir, name: &[u8], mode: u32) -> io::Result<()> {
        let mode = mode & PERMISSION_BITS;
        rustix::fs::mkdirat(dir.fd(), component(name)?, Mode::from_raw_mode(mode))?;
        if stat_component(dir.fd(), name)?.mode & PERMISSION_BITS == mode {
            return Ok(());
        }
        self.set_mode(dir, name, mode)
    }

    fn list(&self, dir: &RealDir) -> io::Result<Vec<Listed>> {
        dir.list()
    }

    fn stat(&self, dir: &RealDir, name: &[u8]) -> io::Result<Stat> {
        stat_component(dir.fd(), name)
    }

    fn stat_dir(&self, dir: &RealDir) -> io::Result<Stat> {
        stat_descriptor(dir.fd())
    }

    fn open(&self, dir: &RealDir, name: &[u8], access: Access) -> io::Result<RealFile> {
        RealFile::open(dir, name, access)
    }

    fn open_seen(&self, dir: &RealDir, name: &[u8], access: Access, seen: &Stat) -> io::Result<RealFile> {
        RealFile::open_seen(dir, name, access, seen)
    }

    fn create_exclusive(&self, dir: &RealDir, name: &[u8]) -> io::Result<RealFile> {
        RealFile::create(dir, name)
    }

    fn rename_noreplace(&self, from: &RealDir, name: &[u8], to: &RealDir, new: &[u8]) -> io::Result<()> {
        let (name, new) = (component(name)?, component(new)?);
        match rustix::fs::renameat_with(from.fd(), name, to.fd(), new, RenameFlags::NOREPLACE) {
            Err(errno @ (Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
                if stat_component(from.fd(), name)?.kind != FileKind::Regular {
                    return Err(errno.into());
                }
                link_and_unlink(from, name, to, new)
            }
            done => Ok(done?),
        }
    }

    fn replace(&self, from: &RealDir, name: &[u8], to: &RealDir, new: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(from.fd(), component(name)?, to.fd(), component(new)?)?)
    }

    fn make_symlink(&self, target: &[u8], dir: &RealDir, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, dir.fd(), component(name)?)?)
    }

    fn read_link(&self, dir: &RealDir, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(dir.fd(), component(name)?, Vec::new())?.into_bytes())
    }

    fn remove(&self, dir: &RealDir, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(dir.fd(), component(name)?, AtFlags::empty())?)
    }

    fn remove_dir(&self, dir: &RealDir, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(dir.fd(), component(name)?, AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, dir: &RealDir) -> io::Result<()> {
        dir.with_readable(|fd| Ok(rustix::io::retry_on_intr(|| rustix::fs::fsync(fd))?))
    }

    fn sync_file_system(&self, dir: &RealDir) -> io::Result<()> {
        dir.with_readable(|fd| Ok(rustix::io::retry_on_intr(|| rustix::fs::syncfs(fd))?))
    }

    fn set_dir_metadata(&self, dir: &RealDir, mode: u32, mtime: Timestamp) -> io::Result<()> {
        let times = times_from(mtime)?;
        set_permission_bits(dir.fd(), mode)?;
        match rustix::fs::futimens(dir.fd(), &times) {
            Err(Errno::BADF) => {
                through_procfs(dir.fd(), |table, entry| rustix::fs::utimensat(table, entry, &times, AtFlags::empty()))
            }
            done => Ok(done?),
        }
    }

    fn set_mode(&self, dir: &RealDir, name: &[u8], mode: u32) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let held = open_beneath(dir.fd(), component(name)?, flags, Mode::empty())?;
        set_permission_bits(held.as_fd(), mode)
    }

    fn set_mtime(&self, dir: &RealDir, name: &[u8], mtime: Timestamp) -> io::Result<()> {
        let times = times_from(mtime)?;
        Ok(rustix::fs::utimensat(dir.fd(), component(name)?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn space(&self, dir: &RealDir) -> io::Result<Space> {
        let space = rustix::fs::fstatfs(dir.fd())?;
        let unit = u64::try_from(if space.f_frsize > 0 { space.f_frsize } else { space.f_bsize }).unwrap_or(0);
        let magic = magic(&space);
        Ok(Space {
            bytes_free: space.f_bavail.saturating_mul(unit),
            bytes_total: space.f_blocks.saturating_mul(unit),
            inodes_free: (space.f_files > 0).then_some(space.f_ffree),
            is_syncfs_good: matches!(magic, EXT4_MAGIC | XFS_MAGIC | BTRFS_MAGIC | F2FS_MAGIC),
            is_volatile: is_volatile(&space),
        })
    }

    fn has_extended_attributes(&self, dir: &RealDir, name: &[u8]) -> bool {
        let Ok(path) = procfs_path(dir.fd(), name) else { return false };
        let mut small = [0; 1024];
        match rustix::fs::llistxattr(&path, &mut small) {
            Ok(filled) => small[..filled].split(|byte| *byte == 0).any(is_lost_by_copying),
            Err(Errno::RANGE) => {
                let mut large = vec![0; ATTRIBUTE_NAMES_BYTES_MAX];
                match rustix::fs::llistxattr(&path, &mut large[..]) {
                    Ok(filled) => large[..filled].split(|byte| *byte == 0).any(is_lost_by_copying),
                    Err(_) => true,
                }
            }
            Err(_) => false,
        }
    }
}

/// Contents do not survive a power cut, and no read bypasses memory.
pub(super) fn is_volatile(space: &StatFs) -> bool {
    matches!(magic(space), TMPFS_MAGIC | RAMFS_MAGIC)
}

/// The type word is signed and of differing width; the magic number is its low 32 bits.
#[allow(clippy::useless_conversion, reason = "the word is narrower on other machines")]
fn magic(space: &StatFs) -> u32 {
    u32::try_from(i64::from(space.f_type) & i64::from(u32::MAX)).expect("masked to 32 bits")
}

/// Names that somebody set. Labels under `security.` are the system's, except file capabilities; names under
/// `system.` are views that file systems make up (NFS lists one for every file), except POSIX ACLs.
fn is_lost_by_copying(name: &[u8]) -> bool {
    const SET_BY_SOMEBODY: [&[u8]; 3] =
        [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    let is_made_up = name.is_empty() || name.starts_with(b"security.") || name.starts_with(b"system.");
    !is_made_up || SET_BY_SOMEBODY.contains(&name)
}

/// Renames a regular file without replacing, where the file system has no call for it. Both names exist in between;
/// if the old one cannot be removed the new one is withdrawn, so that an error means "nothing changed".
pub(super) fn link_and_unlink(from: &RealDir, name: &[u8], to: &RealDir, new: &[u8]) -> io::Result<()> {
    rustix::fs::linkat(from.fd(), name, to.fd(), new, AtFlags::empty())?;
    let Err(cause) = rustix::fs::unlinkat(from.fd(), name, AtFlags::empty()) else { return Ok(()) };
    match rustix::fs::unlinkat(to.fd(), new, AtFlags::empty()) {
        Ok(()) => Err(cause.into()),
        Err(second) => Err(io::Error::other(format!("{cause}; both names are left, since {second}"))),
    }
}
