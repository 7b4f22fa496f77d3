//! What stands on the disks of a transfer, seen from outside: lengths and names of the state files, sealed names,
//! receipts. From it the tests read how far a transfer had come when it was killed. Decodes no format.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;

use super::facility;

/// A journal of at most this many bytes holds its header and no claim.
pub const JOURNAL_HEADER_BYTES_MAX: u64 = 48;

/// A manifest log of at most this many bytes holds its header and no record.
const MANIFEST_HEADER_BYTES_MAX: u64 = 48;

/// Where the state of one transfer is found.
#[derive(Clone, Debug)]
pub struct Places {
    /// The sender's `LANDFALL_HOME`.
    pub sender_home: PathBuf,
    /// The receiver's `LANDFALL_HOME`.
    pub receiver_home: PathBuf,
    /// The receiver's DIR.
    pub target: PathBuf,
    /// Regular files that have to be sealed before the receipt.
    pub file_count: usize,
    /// Regular files that stood in the target before, and stay.
    pub there_before: usize,
}

/// How far a transfer had come, in the order in which steps become durable. A kill is counted under the last one
/// whose trace stands on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// No state of a transfer anywhere.
    Nothing,
    /// The listener's ticket (and perhaps its ownership) is on disk.
    Ticketed,
    /// The sender's log has begun.
    Hashing,
    /// The receiver's copy of the manifest log has begun.
    Manifest,
    /// A staging file exists and no claim.
    Staged,
    /// The journal holds claims, nothing is sealed.
    Claimed,
    /// Some files are under their names.
    Sealing,
    /// All files are under their names, there is no receipt.
    Sealed,
    /// The receiver holds the receipt, the sender does not.
    Receipt,
    /// Both hold it; the working state is still there.
    Acknowledged,
    /// Both hold it and `.landfall` is gone.
    Cleaned,
}

/// Every step that a kill can meet while somebody is still running.
pub const KILLABLE: [Step; 9] = [
    Step::Ticketed,
    Step::Hashing,
    Step::Manifest,
    Step::Staged,
    Step::Claimed,
    Step::Sealing,
    Step::Sealed,
    Step::Receipt,
    Step::Acknowledged,
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One look at the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Regular files in `transfers/` of both homes.
    pub transfer_files: usize,
    /// Bytes of the sender's log.
    pub sender_manifest_bytes: u64,
    /// Bytes of the sender's stamps.
    pub stamps_bytes: u64,
    /// Bytes of the receiver's log.
    pub manifest_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Names in staging.
    pub staging_files: usize,
    /// Bytes allocated in staging.
    pub staging_bytes: u64,
    /// Regular files under the target, outside `.landfall`, beyond those that were there before.
    pub sealed_files: usize,
    /// Receipts in the receiver's home.
    pub receiver_receipts: usize,
    /// Receipts in the sender's home.
    pub sender_receipts: usize,
    /// Is there a `.landfall` in the target?
    pub has_work: bool,
}

impl Places {
    /// Looks now. Everything may change meanwhile: what vanishes between two calls counts as absent.
    pub fn look(&self) -> Look {
        let mut look = Look::default();
        for home in [&self.sender_home, &self.receiver_home] {
            for transfer in entries(&home.join("transfers")) {
                look.transfer_files += files_below(&transfer);
                let sender = transfer.join("sender");
                look.sender_manifest_bytes = look.sender_manifest_bytes.max(len(&sender.join("manifest")));
                look.stamps_bytes = look.stamps_bytes.max(len(&sender.join("stamps")));
            }
        }
        let work = self.target.join(".landfall");
        look.has_work = work.symlink_metadata().is_ok();
        for transfer in entries(&work) {
            look.manifest_bytes = look.manifest_bytes.max(len(&transfer.join("manifest")));
            look.journal_bytes = look.journal_bytes.max(len(&transfer.join("journal")));
            for staged in entries(&transfer.join("staging")) {
                look.staging_files += 1;
                look.staging_bytes += data_bytes(&staged);
            }
        }
        let files: usize =
            entries(&self.target).iter().filter(|path| **path != work).map(|path| files_below(path)).sum();
        look.sealed_files = files.saturating_sub(self.there_before);
        look.receiver_receipts = receipts(&self.receiver_home).len();
        look.sender_receipts = receipts(&self.sender_home).len();
        look
    }

    /// Which step these disks show.
    pub fn step(&self, look: &Look) -> Step {
        if look.receiver_receipts > 0 && look.sender_receipts > 0 {
            return if look.has_work { Step::Acknowledged } else { Step::Cleaned };
        }
        if look.receiver_receipts > 0 {
            Step::Receipt
        } else if look.sealed_files >= self.file_count && look.manifest_bytes > 0 {
            Step::Sealed
        } else if look.sealed_files > 0 {
            Step::Sealing
        } else if look.journal_bytes > JOURNAL_HEADER_BYTES_MAX {
            Step::Claimed
        } else if look.staging_files > 0 {
            Step::Staged
        } else if look.manifest_bytes > MANIFEST_HEADER_BYTES_MAX {
            Step::Manifest
        } else if look.sender_manifest_bytes > MANIFEST_HEADER_BYTES_MAX {
            Step::Hashing
        } else if look.transfer_files > 0 {
            Step::Ticketed
        } else {
            Step::Nothing
        }
    }

    /// The receiver's working directory of the one transfer that is under way in the target.
    pub fn work(&self) -> Option<PathBuf> {
        let mut found = entries(&self.target.join(".landfall"));
        found.retain(|path| path.join("manifest").exists() || path.join("staging").exists());
        assert!(found.len() <= 1, "several transfers in one target: {found:?}");
        found.pop()
    }

    /// The sender's state directory of the one transfer that has one.
    pub fn sender_state(&self) -> Option<PathBuf> {
        let transfers = entries(&self.sender_home.join("transfers"));
        transfers.into_iter().map(|transfer| transfer.join("sender")).find(|dir| dir.join("manifest").exists())
    }
}

/// The receipts that stand in a home, without files that are still being written.
pub fn receipts(home: &Path) -> Vec<PathBuf> {
    let is_whole = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.is_file() && !name.starts_with('.') && !name.contains("tmp")
    };
    let mut found: Vec<PathBuf> = entries(&home.join("receipts"));
    let nested: Vec<PathBuf> = found.iter().filter(|path| path.is_dir()).flat_map(|path| entries(path)).collect();
    found.extend(nested);
    found.retain(is_whole);
    found.sort();
    found
}

/// What a directory holds; nothing if it is not there.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|found| found.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn files_below(path: &Path) -> usize {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => entries(path).iter().map(|child| files_below(child)).sum(),
        Ok(found) if found.is_file() => 1,
        _ => 0,
    }
}

fn len(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |found| found.len())
}

/// Bytes of a file that were written: blocks that are only allocated count as holes.
pub fn data_bytes(path: &Path) -> u64 {
    let Ok(file) = fs::File::open(path) else { return 0 };
    let (mut bytes, mut at) = (0, 0);
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        let Ok(hole) = rustix::fs::seek(&file, SeekFrom::Hole(data)) else { break };
        bytes += hole - data;
        at = hole;
    }
    bytes
}

/// What is left of the working state in the target: nothing at the end of a transfer.
pub fn work_left(target: &Path) -> Option<String> {
    let work = target.join(".landfall");
    work.symlink_metadata().ok()?;
    let left: Vec<String> = entries(&work).iter().map(|path| facility::shown_path(path)).collect();
    Some(format!(".landfall is still in {}: {left:?}", target.display()))
}

/// Fails unless nothing of the working state is left in the target.
pub fn assert_no_work_left(target: &Path) {
    assert_eq!(work_left(target), None);
}
