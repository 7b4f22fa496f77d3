//! The four ways in which a file is damaged. Each asserts that the file was there and is no longer what it was.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// One bit in the middle of its data; the times stay as they were, as far as a user can set them.
    Flip,
    /// To half of its length.
    Truncate,
    /// Its name goes.
    Delete,
    /// Exchanged with another file, or its halves with each other.
    Swap,
}

/// All four.
pub(crate) const HARMS: [Harm; 4] = [Harm::Flip, Harm::Truncate, Harm::Delete, Harm::Swap];

/// Damages `path`. All of it happens to the one inode that the name stood for, and so does the proof: whoever mends
/// the file at once gives the name to another.
pub(crate) fn damage(path: &Path, other: Option<&Path>, harm: Harm) {
    let before = fs::read(path).unwrap_or_else(|error| panic!("{} has to exist: {error}", path.display()));
    assert!(!before.is_empty(), "{} has to hold something", path.display());
    let metadata = path.metadata().unwrap();
    let mode = metadata.permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(mode.mode() | 0o600)).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = middle_of_data(&before);
    match harm {
        Harm::Flip => {
            file.write_all_at(&[before[middle] ^ 0x10], middle as u64).unwrap();
            file.set_modified(metadata.modified().unwrap()).unwrap();
        }
        Harm::Truncate => file.set_len(before.len() as u64 / 2).unwrap(),
        Harm::Delete => fs::remove_file(path).unwrap(),
        Harm::Swap => match other {
            Some(other) => {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, path, rustix::fs::CWD, other, flags).unwrap();
            }
            None => {
                let half = before.len() / 2;
                file.write_all_at(&[&before[half..], &before[..half]].concat(), 0).unwrap();
            }
        },
    }
    file.set_permissions(mode).unwrap();
    let after = file.metadata().unwrap();
    let is_harmed = match (harm, other) {
        (Harm::Delete, _) => after.nlink() == 0,
        (Harm::Swap, Some(other)) => other.metadata().unwrap().ino() == after.ino(),
        _ => {
            let mut bytes = vec![];
            (&file).read_to_end(&mut bytes).unwrap();
            bytes != before
        }
    };
    assert!(is_harmed, "{} did not change", path.display());
}

/// A place in the file that is not a hole, as near to its middle as there is one before it.
fn middle_of_data(bytes: &[u8]) -> usize {
    let middle = bytes.len() / 2;
    (0..=middle).rev().find(|at| bytes[*at] != 0).unwrap_or(middle)
}
