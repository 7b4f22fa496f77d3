//! Small state files: written whole and atomically, read whole and bounded, with a first line that names kind and
//! version and holds a check over all that follows. It does not know what stands in them.
//!
//! ```text
//! landfall transfer 1 0123456789abcdef     kind, version, first 8 bytes of the BLAKE3 of "KIND VERSION\n" and the body
//! {...}                                    body, JSON
//! ```

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use data_encoding::HEXLOWER;

use crate::attributes::FileKind;
use crate::digest;
use crate::disk::{Access, Disk, DiskFile, RealDisk};
use crate::state::log::read_exact_at;

/// Mode of every directory that landfall keeps state in.
const DIR_MODE: u32 = 0o700;

/// What kind of file it is, and the version that this program writes and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The words that begin the file.
    pub name: &'static str,
    /// The one version that is known.
    pub version: u32,
}

/// Why bytes are not the body of a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The first line or the check is not right.
    #[error("it is damaged")]
    Damaged,
    /// It was written and synced, and the device gives something else.
    #[error("it does not read back as it was written")]
    ReadsOtherwise,
    /// Written by a program of another version.
    #[error("it has version {0}, which this landfall does not know")]
    Version(u32),
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, damage)
    }
}

/// The file around a body.
pub fn enclose(kind: Kind, body: &[u8]) -> Vec<u8> {
    let head = format!("{} {} {}\n", kind.name, kind.version, check(kind, body));
    [head.as_bytes(), body].concat()
}

/// The body of a file, if the file is whole and of this kind and version.
pub fn disclose(kind: Kind, bytes: &[u8]) -> Result<&[u8], Damage> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Damage::Damaged)?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| Damage::Damaged)?;
    let rest = head.strip_prefix(kind.name).and_then(|rest| rest.strip_prefix(' ')).ok_or(Damage::Damaged)?;
    let (version, found) = rest.split_once(' ').ok_or(Damage::Damaged)?;
    let version = version.parse().map_err(|_| Damage::Damaged)?;
    if found != check(Kind { version, ..kind }, body) {
        return Err(Damage::Damaged);
    }
    if version == kind.version { Ok(body) } else { Err(Damage::Version(version)) }
}

fn check(kind: Kind, body: &[u8]) -> String {
    let head = format!("{} {}\n", kind.name, kind.version);
    HEXLOWER.encode(&digest::check8(&[head.as_bytes(), body]))
}

/// Puts a file under a name so that a crash leaves the old bytes or the new ones: written beside it, synced,
/// renamed, and the directory synced. Only one process at a time may write a name; its lock is the caller's.
pub fn write_atomic<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8], bytes: &[u8]) -> io::Result<()> {
    let beside = temporary(name);
    let file = create_anew(disk, dir, &beside)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    disk.replace(dir, &beside, dir, name)?;
    disk.sync_dir(dir)
}

/// The name under which a file is written before it gets its own. The same each time, so that a crash leaves at most
/// one, and the next write removes it.
pub fn temporary(name: &[u8]) -> Vec<u8> {
    [b".", name, b".new"].concat()
}

/// Opens a file of working state for writing, or makes it. One that has a second name was put there by somebody else,
/// and writing it would write elsewhere: its name here is taken away, and the file made anew.
pub fn open_own<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<D::File> {
    match disk.open(dir, name, Access::Write) {
        Ok(file) if file.stat()?.links == 1 => Ok(file),
        Ok(_) => {
            disk.remove(dir, name)?;
            disk.create_exclusive(dir, name)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create_exclusive(dir, name),
        Err(error) => Err(error),
    }
}

/// Makes a file, on a new inode even where a crash has left one under that name: nothing of it is trusted.
pub fn create_anew<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<D::File> {
    match disk.create_exclusive(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(dir, name)?;
            disk.create_exclusive(dir, name)
        }
        other => other,
    }
}

/// The bytes of a file; `None` if there is none. One that is longer than `bytes_max` is an error and is not read.
pub fn read_small<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8], bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(dir, name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.stat()?.size).ok().filter(|length| *length <= bytes_max);
    let length = length.ok_or(Damage::Damaged)?;
    let mut bytes = vec![0; length];
    read_exact_at(&file, &mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Writes a file that only this user may read (a ticket), outside of landfall's own state, as [`write_atomic`] does.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = RealDisk::open_root(parent)?;
    write_atomic(&RealDisk::new(), &dir, name.as_bytes(), bytes)
}

/// Opens a directory below, making it private if it is not there. Its name is durable afterwards: whoever made it
/// may have ended before it was.
pub fn ensure_dir<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<D::Dir> {
    match disk.make_dir(dir, name, DIR_MODE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => disk.sync_dir(dir)?,
    }
    disk.open_dir(dir, name)
}

/// Removes everything in a directory of ours, whatever modes it has. It may be deeper than descriptors allow to hold.
pub fn empty_dir<D: Disk>(disk: &D, dir: &D::Dir) -> io::Result<()> {
    // Paths below `dir`, and whether what was in there is gone.
    let mut open = vec![(Vec::new(), false)];
    while let Some((path, is_emptied)) = open.pop() {
        if is_emptied {
            let slash = path.iter().rposition(|byte| *byte == b'/');
            let (parent, name) = slash.map_or((&[][..], &path[..]), |at| (&path[..at], &path[at + 1..]));
            disk.remove_dir(&disk.open_dir(dir, parent)?, name)?;
            continue;
        }
        let here = disk.open_dir(dir, &path)?;
        if !path.is_empty() {
            open.push((path.clone(), true));
        }
        for listed in disk.list(&here)? {
            match disk.remove(&here, &listed.name) {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if disk.stat(&here, &listed.name)?.kind != FileKind::Directory => return Err(error),
                Err(_) => disk.set_mode(&here, &listed.name, DIR_MODE)?,
            }
            let below = if path.is_empty() { listed.name } else { [&path[..], &listed.name].join(&b'/') };
            open.push((below, false));
        }
    }
    Ok(())
}

/// Opens a directory below, if it is there.
pub fn find_dir<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<Option<D::Dir>> {
    match disk.open_dir(dir, name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
