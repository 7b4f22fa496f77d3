//! Work below held directory descriptors, one component at a time: the only way to paths beyond `PATH_MAX`. Used by
//! the builder, the oracle and the cleanup; never follows a symlink.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Opens a directory by an ordinary path.
pub fn open_dir(path: &Path) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
}

/// Opens a directory by one component below a held one.
pub fn open_child_dir(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Opens the directory that a relative path names, component by component; an empty path is `dir` itself.
pub fn open_below(dir: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut at = dir.try_clone().expect("a descriptor more");
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = open_child_dir(&at, name)?;
    }
    Ok(at)
}

/// Opens the parent of a relative path; with it comes the last component.
pub fn open_parent<'a>(dir: &OwnedFd, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Ok((open_below(dir, &path[..slash])?, &path[slash + 1..])),
        None => Ok((dir.try_clone().expect("a descriptor more"), path)),
    }
}

/// `lstat` below a held directory.
pub fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
}

/// Names in a directory, in no order, without `.` and `..`.
pub fn names(dir: &OwnedFd) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir).expect("a directory can be listed") {
        let name = entry.expect("an entry can be read").file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            found.push(name);
        }
    }
    found
}

/// A relative path and one more component.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// What kind of thing a stat speaks of.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes everything below a directory, making directories writable on the way. Iterative, as trees may be deep.
pub fn remove_all_below(root: &OwnedFd) {
    let mut held = vec![(root.try_clone().expect("a descriptor more"), Vec::<u8>::new(), None::<Vec<Vec<u8>>>)];
    while let Some((dir, name, waiting)) = held.pop() {
        let mut waiting = waiting.unwrap_or_else(|| {
            let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
            names(&dir)
        });
        let Some(child) = waiting.pop() else {
            if let Some((parent, _, _)) = held.last() {
                let _ = rustix::fs::unlinkat(parent, OsStr::from_bytes(&name), AtFlags::REMOVEDIR);
            }
            continue;
        };
        let is_dir = stat(&dir, &child).is_ok_and(|found| kind(&found) == FileType::Directory);
        if is_dir {
            let _ = rustix::fs::chmodat(&dir, OsStr::from_bytes(&child), Mode::RWXU, AtFlags::empty());
        }
        let opened = if is_dir { open_child_dir(&dir, &child).ok() } else { None };
        if opened.is_none() {
            let _ = rustix::fs::unlinkat(&dir, OsStr::from_bytes(&child), AtFlags::empty());
        }
        held.push((dir, name, Some(waiting)));
        if let Some(opened) = opened {
            held.push((opened, child, None));
        }
    }
}
