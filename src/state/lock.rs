//! The only lock: `flock` on a file that lies in what it guards. It ends with the process, however that ends.
//! It does not wait: a second process says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::Error;

/// Digits of a process id, with room.
const HOLDER_BYTES_MAX: u64 = 32;

/// A held lock. Dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    /// Kept open: the kernel's lock belongs to this open file.
    _file: File,
}

impl Lock {
    /// Takes the lock file at `path`, making it if it is not there (its directory must be). `what` names the guarded
    /// thing in the error that tells who holds it.
    pub fn take(path: &Path, what: impl FnOnce() -> String) -> Result<Lock, Error> {
        let failed = |source| Error::State { path: path.to_owned(), source };
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = options.custom_flags(careful()).open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Locked { what: what(), holder: holder(&mut file) }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever held it may have removed the file after we opened it: then another process can lock a new one.
            if is_same(&file, path).map_err(failed)? {
                look_for_foreign(&file).map_err(failed)?;
                write_holder(&mut file).map_err(failed)?;
                return Ok(Lock { _file: file });
            }
        }
    }

    /// Who holds the lock file at `path`, if anybody does. For status: it may change at once.
    pub fn holder(path: &Path) -> Result<Option<String>, Error> {
        let failed = |source| Error::State { path: PathBuf::from(path), source };
        let mut file = match OpenOptions::new().read(true).custom_flags(careful()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder(&mut file))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Flags with which nothing is opened through a link, and a pipe that somebody put there holds nobody up.
fn careful() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// An error unless the file has this one name and is a regular one: what else stands in the place of a lock was put
/// there by somebody else, and writing into it would change what it is elsewhere.
fn look_for_foreign(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    let is_ours = found.is_file() && found.nlink() == 1 && found.uid() == rustix::process::geteuid().as_raw();
    let foreign = || io::Error::new(io::ErrorKind::PermissionDenied, "the lock is not a plain file of this user");
    if is_ours { Ok(()) } else { Err(foreign()) }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// The process id that the holder wrote, or a question mark if it has not come to that yet.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let is_read = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).is_ok();
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_read && is_number { text.to_owned() } else { "?".to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(Lock::holder(&path).unwrap(), None);
        let held = Lock::take(&path, || "x".to_owned()).unwrap();
        let me = std::process::id().to_string();
        match Lock::take(&path, || "transfer 7".to_owned()).unwrap_err() {
            Error::Locked { what, holder } => assert_eq!((what.as_str(), &holder), ("transfer 7", &me)),
            other => panic!("{other}"),
        }
        assert_eq!(Lock::holder(&path).unwrap(), Some(me));
        drop(held);
        assert_eq!(Lock::holder(&path).unwrap(), None);
        Lock::take(&path, || "x".to_owned()).unwrap();
    }

    #[test]
    fn a_lock_on_a_removed_file_guards_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _old = Lock::take(&path, || "x".to_owned()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _new = Lock::take(&path, || "x".to_owned()).unwrap();
        assert!(matches!(Lock::take(&path, || "x".to_owned()), Err(Error::Locked { .. })));
    }

    #[test]
    fn what_somebody_put_in_the_place_of_a_lock_is_neither_followed_nor_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("victim"), "unchanged").unwrap();
        std::os::unix::fs::symlink(path("victim"), path("link")).unwrap();
        std::os::unix::fs::symlink(path("new"), path("dangling")).unwrap();
        std::fs::hard_link(path("victim"), path("hard-link")).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), fifo, mode, 0).unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        for name in ["link", "dangling", "hard-link", "pipe", "directory"] {
            let taken = Lock::take(&path(name), || "x".to_owned());
            assert!(matches!(taken, Err(Error::State { .. })), "{name}: {taken:?}");
            // Only looked at, it may answer what it likes, as long as it answers.
            let _ = Lock::holder(&path(name));
        }
        assert_eq!(std::fs::read(path("victim")).unwrap(), b"unchanged");
        assert!(!path("new").exists());
    }

    #[test]
    fn a_holder_that_wrote_nonsense_is_a_question_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = Lock::take(&path, || "x".to_owned()).unwrap();
        std::fs::write(&path, b"\x1b[31m").unwrap();
        assert_eq!(Lock::holder(&path).unwrap().as_deref(), Some("?"));
    }
}
