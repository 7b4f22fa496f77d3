//! The source: what is walked, hashed and served. [`walk`] finds what there is and [`selection`] lets go, [`producer`]
//! turns it into records of the manifest log, [`ahead`] keeps what was just hashed, [`serve`] answers wants, [`stamps`]
//! remembers by what an unchanged file is known. This floor reads the source tree and never writes to it; it does not know
//! the wire's streams or what the receiver decides.

pub mod ahead;
pub mod log;
pub mod producer;
pub mod roots;
pub mod selection;
pub mod serve;
pub mod stamps;
pub mod walk;

use std::io;

use rustix::io::Errno;

use crate::buffers::Buffer;
use crate::disk::DiskFile;
use crate::limits::SOURCE_READS_MAX;
use crate::outcome::Reason;
use crate::source::ahead::Content;
use crate::state::log::read_exact_at;

/// What an error of the source's disk means for the entry that was to be read.
pub(crate) fn reason_of(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Reason::Unreadable,
        io::ErrorKind::NotFound => Reason::Vanished,
        // Another kind of object stands under the name since it was looked at.
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Reason::Changed,
        // It is shorter than it was.
        io::ErrorKind::UnexpectedEof => Reason::Changed,
        // A symlink, which is never followed.
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Reason::Changed,
        _ => Reason::SourceError,
    }
}

/// An I/O error of the source is believed only when it comes back.
pub(crate) fn persistently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 1;
    loop {
        match read() {
            Err(error) if attempt < SOURCE_READS_MAX && reason_of(&error) == Reason::SourceError => attempt += 1,
            result => return result,
        }
    }
}

/// Reads exactly `len` bytes.
pub(crate) fn read_chunk<F: DiskFile>(file: &F, offset: u64, len: usize) -> io::Result<Content> {
    let mut buffer = Buffer::take(len);
    persistently(|| read_exact_at(file, buffer.bytes_mut(), offset))?;
    Ok(Content::of(buffer))
}

#[cfg(test)]
mod tests;
