//! A batch: files whose chunks share one sync and one claim, and those of them that are to be sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::staging::{Finish, Held, Marks};
use crate::disk::Disk;

/// One file of a batch.
pub(crate) struct BatchFile<D: Disk> {
    pub(crate) held: Arc<Held<D>>,
    /// Chunks written in this batch, and once it is closed those of them that were held then. They are read back with
    /// this batch, and not before its sync.
    pub(crate) chunks: Vec<u32>,
    /// Present if the file is to be sealed.
    pub(crate) finish: Option<Finish>,
    /// It was to be sealed and held every chunk when the batch was closed, after so many writes: the batch's sync covers
    /// all of them unless there was a write since.
    pub(crate) whole_at: Option<u64>,
}

/// A closed or open batch.
pub struct Batch<D: Disk> {
    pub(crate) files: BTreeMap<u32, BatchFile<D>>,
}

impl<D: Disk> BatchFile<D> {
    /// Whether the batch's sync covers every chunk of the file, which is to be sealed.
    pub(crate) fn is_whole(&self, marks: &Marks) -> bool {
        self.whole_at == Some(marks.writes)
    }
}

impl<D: Disk> Default for Batch<D> {
    fn default() -> Batch<D> {
        Batch { files: BTreeMap::new() }
    }
}

impl<D: Disk> Batch<D> {
    /// Takes note of a chunk that was written.
    pub(crate) fn add_chunk(&mut self, held: &Arc<Held<D>>, chunk: u32) {
        self.file(held).chunks.push(chunk);
    }

    /// Takes note of a file that is to be sealed.
    pub(crate) fn add_finish(&mut self, held: &Arc<Held<D>>, finish: Finish) {
        self.file(held).finish = Some(finish);
    }

    /// Forgets a file.
    pub(crate) fn remove(&mut self, entry: u32) {
        self.files.remove(&entry);
    }

    fn file(&mut self, held: &Arc<Held<D>>) -> &mut BatchFile<D> {
        self.files.entry(held.entry.0).or_insert_with(|| BatchFile {
            held: Arc::clone(held),
            chunks: vec![],
            finish: None,
            whole_at: None,
        })
    }
}
