//! What the user or the system names by path: a ticket, a directory, the word of the kernel about this process. Read whole
//! and bounded, through links and pipes, as any program reads what it is given. Nothing of ours is read here.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use rustix::fs::{FileType, OFlags};

/// Major and minor number of `/dev/null`.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// The text of a file of at most `bytes_max` bytes.
pub fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    String::from_utf8(read_bytes(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text"))
}

/// The bytes of a file of at most `bytes_max` bytes.
pub fn read_bytes(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max { Err(too_long(bytes_max)) } else { Ok(bytes) }
}

/// That there is more than this.
pub fn too_long(bytes_max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {bytes_max} bytes"))
}

/// Makes a directory with its parents, if it is not there. Its name is durable when this returns, and so are those of
/// the parents that were made.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    let made: Vec<&Path> = dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    std::fs::create_dir_all(dir)?;
    if made.is_empty() {
        // An earlier run may have made it and been stopped before this. Whoever made it else has seen to it.
        drop(sync_name(dir));
    }
    made.into_iter().try_for_each(sync_name)
}

/// Makes the name of a directory durable: by its parent, or by the whole file system where the parent may not be read.
fn sync_name(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {
            Ok(rustix::fs::syncfs(File::open(dir)?)?)
        }
        other => other,
    }
}

/// Makes one directory for our own eyes, if it is not there. One that is there must be a directory of this user.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = dir.symlink_metadata()?;
            let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
            let foreign =
                || io::Error::new(io::ErrorKind::PermissionDenied, format!("`{}` is not of this user", dir.display()));
            if is_ours { Ok(()) } else { Err(foreign()) }
        }
        other => other,
    }
}

/// Whether a standard stream was closed when this process was started: then the null device stands in its place, for reading
/// and for writing, as nobody opens it who means it.
pub fn is_closed(stream: impl AsFd) -> bool {
    let is_null = rustix::fs::fstat(&stream).is_ok_and(|found| {
        let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
        is_device && found.st_rdev == rustix::fs::makedev(NULL_DEVICE.0, NULL_DEVICE.1)
    });
    is_null && rustix::fs::fcntl_getfl(stream).is_ok_and(|flags| flags & OFlags::ACCMODE == OFlags::RDWR)
}

/// The one name of a path without links and dots.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

/// A further copy of a file, where the user wants it.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_directory_is_made_with_its_parents_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        make_dir(&path).unwrap();
        make_dir(&path).unwrap();
        assert!(path.is_dir());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(make_dir(&dir.path().join("file")).is_err());
    }

    #[test]
    fn a_private_directory_is_no_link_and_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        make_private_dir(&path("own")).unwrap();
        make_private_dir(&path("own")).unwrap();
        std::os::unix::fs::symlink(path("own"), path("link")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        for name in ["link", "file"] {
            assert_eq!(make_private_dir(&path(name)).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
    }

    #[test]
    fn the_null_device_is_a_closed_stream_only_where_nobody_chose_a_direction() {
        let null = |reads, writes| std::fs::OpenOptions::new().read(reads).write(writes).open("/dev/null").unwrap();
        assert!(is_closed(null(true, true)));
        assert!(!is_closed(null(true, false)) && !is_closed(null(false, true)));
        assert!(!is_closed(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        assert_eq!(read_text(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
