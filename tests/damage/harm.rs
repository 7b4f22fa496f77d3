//! The four ways in which a file is damaged. Each asserts that the file was there and is no longer what it was.

use std::fs;
use std::os::unix::fs::FileExt;
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

/// Damages `path`.
pub(crate) fn damage(path: &Path, other: Option<&Path>, harm: Harm) {
    let before = fs::read(path).unwrap_or_else(|error| panic!("{} has to exist: {error}", path.display()));
    assert!(!before.is_empty(), "{} has to hold something", path.display());
    let modified = path.metadata().unwrap().modified().unwrap();
    let middle = middle_of_data(&before);
    let open = || fs::OpenOptions::new().write(true).open(path).unwrap();
    let writable = || {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().unwrap().permissions().mode();
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o600)).unwrap();
        mode
    };
    let restore = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    match harm {
        Harm::Flip => {
            let mode = writable();
            open().write_all_at(&[before[middle] ^ 0x10], middle as u64).unwrap();
            open().set_modified(modified).unwrap();
            restore(mode);
        }
        Harm::Truncate => {
            let mode = writable();
            open().set_len(before.len() as u64 / 2).unwrap();
            restore(mode);
        }
        Harm::Delete => fs::remove_file(path).unwrap(),
        Harm::Swap => match other {
            Some(other) => {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, path, rustix::fs::CWD, other, flags).unwrap();
            }
            None => {
                let half = before.len() / 2;
                let swapped = [&before[half..], &before[..half]].concat();
                open().write_all_at(&swapped, 0).unwrap();
            }
        },
    }
    let after = fs::read(path).ok();
    assert!(after.as_deref() != Some(&before[..]), "{} did not change", path.display());
}

/// A place in the file that is not a hole, as near to its middle as there is one before it.
fn middle_of_data(bytes: &[u8]) -> usize {
    let middle = bytes.len() / 2;
    (0..=middle).rev().find(|at| bytes[*at] != 0).unwrap_or(middle)
}
