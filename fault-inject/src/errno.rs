//! The Linux error numbers that faults are made of, and nothing more: no other crate here names a number.

use std::io;

/// Only somebody else may do that.
pub const EPERM: i32 = 1;
/// No such name.
pub const ENOENT: i32 = 2;
/// The device failed.
pub const EIO: i32 = 5;
/// The descriptor was not opened for that.
pub const EBADF: i32 = 9;
/// The mode of the object forbids it.
pub const EACCES: i32 = 13;
/// The name exists.
pub const EEXIST: i32 = 17;
/// The two names lie on different file systems.
pub const EXDEV: i32 = 18;
/// A component is not a directory.
pub const ENOTDIR: i32 = 20;
/// The object is a directory.
pub const EISDIR: i32 = 21;
/// The argument makes no sense.
pub const EINVAL: i32 = 22;
/// The file would become too large.
pub const EFBIG: i32 = 27;
/// No space or no inode left.
pub const ENOSPC: i32 = 28;
/// The file system is read-only.
pub const EROFS: i32 = 30;
/// A component is longer than file systems take.
pub const ENAMETOOLONG: i32 = 36;
/// The directory is not empty.
pub const ENOTEMPTY: i32 = 39;
/// A symlink stands where none may.
pub const ELOOP: i32 = 40;
/// The quota of the user is used up.
pub const EDQUOT: i32 = 122;

/// The error that a system call with that number gives.
pub fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// The number of that name.
pub fn of_word(word: &str) -> Option<i32> {
    NAMES.iter().find(|(name, _)| *name == word).map(|(_, number)| *number)
}

/// The name of a number, or the number itself.
pub fn word(number: i32) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

const NAMES: &[(&str, i32)] = &[
    ("EPERM", EPERM),
    ("ENOENT", ENOENT),
    ("EIO", EIO),
    ("EBADF", EBADF),
    ("EACCES", EACCES),
    ("EEXIST", EEXIST),
    ("EXDEV", EXDEV),
    ("ENOTDIR", ENOTDIR),
    ("EISDIR", EISDIR),
    ("EINVAL", EINVAL),
    ("EFBIG", EFBIG),
    ("ENOSPC", ENOSPC),
    ("EROFS", EROFS),
    ("ENAMETOOLONG", ENAMETOOLONG),
    ("ENOTEMPTY", ENOTEMPTY),
    ("ELOOP", ELOOP),
    ("EDQUOT", EDQUOT),
];
