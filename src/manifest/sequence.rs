//! The grammar of a log: which record may follow which. Shared by whoever writes, receives or replays one, so
//! that no record of a peer or of a damaged file is taken out of its place.

use crate::digest::Folder;
use crate::geometry::{EntryIndex, Geometry};
use crate::limits::{ENTRIES_MAX, RECORD_DIGESTS_MAX};
use crate::manifest::Record;

/// What a record that is in its place does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Introduces this entry.
    Introduced(EntryIndex),
    /// Gives `count` digests from `first` on of the file that is open.
    Digests {
        /// The file.
        entry: EntryIndex,
        /// First chunk.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Ends the file that was open.
    Ended(EntryIndex),
    /// Withdraws an earlier entry.
    Withdrawn(EntryIndex),
    /// The walk is done.
    Completed,
}

/// Why a record is not in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A record that may only stand after the open file's end, or names another file.
    #[error("a manifest record stands inside or outside a file where it may not")]
    Misplaced,
    /// The sizes, counts or numbers do not fit together.
    #[error("a manifest record does not fit the records before it")]
    Unfit,
    /// The file's digest is not the fold of its chunk digests.
    #[error("a file digest in the manifest is not the fold of its chunk digests")]
    WrongFold,
    /// More entries than there may be.
    #[error("the manifest has too many entries")]
    TooManyEntries,
}

/// A file between its `Begin` and its `End`.
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// The file.
    pub entry: EntryIndex,
    /// Its size in chunks.
    pub geometry: Geometry,
    /// The digests so far.
    pub folder: Folder,
}

/// Follows a log, record by record.
#[derive(Clone, Debug)]
pub struct Sequence {
    chunk_bytes: u32,
    entry_count: u32,
    open: Option<OpenFile>,
    is_complete: bool,
}

impl Sequence {
    /// At the start of a log with that chunk size.
    pub fn new(chunk_bytes: u32) -> Sequence {
        Sequence { chunk_bytes, entry_count: 0, open: None, is_complete: false }
    }

    /// Entries introduced so far.
    pub fn entry_count(&self) -> u32 {
        self.entry_count
    }

    /// The file whose end is still to come.
    pub fn open(&self) -> Option<&OpenFile> {
        self.open.as_ref()
    }

    /// Whether the last record was a `Complete`.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes the next record, or says why it cannot be the next; then nothing has changed.
    pub fn push(&mut self, record: &Record) -> Result<Step, SequenceError> {
        let step = match record {
            Record::Begin { size, .. } => {
                let geometry = Geometry::new(*size, self.chunk_bytes).ok_or(SequenceError::Unfit)?;
                let entry = self.introduce()?;
                self.open = Some(OpenFile { entry, geometry, folder: Folder::default() });
                Step::Introduced(entry)
            }
            Record::Directory { .. } | Record::Symlink { .. } | Record::LeftOut { .. } => {
                Step::Introduced(self.introduce()?)
            }
            Record::Chunks { entry, digests } => {
                let open = self.open.as_mut().filter(|open| open.entry == *entry).ok_or(SequenceError::Misplaced)?;
                let first = open.folder.count();
                let rest = open.geometry.chunk_count() - first;
                let count = u32::try_from(digests.len()).map_err(|_| SequenceError::Unfit)?;
                if count != rest.min(u32::try_from(RECORD_DIGESTS_MAX).expect("a small constant")) {
                    return Err(SequenceError::Unfit);
                }
                digests.iter().for_each(|digest| open.folder.push(*digest));
                Step::Digests { entry: *entry, first, count }
            }
            Record::End { entry, digest, .. } => {
                let open = self.open.as_ref().filter(|open| open.entry == *entry).ok_or(SequenceError::Misplaced)?;
                if open.folder.count() != open.geometry.chunk_count() {
                    return Err(SequenceError::Unfit);
                }
                if open.folder.finish() != *digest {
                    return Err(SequenceError::WrongFold);
                }
                self.open = None;
                Step::Ended(*entry)
            }
            Record::Withdraw { entry, .. } => {
                if entry.0 >= self.entry_count {
                    return Err(SequenceError::Unfit);
                }
                match &self.open {
                    Some(open) if open.entry != *entry => return Err(SequenceError::Misplaced),
                    _ => self.open = None,
                }
                Step::Withdrawn(*entry)
            }
            Record::Complete(_) if self.open.is_some() => return Err(SequenceError::Misplaced),
            Record::Complete(_) => Step::Completed,
        };
        self.is_complete = step == Step::Completed;
        Ok(step)
    }

    fn introduce(&mut self) -> Result<EntryIndex, SequenceError> {
        if self.open.is_some() {
            return Err(SequenceError::Misplaced);
        }
        if self.entry_count >= ENTRIES_MAX {
            return Err(SequenceError::TooManyEntries);
        }
        self.entry_count += 1;
        Ok(EntryIndex(self.entry_count - 1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::attributes::Timestamp;
    use crate::digest::{ChunkDigest, FileDigest};
    use crate::outcome::{Counts, Reason};
    use crate::path::RelPath;

    fn begin(size: u64) -> Record {
        Record::Begin { path: RelPath::parse(b"f").unwrap(), size }
    }

    fn chunks(entry: u32, count: usize) -> Record {
        Record::Chunks { entry: EntryIndex(entry), digests: vec![ChunkDigest([1; 32]); count] }
    }

    fn end(entry: u32, digest: FileDigest) -> Record {
        Record::End { entry: EntryIndex(entry), digest, mode: 0, mtime: Timestamp::default() }
    }

    fn fold(count: usize) -> FileDigest {
        let mut folder = Folder::default();
        (0..count).for_each(|_| folder.push(ChunkDigest([1; 32])));
        folder.finish()
    }

    #[test]
    fn a_whole_file_is_taken() {
        let mut sequence = Sequence::new(4096);
        assert_eq!(sequence.push(&begin(4096 * 17)), Ok(Step::Introduced(EntryIndex(0))));
        assert_eq!(sequence.push(&chunks(0, 16)), Ok(Step::Digests { entry: EntryIndex(0), first: 0, count: 16 }));
        assert_eq!(sequence.push(&chunks(0, 1)), Ok(Step::Digests { entry: EntryIndex(0), first: 16, count: 1 }));
        assert_eq!(sequence.push(&end(0, fold(17))), Ok(Step::Ended(EntryIndex(0))));
        assert_eq!(sequence.push(&Record::Complete(Counts::default())), Ok(Step::Completed));
        assert!(sequence.is_complete());
        let withdraw = Record::Withdraw { entry: EntryIndex(0), reason: Reason::Changed };
        assert_eq!(sequence.push(&withdraw), Ok(Step::Withdrawn(EntryIndex(0))));
        assert!(!sequence.is_complete());
    }

    #[test]
    fn what_is_out_of_place_is_refused_and_changes_nothing() {
        let mut sequence = Sequence::new(4096);
        assert_eq!(sequence.push(&chunks(0, 1)), Err(SequenceError::Misplaced));
        assert_eq!(sequence.push(&end(0, fold(0))), Err(SequenceError::Misplaced));
        let withdraw = Record::Withdraw { entry: EntryIndex(0), reason: Reason::Changed };
        assert_eq!(sequence.push(&withdraw), Err(SequenceError::Unfit));
        sequence.push(&begin(4096 * 17)).unwrap();
        assert_eq!(sequence.push(&begin(1)), Err(SequenceError::Misplaced));
        assert_eq!(sequence.push(&Record::Complete(Counts::default())), Err(SequenceError::Misplaced));
        assert_eq!(sequence.push(&chunks(1, 16)), Err(SequenceError::Misplaced));
        assert_eq!(sequence.push(&chunks(0, 15)), Err(SequenceError::Unfit));
        assert_eq!(sequence.push(&end(0, fold(17))), Err(SequenceError::Unfit));
        sequence.push(&chunks(0, 16)).unwrap();
        sequence.push(&chunks(0, 1)).unwrap();
        assert_eq!(sequence.push(&end(0, fold(16))), Err(SequenceError::WrongFold));
        assert_eq!(sequence.push(&end(0, fold(17))), Ok(Step::Ended(EntryIndex(0))));
    }
}
