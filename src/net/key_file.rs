//! The file that holds the identity: made durable before it is used, and refused rather than replaced when it is
//! damaged or not private. Losing it costs the right to continue open transfers; replacing it quietly would too.
//! What this file does not do: choose the place (`state` does) or make its directory.
//!
//! ```text
//!  offset  bytes
//!       0      8  magic, `landfkey`
//!       8      1  version, 1
//!       9     32  Ed25519 seed
//!      41      8  first bytes of the BLAKE3 of all bytes before
//! ```

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::identity::{Identity, NoRandomness, SEED_BYTES, random};
use crate::digest;

const MAGIC: &[u8; 8] = b"landfkey";
const VERSION: u8 = 1;
const SEED_START: usize = MAGIC.len() + 1;
const CHECK_START: usize = SEED_START + SEED_BYTES;
const FILE_BYTES: usize = CHECK_START + 8;
const OTHERS: u32 = 0o077;

/// Why there is no identity. Every variant names the file and what to do.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file system said no.
    #[error("could not {action} the identity file `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there and is not an intact key.
    #[error(
        "the identity file `{path}` is damaged; restore it from a backup, or remove it to get a new identity (open \
         transfers then need new tickets)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is there, intact, and of a later format.
    #[error("the identity file `{path}` has version {version}, which this landfall does not know: update it")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        version: u8,
    },
    /// Somebody else may have read or written it.
    #[error(
        "the identity file `{path}` is open to other users (mode {mode:o}); `chmod 600` it, or remove it if it was read"
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the identity file `{path}` belongs to user {owner}; it must belong to the user that runs landfall")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// It is a directory, a device, a pipe.
    #[error("the identity file `{path}` is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// No key can be made.
    #[error("could not make an identity")]
    NoRandomness(#[from] NoRandomness),
}

impl Identity {
    /// Reads the identity from `path`, or makes one there: synced, file and directory, before it is returned. Two
    /// processes that make one at the same time end with the same one. The directory must exist.
    pub fn load_or_create(path: &Path) -> Result<Identity, IdentityError> {
        if let Some(identity) = load(path)? {
            return Ok(identity);
        }
        create(path)?;
        let gone = || failed("read", path)(Errno::NOENT);
        load(path)?.ok_or_else(gone)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> IdentityError {
    let path = path.to_owned();
    move |errno| IdentityError::Io { action, path, source: errno.into() }
}

fn load(path: &Path) -> Result<Option<Identity>, IdentityError> {
    // Non-blocking, so that a pipe under this name is refused instead of waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("open", path)(errno)),
    };
    check_private(&file, path)?;
    let bytes = read_bounded(&file).map_err(failed("read", path))?;
    decode(&bytes, path).map(Some)
}

fn check_private(file: &OwnedFd, path: &Path) -> Result<(), IdentityError> {
    let stat = rustix::fs::fstat(file).map_err(failed("examine", path))?;
    let path = path.to_owned();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(IdentityError::NotAFile { path });
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(IdentityError::NotOurs { path, owner: stat.st_uid });
    }
    if stat.st_mode & OTHERS != 0 {
        return Err(IdentityError::NotPrivate { path, mode: stat.st_mode & 0o7777 });
    }
    Ok(())
}

/// All bytes of the file, or one more than a good file has.
fn read_bounded(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = [0; FILE_BYTES + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::read(file, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes[..filled].to_vec())
}

fn encode(seed: &[u8; SEED_BYTES]) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()] = VERSION;
    bytes[SEED_START..CHECK_START].copy_from_slice(seed);
    let check = digest::check8(&[&bytes[..CHECK_START]]);
    bytes[CHECK_START..].copy_from_slice(&check);
    bytes
}

fn decode(bytes: &[u8], path: &Path) -> Result<Identity, IdentityError> {
    let damaged = || IdentityError::Damaged { path: path.to_owned() };
    let after_magic = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let version = *after_magic.first().ok_or_else(damaged)?;
    if version != VERSION {
        return Err(IdentityError::Version { path: path.to_owned(), version });
    }
    if bytes.len() != FILE_BYTES || digest::check8(&[&bytes[..CHECK_START]]) != bytes[CHECK_START..] {
        return Err(damaged());
    }
    let seed = bytes[SEED_START..CHECK_START].try_into().expect("the range has the seed's length");
    Ok(Identity::from_seed(seed))
}

/// Makes the file whole and durable under another name first, so that no crash leaves half a key under its own.
fn create(path: &Path) -> Result<(), IdentityError> {
    let name = path.file_name().ok_or_else(|| failed("create", path)(Errno::INVAL))?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty()).map_err(failed("create", path))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", HEXLOWER.encode(&random::<8>()?)));

    let identity = Identity::generate()?;
    let placed =
        write_file(&directory, &temporary, &encode(identity.seed())).and_then(|()| place(&directory, &temporary, name));
    match placed {
        Ok(()) => {}
        // Another process was faster: its key is the identity.
        Err(Errno::EXIST) => remove(&directory, &temporary).map_err(failed("tidy up beside", path))?,
        Err(errno) => {
            // The first error is the one to report; what is left behind is a private file with a random name.
            let _ = remove(&directory, &temporary);
            return Err(failed("create", path)(errno));
        }
    }
    rustix::fs::fsync(&directory).map_err(failed("sync the directory of", path))
}

fn write_file(directory: &OwnedFd, name: &OsString, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let private = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(directory, name, flags, private)?;
    rustix::fs::fchmod(&file, private)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fsync(&file)
}

/// Gives the file its name, unless the name is taken.
fn place(directory: &OwnedFd, temporary: &OsString, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty())?;
            remove(directory, temporary)
        }
        other => other,
    }
}

fn remove(directory: &OwnedFd, name: &OsString) -> Result<(), Errno> {
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place_of_test() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        (directory, path)
    }

    fn names(directory: &Path) -> Vec<OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn version_one_has_these_bytes_for_ever() {
        let bytes = encode(&[0x42; SEED_BYTES]);
        assert_eq!(&bytes[..9], b"landfkey\x01");
        assert_eq!(bytes[9..41], [0x42; SEED_BYTES]);
        assert_eq!(HEXLOWER.encode(&bytes[41..]), "cf30bd020a9ddaf9");
    }

    #[test]
    fn an_identity_is_made_once_private_and_found_again() {
        let (directory, path) = place_of_test();
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(Identity::load_or_create(&path).unwrap().public_key(), made.public_key());
        assert_eq!(names(directory.path()), ["identity"]);
    }

    #[test]
    fn processes_that_make_one_at_the_same_time_end_with_the_same() {
        let (directory, path) = place_of_test();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Identity::load_or_create(&path).unwrap().public_key())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(names(directory.path()), ["identity"]);
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let (_directory, path) = place_of_test();
        Identity::load_or_create(&path).unwrap();
        let good = fs::read(&path).unwrap();
        let longer = [&good[..], &[0]].concat();
        let mut bad = vec![Vec::new(), good[..4].to_vec(), good[..FILE_BYTES - 1].to_vec(), longer];
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            bad.push(flipped);
        }
        for bytes in bad {
            fs::write(&path, &bytes).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            let is_version = bytes.len() == FILE_BYTES && bytes[8] != VERSION;
            match error {
                IdentityError::Version { version, .. } if is_version => assert_eq!(version, bytes[8]),
                IdentityError::Damaged { .. } if !is_version => {}
                other => panic!("{other:?} for {bytes:?}"),
            }
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_file_that_others_can_reach_is_refused_with_the_cure() {
        let (_directory, path) = place_of_test();
        Identity::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::NotPrivate { mode: found, .. } if found == mode), "{error:?}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Identity::load_or_create(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_waiting() {
        let (directory, path) = place_of_test();
        fs::create_dir(&path).unwrap();
        assert!(matches!(Identity::load_or_create(&path).unwrap_err(), IdentityError::NotAFile { .. }));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(Identity::load_or_create(&pipe).unwrap_err(), IdentityError::NotAFile { .. }));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let (directory, _) = place_of_test();
        let path = directory.path().join("no/identity");
        let text = Identity::load_or_create(&path).unwrap_err().to_string();
        assert!(text.contains("no/identity"), "{text}");
    }
}
