//! [`RealDir`]: a held directory of the kernel. Owns how one is opened (confined, in pieces where the path is longer
//! than the kernel takes at once, by path only where we may not read it) and how it is listed.
//! Not here: what is done to the names in it, see [`super::RealDisk`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Listed;
use super::kernel::{check_openat2, component, open_beneath};

/// Longest path the kernel takes in one call, its closing NUL not counted (`PATH_MAX` - 1).
const PIECE_BYTES_MAX: usize = 4095;

/// A directory held open: valid whatever becomes of its name. Cloning shares the descriptor.
#[derive(Clone, Debug)]
pub struct RealDir(Arc<Held>);

#[derive(Debug)]
struct Held {
    fd: OwnedFd,
    hold: Hold,
}

/// What the descriptor is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Everything.
    Readable,
    /// Reaching names below it: the directory's mode did not let us read it when it was opened.
    PathOnly,
}

impl RealDir {
    /// Opens an existing directory by a path that the user named: links in it are followed.
    pub(super) fn open_root(path: &Path) -> io::Result<RealDir> {
        let held = hold(|flags| Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?))?;
        check_openat2(held.fd.as_fd())?;
        Ok(RealDir(Arc::new(held)))
    }

    /// Opens a directory below this one; the empty path opens this one again.
    pub(super) fn open_below(&self, path: &[u8]) -> io::Result<RealDir> {
        let mut pieces = pieces(path)?;
        let last = pieces.pop().unwrap_or(b".");
        let mut way: Option<OwnedFd> = None;
        for piece in pieces {
            let from = way.as_ref().map_or(self.fd(), AsFd::as_fd);
            way = Some(open_beneath(from, piece, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?);
        }
        let from = way.as_ref().map_or(self.fd(), AsFd::as_fd);
        Ok(RealDir(Arc::new(hold(|flags| open_beneath(from, last, flags, Mode::empty()))?)))
    }

    /// The descriptor, good for reaching names below it.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Calls `act` with a descriptor that reads: the held one, or, where that was not to be had, one opened now,
    /// since the mode may have been changed in between.
    pub(super) fn with_readable<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        match self.0.hold {
            Hold::Readable => act(self.fd()),
            Hold::PathOnly => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                act(open_beneath(self.fd(), b".", flags, Mode::empty())?.as_fd())
            }
        }
    }

    /// All names. Each call reads through a position of its own, so that threads do not share one.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        self.with_readable(|fd| {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") {
                    names.push(Listed { name: component(name)?.to_vec() });
                }
            }
            Ok(names)
        })
    }
}

fn hold(open: impl Fn(OFlags) -> io::Result<OwnedFd>) -> io::Result<Held> {
    match open(OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => Ok(Held { fd, hold: Hold::Readable }),
        Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            Ok(Held { fd: open(OFlags::PATH | OFlags::DIRECTORY)?, hold: Hold::PathOnly })
        }
        Err(error) => Err(error),
    }
}

/// Cuts a path at component borders into pieces that the kernel takes. Every component must be a plain one.
fn pieces(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut pieces = Vec::new();
    if path.is_empty() {
        return Ok(pieces);
    }
    let (mut start, mut end) = (0, 0);
    for name in path.split(|byte| *byte == b'/') {
        component(name)?;
        let next_end = if end == 0 { name.len() } else { end + 1 + name.len() };
        if next_end - start > PIECE_BYTES_MAX && end > start {
            pieces.push(&path[start..end]);
            start = end + 1;
        }
        end = next_end;
    }
    pieces.push(&path[start..end]);
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pieces_join_to_the_path_and_none_is_too_long() {
        for component_bytes in [1, 2, 100, 254, 255] {
            for count in [1, 2, 15, 16, 17, 33, 2047, 2048, 2049, 4096] {
                let path = vec!["x".repeat(component_bytes); count].join("/").into_bytes();
                let pieces = pieces(&path).unwrap();
                assert_eq!(pieces.join(&b'/'), path);
                assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_BYTES_MAX));
                assert!(pieces.len() <= path.len() / (PIECE_BYTES_MAX - 255) + 1);
            }
        }
        assert!(pieces(b"").unwrap().is_empty());
        for path in [&b"/"[..], b"/a", b"a/", b"a//b", b"..", b"a/../b", b"./a", b"a\0b"] {
            assert_eq!(pieces(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
